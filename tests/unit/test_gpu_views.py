"""GPU samples to views: units, shares, links, memory by owner. Pure functions, no driver."""

from __future__ import annotations

import msgspec
import pytest

from qtop.model.derive import Deriver
from qtop.model.frame import GpuView, VramSplit
from qtop.model.gpu import bandwidth, gpu_views, margin, vram_split
from qtop.model.gpu_link import EFFECTIVE, Link, capacity, rates
from qtop.model.gpu_track import Tracks
from qtop.sample import (
    NOT_RECORDED,
    Absent,
    Gpm,
    GpuFacts,
    GpuProcess,
    GpuSample,
    GpuSection,
    GpuSlow,
    PcieBytes,
    PowerSamples,
    Sample,
    ServerProcs,
    UtilSamples,
    Why,
    Xid,
)
from qtop.sample.types import ProcessSample

GIB = 1 << 30
GONE = Absent(Why.UNSUPPORTED, "not there")
FACTS = GpuFacts(
    arch="Hopper",
    compute="9.0",
    bus_width_bits=5120,
    numa_node=1,
    slowdown_c=89,
    slowdown_tlimit=-2,
    power_default_mw=700_000,
    power_min_mw=200_000,
    power_max_mw=700_000,
    pcie_gen_max=5,
    pcie_width_max=16,
    pcie_gen_device=5,
)
SLOW = GpuSlow(at=0.0, margin_c=48, mem_temp_c=61, ecc_corrected=2, ecc_uncorrected=0, replays=10, mig=False)
GPU = GpuSample(
    at=0.0,
    index=0,
    util=95,
    mem_util=40,
    mem_total=80 * GIB,
    mem_used=70 * GIB,
    mem_reserved=GIB,
    temp_c=52,
    mem_max_mhz=2619,
    pcie_gen=5,
    pcie_width=16,
    pstate=0,
    facts=FACTS,
    slow=SLOW,
)


def why(reading: object) -> Why:
    assert isinstance(reading, Absent), reading
    return reading.why


def change(sample: GpuSample, **fields: object) -> GpuSample:
    return msgspec.structs.replace(sample, **fields)


def view(sample: GpuSample, old: GpuSample | None = None, pids: frozenset[int] | None = None) -> GpuView:
    """The view of one GPU, with the tracks that its two sections leave."""
    tracks = Tracks()
    before = None if old is None else GpuSection(at=old.at, gpus=(old,), xids=())
    if before is not None:
        tracks.push(before)
    section = GpuSection(at=sample.at, gpus=(sample,), xids=())
    return gpu_views(before, section, tracks.push(section), pids)[0]


def test_gpm_shares_are_of_one() -> None:
    seen = view(change(GPU, gpm=Gpm(sm_util=49.0, occupancy=21.5, tensor_util=2.0, dram_util=38.0)))
    assert (seen.sm, seen.occupancy, seen.tensor, seen.dram) == (0.49, 0.215, 0.02, 0.38)
    none = view(change(GPU, gpm=GONE))
    assert none.sm == none.dram == none.pcie_rx_s == GONE
    assert (none.util, none.mem_util) == (0.95, 0.4)


def test_swings_within_the_tick() -> None:
    seen = view(
        change(
            GPU,
            util_samples=UtilSamples(0, 800_000, (99, 12, 98, 70, 99)),
            power_samples=PowerSamples(0, 980_000, 50, 180_500, 300_000, 690_000),
        )
    )
    assert (seen.util_min, seen.util_max) == (0.12, 0.99)
    assert (seen.power_min_w, seen.power_mean_w, seen.power_max_w) == (180.5, 300.0, 690.0)


def test_a_swing_stays_until_it_is_old() -> None:
    tracks = Tracks()
    sampled = change(GPU, util_samples=UtilSamples(0, 0, (12, 99)))
    lows = []
    for t in range(9):
        section = GpuSection(at=float(t), gpus=(change(sampled if t == 0 else GPU, at=float(t)),))
        lows.append(gpu_views(None, section, tracks.push(section))[0].util_min)
    assert lows[:7] == [0.12] * 7
    assert lows[7] == NOT_RECORDED


