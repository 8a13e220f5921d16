"""What the collector reads of GPUs of several generations while a scenario plays."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.fakes.nvml_fixture import FakeNvml, Value, a100, hopper, rtx4090d
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence
from tests.fakes.nvml_reader import Reader, why
from tests.fakes.nvml_reader import reader as _reader  # noqa: F401

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
    ProcessUse,
    UtilSamples,
    Why,
    Xid,
)

Start = Callable[[], Reader]
Make = Callable[..., dict[str, Value]]


class Play:
    """A reader whose clock and the scenario's move together."""

    def __init__(self, fake: FakeNvml, reader: Reader) -> None:
        self._fake, self._reader = fake, reader

    def at(self, t: float) -> GpuSection:
        self._fake.set(clock=t)
        return self._reader.section(t)

    def gpu(self, t: float) -> GpuSample:
        return self.at(t).gpus[0]


@pytest.fixture
def play(fake_nvml: FakeNvml, reader: Start) -> Play:
    return Play(fake_nvml, reader())


def gpm_of(gpu: GpuSample) -> Gpm:
    assert isinstance(gpu.gpm, Gpm), gpu.gpm
    return gpu.gpm


def facts_of(gpu: GpuSample) -> GpuFacts:
    assert isinstance(gpu.facts, GpuFacts), gpu.facts
    return gpu.facts


def slow_of(gpu: GpuSample) -> GpuSlow:
    assert isinstance(gpu.slow, GpuSlow), gpu.slow
    return gpu.slow


def test_gpm_is_the_pair_of_this_tick_and_the_one_before(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, log=1, **hopper(0, **{"gpm.2": "steps 1 10 20 30"}))
    assert why(play.gpu(0.0).gpm) is Why.NOT_YET
    before = len(fake_nvml.calls())
    gpm = gpm_of(play.gpu(1.0))
    assert (gpm.sm_util, gpm.occupancy, gpm.tensor_util, gpm.dram_util) == (20.0, 21.5, 2.0, 38.25)
    assert (gpm.pcie_tx, gpm.pcie_rx, gpm.graphics_util) == (7.0, 17.0, 90.5)
    calls = fake_nvml.calls()[before:]
    assert calls.count("nvmlGpmSampleGet") == 1
    assert gpm_of(play.gpu(2.0)).sm_util == 30.0  # the fake refuses a pair that is the wrong way round


def test_gpm_samples_that_are_too_near_are_not_taken(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, log=1, **hopper(0, **{"gpm.2": "ramp 0 10"}))
    play.at(0.0)
    first = gpm_of(play.gpu(1.0))
    assert gpm_of(play.gpu(1.05)) == first
    assert gpm_of(play.gpu(2.0)).sm_util == 20.0


def test_gpm_metrics_fail_each_on_its_own(fake_nvml: FakeNvml, play: Play) -> None:
    changes: dict[str, Value] = {"gpm.10": "nan", "error.gpm.5": 3, "error.gpm.20": 4}
    fake_nvml.set(count=1, **hopper(0, **changes))
    play.at(0.0)
    gpm = gpm_of(play.gpu(1.0))
    assert why(gpm.dram_util) is Why.NOT_YET
    assert why(gpm.tensor_util) is Why.UNSUPPORTED
    assert why(gpm.pcie_tx) is Why.DENIED
    assert gpm.sm_util == 49.0
    fake_nvml.set(**{"0.gpm.10": 15})
    assert gpm_of(play.gpu(2.0)).dram_util == 15.0


def test_a_failed_gpm_sample_breaks_the_pair_only(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **hopper(0))
    play.at(0.0)
    fake_nvml.set(**{"0.error.gpm_sample": 999})
    assert play.gpu(1.0).gpm == Absent(Why.FAILED, "NVML: Unknown Error")
    fake_nvml.set(**{"0.error.gpm_sample": None})
    assert why(play.gpu(2.0).gpm) is Why.NOT_YET
    assert gpm_of(play.gpu(3.0)).sm_util == 49.0


@pytest.mark.parametrize("make", [a100, rtx4090d])
def test_a_gpu_without_gpm_is_asked_once(fake_nvml: FakeNvml, play: Play, make: Make) -> None:
    fake_nvml.set(count=1, log=1, **make(0))
    for t in (0.0, 1.0, 2.0):
        absent = play.gpu(t).gpm
        assert why(absent) is Why.UNSUPPORTED and "Hopper" in str(absent)
    calls = fake_nvml.calls()
    assert calls.count("nvmlGpmQueryDeviceSupport") == 1
    assert not {"nvmlGpmSampleAlloc", "nvmlGpmSampleGet"} & set(calls)


