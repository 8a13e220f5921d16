"""Where the bytes that a program writes to its terminal go: by kind, and by the field on the screen that they draw."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyte
from bench_pty import Chunk, for_pyte
from bench_run import columns

_TOKEN = re.compile(
    rb"(?P<csi>\x1b\[[0-?]*[ -/]*[@-~])|(?P<osc>\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))|(?P<esc>\x1b[@-_a-z])"
    rb"|(?P<control>[\x00-\x1f\x7f])|(?P<text>[^\x00-\x1f\x7f]+)"
)
_FIELD = re.compile(r"\S+(?: \S+)*")
"""A stretch of a row in which no two blanks follow each other."""
_RULES = str.maketrans("│─━┃", "    ")
_MOVES = b"ABCDEFGHdf"


@dataclass
class Cost:
    """Bytes that one field took, by kind; and cells: written, and of these those that looked different afterwards."""

    text: int = 0
    colour: int = 0
    move: int = 0
    writes: int = 0
    cells: int = 0
    changed: int = 0

    @property
    def all(self) -> int:
        """Bytes."""
        return self.text + self.colour + self.move


@dataclass
class Account:
    """A window of ``seconds``: what each field cost, and what belongs to none."""

    seconds: float
    fields: dict[tuple[int, int], Cost] = field(default_factory=dict)
    """(row, first column) → cost."""
    labels: dict[tuple[int, int], str] = field(default_factory=dict)
    modes: int = 0
    """Bytes that draw nothing: cursor shown and hidden, frames held back."""
    trailing: int = 0
    """Colours and moves after the last text of a frame: the style reset, the cursor put back."""
    frames: int = 0

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(cost.all for cost in self.fields.values()) + self.modes + self.trailing


class _Watched:
    """A screen that attributes what is fed to it."""

    def __init__(self, size: tuple[int, int], before: Sequence[Chunk]) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        for chunk in before:
            self._stream.feed(for_pyte(chunk.data))
        self._colour = self._move = 0

    def take(self, data: bytes, account: Account) -> None:
        """One frame."""
        account.frames += 1
        for token in _TOKEN.finditer(data):
            kind, raw = token.lastgroup, token[0]
            if kind == "text":
                self._text(raw, account)
                continue
            if kind == "csi" and raw.endswith(b"m") and raw[2:3] not in b"<=>?":
                self._colour += len(raw)
            elif kind == "control" or (kind == "csi" and raw[-1:] in _MOVES):
                self._move += len(raw)
            else:
                account.modes += len(raw)
            self._stream.feed(for_pyte(raw))
        account.trailing += self._colour + self._move
        self._colour = self._move = 0

    def _text(self, raw: bytes, account: Account) -> None:
        x, y = self.screen.cursor.x, self.screen.cursor.y
        before = dict(self.screen.buffer[y])
        self._stream.feed(raw)
        after = self.screen.buffer[y]
        end = self.screen.cursor.x if self.screen.cursor.y == y else self.screen.columns
        default = self.screen.default_char
        cost = account.fields.setdefault((y, x), Cost())
        cost.text += len(raw)
        cost.colour += self._colour
        cost.move += self._move
        cost.writes += 1
        cost.cells += max(0, end - x)
        cost.changed += sum(before.get(at, default) != after[at] for at in range(x, end))
        self._colour = self._move = 0


def _fields(row: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and text of what stands on a row, parted by two blanks or a rule."""
    for found in _FIELD.finditer(row.translate(_RULES)):
        yield found.start(), found.end(), found[0]


def explain(chunks: Sequence[Chunk], begin: float, end: float, size: tuple[int, int]) -> Account:
    """Attribute what was written between two times (monotonic seconds)."""
    watched = _Watched(size, [chunk for chunk in chunks if chunk.at < begin])
    raw = Account(end - begin)
    for chunk in chunks:
        if begin <= chunk.at < end:
            watched.take(chunk.data, raw)
    grouped = Account(end - begin, modes=raw.modes, trailing=raw.trailing, frames=raw.frames)
    rows = watched.screen.display
    for (y, x), cost in raw.fields.items():
        # The field that a run lies in; a run that drew blanks belongs to the nearest field on its left.
        start, label = 0, ""
        for first, last, text in _fields(rows[y]):
            if first <= x + max(0, cost.cells // max(1, cost.writes) - 1):
                start, label = first, text
            if x < last:
                break
        sum_ = grouped.fields.setdefault((y, start), Cost())
        for name in ("text", "colour", "move", "writes", "cells", "changed"):
            setattr(sum_, name, getattr(sum_, name) + getattr(cost, name))
        grouped.labels[y, start] = label
    return grouped


def report(account: Account, most: int = 24) -> list[str]:
    """Lines for people: totals by kind, then the dearest fields, all in bytes a second."""
    seconds = account.seconds
    costs = account.fields.values()
    text, colour, move = (sum(getattr(cost, name) for cost in costs) for name in ("text", "colour", "move"))
    cells, changed = sum(cost.cells for cost in costs), sum(cost.changed for cost in costs)
    lines = [
        f"{account.total / seconds:.0f} B/s in {account.frames / seconds:.1f} writes/s: text {text / seconds:.0f}, "
        f"colour {colour / seconds:.0f}, moves {move / seconds:.0f}, end of frame {account.trailing / seconds:.0f}, "
        f"modes {account.modes / seconds:.0f}",
        f"{cells / seconds:.1f} cells/s written, {changed / seconds:.1f} of them looked different; "
        f"{account.total / max(1, changed):.1f} bytes a changed cell",
    ]
    table: list[tuple[str, ...]] = [
        ("row:column", "B/s", "text", "colour", "moves", "runs/s", "cells/s", "changed", "drawn there")
    ]
    ranked = sorted(account.fields.items(), key=lambda item: item[1].all, reverse=True)
    for (y, x), cost in ranked[:most]:
        numbers = (cost.all, cost.text, cost.colour, cost.move, cost.writes, cost.cells, cost.changed)
        label = account.labels[y, x]
        table.append((f"{y + 1}:{x + 1}", *(f"{number / seconds:.1f}" for number in numbers), label[:44].ljust(44)))
    rest = sum(cost.all for _, cost in ranked[most:])
    lines += columns(table)
    if rest:
        lines.append(f"{len(ranked) - most} further fields: {rest / seconds:.1f} B/s")
    return lines
