"""The rules of the GPU, QT101 to QT131: just below and above each threshold, cannot tell for what is absent, and what
looks like the finding and is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from qtop.diagnose.engine import Finding, Tracker
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Answer, CannotTell, NotApplicable, Observed, Severity, State
from qtop.diagnose.rules.xid import MEANINGS, meaning
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame, GpuView, VramSplit
from qtop.model.gpu_held import held
from qtop.model.gpu_link import IDLE, Link
from qtop.model.gpu_sharing import ALONE, NO_SERVER, UNLISTED, shared_by
from qtop.model.gpu_view import OtherProcess
from qtop.model.settings import SettingsView
from qtop.record.convert import import_trace
from qtop.record.reader import Recording
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    GpuProcess,
    GpuSample,
    GpuSection,
    ProcessUse,
    Sample,
    ServerInfo,
    Setting,
    Why,
    Xid,
)

ROOT = Path(__file__).parent.parent
GIB, MIB = 1 << 30, 1 << 20
NO = Absent(Why.UNSUPPORTED, "not told")
LOST = Absent(Why.LOST, "the GPU fell off the bus; the kernel log (Xid) says why (Xid 79)")
SERVER = ServerInfo(url="http://127.0.0.1:8000", engine="vllm", version="0.32.0", pid=100)
RUNS = EngineView(
    running=8.0,
    waiting=0.0,
    kv_use=0.3,
    preempt_s=0.0,
    gen_tok_s=1400.0,
    prompt_tok_s=100.0,
    steps_s=180.0,
    finished_s=4.0,
    itl_ms=5.0,
    scrape_ms=5.0,
)
NAMES = ("power_cap", "sw_thermal", "hw_thermal", "power_brake", "hw_slowdown")
H100 = GpuView(
    index=0,
    name="NVIDIA H100 80GB HBM3",
    util=0.99,
    mem_used=70 * GIB,
    mem_total=80 * GIB,
    temp_c=56,
    power_w=495.0,
    power_limit_w=700.0,
    sm_mhz=1980,
    sm_max_mhz=1980,
    mem_mhz=2619,
    reasons=(),
    duty=dict.fromkeys(NAMES[:4], 0.0),
    pcie="gen5 x16",
    gpm=NOT_YET,
    processes=(),
    local_cpus="0-7",
    sm=0.64,
    tensor=0.18,
    dram=0.50,
    power_default_w=700.0,
    pcie_max="gen5 x16",
    pcie_device="gen5",
    pcie_judged=Link.FULL,
    pcie_rx_s=17e6,
    pcie_tx_s=7e6,
    pcie_capacity_s=53.6e9,
    pcie_share=0.001,
    replays_min=0.0,
    ecc_corrected=2,
    ecc_uncorrected=0,
    ecc_corrected_min=0.0,
    ecc_uncorrected_min=0.0,
    xids=(),
    vram=VramSplit(69 * GIB, GIB, 10 * GIB, 0),
    duty_window={"power_cap": 0.1},
    duty_window_s=30.0,
    held=dict.fromkeys(NAMES, 0.0),
    others=(),
)
NOTEBOOK = OtherProcess(77, "jupyter", "compute", GIB, 0.0)
MATMUL = OtherProcess(78, "python3", "compute", GIB, 0.53)


def gpu(**changes: Any) -> GpuView:
    return replace(H100, **changes)


def frame(*gpus: GpuView, t: float = 1000.0, engine: EngineView | Absent = RUNS, **more: Any) -> Frame:
    return Frame(t=t, dt=1.0, server=more.pop("server", SERVER), engine=engine, gpus=gpus or (H100,), **more)


def look(rule: str, seen: Frame) -> Answer:
    return BY_ID[rule].look(seen)


def value(rule: str, *gpus: GpuView, **more: Any) -> float:
    answer = look(rule, frame(*gpus, **more))
    assert isinstance(answer, Observed), answer
    return answer.value


def impact(rule: str, *gpus: GpuView, **more: Any) -> float:
    answer = look(rule, frame(*gpus, **more))
    assert isinstance(answer, Observed), answer
    return answer.impact


class Play:
    """One rule over seconds that go on."""

    def __init__(self, rule: str) -> None:
        self._tracker, self._t = Tracker(BY_ID[rule]), 1000.0

    def seconds(self, many: int, *gpus: GpuView, **more: Any) -> Finding:
        finding = None
        for _ in range(many):
            finding = self._tracker.push(frame(*gpus, t=self._t, **more))
            self._t += 1.0
        assert finding is not None
        return finding


def after(rule: str, seconds: int, *gpus: GpuView, **more: Any) -> Finding:
    """The finding once these GPUs have been so for so many seconds."""
    return Play(rule).seconds(seconds, *gpus, **more)


IDS = [rule for rule in BY_ID if rule.startswith("QT1")]


def test_all_of_them_are_there() -> None:
    assert len(IDS) == 14


@pytest.mark.parametrize("rule", IDS)
def test_a_healthy_gpu_is_clear_and_no_gpu_is_no_matter(rule: str) -> None:
    assert after(rule, 30, H100).state is State.CLEAR
    assert look(rule, replace(frame(), gpus=())) == NotApplicable("no GPU")
    none = replace(frame(), gpus=Absent(Why.UNSUPPORTED, "no NVIDIA driver"))
    assert look(rule, none) == NotApplicable("no NVIDIA driver")
    assert isinstance(look(rule, replace(frame(), gpus=Absent(Why.LOST, "the driver is not loaded"))), CannotTell)


@pytest.mark.parametrize(
    ("rule", "absent"),
    [
        ("QT101", {"held": {}}),
        ("QT102", {"held": {}}),
        ("QT103", {"held": {}}),
        ("QT110", {"held": {}, "duty_window": {}}),
        ("QT111", {"pcie_judged": IDLE}),
        ("QT112", {"pcie_share": NO}),
        ("QT113", {"replays_min": NOT_YET}),
        ("QT114", {"xids": NO}),
        ("QT115", {"ecc_corrected_min": NOT_YET, "ecc_uncorrected_min": NOT_YET}),
        ("QT120", {"vram": NO}),
        ("QT121", {"others": NO_SERVER}),
        ("QT121", {"others": (replace(NOTEBOOK, sm=NO),)}),
        ("QT130", {"dram": NO}),
        ("QT131", {"sm": NO, "tensor": NO}),
    ],
)
def test_absent_input_is_cannot_tell(rule: str, absent: dict[str, Any]) -> None:
    assert isinstance(look(rule, frame(gpu(**absent))), CannotTell)


@pytest.mark.parametrize("rule", ["QT120", "QT121", "QT130", "QT131"])
def test_without_a_server_there_is_nothing_to_hold_back(rule: str) -> None:
    gone = Absent(Why.LOST, "No LLM server found on this host")
    assert isinstance(look(rule, frame(server=gone, engine=gone)), CannotTell)


# Heat and brake


@pytest.mark.parametrize(
    ("rule", "name", "below", "at", "severity"),
    [
        ("QT101", "sw_thermal", 0.4, 0.5, Severity.WARNING),
        ("QT102", "hw_thermal", 0.9, 1.0, Severity.CRITICAL),
        ("QT103", "power_brake", 0.9, 1.0, Severity.CRITICAL),
    ],
)
def test_clock_limits(rule: str, name: str, below: float, at: float, severity: Severity) -> None:
    assert after(rule, 5, gpu(held={name: below})).state is State.CLEAR
    play = Play(rule)
    finding = play.seconds(1, gpu(held={name: at}, sm_mhz=990))
    assert (finding.state, finding.severity) == (State.FIRING, severity)
    assert play.seconds(4).state is State.FIRING
    assert play.seconds(2).state is State.CLEAR


def test_what_heat_costs_is_the_clock_that_is_lost() -> None:
    assert impact("QT101", gpu(held={"sw_thermal": 5.0}, sm_mhz=1485)) == pytest.approx(0.5 * 0.25)
    assert impact("QT102", gpu(held={"hw_thermal": 5.0}, sm_mhz=1980)) == pytest.approx(0.5 * 0.5)
    assert impact("QT101", gpu(held={"sw_thermal": 5.0}, sm_mhz=1485, util=0.0)) == 0.0


def test_the_hottest_of_several_gpus_counts_and_one_that_does_not_tell_hides_nothing() -> None:
    assert value("QT101", gpu(held={}), gpu(index=1, held={"sw_thermal": 3.0})) == pytest.approx(0.3)


def test_a_general_slowdown_bit_is_heat_unless_a_brake_stands_beside_it_or_a_counter_says_no() -> None:
    no_counter = {"power_cap": 0.0, "sw_thermal": 0.0, "hw_thermal": NO, "power_brake": NO}
    bits = {"hw_thermal": 0.0, "hw_slowdown": 4.0, "power_brake": 0.0}
    assert value("QT102", gpu(held=bits, duty=no_counter)) == pytest.approx(0.4)
    assert value("QT102", gpu(held={**bits, "power_brake": 4.0}, duty=no_counter)) == 0.0
    assert value("QT102", gpu(held=bits)) == 0.0


def sample(at: float, reasons: int = 0, **ns: int) -> GpuSample:
    return GpuSample(at=at, index=0, reasons=reasons, reason_ns=dict(ns))


def test_seconds_held_are_counted_where_there_is_a_counter_and_else_by_bits_at_two_readings() -> None:
    window = [sample(float(t), 0x24 if t in (3, 4, 5, 9) else 1, power_cap=t * 250_000_000) for t in range(12)]
    seconds = held(window)
    assert seconds["power_cap"] == pytest.approx(2.5)
    assert seconds["sw_thermal"] == pytest.approx(2.0)  # 3 to 5; a single reading is none
    assert seconds["hw_thermal"] == 0.0
    old = [sample(float(t), 0x20) for t in range(40)]
    assert held(old)["sw_thermal"] == pytest.approx(10.0)
    assert held(window[:1])["power_cap"] == NOT_YET
    none = [GpuSample(at=float(t), index=0) for t in range(3)]
    assert held(none)["power_cap"] == NOT_RECORDED


# Loss


def test_a_lost_gpu_is_critical_at_once_and_a_denied_one_is_not_lost() -> None:
    finding = after("QT104", 1, gpus_lost={"1": LOST})
    assert (finding.state, finding.severity) == (State.FIRING, Severity.CRITICAL)
    assert "GPU 1 LOST" in finding.headline and "Xid 79" in finding.headline
    assert value("QT104", gpus_lost={"1": Absent(Why.DENIED, "no permission")}) == 0.0


def test_a_lost_gpu_of_another_server_costs_this_one_nothing() -> None:
    assert impact("QT104", gpus_lost={"1": LOST}) == 0.0
    stuck = replace(RUNS, gen_tok_s=0.0, prompt_tok_s=0.0)
    assert impact("QT104", gpus_lost={"1": LOST}, engine=stuck) == 1.0
    for engine, expected in ((RUNS, 0.0), (replace(RUNS, gen_tok_s=0.0, running=0.0), 1.0), (NO, 1.0)):
        answer = look("QT104", replace(frame(gpus_lost={"0": LOST}, engine=engine), gpus=()))
        assert isinstance(answer, Observed) and answer.impact == expected


# Power


def test_a_power_cap_is_info_and_no_more() -> None:
    assert after("QT110", 20, gpu(duty_window={"power_cap": 0.29})).state is State.CLEAR
    assert after("QT110", 7, gpu(duty_window={"power_cap": 0.99})).state is not State.FIRING
    finding = after("QT110", 60, gpu(duty_window={"power_cap": 0.99}))
    assert (finding.state, finding.severity) == (State.FIRING, Severity.INFO)
    assert "lowered" not in finding.headline
    low = after("QT110", 20, gpu(duty_window={"power_cap": 0.99}, power_limit_w=350.0))
    assert "lowered it from 700 W" in low.headline


def test_without_a_counter_the_power_cap_is_told_by_bits() -> None:
    assert value("QT110", gpu(duty_window={"power_cap": NO}, held={"power_cap": 6.0})) == pytest.approx(0.6)


# The link


@pytest.mark.parametrize(
    ("link", "state", "severity"),
    [
        (Link.NARROW, State.FIRING, Severity.WARNING),
        (Link.SLOW, State.FIRING, Severity.WARNING),
        (Link.SLOT, State.FIRING, Severity.INFO),
        (Link.FULL, State.CLEAR, None),
    ],
)
def test_links(link: Link, state: State, severity: Severity | None) -> None:
    finding = after("QT111", 4, gpu(pcie_judged=link, pcie="gen4 x4"))
    assert finding.state is state
    assert severity is None or finding.severity is severity


def test_an_idle_link_is_not_judged() -> None:
    finding = after("QT111", 20, gpu(pcie_judged=IDLE, pcie="gen1 x16", util=0.0))
    assert finding.state is State.CANNOT_TELL and "idle" in finding.reason


def test_a_link_is_saturated_after_five_seconds_and_free_below_sixty_percent() -> None:
    assert after("QT112", 30, gpu(pcie_share=0.79)).state is State.CLEAR
    assert after("QT112", 4, gpu(pcie_share=0.85)).state is not State.FIRING
    play = Play("QT112")
    assert play.seconds(5, gpu(pcie_share=0.85)).state is State.FIRING
    assert play.seconds(20, gpu(pcie_share=0.65)).state is State.FIRING
    assert play.seconds(9, gpu(pcie_share=0.55)).state is State.FIRING
    assert play.seconds(2, gpu(pcie_share=0.55)).state is State.CLEAR


def settings(**values: str) -> SettingsView:
    return SettingsView({"memory": tuple(Setting(name, one, "command line") for name, one in values.items())})


@pytest.mark.parametrize(
    ("values", "others", "word", "costs"),
    [
        ({"cpu_offload_gb": "20"}, (), "--cpu-offload-gb 20", True),
        ({"cpu_offload_gb": "0", "kv_offloading_size": "8"}, (), "--kv-offloading-size 8", True),
        ({"tensor_parallel_size": "2"}, (), "--tensor-parallel-size 2", True),
        ({"tensor_parallel_size": "1", "kv_offloading_size": "none"}, (MATMUL,), "python3 (78)", False),
        ({}, (), "not known", False),
    ],
)
def test_by_whom_the_link_is_saturated(
    values: dict[str, str], others: tuple[OtherProcess, ...], word: str, costs: bool
) -> None:
    busy = gpu(pcie_share=0.9, others=others)
    answer = look("QT112", frame(busy, settings=settings(**values)))
    assert isinstance(answer, Observed)
    assert word in answer.told.headline
    assert (answer.impact > 0) is costs


def test_replays_need_three_readings_out_of_four() -> None:
    play = Play("QT113")
    bad, good = gpu(replays_min=12.0), gpu()
    assert play.seconds(5, bad).state is not State.FIRING
    play.seconds(15, good)
    assert play.seconds(10, bad).state is not State.FIRING
    assert play.seconds(5, bad).state is State.FIRING


# Errors


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        (79, Severity.CRITICAL),
        (48, Severity.CRITICAL),
        (74, Severity.CRITICAL),
        (147, Severity.CRITICAL),
        (119, Severity.CRITICAL),
        (13, Severity.WARNING),
        (31, Severity.WARNING),
        (63, Severity.WARNING),
        (94, Severity.WARNING),
        (999, Severity.WARNING),
        (45, Severity.INFO),
    ],
)
def test_xids_by_class(code: int, severity: Severity) -> None:
    finding = after("QT114", 1, gpu(xids=(Xid(999.0, 0, code),)))
    assert (finding.state, finding.severity) == (State.FIRING, severity)
    assert f"Xid {code}" in finding.headline and meaning(code).words in finding.headline
    assert len(MEANINGS) > 30


def test_an_xid_speaks_for_five_minutes() -> None:
    old = gpu(xids=(Xid(690.0, 0, 79),))
    assert value("QT114", old) == 0.0
    assert value("QT114", old, t=989.0) == 3.0
    both = gpu(xids=(Xid(990.0, 0, 79), Xid(995.0, 0, 45)))
    answer = look("QT114", frame(both))
    assert isinstance(answer, Observed) and "Xid 79" in answer.told.headline


def test_an_xid_explains_a_server_only_where_it_stands_still() -> None:
    bad = gpu(xids=(Xid(999.0, 0, 119),))
    assert impact("QT114", bad) == pytest.approx(0.1)  # it slows nothing, and may make answers wrong
    assert impact("QT114", bad, engine=replace(RUNS, gen_tok_s=0.0, prompt_tok_s=0.0)) == 1.0
    assert impact("QT114", bad, engine=Absent(Why.LOST, "no answer")) == 1.0


def test_ecc() -> None:
    assert after("QT115", 1, gpu(ecc_uncorrected_min=12.0)).severity is Severity.CRITICAL
    assert after("QT115", 30, gpu(ecc_corrected_min=59.0)).state is State.CLEAR
    assert after("QT115", 12, gpu(ecc_corrected_min=61.0)).state is not State.FIRING
    finding = after("QT115", 14, gpu(ecc_corrected_min=61.0))
    assert (finding.state, finding.severity) == (State.FIRING, Severity.WARNING)
    assert value("QT115", gpu(ecc_corrected_min=1e9)) < 2.0
    assert isinstance(look("QT115", frame(gpu(ecc_corrected_min=NO, ecc_uncorrected_min=NO))), NotApplicable)


def test_an_uncorrected_error_stands_for_two_minutes() -> None:
    play = Play("QT115")
    play.seconds(5, gpu(ecc_uncorrected_min=12.0))
    assert play.seconds(119).state is State.FIRING
    assert play.seconds(2).state is State.CLEAR


# Memory


def free(mib: float, server: int | Absent = 69 * GIB, **more: Any) -> GpuView:
    return gpu(vram=VramSplit(server, GIB, int(mib * MIB), 0), **more)


def test_vram_is_full_when_little_is_free_not_when_much_is_used() -> None:
    assert after("QT120", 30, free(301)).state is State.CLEAR
    assert after("QT120", 8, free(290)).state is not State.FIRING
    assert after("QT120", 10, free(290)).severity is Severity.WARNING
    assert after("QT120", 3, free(120)).severity is Severity.CRITICAL
    play = Play("QT120")
    play.seconds(10, free(290))
    assert play.seconds(20, free(590)).state is State.FIRING
    assert play.seconds(6, free(610)).state is State.CLEAR


def test_vram_by_whom() -> None:
    def headline(seen: GpuView) -> str:
        answer = look("QT120", frame(seen))
        assert isinstance(answer, Observed)
        return answer.told.headline

    assert "jupyter (77) holds 1.0 GiB" in headline(free(100, others=(NOTEBOOK,)))
    assert "the server holds 69.0 GiB itself: lower --gpu-memory-utilization" in headline(free(100))
    assert "does not say" in headline(free(100, server=UNLISTED, others=UNLISTED))


# Others on the GPU


def test_an_idle_notebook_is_no_finding_and_one_that_computes_is() -> None:
    assert after("QT121", 60, gpu(others=(NOTEBOOK,), server_sm=0.99)).state is State.CLEAR
    assert after("QT121", 60, gpu(others=(replace(MATMUL, sm=0.09),), server_sm=0.9)).state is State.CLEAR
    assert after("QT121", 7, gpu(others=(MATMUL,), server_sm=0.47)).state is not State.FIRING
    finding = after("QT121", 8, gpu(others=(MATMUL, NOTEBOOK), server_sm=0.47))
    assert (finding.state, finding.severity) == (State.FIRING, Severity.CRITICAL)
    assert finding.impact == pytest.approx(0.53)
    assert "python3 (78)" in finding.headline and "and" not in finding.headline.split("computes")[0]
    assert after("QT121", 8, gpu(others=(replace(MATMUL, sm=0.12),), server_sm=0.8)).severity is Severity.WARNING


def test_another_process_takes_nothing_from_a_server_without_requests() -> None:
    idle = replace(RUNS, running=0.0, gen_tok_s=0.0, steps_s=0.0)
    assert value("QT121", gpu(others=(MATMUL,), server_sm=0.0), engine=idle) == 0.0


def test_what_the_driver_does_not_tell_is_not_clear() -> None:
    answer = look("QT121", frame(gpu(others=(replace(MATMUL, sm=NO),))))
    assert isinstance(answer, CannotTell) and "python3 (78)" in answer.reason
    # a driver whose counters say of nobody that he works, while the GPU does
    assert isinstance(look("QT121", frame(gpu(others=(NOTEBOOK,), server_sm=0.0))), CannotTell)
    # what holds less than a context cannot compute
    assert value("QT121", gpu(others=(replace(MATMUL, sm=NO, bytes=4096),))) == 0.0


def test_processes_are_told_apart_by_pid() -> None:
    listed = (GpuProcess(5, 60 * GIB, "compute", "VLLM::EngineCor"), GpuProcess(6, GIB), GpuProcess(7, 2 * GIB))
    shared = GpuSample(at=1.0, index=0, mem_used=64 * GIB, processes=listed)
    use = (ProcessUse(5, 40.0), ProcessUse(6, 55.0))
    others, server = shared_by(shared, frozenset({5}), use)
    assert isinstance(others, tuple)
    assert [(one.pid, one.sm) for one in others] == [(6, 0.55), (7, 0.0)] and server == pytest.approx(0.4)
    assert shared_by(shared, None, use) == (NO_SERVER, NO_SERVER)
    assert shared_by(shared, frozenset({99}), use) == (UNLISTED, UNLISTED)
    assert shared_by(shared, frozenset({5, 6, 7}), NOT_RECORDED) == ((), ALONE)
    others, server = shared_by(shared, frozenset({5}), NO)
    assert isinstance(others, tuple) and all(one.sm == NO for one in others) and server == NO


def test_use_by_process_stands_until_the_next_reading() -> None:
    deriver = Deriver()
    seen = []
    for t in range(20):
        use = (ProcessUse(5, 40.0), ProcessUse(6, 55.0)) if t == 5 else NOT_RECORDED
        one = GpuSample(
            at=float(t),
            index=0,
            mem_used=GIB,
            processes=(GpuProcess(5, GIB, "compute", "a"), GpuProcess(6, GIB, "compute", "b")),
            process_use=use,
        )
        gpus = deriver.push(Sample(t=float(t), gpu=GpuSection(at=float(t), gpus=(one,)))).gpus
        assert isinstance(gpus, tuple)
        seen.append(deriver._tracks._by_index[0].use)
    assert [t for t, use in enumerate(seen) if isinstance(use, tuple)] == [5, 6, 7, 8, 9, 10, 11]


def test_the_other_process_of_a_real_h100_is_the_verdict(tmp_path: Path) -> None:
    import_trace(ROOT / "data/traces/power_side.jsonl.xz", tmp_path / "t.qtop")
    deriver, tracker = Deriver(), Tracker(BY_ID["QT121"])
    findings = [tracker.push(deriver.push(one)) for one in Recording(tmp_path / "t.qtop").samples()]
    assert findings[-1].state is State.FIRING and 0.3 < findings[-1].impact < 0.7


# The good limits


def test_memory_bandwidth_measured_and_inferred() -> None:
    assert after("QT130", 30, gpu(dram=0.69)).state is State.CLEAR
    finding = after("QT130", 9, gpu(dram=0.71))
    assert (finding.state, finding.severity) == (State.FIRING, Severity.INFO)
    assert "inferred" not in finding.headline
    inferred = after("QT130", 10, gpu(dram=NO), dram_inferred=0.8)
    assert inferred.state is State.FIRING and "inferred" in inferred.headline
    play = Play("QT130")
    play.seconds(10, gpu(dram=0.8))
    assert play.seconds(40, gpu(dram=0.6)).state is State.FIRING
    assert play.seconds(21, gpu(dram=0.5)).state is State.CLEAR


def test_a_part_of_a_gpu_has_a_part_of_its_bandwidth() -> None:
    assert isinstance(look("QT130", frame(gpu(dram=NO, mig=True), dram_inferred=0.3)), CannotTell)


def test_what_is_done_already_is_not_proposed() -> None:
    answer = look("QT130", frame(gpu(dram=0.8), settings=settings(quantization="fp8", kv_cache_dtype="fp8_e4m3")))
    assert isinstance(answer, Observed)
    assert "quantised" not in answer.told.headline and "fp8 KV" not in answer.told.headline


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({"sm": 0.89}, False),
        ({"sm": 0.91}, True),
        ({"tensor": 0.59}, False),
        ({"tensor": 0.61}, True),
        ({"sm": 0.71, "duty_window": {"power_cap": 0.95}}, True),
        ({"sm": 0.60, "duty_window": {"power_cap": 0.95}}, False),
        ({"sm": NO, "tensor": NO, "util": 1.0, "duty_window": {"power_cap": 0.95}}, True),
        ({"sm": NO, "tensor": NO, "util": 0.5, "duty_window": {"power_cap": 0.95}}, False),
    ],
)
def test_the_gpu_at_its_limit(changes: dict[str, Any], fires: bool) -> None:
    finding = after("QT131", 20, gpu(**changes))
    assert finding.state is (State.FIRING if fires else State.CLEAR)
    assert finding.state is not State.FIRING or finding.severity is Severity.INFO


def test_a_limit_is_none_of_an_idle_server() -> None:
    idle = replace(RUNS, running=0.0)
    assert value("QT130", gpu(dram=0.9), engine=idle) == value("QT131", gpu(sm=0.99), engine=idle) == 0.0


@pytest.mark.parametrize("rule", IDS)
def test_headlines_are_short_and_begin_in_capitals(rule: str) -> None:
    bad = gpu(
        held=dict.fromkeys(NAMES, 9.0),
        duty_window={"power_cap": 0.99},
        pcie_judged=Link.NARROW,
        pcie_share=0.99,
        replays_min=120.0,
        xids=(Xid(999.0, 0, 95),),
        ecc_uncorrected_min=12.0,
        ecc_uncorrected=3,
        vram=VramSplit(69 * GIB, GIB, 100 * MIB, 0),
        others=(MATMUL,),
        server_sm=0.4,
        dram=0.85,
        sm=0.99,
    )
    answer = look(rule, frame(bad, gpus_lost={"3": LOST}, settings=settings(cpu_offload_gb="20")))
    assert isinstance(answer, Observed) and answer.value > 0
    headline = answer.told.headline
    assert len(headline) <= 125, len(headline)
    assert sum(word.isupper() for word in headline.split()[:4]) >= 2, headline
    assert answer.told.evidence
