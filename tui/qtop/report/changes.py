"""Changes as plain text in 80 columns: what could be made, what was, what came of it. From plain data."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 80
STATES = {"open": "unfinished: `qtop undo` puts it back", "kept": "in force", "closed": "put back"}
"""What has become of a change of the journal."""

Document = Mapping[str, Any]


def table(rows: Sequence[Sequence[str]], width: int = WIDTH, indent: int = 2) -> list[str]:
    """Rows in columns as wide as their widest cell; the last column is wrapped, and so hangs under itself."""
    if not rows:
        return []
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    lines: list[str] = []
    for row in rows:
        head = " " * indent + "".join(cell.ljust(size) + "  " for cell, size in zip(row, widths, strict=False))
        lines += _hanging(head, row[-1], width)
    return lines


def _hanging(head: str, text: str, width: int) -> list[str]:
    """A head, and a text wrapped under its own beginning; under the head where that leaves no room."""
    if width - len(head) < 24 and text:
        under = " " * 6
        return [head.rstrip(), *_wrapped(under, text, width)]
    return _wrapped(head, text, width) if text else [head.rstrip()]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def how(offer: Document) -> str:
    """Whether it is made live."""
    return "restart" if offer["restart"] else "live"


def right(offer: Document) -> str:
    """Who may make it, in a word."""
    return "root" if offer["root"] or str(offer["right"]).startswith("root") else "you"


def change_words(now: str, value: str) -> str:
    """The present value and the proposed one."""
    return f"{now} → {value}" if now else value


def actions_text(offers: Sequence[Document]) -> str:
    """Possible now, and not possible, with the reason."""
    possible = [one for one in offers if one["possible"]]
    others = [one for one in offers if not one["possible"]]
    lines: list[str] = []
    if possible:
        rows = [("knob", "how", "right", "proposed by", "now → then")]
        rows += [
            (
                one["knob"],
                how(one),
                right(one),
                ", ".join(one["proposed_by"]) or "-",
                change_words(one["now"], one["value"]),
            )
            for one in possible
        ]
        lines += ["Possible now", *table(rows), ""]
    if others:
        lines += ["Not possible, or nothing to gain", *table([(one["knob"], one["reason"]) for one in others]), ""]
    lines.append("`qtop apply KNOB[=VALUE] --dry-run` shows all that a change would do.")
    return "\n".join(lines)


def journal_text(changes: Sequence[Document]) -> str:
    """Every change with its parts, the latest last."""
    return "\n".join(line for change in changes for line in _change_lines(change))


def _change_lines(change: Document) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(change["t"]))
    lines = [f"{when}  {change['txn']}  {STATES[change['state']]}", f"    {change['age']}"]
    for part in change["parts"]:
        root = ", as root" if part["root"] else ""
        lines += _wrapped("    ", f"{part['knob']} → {part['new']}{root}", WIDTH)
    told = change["told"] or (f"not measured; put back: {change['why']}" if change["why"] else "not measured")
    return [*lines, *_wrapped("    ", told, WIDTH)]


def change_text(change: Document, parts: Sequence[Document]) -> str:
    """One change in full: each target's value before, as qtop wrote it, and now."""
    lines = _change_lines(change)
    for part in parts:
        lines += ["", f"  {part['knob']}"]
        if part["unread"]:
            lines += _wrapped("    ", f"cannot be read: {part['unread']}", WIDTH)
            continue
        rows = [("before", "qtop wrote", "now", "what")]
        for target in part["targets"]:
            more = f" and {target['count'] - 1} more" if target["count"] > 1 else ""
            now = "gone" if target["now"] is None else target["now"]
            rows.append((_short(target["old"]), _short(target["new"]), _short(now), f"{target['what']}{more}"))
        lines += table(rows, indent=4)
    return "\n".join(lines)


def _short(text: str) -> str:
    """In a cell: a file's whole text becomes its first line."""
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 60 and first == text else first[:59] + "…"


def tuned_text(tuned: Document) -> str:
    """What a run of ``qtop tune`` did: kept, put back, not made; in all; and how to make it permanent."""
    steps: Sequence[Document] = tuned["steps"]
    states = [step["state"] for step in steps]
    counts = [f"{states.count(state)} {state}" for state in ("kept", "put back", "not made") if state in states]
    lines = [", ".join(counts) or "nothing was changed", ""]
    if tuned["cancelled"]:
        lines[0] += "; stopped: the change under way was put back"
    lines += table(
        [(step["state"], f"{step['knob']} {step['value']}".rstrip(), _told(step)) for step in steps]
        + [("not tried", name, "") for name in tuned["not_tried"]]
    )
    if tuned["total"]:
        lines += ["", *_wrapped("in all  ", tuned["total"]["text"], WIDTH)]
        lines += ["        (measured once before the first and once after the last change)"]
    kept = [step for step in steps if step["state"] == "kept"]
    if kept:
        lines += ["", *permanent_lines(kept), "", "`qtop undo --all` puts everything back."]
    return "\n".join(lines).rstrip()


def _told(step: Document) -> str:
    judgement = step["judgement"]
    return str(judgement["text"] if judgement else step["why"])


def permanent_lines(kept: Sequence[Document]) -> list[str]:
    """What to write or type so that what was kept outlasts the next start of the server or the host."""
    lines = ["To make it permanent:"]
    for step in kept:
        text = step["permanent"]
        if not text and step["command"]:
            text = f"# {step['knob']}: gone with the server's next start; then again\n{step['command']}"
        lines += [f"    {line}" for line in text.splitlines()]
    return lines
