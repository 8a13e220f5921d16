"""A /proc, a /sys and a /run to record fixtures from: the real ones by links, but for what is put in their place.

Counters move by the time that passes, so the collectors read rates from them as from a kernel's.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.proctree import STATUS, stat_line

STEP_S = 0.04
HZ = 100
LINKED = ("self", "meminfo", "loadavg", "vmstat", "stat", "pressure", "cpuinfo", "sys")


class Kernel:
    """``root`` gets proc, sys and run. What is written stays the same file, as the kernel's do under an open
    descriptor, and is written at once: no reader sees half of it."""

    def __init__(self, root: Path, pids: Iterable[int] = ()) -> None:
        self.root = root
        self._moving: list[Callable[[float], None]] = []
        self._begun = time.monotonic()
        for name in ("proc", "sys", "run"):
            (root / name).mkdir(parents=True)
        for name in (*LINKED, *map(str, pids)):
            (root / "proc" / name).symlink_to(f"/proc/{name}")
        (root / "sys/devices").symlink_to("/sys/devices")
        (root / "sys/kernel").symlink_to("/sys/kernel")

    def put(self, path: str, text: str) -> None:
        """Write one file in place of what is there; a folder that was a link becomes one of links."""
        where = self.root / path
        self._own(where.parent)
        if where.is_symlink():
            where.unlink()
        handle = os.open(where, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            short = max(0, os.fstat(handle).st_size - len(text.encode()))
            os.pwrite(handle, text.encode() + b"\n" * short, 0)
        finally:
            os.close(handle)

    def take(self, path: str) -> None:
        """Take one file away."""
        self._own((self.root / path).parent)
        (self.root / path).unlink()

    def _own(self, folder: Path) -> None:
        """Make a folder one of this tree, with links to what the real one holds."""
        if folder == self.root:
            return
        self._own(folder.parent)
        if folder.is_symlink():
            real = folder.resolve()
            folder.unlink()
            folder.mkdir()
            for one in real.iterdir():
                (folder / one.name).symlink_to(one)
        folder.mkdir(exist_ok=True)

    def each(self, move: Callable[[float], None]) -> None:
        """Call ``move`` with the seconds passed, again and again while ``running``."""
        self._moving.append(move)
        move(0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time passes for the length of the block."""
        stop = threading.Event()

        def loop() -> None:
            while not stop.wait(STEP_S):
                now = time.monotonic() - self._begun
                for move in self._moving:
                    move(now)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # What may be put in place

    def cpu_times(self, cpus: int, busy: float, steal: float = 0.0) -> None:
        """/proc/stat of so many CPUs; ``busy`` without the stolen share."""

        def move(seconds: float) -> None:
            ticks = 1_000_000 + seconds * HZ
            one = [ticks * busy, 0, 0, ticks * (1.0 - busy - steal), 0, 0, 0, ticks * steal]
            lines = ["cpu  " + " ".join(str(int(cpus * share)) for share in one)]
            lines += [f"cpu{number} " + " ".join(str(int(share)) for share in one) for number in range(cpus)]
            self.put("proc/stat", "\n".join([*lines, "ctxt 1", ""]))

        self.each(move)

    def topology(self, cpus: int, nodes: int = 1, smt: int = 1) -> None:
        """CPUs on nodes, each core with ``smt`` of them, all governed by nothing."""
        base = "sys/devices/system"
        self.put(f"{base}/cpu/online", f"0-{cpus - 1}")
        for cpu in range(cpus):
            first = cpu - cpu % smt
            self.put(
                f"{base}/cpu/cpu{cpu}/topology/core_cpus_list", f"{first}-{first + smt - 1}" if smt > 1 else str(cpu)
            )
            self.put(f"{base}/cpu/cpu{cpu}/topology/physical_package_id", str(cpu * nodes // cpus))
        each = cpus // nodes
        self.put(f"{base}/node/online", f"0-{nodes - 1}" if nodes > 1 else "0")
        for node in range(nodes):
            self.put(f"{base}/node/node{node}/cpulist", f"{node * each}-{(node + 1) * each - 1}")
            self.put(f"{base}/node/node{node}/meminfo", f"Node {node} MemTotal:       65536000 kB\n")

    def governor(self, cpus: int, name: str, preference: str, mhz: int, max_mhz: int) -> None:
        """cpufreq, one policy a CPU."""
        base = "sys/devices/system/cpu"
        for cpu in range(cpus):
            policy = f"{base}/cpufreq/policy{cpu}"
            self.put(f"{policy}/affected_cpus", f"{cpu}\n")
            self.put(f"{policy}/scaling_governor", f"{name}\n")
            self.put(f"{policy}/scaling_driver", "acpi-cpufreq\n" if not preference else "amd-pstate-epp\n")
            self.put(f"{policy}/cpuinfo_max_freq", f"{max_mhz * 1000}\n")
            if preference:
                self.put(f"{policy}/energy_performance_preference", f"{preference}\n")
            self.put(f"{base}/cpu{cpu}/cpufreq/scaling_cur_freq", f"{mhz * 1000}\n")

    def process(
        self, pid: int, parent: int, name: str, argv: tuple[str, ...], run: float, wait: float, cpu: int, cpus: str
    ) -> None:
        """A process of one thread, which runs and waits for such shares of the time on ``cpu``."""

        def move(seconds: float) -> None:
            spent = 1000.0 + seconds
            times = f"{int(run * spent * 1e9)} {int(wait * spent * 1e9)} {int(400 * spent)}\n"
            line = stat_line(pid, name, ppid=parent, ticks=int(run * spent * HZ), start=self._start(pid), cpu=cpu)
            self.put(f"proc/{pid}/stat", line)
            self.put(f"proc/{pid}/task/{pid}/stat", line)
            self.put(f"proc/{pid}/task/{pid}/schedstat", times)

        self.put(f"proc/{pid}/cgroup", "0::/\n")
        self.put(f"proc/{pid}/cmdline", "".join(f"{word}\0" for word in argv))
        for folder in (f"proc/{pid}", f"proc/{pid}/task/{pid}"):
            self.put(f"{folder}/status", STATUS.format(comm=name, cpus=cpus, vol=5, inv=7))
        self.put(f"proc/{pid}/task/{pid}/comm", f"{name}\n")
        self.each(move)

    def family(self, children: Mapping[int, tuple[int, ...]]) -> None:
        """Whose children are whose."""
        for pid, below in children.items():
            self.put(f"proc/{pid}/task/{pid}/children", " ".join(map(str, below)) + "\n")

    @staticmethod
    def _start(pid: int) -> int:
        """When the real process of this number began: the server is found in the real /proc."""
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
