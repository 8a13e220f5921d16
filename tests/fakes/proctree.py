"""A /proc and a cgroup tree made of plain files, for the collectors that take a root."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

STATUS = (
    "Name:\t{comm}\nCpus_allowed_list:\t{cpus}\nvoluntary_ctxt_switches:\t{vol}\nnonvoluntary_ctxt_switches:\t{inv}\n"
)


def stat_line(
    pid: int, comm: str, *, state: str = "S", ppid: int = 1, ticks: int = 0, threads: int = 1, start: int = 100,
    pages: int = 10, cpu: int = 0,
) -> str:  # fmt: skip
    """A line of /proc/PID/stat with 52 fields."""
    fields = ["0"] * 50
    fields[0], fields[1] = state, str(ppid)
    fields[11], fields[12] = str(ticks), "0"
    fields[17], fields[19], fields[21], fields[36] = str(threads), str(start), str(pages), str(cpu)
    return f"{pid} ({comm}) {' '.join(fields)}\n"


class ProcTree:
    """Files are rewritten in place, as the kernel's change under an open descriptor."""

    def __init__(self, root: Path) -> None:
        self.root = root / "proc"
        (self.root / "self").mkdir(parents=True)
        self._mounts: list[str] = []
        self.file("self/mountinfo", "")

    def file(self, path: str, text: str) -> Path:
        """Write one file below the root."""
        where = self.root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        return where

    def process(
        self,
        pid: int,
        comm: str = "server",
        *,
        state: str = "S",
        ppid: int = 1,
        ticks: int = 0,
        start: int = 100,
        threads: Mapping[int, tuple[int, int, int]] | None = None,
        cpus: str = "0-3",
        cgroup: str = "",
        argv: tuple[str, ...] = (),
    ) -> None:
        """A process; ``threads`` as tid → (run ns, wait ns, slices), its main thread with one slice if not given."""
        named = threads if threads is not None else {pid: (1, 0, 1)}
        self.file(
            f"{pid}/stat", stat_line(pid, comm, state=state, ppid=ppid, ticks=ticks, threads=len(named), start=start)
        )
        self.file(f"{pid}/status", STATUS.format(comm=comm, cpus=cpus, vol=5, inv=7))
        self.file(f"{pid}/cgroup", cgroup)
        self.file(f"{pid}/cmdline", "".join(f"{word}\0" for word in argv))
        for tid, times in named.items():
            self.thread(pid, tid, times, cpus=cpus)

    def thread(
        self, pid: int, tid: int, times: tuple[int, int, int], comm: str = "worker", cpus: str = "0-3", cpu: int = 0
    ) -> None:
        """One thread of a process, on CPU ``cpu``."""
        self.file(f"{pid}/task/{tid}/schedstat", " ".join(map(str, times)) + "\n")
        self.file(f"{pid}/task/{tid}/comm", f"{comm}\n")
        self.file(f"{pid}/task/{tid}/stat", stat_line(tid, comm, cpu=cpu))
        self.file(f"{pid}/task/{tid}/status", STATUS.format(comm=comm, cpus=cpus, vol=1, inv=1))

    def gone(self, path: str) -> None:
        """Remove a process or a thread."""
        shutil.rmtree(self.root / path)

    def mount(self, kind: str, point: Path, root: str = "/", controllers: str = "") -> None:
        """One cgroup mount, "cgroup" or "cgroup2", as mountinfo writes it (spaces in a path as \\040)."""
        point.mkdir(parents=True, exist_ok=True)
        place = str(point).replace(" ", "\\040")
        options = f"rw,{controllers}" if controllers else "rw"
        self._mounts.append(f"30 24 0:26 {root} {place} rw,nosuid shared:9 - {kind} {kind} {options}\n")
        self.file("self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/vda rw\n" + "".join(self._mounts))


def files(folder: Path, **contents: str) -> None:
    """Files of one cgroup; double underscores in a name stand for dots."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