def test_gpm_samples_are_freed(fake_nvml: FakeNvml, reader: Start) -> None:
    fake_nvml.set(count=2, log=1, **hopper(0), **hopper(1))
    one = reader()
    one.section()
    one.ask("close")
    calls = fake_nvml.calls()
    assert calls.count("nvmlGpmSampleFree") == calls.count("nvmlGpmSampleAlloc") == 4
    assert calls[-1] == "nvmlShutdown"
    assert why(one.section(1.0).gpus[0].gpm) is Why.NOT_YET  # opened anew: a first sample


def test_mig_mode(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=2, log=1, **hopper(0, mig=1), **hopper(1))
    for t in (0.0, 1.0):
        split, whole = play.at(t).gpus
    assert slow_of(split).mig is True and slow_of(whole).mig is False
    assert why(split.gpm) is why(split.util) is Why.UNSUPPORTED and "MIG" in str(split.gpm)
    assert (split.mem_used, split.temp_c, split.power_mw) == (74517053440, 52, 239000)
    assert isinstance(split.power_samples, Absent) and isinstance(whole.gpm, Gpm)
    calls = fake_nvml.calls()
    assert calls.count("nvmlGpmSampleFree") == 2  # what it had taken before the driver refused


def test_what_does_not_change_is_read_once(fake_nvml: FakeNvml, reader: Start, tmp_path: Path) -> None:
    fake_nvml.set(count=2, log=1, **hopper(0), **rtx4090d(1))
    one = reader()
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    (device / "numa_node").write_text("1\n")
    (device.with_name("0000:02:00.0")).mkdir()
    (device.with_name("0000:02:00.0") / "numa_node").write_text("-1\n")
    first, second = one.section().gpus
    facts = facts_of(first)
    assert (facts.arch, facts.compute, facts.bus_width_bits, facts.numa_node) == ("Hopper", "9.0", 5120, 1)
    assert (facts.slowdown_c, facts.shutdown_c, facts.slowdown_tlimit, facts.shutdown_tlimit) == (89, 94, -2, -8)
    assert (facts.power_default_mw, facts.power_min_mw, facts.power_max_mw) == (700000, 200000, 700000)
    assert (facts.pcie_gen_max, facts.pcie_width_max, facts.pcie_gen_device) == (5, 16, 5)
    geforce = facts_of(second)
    assert (geforce.arch, geforce.compute, geforce.bus_width_bits) == ("Ada", "8.9", 384)
    assert why(geforce.numa_node) is why(geforce.shutdown_tlimit) is Why.UNSUPPORTED
    before = len(fake_nvml.calls())
    later = one.section(1.0)
    assert facts_of(later.gpus[0]) == facts
    static = ("Architecture", "ComputeCapability", "BusWidth", "Threshold", "Constraints", "DefaultLimit", "MaxPcie")
    assert not [call for call in fake_nvml.calls()[before:] for name in static if name in call]


def test_a_fact_that_fails_is_asked_again(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **hopper(0, **{"error.bus_width": 999, "error.field.194": 999}))
    facts = facts_of(play.gpu(0.0))
    assert why(facts.bus_width_bits) is why(facts.slowdown_tlimit) is Why.FAILED
    fake_nvml.set(**{"0.error.bus_width": None, "0.error.field.194": None})
    facts = facts_of(play.gpu(1.0))
    assert (facts.bus_width_bits, facts.slowdown_tlimit) == (5120, -2)


def test_slow_readings_come_every_fifth_tick_with_their_own_time(fake_nvml: FakeNvml, play: Play) -> None:
    changes: dict[str, Value] = {"field.94": "ramp 0 2", "ecc_corrected": "ramp 2 1", "margin": -3}
    fake_nvml.set(count=1, log=1, **hopper(0, **changes))
    seen = [slow_of(play.gpu(float(t))) for t in range(7)]
    assert [slow.at for slow in seen] == [0.0] * 5 + [5.0] * 2
    assert [seen[t].replays for t in (0, 5)] == [0, 10]
    assert [seen[t].ecc_corrected for t in (0, 5)] == [2, 7]
    assert (seen[0].ecc_uncorrected, seen[0].margin_c, seen[0].mem_temp_c, seen[0].mig) == (0, -3, 61, False)
    assert fake_nvml.calls().count("nvmlDeviceGetMarginTemperature") == 2


