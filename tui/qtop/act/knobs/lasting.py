"""The part of a change that makes it outlast a restart of the host: a small file of qtop's own, made or replaced.

A record: {"new": path, "path", "text", "old": the text before, or null where there was no such file}.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.act.whole_file import replace_whole, spare_of, sync_folder
from qtop.errors import Refused
from qtop.model.frame import Frame

SYSCTL_FOLDERS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
MODE = 0o644
PATHS = re.compile(r"/etc/(sysctl|tmpfiles)\.d/90-qtop-[a-z0-9-]{1,40}\.conf", re.ASCII)
TEXTS = re.compile(
    r"(vm\.swappiness|kernel\.numa_balancing) = [0-9]{1,3}\n"
    r"|w /sys/kernel/mm/transparent_hugepage/enabled - - - - (always|madvise|never)\n"
    r"|(w /sys/devices/system/cpu/cpufreq/policy[0-9]{1,5}/"
    r"(scaling_governor|energy_performance_preference) - - - - [a-z0-9_]{1,30}\n){1,4096}",
    re.ASCII,
)
"""All that such a file can say. It is root's, and read at each start: no path and no name that is not spelled out."""


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
            try:
                replace_whole(path, record["text"], MODE)
            except OSError as error:
                raise Refused(f"{path} cannot be written: {error.strerror}", "The old values are put back.") from None

    def read(self, record: Record) -> Reading:
        """By its whole text."""
        reading = Reading()
        path = Path(record["path"])
        old, new = record["old"] or "(no file)", record["text"]
        try:
            now = _text(path)
        except OSError as error:
            reading.elsewhere = f"{path} cannot be read: {error.strerror}"
            now = None
        reading.put(str(path), old.strip(), new.strip(), "(no file)" if now is None else now.strip())
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """The text from before, or no file."""
        path = Path(record["path"])
        with suppress(OSError):
            spare_of(path).unlink()  # of a qtop that was killed while it wrote
        if _text(path) != record["text"]:
            return
        try:
            if record["old"] is None:
                path.unlink()
                sync_folder(path.parent)
            else:
                replace_whole(path, record["old"], MODE)
        except OSError as error:
            raise Refused(f"{path} cannot be put back: {error.strerror}") from None

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
    """The part that makes ``plan`` last; Refused where the file says so already, or says something of its own."""
    path, text = file
    if not Path(path).parent.is_dir():
        raise Refused(f"this host has no {Path(path).parent}", "Leave out --persist.")
    old = _text(Path(path))
    if old == text:
        raise Refused(f"{path} says so already")
    if old is not None and not TEXTS.fullmatch(old):
        raise Refused(f"somebody else has written to {path}", "Move it away, or leave out --persist.")
    record: dict[str, Any] = {"new": path, "path": path, "text": text, "old": old}
    change = "made" if old is None else "replaced"
    return Plan(
        knob=LASTING.id,
        value=path,
        summary=f"{plan.knob}: at each start of the host too",
        preview=(f"{path} is {change}: {text.strip()}",),
        record=record,
        warnings=_later(Path(path), text),
        root=os.geteuid() != 0,
        right="root",
        undone="`qtop undo` takes the file away" if old is None else "`qtop undo` puts the old text back",
        settle_s=0.0,
    )


def _later(path: Path, text: str) -> tuple[str, ...]:
    """Files that are read after this one and set the same sysctl: the last one wins (source: sysctl.d(5))."""
    name, equals, _ = text.partition(" = ")
    found = []
    for folder in SYSCTL_FOLDERS if equals else ():
        for other in sorted(Path(folder).glob("*.conf")):
            lines = (line.partition("=")[0].strip(" \t-") for line in (_text(other) or "").splitlines())
            if other.name > path.name and name in (line.replace("/", ".") for line in lines):
                found.append(f"{other} sets {name} too and is read later: that one wins at the next start")
    return tuple(found)


def _text(path: Path) -> str | None:
    """None where there is no such file; OSError where it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