@pytest.mark.parametrize(
    ("facts", "slow", "expected"),
    [
        (FACTS, SLOW, 50),  # 48 to T.Limit, and the slowdown lies 2 beyond it
        (GpuFacts(slowdown_c=89), SLOW, 48),
        (GpuFacts(slowdown_c=92), GpuSlow(at=0.0, margin_c=GONE), 40),
        (FACTS, GpuSlow(at=0.0, margin_c=-5), -3),
    ],
)
def test_margin_to_the_slowdown(facts: GpuFacts, slow: GpuSlow, expected: int) -> None:
    assert margin(52, facts, slow) == expected


def test_margin_that_nobody_tells() -> None:
    assert margin(52, GpuFacts(slowdown_c=GONE), GpuSlow(at=0.0, margin_c=GONE)) == GONE
    assert margin(GONE, GpuFacts(slowdown_c=92), GpuSlow(at=0.0, margin_c=GONE)) == GONE


@pytest.mark.parametrize(
    ("mhz", "bits", "peak"),
    [(2619, 5120, 3.352e12), (10501, 384, 1.008e12), (1215, 5120, 1.555e12)],  # H100 SXM, RTX 4090 (D), A100 40 GB
)
def test_peak_bandwidth_is_that_of_the_data_sheets(mhz: int, bits: int, peak: float) -> None:
    assert bandwidth(mhz, bits) == pytest.approx(peak, rel=0.001)


def test_pcie_by_gpm() -> None:
    seen = view(change(GPU, gpm=Gpm(pcie_rx=1024.0, pcie_tx=1.0)))
    assert (seen.pcie_rx_s, seen.pcie_tx_s) == (GIB, 1 << 20)
    assert seen.pcie_capacity_s == pytest.approx(3.94e9 * 16 * EFFECTIVE)
    assert seen.pcie_share == pytest.approx(GIB / (3.94e9 * 16 * 0.85))
    assert (seen.pcie, seen.pcie_max, seen.pcie_device) == ("gen5 x16", "gen5 x16", "gen5")


def counted(at: float, rx: int, tx: int, gen: int = 1, width: int = 16) -> GpuSample:
    return change(GPU, at=at, gpm=GONE, pcie_bytes=PcieBytes(at, tx, rx), pcie_gen=gen, pcie_width=width)


def test_pcie_by_counters_where_no_wrap_can_hide() -> None:
    assert rates(counted(0.0, 1000, 0), counted(0.5, 2000, 50)) == (2000.0, 100.0)
    assert rates(counted(0.0, (1 << 32) - 1000, 0), counted(1.0, 500, 0))[0] == 1500.0  # one wrap, and it shows
    assert rates(counted(0.0, 0, 0, gen=3, width=4), counted(1.0, 1, 0, gen=3, width=4))[0] == 1.0


@pytest.mark.parametrize(
    ("gens", "seconds"),
    [((4, 4), 1.0), ((1, 4), 1.0), ((4, 1), 1.0), ((1, 1), 1.1)],  # gen 1 x16 carries 4 GiB in 1.07 s
)
def test_pcie_by_counters_that_may_have_wrapped_unseen(gens: tuple[int, int], seconds: float) -> None:
    received, sent = rates(counted(0.0, 0, 0, gen=gens[0]), counted(seconds, 9, 9, gen=gens[1]))
    assert why(received) is why(sent) is Why.UNSUPPORTED and "wrap" in str(received)


def test_pcie_of_one_reading_or_of_a_recording_without_it() -> None:
    assert why(rates(None, counted(0.0, 1, 1))[0]) is Why.NOT_YET
    assert why(rates(None, GPU)[0]) is Why.NOT_RECORDED
    assert why(capacity(9, 16)) is Why.UNSUPPORTED


def judged(*samples: GpuSample, step: float = 1.0) -> list[object]:
    """What the link is called at each of these samples, ``step`` seconds apart."""
    tracks = Tracks()
    words: list[object] = []
    for number, sample in enumerate(samples):
        at = number * step
        section = GpuSection(at=at, gpus=(change(sample, at=at),))
        word = gpu_views(None, section, tracks.push(section))[0].pcie_judged
        words.append(word.why if isinstance(word, Absent) else word)
    return words


