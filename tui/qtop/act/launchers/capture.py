"""All of a process that a new start needs, read from /proc: what it was given, not what it made of it."""

from __future__ import annotations

import os
import re
import resource
import stat
from pathlib import Path
from typing import Any

from qtop.act.launchers.launcher import Launch
from qtop.clock import boot_id
from qtop.collect.discover.procfs import argv, link, read, start_ticks, status, text
from qtop.errors import QtopError, Refused
from qtop.sample import Absent

LIMITS = {
    "Max cpu time": "RLIMIT_CPU",
    "Max file size": "RLIMIT_FSIZE",
    "Max data size": "RLIMIT_DATA",
    "Max stack size": "RLIMIT_STACK",
    "Max core file size": "RLIMIT_CORE",
    "Max resident set": "RLIMIT_RSS",
    "Max processes": "RLIMIT_NPROC",
    "Max open files": "RLIMIT_NOFILE",
    "Max locked memory": "RLIMIT_MEMLOCK",
    "Max address space": "RLIMIT_AS",
    "Max pending signals": "RLIMIT_SIGPENDING",
    "Max msgqueue size": "RLIMIT_MSGQUEUE",
    "Max nice priority": "RLIMIT_NICE",
    "Max realtime priority": "RLIMIT_RTPRIO",
}
"""Rows of /proc/PID/limits and their names in the resource module (CPU time is in seconds in both)."""
IGNORED = (1, 2, 3)
"""SIGHUP, SIGINT, SIGQUIT: what nohup and a shell's & make a process ignore."""
TAIL = 256 * 1024
"""Bytes of a log that are read."""
LINES = 400
OWN = "it belongs to another user"


def captured(pid: int) -> Launch:
    """Everything, as JSON. Errors: Refused where it cannot be read, or would not be the same."""
    words = argv(pid)
    if isinstance(words, Absent):
        raise Refused(f"how the server was started cannot be read: {words}")
    data = read(f"/proc/{pid}/environ")
    if isinstance(data, OSError):
        raise Refused(
            f"how the server was started cannot be read: {OWN}", "Run qtop as its user, or as root (sudo qtop …)."
        )
    if len(words) < 2 and " " in (words[0] if words else ""):
        raise Refused("the server hides its command line behind a title", "Restart it by hand.")
    exe, cwd = link(f"/proc/{pid}/exe"), link(f"/proc/{pid}/cwd")
    for what, place in (("program file", exe), ("working folder", cwd)):
        if not place or place.endswith(" (deleted)"):
            raise Refused(f"the server's {what} is gone: it could not be started again", "Restart it by hand.")
    return {
        "argv": list(words),
        "exe": exe,
        "cwd": cwd,
        "environ": [entry for entry in data.decode(errors="surrogateescape").split("\0") if entry],
        "rlimits": _limits(pid),
        "uid": int(status(pid, "Uid")[1]),
        "gid": int(status(pid, "Gid")[1]),
        "groups": [int(word) for word in status(pid, "Groups")],
        "umask": int((status(pid, "Umask") or ["022"])[0], 8),
        "nice": os.getpriority(os.PRIO_PROCESS, pid),
        "cpus": (status(pid, "Cpus_allowed_list") or [""])[0],
        "oom_score_adj": int(text(f"/proc/{pid}/oom_score_adj") or 0),
        "ignored": _ignored(pid),
        "cgroup": text(f"/proc/{pid}/cgroup"),
        "stdio": [_stdio(pid, fd) for fd in range(3)],
        "boot": boot_id(),
        "pid": pid,
        "start": start_ticks(pid),
    }


def _limits(pid: int) -> dict[str, list[int]]:
    """Soft and hard, -1 for unlimited."""
    found = {}
    for line in text(f"/proc/{pid}/limits").splitlines():
        for row, name in LIMITS.items():
            if line.startswith(row) and hasattr(resource, name):
                pair = line[len(row) :].split()[:2]
                found[name] = [resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in pair]
    return found


def _ignored(pid: int) -> list[int]:
    mask = int((status(pid, "SigIgn") or ["0"])[0], 16)
    return [number for number in IGNORED if mask >> (number - 1) & 1]


def _stdio(pid: int, fd: int) -> dict[str, Any]:
    """What a standard stream is: "file" with its path, "null", "tty", "pipe" (a socket too) or "closed"."""
    place = link(f"/proc/{pid}/fd/{fd}")
    if not place:
        return {"kind": "closed"}
    if place == "/dev/null":
        return {"kind": "null"}
    if re.match(r"/dev/(?:pts/\d|tty|console)", place):
        return {"kind": "tty", "path": place}
    try:
        held = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116 - a link that must not be resolved by name
    except OSError:
        return {"kind": "pipe"}
    if stat.S_ISREG(held.st_mode) and place.startswith("/") and not place.endswith(" (deleted)"):
        return {"kind": "file", "path": place, "file": [held.st_dev, held.st_ino]}
    return {"kind": "pipe"}


def alive(pid: int | None, start: int | None, boot: str) -> bool:
    """Whether this very process runs. A zombie has ended, unless other threads of it are ending still: until then it
    holds what it held, a GPU's memory too."""
    if pid is None or start is None or boot != boot_id() or start_ticks(pid) != start:
        return False
    words = text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not words or words[0] not in "ZX":
        return bool(words)
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def named_limit(name: str) -> str:
    """ "RLIMIT_NOFILE" in words."""
    return next((row.removeprefix("Max ") for row, one in LIMITS.items() if one == name), name)


def output_file(pid: int) -> Path | None:
    """The file that a process writes to, standard error before standard output; None where it writes to none that can
    be read."""
    for fd in (2, 1):
        stream = _stdio(pid, fd)
        if stream["kind"] != "file":
            continue
        # In a container the path means another file here, or none: there it is looked for below the process's root.
        for place in (Path(stream["path"]), Path(f"/proc/{pid}/root{stream['path']}")):
            try:
                held = place.stat()
            except OSError:
                continue
            if [held.st_dev, held.st_ino] == stream["file"] and os.access(place, os.R_OK):
                return place
    return None


def on_terminal(pid: int) -> bool:
    """Whether a process writes to a terminal, and nowhere else."""
    return {_stdio(pid, fd)["kind"] for fd in (1, 2)} - {"null", "closed"} == {"tty"}


def tail(path: Path, begin: int = 0, strict: bool = False) -> list[str]:
    """The last whole lines of a log, from this offset on; none where it cannot be read, or QtopError if ``strict``."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            at = max(min(begin, size), size - TAIL)
            file.seek(at)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        if strict:
            raise QtopError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
        return []
    return lines[1 if at > begin else 0 :][-LINES:]


def own_log(folder: Path, name: str) -> Path:
    """Where qtop keeps the output of a server that had a terminal; readable by its owner alone."""
    logs = folder / "servers"
    logs.mkdir(mode=0o700, exist_ok=True)
    return logs / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)[:80]}.log"
