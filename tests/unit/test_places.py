"""Roles of processes; which CPUs a server may use, and where they are; what memory modules could carry."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import msgspec
import pytest
from tests.build import T0, cgroup, process, server, thread, vllm
from tests.unit.test_collect_topology import UDEV

from qtop.collect.dimms import parse_dimms
from qtop.model.cpu import ClockView, HostView, MemoryView, QuotaView, SchedView, UsableView
from qtop.model.derive import Deriver
from qtop.model.host import host_view
from qtop.model.memory import memory_view
from qtop.model.places import Place, place_of
from qtop.model.roles import roles_of
from qtop.record.reader import Recording
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    CgroupSample,
    Clocks,
    CpuGroup,
    CpuTimes,
    Dimm,
    HostSample,
    NumaNode,
    Pressure,
    ProcessSample,
    Sample,
    ServerProcs,
    Topology,
    VmStat,
    Why,
)

TOPOLOGY = Topology(
    at=1.0,
    online="0-7",
    nodes=(NumaNode(0, "0-1,4-5"), NumaNode(1, "2-3,6-7"), NumaNode(2, "")),
    packages=2,
    cores=("0,4", "1,5", "2,6", "3,7"),
    smt_active=True,
    governors=(CpuGroup("performance", "0-5"), CpuGroup("powersave", "6-7")),
    preferences=(CpuGroup("power", "0-7"),),
    numa_balancing=1,
)


def titled(pid: int, title: str, comm: str = "") -> ProcessSample:
    return msgspec.structs.replace(process(pid, comm or title[:15], NOT_RECORDED, 100), title=title)


# Roles


@pytest.mark.parametrize(
    ("title", "role", "rank"),
    [
        ("VLLM::EngineCore", "engine", ""),
        ("VLLM::EngineCore_DP1", "engine", "DP1"),
        ("mine::EngineCore_DP12", "engine", "DP12"),
        ("VLLM::APIServer_0", "api", "0"),
        ("VLLM::Worker_TP3", "worker", "TP3"),
        ("VLLM::Worker_PP0_TP1", "worker", "PP0_TP1"),
        ("VLLM::DPCoordinator", "coordinator", ""),
        ("sglang::scheduler", "scheduler", ""),
        ("sglang::scheduler_DP0_PP1_TP0", "scheduler", "DP0_PP1_TP0"),
        ("sglang::detokenizer", "detokenizer", ""),
        ("sglang::tokenizer", "tokenizer", ""),
        ("sglang::data_parallel_controller", "coordinator", ""),
        ("text-generation-router", "router", ""),
        ("text-generation-server serve", "worker", ""),
        ("ollama runner", "runner", ""),
        ("resource_tracker", "helper", ""),
        ("gunicorn", "", ""),
    ],
)
def test_what_a_title_tells(title: str, role: str, rank: str) -> None:
    assert roles_of([process(1, "x", NOT_RECORDED), titled(2, title)], "")[2] == (role, rank)


def test_a_name_that_the_kernel_cut_tells_the_role_and_no_rank() -> None:
    found = roles_of([process(1, "x", NOT_RECORDED), process(2, "VLLM::APIServer", NOT_RECORDED)], "vllm")
    assert found[2] == ("api", "")


def test_with_several_api_servers_the_root_is_none() -> None:
    tree = [titled(1, "vllm serve"), titled(2, "VLLM::EngineCore"), titled(3, "VLLM::APIServer_0")]
    assert roles_of(tree, "vllm")[1] == ("launcher", "")
    assert roles_of(tree[:2], "vllm")[1] == ("api", "")


def test_a_server_in_one_process() -> None:
    assert roles_of([titled(1, "llama-server")], "llamacpp")[1] == ("server", "")
    assert roles_of([titled(1, "ollama serve"), titled(2, "ollama runner")], "ollama")[1] == ("api", "")
    assert roles_of([], "vllm") == {}


def sglang(at: float, wait: float) -> Sample:
    """A tokenizer process that is the root, a scheduler that waits and a detokenizer with a busy thread."""
    scheduler = msgspec.structs.replace(
        process(200, "sglang::schedul", (thread(200, "sglang::schedul", 0.0, wait),), 100),
        title="sglang::scheduler_TP0",
    )
    detokenizer = msgspec.structs.replace(
        process(300, "sglang::detoken", (thread(300, "x", at * 0.9, 0.0), thread(301, "y", 0.0, 0.0)), 100),
        title="sglang::detokenizer",
    )
    root = msgspec.structs.replace(
        process(100, "python3", (thread(100, "python3", 0.0, 0.0),)), title="sglang.launch_server"
    )
    procs = ServerProcs(at=at, processes=(root, scheduler, detokenizer), cgroups={"g": cgroup(at)})
    return Sample(t=T0 + at, server=server("sglang"), procs=procs)


def test_each_thread_knows_its_process_and_only_mains_have_a_role() -> None:
    deriver = Deriver()
    deriver.push(sglang(1.0, 0.0))
    sched = deriver.push(sglang(2.0, 0.5)).sched
    assert isinstance(sched, SchedView)
    rows = {one.tid: (one.role, one.process_role, one.rank, one.process) for one in sched.threads}
    assert rows[200] == ("scheduler", "scheduler", "TP0", "sglang::scheduler_TP0")
    assert rows[300] == ("detokenizer", "detokenizer", "", "sglang::detokenizer")
    assert rows[301] == ("", "detokenizer", "", "sglang::detokenizer")
    assert [one.tid for one in sched.critical] == [200, 100], "the scheduler and the API server, not the busiest"


# Usable CPUs


@pytest.mark.parametrize(
    ("masks", "cpuset", "quota", "wanted"),
    [
        (("0-7",), "0-7", None, UsableView("0-7", 8.0, 4.0, "host")),
        (("0-255",), "0-255", None, UsableView("0-7", 8.0, 4.0, "host")),
        (("0-3",), "0-3", None, UsableView("0-3", 4.0, 4.0, "cpuset")),
        (("0,4",), "0-7", None, UsableView("0,4", 2.0, 1.0, "affinity")),
        (("0,4",), "0-3", None, UsableView("0", 1.0, 1.0, "affinity")),
        (("0", "5"), "0-7", None, UsableView("0,5", 2.0, 2.0, "affinity")),
        (("0-7",), "0-7", 1.5, UsableView("0-7", 1.5, 1.5, "quota")),
        (("0-7",), "0-7", 6.0, UsableView("0-7", 6.0, 4.0, "quota")),
        (("0,4",), "0-7", 6.0, UsableView("0,4", 2.0, 1.0, "affinity")),
    ],
)
def test_usable_is_the_least_of_mask_cpuset_and_quota(
    masks: tuple[str, ...], cpuset: str, quota: float | None, wanted: UsableView
) -> None:
    view = None if quota is None else QuotaView("/g", quota, NOT_YET, NOT_YET)
    assert Place(TOPOLOGY).usable(masks, cgroup(1.0, cpuset=cpuset), view) == wanted


def test_usable_without_a_topology_has_no_cores() -> None:
    found = Place(NOT_RECORDED).usable(["0-3"], NOT_RECORDED, NOT_RECORDED)
    assert isinstance(found, UsableView)
    assert (found.cpus, found.logical) == ("0-3", 4.0) and isinstance(found.cores, Absent)


def test_masks_that_may_not_be_read_are_not_no_cpus() -> None:
    hidden = Absent(Why.DENIED, "hidepid")
    assert Place(TOPOLOGY).usable(["0-3", hidden], NOT_RECORDED, None) == hidden


def sched_of(*samples: Sample) -> SchedView:
    deriver = Deriver()
    for sample in samples:
        found = deriver.push(sample).sched
    assert isinstance(found, SchedView)
    return found


def test_usable_is_what_the_critical_threads_may_use_not_what_their_processes_began_with() -> None:
    found = sched_of(*(vllm(at, at * 0.5, allowed="3", cpuset="0-3") for at in (1.0, 2.0))).usable
    assert isinstance(found, UsableView)
    assert (found.cpus, found.logical, found.limit) == ("3", 1.0, "affinity")


def test_where_a_thread_s_mask_was_not_read_its_process_s_stands_in() -> None:
    found = sched_of(*(vllm(at, at * 0.5, allowed="", cpuset="0-3") for at in (1.0, 2.0))).usable
    assert isinstance(found, UsableView) and found.cpus == "0-3"


def test_a_pinned_server_on_a_real_h100_is_limited_by_its_affinity() -> None:
    """Its processes began on all 16 CPUs; each of its threads was pinned to CPU 3 afterwards."""
    recorded = Recording(Path(__file__).parent.parent / "data/recordings/h100-affinity.qtop").samples()
    found = sched_of(*islice(recorded, 6)).usable
    assert isinstance(found, UsableView)
    assert (found.cpus, found.logical, found.limit) == ("3", 1.0, "affinity")


def test_nodes_of_cpus() -> None:
    place = Place(TOPOLOGY)
    assert (place.nodes, place.cores) == (2, 4)
    assert place.nodes_of([0, 7, -1]) == (0, 1) and place.nodes_of([5]) == (0,)
    assert place.nodes_of([-1]) == NOT_RECORDED
    assert place.cores_of([0, 4, 5]) == 2
    assert Place(Absent(Why.NOT_HERE, "x")).nodes_of([0]) == Absent(Why.NOT_HERE, "x")


def test_a_topology_is_worked_out_once() -> None:
    first = place_of(HostSample(at=1.0, cpus={}, topology=TOPOLOGY))
    assert place_of(HostSample(at=2.0, cpus={}, topology=msgspec.structs.replace(TOPOLOGY, at=9.0))) is first
    other = msgspec.structs.replace(TOPOLOGY, online="0-3")
    assert place_of(HostSample(at=3.0, cpus={}, topology=other)) is not first


# The host


def host(at: float, softirq: tuple[int, int], pages: int = 0) -> HostSample:
    rows = {str(cpu): CpuTimes(0, 0, 0, int(at * 100) - ticks, 0, 0, ticks, 0) for cpu, ticks in enumerate(softirq)}
    whole = CpuTimes(0, 0, 0, int(at * 200) - sum(softirq), 0, 0, sum(softirq), 0)
    return HostSample(
        at=at,
        cpus={"all": whole, **rows},
        swap_total=100,
        swap_free=30,
        vm=VmStat(at, pages, 2 * pages, pages, 3 * pages, pages, page_bytes=4096),
        topology=TOPOLOGY,
        clocks=Clocks(at, "0-2,5", (1000, 2000, 3000, 4000)),
    )


def test_soft_interrupts_swapping_and_balancing() -> None:
    view = host_view(host(1.0, (0, 0)), host(3.0, (20, 100), pages=200))
    assert view.softirq == pytest.approx(120 / 400) and view.softirq_worst == (1, 0.5)
    assert (view.swap_used, view.swap_in_s, view.swap_out_s) == (70, 100 * 4096, 300 * 4096)
    assert (view.migrations_s, view.hint_faults_s, view.major_faults_s) == (100.0, 200.0, 100.0)
    assert (view.nodes, view.packages, view.cores, view.smt, view.numa_balancing) == (2, 2, 4, True, 1)
    assert (view.governor, view.preference) == ("performance 0-5, powersave 6-7", "power")
    assert view.mhz == ClockView(2500.0, 1000.0, 4000.0)


def test_pages_move_in_bursts_and_are_told_over_twenty_seconds() -> None:
    """3 000 pages in one second: for twenty seconds 150 a second, whatever each of them brought."""
    deriver, told = Deriver(), []
    for second in range(1, 52):
        reading = host(float(second), (0, 0), pages=3000 if second >= 22 else 0)
        frame = deriver.push(Sample(t=float(second), host=reading))
        assert isinstance(frame.host, HostView)
        told.append(frame.host.migrations_mean_s)
    assert isinstance(told[0], Absent)
    assert told[1:21] == [0.0] * 20
    assert told[21:41] == [150.0] * 20
    assert told[41:] == [0.0] * 10
    gone = deriver.push(Sample(t=52.0, host=Absent(Why.FAILED, "x")))
    assert isinstance(gone.host, Absent)
    again = deriver.push(Sample(t=53.0, host=host(53.0, (0, 0), pages=9000)))
    assert isinstance(again.host, HostView) and isinstance(again.host.migrations_mean_s, Absent)


def test_an_old_recording_has_none_of_it_and_says_so() -> None:
    bare = HostSample(at=1.0, cpus={"all": CpuTimes(1, 0, 0, 1, 0, 0, 0, 0)})
    view = host_view(bare, msgspec.structs.replace(bare, at=2.0))
    for name in ("nodes", "cores", "smt", "governor", "mhz", "swap_used", "swap_in_s", "migrations_s", "memory"):
        assert getattr(view, name) == NOT_RECORDED, name
    assert isinstance(view, HostView) and isinstance(host_view(None, bare).softirq, Absent)


def test_a_counter_that_begins_anew_is_no_negative_rate() -> None:
    view = host_view(host(1.0, (0, 0), pages=500), host(2.0, (0, 0), pages=3))
    assert isinstance(view.swap_in_s, Absent) and isinstance(view.migrations_s, Absent)


def test_the_server_s_own_pressure_clocks_and_nodes() -> None:
    def sample(at: float) -> Sample:
        running = msgspec.structs.replace(thread(100, "x", at * 0.5, 0.0), processor=5)
        group = msgspec.structs.replace(cgroup(at), pressure=Pressure(int(at * 300_000), int(at * 100_000)), above=True)
        procs = ServerProcs(at=at, processes=(process(100, "x", (running,)),), cgroups={"g": group})
        return Sample(t=T0 + at, server=server("llamacpp"), procs=procs, host=host(at, (0, 0)))

    deriver = Deriver()
    deriver.push(sample(1.0))
    sched = deriver.push(sample(3.0)).sched
    assert isinstance(sched, SchedView)
    assert sched.psi_some == pytest.approx(0.3) and sched.psi_full == pytest.approx(0.1)
    assert sched.nodes == (0,) and sched.mhz == ClockView(4000.0, 4000.0, 4000.0) and sched.quota_above
    assert sched.threads[0].processor == 5
    assert isinstance(sched.usable, UsableView) and sched.usable.limit == "cpuset"


def test_pressure_of_a_cgroup_that_has_none_says_why() -> None:
    group = cgroup(2.0)
    assert isinstance(group, CgroupSample)
    procs = [
        ServerProcs(at=at, processes=(process(100, "x", (thread(100, "x", at, 0.0),)),), cgroups={"g": group})
        for at in (1.0, 2.0)
    ]
    deriver = Deriver()
    for one in procs:
        frame = deriver.push(Sample(t=T0 + one.at, server=server("llamacpp"), procs=one))
    assert isinstance(frame.sched, SchedView) and frame.sched.psi_some == NOT_RECORDED


# Memory modules


def dimms(*names: tuple[str, str]) -> tuple[Dimm, ...]:
    return tuple(Dimm(locator, bank, 1 << 34, "DDR5", 6000, 4800) for locator, bank in names)


def test_two_modules_on_two_channels_below_their_rating() -> None:
    found, slots = parse_dimms(UDEV.read_text())
    view = memory_view(found, slots)
    assert isinstance(view, MemoryView)
    assert (view.modules, view.slots, view.kind, view.channels) == (2, 4, "DDR5", 2)
    assert (view.rated_mts, view.configured_mts) == (5600, 4800)
    assert view.peak_bytes_s == pytest.approx(76.8e9)


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        ((("DIMM 0", "P0 CHANNEL A"), ("DIMM 1", "P0 CHANNEL A")), 1),
        ((("DIMM 0", "P0 CHANNEL A"), ("DIMM 0", "P1 CHANNEL A")), 2),
        ((("DIMM_A1", "BANK 0"), ("DIMM_A2", "BANK 1"), ("DIMM_B1", "BANK 2")), 2),
        ((("ChannelA-DIMM0", "BANK 0"), ("ChannelB-DIMM0", "BANK 2")), 2),
        ((("Controller0-ChannelA-DIMM0", ""), ("Controller1-ChannelA-DIMM0", "")), 2),
        ((("CPU1_DIMM_A1", "NODE 0"), ("CPU2_DIMM_A1", "NODE 1")), 2),
        ((("P1-DIMMA1", "P0_Node0_Channel0_Dimm0"), ("P1-DIMMB1", "P0_Node0_Channel1_Dimm0")), 2),
        ((("A1", "Not Specified"), ("A2", "Not Specified"), ("B1", "Not Specified")), 2),
    ],
)
def test_channels_by_the_names_of_boards(names: tuple[tuple[str, str], ...], channels: int) -> None:
    view = memory_view(dimms(*names), 4)
    assert isinstance(view, MemoryView) and view.channels == channels
    assert view.peak_bytes_s == pytest.approx(channels * 4800e6 * 8)


def test_names_that_tell_no_channel_give_no_bandwidth() -> None:
    view = memory_view(dimms(("DIMM 0", "BANK 0"), ("DIMM 1", "BANK 1")), 2)
    assert isinstance(view, MemoryView)
    assert isinstance(view.channels, Absent) and isinstance(view.peak_bytes_s, Absent)
    assert view.configured_mts == 4800
