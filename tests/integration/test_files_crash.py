"""kill -9 at every call that a change of the kernel's files is made of, of qtop, of root's helper, and of qtop while
root's helper writes; then undo. The old values must be back, whatever the call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import environment
from tests.fakes.crash_sweep import Sweep

from qtop.act.change import Work
from qtop.act.knobs import knob
from qtop.collect.cgroup_tree import parse_mounts
from qtop.errors import Unreachable
from qtop.model.frame import Frame

pytestmark = pytest.mark.root

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
BALANCING = Path("/proc/sys/kernel/numa_balancing")
SWAPPINESS = Path("/proc/sys/vm/swappiness")


def sweep(shim: Path, folder: Path, prefix: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    """Every death of one knob's change, put-back and undo; what the driver tells."""
    told = {"pid": 0, "cpufreq": "", "lasting": "", "helper": "", "state": str(folder / "journal"), **spec}
    command = [*prefix, sys.executable, "-m", "tests.fakes.crash_sweep", json.dumps(told)]
    extra = {"LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, env=environment(folder, extra), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def whole(told: dict[str, Any], files: int = 1) -> None:
    """Nothing was left behind, and each file was a place to die at, after the old values were on disk."""
    assert told["failures"] == []
    for name, times in (("kept", 1), ("put back", 2), ("undone", 1)):
        made = told[name]["calls"]
        assert told[name]["deaths"] > len(made)
        assert made.count("write") >= times * files + 1, (name, made)
    assert told["kept"]["calls"].index("fsync") < len(told["kept"]["calls"]) - 2


def writable(path: Path) -> None:
    try:
        path.write_text(knob_now(path))
    except OSError as error:
        pytest.skip(f"{path} cannot be written here: {error.strerror}")


def knob_now(path: Path) -> str:
    name = {HUGE_PAGES: "transparent-hugepages", BALANCING: "numa-balancing"}[path]
    return getattr(knob(name), "now")(path) or ""  # noqa: B009 - of file knobs only


@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("transparent-hugepages", HUGE_PAGES, ("madvise", "always")),
        ("numa-balancing", BALANCING, ("0", "1")),
    ],
)
def test_values_of_the_whole_host(name: str, path: Path, values: tuple[str, str], shim: Path, tmp_path: Path) -> None:
    if not path.exists():
        pytest.skip(f"no {path}")
    writable(path)
    before = knob_now(path)
    other = values[1] if before == values[0] else values[0]
    whole(sweep(shim, tmp_path, knob=name, value=other, files={str(path): before}))
    assert knob_now(path) == before


@pytest.fixture
def private_swappiness(tmp_path: Path) -> tuple[str, ...]:
    """What runs a command that sees a file of its own as vm.swappiness: the host's is not disturbed."""
    file = tmp_path / "swappiness"
    file.write_text("60\n")
    script = f'mount --bind {file} {SWAPPINESS} && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot mount over vm.swappiness here")
    return prefix