def test_gpus_take_turns_with_what_is_slow(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=3, log=1, **hopper(0), **hopper(1), **hopper(2))
    play.at(0.0)
    a_tick = []
    for t in range(1, 11):
        before = len(fake_nvml.calls())
        play.at(float(t))
        a_tick.append(fake_nvml.calls()[before:].count("nvmlDeviceGetMigMode"))
    assert max(a_tick) == 1 and sum(a_tick) == 6


def test_a_geforce_is_not_asked_for_what_it_lacks(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, log=1, **rtx4090d(0))
    gpus = [play.gpu(float(t)) for t in range(11)]
    slow = slow_of(gpus[-1])
    assert (slow.margin_c, slow.replays) == (31, 0)
    assert why(slow.mem_temp_c) is why(slow.ecc_corrected) is why(slow.mig) is Why.UNSUPPORTED
    fields = {int(call.split()[1]) for call in fake_nvml.calls() if call.startswith("nvmlDeviceGetFieldValues ")}
    assert not fields & {82, 83, 185}
    assert fake_nvml.calls().count("nvmlDeviceGetTotalEccErrors") == 2  # one of each kind, once


def test_utilization_samples_are_those_since_the_last_reading(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **rtx4090d(0, util="steps 0.2 0 25 50 75 100"))
    assert why(play.gpu(20.0).util_samples) is Why.NOT_YET
    samples = play.gpu(21.0).util_samples
    assert isinstance(samples, UtilSamples)
    assert sorted(samples.values) == [0, 25, 50, 75, 100]
    assert samples.span_us == 800_000
    later = play.gpu(22.0).util_samples
    assert isinstance(later, UtilSamples) and later.first_us - samples.first_us == 1_000_000
    assert why(play.gpu(22.0).util_samples) is Why.NOT_YET  # nothing new


def test_with_gpm_utilization_samples_are_fetched_every_fifth_tick_and_none_is_missed(
    fake_nvml: FakeNvml, play: Play
) -> None:
    fake_nvml.set(count=1, **hopper(0))
    fetched = [play.gpu(100.0 + t).util_samples for t in range(11)]
    assert [isinstance(one, UtilSamples) for one in fetched] == [t in (5, 10) for t in range(11)]
    first, second = fetched[5], fetched[10]
    assert isinstance(first, UtilSamples) and isinstance(second, UtilSamples)
    assert len(first.values) == len(second.values) == 25
    assert second.first_us - first.first_us == 5_000_000


def test_power_samples_are_folded(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **hopper(0, power="wave 200000 600000 1"))
    assert why(play.gpu(10.0).power_samples) is Why.NOT_YET
    power = play.gpu(11.0).power_samples
    assert isinstance(power, PowerSamples)
    assert (power.n, power.span_us) == (50, 980_000)
    assert power.min_mw == 200_000 and power.max_mw == 600_000 and abs(power.mean_mw - 400_000) < 5_000


def test_processes_come_and_go_with_kind_and_name(fake_nvml: FakeNvml, reader: Start, tmp_path: Path) -> None:
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/comm").write_text("VLLM::EngineCor\n")
    one = Play(fake_nvml, reader())
    fake_nvml.set(
        *("0.proc 77 4096", "@5-8 0.proc 88 1024", "0.graphics_proc 99 512", "0.graphics_proc 77 4096"),
        *("@6- 0.mps_proc 88 1024",),
        count=1,
        **hopper(0),
    )
    engine = GpuProcess(77, 4096, "compute", "VLLM::EngineCor")
    desktop = GpuProcess(99, 512, "graphics", "")
    assert one.gpu(0.0).processes == (engine, desktop)
    assert one.gpu(5.0).processes == (engine, GpuProcess(88, 1024, "compute", ""), desktop)
    for t in (6.0, 6.2, 6.4, 6.6):  # MPS clients are asked for every fifth tick
        processes = one.gpu(t).processes
    assert processes == (engine, GpuProcess(88, 1024, "mps", ""), desktop)
    assert one.gpu(8.0).processes == (engine, desktop)


