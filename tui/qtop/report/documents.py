"""The JSON documents of qtop's verbs. Each carries ``"schema": 1``; their form is part of the interface."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
from msgspec.structs import replace

from qtop.diagnose.engine import Finding, Verdict
from qtop.diagnose.rule import Severity, State
from qtop.diagnose.whole import Whole
from qtop.model.frame import Frame
from qtop.model.serving import LatencyView
from qtop.model.settings import SettingsView
from qtop.record.redact import redact_sample_server, redact_settings
from qtop.sample import Absent, ServerInfo

SCHEMA = 1


def plain(value: Any) -> Any:
    """JSON of frames and samples: absent readings as ``{"absent": why, "detail": …}``, floats cut to 6 digits."""
    if isinstance(value, Absent):
        return {"absent": value.why.value, "detail": value.detail}
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, LatencyView):
        return {"seconds": plain(value.seconds), **plain(value.figures())}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """``{"rule": …|null, "headline": …}``."""
    return {"rule": verdict.rule, "headline": verdict.headline}


def finding_document(finding: Finding, end: float) -> dict[str, Any]:
    """One rule's state with its evidence; ``since_s`` counts back from ``end`` (Unix seconds)."""
    return {
        "rule": finding.rule,
        "title": finding.title,
        "state": finding.state.value,
        "severity": finding.severity.value,
        "headline": finding.headline,
        "share": round(finding.value, 4),
        "impact": round(finding.impact, 4),
        "figure": finding.figure,
        "times": finding.record.times,
        "seconds": round(finding.record.seconds, 3),
        "since_s": None if finding.since is None else round(max(0.0, end - finding.since), 3),
        "evidence": [
            {
                "signal": line.signal,
                "value": plain(line.value),
                "unit": line.unit,
                "threshold": line.threshold,
                "source": line.source,
            }
            for line in finding.evidence
        ],
        "reason": finding.reason,
        "actions": [{"knob": remedy.knob, "label": remedy.label} for remedy in finding.remedies],
    }


def doctor_document(
    source: str, observed_s: float, end: float, verdict: Verdict, findings: tuple[Finding, ...]
) -> dict[str, Any]:
    """What ``qtop doctor --json`` prints; ``source`` is "live" or "recording"."""
    return {
        "schema": SCHEMA,
        "source": source,
        "observed_s": round(observed_s, 3),
        "verdict": verdict_document(verdict),
        "findings": [finding_document(finding, end) for finding in findings],
    }


def whole_document(whole: Whole) -> dict[str, Any]:
    """The same for a recording, with its timeline."""
    document = doctor_document("recording", whole.seconds, whole.end, whole.verdict, whole.findings)
    document["samples"] = whole.samples
    document["timeline"] = [{"t": turn.t, "rule": turn.rule, "state": turn.state.value} for turn in whole.timeline]
    return document


def settings_document(settings: SettingsView | Absent) -> dict[str, Any]:
    """``{"groups": {group: [{"name", "value", "source", "note"}]}, "missing": {source or name: why}}``."""
    if isinstance(settings, Absent):
        document: dict[str, Any] = plain(settings)
        return document
    groups = {group: plain(redact_settings(held, {})[0]) for group, held in settings.groups.items()}
    return {"groups": groups, "missing": plain(redact_settings((), settings.missing)[1])}


def snapshot_document(source: str, frame: Frame, verdict: Verdict, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """What ``qtop snapshot --json`` prints: one frame, derived, without secrets."""
    if isinstance(frame.server, ServerInfo):
        frame = replace(frame, server=redact_sample_server(frame.server))
    if frame.launch is not None:
        info = redact_sample_server(frame.launch.info)
        assert isinstance(info, ServerInfo)
        frame = replace(frame, launch=replace(frame.launch, info=info))
    body = plain(frame)
    del body["server_before"]  # for rules only: while it is there it is the server, and is above
    if isinstance(frame.server, ServerInfo):  # what was read is in "settings", weighed
        del body["server"]["settings"], body["server"]["settings_missing"]
    body["settings"] = settings_document(frame.settings)
    if frame.launch is not None:
        del body["launch"]["info"]["settings"], body["launch"]["info"]["settings_missing"]
        body["launch"]["settings"] = settings_document(frame.launch.settings)
    return {
        "schema": SCHEMA,
        "source": source,
        "t": frame.t,
        "verdict": verdict_document(verdict),
        "findings": [finding_document(finding, frame.t) for finding in findings],
        **{name: body[name] for name in body if name not in ("t", "dt")},
    }


def worst_exit(findings: tuple[Finding, ...]) -> int:
    """1 when a finding of severity warning or above fires, else 0."""
    return int(
        any(finding.state is State.FIRING and finding.severity.rank >= Severity.WARNING.rank for finding in findings)
    )
