"""A plan as text for a terminal, and as a JSON document."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

import msgspec

from qtop.plan.command import flags, words
from qtop.plan.compare import Compared
from qtop.plan.host import Line
from qtop.plan.making import Nearest, Plan, tokens_text
from qtop.plan.scenarios import Recomputed
from qtop.plan.serving import form_of
from qtop.plan.speed import Span
from qtop.report.documents import SCHEMA, plain
from qtop.units import GIB, number, size

BAR = 60
_MARKS = {True: "✓", False: "✗", None: "·"}
_PLAIN_MARKS = {True: "+", False: "!", None: "-"}
PART_CELLS = {
    "weights": "█", "cache": "▓", "activations": "▒", "graphs": "▒", "runtime": "▒", "others": "░", "free": "·",
}  # fmt: skip
PLAIN_CELLS = {
    "weights": "W", "cache": "K", "activations": "a", "graphs": "a", "runtime": "a", "others": "o", "free": ".",
}  # fmt: skip


class Extras(msgspec.Struct, frozen=True):
    """What is told beside the plan's own arithmetic."""

    host: tuple[Line, ...] = ()
    host_here: bool = True
    """Whether the plan is for this host; otherwise the host is told as this one's."""
    measured: tuple[str, ...] = ()
    checked: bool | None = None
    """Whether the installed vLLM's parser takes the command; None where it could not be asked."""
    checked_text: str = ""
    compared: Compared | None = None
    scenario: Recomputed | None = None


def parts(plan: Plan) -> list[tuple[str, float]]:
    """(name, bytes) of one GPU's memory, in the order of the bar; they add up to its total where nothing is short."""
    spent = plan.memory
    rest = spent.reserve
    return [
        ("weights", spent.weights),
        ("cache", spent.pool),
        ("activations", rest.activations),
        ("graphs", rest.graphs),
        ("runtime", rest.buffers + rest.other + rest.context),
        ("others", spent.others),
        ("free", spent.free),
    ]


def _bar(plan: Plan, ascii_only: bool) -> str:
    cells = PLAIN_CELLS if ascii_only else PART_CELLS
    drawn, at = "", 0.0
    for name, part in parts(plan):
        at += max(0.0, part)
        drawn += cells[name] * (min(BAR, round(at / plan.memory.total * BAR)) - len(drawn))
    return drawn.ljust(BAR, cells["free"])[:BAR]


def _span(span: Span, digits: int = 0) -> str:
    low, high = f"{span.low:,.{digits}f}", f"{span.high:,.{digits}f}"
    return f"{low}–{high}".replace(",", " ")


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _vram(plan: Plan, ascii_only: bool) -> list[str]:
    spent, cells = plan.memory, PLAIN_CELLS if ascii_only else PART_CELLS
    legend = "  ".join(
        f"{cells[name]} {name} {part / GIB:.1f}" if part > 0 else f"! short by {-part / GIB:.1f}"
        for name, part in parts(plan)
        if abs(part) >= 0.05 * GIB
    )
    each = "each GPU: " if plan.wish.gpus > 1 else ""
    lines = [
        _whole(plan, each),
        f"  {_bar(plan, ascii_only)}",
        f"  {legend}  GiB",
    ]
    if not spent.reserve.graphs_counted and spent.reserve.graphs:
        lines.append("  this vLLM takes the graphs on top of its share, not from it")
    return lines


def _whole(plan: Plan, each: str) -> str:
    spent, one = plan.memory, plan.serving
    if plan.wish.gpu.is_cpu:
        return f"RAM    {size(spent.total)}, of which vLLM takes {size(spent.requested)}"
    how = f"{one.utilization:g}" if one.pool_bytes is None else "its cache was given"
    return f"VRAM   {each}{size(spent.total)} that CUDA sees, of which vLLM may take {size(spent.requested)} ({how})"


def _concurrency(plan: Plan) -> list[str]:
    if not plan.memory.pool:
        return []
    rows = [
        ["tokens each", *(tokens_text(one.context) for one in plan.rows)],
        ["at once", *(f"{one.at_once:.1f}" if one.at_once < 10 else number(int(one.at_once)) for one in plan.rows)],
    ]
    return ["", "Requests at once, by the tokens that each holds", *_table(rows)]


def _speed(plan: Plan) -> list[str]:
    lines: list[str] = []
    if plan.decodes:
        rows = [["requests", "tokens each", "at most", "expected", "for each"]]
        rows += [
            [
                str(one.batch), tokens_text(one.context), number(round(one.bound)), _span(one.expected),
                _span(one.each),
            ]
            for one in plan.decodes
        ]  # fmt: skip
        lines += ["", "Decode, tokens a second", *_table(rows)]
    if plan.prefills:
        rows = [["prompt", "at least", "expected"]]
        rows += [
            [
                tokens_text(one.tokens),
                _seconds(one.floor),
                f"{_seconds(one.expected.low)}–{_seconds(one.expected.high)}",
            ]
            for one in plan.prefills
        ]
        lines += ["", "First token of a prompt alone (TTFT)", *_table(rows)]
    elif plan.fits:
        lines += ["", "First token: how fast it multiplies is not known here"]
    return lines


