"""A test against an earlier one: better, worse, or within noise. Pure but for reading the file.

The change of a median is judged by a percentile bootstrap: both sides are drawn anew 2000 times, with replacement, and
the middle 95 % of the ratios of their medians is the interval. A change counts where the interval does not hold 1 and
the change is more than 5 %, which runs a minute apart differ by anyway. The draws are seeded: the same files give the
same verdict.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from qtop.errors import QtopError
from qtop.probe.compare import FLOOR_PCT
from qtop.probe.timing import MOST_MS, ProbeResult

DRAWS = 2000
FEWEST = 5
"""Requests on each side below which a bootstrap of the median says nothing."""
MOST = 2000
"""Values of a side that are drawn from; more are thinned evenly."""
Verdict = Literal["better", "worse", "within noise", "cannot tell"]
SAME = ("prompt", "prompt_chars", "fill_tokens", "max_tokens", "concurrency", "rate", "exact_length")
"""What has to agree for two tests to be comparable."""


class Baseline(msgspec.Struct, frozen=True):
    """An earlier test."""

    model: str
    test: dict[str, Any]
    results: tuple[ProbeResult, ...]


class Against(msgspec.Struct, frozen=True, omit_defaults=True):
    """One metric, then and now; lower is better. None where it cannot be had."""

    metric: str
    before_ms: float | None
    now_ms: float | None
    change_pct: float | None
    low_pct: float | None
    """The interval of the change, 95 %."""
    high_pct: float | None
    verdict: Verdict
    why: str = ""


class _File(msgspec.Struct):
    test: dict[str, Any]
    results: tuple[ProbeResult, ...]
    model: str = ""


def load(path: Path) -> Baseline:
    """A result of ``qtop check --json`` or ``qtop probe --json``; QtopError where the file is none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise QtopError(f"cannot read the baseline {path}: {error.strerror or type(error).__name__}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise QtopError(
            f"{path} is no result of `qtop check --json`", "Make one with: qtop check --json > FILE"
        ) from error
    figures = [value for one in found.results for value in (one.ttft_ms, one.tpot_ms, one.e2e_ms) if value is not None]
    if not all(0 <= value <= MOST_MS for value in figures):
        raise QtopError(f"{path} holds times that cannot be")
    good = sum(one.ok for one in found.results)
    if good < FEWEST:
        raise QtopError(f"{path} holds {good} good requests: a baseline needs {FEWEST}")
    return Baseline(found.model, found.test, found.results)


def require_same(baseline: Baseline, model: str, test: dict[str, Any]) -> None:
    """QtopError where the two tests asked for different things."""
    pairs = [("model", baseline.model, model), *((name, baseline.test.get(name), test.get(name)) for name in SAME)]
    for name, then, now in pairs:
        if then != now:
            raise QtopError(f"the baseline is of another test: {name} {_word(then)}, here {_word(now)}")


def compare_all(before: Sequence[ProbeResult], now: Sequence[ProbeResult]) -> tuple[Against, ...]:
    """TTFT, TPOT and E2E of the requests that ended well."""
    return tuple(
        against(
            metric,
            [value for result in before if result.ok and (value := getattr(result, field)) is not None],
            [value for result in now if result.ok and (value := getattr(result, field)) is not None],
        )
        for metric, field in (("TTFT", "ttft_ms"), ("TPOT", "tpot_ms"), ("E2E", "e2e_ms"))
    )


def overall(parts: Sequence[Against]) -> Verdict:
    """Of all metrics: worse if any is, better if any is and none worse."""
    verdicts = {part.verdict for part in parts}
    if "worse" in verdicts:
        return "worse"
    if "better" in verdicts:
        return "better"
    return "within noise" if "within noise" in verdicts else "cannot tell"


def against(metric: str, before: Sequence[float], now: Sequence[float], seed: int = 0) -> Against:
    """One metric by bootstrap."""
    if len(before) < FEWEST or len(now) < FEWEST:
        why = f"needs {FEWEST} good requests on each side, there are {len(before)} and {len(now)}"
        return Against(metric, _median(before), _median(now), None, None, None, "cannot tell", why)
    old, new = median(before), median(now)
    if old <= 0:
        return Against(metric, old, new, None, None, None, "cannot tell", "the earlier median is 0")
    draw = random.Random(seed)
    left, right = _thinned(before), _thinned(now)
    ratios = sorted(
        median(draw.choices(right, k=len(right))) / max(1e-9, median(draw.choices(left, k=len(left))))
        for _ in range(DRAWS)
    )
    low, high = ratios[int(0.025 * DRAWS)] - 1, ratios[int(0.975 * DRAWS) - 1] - 1
    change = new / old - 1
    verdict: Verdict = "within noise"
    if abs(change) * 100 > FLOOR_PCT and (low > 0 or high < 0):
        verdict = "worse" if change > 0 else "better"
    return Against(
        metric,
        round(old, 3),
        round(new, 3),
        round(change * 100, 1),
        round(low * 100, 1),
        round(high * 100, 1),
        verdict,
    )


def _median(values: Sequence[float]) -> float | None:
    return round(median(values), 3) if values else None


def _thinned(values: Sequence[float]) -> Sequence[float]:
    step = -(-len(values) // MOST)
    return values[::step] if step > 1 else values


def _word(value: object) -> str:
    text = " ".join(str(value).split())
    return text[:40] if text else "none"
