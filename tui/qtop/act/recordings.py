"""Two recordings against each other, before and after a change: figures of windows of some seconds, with a band for
noise and the words that test requests get (``qtop.probe.compare``), and the loads that spoil it (``qtop.act.load``).

A window is to a recording what a request is to a test: one number. TTFT and gaps of a window are the server's own, of
exactly the requests between its two scrapes. The two recordings were not taken in turn: a machine that got slower by
itself in between looks like a change, and only what wanders within a recording widens the band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Literal

import msgspec

from qtop.act.load import TIMES, Load, in_flight, spoils
from qtop.model.frame import EngineView, Frame
from qtop.model.waterfall import waterfall
from qtop.probe.compare import FLOOR_PCT, NEEDS, band_of
from qtop.sample import Absent, EngineSample, Reading, Sample, ServerInfo

WINDOW_S, SHORTEST_S = 10.0, 3.0
SIX = 6
"""Windows that the shorter recording should have at least, so that its halves can be told apart."""
TICKS = 4
"""Of a recording that has few of them, a window holds so many."""
LOADS = 1.25
"""So many times the load is another load: over minutes it wanders less than between a few test prompts."""
HIDES = 25.0
"""Percent: where the noise of a figure that decides is larger, a change that matters may be hidden in it: whether there
is one cannot be told."""
FINISHED = 20.0
"""Requests from which their mean length says something."""

Word = Literal["better", "worse", "higher", "lower", "within noise", "cannot tell"]


@dataclass(frozen=True)
class Kind:
    """A figure that is compared."""

    name: str
    unit: str
    """"ms", "tokens/s", "requests" or "share"."""
    better: int
    """-1: lower is better, 1: higher, 0: neither."""
    floor: float
    """A smaller difference is none, whatever it is in percent."""
    by_load: bool = False
    """It grows with the load by itself, so that under another load it says nothing at all."""
    decides: bool = False
    """It counts for the verdict on the whole."""


KINDS = (
    Kind("TTFT", "ms", -1, 1.0, decides=True),
    Kind("gap", "ms", -1, 0.05, decides=True),
    Kind("tokens", "tokens/s", 1, 1.0, by_load=True, decides=True),
    Kind("queue time", "ms", -1, 1.0),
    Kind("waiting", "requests", -1, 0.5),
    Kind("CPU wait", "share", -1, 0.02),
    Kind("GPU utilisation", "share", 0, 0.02, by_load=True),
    Kind("KV cache", "share", 0, 0.01, by_load=True),
)


class Difference(msgspec.Struct, frozen=True):
    """One figure before and after; None where it cannot be had. ``before``, ``after`` and ``band`` are in ``unit``."""

    name: str
    unit: str
    before: float | None
    after: float | None
    change_pct: float | None
    """None where it was 0 before."""
    band: float | None
    """A change within ± this is noise."""
    windows: tuple[int, int]
    verdict: Word
    why: str = ""
    """Why it cannot be told, one clause."""


class Compared(msgspec.Struct, frozen=True):
    """What two recordings show together."""

    verdict: Word
    why: str
    """What decided, one clause."""
    differences: tuple[Difference, ...]
    before: Load | None
    after: Load | None


def window_seconds(durations: Sequence[float], intervals: Sequence[float]) -> float:
    """How long the windows of these recordings are: 10 s, shorter where one is shorter than a minute, longer where the
    samples lie far apart."""
    usual = min(WINDOW_S, max(SHORTEST_S, min(durations) // SIX))
    return max(usual, TICKS * max(intervals) if max(intervals) > 1.5 else 0.0)


@dataclass
class _Window:
    begin: float
    """Unix time of the tick before its first."""
    first: EngineSample | None
    seconds: float = 0.0
    values: dict[str, list[float]] = field(default_factory=dict)


class Windows:
    """Of one recording. ``see`` takes each sample with its frame, in order."""

    def __init__(self, seconds: float = WINDOW_S) -> None:
        self.seconds = seconds
        self.figures: dict[str, list[float]] = {kind.name: [] for kind in KINDS}
        self.absent: dict[str, str] = {}
        """Why a figure was not there, the latest."""
        self._window: _Window | None = None
        self._last: EngineSample | None = None
        self._engine = "unknown"
        self._flying: list[float] = []
        self._rates: list[float] = []
        self.prompt, self.output, self.finished = 0.0, 0.0, 0.0

    def see(self, sample: Sample, frame: Frame) -> None:
        """A tick."""
        if isinstance(sample.server, ServerInfo):
            self._engine = sample.server.engine
        engine = None if isinstance(sample.engine, Absent) else sample.engine
        window, gap = self._window, not 0.0 < frame.dt <= self.seconds / 2
        if window is None or gap:  # what a gap cuts short does not count
            self._window, self._last = _Window(frame.t, engine), engine
            return
        window.seconds += frame.dt
        self._last = engine
        self._note(window.values, frame)
        if frame.t - window.begin >= self.seconds - frame.dt / 2:
            self._close(window)
            self._window = _Window(frame.t, engine)

    @property
    def load(self) -> Load | None:
        """All of the recording's."""
        return Load(fmean(self._flying), fmean(self._rates) if self._rates else None) if self._flying else None

    def lengths(self) -> tuple[float, float] | None:
        """Mean prompt and output tokens of a request; None where too few finished to tell."""
        enough = max(FINISHED, 2 * fmean(self._flying)) if self._flying else FINISHED
        return (self.prompt / self.finished, self.output / self.finished) if self.finished >= enough else None

    def _note(self, values: dict[str, list[float]], frame: Frame) -> None:
        for name, read in _READ.items():
            self._add(values, name, read(frame))
        engine = frame.engine
        if not isinstance(engine, EngineView):
            return
        if (count := in_flight(engine)) is not None:
            self._flying.append(count)
        if isinstance(engine.gen_tok_s, (int, float)):
            self._rates.append(engine.gen_tok_s)
            if isinstance(engine.prompt_tok_s, (int, float)) and isinstance(engine.finished_s, (int, float)):
                self.output += engine.gen_tok_s * frame.dt
                self.prompt += engine.prompt_tok_s * frame.dt
                self.finished += engine.finished_s * frame.dt

    def _add(self, values: dict[str, list[float]], name: str, reading: Reading[float]) -> None:
        if isinstance(reading, Absent):
            self.absent[name] = str(reading)
        else:
            values.setdefault(name, []).append(float(reading))

    def _close(self, window: _Window) -> None:
        values = window.values
        if window.first is not None and self._last is not None and window.first is not self._last:
            fall = waterfall(self._engine, window.first, self._last)
            if isinstance(fall, Absent):
                self.absent.update(dict.fromkeys(("TTFT", "gap", "queue time"), str(fall)))
            else:
                self._add(values, "TTFT", fall.ttft_ms)
                self._add(values, "gap", fall.itl_ms)
                queue = next((stage for stage in fall.stages if stage.name == "queue"), None)
                if queue is not None:
                    self._add(values, "queue time", queue.ms)
        for name, seen in values.items():
            self.figures[name].append(fmean(seen))


