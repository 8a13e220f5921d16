"""cpuset and cpu-weight on a cgroup v2 tree made up in a folder: whose file is changed, to what, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from qtop.act.change import Work
from qtop.act.knobs import cgroups
from qtop.act.knobs.cgroups import owner_of
from qtop.act.knobs.cpu_weight import CpuWeight
from qtop.act.knobs.cpuset import Cpuset
from qtop.errors import QtopError, Refused
from qtop.model.cpu import Competitor, SchedView, ThreadView
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

CPUSET, WEIGHT = Cpuset(), CpuWeight()
SERVER = 4711


class Tree:
    """A v2 tree of eight CPUs, and a /proc whose processes are in it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.proc = folder / "cgroup", folder / "proc"
        self.root.mkdir()
        (self.root / "cpuset.cpus.effective").write_text("0-7\n")
        (self.root / "cgroup.procs").write_text("")
        self._put("self/mountinfo", f"30 23 0:26 / {self.root} rw - cgroup2 cgroup2 rw\n")
        (self.proc / "self/ns").mkdir()
        (self.proc / "self/ns/mnt").symlink_to("mnt:[1]")

    def _put(self, name: str, text: str) -> None:
        (self.proc / name).parent.mkdir(parents=True, exist_ok=True)
        (self.proc / name).write_text(text)

    def group(self, path: str, cpus: str | None = "", weight: int | None = 100, pids: tuple[int, ...] = ()) -> Path:
        """A cgroup; None: its parent has not enabled the controller for it."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        if cpus is not None:
            (folder / "cpuset.cpus").write_text(f"{cpus}\n")
            above = (folder.parent / "cpuset.cpus.effective").read_text()
            (folder / "cpuset.cpus.effective").write_text(f"{cpus}\n" if cpus else above)
        if weight is not None:
            (folder / "cpu.weight").write_text(f"{weight}\n")
        for pid in pids:
            self._put(f"{pid}/cgroup", f"0::/{path}\n")
        return folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(cgroups, "PROC", made.proc)
    return made


def frame(*rivals: int, pids: tuple[int, ...] = (SERVER,), allowed: str = "0-1") -> Frame:
    threads = tuple(ThreadView(pid, pid, "engine", "engine", 0.5, 0.5, 0.0, 1.0, allowed) for pid in pids)
    others = tuple(Competitor(pid, f"rival{pid}", 1.0 / (1 + n), "0-1") for n, pid in enumerate(rivals))
    sched = SchedView(threads, threads[:1], len(pids), 1.0, 1, allowed, "0-1", None, 0.0, others)
    return Frame(0.0, 0.0, server=ServerInfo(url="http://127.0.0.1:1", engine="vllm", pid=SERVER), sched=sched)


def test_a_narrow_set_is_widened_to_what_the_one_above_allows(tree: Tree) -> None:
    tree.group("system.slice", cpus="0-5")
    unit = tree.group("system.slice/vllm.service", cpus="0-1", pids=(SERVER, 99))
    plan = CPUSET.plan(frame(), None)
    assert [(one["path"], one["old"], one["new"]) for one in plan.record["files"]] == [
        (f"{unit}/cpuset.cpus", "0-1", "0-5")
    ]
    assert plan.summary == "let the unit vllm.service use CPUs 0-5"
    assert "other processes in the unit vllm.service: 1" in plan.warnings
    assert any("`systemctl set-property vllm.service AllowedCPUs=0-5` makes it last" in line for line in plan.warnings)
    CPUSET.check(plan.record)
    CPUSET.apply(plan.record, Work())
    assert (unit / "cpuset.cpus").read_text() == "0-5\n"
    assert CPUSET.read(plan.record).new == 1
    CPUSET.restore(plan.record, Work())
    assert (unit / "cpuset.cpus").read_text() == "0-1\n"


def test_where_its_own_says_nothing_the_nearest_above_that_does_is_meant(tree: Tree) -> None:
    above = tree.group("llm.slice", cpus="0-1")
    tree.group("llm.slice/vllm.service", pids=(SERVER,))
    tree.group("llm.slice/vllm.service/deep", cpus=None, pids=(SERVER + 1,))
    plan = CPUSET.plan(frame(pids=(SERVER, SERVER + 1)), None)
    assert [one["path"] for one in plan.record["files"]] == [f"{above}/cpuset.cpus"]
    assert plan.record["files"][0]["new"] == "0-7"


def test_two_levels_that_narrow_are_widened_from_outside_and_put_back_from_inside(tree: Tree) -> None:
    outer = tree.group("outer", cpus="0-1", pids=(SERVER,))
    inner = tree.group("outer/inner", cpus="0", pids=(SERVER + 1,))
    plan = CPUSET.plan(frame(pids=(SERVER, SERVER + 1)), "0-1")
    assert [one["path"] for one in plan.record["files"]] == [f"{inner}/cpuset.cpus"]
    both = CPUSET.record("0-7", {outer / "cpuset.cpus": ("0-1", "0-7"), inner / "cpuset.cpus": ("0", "0-7")})
    CPUSET.apply(both, Work())
    assert CPUSET.read(both).new == 2
    CPUSET.restore(both, Work())
    assert CPUSET.read(both).old == 2


def test_what_cannot_be_widened_says_why(tree: Tree) -> None:
    tree.group("free.service", pids=(SERVER,))
    with pytest.raises(Refused, match="no cgroup of the server's narrows its CPUs"):
        CPUSET.plan(frame(), None)
    tree.group("full.service", cpus="0-7", pids=(SERVER,))
    with pytest.raises(Refused, match="allows CPUs 0-7 already"):
        CPUSET.plan(frame(), None)
    (tree.root / "cgroup.type").write_text("domain\n")  # as at a mount that is not the hierarchy's root
    tree.group("", cpus=None, pids=(SERVER,)) if False else tree._put(f"{SERVER}/cgroup", "0::/\n")
    with pytest.raises(Refused, match="above this container"):
        CPUSET.plan(frame(), None)


@pytest.mark.parametrize(
    ("value", "told"),
    [("6-9", "CPU 8-9 is not among those"), ("", "not a list"), ("x", "not a list"), ("3-1", "not a list")],
)
def test_cpus_that_cannot_be_meant(value: str, told: str, tree: Tree) -> None:
    tree.group("vllm.service", cpus="0-1", pids=(SERVER,))
    with pytest.raises(QtopError, match=told):
        CPUSET.plan(frame(), value)


def test_threads_with_masks_of_their_own_are_told_of(tree: Tree) -> None:
    tree.group("vllm.service", cpus="0-1", pids=(SERVER,))
    assert not any("mask of their own" in line for line in CPUSET.plan(frame(allowed="0-1"), None).warnings)
    assert any("mask of their own, which stays: 1" in line for line in CPUSET.plan(frame(allowed="1"), None).warnings)


def test_the_weight_that_counts_stands_where_the_paths_branch(tree: Tree) -> None:
    """/llm.slice/vllm.service against /system.slice/backup.service: not the unit's but the slice's."""
    mine = tree.group("llm.slice")
    tree.group("llm.slice/vllm.service", pids=(SERVER,))
    tree.group("system.slice")
    tree.group("system.slice/backup.service", pids=(7,))
    plan = WEIGHT.plan(frame(7), None)
    assert [(one["path"], one["old"], one["new"]) for one in plan.record["files"]] == [
        (f"{mine}/cpu.weight", "100", "1000")
    ]
    assert "it counts against rival7" in plan.preview
    assert "CPUWeight=1000" in plan.warnings[-1]
    # In one slice it is the unit's.
    tree.group("llm.slice/other.service", pids=(8,))
    assert WEIGHT.plan(frame(8), None).record["files"][0]["path"] == f"{mine}/vllm.service/cpu.weight"


def test_the_others_may_be_lowered_instead(tree: Tree) -> None:
    tree.group("vllm.service", pids=(SERVER,))
    theirs = [tree.group("a.service", pids=(7, 70)), tree.group("b.service", pids=(8,))]
    plan = WEIGHT.plan(frame(7, 8), "others:10")
    assert [one["path"] for one in plan.record["files"]] == [f"{folder}/cpu.weight" for folder in theirs]
    assert {one["new"] for one in plan.record["files"]} == {"10"}
    assert "processes that get less of the CPUs whenever others want them: 3" in plan.warnings
    WEIGHT.check(plan.record)
    WEIGHT.apply(plan.record, Work())
    assert [(folder / "cpu.weight").read_text() for folder in theirs] == ["10\n", "10\n"]
    WEIGHT.restore(plan.record, Work())
    assert WEIGHT.read(plan.record).old == 2


def test_a_server_without_a_cgroup_of_its_own_has_the_others_lowered(tree: Tree) -> None:
    tree._put(f"{SERVER}/cgroup", "0::/\n")
    theirs = tree.group("backup.service", pids=(7,))
    plan = WEIGHT.plan(frame(7), None)
    assert (plan.value, plan.record["files"][0]["path"]) == ("others:10", f"{theirs}/cpu.weight")
    with pytest.raises(Refused, match="in no cgroup whose weight could be changed"):
        WEIGHT.plan(frame(7), "500")


def test_what_has_nothing_to_weigh_is_refused(tree: Tree) -> None:
    folder = tree.group("vllm.service", pids=(SERVER, 7))
    with pytest.raises(Refused, match=r"rival7 \(7\) shares the server's cgroup.*renice 19 7"):
        WEIGHT.plan(frame(7), None)
    with pytest.raises(Refused, match="nobody else is seen"):
        WEIGHT.plan(frame(), None)
    with pytest.raises(Refused, match="no competitor is seen in a cgroup beside"):
        WEIGHT.plan(frame(), "others:10")
    for value in ("0", "10001", "x", "others:", "others:0", "-1", "1.5", "99999999"):
        with pytest.raises(QtopError, match="It takes a whole number from 1 to 10000"):
            WEIGHT.plan(frame(), value)
    assert WEIGHT.plan(frame(), "500").record["files"][0]["path"] == f"{folder}/cpu.weight"
    (folder / "cpu.idle").write_text("1\n")
    with pytest.raises(Refused, match="only when nobody else wants the CPU"):
        WEIGHT.plan(frame(), "500")
    (folder / "cpu.weight").unlink()
    with pytest.raises(Refused, match="the CPU controller is not enabled"):
        WEIGHT.plan(frame(), "500")


def test_from_where_other_cgroups_are_mounted_nothing_is_called_gone(tree: Tree) -> None:
    tree.group("vllm.service", pids=(SERVER,))
    plan = WEIGHT.plan(frame(), "500")
    WEIGHT.apply(plan.record, Work())
    gone = {**plan.record, "files": [{**plan.record["files"][0], "path": "/nowhere/cpu.weight"}]}
    assert WEIGHT.read(gone).all_gone
    elsewhere = WEIGHT.read({**gone, "mounts": "mnt:[2]"})
    assert "cannot be seen from here" in elsewhere.elsewhere
    assert not elsewhere.all_gone
    assert WEIGHT.read({**plan.record, "mounts": "mnt:[2]"}).new == 1


ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("folder", "name", "keep"),
    [
        (f"/sys/fs/cgroup/cpu/docker/{ID}", "the Docker container 0123456789ab", "docker update --x 0123456789ab"),
        (f"/s/system.slice/docker-{ID}.scope", "the Docker container 0123456789ab", "docker update --x 0123456789ab"),
        (f"/s/docker-{ID}.scope/inner", "the Docker container 0123456789ab", "docker update --x 0123456789ab"),
        (f"/s/machine.slice/libpod-{ID}.scope", "the Podman container 0123456789ab", "podman update --x 0123456789ab"),
        (f"/s/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", "a Kubernetes pod", ""),
        ("/s/system.slice/vllm.service", "the unit vllm.service", "systemctl set-property vllm.service Y=1"),
        ("/s/user.slice", "the unit user.slice", "systemctl set-property user.slice Y=1"),
        ("/s/mine", "the cgroup /s/mine", ""),
    ],
)
def test_whose_a_cgroup_is(folder: str, name: str, keep: str) -> None:
    owner = owner_of(folder, "--x", "Y=1")
    assert (owner.name, owner.keep) == (name, keep)


@pytest.mark.parametrize("name", ["cpu.weight", "cpu.max", "cgroup.procs", "cpu.shares"])
def test_the_helper_writes_to_this_file_of_mounted_cgroups_only(name: str, tree: Tree, tmp_path: Path) -> None:
    folder = tree.group("vllm.service", pids=(SERVER,))
    (tmp_path / "cpu.weight").write_text("100\n")
    good = folder / "cpu.weight"
    bad = [folder / name, tree.root / name, tmp_path / name, Path(f"{folder}/../vllm.service/{name}"), Path(name)]
    assert WEIGHT.known(good)
    assert [path for path in bad if WEIGHT.known(path) and path != good] == []
    if name == "cpu.weight":
        link = tree.root / "link.service"
        link.symlink_to(tmp_path)
        one = {"path": f"{link}/cpu.weight", "old": "100", "new": "1", "id": tmp_path.stat().st_ino}
        record = {**CPUSET.record("1", {}), "files": [one]}
        with pytest.raises(Refused, match="cannot be written"):
            WEIGHT.apply(record, Work())
        assert (tmp_path / "cpu.weight").read_text() == "100\n"


def test_without_competitors_looked_for_a_number_still_means_its_own(tree: Tree) -> None:
    from qtop.sample import NOT_YET

    tree.group("vllm.service", pids=(SERVER,))
    sched = frame().sched
    assert isinstance(sched, SchedView)
    unknown = replace(frame(), sched=replace(sched, competitors=NOT_YET))
    assert WEIGHT.plan(unknown, "500").value == "500"
