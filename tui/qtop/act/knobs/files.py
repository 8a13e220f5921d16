"""Knobs that are values in files of the kernel, under /proc/sys or /sys: applying, reading, restoring, checking.

A record: {"boot": …, "new": the value as a user writes it, "files": [{"path", "old", "new"}, …]}, and what a subclass
adds to it. The values are gone with the next start of the host.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.clock import boot_id
from qtop.errors import Refused

MOST = 4096
"""Files in one record; a host with more CPUs than that has one cpufreq policy for many."""


class FilesKnob(Knob):
    """Values in one file or, as a CPU's governor, in many. Subclasses say which, and which values there are."""

    needs = "root"

    def known(self, path: Path) -> bool:
        """Whether this file is one of this knob's kind. For the helper: no path but these is ever written."""
        raise NotImplementedError

    def valid(self, value: str, path: Path) -> bool:
        """Whether the kernel would take this value in this file, and it is one that qtop knows."""
        raise NotImplementedError

    def told(self, text: str) -> str:
        """The value that a file's text means."""
        return text.strip()

    def now(self, path: Path) -> str | None:
        """The value of one file, None where it cannot be read."""
        try:
            return self.told(path.read_text())
        except (OSError, ValueError):
            return None

    def held(self, record: Record, one: dict[str, Any]) -> str | None:
        """What one file of the record holds; None where it is no longer the same thing, as after a new start of the
        host, which set everything anew."""
        return self.now(Path(one["path"])) if record["boot"] == boot_id() else None

    def apply(self, record: Record, work: Work) -> None:
        """Write each that still holds its old value."""
        for one in record["files"]:
            if work.cancelled():
                raise Refused("it was called off")
            if self.held(record, one) == one["old"]:
                try:
                    write(Path(one["path"]), one["new"])
                except OSError as error:
                    raise Refused(_why(error, one["path"]), "The old values are put back.") from None

    def read(self, record: Record) -> Reading:
        """What each file holds."""
        reading = Reading()
        for one in record["files"]:
            reading.put(one["path"], one["old"], one["new"], self.held(record, one))
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """Write back each that holds qtop's value."""
        put_back(self, record, reversed(record["files"]))

    def check(self, record: Record) -> None:
        """Only this knob's files, each once, and only values that it knows, or that stand there now."""
        files = record["files"]
        paths = [one["path"] for one in files]
        if not (isinstance(files, list) and 0 < len(files) <= MOST and len(set(paths)) == len(paths)):
            raise Refused(f"these are no files of {self.id}")
        for one in files:
            self._check_one(one)

    def _check_one(self, one: dict[str, Any]) -> None:
        path = Path(one["path"])
        if str(path) != one["path"] or not self.known(path):
            raise Refused(f"{path} is no file of {self.id}")
        for value in (one["old"], one["new"]):
            if not (isinstance(value, str) and (self.valid(value, path) or value == self.now(path))):
                raise Refused(f"{self.id} cannot be {value!r}")


def put_back(knob: FilesKnob, record: Record, files: Iterable[dict[str, Any]]) -> None:
    """Write the old value of each that holds the new one; Refused, after all others, if one cannot be."""
    failed = ""
    for one in files:
        if knob.held(record, one) == one["new"]:
            try:
                write(Path(one["path"]), one["old"])
            except OSError as error:
                failed = failed or _why(error, one["path"])
    if failed:
        raise Refused(failed)


def write(path: Path, text: str) -> None:
    """One write(2), as the kernel's files want it.

    Errors: OSError, with ELOOP where a link on the way leads to another file than the one of this name.
    """
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Between a check of the name and this somebody may have put a link in the way; what is open cannot be swapped.
        if os.readlink(f"/proc/self/fd/{fd}") != str(path):  # noqa: PTH115 - compared as text
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        data = f"{text}\n".encode()
        os.write(fd, data)
        if os.fstat(fd).st_size > len(data):
            os.ftruncate(fd, len(data))
    finally:
        os.close(fd)


def refuse_read_only(path: Path) -> None:
    """Refused where nobody, root neither, can write this file, as /proc/sys in most containers."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise Refused(f"{path} is mounted read-only here, as in a container", "Run qtop on the host itself.")


def warned(plan: Plan, warnings: Iterable[str]) -> Plan:
    """The plan with more to warn of."""
    return replace(plan, warnings=(*plan.warnings, *warnings))


def number_in(value: str, low: int, high: int) -> bool:
    """Whether the text is a whole number within these bounds, as the kernel prints it."""
    return (
        value.isascii()
        and value.isdigit()
        and len(value) < 12
        and low <= int(value) <= high
        and str(int(value)) == value
    )


def _why(error: OSError, path: str) -> str:
    return f"{path} cannot be written: {error.strerror}"