def _engine(pick: Callable[[EngineView], Reading[float]]) -> Callable[[Frame], Reading[float]]:
    return lambda frame: frame.engine if isinstance(frame.engine, Absent) else pick(frame.engine)


def _cpu_wait(frame: Frame) -> Reading[float]:
    if isinstance(frame.sched, Absent):
        return frame.sched
    return max((one.wait for one in frame.sched.critical), default=0.0)


def _util(frame: Frame) -> Reading[float]:
    """Of all GPUs that tell it."""
    if isinstance(frame.gpus, Absent):
        return frame.gpus
    told = [one.util for one in frame.gpus if not isinstance(one.util, Absent)]
    return fmean(told) if told else next((one.util for one in frame.gpus), 0.0)


_READ: Mapping[str, Callable[[Frame], Reading[float]]] = {
    "tokens": _engine(lambda engine: engine.gen_tok_s),
    "waiting": _engine(lambda engine: engine.waiting),
    "KV cache": _engine(lambda engine: engine.kv_use),
    "CPU wait": _cpu_wait,
    "GPU utilisation": _util,
}


def compare_recordings(before: Windows, after: Windows) -> Compared:
    """Compare two recordings that were seen to their ends.

    The whole is worse where TTFT, gaps or tokens a second are; better where one is better and none worse; within noise
    where all are that can be told; where one is better and another worse it cannot be told.
    """
    other = _other_requests(before.lengths(), after.lengths())
    found = tuple(_difference(kind, before, after, other) for kind in KINDS)
    deciding = [one for one, kind in zip(found, KINDS, strict=True) if kind.decides]
    named = {word: [one.name for one in deciding if one.verdict == word] for word in ("better", "worse", "cannot tell")}
    verdict: Word = "within noise"
    why = ""
    if named["better"] and named["worse"]:
        verdict = "cannot tell"
        why = f"{_listed(named['better'])} better, {_listed(named['worse'])} worse"
    elif named["worse"] or named["better"]:
        verdict = "worse" if named["worse"] else "better"
        why = _listed(named[verdict])
    elif len(named["cannot tell"]) == len(deciding):
        verdict = "cannot tell"
        why = next((one.why for one in deciding if one.why), "")
    elif named["cannot tell"]:
        verdict = "cannot tell"
        first = next(one for one in deciding if one.verdict == "cannot tell")
        why = f"{first.name}: {first.why}"
    return Compared(verdict, why, found, before.load, after.load)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _other_requests(before: tuple[float, float] | None, after: tuple[float, float] | None) -> str:
    """Why the requests themselves were others; "" where they were not, or it is not known."""
    if before is None or after is None:
        return ""
    for what, old, new in zip(("prompts", "answers"), before, after, strict=True):
        if max(old, new) >= TIMES * max(1.0, min(old, new)):
            return f"the requests were others: {what} of {old:.0f} tokens before and {new:.0f} after"
    return ""