def test_more_processes_than_there_is_room_for(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(*(f"0.proc {pid} {pid}" for pid in range(1, 101)), count=1, **hopper(0))
    processes = play.gpu(0.0).processes
    assert isinstance(processes, tuple)
    assert [(one.pid, one.bytes) for one in processes] == [(pid, pid) for pid in range(1, 101)]


def test_what_each_process_does_is_asked_every_fifth_tick_where_several_are(fake_nvml: FakeNvml, play: Play) -> None:
    lines = ("0.proc 77 4096", "@6- 0.proc 88 1024", "0.proc_sm.77 40", "0.proc_sm.88 55")
    fake_nvml.set(*lines, count=1, log=1, **hopper(0))
    alone = [play.gpu(t).process_use for t in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)]
    assert alone == [NOT_RECORDED] * 6
    assert "nvmlDeviceGetProcessUtilization" not in fake_nvml.calls()
    used = [play.gpu(t).process_use for t in (6.0, 7.0, 8.0, 9.0, 10.0, 11.0)]
    assert [one for one in used if one != NOT_RECORDED] == [(ProcessUse(77, 40.0), ProcessUse(88, 55.0))]
    assert fake_nvml.calls().count("nvmlDeviceGetProcessUtilization") == 1


@pytest.mark.parametrize(("code", "expected"), [(6, None), (3, Why.UNSUPPORTED), (4, Why.DENIED)])
def test_no_use_by_process(fake_nvml: FakeNvml, play: Play, code: int, expected: Why | None) -> None:
    """NOT_FOUND is nobody who did anything; what the driver does not offer is asked once."""
    fake_nvml.set("0.proc 77 1", "0.proc 88 1", count=1, log=1, **hopper(0, **{"error.process_util": code}))
    used = [play.gpu(float(t)).process_use for t in range(11)]
    told = [one for one in used if one != NOT_RECORDED]
    assert len(told) == 3
    assert all(one == () if expected is None else isinstance(one, Absent) and one.why is expected for one in told)
    asked = fake_nvml.calls().count("nvmlDeviceGetProcessUtilization")
    assert asked == (1 if expected is Why.UNSUPPORTED else 3)


def test_pcie_bytes_are_raw_and_wrap(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=2, log=1, **a100(0, **{"field.197": f"ramp {(1 << 32) - 1000} 1500"}), **hopper(1))
    gpu, with_gpm = play.at(0.0).gpus
    assert gpu.pcie_bytes == PcieBytes(0.0, (1 << 32) - 1000, 200)
    assert isinstance(with_gpm.pcie_bytes, Absent)  # GPM tells the rates: the counters are not read
    assert play.gpu(1.0).pcie_bytes == PcieBytes(1.0, 500, 200)
    assert not any("Throughput" in call for call in fake_nvml.calls())


