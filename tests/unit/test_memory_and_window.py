"""What the rules about memory and the GPU's gaps stand on: a cgroup's memory, utilization over ten seconds; the kernel
made of files that fixtures are recorded from; a severity that eases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace
from tests.build import host, vllm
from tests.fakes.kernel import Kernel
from tests.fakes.proctree import ProcTree, files

from qtop.collect.cgroup import CgroupReader
from qtop.collect.host import HostCollector
from qtop.collect.procs import ProcsCollector
from qtop.collect.topology import TopologyReader
from qtop.diagnose.engine import Tracker
from qtop.diagnose.rule import Answer, Clear, Enter, Evidence, Observed, Rule, Severity, State, Told
from qtop.model.cpu import SchedView
from qtop.model.derive import Deriver
from qtop.model.frame import Frame, UtilView
from qtop.sample import (
    Absent,
    CgroupSample,
    CpuTimes,
    GpuSample,
    GpuSection,
    HostSample,
    MemoryGroup,
    Pressure,
    Sample,
    ServerProcs,
    UtilSamples,
    Why,
)

PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={}"
MIB = 1 << 20


# A cgroup's memory


def memory(tree: ProcTree, membership: str) -> MemoryGroup | Absent:
    tree.process(10, cgroup=membership)
    reader = CgroupReader(tree.root)
    sample = reader.read(reader.key_of(10))
    assert isinstance(sample, CgroupSample), sample
    return sample.memory


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    return ProcTree(tmp_path)


def test_v2_the_tightest_level_speaks_and_its_own_pressure(tree: ProcTree, tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    tree.mount("cgroup2", top)
    files(top, cpu__stat="usage_usec 5")
    events = "low 0\nhigh 3\nmax 40\noom 0\noom_kill 0"
    files(top / "app", memory__max=str(100 * MIB), memory__high="max", memory__current="99", memory__events=events)
    files(
        top / "app/llm", memory__max="max", memory__high=str(900 * MIB), memory__current="7",
        memory__pressure=PSI.format(77, 7), cpu__stat="usage_usec 5",
    )  # fmt: skip
    assert memory(tree, "0::/app/llm\n") == MemoryGroup(99, 100 * MIB, 43, Pressure(77, 7))


def test_v2_without_a_limit(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup2", tmp_path / "cgroup")
    files(tmp_path / "cgroup/a", memory__max="max", memory__high="max", memory__current="7", cpu__stat="usage_usec 1")
    found = memory(tree, "0::/a\n")
    assert isinstance(found, MemoryGroup)
    assert (found.used, found.limit) == (7, None)
    assert isinstance(found.hits, Absent)
    assert isinstance(found.pressure, Absent)


def test_v1_beside_a_v2_tree(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup", tmp_path / "cpu", controllers="cpu")
    tree.mount("cgroup", tmp_path / "memory", controllers="memory")
    tree.mount("cgroup2", tmp_path / "unified")
    files(tmp_path / "cpu/x")
    files(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="1")
    files(tmp_path / "memory/m", memory__limit_in_bytes=str(50 * MIB), memory__usage_in_bytes="42", memory__failcnt="9")
    files(tmp_path / "unified/u", memory__pressure=PSI.format(5, 4))
    found = memory(tree, "3:memory:/m\n2:cpu:/x\n0::/u\n")
    assert found == MemoryGroup(42, 50 * MIB, 9, Pressure(5, 4))


@pytest.mark.parametrize(("with_swap", "counted", "hits"), [("50", "4000", 4009), ("50", "0", None), ("90", "0", 9)])
def test_v1_where_swap_is_limited_too(
    tree: ProcTree, tmp_path: Path, with_swap: str, counted: str, hits: int | None
) -> None:
    """As docker update --memory 50m --memory-swap 50m leaves it, the limit of both together is what is hit; Linux 6.18
    counts it nowhere."""
    for name in ("cpu", "memory"):
        tree.mount("cgroup", tmp_path / name, controllers=name)
    files(tmp_path / "cpu/x")
    limit = str(50 * MIB)
    files(tmp_path / "memory/m", memory__limit_in_bytes=limit, memory__usage_in_bytes="42", memory__failcnt="9")
    both = str(int(with_swap) * MIB)
    files(tmp_path / "memory/m", memory__memsw__limit_in_bytes=both, memory__memsw__failcnt=counted)
    found = memory(tree, "3:memory:/m\n2:cpu:/x\n")
    assert isinstance(found, MemoryGroup)
    assert (None if isinstance(found.hits, Absent) else found.hits) == hits


def test_no_memory_controller_in_sight(tree: ProcTree, tmp_path: Path) -> None:
    tree.mount("cgroup", tmp_path / "cpu", controllers="cpu")
    files(tmp_path / "cpu/x")
    found = memory(tree, "2:cpu:/x\n")
    assert isinstance(found, Absent)
    assert found.why is Why.UNSUPPORTED


def test_between_two_samples() -> None:
    deriver, frame = Deriver(), Frame(0.0, 0.0)
    for at in (1.0, 2.0):
        sample = vllm(at, 0.0)
        assert isinstance(sample.procs, ServerProcs)
        group = MemoryGroup(50, 100, int(30 * at), Pressure(int(2e5 * at), int(1e5 * at)))
        groups = {
            key: replace(one, memory=group)
            for key, one in sample.procs.cgroups.items()
            if isinstance(one, CgroupSample)
        }
        frame = deriver.push(replace(sample, procs=replace(sample.procs, cgroups=groups)))
    assert isinstance(frame.sched, SchedView)
    seen = frame.sched.memory
    assert not isinstance(seen, Absent)
    assert (seen.used, seen.limit, seen.hits_s) == (50, 100, 30.0)
    assert seen.some == pytest.approx(0.2)
    assert seen.full == pytest.approx(0.1)


def test_full_pressure_of_the_host() -> None:
    deriver, frame = Deriver(), Frame(0.0, 0.0)
    for at in (1.0, 2.0):
        one = replace(host(at), psi_memory=Pressure(int(3e5 * at), int(1e5 * at)))
        frame = deriver.push(replace(vllm(at, 0.0), host=one))
    assert not isinstance(frame.host, Absent)
    assert frame.host.psi_memory == pytest.approx(0.3)
    assert frame.host.psi_memory_full == pytest.approx(0.1)


# Utilization over ten seconds


def watch(seconds: int, util: Any, fine: Any = None, running: Any = lambda at: 8.0, begin: int = 1) -> Frame:
    deriver, frame = Deriver(), Frame(0.0, 0.0)
    for at in range(begin, begin + seconds):
        series = {"vllm:num_requests_running": float(running(at)), "vllm:num_requests_waiting": 1.0}
        sample = vllm(float(at), 0.06 * at, series=series)
        one = GpuSample(at=float(at), index=0, util=util(at))
        if fine is not None and at % 5 == 0:
            one = replace(one, util_samples=UtilSamples(at * 1_000_000, 4_800_000, tuple(fine)))
        frame = deriver.push(replace(sample, gpu=GpuSection(at=float(at), gpus=(one,))))
    return frame


def seen(frame: Frame) -> UtilView:
    assert isinstance(frame.util, UtilView), frame.util
    return frame.util


def test_it_needs_ten_seconds() -> None:
    assert isinstance(watch(9, lambda at: 50).util, Absent)
    view = seen(watch(12, lambda at: 40 if at % 2 else 80))
    assert 0.55 <= view.mean <= 0.65
    assert view.deviation == pytest.approx(0.2, abs=0.01)
    assert (view.running, view.waiting) == (8.0, 1.0)
    assert view.wait == pytest.approx(0.06)


def test_the_drivers_own_samples_where_they_cover_it() -> None:
    view = seen(watch(12, lambda at: 100, fine=[0, 100] * 12))
    assert view.mean == pytest.approx(0.5)
    assert view.deviation == pytest.approx(0.5)


def test_one_scrape_without_a_request_is_in_the_least() -> None:
    assert seen(watch(12, lambda at: 50, running=lambda at: 0.0 if at == 8 else 8.0)).running == 0.0


def test_no_utilization_is_no_busy_gpu() -> None:
    view = watch(12, lambda at: Absent(Why.UNSUPPORTED, "MIG")).util
    assert isinstance(view, Absent)
    assert view.why is Why.UNSUPPORTED


def test_a_gap_begins_the_window_anew() -> None:
    deriver, frame = Deriver(), Frame(0.0, 0.0)
    for at in (*range(1, 12), *range(30, 36)):
        gpus = (GpuSample(at=float(at), index=0, util=50),)
        frame = deriver.push(Sample(t=float(at), gpu=GpuSection(at=float(at), gpus=gpus)))
    assert isinstance(frame.util, Absent)


# A severity that eases


class Eases(Rule):
    id, title = "QT999", "eases"
    enter: ClassVar = (Enter(Severity.INFO, 0.1, 2.0, 2.0), Enter(Severity.WARNING, 0.5, 2.0, 2.0))
    clear: ClassVar = Clear(0.1, 3.0, ease=0.4)

    def look(self, frame: Frame) -> Answer:
        return Observed(frame.dt and frame.t % 1.0, lambda: Told("X", (Evidence("x", 1.0, ""),)))


def test_a_lesser_severity_that_stands_takes_over_once_it_is_better() -> None:
    tracker, got = Tracker(Eases()), []
    for second, value in enumerate([0.2, 0.2, 0.6, 0.6, 0.45, 0.45, 0.45, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0]):
        finding = tracker.push(Frame(second + value, 1.0))
        got.append(finding.severity.value[0] if finding.state is State.FIRING else "-")
    assert "".join(got) == "-iiwwwwwwiii-"


# The kernel made of files


def test_what_is_put_in_place_is_read_and_the_rest_is_real(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "tree")
    kernel.cpu_times(4, busy=0.5, steal=0.25)
    kernel.topology(4, nodes=2, smt=2)
    kernel.put("proc/sys/kernel/numa_balancing", "1\n")
    root = kernel.root
    topology = TopologyReader(root / "proc", root / "sys", root / "run")
    sample = HostCollector(root / "proc", topology).read(())
    assert isinstance(sample, HostSample)
    assert sample.cpus["3"] == CpuTimes(500_000, 0, 0, 250_000, 0, 0, 0, 250_000)
    assert isinstance(sample.mem_total, int)
    places, _ = topology.look()
    assert not isinstance(places, Absent)
    assert not isinstance(places.nodes, Absent)
    assert [node.cpus for node in places.nodes] == ["0-1", "2-3"]
    assert (places.cores, places.packages, places.numa_balancing) == (("0-1", "2-3"), 2, 1)


def test_processes_made_of_files(tmp_path: Path) -> None:
    me = os.getpid()
    kernel = Kernel(tmp_path / "tree")
    kernel.process(me, 1, "VLLM::EngineCor", ("VLLM::EngineCore",), 0.5, 0.25, 3, "0-3")
    sample = ProcsCollector(lambda: [me], kernel.root / "proc").read()
    assert isinstance(sample, ServerProcs)
    process = sample.processes[0]
    assert (process.title, process.allowed) == ("VLLM::EngineCore", "0-3")
    assert not isinstance(process.threads, Absent)
    thread = process.threads[0]
    assert (thread.run_ns, thread.wait_ns, thread.processor) == (500 * 10**9, 250 * 10**9, 3)
