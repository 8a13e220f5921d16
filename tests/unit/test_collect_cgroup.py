"""The CPU side of cgroups on made-up trees: v1, v2, hybrid, inside and outside of containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.proctree import ProcTree, files

from qtop.collect import cgroup_tree
from qtop.collect.cgroup import MOST_KEYS, CgroupReader
from qtop.collect.cgroup_tree import parse_membership, parse_mounts
from qtop.collect.procs import ProcsCollector
from qtop.model.sched import sched_view
from qtop.sample import Absent, CgroupSample, Pressure, QuotaLevel, ServerProcs, Why

STAT2 = "usage_usec 900\nuser_usec 1\nsystem_usec 1\nnr_periods {} \nnr_throttled {}\nthrottled_usec {}"
STAT1 = "nr_periods {}\nnr_throttled {}\nthrottled_time {}"
PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7"


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def read(tree: ProcTree, membership: str) -> CgroupSample | Absent:
    tree.process(10, cgroup=membership)
    reader = CgroupReader(tree.root)
    return reader.read(reader.key_of(10))


def of(sample: CgroupSample | Absent) -> CgroupSample:
    assert isinstance(sample, CgroupSample), sample
    return sample


def test_v2_with_a_quota_on_an_ancestor(tree: ProcTree, tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top)
    files(top, cpuset__cpus__effective="0-7", cpu__stat="usage_usec 5")
    files(top / "app", cpu__max="150000 100000", cpu__stat=STAT2.format(40, 4, 4000), cpuset__cpus__effective="0-3")
    files(top / "app/llm", cpu__max="max 100000", cpu__stat=STAT2.format(0, 0, 0), cpu__pressure=PSI)
    sample = of(read(tree, "0::/app/llm\n"))
    assert (sample.version, sample.path, sample.usage_us) == (2, "/app/llm", 900)
    assert sample.quotas == (QuotaLevel(f"{top}/app", 150_000, 100_000, 40, 4, 4000),)
    assert sample.cpuset == "0-3", "the nearest ancestor with the controller speaks for those below"
    assert sample.pressure == Pressure(77, 7)


def test_v2_without_any_quota(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup/a", cpu__stat="usage_usec 1")
    sample = of(read(tree, "0::/a\n"))
    assert sample.quotas == ()
    assert isinstance(sample.cpuset, Absent) and sample.cpuset.why is Why.UNSUPPORTED
    assert isinstance(sample.pressure, Absent)


def v1(tree: ProcTree, base: Path, root: str = "/") -> None:
    tree.mount("cgroup", base / "cpu,cpuacct", root, "cpu,cpuacct")
    tree.mount("cgroup", base / "cpuset", root, "cpuset")
    tree.mount("cgroup", base / "memory", root, "memory")


def test_v1(tree: ProcTree, tmp_path: Path) -> None:
    base = tmp_path / "cg v1"  # a space, which mountinfo writes as \040
    v1(tree, base)
    files(base / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000", cpu__stat=STAT1.format(0, 0, 0))
    files(
        base / "cpu,cpuacct/llm",
        cpu__cfs_quota_us="50000",
        cpu__cfs_period_us="25000",
        cpu__stat=STAT1.format(10, 3, 7_000_000),
        cpuacct__usage="123456789",
    )
    files(base / "cpuset/llm", cpuset__cpus="0-9", cpuset__effective_cpus="2,5")
    sample = of(read(tree, "9:memory:/llm\n4:cpu,cpuacct:/llm\n3:cpuset:/llm\n1:name=systemd:/x\n"))
    assert (sample.version, sample.path, sample.usage_us, sample.cpuset) == (1, "/llm", 123_456, "2,5")
    assert sample.quotas == (QuotaLevel(f"{base}/cpu,cpuacct/llm", 50_000, 25_000, 10, 3, 7_000),)
    assert isinstance(sample.pressure, Absent)


def test_hybrid_takes_the_cpu_from_v1_and_pressure_from_v2(tree: ProcTree, tmp_path: Path) -> None:
    v1(tree, tmp_path / "cg")
    unified = tmp_path / "cg/unified"
    tree.mount("cgroup2", unified)
    files(tmp_path / "cg/cpu,cpuacct/llm", cpu__cfs_quota_us="-1", cpuacct__usage="5000")
    files(tmp_path / "cg/cpuset/llm", cpuset__cpus="0-1")
    files(unified / "llm", cpu__pressure=PSI)
    sample = of(read(tree, "4:cpu,cpuacct:/llm\n3:cpuset:/llm\n0::/llm\n"))
    assert (sample.version, sample.usage_us, sample.quotas, sample.cpuset) == (1, 5, (), "0-1")
    assert sample.pressure == Pressure(77, 7)


def test_hybrid_with_the_cpu_in_v2(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup", tmp_path / "cg/memory", "/", "memory")
    tree.mount("cgroup2", tmp_path / "cg/unified")
    files(tmp_path / "cg/unified/llm", cpu__max="20000 10000", cpu__stat=STAT2.format(1, 1, 1))
    sample = of(read(tree, "4:memory:/llm\n0::/llm\n"))
    assert sample.version == 2
    assert sample.quotas == (QuotaLevel(f"{tmp_path}/cg/unified/llm", 20_000, 10_000, 1, 1, 1),)


def test_a_container_that_sees_its_host_s_path_v1(tree: ProcTree, tmp_path: Path) -> None:
    base = tmp_path / "cg"
    v1(tree, base, "/docker/abc")
    files(
        base / "cpu,cpuacct", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000", cpu__stat=STAT1.format(1, 0, 0)
    )
    files(base / "cpuset", cpuset__cpus="4-7")
    sample = of(read(tree, "4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n"))
    assert not isinstance(sample.quotas, Absent)
    assert [(level.path, level.quota_us) for level in sample.quotas] == [(f"{base}/cpu,cpuacct", 200_000)]
    assert sample.cpuset == "4-7"


def test_a_container_with_a_cgroup_namespace_of_its_own(tree: ProcTree, tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top, "/docker/abc")  # the mount was made outside, its members see "/"
    files(top, cpu__max="100000 100000", cpu__stat=STAT2.format(2, 1, 50), cpuset__cpus__effective="0")
    sample = of(read(tree, "0::/\n"))
    assert not isinstance(sample.quotas, Absent)
    assert [level.throttled_us for level in sample.quotas] == [50]
    assert sample.cpuset == "0"


@pytest.mark.parametrize("membership", ["0::/../../other\n", "", "garbage\n", "4:cpu\n", ":::\n", "0::\n"])
def test_what_lies_outside_or_is_no_membership_is_out_of_reach(tree: ProcTree, tmp_path: Path, membership: str) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    sample = read(tree, membership)
    assert isinstance(sample, Absent) and sample.why is Why.NOT_HERE


def namespaced(tree: ProcTree, tmp_path: Path, root: str) -> Path:
    """A v2 mount whose root lies where ``root`` says, seen from the reader's cgroup namespace."""
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top, root)
    files(top, cgroup__procs="1\n2")
    files(top / "system.slice/other", cgroup__procs="77", cpu__max="max 100000")
    files(
        top / "system.slice/docker-abc",
        cgroup__procs="9\n10",
        cgroup__type="domain",
        cpu__max="30000 100000",
        cpu__stat=STAT2.format(8, 6, 700),
    )
    files(top / "kubepods/pod1/c2", cgroup__procs="10", cpu__max="40000 100000", cpu__stat=STAT2.format(1, 0, 0))
    return top


