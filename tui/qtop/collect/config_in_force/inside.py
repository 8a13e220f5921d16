"""Opening a file under the name by which a process knows it, also in a container, and never outside of that.

/proc/PID/root and /proc/PID/cwd lead into the process's own file system, but an absolute link in there would lead back
into ours: so each part of the path is walked by hand, and links are followed within the process's root.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from qtop.collect.discover.procfs import PROC
from qtop.collect.kept import why_of
from qtop.sample import Absent, Why

LINKS = 40
"""Links followed at most, as the kernel does (MAXSYMLINKS)."""
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_file(pid: int, path: str, limit: int, root: Path = PROC) -> bytes | Absent:
    """A plain file of at most ``limit`` bytes as the process would open it; a relative path begins at its cwd.

    Absent, one line, for what is not there, may not be read, is a pipe or a device, or is larger.
    """
    try:
        with contextlib.ExitStack() as opened:
            held = _read(opened, pid, path, limit, root)
            return held if not isinstance(held, int) else Absent(Why.FAILED, f"{path} is not a plain file")
    except ValueError:
        return Absent(Why.FAILED, "its name is no path")
    except OSError as error:
        return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0).lower()}")


def names_in(pid: int, path: str, root: Path = PROC) -> tuple[str, ...] | Absent:
    """What a folder holds that the process would open under this absolute path; Absent where it may not be read."""
    try:
        with contextlib.ExitStack() as opened:
            held = _read(opened, pid, path, 0, root, folder_too=True)
            if not isinstance(held, int):
                return held if isinstance(held, Absent) else Absent(Why.FAILED, f"{path}: not a folder")
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
            opened.callback(os.close, fd)
            return tuple(os.listdir(fd))
    except ValueError:
        return Absent(Why.FAILED, "its name is no path")
    except OSError as error:
        return Absent(why_of(error), f"{path}: {os.strerror(error.errno or 0).lower()}")


def _read(
    opened: contextlib.ExitStack, pid: int, path: str, limit: int, root: Path, folder_too: bool = False
) -> bytes | int | Absent:
    """The file; with ``folder_too`` the descriptor of a folder in its place."""

    def keep(fd: int) -> int:
        opened.callback(os.close, fd)
        return fd

    top = keep(os.open(root / str(pid) / "root", _FOLDER))
    folder = top if path.startswith("/") else keep(os.open(root / str(pid) / "cwd", _FOLDER))
    parts = path.split("/")[::-1]
    links = 0
    while parts:
        part = parts.pop()
        if part in ("", ".") or (part == ".." and os.path.samestat(os.fstat(folder), os.fstat(top))):
            continue
        mode = os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            links += 1
            if links > LINKS:
                return Absent(Why.FAILED, f"{path}: too many links")
            target = os.readlink(part, dir_fd=folder)
            folder = top if target.startswith("/") else folder
            parts += target.split("/")[::-1]
        elif stat.S_ISDIR(mode):
            folder = keep(os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder))
        elif any(rest not in ("", ".") for rest in parts):
            return Absent(Why.FAILED, f"{path}: not a folder")
        elif not stat.S_ISREG(mode):
            return Absent(Why.FAILED, f"{path} is not a plain file")
        else:
            return _whole(keep(os.open(part, _FILE, dir_fd=folder)), path, limit)
    if folder_too:
        return folder
    return Absent(Why.FAILED, f"{path} is not a plain file")


def _whole(fd: int, path: str, limit: int) -> bytes | Absent:
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # it was one a moment ago
        return Absent(Why.FAILED, f"{path} is not a plain file")
    data = b""
    while len(data) <= limit and (more := os.read(fd, limit + 1 - len(data))):
        data += more
    return data if len(data) <= limit else Absent(Why.FAILED, f"{path} is larger than {limit // 1024} KiB")