def test_a_link_is_judged_only_after_some_seconds_under_load() -> None:
    narrow = change(GPU, pcie_width=8)
    assert judged(*[narrow] * 5) == [Why.NOT_YET] * 3 + [Link.NARROW] * 2
    slow = change(GPU, pcie_gen=3)
    assert judged(*[slow] * 7) == [Why.NOT_YET] * 5 + [Link.SLOW] * 2
    assert judged(*[GPU] * 6)[-1] == Link.FULL
    slot = change(GPU, facts=msgspec.structs.replace(FACTS, pcie_gen_max=4), pcie_gen=4)
    assert judged(*[slot] * 6)[-1] == Link.SLOT


def test_an_idle_link_is_not_judged() -> None:
    idle = change(GPU, pcie_gen=1, util=3, pstate=8)
    assert set(judged(*[idle] * 10)) == {Why.NOT_YET}
    slow = change(GPU, pcie_gen=1)
    assert judged(*[slow] * 4, idle, *[slow] * 5)[-1] is Why.NOT_YET  # the load was broken
    assert set(judged(*[slow] * 10, step=6.0)) == {Why.NOT_YET}  # nothing is known of what was between
    assert judged(change(GPU, pstate=NOT_RECORDED)) == [Why.NOT_RECORDED]


def test_counters_of_the_slow_readings_use_their_own_time() -> None:
    old = change(GPU, at=5.9)
    new = change(GPU, at=6.0, slow=GpuSlow(at=30.0, replays=16, ecc_corrected=5, ecc_uncorrected=1, mig=True))
    seen = view(new, old)
    assert (seen.replays_min, seen.ecc_corrected_min, seen.ecc_uncorrected_min) == (12.0, 6.0, 2.0)
    assert (seen.ecc_corrected, seen.ecc_uncorrected, seen.mig) == (5, 1, True)
    assert view(change(new, slow=SLOW), change(GPU, at=5.0)).replays_min == Absent(Why.NOT_YET)


