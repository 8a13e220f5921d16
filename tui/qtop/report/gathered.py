"""All that a report says, gathered from a recording in one pass: figures over time, the verdict's history, events."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from qtop.diagnose.engine import Finding
from qtop.diagnose.rule import State
from qtop.diagnose.whole import Whole, diagnose_all
from qtop.errors import QtopError
from qtop.model.breaks import GAP_TICKS
from qtop.model.frame import Frame, GpuView, Stage, Waterfall
from qtop.model.settings import SettingsView
from qtop.probe.timing import ProbeResult
from qtop.record.ahead import ahead
from qtop.record.reader import Recording
from qtop.record.redact import Redactor, here, holds_text, redact_sample_server
from qtop.sample import Absent, Event, Sample, ServerInfo
from qtop.sample.codec import Header
from qtop.units import plural

GPUS = 4
"""GPUs drawn, a line each; more cannot be told apart."""
NO_FINDING = "no finding leads"
ACTIONS = ("change", "tune", "undo")

Points = list[tuple[float, float | None]]
"""(Unix time, value), None where the reading was absent."""


@dataclass
class Line:
    """One figure over time."""

    name: str
    points: Points = field(default_factory=list)

    @property
    def seen(self) -> bool:
        """Whether there is any value."""
        return any(value is not None for _, value in self.points)


@dataclass
class Chart:
    """Figures that share an axis; ``top`` is the axis's end where it has a natural one."""

    title: str
    unit: str
    lines: dict[str, Line] = field(default_factory=dict)
    top: float | None = None

    def add(self, name: str, t: float, value: object, scale: float = 1.0) -> None:
        """A reading; anything but a finite number is a gap."""
        there = isinstance(value, (int, float)) and math.isfinite(value)
        line = self.lines.setdefault(name, Line(name))
        line.points.append((t, float(value) * scale if there else None))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Span:
    """From one Unix time to another; ``rule`` None for a verdict without a finding."""

    begin: float
    end: float
    rule: str | None


@dataclass(frozen=True)
class Gathered:
    """A report's content; texts from the recording are redacted, not yet escaped."""

    header: Header
    whole: Whole
    charts: tuple[Chart, ...]
    history: tuple[Span, ...]
    """Who led the verdict, without holes but those of the recording."""
    firing: dict[str, tuple[Span, ...]]
    """By rule, those that ever fired, in the order of the findings."""
    waterfall: Waterfall | Absent
    server: ServerInfo | Absent
    settings: SettingsView | Absent
    probes: tuple[ProbeResult, ...]
    events: tuple[Event, ...]
    """All but test prompts."""
    texts: int
    """Events of the recording that hold what somebody asked or what was answered."""
    unredacted: bool
    """The recording names what this qtop leaves out when it writes one."""
    gap_s: float
    skipped: int
    redactor: Redactor

    @property
    def holds_prompts(self) -> str:
        """Said of a recording with texts in it, "" of others."""
        if self.texts:
            return f"holds prompts ({plural(self.texts, 'test prompt')} with what was asked and answered)"
        return "made to hold prompts (--include prompts), holds none" if self.header.prompts else ""

    def text(self, text: object) -> str:
        """A text of the recording on one line, without secrets."""
        return self.redactor.text(" ".join(str(text).split()))


def gather(path: Path) -> Gathered:
    """Read a recording; QtopError when it is none or holds no samples."""
    recording = Recording(path)
    seen = _Seen()
    events: list[Event] = []
    whole = diagnose_all(ahead(_samples(recording, events)), seen.push)
    if whole is None:
        raise QtopError(f"{path} holds no samples")
    redactor = here()
    told = [redactor.event(event) for event in events]
    gap = GAP_TICKS * seen.interval()
    return Gathered(
        header=recording.header,
        whole=whole,
        charts=tuple(chart for chart in seen.charts if any(line.seen for line in chart.lines.values())),
        history=tuple(_spans(seen.leaders, gap)),
        firing=_firing(whole),
        waterfall=seen.waterfall(),
        server=redact_sample_server(seen.server),
        settings=seen.settings,
        probes=tuple(_probes(told)),
        events=tuple(event for event in told if event.kind != "probe"),
        texts=sum(map(holds_text, events)),
        unredacted=_names_more(recording, redactor),
        gap_s=gap,
        skipped=recording.skipped,
        redactor=redactor,
    )


