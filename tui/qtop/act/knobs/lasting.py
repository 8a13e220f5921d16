"""The part of a change that makes it outlast a restart of the host: a small file of qtop's own, made or replaced.

A record: {"new": path, "path", "text", "old": the text before, or null where there was no such file}.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.errors import Refused
from qtop.model.frame import Frame

PATHS = re.compile(r"/etc/(sysctl|tmpfiles)\.d/90-qtop-[a-z0-9-]{1,40}\.conf", re.ASCII)
TEXTS = re.compile(
    r"(vm|kernel)\.[a-z_]{1,40} = [0-9]{1,6}\n|(w /sys/[a-z0-9_/.-]{1,120} - - - - [a-z_]{1,30}\n){1,1024}", re.ASCII
)


class Lasting(Knob):
    """A file in sysctl.d(5) or tmpfiles.d(5)."""

    id = "lasting"
    title = "a file that sets it at each start of the host"
    needs = "root"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """It comes with another knob's change."""
        raise Refused("this goes with another change", "Pass --persist to it.")

    def apply(self, record: Record, work: Work) -> None:
        """Write the file whole, or not at all."""
        path = Path(record["path"])
        if _text(path) == record["old"]:
            _replace(path, record["text"])

    def read(self, record: Record) -> Reading:
        """By its whole text."""
        reading = Reading()
        path = Path(record["path"])
        old, new = record["old"] or "(no file)", record["text"]
        now = _text(path)
        reading.put(str(path), old.strip(), new.strip(), "(no file)" if now is None else now.strip())
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """The text from before, or no file."""
        path = Path(record["path"])
        if _text(path) != record["text"]:
            return
        if record["old"] is None:
            path.unlink()
        else:
            _replace(path, record["old"])

    def check(self, record: Record) -> None:
        """Only files of qtop's own, with settings of the kernel in them; the text from before is what stands there."""
        path, text, old = record["path"], record["text"], record["old"]
        if not (isinstance(path, str) and PATHS.fullmatch(path)):
            raise Refused(f"{path} is no file of qtop's")
        for one in (text, old):
            if one is not None and not (isinstance(one, str) and (TEXTS.fullmatch(one) or one == _text(Path(path)))):
                raise Refused(f"this is not for {path}")


LASTING = Lasting()


def plan_lasting(plan: Plan, file: tuple[str, str]) -> Plan:
    """The part that makes ``plan`` last; Refused where the file says so already."""
    path, text = file
    old = _text(Path(path))
    if old == text:
        raise Refused(f"{path} says so already")
    record: dict[str, Any] = {"new": path, "path": path, "text": text, "old": old}
    change = "made" if old is None else "replaced"
    return Plan(
        knob=LASTING.id,
        value=path,
        summary=f"{plan.knob}: at each start of the host too",
        preview=(f"{path} is {change}: {text.strip()}",),
        record=record,
        root=os.geteuid() != 0,
        right="root",
        undone="`qtop undo` takes the file away",
        settle_s=0.0,
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _replace(path: Path, text: str) -> None:
    """Atomic, and on disk when it returns."""
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=".qtop-")
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
