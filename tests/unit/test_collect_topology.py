"""What the host is: CPUs, clocks, nodes and memory modules on made-up sysfs trees, and on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qtop.collect.dimms import parse_dimms
from qtop.collect.topology import PERIOD_S, TopologyReader, parse_cpuinfo
from qtop.sample import Absent, Clocks, CpuGroup, NumaNode, Sample, Topology, Why
from qtop.sample.codec import decode_sample, encode_sample
from qtop.sample.types import HostSample

UDEV = Path(__file__).parent.parent / "data/udev/dmi-two-of-four.synthetic.txt"


class Tree:
    """/proc, /sys and /run of a made-up host."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, text: object) -> None:
        """Write one file."""
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(f"{text}\n")

    def reader(self) -> TopologyReader:
        """A reader of it."""
        return TopologyReader(self.root / "proc", self.root / "sys", self.root / "run")

    def look(self) -> tuple[Topology, Clocks | Absent]:
        """Its topology, and clocks."""
        topology, clocks = self.reader().look()
        assert isinstance(topology, Topology), topology
        return topology, clocks


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two sockets, each a node, with two cores of two threads and a last-level cache."""
    made = Tree(tmp_path)
    cpu = "sys/devices/system/cpu"
    made.put(f"{cpu}/online", "0-7")
    made.put(f"{cpu}/smt/active", 1)
    made.put(f"{cpu}/smt/control", "on")
    made.put(f"{cpu}/cpufreq/boost", 0)
    made.put("sys/devices/system/node/online", "0-1")
    for node, cpus in ((0, "0-1,4-5"), (1, "2-3,6-7")):
        made.put(f"sys/devices/system/node/node{node}/cpulist", cpus)
        made.put(f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal:  {1000 + node} kB")
    for number in range(8):
        core, socket = number % 4, number % 4 // 2
        folder = f"{cpu}/cpu{number}"
        made.put(f"{folder}/topology/core_cpus_list", f"{core},{core + 4}")
        made.put(f"{folder}/topology/physical_package_id", socket)
        made.put(f"{folder}/cache/index0/level", 1)
        made.put(f"{folder}/cache/index0/size", "32K")
        made.put(f"{folder}/cache/index0/shared_cpu_list", f"{core},{core + 4}")
        made.put(f"{folder}/cache/index1/level", 3)
        made.put(f"{folder}/cache/index1/size", "16M")
        made.put(f"{folder}/cache/index1/shared_cpu_list", "0-1,4-5" if socket == 0 else "2-3,6-7")
        policy = f"{cpu}/cpufreq/policy{number}"
        made.put(f"{policy}/affected_cpus", number)
        made.put(f"{policy}/scaling_governor", "performance" if number < 6 else "powersave")
        made.put(f"{policy}/energy_performance_preference", "balance_performance")
        made.put(f"{policy}/scaling_driver", "amd-pstate-epp")
        made.put(f"{policy}/cpuinfo_max_freq", 4_500_000 + number)
        made.put(f"{folder}/cpufreq/scaling_cur_freq", 1_000_000 + number * 100_000)
    made.put("proc/sys/kernel/numa_balancing", 1)
    made.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    made.put("run/udev/data/+dmi:id", UDEV.read_text())
    return made


def test_everything_is_there(tree: Tree) -> None:
    found, clocks = tree.look()
    assert found.online == "0-7" and found.packages == 2
    assert found.nodes == (NumaNode(0, "0-1,4-5", 1000 * 1024), NumaNode(1, "2-3,6-7", 1001 * 1024))
    assert found.cores == ("0,4", "1,5", "2,6", "3,7")
    assert (found.smt_active, found.smt_control, found.boost) == (True, "on", False)
    assert found.governors == (CpuGroup("performance", "0-5"), CpuGroup("powersave", "6-7"))
    assert found.preferences == (CpuGroup("balance_performance", "0-7"),)
    assert (found.driver, found.max_mhz) == ("amd-pstate-epp", 4500.007)
    assert found.llc_bytes == 2 * (16 << 20), "each cache once, the highest level only"
    assert (found.numa_balancing, found.huge_pages) == (1, "madvise")
    assert isinstance(clocks, Clocks)
    assert (clocks.cpus, clocks.mhz) == ("0-7", (1000, 1100, 1200, 1300, 1400, 1500, 1600, 1700))


def test_it_travels_through_a_recording(tree: Tree) -> None:
    found, clocks = tree.look()
    sample = Sample(t=1.0, host=HostSample(at=1.0, cpus={}, topology=found, clocks=clocks))
    assert decode_sample(encode_sample(sample)) == sample


def test_the_first_call_reads_nothing_and_later_ones_only_after_a_while(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("qtop.collect.topology.mono", lambda: now[0])
    reader = tree.reader()
    first, _ = reader.read()
    assert isinstance(first, Absent) and first.why is Why.NOT_YET
    second, _ = reader.read()
    assert isinstance(second, Topology)
    tree.put("proc/sys/kernel/numa_balancing", 0)
    now[0] += PERIOD_S - 1
    assert reader.read()[0] is second
    now[0] += 2
    third, _ = reader.read()
    assert isinstance(third, Topology) and third.numa_balancing == 0
    assert third.nodes is second.nodes, "what cannot change is not read again"
    tree.put("sys/devices/system/cpu/online", "0-3")
    now[0] += PERIOD_S
    fourth, clocks = reader.read()
    assert isinstance(fourth, Topology) and fourth.cores == ("0,4", "1,5", "2,6", "3,7")[:4]
    assert isinstance(clocks, Clocks) and clocks.cpus == "0-3"


def test_a_bare_sysfs_says_why_for_each(tmp_path: Path) -> None:
    made = Tree(tmp_path)
    made.put("sys/devices/system/cpu/online", "0")
    made.put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor sse\ncpu MHz\t\t: 2596.138")
    found, clocks = made.look()
    for name in ("nodes", "packages", "cores", "smt_active", "smt_control", "driver", "governors", "boost", "max_mhz"):
        reading = getattr(found, name)
        assert isinstance(reading, Absent) and reading.why is Why.UNSUPPORTED, name
    assert isinstance(found.dimms, Absent) and isinstance(found.slots, Absent)
    assert isinstance(clocks, Absent) and "virtual machine" in clocks.detail


def test_no_sysfs_at_all(tmp_path: Path) -> None:
    topology, clocks = Tree(tmp_path).reader().look()
    assert isinstance(topology, Absent) and isinstance(clocks, Absent)


def test_without_cpufreq_a_real_machine_tells_its_clocks_in_cpuinfo(tmp_path: Path) -> None:
    made = Tree(tmp_path)
    made.put("sys/devices/system/cpu/online", "0-1")
    made.put(
        "proc/cpuinfo",
        "processor\t: 0\nflags\t: fpu\ncpu MHz\t\t: 3000.5\n\nprocessor\t: 1\ncpu MHz\t: x\nprocessor: 2\ncpu MHz: 9",
    )
    assert parse_cpuinfo((tmp_path / "proc/cpuinfo").read_bytes()) == {0: 3000, 2: 9}
    _, clocks = made.look()
    assert isinstance(clocks, Clocks) and (clocks.cpus, clocks.mhz) == ("0,2", (3000, 9))


def test_modules_come_without_serials() -> None:
    dimms, slots = parse_dimms(UDEV.read_text())
    assert slots == 4 and not isinstance(dimms, Absent)
    assert [(one.locator, one.bank, one.bytes >> 30) for one in dimms] == [
        ("DIMM 1", "P0 CHANNEL A", 32),
        ("DIMM 1", "P0 CHANNEL B", 32),
    ]
    assert [(one.rated_mts, one.configured_mts, one.kind) for one in dimms] == [
        (6000, 4800, "DDR5"),
        (5600, 4800, "DDR5"),
    ]
    assert not any(secret in repr(dimms) for secret in ("S3CRET", "ASSETTAG", "PARTNO"))


@pytest.mark.parametrize(
    "text",
    ["", "E:ID_VENDOR=x\n", "E:MEMORY_DEVICE_x_SIZE=1\n", Absent(Why.UNSUPPORTED), Absent(Why.DENIED)],
)
def test_no_modules_are_absent_and_not_none(text: str | Absent) -> None:
    dimms, slots = parse_dimms(text)
    assert isinstance(dimms, Absent) and isinstance(slots, Absent)


def test_speeds_that_are_not_told_and_odd_names() -> None:
    dimms, _ = parse_dimms("E:MEMORY_DEVICE_0_SIZE=1024\nE:MEMORY_DEVICE_0_LOCATOR=A\x1b[31m1" + "x" * 99 + "\n")
    assert not isinstance(dimms, Absent)
    assert isinstance(dimms[0].rated_mts, Absent) and isinstance(dimms[0].configured_mts, Absent)
    assert "\x1b" not in dimms[0].locator and len(dimms[0].locator) <= 32


def test_this_machine_can_be_read() -> None:
    topology, _ = TopologyReader().look()
    assert isinstance(topology, Topology)
    assert not isinstance(topology.cores, Absent) and 1 <= len(topology.cores) <= (os.cpu_count() or 1)