def test_the_host_s_tree_bound_into_a_container_with_a_namespace_of_its_own(tree: ProcTree, tmp_path: Path) -> None:
    """Its own cgroup is "/" to it, the mount begins two levels above: the mount's root is not its cgroup."""
    top = namespaced(tree, tmp_path, "/../..")
    sample = of(read(tree, "0::/\n"))
    assert not isinstance(sample.quotas, Absent)
    assert [(level.path, level.quota_us) for level in sample.quotas] == [(f"{top}/system.slice/docker-abc", 30_000)]
    assert not sample.above


def test_there_a_server_in_another_namespace_is_found_by_its_path(tree: ProcTree, tmp_path: Path) -> None:
    top = namespaced(tree, tmp_path, "/../..")
    sample = of(read(tree, "0::/../../kubepods/pod1/c2\n"))
    assert not isinstance(sample.quotas, Absent)
    assert [level.path for level in sample.quotas] == [f"{top}/kubepods/pod1/c2"]


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/../..", "/../../../elsewhere"),  # above the mount
        ("/..", "/"),  # members of the folders one level down: none has it
        ("/", "/../kubepods/pod1/c2"),  # another container's, and only our own is mounted
        ("/docker/abc", "/"),  # we are above what is mounted, and no member of it
        ("/../..", "/gone"),
    ],
)
def test_what_cannot_be_told_is_not_taken_for_the_mount_s_root(
    tree: ProcTree, tmp_path: Path, root: str, path: str
) -> None:
    namespaced(tree, tmp_path, root)
    sample = read(tree, f"0::{path}\n")
    assert isinstance(sample, Absent) and sample.why is Why.NOT_HERE


