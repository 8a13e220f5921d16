"""Knobs that are values in files of the kernel, under /proc/sys or /sys: what they share.

A record: {"boot": …, "new": the value as a user writes it, "files": [{"path", "old", "new"}, …]}. The values are gone
with the next start of the host; ``lasting`` says what would set them then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.clock import boot_id
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame


class SysfileKnob(Knob):
    """One value in one file or, as a CPU's governor, in many. Subclasses say which, and which values there are."""

    needs = "root"
    sysctl: ClassVar[str] = ""
    """Its name for sysctl(8), where it is one."""

    def paths(self) -> list[Path]:
        """The files that hold it on this host; none where the host has no such knob."""
        raise NotImplementedError

    def proposed(self, frame: Frame) -> str:
        """The value that qtop proposes; Refused where there is nothing to gain."""
        raise NotImplementedError

    def known(self, path: Path) -> bool:
        """Whether this file is one of this knob's kind. For the helper: no path but these is ever written."""
        return path in self.paths()

    def valid(self, value: str) -> bool:
        """Whether the kernel would take this value, and it is one that qtop knows."""
        raise NotImplementedError

    def values(self) -> str:
        """What ``valid`` wants, in words."""
        raise NotImplementedError

    def told(self, text: str) -> str:
        """The value that a file's text means."""
        return text.strip()

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """The plan with what this knob has to say of it; the place for warnings."""
        return plan

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """One value for all of its files."""
        paths = self.paths()
        if not paths:
            raise Refused(f"this host has no {self.title}")
        new = self.proposed(frame) if value is None else value.strip()
        if not self.valid(new):
            raise QtopError(f"{self.id} cannot be {new!r}", f"It takes {self.values()}.")
        files = []
        for path in paths:
            old = self.now(path)
            if old is not None and old != new:
                files.append({"path": str(path), "old": old, "new": new})
        if not files:
            raise Refused(f"{self.title}: {new} already")
        olds = sorted({one["old"] for one in files})
        many = f" in {len(files)} files" if len(files) > 1 else ""
        plan = Plan(
            knob=self.id,
            value=new,
            summary=f"{self.title}: {', '.join(olds)} → {new}{many}",
            preview=tuple(f"{one['path']}: {one['old']} → {new}" for one in files[:4])
            + ((f"and {len(files) - 4} more",) if len(files) > 4 else ()),
            record={"boot": boot_id(), "new": new, "files": files},
            command=f"sysctl {self.sysctl}={new}" if self.sysctl else f"echo {new} > {files[0]['path']}",
            root=not all(os.access(one["path"], os.W_OK) for one in files),
            right="root",
            undone="`qtop undo`, or the next start of the host",
        )
        return self.describe(plan, frame)

    def now(self, path: Path) -> str | None:
        """The value of one file, None where it cannot be read."""
        try:
            return self.told(path.read_text())
        except (OSError, ValueError):
            return None

    def apply(self, record: Record, work: Work) -> None:
        """Write each that still holds its old value."""
        for one in record["files"]:
            if self.now(Path(one["path"])) == one["old"]:
                write(Path(one["path"]), one["new"])

    def read(self, record: Record) -> Reading:
        """What each file holds; gone after a new start of the host, which set them anew."""
        reading = Reading()
        for one in record["files"]:
            now = self.now(Path(one["path"])) if record["boot"] == boot_id() else None
            reading.put(one["path"], one["old"], one["new"], now)
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """Write back each that holds qtop's value."""
        if record["boot"] != boot_id():
            return
        failed: OSError | None = None
        for one in reversed(record["files"]):
            if self.now(Path(one["path"])) == one["new"]:
                try:
                    write(Path(one["path"]), one["old"])
                except OSError as error:
                    failed = failed or error
        if failed is not None:
            raise Refused(f"{failed.filename}: {failed.strerror}")

    def check(self, record: Record) -> None:
        """Only this knob's files, only values that it knows, or that stand there now."""
        for one in record["files"]:
            path = Path(one["path"])
            if not self.known(path):
                raise Refused(f"{path} is no file of {self.id}")
            for value in (one["old"], one["new"]):
                if not (isinstance(value, str) and (self.valid(value) or value == self.now(path))):
                    raise Refused(f"{self.id} cannot be {value!r}")

    def lasting(self, plan: Plan) -> tuple[str, str] | None:
        """A line for sysctl.d(5)."""
        if not self.sysctl:
            return None
        return f"/etc/sysctl.d/90-qtop-{self.id}.conf", f"{self.sysctl} = {plan.value}\n"


def write(path: Path, text: str) -> None:
    """One write(2), as the kernel's files want it; OSError with the file's name."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


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
