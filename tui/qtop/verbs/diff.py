"""The verb diff: two recordings, before and after a change."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from qtop.act.load import Load
from qtop.act.recordings import Compared, Difference, Windows, compare_recordings, window_seconds
from qtop.config import Settings
from qtop.diagnose.engine import Finding
from qtop.diagnose.rule import State
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.errors import EXIT_OK, QtopError
from qtop.model.frame import Frame
from qtop.record.reader import Recording
from qtop.record.redact import redact_settings, redact_text
from qtop.report.documents import SCHEMA, verdict_document
from qtop.report.text import WIDTH
from qtop.sample import Absent, Reading, Sample, Setting
from qtop.units import duration, number
from qtop.verbs.terminal import print_json, say

NOT_KNOWN = "not known"


@dataclass
class _Side:
    """One recording, seen to its end."""

    path: str
    whole: Whole
    windows: Windows
    settings: dict[str, Setting] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


class _Facts:
    """What the server and its host were like, the latest that was told."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.frame: Frame | None = None
        self.settings: dict[str, Setting] = {}
        self.facts: dict[str, str] = {}

    def see(self, sample: Sample, frame: Frame, _leader: Finding | None) -> None:
        """A tick."""
        self._windows.see(sample, frame)
        if not isinstance(frame.settings, Absent):
            self.settings = {one.name: one for group in frame.settings.groups.values() for one in group}
        self.facts.update({name: str(value) for name, value in _facts(frame) if not isinstance(value, Absent)})


def _facts(frame: Frame) -> list[tuple[str, Reading[Any]]]:
    server, sched, host, gpus = frame.server, frame.sched, frame.host, frame.gpus
    found: list[tuple[str, Reading[Any]]] = []
    if not isinstance(server, Absent):
        found += [("engine", server.engine), ("engine version", server.version), ("model", server.model)]
        found += [("requests at once", server.max_running)]
    if not isinstance(sched, Absent):
        found += [("CPUs of the critical thread", sched.allowed), ("CPUs of the cgroup", sched.cpuset)]
        if not isinstance(sched.quota, Absent):
            found.append(("CPU quota", "none" if sched.quota is None else f"{sched.quota.cores:g} CPUs"))
    if not isinstance(host, Absent):
        found += [("CPUs of the host", host.cpus), ("governor", host.governor), ("boost", host.boost)]
        found += [("NUMA balancing", host.numa_balancing), ("huge pages", host.huge_pages)]
    if not isinstance(gpus, Absent):
        found.append(("GPUs", len(gpus)))
        for gpu in gpus:
            limit = gpu.power_limit_w
            found += [(f"GPU {gpu.index}", gpu.name), (f"GPU {gpu.index} link", gpu.pcie_max)]
            found.append((f"GPU {gpu.index} power limit", limit if isinstance(limit, Absent) else f"{limit:.0f} W"))
    return found


def diff(args: argparse.Namespace, settings: Settings) -> int:
    """Print what changed: figures, findings, configuration."""
    recordings = [Recording(Path(one)) for one in (args.before, args.after)]
    seconds = window_seconds([one.duration for one in recordings], [_interval(one) for one in recordings])
    before, after = (_read(one, seconds) for one in recordings)
    compared = compare_recordings(before.windows, after.windows)
    findings, changes = _findings(before.whole, after.whole), _changes(before, after)
    if args.json:
        print_json(_document(before, after, compared, findings, changes))
    else:
        print("\n".join(_text(before, after, compared, findings, changes)))
    return EXIT_OK


def _interval(recording: Recording) -> float:
    """Seconds between its samples, of the first few the median: a recorder may keep one of several."""
    times = [sample.t for sample in islice(recording.samples(), 16)]
    return median(b - a for a, b in pairwise(times)) if len(times) > 1 else 0.0


def _read(recording: Recording, seconds: float) -> _Side:
    path = recording.path
    windows = Windows(seconds)
    seen = _Facts(windows)
    whole = diagnose_all(recording.samples(), seen.see)
    if whole is None:
        raise QtopError(f"{path} holds no samples")
    if recording.skipped:
        say(f"qtop: {path}: {recording.skipped} damaged records skipped")
    settings = {one.name: one for one in redact_settings(seen.settings.values(), {})[0]}
    facts = {name: redact_text(value) for name, value in seen.facts.items()}
    if recording.header.kernel:
        facts["kernel"] = recording.header.kernel
    return _Side(redact_text(path.name), whole, windows, settings, facts)


def _findings(before: Whole, after: Whole) -> list[dict[str, Any]]:
    """Each rule that fired in one of them at least, with where."""
    others = {one.rule: one for one in after.findings}
    rows: list[dict[str, Any]] = []
    for old in sorted(before.findings, key=lambda one: one.rule):
        new = others[old.rule]
        fired = [one.state is State.FIRING for one in (old, new)]
        if any(fired):
            rows.append(
                {
                    "rule": old.rule,
                    "title": old.title,
                    "fired": "both" if all(fired) else "before" if fired[0] else "after",
                    "before": {"state": old.state.value, "seconds": round(old.record.seconds, 3)},
                    "after": {"state": new.state.value, "seconds": round(new.record.seconds, 3)},
                }
            )
    return rows


