"""What a plan says in words: what does fit, what is measured beside it, its notes, and the command that starts it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from qtop.plan.command import flags
from qtop.plan.compare import Compared
from qtop.plan.making import Plan
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.units import number

MARKS: dict[bool | None, tuple[str, str]] = {True: ("+", "good"), False: ("!", "crit"), None: ("·", "label")}


def near_lines(look: Look, made: Plan, width: int, height: int) -> list[Line]:
    """The changes by which it fits; a click takes one, the key ``n`` the first."""
    lines = [title(look, "What does fit", width, "n takes the first")]
    if not made.nearest:
        told = wrap("Nothing near it: a smaller model, or a card with more memory.", width)
        return [*lines, *((look.seg(text, "label"),) for text in told)][:height]
    for place, one in enumerate(made.nearest):
        action = f"screen.near({place})"
        held = f"{number(one.tokens)} tokens, {one.at_once:.1f} at once"
        rows = wrap(f"{one.what}: {held}", width - 2)
        lines += [
            (look.seg(("n " if not place else "· ") if not at else "  ", "key" if not place else "label", action),
             look.seg(text, "text", action))
            for at, text in enumerate(rows)
        ]  # fmt: skip
        command = shlex.join(flags(made, one.serving))
        lines += [(look.seg("  "), look.seg(text, "label", action)) for text in wrap(command, width - 2)]
    return lines[:height]


def compared_lines(look: Look, one: Compared, width: int, height: int) -> list[Line]:
    """Plan against measured, and why they differ."""
    lines = [title(look, f"Beside {one.server}", width)]
    if one.rows:
        table = [("", "plan", "measured", "")]
        table += [(row.what, row.plan, row.measured, row.difference) for row in one.rows]
        wide = [max(width_of(row[at]) for row in table) for at in range(4)]
        if sum(wide) + 6 > width:
            for row in one.rows:
                told = f"plan {row.plan}, measured {row.measured}, {row.difference}".removesuffix(", ")
                lines.append((look.seg(fit(row.what, width)),))
                lines += [(look.seg("  "), look.seg(text, "label")) for text in wrap(told, width - 2)]
            table = []
        for place, texts in enumerate(table):
            first, *rest = (text.rjust(room) if at else text.ljust(room)
                            for at, (text, room) in enumerate(zip(texts, wide, strict=True)))  # fmt: skip
            lines.append((look.seg("  ".join((first, *rest)).rstrip(), "text" if place else "label"),))
    lines += _noted(look, one.why, width, "text")
    return lines[:height]


def beside_line(look: Look, one: Compared, width: int) -> Line:
    """The same on one line; nothing where nothing was measured."""
    told = (f"{row.measured} {row.what}" + (f" ({row.difference})" if row.difference else "") for row in one.rows)
    text = f"measured beside it: {', '.join(told)}" if one.rows else ""
    return (look.seg(fit(text, width), "label"),)


def note_lines(look: Look, made: Plan, note: str, width: int, height: int) -> list[Line]:
    """What is to be known of it, and where its figures come from."""
    lines = [title(look, "Notes", width)]
    told = ([note] if note else []) + list(made.notes)
    told.append(f"model: {made.wish.model.source}; GPU: {made.wish.gpu.source}")
    return [*lines, *_noted(look, told, width, "label")][:height]


def _noted(look: Look, texts: Sequence[str], width: int, pen: str) -> list[Line]:
    return [
        (look.seg("· " if not at else "  ", "label"), look.seg(row, pen))
        for text in texts
        for at, row in enumerate(wrap(text, width - 2))
    ]


def command_lines(
    look: Look, words: Sequence[str] | None, check: tuple[bool | None, str], may_start: bool, width: int, height: int
) -> list[Line]:
    """The command, wrapped, and whether the vLLM that is here takes it."""
    keys = "w to a file" + ("   S start it" if may_start else "")
    lines = [title(look, "Start it", width, keys)]
    if words is None:
        return [*lines, (look.seg("what does not fit is not started", "label"),)][:height]
    rows = wrap(shlex.join(words), width)
    room = height - 1
    if len(rows) > room:
        rows = [*rows[: room - 1], fit(" ".join(rows[room - 1 :]), width)]
    lines += [(look.seg(row, "accent"),) for row in rows]
    if check[1] and len(lines) < height:
        mark, pen = MARKS[check[0]]
        lines.append((look.seg(f"{mark} ", pen), look.seg(fit(check[1], width - 2), "label")))
    return lines