def _samples(recording: Recording, events: list[Event]) -> Iterator[Sample]:
    for record in recording.records():
        if isinstance(record, Event):
            events.append(record)
        else:
            yield record


def _names_more(recording: Recording, redactor: Redactor) -> bool:
    """Whether the last sample would be written with less in it now; all of a recording are written by one qtop."""
    last = next(recording.seek(recording.end), None)
    return last is not None and redactor.sample(last) != last


class _Seen:
    """Takes frames in and keeps of each a few numbers."""

    def __init__(self) -> None:
        self.leaders: list[tuple[float, str | None]] = []
        self.server: ServerInfo | Absent = Frame(0.0, 0.0).server
        self.settings: SettingsView | Absent = Frame(0.0, 0.0).settings
        self.requests = Chart("Requests", "requests")
        self.tokens = Chart("Throughput", "tok/s")
        self.ttft = Chart("TTFT, mean of 30 s", "ms")
        self.itl = Chart("Gap between tokens, mean of a tick", "ms")
        self.kv = Chart("KV cache in use", "%", top=100.0)
        self.cpu = Chart("CPU", "%", top=100.0)
        self.gpu = Chart("GPU busy", "%", top=100.0)
        self.vram = Chart("GPU memory", "GiB")
        self.power = Chart("GPU power", "W")
        self.memory = Chart("Host memory available", "GiB")
        self.charts = (
            *(self.requests, self.tokens, self.ttft, self.itl, self.kv),
            *(self.cpu, self.gpu, self.vram, self.power, self.memory),
        )
        self._sums: dict[str, list[float]] = {}
        self._last: Waterfall | Absent = Frame(0.0, 0.0).waterfall
        self._trusted: Waterfall | None = None

    def push(self, _sample: Sample, frame: Frame, leader: Finding | None) -> None:
        """One tick."""
        t = frame.t
        self.leaders.append((t, leader.rule if leader is not None else None))
        if isinstance(frame.server, ServerInfo):
            self.server = frame.server
        if isinstance(frame.settings, SettingsView):
            self.settings = frame.settings
        engine, host, sched = frame.engine, frame.host, frame.sched
        for chart, names in (
            (self.requests, ("running", "waiting")),
            (self.tokens, ("gen_tok_s", "prompt_tok_s")),
        ):
            for name in names:
                label = {"gen_tok_s": "generated", "prompt_tok_s": "prompt"}.get(name, name)
                chart.add(label, t, getattr(engine, name, None))
        self.itl.add("ITL", t, getattr(engine, "itl_ms", None))
        self.kv.add("in use", t, getattr(engine, "kv_use", None), 100.0)
        self.ttft.add("TTFT", t, getattr(frame.waterfall, "ttft_ms", None))
        waits = None if isinstance(sched, Absent) or not sched.critical else sched.critical[0].wait
        self.cpu.add("critical thread waits", t, waits, 100.0)
        self.cpu.add("host busy", t, getattr(host, "busy", None), 100.0)
        self.memory.add("available", t, getattr(host, "mem_available", None), 1 / 2**30)
        self._gpus(t, () if isinstance(frame.gpus, Absent) else frame.gpus[:GPUS])
        self._fall(frame.waterfall)

    def _gpus(self, t: float, gpus: tuple[GpuView, ...]) -> None:
        there = {f"GPU {gpu.index}": gpu for gpu in gpus}
        for name in sorted({*self.gpu.lines, *there}):
            gpu = there.get(name)
            self.gpu.add(name, t, getattr(gpu, "util", None), 100.0)
            self.vram.add(name, t, getattr(gpu, "mem_used", None), 1 / 2**30)
            self.power.add(name, t, getattr(gpu, "power_w", None))

    def _fall(self, fall: Waterfall | Absent) -> None:
        if isinstance(fall, Absent):
            return
        self._last = fall
        if not fall.trusted or isinstance(fall.finished, Absent):
            return
        self._trusted = fall
        for stage in (*fall.stages, Stage("ttft", fall.ttft_ms), Stage("itl", fall.itl_ms)):
            if not isinstance(stage.ms, Absent):
                sums = self._sums.setdefault(stage.name, [0.0, 0.0])
                sums[0] += stage.ms * fall.finished
                sums[1] += fall.finished

    def waterfall(self) -> Waterfall | Absent:
        """The mean of the windows that can be trusted, by their requests; without one, the last window as it is."""
        base = self._trusted
        if base is None:
            return self._last
        means = {name: total / n for name, (total, n) in self._sums.items() if n > 0}
        stages = tuple(msgspec.structs.replace(one, ms=means.get(one.name, one.ms)) for one in base.stages)
        ttft, itl = means.get("ttft", base.ttft_ms), means.get("itl", base.itl_ms)
        return msgspec.structs.replace(base, stages=stages, ttft_ms=ttft, itl_ms=itl)

    def interval(self) -> float:
        """Median seconds between samples."""
        steps = sorted(b[0] - a[0] for a, b in zip(self.leaders, self.leaders[1:], strict=False))
        return max(0.1, steps[len(steps) // 2]) if steps else 1.0


def _spans(leaders: list[tuple[float, str | None]], gap: float) -> Iterator[Span]:
    """Runs of the same leader; a hole in the recording ends one at its last sample."""
    if not leaders:
        return
    begin, rule = leaders[0]
    before = begin
    for t, now in leaders[1:]:
        hole = not 0 <= t - before <= gap
        if now != rule or hole:
            yield Span(begin, before if hole else t, rule)
            begin, rule = t, now
        before = t
    yield Span(begin, before, rule)


def _firing(whole: Whole) -> dict[str, tuple[Span, ...]]:
    spans: dict[str, list[Span]] = {one.rule: [] for one in whole.findings if one.record.times}
    since: dict[str, float] = {}
    for turn in whole.timeline:
        if turn.state is State.FIRING:
            since.setdefault(turn.rule, turn.t)
        elif turn.rule in since:
            spans.setdefault(turn.rule, []).append(Span(since.pop(turn.rule), turn.t, turn.rule))
    for rule, begin in since.items():
        spans.setdefault(rule, []).append(Span(begin, whole.end, rule))
    return {rule: tuple(held) for rule, held in spans.items() if held}


def _probes(events: Iterable[Event]) -> Iterator[ProbeResult]:
    """Test prompts; one that this qtop does not understand is passed over."""
    for event in events:
        if event.kind == "probe":
            try:
                yield msgspec.convert(event.data, ProbeResult, strict=False)
            except msgspec.ValidationError:
                continue


def led(history: Iterable[Span]) -> list[tuple[str | None, float, float, float]]:
    """(rule, seconds that it led, first, last), the longest first."""
    sums: dict[str | None, list[float]] = {}
    for span in history:
        held = sums.setdefault(span.rule, [0.0, span.begin, span.end])
        held[0] += span.end - span.begin
        held[2] = span.end
    rows = [(rule, held[0], held[1], held[2]) for rule, held in sums.items()]
    return sorted(rows, key=lambda row: (-row[1], row[0] or ""))


def utc(t: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A Unix time in UTC, so that the page does not depend on where it is made; "–" for one beyond the calendar."""
    try:
        return time.strftime(form, time.gmtime(t))
    except (OverflowError, ValueError, OSError):
        return "–"