def _changes(before: _Side, after: _Side) -> list[dict[str, str]]:
    """What the configurations differ in: settings in force first, then the server and its host."""
    rows: list[dict[str, str]] = []
    for name in sorted({*before.settings, *after.settings}):
        old, new = before.settings.get(name), after.settings.get(name)
        values = [NOT_KNOWN if one is None else one.value for one in (old, new)]
        if values[0] != values[1]:
            source = (new or old or Setting("", "", "")).source
            rows.append({"name": name, "before": values[0], "after": values[1], "source": source})
    for name in dict.fromkeys((*before.facts, *after.facts)):
        values = [one.facts.get(name, NOT_KNOWN) for one in (before, after)]
        if values[0] != values[1]:
            rows.append({"name": name, "before": values[0], "after": values[1], "source": "host and server"})
    return rows


def _document(
    before: _Side, after: _Side, compared: Compared, findings: list[dict[str, Any]], changes: list[dict[str, str]]
) -> dict[str, Any]:
    sides = {
        name: {
            "file": side.path,
            "seconds": round(side.whole.seconds, 3),
            "samples": side.whole.samples,
            "verdict": verdict_document(side.whole.verdict),
            "load": None if load is None else {"in_flight": round(load.in_flight, 2), "tokens_s": _rounded(load.tok_s)},
        }
        for name, side, load in (("before", before, compared.before), ("after", after, compared.after))
    }
    return {
        "schema": SCHEMA,
        **sides,
        "window_s": before.windows.seconds,
        "verdict": compared.verdict,
        "why": compared.why,
        "figures": msgspec.to_builtins(compared.differences),
        "findings": findings,
        "configuration": changes,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _text(
    before: _Side, after: _Side, compared: Compared, findings: list[dict[str, Any]], changes: list[dict[str, str]]
) -> list[str]:
    lines = [f"{compared.verdict}{': ' + compared.why if compared.why else ''}", ""]
    for name, side, load in (("before", before, compared.before), ("after", after, compared.after)):
        lines.append(f"{name:<7} {side.path}, {duration(side.whole.seconds)}, {_load_text(load)}")
        lines.append(f"        {side.whole.verdict.headline}")
    lines += ["", f"Medians of windows of {before.windows.seconds:.0f} s; a change within the noise is none"]
    lines += [f"  {_line(one, compared.why)}" for one in compared.differences]
    lines += ["", "Findings"]
    marks = {"before": "only before", "after": "only after", "both": "in both"}
    for row in findings:
        times = f"{duration(row['before']['seconds'])} → {duration(row['after']['seconds'])}"
        unknown = [name for name in ("before", "after") if row[name]["state"] == State.CANNOT_TELL.value]
        told = f"; {' and '.join(unknown)} it cannot be told" if unknown else ""
        lines.append(f"  {marks[row['fired']]:<11} {row['rule']} {row['title']}: {times}{told}")
    if not findings:
        lines.append("  none fired in either")
    lines += ["", "Configuration"]
    both = [row for row in changes if NOT_KNOWN not in (row["before"], row["after"])]
    lines += [f"  {row['name']}: {row['before']} → {row['after']}  ({row['source']})" for row in both]
    for lacking, telling in (("before", "after"), ("after", "before")):
        names = [row["name"] for row in changes if row[lacking] == NOT_KNOWN]
        if names:
            text = f"  told only {telling}, of {len(names)}: {', '.join(names)}"
            lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_long_words=False)
    if not changes:
        lines.append("  no difference in what the recordings tell")
    lines += ["", "The two were not measured in turn: what the machine did by itself in between looks like a change."]
    return lines


def _load_text(load: Load | None) -> str:
    if load is None:
        return "load not known"
    rate = "" if load.tok_s is None else f", {number(load.tok_s)} tokens/s"
    return f"{number(load.in_flight)} requests in flight{rate}"


def _line(one: Difference, said: str) -> str:
    """One figure; a reason that was ``said`` above is not repeated."""
    if one.before is None or one.after is None or one.band is None:
        return f"{one.name:<16} cannot tell{'' if one.why == said else ': ' + one.why}"
    scale, unit = (100.0, "%") if one.unit == "share" else (1.0, one.unit)
    percent = ""
    if one.change_pct is not None and one.unit != "share":  # percent of a percentage would be misread
        percent = f"{one.change_pct:+.0f} %, "
    text = (
        f"{one.name:<16} {one.before * scale:.4g} → {one.after * scale:.4g} {unit} "
        f"({percent}noise ±{number(one.band * scale)}): {one.verdict}"
    )
    return f"{text}, {one.why}" if one.why and one.why != said else text