def test_a_tree_too_large_to_search_is_left_alone(
    tree: ProcTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespaced(tree, tmp_path, "/../..")
    monkeypatch.setattr(cgroup_tree, "MOST_FOLDERS", 3)
    assert isinstance(read(tree, "0::/\n"), Absent)


def test_of_two_mounts_the_one_that_has_it(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "hidden")
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup/llm", cpu__stat="usage_usec 5")
    assert of(read(tree, "0::/llm\n")).usage_us == 5


def test_quotas_above_a_container_are_out_of_sight_and_it_says_so(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup", cpu__stat="usage_usec 5")
    assert not of(read(tree, "0::/\n")).above
    files(tmp_path / "cgroup", cgroup__type="domain")  # only the true root has no such file
    sample = of(read(tree, "0::/\n"))
    assert sample.above and sample.quotas == ()


def test_ever_new_cgroups_do_not_fill_the_memory(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup", cpu__stat="usage_usec 5")
    reader = CgroupReader(tree.root)
    for n in range(MOST_KEYS + 40):
        tree.file("10/cgroup", f"0::/{n}\n")
        reader.read(reader.key_of(10))
    assert len(reader._members) <= MOST_KEYS and len(reader._places) <= 4 * MOST_KEYS
    reader.close()


IN_NAMESPACE = """
import os, sys
from qtop.collect.cgroup import CgroupReader
reader = CgroupReader()
for pid in (os.getpid(), int(sys.argv[1])):
    key = reader.key_of(pid)
    place = reader._place(key, "")
    print(place.folders[0] if place else "none")
"""


@pytest.mark.root
def test_a_real_cgroup_namespace(tmp_path: Path) -> None:
    """qtop in a cgroup namespace of its own (unshare -C) under the host's mount; the server in another cgroup."""
    tops = [mount.point for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()) if not mount.controllers]
    if os.geteuid() != 0 or not tops or shutil.which("unshare") is None:
        pytest.skip("needs root and a v2 tree")
    ours, theirs = (Path(tops[0], f"qtop-test-{os.getpid()}-{name}") for name in ("a", "b"))
    server = subprocess.Popen(["sleep", "60"])
    try:
        try:
            for folder in (ours, theirs):
                folder.mkdir()
            (theirs / "cgroup.procs").write_text(str(server.pid))
        except OSError:
            pytest.skip("the v2 tree may not be written to")
        enter = f"echo $$ > {ours}/cgroup.procs && exec unshare -C {sys.executable} -c '{IN_NAMESPACE}' {server.pid}"
        done = subprocess.run(["sh", "-c", enter], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(ours), str(theirs)]
    finally:
        server.kill()
        server.wait()
        for folder in (ours, theirs):
            if folder.exists():
                folder.rmdir()


def test_another_container_s_path_is_not_taken_for_this_one_s(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup", "/docker/abc")
    sample = read(tree, "0::/docker/abcdef/x\n")
    assert isinstance(sample, Absent)


def test_a_process_without_a_membership_to_read(tree: ProcTree) -> None:
    assert CgroupReader(tree.root).key_of(4711) == ""


def test_a_quota_that_may_not_be_read_is_not_no_quota(
    tree: ProcTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top)
    files(top / "a", cpu__max="50000 100000", cpu__stat=STAT2.format(1, 1, 1))
    real = os.open

    def refuse(path: str, *more: int) -> int:
        if str(path).endswith("cpu.max"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *more)

    monkeypatch.setattr(os, "open", refuse)
    sample = of(read(tree, "0::/a\n"))
    assert isinstance(sample.quotas, Absent) and sample.quotas.why is Why.DENIED
    assert sample.usage_us == 900


def test_throttling_that_is_not_counted_is_not_none(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup/a", cpu__max="50000 100000")
    assert isinstance(of(read(tree, "0::/a\n")).quotas, Absent)


@pytest.mark.parametrize("limit", ["", "max", "x y", "50000 0", "-1 100000"])
def test_a_limit_that_is_none(tree: ProcTree, tmp_path: Path, limit: str) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup/a", cpu__max=limit, cpu__stat="usage_usec x")
    sample = of(read(tree, "0::/a\n"))
    assert sample.quotas == ()
    assert isinstance(sample.usage_us, Absent)


def test_mountinfo_is_read_with_its_escapes_and_without_what_is_no_cgroup() -> None:
    text = (
        "24 1 0:22 / /proc rw - proc proc rw\n"
        "30 24 0:26 /a\\134b /sys/fs/cg\\040x rw shared:1 master:2 - cgroup2 none rw\n"
        "31 24 0:27 / /sys/fs/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "broken line\n- cgroup2\n\n"
    )
    (v2, cpu) = parse_mounts(text)
    assert (v2.root, v2.point, v2.controllers) == ("/a\\b", "/sys/fs/cg x", frozenset())
    assert cpu.controllers >= {"cpu", "cpuacct"}


def test_paths_may_hold_colons() -> None:
    assert parse_membership("0::/a:b/c\n4:cpu,cpuacct:/x:y\n") == {"": "/a:b/c", "cpu": "/x:y", "cpuacct": "/x:y"}


def test_counters_that_begin_anew_give_no_negative_throttling(tree: ProcTree, tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top)
    files(top / "a", cpu__max="50000 100000", cpu__stat=STAT2.format(90, 80, 9_000_000))
    tree.process(10, threads={10: (1_000, 1_000, 5)}, cgroup="0::/a\n")
    collector = ProcsCollector(lambda: [10], tree.root)
    first = collector.read()
    files(top / "a", cpu__max="50000 100000", cpu__stat=STAT2.format(1, 0, 0))
    tree.thread(10, 10, (2_000_000, 500_000, 6))
    second = collector.read()
    assert isinstance(first, ServerProcs) and isinstance(second, ServerProcs)
    view = sched_view(first, second, "llamacpp", (None, None))
    assert not isinstance(view, Absent)
    assert view.quota is not None and not isinstance(view.quota, Absent)
    assert isinstance(view.quota.throttled, Absent) and isinstance(view.quota.periods_throttled, Absent)
    assert all(thread.throttled == 0.0 for thread in view.threads)


def test_this_machine_s_own_cgroup_can_be_read() -> None:
    reader = CgroupReader()
    key = reader.key_of(os.getpid())
    if not key:
        pytest.skip("this kernel has no cgroups")
    sample = reader.read(key)
    assert isinstance(sample, CgroupSample) or sample.why is Why.NOT_HERE
    reader.close()
