"""The host collector on made-up /proc trees: whole, old, hidden and broken ones."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.fakes.proctree import ProcTree

from qtop.collect.host import HostCollector, parse_cpus, parse_pressure
from qtop.sample import NOT_YET, Absent, HostSample, Pressure, Why

STAT = "cpu  10 1 5 100 2 0 1 3 4 0\ncpu0 6 1 3 50 1 0 1 2 2 0\ncpu1 4 0 2 50 1 0 0 1 2 0\nintr 99 0\nctxt 7\n"
PSI = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"


@pytest.fixture
def tree(tmp_path: Path) -> ProcTree:
    made = ProcTree(tmp_path)
    made.file("stat", STAT)
    made.file("meminfo", "MemTotal:       1000 kB\nMemFree: 3 kB\nMemAvailable:    400 kB\n")
    made.file("loadavg", "1.50 1.00 0.50 3/200 4242\n")
    for name, some, full in (("cpu", 11, 0), ("memory", 22, 2), ("io", 33, 3)):
        made.file(f"pressure/{name}", PSI.format(some, full))
    return made


def read(tree: ProcTree) -> HostSample:
    sample = HostCollector(tree.root).read(NOT_YET)
    assert isinstance(sample, HostSample)
    return sample


def test_everything_is_there(tree: ProcTree) -> None:
    sample = read(tree)
    assert sample.cpus["all"].user == 10 and sample.cpus["1"].steal == 1 and set(sample.cpus) == {"all", "0", "1"}
    assert sample.psi_cpu == Pressure(11, 0) and sample.psi_io == Pressure(33, 3)
    assert (sample.mem_total, sample.mem_available) == (1000 * 1024, 400 * 1024)
    assert (sample.load1, sample.runnable) == (1.5, 3)
    assert sample.tasks == NOT_YET


def test_counters_are_read_anew_each_time(tree: ProcTree) -> None:
    collector = HostCollector(tree.root)
    first = collector.read(())
    tree.file("stat", STAT.replace("cpu  10", "cpu  99"))
    second = collector.read(())
    assert isinstance(first, HostSample) and isinstance(second, HostSample)
    assert (first.cpus["all"].user, second.cpus["all"].user) == (10, 99)
    assert second.at > first.at
    collector.close()


def test_a_kernel_without_pressure_says_how_to_get_it(tree: ProcTree) -> None:
    tree.gone("pressure")
    sample = read(tree)
    for reading in (sample.psi_cpu, sample.psi_memory, sample.psi_io):
        assert isinstance(reading, Absent) and reading.why is Why.UNSUPPORTED
        assert "psi=1" in reading.detail
    assert sample.runnable == 3


def test_pressure_that_is_switched_off_at_boot(tree: ProcTree, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pread
    off = (tree.root / "pressure/cpu").stat().st_ino

    def pread(fd: int, size: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == off:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    sample = read(tree)
    assert isinstance(sample.psi_cpu, Absent) and sample.psi_cpu.why is Why.UNSUPPORTED
    assert isinstance(sample.psi_io, Pressure)


def test_old_kernels_have_no_full_line_for_the_cpu() -> None:
    assert parse_pressure(PSI.format(5, 0).encode().split(b"\n")[0]) == Pressure(5, 0)


@pytest.mark.parametrize("text", [b"", b"nonsense\n", b"some avg10=0.00 total=x\n", b"\xff\xfe"])
def test_a_pressure_file_that_is_none_is_no_pressure_of_zero(text: bytes) -> None:
    reading = parse_pressure(text)
    assert isinstance(reading, Absent) and reading.why is Why.FAILED


def test_missing_columns_of_old_kernels_are_zero_and_broken_lines_are_left_out() -> None:
    cpus = parse_cpus(b"cpu 1 2 3 4\ncpu0 1 2 x 4\ncpu1 5 6 7 8 9 10 11 12 13\nctxt 1\ncpu9 1 1 1 1\n")
    assert set(cpus) == {"all", "1"}
    assert cpus["all"].steal == 0 and cpus["1"].steal == 12


@pytest.mark.parametrize("text", ["", "intr 1 2\n"])
def test_a_stat_without_cpu_times_is_absent(tree: ProcTree, text: str) -> None:
    tree.file("stat", text)
    sample = HostCollector(tree.root).read(())
    assert isinstance(sample, Absent) and sample.why is Why.FAILED


def test_no_stat_at_all(tmp_path: Path) -> None:
    assert isinstance(HostCollector(tmp_path).read(()), Absent)


@pytest.mark.parametrize("text", ["", "1.0 2.0\n", "a b c d\n"])
def test_a_broken_loadavg_costs_only_the_load(tree: ProcTree, text: str) -> None:
    tree.file("loadavg", text)
    sample = read(tree)
    assert isinstance(sample.load1, Absent) and isinstance(sample.runnable, Absent)
    assert sample.mem_total == 1000 * 1024


@pytest.mark.parametrize("text", ["MemTotal: kB\n", "MemTotal:", "Slab: 3 kB\n"])
def test_a_broken_meminfo_costs_only_the_memory(tree: ProcTree, text: str) -> None:
    tree.file("meminfo", text)
    sample = read(tree)
    assert isinstance(sample.mem_total, Absent) and isinstance(sample.mem_available, Absent)
    assert sample.load1 == 1.5


def test_this_machine_can_be_read() -> None:
    sample = HostCollector().read(())
    assert isinstance(sample, HostSample)
    assert sum(1 for name in sample.cpus if name != "all") >= 1
