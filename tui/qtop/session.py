"""The façade that the dashboard and the command line share: samples in, snapshots out, and what can be done about
them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qtop.clock import mono, wall
from qtop.diagnose.engine import Diagnosis
from qtop.diagnose.rule import Observed
from qtop.diagnose.verdict import verdict
from qtop.errors import QtopError, Refused, Unreachable
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView
from qtop.model.history import History
from qtop.model.several import cap_of
from qtop.sample import NOT_YET, Absent, ClientSample, EngineSample, Event, PromptEnds, Sample, ServerInfo, Why
from qtop.snapshots import KEEP, Snapshot, Snapshots
from qtop.source import Source

if TYPE_CHECKING:
    from qtop.act.actor import Actor
    from qtop.collect.http import Access
    from qtop.probe.messages import ProbeEvent, ProbeRequest
    from qtop.probe.runner import ProbeRun
    from qtop.probe.tally import Tally
    from qtop.probe.timing import ProbeResult
    from qtop.record.writer import RecordingWriter
    from qtop.timeline.rerun import Moment, Rerun
    from qtop.timeline.scan import Timeline
    from qtop.watch import ServerWindow, Watch

__all__ = ["WITH_PROMPTS", "Origin", "Session", "Snapshot", "require_latest"]

Origin = Literal["real", "stub", "synthetic"]
WITH_PROMPTS = "with what test prompts ask and what is answered"
"""Said wherever a recording is begun that keeps them."""


class Session:
    """One source, watched. ``actor`` is None on a recording, and with ``read_only``: there is nobody to act."""

    def __init__(
        self, source: Source, access: Callable[[], Access | None] | None = None, read_only: bool = False
    ) -> None:
        self.source = source
        self.read_only = read_only
        self.history = History()
        self._access = access
        self._actor: Actor | None = None
        self._making = threading.Lock()
        self.latest: Snapshot | None = None
        self._deriver = Deriver()
        self._diagnosis: Diagnosis | None = None
        self._snapshots = Snapshots()
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._fresh = threading.Condition()
        self._seq = 0
        self._jumps = 0
        self._writer: RecordingWriter | None = None
        self._record_error = ""
        self._record_every = self._record_next = 0.0
        self._probe: ProbeRun | None = None
        self._watch: Watch | None = None
        self._tally: Tally | None = None
        self._engine: EngineSample | Absent = NOT_YET

    @property
    def may_act(self) -> bool:
        """Whether anything can be changed from here: not on a recording, nor with ``read_only``."""
        return self.source.live and self._access is not None and not self.read_only

    @property
    def actor(self) -> Actor | None:
        """Who changes things, made when first asked for; None where nothing may be changed."""
        access = self._access
        if not self.may_act or access is None:
            return None
        from qtop.act.actor import Actor

        with self._making:
            if self._actor is None:
                from qtop.act import reach

                reach.through(access)
                self._actor = Actor(lambda: self.latest.frame if self.latest else None, self.probe_request)
            return self._actor

    @property
    def no_actor(self) -> str:
        """Why there is none, for a person."""
        if self.read_only:
            return "qtop runs with --read-only: nothing can be changed"
        return "this is a recording: nothing can be changed here"

    def opening(self) -> Snapshot:
        """What to show until the first sample: nothing has been read yet. Its number is 0."""
        looking = Absent(Why.NOT_YET, "looking for a server")
        nothing = Sample(wall(), looking, NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET)
        frame = Deriver().push(nothing)
        return Snapshot(0, frame, (), verdict(frame, ()))

    def listen(self, listener: Callable[[Snapshot], None]) -> None:
        """Call ``listener`` with each snapshot, on the source's thread: it must not block."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin sampling."""
        self.source.start(self._take)

    def close(self) -> None:
        """End everything: a change under way is put back, the recording closed, the children stopped."""
        if self._actor is not None and self._actor.busy:
            self._actor.cancel()
        self.cancel_probe()
        self.source.stop()
        self.stop_recording()

    def jump(self, t: float, timeline: Timeline) -> None:
        """Go to the last moment of a recording at or before Unix second ``t``; what is shown there is what playing up
        to there shows, as far as the timeline has got. Charts and steps back fill up once it is shown."""
        from qtop.source.replay import ReplaySource
        from qtop.timeline.going import jump_to

        source = self.source
        if not isinstance(source, ReplaySource):
            raise Refused("this is no recording: time cannot be gone through here")
        source.jump(jump_to(t, timeline, source.recording, self._arrive, self._fill))

    def _arrive(self, moments: Sequence[Moment], rerun: Rerun) -> None:
        """Go on from the last of these, which replace all that was kept."""
        history = History()
        for moment in moments:
            history.add(moment.frame)
        self._jumps += 1
        self._seq += 2 * KEEP  # numbers for these, and for what is yet to come before them
        self._deriver, self._diagnosis, self.history = rerun.deriver, rerun.diagnosis, history
        shown = self._snapshots.begin(moments, self._seq, self._jumps)
        if shown is not None:
            self._publish(shown)

    def _fill(self, moments: Sequence[Moment]) -> None:
        """Put these before all that is kept, and tell that there is more to show."""
        first, latest = self._snapshots.first, self.latest
        if first is None or latest is None:
            return
        history = History()
        for frame in (
            *(moment.frame for moment in moments),
            *self.history.between(first.frame.t - 1e-6, latest.frame.t),
        ):
            history.add(frame)
        self._snapshots.prepend(moments)
        self.history = history
        self._publish(latest)

    def _take(self, sample: Sample) -> None:
        writer = self._writer
        if writer is not None and sample.t >= self._record_next:
            # Half an interval of slack: samples come a little early and late.
            self._record_next = sample.t + self._record_every - self.source.interval / 2
            writer.sample(sample)
        frame = self._deriver.push(sample)
        if self._diagnosis is None:
            from qtop.diagnose.registry import RULES

            self._diagnosis = Diagnosis(RULES)
        findings = self._diagnosis.push(frame)
        self._engine = sample.engine
        if self._watch is not None:
            self._watch.push(sample, frame, findings)
        self._seq += 1
        held = self.latest.verdict.rule if self.latest is not None else None
        snapshot = Snapshot(self._seq, frame, findings, verdict(frame, findings, held), self._jumps)
        self.history.add(frame)
        self._snapshots.add(snapshot)
        self._publish(snapshot)

    def _publish(self, snapshot: Snapshot) -> None:
        with self._fresh:
            self.latest = snapshot
            self._fresh.notify_all()
        for listener in self._listeners:
            listener(snapshot)

    def wait(self, after: int = 0, timeout: float = 10.0) -> Snapshot | None:
        """The first snapshot later than number ``after``, or None when none comes in time."""
        with self._fresh:
            self._fresh.wait_for(lambda: self.latest is not None and self.latest.seq > after, timeout)
            latest = self.latest
        return latest if latest is not None and latest.seq > after else None

    def back(self, steps: int) -> Snapshot | None:
        """The snapshot ``steps`` before the latest (the oldest kept, if there are fewer)."""
        return self._snapshots.back(steps)

    def index_of(self, snapshot: Snapshot) -> int:
        """How many steps before the latest this snapshot lies."""
        return self._snapshots.index_of(snapshot)

    @property
    def kept(self) -> int:
        """How many snapshots can be stepped through."""
        return len(self._snapshots)

    def observed(self, rule_id: str, seconds: float = 300.0) -> tuple[list[tuple[float, float | None]], float]:
        """(seconds ago, value) that a rule saw in the frames kept, and its lowest threshold; None where it saw
        nothing."""
        from qtop.diagnose.registry import BY_ID

        rule = BY_ID[rule_id]
        end = self.latest.frame.t if self.latest is not None else 0.0
        points: list[tuple[float, float | None]] = []
        for frame in self.history.between(end - seconds, end):
            answer = rule.look(frame)
            points.append((end - frame.t, answer.value if isinstance(answer, Observed) else None))
        return points, min(enter.at for enter in rule.enter)

    # Test prompts

    def probe_request(
        self, prompt: str, max_tokens: int, requests: int = 1, warmup: int = 0, **more: Any
    ) -> ProbeRequest:
        """A test prompt for the attached server; Unreachable when there is none, Refused on a recording. ``more`` are
        further fields of ProbeRequest."""
        from qtop.probe.messages import ProbeRequest

        if self._access is None:
            raise Refused("a recording has no server to ask")
        access = self._access()
        frame = self.latest.frame if self.latest is not None else None
        if access is None or frame is None or not isinstance(frame.server, ServerInfo):
            why = str(frame.server) if frame is not None and isinstance(frame.server, Absent) else "no server found"
            raise Unreachable(why, "Start one, or name it with --url or --pid.")
        model = frame.server.model
        return ProbeRequest(
            url=access.url,
            model=model if isinstance(model, str) else "",
            prompt=prompt,
            max_tokens=max_tokens,
            requests=requests,
            warmup=warmup,
            api_key=access.api_key or "",
            verify=access.verify,
            trust_env=not frame.server.on_host,
            **more,
        )

    def context(self) -> int | None:
        """What the attached server takes, prompt and answer together, in tokens; None where it does not tell."""
        frame = self.latest.frame if self.latest is not None else None
        server = frame.server if frame is not None else None
        return _whole(server.max_model_len) if isinstance(server, ServerInfo) else None

    def probe_plan(self, request: ProbeRequest) -> tuple[str, str | None]:
        """What a test prompt will send, and a warning when the server is saturated already."""
        from qtop.probe.runner import plan_text

        frame = self.latest.frame if self.latest is not None else None
        running = waiting = cap = None
        if frame is not None and isinstance(frame.engine, EngineView):
            running, waiting = _whole(frame.engine.running), _whole(frame.engine.waiting)
        if frame is not None and isinstance(frame.server, ServerInfo):
            cap = _whole(cap_of(frame))
        return plan_text(request, running, waiting, cap)

    def start_probe(self, request: ProbeRequest, on_event: Callable[[ProbeEvent], None]) -> ProbeRun:
        """Stream test prompts in a process of their own; events come on its reader's thread. One test at a time. What
        the server does meanwhile is watched: ``probe_window`` tells."""
        from qtop.probe.runner import ProbeRun
        from qtop.probe.tally import Tally
        from qtop.probe_notes import ProbeNotes
        from qtop.watch import Watch

        if self._probe is not None and self._probe.running:
            raise Refused("a test prompt is under way", "Esc cancels it.")
        tally = self._tally = self._tally or Tally()
        probe = self._probe = ProbeRun()
        watch = self._watch = Watch(self._engine)
        notes = ProbeNotes(request, self.note, lambda: self._writer is not None and self._writer.prompts)

        def heard(event: ProbeEvent) -> None:
            if event.kind == "started" and not event.warmup:
                watch.begin(event.t)
            elif event.kind == "end":
                watch.end(event.t)
            elif event.kind == "done" and event.result is not None:
                tally.take(request, event.result, self.context())
            notes.take(event)
            on_event(event)

        probe.start(request, heard)
        return probe

    def prompts(self) -> ClientSample:
        """What qtop's own test prompts add up to so far."""
        tally = self._tally
        return tally.sample(mono()) if tally is not None else ClientSample(mono(), 0, 0.0, 0.0, PromptEnds())

    @property
    def watching(self) -> Watch | None:
        """Who watches the server for the latest test."""
        return self._watch

    def probe_window(
        self, results: Sequence[ProbeResult], timeout: float, watch: Watch | None = None
    ) -> ServerWindow | None:
        """What the server did during the latest test, or the one that ``watch`` was for, once it has been read after it
        (at most ``timeout`` seconds); None where there was none."""
        watch = watch or self._watch
        if watch is None:
            return None
        watch.wait(timeout)
        return watch.result(results)

    @property
    def probing(self) -> bool:
        """A test prompt is under way."""
        return self._probe is not None and self._probe.running

    def cancel_probe(self) -> None:
        """End the test prompt: its connection is closed, so the server stops generating."""
        if self._probe is not None:
            self._probe.cancel()

    def child_pids(self) -> tuple[int, ...]:
        """The prober, while it runs."""
        probe = self._probe
        return (probe.pid,) if probe is not None and probe.running and probe.pid is not None else ()

    # Recording

    def start_recording(
        self,
        path: Path,
        overwrite: bool = False,
        note: str = "",
        origin: Origin = "real",
        every_s: float = 0.0,
        prompts: bool = False,
    ) -> None:
        """Record from now on; QtopError when the file cannot be made. ``origin``: "real", or "stub" where a fake
        stands for a part of what is read. ``every_s``: a sample every so many seconds, 0: each. ``prompts``: keep what
        test prompts ask and what comes back."""
        from qtop.record.writer import Header, RecordingWriter

        if self._writer is not None:
            raise Refused("a recording is under way")
        if not self.source.live:
            raise Refused("this is a recording already")
        self._record_error = ""
        self._record_every, self._record_next = every_s, 0.0
        header = Header.here(interval=max(self.source.interval, every_s), source=origin, note=note, prompts=prompts)
        self._writer = RecordingWriter(path, header, overwrite=overwrite)

    def stop_recording(self) -> RecordingWriter | None:
        """Close the recording; gives the writer for its figures, None if there was none."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            self._record_error = writer.error or ""
        return writer

    @property
    def recording(self) -> RecordingWriter | None:
        """The writer, while recording."""
        return self._writer

    @property
    def record_error(self) -> str:
        """Why the recording stopped by itself, one line, or ""."""
        return (self._writer.error or "") if self._writer is not None else self._record_error

    def note(self, kind: str, data: dict[str, object], t: float | None = None) -> None:
        """Put an event into the recording, if there is one; of Unix second ``t``, else of now."""
        if self._writer is not None:
            self._writer.event(Event(wall() if t is None else t, kind, data))


def _whole(reading: object) -> int | None:
    return int(reading) if isinstance(reading, (int, float)) else None


def require_latest(session: Session, seconds: float = 10.0) -> Snapshot:
    """The first snapshot; QtopError when none comes."""
    snapshot = session.wait(0, seconds)
    if snapshot is None:
        raise QtopError("nothing could be read from this host")
    return snapshot
