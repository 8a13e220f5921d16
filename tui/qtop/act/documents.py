"""Plans, offers, changes and what came of them as plain data: for JSON, and for those who put them into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from qtop.act.change import Plan, Record, Value
from qtop.act.journal import Change, Part, age_text
from qtop.act.knobs import KNOBS
from qtop.act.survey import Offer
from qtop.act.transaction import Outcome, read_part
from qtop.act.tuning import Step, Tuned


def plan_document(plan: Plan) -> dict[str, Any]:
    """A change that could be made."""
    return {
        "knob": plan.knob,
        "value": plan.value,
        "summary": plan.summary,
        "preview": list(plan.preview),
        "warnings": list(plan.warnings),
        "command": plan.command,
        "root": plan.root,
        "right": plan.right,
        "requests": plan.hurts,
        "undone_by": plan.undone,
        "restart": plan.restart,
    }


def offer_document(offer: Offer) -> dict[str, Any]:
    """A knob as it stands."""
    head: dict[str, Any] = {"knob": offer.knob, "title": offer.title, "needs": offer.needs, "proposed_by": offer.by}
    if offer.plan is None:
        return head | {"possible": False, "reason": offer.reason}
    return head | {"possible": True, "now": offer.now, **plan_document(offer.plan)}


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """A change that was made."""
    return {
        "txn": outcome.txn,
        "knob": outcome.knob,
        "value": ", ".join(plan.value for plan in outcome.plans),
        "parts": [{"knob": plan.knob, "value": plan.value, "summary": plan.summary} for plan in outcome.plans],
        "kept": outcome.kept,
        "judgement": asdict(outcome.judgement) if outcome.judgement else None,
        "text": outcome.text,
    }


def step_document(step: Step) -> dict[str, Any]:
    """A knob that ``qtop tune`` tried."""
    judgement = step.outcome.judgement if step.outcome is not None else None
    return {
        "knob": step.knob,
        "value": step.value,
        "state": step.state,
        "why": step.why,
        "txn": step.outcome.txn if step.outcome is not None else None,
        "judgement": asdict(judgement) if judgement else None,
        "permanent": step.permanent,
        "command": step.command,
    }


def tuned_document(tuned: Tuned) -> dict[str, Any]:
    """A whole run of ``qtop tune``."""
    return {
        "steps": [step_document(step) for step in tuned.steps],
        "kept": len(tuned.kept),
        "total": asdict(tuned.total) if tuned.total else None,
        "cancelled": tuned.cancelled,
        "not_tried": tuned.left,
    }


def change_document(change: Change) -> dict[str, Any]:
    """A change of the journal in short."""
    measured = change.notes.get("measured", {})
    return {
        "txn": change.txn,
        "t": change.t,
        "age": age_text(change),
        "knob": change.knob,
        "state": change.state,
        "parts": [
            {"knob": part.knob, "new": str(part.record.get("new", "?")), "root": part.root} for part in change.parts
        ],
        "verdict": str(measured.get("verdict", "")),
        "gain": gain_text(measured.get("data", {})),
        "told": str(measured.get("text", "")),
        "why": str(change.notes.get("reverted", {}).get("why", "")),
    }


def journal_document(change: Change) -> dict[str, Any]:
    """A change of the journal with all that may be shown of it."""
    return {
        "txn": change.txn,
        "t": change.t,
        "knob": change.knob,
        "state": change.state,
        "steps": change.steps,
        "parts": [asdict(replace(part, record=_shown(part))) for part in change.parts],
        "notes": change.notes,
    }


def _shown(part: Part) -> Record:
    """The record without secrets; of a knob that this qtop does not know, or does not understand, only the value."""
    try:
        return KNOBS[part.knob].shown(part.record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"new": part.record.get("new", "?")}


def values_document(change: Change) -> list[dict[str, Any]]:
    """Each part with its targets as they are now; targets with the same three values are told as one."""
    return [_part_document(part) for part in change.parts]


def _part_document(part: Part) -> dict[str, Any]:
    reading = read_part(part)
    told: dict[str, Any] = {"knob": part.knob, "new": str(part.record.get("new", "?")), "root": part.root}
    if reading is None:
        return told | {"unread": "another version of qtop made it", "targets": []}
    return told | {"unread": reading.elsewhere, "targets": _grouped(reading.values)}


def gain_text(data: Mapping[str, Any]) -> str:
    """What a comparison's data says in a few words: "TTFT -47 % ±5, ITL p50 -30 % ±4"; "" where it says nothing."""
    told = [data.get("ttft") or {}, data.get("itl") or {}]
    return ", ".join(
        f"{one['metric']} {one['change_pct']:+.0f} % ±{one['band_pct']:.0f}"
        for one in told
        if isinstance(one.get("change_pct"), (int, float)) and isinstance(one.get("band_pct"), (int, float))
    )


def _grouped(values: Iterable[Value]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, str | None], list[str]] = {}
    for value in values:
        groups.setdefault((value.old, value.new, value.now), []).append(value.what)
    return [
        {"what": whats[0], "count": len(whats), "old": old, "new": new, "now": now}
        for (old, new, now), whats in groups.items()
    ]
