"""The journal: what was changed, written and fsync'd before it is changed, so that a killed qtop can still be undone.

One JSON object a line, appended to ``$XDG_STATE_HOME/qtop/journal.jsonl``. A line that a crash cut short is skipped on
reading; the next append starts a new line. One transaction at a time holds the lock beside it; a dead process holds
none. Schema 2: a change has parts, each of one knob. Schema 1, which is read still, had one.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert

from qtop.act.change import Record
from qtop.act.whole_file import sync_folder
from qtop.clock import wall
from qtop.errors import QtopError, Refused

SCHEMA = 2
CLOSED_STEPS = ("reverted", "undone", "gone")


def state_dir() -> Path:
    """``$XDG_STATE_HOME/qtop``, made if it is not there, readable by its owner alone."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    except RuntimeError:
        raise QtopError("cannot write the journal: there is no home folder", "Set XDG_STATE_HOME.") from None
    folder = Path(base) / "qtop"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise QtopError(
            f"cannot write the journal: {folder}: {error.strerror}",
            "Set XDG_STATE_HOME to a folder that you can write.",
        ) from None
    return folder


@dataclass
class Part:
    """One knob's share of a transaction."""

    knob: str
    record: Record
    """What the knob needs to read back and restore: targets with old and new values."""
    root: bool = False
    """It took root."""


@dataclass
class Change:
    """One transaction as the journal tells it."""

    txn: str
    t: float
    parts: list[Part]
    steps: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """Data of later steps, by step."""

    @property
    def state(self) -> str:
        """ "open" (qtop ended in the middle), "kept", or "closed" (put back)."""
        if any(step in CLOSED_STEPS for step in self.steps):
            return "closed"
        return "kept" if "kept" in self.steps else "open"

    @property
    def knob(self) -> str:
        """Its knobs' names."""
        return " + ".join(part.knob for part in self.parts)

    @property
    def new(self) -> str:
        """The values asked for."""
        return ", ".join(str(part.record.get("new", "?")) for part in self.parts)


class Journal:
    """Append-only; every append is on disk when the call returns."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_dir() / "journal.jsonl"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the right to change things; Refused while another qtop holds it."""
        try:
            fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QtopError(f"cannot lock the journal {self.path}: {error.strerror}") from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(
                    "another qtop is changing something right now", "Wait for it to end, then try again."
                ) from None
            except OSError as error:
                raise QtopError(f"cannot lock the journal {self.path}: {error.strerror}") from None
            yield
        finally:
            os.close(fd)

    def begin(self, parts: Iterable[Part]) -> str:
        """Write down a change that is about to be made; gives its id."""
        txn = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self.append(txn, "begin", parts=[asdict(part) for part in parts])
        return txn

    def append(self, txn: str, step: str, **data: Any) -> None:
        """One line more, on disk before this returns; QtopError when it cannot be written."""
        line = json.dumps({"schema": SCHEMA, "txn": txn, "step": step, "t": wall(), **data}, separators=(",", ":"))
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(fd).st_size
                # A crash may have cut the last line: keep ours apart from it.
                cut = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                payload = (("\n" if cut else "") + line + "\n").encode()
                while payload:
                    payload = payload[os.write(fd, payload) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            if size == 0:
                sync_folder(self.path.parent)
        except OSError as error:
            raise QtopError(
                f"cannot write the journal {self.path}: {error.strerror}", "Nothing more is changed."
            ) from None

    def changes(self) -> list[Change]:
        """All changes, oldest first; lines that cannot be read are skipped."""
        return self._read()[0]

    def in_force(self) -> list[Change]:
        """Changes that undo has something to do with, the latest first.

        Errors: Refused where a newer qtop wrote to this journal: what it did there, this one cannot know.
        """
        changes, newest = self._read()
        if newest > SCHEMA:
            raise Refused(
                f"a newer qtop wrote the journal {self.path} (schema {newest}; this one knows {SCHEMA})",
                "Nothing was changed: use that qtop.",
            )
        return [change for change in reversed(changes) if change.state != "closed"]

    def _read(self) -> tuple[list[Change], int]:
        """The changes, and the highest schema that any line has."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise QtopError(f"cannot read the journal {self.path}: {error.strerror}") from None
        found: dict[str, Change] = {}
        newest = 0
        for line in lines:
            entry = _entry(line)
            if entry is None:
                continue
            schema = entry.get("schema")
            newest = max(newest, schema if isinstance(schema, int) else 0)
            txn, step = entry["txn"], entry["step"]
            if step == "begin":
                parts = _parts(entry)
                if parts:
                    found[txn] = Change(txn, entry["t"], parts)
            change = found.get(txn)
            if change is None:
                continue
            change.steps.append(step)
            if step == "extended":
                _extend(change, entry)
            elif step != "begin":
                change.notes[step] = {k: v for k, v in entry.items() if k not in ("schema", "txn", "step")}
        return list(found.values()), newest


def _entry(line: bytes) -> dict[str, Any] | None:
    """The line as an entry, or None where it is cut, damaged or not one of ours."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("txn"), str) or not isinstance(entry.get("step"), str):
        return None
    if entry["step"] == "begin" and not isinstance(entry.get("t"), (int, float)):
        return None
    return entry


def _parts(entry: dict[str, Any]) -> list[Part]:
    """The parts of a change that begins; none where they cannot be read."""
    told = entry.get("parts", [{"knob": entry.get("knob"), "record": entry.get("record")}])
    try:
        return convert(told, list[Part])
    except ValidationError:
        return []


def _extend(change: Change, entry: dict[str, Any]) -> None:
    """A part's record, as it is after more was added."""
    number, record = entry.get("part", 0), entry.get("record")
    if isinstance(number, int) and 0 <= number < len(change.parts) and isinstance(record, dict):
        change.parts[number].record = record


def age_text(change: Change) -> str:
    """How long ago, in words."""
    seconds = max(0.0, wall() - change.t)
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"