def test_counters_and_link_of_a_scenario(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set("@3-6 0.pcie_gen 1", count=1, **hopper(0, **{"field.74": "ramp 0 900000000", "temp": "ramp 50 2"}))
    gpus = [play.gpu(float(t)) for t in range(7)]
    assert [gpu.reason_ns["power_cap"] for gpu in gpus[:3]] == [0, 900_000_000, 1_800_000_000]
    assert [gpu.pcie_gen for gpu in gpus] == [5, 5, 5, 1, 1, 1, 5]
    assert [gpu.temp_c for gpu in gpus] == [50, 52, 54, 56, 58, 60, 62]


def test_four_generations_side_by_side_and_one_falls_off_the_bus(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set("@2- 1.lost 1", count=4, **rtx4090d(0), **a100(1), **hopper(2), **hopper(3, mig=1))
    play.at(0.0)
    section = play.at(1.0)
    assert [isinstance(gpu.gpm, Gpm) for gpu in section.gpus] == [False, False, True, False]
    section = play.at(2.0)
    assert [gpu.index for gpu in section.gpus] == [0, 2, 3]
    assert {index: why(lost) for index, lost in section.lost.items()} == {"1": Why.LOST}


def test_denied_readings(fake_nvml: FakeNvml, play: Play) -> None:
    names = ("gpm_support", "samples", "processes", "events", "margin", "ecc_corrected", "mig", "pstate")
    fake_nvml.set(count=1, **hopper(0, **{f"error.{name}": 4 for name in names}))
    play.at(0.0)
    time.sleep(0.1)
    section = play.at(1.0)
    gpu, slow = section.gpus[0], slow_of(section.gpus[0])
    denied = (gpu.gpm, gpu.power_samples, gpu.processes, gpu.pstate, slow.margin_c, slow.ecc_corrected, slow.mig)
    assert {why(reading) for reading in denied} == {Why.DENIED}
    assert gpu.util == 37


def heard(play: Play, many: int, t: float) -> list[Xid]:
    """Xid errors until there are so many; they come from a thread."""
    found: list[Xid] = []
    deadline = time.monotonic() + 10.0
    while len(found) < many and time.monotonic() < deadline:
        xids = play.at(t).xids
        found += [] if isinstance(xids, Absent) else xids
        t += 1.0
        time.sleep(0.02)
    return found


def test_xid_errors_are_heard_once(fake_nvml: FakeNvml, play: Play) -> None:
    begin = time.time()
    fake_nvml.set("@10- 1.xid 63", count=2, **hopper(0), **hopper(1))
    (xid,) = heard(play, 1, 10.0)
    assert (xid.index, xid.code) == (1, 63) and begin - 1 < xid.t < begin + 30
    time.sleep(0.1)
    assert play.at(50.0).xids == ()
    fake_nvml.set("1.xid 63", "0.xid 79")
    assert [(xid.index, xid.code) for xid in heard(play, 1, 51.0)] == [(0, 79)]


def test_xid_of_a_gpu_that_falls_off_the_bus(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=2, **hopper(0), **hopper(1))
    play.at(0.0)
    time.sleep(0.1)  # until the thread has registered
    fake_nvml.set("1.lost 1", "1.xid 79")
    assert [(xid.index, xid.code) for xid in heard(play, 1, 1.0)] == [(1, 79)]


def test_a_gpu_without_events(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **rtx4090d(0))
    deadline = time.monotonic() + 10.0
    t, xids = 0.0, play.at(0.0).xids
    while why(xids) is Why.NOT_YET and time.monotonic() < deadline:
        time.sleep(0.02)
        t += 1.0
        xids = play.at(t).xids
    assert why(xids) is Why.UNSUPPORTED


_THREADS = """
import threading, time
from qtop.collect.nvml import NvmlCollector
def many():
    return sum(thread.name == "qtop-xid" for thread in threading.enumerate())
collector = NvmlCollector()
for _ in range(3):
    collector.read()
    collector.read()
    time.sleep(0.05)
    print(many())
    collector.close()
    print(many())
"""


def test_at_most_one_thread_and_none_after_close(fake_nvml: FakeNvml) -> None:
    fake_nvml.set(count=2, log=1, **hopper(0), **hopper(1))
    run = [sys.executable, "-c", _THREADS]
    done = subprocess.run(run, env=fake_nvml.env(), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1", "0"] * 3
    calls = fake_nvml.calls()
    assert calls.count("nvmlEventSetCreate") == calls.count("nvmlEventSetFree") == 3


_HANGS = """
import time
import msgspec
from qtop.collect.host import HostCollector
from qtop.collect.nvml import NvmlCollector
from qtop.collect.runner import Worker
from qtop.sample import HostSample
gpus, host = Worker("NVML", NvmlCollector().read), Worker("host", lambda: HostCollector().read(()))
stamps = set()
for worker in (gpus, host):
    worker.start()
begin = time.monotonic()
while time.monotonic() - begin < 3.2:
    for worker in (gpus, host):
        worker.poke()
    gpus.wait(0.05), host.wait(0.05)
    time.sleep(0.2)
    one = host.latest(0.25)
    if isinstance(one, HostSample):
        stamps.add(one.at)
print(msgspec.json.encode([gpus.latest(0.25), len(stamps)]).decode())
"""


def test_a_call_that_hangs_for_30_s_stops_nothing_else(fake_nvml: FakeNvml) -> None:
    fake_nvml.set(count=1, **hopper(0, **{"hang.temp": 30}))
    begin = time.monotonic()
    run = [sys.executable, "-c", _HANGS]
    done = subprocess.run(run, env=fake_nvml.env(), capture_output=True, text=True, timeout=60, check=True)
    late, hosts = msgspec.json.decode(done.stdout, type=tuple[Absent, int])
    assert late.why is Why.STALE and "NVML" in late.detail
    assert hosts >= 5
    assert time.monotonic() - begin < 20  # and the process ended while the call still hung


def test_a_slow_driver_is_only_slow(fake_nvml: FakeNvml, play: Play) -> None:
    fake_nvml.set(count=1, **hopper(0, slow=0.003))
    play.at(0.0)
    gpu = play.gpu(1.0)
    assert gpu.util == 37 and isinstance(gpu.gpm, Gpm)


def test_where_gpm_is_denied_the_counters_are_read(fake_nvml: FakeNvml, play: Play) -> None:
    changes: dict[str, Value] = {"error.gpm_support": 4, "field.197": 7, "field_type.197": 1}
    fake_nvml.set(count=1, **hopper(0, **changes))
    gpu = play.gpu(0.0)
    assert why(gpu.gpm) is Why.DENIED
    assert isinstance(gpu.pcie_bytes, PcieBytes) and gpu.pcie_bytes.tx == 7