def _near(plan: Plan, one: Nearest) -> str:
    command = shlex.join(flags(plan, one.serving))
    return f"  {one.what}: {number(one.tokens)} tokens of cache, {one.at_once:.1f} at once   {command}".rstrip()


def wrapped(text: str, width: int) -> str:
    """Long lines broken at words, what follows set in; the verdict and commands stay whole, to be found and copied."""
    first, *rest = text.split("\n")
    lines = [first]
    for line in rest:
        if len(line) <= width or " --" in line or line.startswith("  vllm "):
            lines.append(line)
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
    return "\n".join(lines)


def plan_text(plan: Plan, extras: Extras, ascii_only: bool = False) -> str:
    """The plan, its verdict first."""
    marks = _PLAIN_MARKS if ascii_only else _MARKS
    lines = [plan.verdict]
    if extras.scenario is not None:
        lines += ["", *_scenario(extras.scenario)]
    if plan.nearest:
        lines += ["", "What does fit", *(_near(plan, one) for one in plan.nearest)]
    elif not plan.fits:
        lines += ["", "Nothing near it fits: a smaller model, or a card with more memory."]
    if extras.compared is not None:
        lines += ["", *_compared(extras.compared, marks)]
    lines += ["", *_vram(plan, ascii_only)]
    lines += _concurrency(plan)
    if plan.fits:
        lines += _speed(plan)
    if extras.host:
        lines += [
            "",
            "Host" if extras.host_here else "Host (this one; the card is not here)",
            *(f"  {marks[one.enough]} {one.what}: {one.told}" for one in extras.host),
        ]
    lines += [f"  {one}" for one in extras.measured]
    if plan.fits:
        lines += ["", "Start it", f"  {shlex.join(words(plan))}"]
        lines += [f"  {marks[extras.checked]} {extras.checked_text}"] if extras.checked_text else []
    notes = list(plan.notes)
    notes.append(f"model: {plan.wish.model.source}; GPU: {plan.wish.gpu.source}")
    lines += ["", *(f"  {marks[None]} {one}" for one in notes)]
    return "\n".join(lines)


def _scenario(one: Recomputed) -> list[str]:
    told = one.scenario
    lines = [f"The guide's scenario: {told.title}", f"  claims:  {told.claims}", f"  holds:   {told.holds}"]
    lines.append(f"  wished:  {one.wished.verdict}")
    if one.reached is None:
        lines.append("  reached: nothing of it fits this card")
    else:
        lines.append(f"  reached: {one.reached.verdict}")
    return lines


def _compared(one: Compared, marks: dict[bool | None, str]) -> list[str]:
    lines = [f"Beside the server that runs: {one.server}"]
    rows = [["", "plan", "measured", "difference"]]
    rows += [[each.what, each.plan, each.measured, each.difference] for each in one.rows]
    lines += _table(rows) if one.rows else []
    return lines + [f"  {marks[None]} {why}" for why in one.why]


def plan_document(plan: Plan, extras: Extras) -> dict[str, Any]:
    """``{"schema": 1, "verdict": …, "fits": …, "memory": …, …}``; bytes, seconds, tokens and tokens a second."""
    wish, one, spent = plan.wish, plan.serving, plan.memory
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": plan.verdict,
        "fits": plan.fits,
        "model": {
            "name": wish.model.name,
            "source": wish.model.source,
            "parameters": wish.model.shape.parameters,
            "active_parameters": wish.model.shape.active,
            "weights": form_of(wish.model, one.weights),
            "positions": wish.model.shape.positions,
        },
        "gpu": {**plain(wish.gpu), "count": wish.gpus},
        "serving": plain(one),
        "memory": {
            **{f"{name}_bytes": plain(part) for name, part in parts(plan)},
            "total_bytes": plain(spent.total),
            "requested_bytes": plain(spent.requested),
            "missing_bytes": plain(spent.missing),
            "graphs_counted": spent.reserve.graphs_counted,
            "kv_tokens": spent.tokens,
        },
        "at_once": plain(plan.at_once),
        "concurrency": plain(plan.rows),
        "decode": plain(plan.decodes),
        "prefill": plain(plan.prefills),
        "nearest": [
            {
                "what": near.what,
                "kv_tokens": near.tokens,
                "at_once": plain(near.at_once),
                "flags": flags(plan, near.serving),
            }
            for near in plan.nearest
        ],
        "host": plain(extras.host),
        "measured": list(extras.measured),
        "command": words(plan),
        "checked": extras.checked,
        "checked_text": extras.checked_text,
        "notes": list(plan.notes),
    }
    if extras.compared is not None:
        document["compared"] = plain(extras.compared)
    if extras.scenario is not None:
        found = extras.scenario
        document["scenario"] = {
            "name": found.scenario.name,
            "claims": found.scenario.claims,
            "holds": found.scenario.holds,
            "wished": found.wished.verdict,
            "reached": found.reached.verdict if found.reached is not None else None,
        }
    return document