def test_a_value_and_the_file_that_makes_it_last(
    private_swappiness: tuple[str, ...], shim: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sysctl.d"
    folder.mkdir()
    told = sweep(
        shim,
        tmp_path,
        private_swappiness,
        knob="swappiness",
        value="33",
        files={str(SWAPPINESS): "60"},
        lasting=str(folder / "90-qtop-swappiness.conf"),
    )
    whole(told)
    assert "rename" in told["kept"]["calls"]
    assert "unlink" in told["undone"]["calls"]


@pytest.mark.parametrize(("who", "sweeps"), [("dies", ["kept", "undone"]), ("asker", ["kept", "put back"])])
def test_with_the_helper_either_may_die(
    who: str, sweeps: list[str], private_swappiness: tuple[str, ...], shim: Path, tmp_path: Path
) -> None:
    files = {str(SWAPPINESS): "60"}
    told = sweep(
        shim, tmp_path, private_swappiness, knob="swappiness", value="33", files=files, helper=who, sweeps=sweeps
    )
    assert told["failures"] == []
    calls = {"kept": ["open", "write"], "put back": ["open", "write"] * 2, "undone": ["open", "write"]}
    assert {name: told[name]["calls"] for name in sweeps} == {name: calls[name] for name in sweeps}
    assert all(told[name]["deaths"] == len(calls[name]) + 1 for name in sweeps)


def test_policies_of_the_cpus(shim: Path, tmp_path: Path) -> None:
    files: dict[str, str] = {}
    for number in range(3):
        policy = tmp_path / f"cpufreq/policy{number}"
        policy.mkdir(parents=True)
        (policy / "affected_cpus").write_text(f"{number}\n")
        (policy / "scaling_available_governors").write_text("powersave schedutil\n")
        files[str(policy / "scaling_governor")] = "powersave"
    told = sweep(
        shim,
        tmp_path,
        knob="cpu-governor",
        value="schedutil",  # as long as the old one: unlike the kernel's files these keep the end of a longer text
        files=files,
        cpufreq=str(tmp_path / "cpufreq"),
    )
    whole(told, files=3)


class Cgroup:
    """A cgroup of one controller, with a process in it."""

    def __init__(self, controller: str) -> None:
        mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
        found = [mount for mount in mounts if controller in mount.controllers]
        self.version = 1 if found else 2
        found = found or [mount for mount in mounts if not mount.controllers]
        if not found:
            pytest.skip("no cgroups are mounted")
        self.folder = Path(found[0].point) / f"qtop-test-{uuid.uuid4().hex[:8]}"
        self.process: subprocess.Popen[bytes] | None = None
        try:
            if self.version == 2:
                (self.folder.parent / "cgroup.subtree_control").write_text(f"+{controller}")
            self.folder.mkdir()
            if controller == "cpuset":
                if self.version == 1:  # in v2 what is not set is as above
                    self.put("cpuset.mems", (self.folder.parent / "cpuset.mems").read_text().strip())
                self.put("cpuset.cpus", "0")
            self.process = subprocess.Popen(["sleep", "600"])
            self.put("cgroup.procs", str(self.process.pid))
        except OSError as error:
            self.end()
            pytest.skip(f"cannot make a cgroup with {controller} here: {error.strerror}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        with suppress(OSError):
            self.folder.rmdir()


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Cgroup]:
    made = Cgroup(request.param)
    yield made
    made.end()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs to widen a set to")
@pytest.mark.parametrize("cgroup", ["cpuset"], indirect=True)
def test_the_cpus_of_a_real_cgroup(cgroup: Cgroup, shim: Path, tmp_path: Path) -> None:
    path = cgroup.folder / "cpuset.cpus"
    told = sweep(shim, tmp_path, knob="cpuset", value=None, files={str(path): "0"}, pid=cgroup.pid)
    whole(told)
    assert os.sched_getaffinity(cgroup.pid) == {0}


@pytest.mark.parametrize("helper", ["", "asker"])
@pytest.mark.parametrize("cgroup", ["cpu"], indirect=True)
def test_the_weight_of_a_real_cgroup(helper: str, cgroup: Cgroup, shim: Path, tmp_path: Path) -> None:
    name, before = ("cpu.shares", "1024") if cgroup.version == 1 else ("cpu.weight", "100")
    path = cgroup.folder / name
    some: dict[str, Any] = {"sweeps": ["kept"]} if helper else {}
    told = sweep(
        shim, tmp_path, knob="cpu-weight", value="200", files={str(path): before}, pid=cgroup.pid, helper=helper, **some
    )
    assert told["kept"]["calls"].count("write") > 0
    assert told["failures"] == []
    assert path.read_text().strip() == before


@pytest.mark.parametrize("cgroup", ["cpu"], indirect=True)
def test_a_cgroup_of_the_same_name_is_another_one(cgroup: Cgroup) -> None:
    """As after a restart of its unit: nothing of qtop's is in it, and undo has nothing to do with it."""
    weight = knob("cpu-weight")
    spec = {"files": {}, "pid": cgroup.pid, "lasting": "", "state": "", "knob": "cpu-weight", "cpufreq": ""}
    plan = weight.plan(Sweep(spec).frame(), "200")
    weight.check(plan.record)
    weight.apply(plan.record, Work())
    assert weight.read(plan.record).new == 1
    cgroup.process, old = None, cgroup.process
    assert old is not None
    old.kill()
    old.wait()
    cgroup.folder.rmdir()
    cgroup.folder.mkdir()
    (name,) = [Path(one["path"]).name for one in plan.record["files"]]
    cgroup.put(name, plan.record["files"][0]["new"])
    assert weight.read(plan.record).all_gone
    weight.restore(plan.record, Work())
    assert (cgroup.folder / name).read_text().strip() == plan.record["files"][0]["new"]


def test_without_a_server_a_cgroup_cannot_be_meant() -> None:
    for name in ("cpuset", "cpu-weight"):
        with pytest.raises(Unreachable, match="or name it with --url"):
            knob(name).plan(Frame(0.0, 0.0), None)