def test_replays_keep_their_rate_between_two_slow_readings() -> None:
    tracks = Tracks()
    rate = []
    for t in range(12):
        slow = msgspec.structs.replace(SLOW, at=5.0 * (t // 5), replays=t // 5)
        section = GpuSection(at=float(t), gpus=(change(GPU, at=float(t), slow=slow),))
        rate.append(gpu_views(None, section, tracks.push(section))[0].replays_min)
    assert [isinstance(one, Absent) for one in rate] == [True] * 5 + [False] * 7
    assert rate[5:] == [12.0] * 7


def test_xids_stay_and_name_the_reason_of_a_loss() -> None:
    deriver = Deriver()
    first = GpuSection(at=0.0, gpus=(GPU, change(GPU, index=1)), xids=(Xid(9.0, 1, 63),))
    lost = GpuSection(
        at=1.0, gpus=(change(GPU, at=1.0),), lost={"1": Absent(Why.LOST, "fell off the bus")}, xids=(Xid(9.5, 1, 79),)
    )
    frame = deriver.push(Sample(t=100.0, gpu=first))
    assert isinstance(frame.gpus, tuple)
    assert (frame.gpus[0].xids, frame.gpus[1].xids) == ((), (Xid(9.0, 1, 63),))
    frame = deriver.push(Sample(t=101.0, gpu=lost))
    assert frame.gpus_lost["1"] == Absent(Why.LOST, "fell off the bus (Xid 79)")
    frame = deriver.push(Sample(t=102.0, gpu=GONE))
    back = GpuSection(at=9.0, gpus=(change(GPU, index=1, at=9.0),), xids=GONE)
    frame = deriver.push(Sample(t=103.0, gpu=back))
    assert isinstance(frame.gpus, tuple)
    assert frame.gpus[0].xids == (Xid(9.0, 1, 63), Xid(9.5, 1, 79))


def test_memory_by_owner_adds_up() -> None:
    held = (GpuProcess(10, 60 * GIB), GpuProcess(11, 4 * GIB), GpuProcess(99, 5 * GIB, "graphics", "Xorg"))
    split = vram_split(change(GPU, processes=held), frozenset({10, 11}))
    assert split == VramSplit(server=64 * GIB, others=6 * GIB, free=9 * GIB, reserved=GIB)
    other = vram_split(change(GPU, processes=held), frozenset({1}))
    assert isinstance(other, VramSplit)
    assert why(other.server) is Why.NOT_HERE  # 1 GiB is held by nobody who is listed


@pytest.mark.parametrize(
    ("processes", "pids", "expected"),
    [
        ((GpuProcess(10, GONE),), frozenset({10}), Why.UNSUPPORTED),
        ((), frozenset({10}), Why.NOT_HERE),  # 70 GiB are used, and nobody is listed: a container
        ((GpuProcess(10, GIB),), None, Why.NOT_YET),
        (Absent(Why.DENIED, "no"), frozenset({10}), Why.DENIED),
    ],
)
def test_memory_whose_owner_cannot_be_told(
    processes: tuple[GpuProcess, ...] | Absent, pids: frozenset[int] | None, expected: Why
) -> None:
    split = vram_split(change(GPU, processes=processes), pids)
    assert isinstance(split, VramSplit)
    assert why(split.server) is why(split.others) is expected
    assert (split.free, split.reserved) == (9 * GIB, GIB)


def test_a_gpu_that_the_server_does_not_use() -> None:
    busy = change(GPU, mem_used=6 * GIB, processes=(GpuProcess(99, 6 * GIB, comm="other"),))
    assert vram_split(busy, frozenset({10})) == VramSplit(0, 6 * GIB, 73 * GIB, GIB)


def test_a_process_without_a_name_here_may_be_the_server() -> None:
    inside = change(GPU, mem_used=70 * GIB, processes=(GpuProcess(4242, 70 * GIB),))
    split = vram_split(inside, frozenset({10}))
    assert isinstance(split, VramSplit) and isinstance(split.server, Absent) and isinstance(split.others, Absent)
    assert split.server.why is Why.NOT_HERE


def test_the_server_is_known_by_its_process_tree() -> None:
    root = ProcessSample(pid=10, start_ticks=1, ppid=1, comm="x", cpu_ticks=0, rss_bytes=0, threads=GONE)
    sample = Sample(
        t=1.0,
        procs=ServerProcs(at=1.0, processes=(root,)),
        gpu=GpuSection(at=1.0, gpus=(change(GPU, processes=(GpuProcess(10, 69 * GIB),)),)),
    )
    frame = Deriver().push(sample)
    assert isinstance(frame.gpus, tuple)
    split = frame.gpus[0].vram
    assert isinstance(split, VramSplit) and split.server == 69 * GIB


def test_an_old_recording_has_views_too() -> None:
    old = msgspec.json.decode(b'{"at":1.0,"gpus":[{"at":1.0,"index":0,"util":31,"processes":[[7,9]]}],"type":"gpus"}',
                              type=GpuSection | Absent)  # fmt: skip
    assert isinstance(old, GpuSection) and old.gpus[0].processes == (GpuProcess(7, 9, "compute", ""),)
    seen = gpu_views(None, old)[0]
    assert seen.util == 0.31
    absent = (seen.sm, seen.margin_c, seen.pstate, seen.pcie_max, seen.mig, seen.bandwidth, seen.xids, seen.arch)
    assert {why(reading) for reading in absent} == {Why.NOT_RECORDED}


def test_a_section_travels_through_a_recording_unchanged() -> None:
    full = change(
        GPU,
        gpm=Gpm(sm_util=49.0, dram_util=GONE),
        util_samples=UtilSamples(1, 2, (3, 4)),
        power_samples=PowerSamples(1, 2, 3, 4, 5, 6),
        pcie_bytes=PcieBytes(1.0, 2, GONE),
        processes=(GpuProcess(1, GONE, "mps", "x"),),
    )
    section = GpuSection(at=1.0, gpus=(full,), xids=(Xid(2.0, 0, 79),))
    raw = msgspec.json.encode(Sample(t=1.0, gpu=section))
    assert msgspec.json.decode(raw, type=Sample).gpu == section