def _difference(kind: Kind, before: Windows, after: Windows, other: str) -> Difference:
    olds, news = before.figures[kind.name], after.figures[kind.name]
    counts = (len(olds), len(news))
    old, new = (median(side) if side else None for side in (olds, news))
    spread = band_of(olds, news)
    if old is None or new is None or spread is None:
        why = f"needs {NEEDS} windows of {before.seconds:.0f} s on each side, there are {counts[0]} and {counts[1]}"
        reason = next((side.absent[kind.name] for side in (before, after) if kind.name in side.absent), "")
        told = f"{why} ({reason})" if reason and not min(counts) else why
        return Difference(kind.name, kind.unit, old, new, None, None, counts, "cannot tell", told)
    change = new - old
    percent = round(change / old * 100, 1) if old > 0 else None
    band = max(spread, kind.floor, FLOOR_PCT / 100 * abs(old))
    hidden = kind.decides and old > 0 and spread > max(kind.floor, HIDES / 100 * old)
    noise = f"noise of ±{spread / old * 100:.0f} % would hide a change of {HIDES:.0f} %" if hidden else ""
    word: Word = "cannot tell" if hidden else "within noise"
    if abs(change) > band:
        noise = ""
        word = ("higher" if change > 0 else "lower") if not kind.better else _word(change * kind.better)
    loads = (before.load, after.load)
    # ``spoils`` lets pass what is slower under less load; where the load itself makes the figure nothing passes.
    claim = "" if kind.by_load else {"better": "improved", "worse": "worse"}.get(word, "")
    why = spoils(claim, *loads, times=LOADS).replace("others had ", "another load: ") or other
    if why:
        word = "cannot tell"
    why = why or noise
    return Difference(kind.name, kind.unit, round(old, 4), round(new, 4), percent, round(band, 4), counts, word, why)


def _word(gain: float) -> Word:
    return "better" if gain > 0 else "worse"
