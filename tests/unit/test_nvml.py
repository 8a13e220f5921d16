"""The NVML collector, the real one over the real pynvml, reading a fake libnvidia-ml.so.1 in a process of its own."""

from __future__ import annotations

import ctypes
import select
import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest
from tests.fakes.nvml_fixture import FakeNvml, h100
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence
from tests.fakes.nvml_reader import Reader, why
from tests.fakes.nvml_reader import reader as _reader  # noqa: F401

from qtop.collect.nvml import place
from qtop.collect.nvml_fields import counter_ids
from qtop.collect.nvml_sysfs import sysfs_bus_id
from qtop.sample import Absent, GpuProcess, Why


@pytest.fixture
def no_driver_here() -> None:
    """For tests of a host without a driver."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return
    pytest.skip("this host has an NVIDIA driver")


def test_two_gpus_with_every_reading(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set("0.proc 1234 1073741824", "0.proc 1300 na", count=2, **h100(0), **h100(1, util=99, power=691500))
    section = reader().section(12.5)
    assert section.at == 12.5
    assert section.driver == "580.159.03"
    assert section.lost == {}
    first, second = section.gpus
    assert (first.at, first.index, second.index) == (12.5, 0, 1)
    assert first.uuid == "GPU-5ca1ab1e-0000-4000-8000-000000000000"
    assert first.name == "NVIDIA H100 80GB HBM3"
    assert first.bus_id == "0000:01:00.0"
    assert first.local_cpus == "0-7,16-23"
    assert why(second.local_cpus) is Why.UNSUPPORTED
    assert (first.util, first.mem_util, second.util) == (37, 15, 99)
    assert (first.mem_total, first.mem_used, first.mem_reserved) == (85520809984, 74517053440, 653262848)
    assert (first.temp_c, first.power_mw, second.power_mw, first.power_limit_mw) == (52, 239000, 691500, 700000)
    assert (first.sm_mhz, first.sm_max_mhz, first.mem_mhz, first.mem_max_mhz) == (1968, 1980, 2619, 2619)
    assert (first.pcie_gen, first.pcie_width) == (5, 16)
    assert first.reasons == 0x4
    assert first.reason_ns == {"power_cap": 123456789012, "sw_thermal": 5, "hw_thermal": 6, "power_brake": 7}
    assert isinstance(first.processes, tuple)
    assert first.processes[0] == GpuProcess(1234, 1073741824)
    assert first.processes[1].pid == 1300
    assert why(first.processes[1].bytes) is Why.UNSUPPORTED
    assert second.processes == ()


def test_readings_that_are_not_offered_are_asked_once(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, log=1)  # a GPU that offers nothing but its name
    one = reader()
    gpu = one.section().gpus[0]
    absent = [
        *(gpu.util, gpu.mem_util, gpu.mem_total, gpu.mem_used, gpu.mem_reserved, gpu.temp_c, gpu.power_mw),
        *(gpu.power_limit_mw, gpu.sm_mhz, gpu.sm_max_mhz, gpu.mem_mhz, gpu.mem_max_mhz, gpu.reasons),
        *(gpu.pcie_gen, gpu.pcie_width, *gpu.reason_ns.values()),
    ]
    assert len(absent) == 19
    assert {why(reading) for reading in absent} == {Why.UNSUPPORTED}
    before = len(fake_nvml.calls())
    assert one.section(1.0).gpus[0] == msgspec.structs.replace(gpu, at=1.0)
    later = set(fake_nvml.calls()[before:])
    assert later == {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3"}


def test_no_call_that_blocks(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, log=1, **h100(0))
    one = reader()
    one.section()
    one.section(1.0)
    fields = {int(call.split()[1]) for call in fake_nvml.calls() if call.startswith("nvmlDeviceGetFieldValues ")}
    assert fields == {74, 75, 269, 270, 271, 82, 94, 193, 194, 197, 198}
    assert not any("Throughput" in call or "Energy" in call for call in fake_nvml.calls())


def test_each_error_is_an_absence_of_its_own_kind(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    errors = {"0.error.util": 3, "0.error.power": 4, "0.error.temp": 999, "0.error.pcie_gen": 6, "0.error.name": 10}
    fake_nvml.set(count=1, **h100(0), **errors)
    one = reader()
    gpu = one.section().gpus[0]
    assert why(gpu.util) is why(gpu.mem_util) is Why.UNSUPPORTED
    assert why(gpu.power_mw) is Why.DENIED
    assert gpu.temp_c == Absent(Why.FAILED, "NVML: Unknown Error")
    assert gpu.name == Absent(Why.FAILED, "NVML: Timeout")
    assert why(gpu.pcie_gen) is Why.LOST
    assert gpu.power_limit_mw == 700000
    fake_nvml.set(**dict.fromkeys(errors))
    gpu = one.section(1.0).gpus[0]
    assert (gpu.power_mw, gpu.temp_c, gpu.name, gpu.pcie_gen) == (239000, 52, "NVIDIA H100 80GB HBM3", 5)
    assert why(gpu.util) is Why.UNSUPPORTED


def test_lost_gpu_beside_a_good_one_and_its_return(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=2, log=1, **h100(0), **h100(1))
    one = reader()
    assert len(one.section().gpus) == 2
    fake_nvml.set(**{"0.lost": 1})
    for now in (1.0, 2.0):
        section = one.section(now)
        assert [gpu.index for gpu in section.gpus] == [1]
        assert section.gpus[0].util == 37
        assert why(section.lost["0"]) is Why.LOST
    assert fake_nvml.calls().count("nvmlInit") == 1
    section = one.section(12.0)  # opened anew, and still lost
    assert [gpu.index for gpu in section.gpus] == [1]
    assert list(section.lost) == ["0"]
    fake_nvml.set(**{"0.lost": None})
    assert list(one.section(13.0).lost) == ["0"]
    assert fake_nvml.calls().count("nvmlInit") == 2
    section = one.section(40.0)
    assert [gpu.index for gpu in section.gpus] == [0, 1]
    assert section.lost == {}


def test_lost_in_the_middle_of_a_sample(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0), **{"0.error.field.270": 15})
    section = reader().section()
    assert section.gpus == ()
    assert why(section.lost["0"]) is Why.LOST


def test_gpu_that_needs_a_reset_from_the_start(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=2, **h100(0), **h100(1), **{"1.lost": 16})
    section = reader().section()
    assert [gpu.index for gpu in section.gpus] == [0]
    lost = section.lost["1"]
    assert (lost.why, "reset" in lost.detail) == (Why.LOST, True)


def test_gpu_keeps_its_number_when_the_driver_renumbers(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=2, **h100(0), **h100(1))
    one = reader()
    uuid = one.section().gpus[1].uuid
    fake_nvml.set(**{"0.lost": 1})
    one.section(1.0)
    fake_nvml.set(**{"0.lost": None, "0.uuid": str(uuid), "count": 1})  # opened anew, NVML lists the good one as 0
    section = one.section(20.0)
    assert [(gpu.index, gpu.uuid) for gpu in section.gpus] == [(1, uuid)]
    assert why(section.lost["0"]) is Why.LOST


def test_driver_not_loaded_then_loaded(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, init_error=9, log=1, **h100(0))
    one = reader()
    absent = one.read()
    assert isinstance(absent, Absent)
    assert absent == Absent(Why.FAILED, "the NVIDIA driver is not loaded (modprobe nvidia)")
    assert one.read(0.5) == absent
    assert fake_nvml.calls().count("nvmlInit") == 1
    fake_nvml.set(init_error=None)
    assert one.section(1.0).gpus[0].util == 37


@pytest.mark.parametrize("code", [1, 9, 18])
def test_driver_reloaded_under_the_collector(fake_nvml: FakeNvml, reader: Callable[[], Reader], code: int) -> None:
    fake_nvml.set(count=1, log=1, **h100(0))
    one = reader()
    one.section()
    fake_nvml.set(call_error=code, init_error=code)
    expected = Why.FAILED if code == 18 else Why.LOST
    assert why(one.read(1.0)) is expected
    times = [1.0 + step / 2 for step in range(1, 240)]
    assert {why(one.read(now)) for now in times} == {expected}
    attempts = fake_nvml.calls().count("nvmlInit") - 1
    assert 5 <= attempts <= 8  # after 1, 2, 4 … 60 s of the two minutes, not at each of 239 reads
    fake_nvml.set(call_error=None, init_error=None)
    assert one.section(300.0).gpus[0].util == 37


def test_no_permission_for_the_driver_or_for_one_gpu(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=2, init_error=4, **h100(0), **h100(1))
    one = reader()
    assert why(one.read()) is Why.DENIED
    fake_nvml.set(**{"init_error": None, "0.error.handle": 4})
    section = one.section(60.0)
    assert [gpu.index for gpu in section.gpus] == [1]
    assert why(section.lost["0"]) is Why.DENIED


def test_driver_without_a_gpu(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(log=1)
    one = reader()
    assert one.read() == Absent(Why.UNSUPPORTED, "the NVIDIA driver lists no GPU")
    calls = fake_nvml.calls()
    assert calls.count("nvmlInit") == calls.count("nvmlShutdown") == 1


def test_old_driver_without_the_newer_functions(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.install("-DQTOP_FAKE_OLD")
    fake_nvml.set("0.proc 77 4096", count=1, log=1, driver="470.256.02", **h100(0))
    one = reader()
    gpu = one.section().gpus[0]
    assert (gpu.mem_total, gpu.mem_used) == (85520809984, 74517053440 + 653262848)
    assert why(gpu.mem_reserved) is Why.UNSUPPORTED
    assert gpu.reasons == 0x4
    assert gpu.processes == (GpuProcess(77, 4096),)
    assert gpu.temp_c == 52
    assert gpu.reason_ns["power_cap"] == 123456789012
    assert gpu.reason_ns["sw_thermal"] == 4  # field 75; 269 to 271 are other fields on this driver
    assert why(gpu.reason_ns["hw_thermal"]) is why(gpu.reason_ns["power_brake"]) is Why.UNSUPPORTED
    before = len(fake_nvml.calls())
    one.section(1.0)
    assert {c for c in fake_nvml.calls()[before:] if "FieldValues " in c} == {
        "nvmlDeviceGetFieldValues 74",
        "nvmlDeviceGetFieldValues 75",
    }


def test_memory_v2_that_is_refused_falls_back_to_v1(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0), **{"0.error.memory_v2": 25})
    gpu = reader().section().gpus[0]
    assert gpu.mem_used == 74517053440 + 653262848
    assert why(gpu.mem_reserved) is Why.UNSUPPORTED


def test_reasons_are_masked_with_those_supported(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0, reasons=0x8024, reasons_supported=0x1FF))
    assert reader().section().gpus[0].reasons == 0x24


def test_counters_grow_and_fail_each_on_its_own(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0, **{"error.field.269": 2, "error.field.271": 999}))
    one = reader()
    counters = one.section().gpus[0].reason_ns
    assert counters["sw_thermal"] == 4
    assert why(counters["power_brake"]) is Why.FAILED
    fake_nvml.set(**{"0.field.74": (1 << 63) + 5, "0.error.field.271": None})
    counters = one.section(1.0).gpus[0].reason_ns
    assert counters == {"power_cap": (1 << 63) + 5, "sw_thermal": 4, "hw_thermal": 6, "power_brake": 7}


def test_field_of_another_type_is_no_counter(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0), **{"0.field_type.270": 1, "0.field_type.271": 0})
    counters = reader().section().gpus[0].reason_ns
    assert why(counters["hw_thermal"]) is why(counters["power_brake"]) is Why.UNSUPPORTED
    assert counters["sw_thermal"] == 5


def test_mig_parent_without_utilization(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0), **{"0.error.util": 3, "0.error.processes": 4})
    gpu = reader().section().gpus[0]
    assert why(gpu.util) is Why.UNSUPPORTED
    assert why(gpu.processes) is Why.DENIED
    assert gpu.mem_used == 74517053440


def test_text_that_is_no_text(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0))
    fake_nvml.file.write_bytes(fake_nvml.file.read_bytes().replace(b"NVIDIA H100", b"\xff\xfe H100"))
    gpu = reader().section().gpus[0]
    assert why(gpu.name) is Why.FAILED
    assert gpu.util == 37


def test_no_library_costs_no_import_and_is_tried_once_a_minute(
    fake_nvml: FakeNvml, reader: Callable[[], Reader], no_driver_here: None
) -> None:
    fake_nvml.set(count=1, **h100(0))
    fake_nvml.uninstall()
    one = reader()
    absent = Absent(Why.UNSUPPORTED, "no NVIDIA driver on this host")
    assert one.read() == absent
    assert one.ask("imported") == b"false\n"
    fake_nvml.install()
    assert one.read(59.0) == absent
    assert one.section(60.0).gpus[0].util == 37


def test_close_and_read_again(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, log=1, **h100(0))
    one = reader()
    one.section()
    one.ask("close")
    one.ask("close")
    assert fake_nvml.calls().count("nvmlShutdown") == 1
    assert one.section(1.0).gpus[0].util == 37


def test_hanging_call_holds_up_the_read(fake_nvml: FakeNvml, reader: Callable[[], Reader]) -> None:
    fake_nvml.set(count=1, **h100(0), **{"0.hang.util": 60})
    one = reader()
    assert one.process.stdin is not None and one.process.stdout is not None
    one.process.stdin.write(b"0\n")
    ready, _, _ = select.select([one.process.stdout], [], [], 1.0)
    assert not ready


def test_setters_of_the_fake(fake_nvml: FakeNvml) -> None:
    script = """
import pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(0)))
print(*n.nvmlDeviceGetPowerManagementLimitConstraints(h), n.nvmlDeviceGetPowerManagementDefaultLimit(h))
n.nvmlDeviceSetPowerManagementLimit(h, 450000)
n.nvmlDeviceSetGpuLockedClocks(h, 210, 1500)
print(n.nvmlDeviceGetEnforcedPowerLimit(h), n.nvmlDeviceGetPowerManagementLimit(h), n.nvmlDeviceGetClockInfo(h, 1))
n.nvmlDeviceResetGpuLockedClocks(h)
print(n.nvmlDeviceGetClockInfo(h, 1), n.nvmlDeviceGetTemperatureV(h, 0))
for limit in (1, 900000):
    try:
        n.nvmlDeviceSetPowerManagementLimit(h, limit)
    except n.NVMLError as error:
        print(error)
"""
    fake_nvml.set(count=1, **h100(0))
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, env=fake_nvml.env(), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "200000 700000 700000",
        "450000 450000 1500",
        "1968 52",
        "Invalid Argument",
        "Invalid Argument",
    ]
    assert fake_nvml.state() == {"0.power_limit": "450000"}
    fake_nvml.set(**{"0.error.power_set": 4})
    done = subprocess.run(run, env=fake_nvml.env(), capture_output=True, text=True, timeout=60, check=False)
    assert "Insufficient Permissions" in done.stderr


def test_bus_id_as_sysfs_has_it() -> None:
    assert sysfs_bus_id("00000000:17:00.0") == "0000:17:00.0"
    assert sysfs_bus_id("0001A2B3:C1:00.0") == "1a2b3:c1:00.0"
    with pytest.raises(ValueError, match="not a PCI bus id"):
        sysfs_bus_id("N/A")


def test_field_ids_follow_the_driver() -> None:
    assert counter_ids("580.159.03")["hw_thermal"] == (270,)
    assert counter_ids("610.12")["sw_thermal"] == (269, 75)
    assert counter_ids("580.65.06")["hw_thermal"] == (252,)
    assert counter_ids("575.51.03")["power_brake"] == (253,)
    assert counter_ids(Absent(Why.FAILED))["power_cap"] == (74,)


def test_places() -> None:
    assert place(["a", "b"], {}) == [0, 1]
    assert place(["b"], {"a": 0, "b": 1}) == [1]
    assert place(["c", "b"], {"a": 0, "b": 1}) == [2, 1]
    assert place([None, "b"], {"a": 0, "b": 1}) == [0, 1]
    assert place([None, None], {}) == [0, 1]
    assert place(["b", None], {"a": 0, "b": 1}) == [1, 2]
