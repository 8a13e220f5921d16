"""A long recording diagnosed by several processes, to the same words as by one.

Each takes a share of the time and a run-up before it in which it comes to know what one needs to know. That this was
enough is not believed but compared, at every border between two shares: where the one that came before knows what
matters and the run-up did not show, its knowledge is carried on, part by part, until both know the same.
"""

from __future__ import annotations

import os
import signal
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtop.diagnose.checkpoint import Checkpoint, Start, run_up_s, same_future
from qtop.diagnose.parts import PART_S, Judging, Part, part_begin
from qtop.diagnose.registry import RULES
from qtop.diagnose.whole import Since, Sum, Whole, diagnose_all
from qtop.model.derive import run_up
from qtop.model.frame import Frame
from qtop.record.ahead import ahead
from qtop.record.reader import Recording
from qtop.startup import settle

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SHARE_S = 1500.0
"""Another process for less than that, or so many samples, costs more than it gains: it must start, and run up."""
MOST = 8
"""Processes at once."""
NICE = 5
"""The others are less urgent than the first: a server may be running here."""


class NotSharedError(Exception):
    """This recording is one process's work: the clock was set back in it, it is damaged, or a process was lost."""


class Border(NamedTuple):
    """Between two parts: what is known there, and where to begin deriving frames so that all of it is."""

    frames: Checkpoint
    judging: Checkpoint


class Step(NamedTuple):
    """A part, judged; the borders before and after it, None for the end of the file."""

    before: Border
    part: Part
    after: Border | None


class Walk:
    """Judges a recording part by part, from ``begin`` (Unix seconds, where a part begins) to ``end`` (None: its end).

    It goes on from ``known``, where that is given; else from the recording's first sample or a run-up before ``begin``.
    """

    def __init__(self, recording: Recording, begin: float, end: float | None, known: Border | None = None) -> None:
        self._recording, self._begin, self._end, self._known = recording, begin, end, known
        start = Start(known.frames, known.judging, begin) if known is not None else None
        self._judging = Judging(recording.start, start)
        self._run_up = run_up(recording.header.interval)
        self._trail: deque[Checkpoint] = deque()

    @property
    def frame(self) -> Frame:
        """The last one."""
        return self._judging.frame

    def __iter__(self) -> Iterator[Step]:
        judging, before = self._judging, float("-inf")
        frames_from, judged_from = self._from()
        border: Border | None = None
        for sample in self._recording.seek(frames_from):
            t = sample.t
            if t < frames_from and self._known is not None:
                continue
            if t < before:
                raise NotSharedError
            before = t
            self._remember(t)
            if t < judged_from:
                judging.run_up(sample)
                continue
            if judging.part is None or judging.full(t):
                here, part = self._border(t), judging.part
                if border is not None and part is not None:
                    yield Step(border, part, here)
                if self._end is not None and t >= self._end:
                    return
                border = here if t >= self._begin else None
                judging.next_part(t)
            judging.push(sample)
        if border is not None and judging.part is not None:
            yield Step(border, judging.part, None)

    def _from(self) -> tuple[float, float]:
        """Unix times from which on frames are derived, and judged."""
        if self._known is not None:
            return self._known.frames.t, self._known.judging.t
        begin = self._begin - max(run_up_s(), 2 * self._run_up)
        return begin, begin - 1e9

    def _remember(self, t: float) -> None:
        """Where frames may be derived from again, for the next border."""
        trail = self._trail
        if not trail or t - trail[-1].t >= self._run_up / 2:
            trail.append(Checkpoint(t, self._judging.deriver.carried(), (), None))
            while len(trail) > 1 and t - trail[1].t > self._run_up:
                trail.popleft()

    def _border(self, t: float) -> Border:
        early = bisect_right(self._trail, t - self._run_up, key=lambda one: one.t)
        return Border(self._trail[max(0, early - 1)], self._judging.checkpoint(t))


class Share(NamedTuple):
    """What a process came to."""

    steps: list[Step]
    damaged: int
    """Records that it could not read."""


def diagnose_recording(recording: Recording, most: int | None = None) -> Whole | None:
    """All of a recording; None when it holds no samples. ``most``: processes, by default one for each CPU."""
    begins = _begins(recording, min(MOST, len(os.sched_getaffinity(0))) if most is None else most)
    if len(begins) > 1:
        with suppress(NotSharedError):
            return _together(recording, begins)
    return diagnose_all(ahead(recording.samples()))


def _begins(recording: Recording, most: int) -> list[float]:
    """Unix times at which shares begin, each at the beginning of a part; one where it is not worth more."""
    slow = max(1.0, recording.header.interval or 1.0)
    count = min(most, int(recording.duration / (SHARE_S * slow))) if recording.indexed else 1
    marks = [mark.t for mark in recording.index] if count > 1 else []
    if count < 2 or any(later < before for before, later in pairwise(marks)):
        return [recording.start]
    wanted = (marks[len(marks) * at // count] - marks[0] for at in range(count))
    return sorted({part_begin(marks[0], round(one / PART_S)) for one in wanted})


def _together(recording: Recording, begins: list[float]) -> Whole | None:
    """By a process for each share; the last one is done here."""
    damaged = recording.skipped
    with ExitStack() as stack:
        pipes = [stack.enter_context(_process(recording.path, *share)) for share in pairwise(begins)]
        walk = Walk(recording, begins[-1], None)
        mine = Share(list(walk), recording.skipped)
        shares = [*map(_received, pipes), mine]
    if any(share.damaged != damaged for share in shares):
        raise NotSharedError
    return join(recording, begins, [share.steps for share in shares], walk.frame)


def join(recording: Recording, begins: list[float], shares: list[list[Step]], frame: Frame) -> Whole | None:
    """Shares put together in their order; ``frame`` is the last one's last."""
    if any(steps and steps[-1].after is None for steps in shares[:-1]):
        raise NotSharedError  # what lay there is gone: a ring let go of it
    joined = _Joined(recording, frame)
    for steps, end in zip(shares, [*begins[1:], None], strict=True):
        joined.add(steps, end)
    return joined.total.whole(joined.frame)


class _Joined:
    """Shares put together in their order; ``known`` is what is known after the last of them."""

    def __init__(self, recording: Recording, frame: Frame) -> None:
        self._recording = recording
        self.total, self.frame = Sum(), frame
        self._known: Border | None = None

    def add(self, steps: list[Step], end: float | None) -> None:
        """The next share, which ends at Unix second ``end``."""
        rest = deque(steps)
        if self._known is not None and rest and not _same(self._known, rest[0].before):
            walk = Walk(self._recording, self._known.judging.t, end, self._known)
            for step in walk:
                self.total.add(step.part)
                self._known = step.after
                stale = rest.popleft().after if rest else None  # the file may have grown since
                if self._known is None:
                    self.frame = walk.frame
                elif stale is not None and _same(self._known, stale):
                    break
        since = _since(self._known, rest[0].before) if self._known is not None and rest else {}
        for step in rest:
            self.total.add(step.part, since)
        if rest:
            self._known = _corrected(rest[-1].after, since)


def _same(one: Border, other: Border) -> bool:
    return same_future(one.judging, other.judging)


def _since(true: Border, known: Border) -> Mapping[str, Since]:
    """By rule, where they are not of one mind since when its state stands."""
    pairs = zip(RULES, known.judging.states, true.judging.states, strict=True)
    return {rule.id: Since(was.state, was.since, true.since) for rule, was, true in pairs if was.since != true.since}


def _corrected(border: Border | None, since: Mapping[str, Since]) -> Border | None:
    """The same with states that stand since before the share's beginning."""
    if border is None:
        return None
    told = (since.get(rule.id) for rule in RULES)
    states = [
        state._replace(since=one.of(state.state, state.since)) if one is not None else state
        for state, one in zip(border.judging.states, told, strict=True)
    ]
    return border._replace(judging=border.judging._replace(states=tuple(states)))


@contextmanager
def _process(path: Path, begin: float, end: float) -> Iterator[Connection]:
    """A process at work on a share, until it is left; what it comes to is read from the pipe."""
    import multiprocessing  # takes longer to load than a short recording to diagnose

    context = multiprocessing.get_context("spawn")  # a fork would hold whatever locks other threads hold now
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, path, begin, end), daemon=True)
    try:
        process.start()
    except OSError:
        raise NotSharedError from None
    there.close()
    try:
        yield here
    finally:
        process.terminate()
        process.join()
        here.close()


def _received(pipe: Connection) -> Share:
    try:
        share: Share = pipe.recv()
    except (EOFError, OSError):
        raise NotSharedError from None  # it was killed
    return share


def _work(pipe: Connection, path: Path, begin: float, end: float) -> None:
    """In a process of its own. Says nothing when it fails: the first one then does all by itself."""
    from multiprocessing import parent_process

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first one, which ends the others
    first = parent_process()
    try:
        os.nice(NICE)
        settle()
        recording = Recording(path)
        steps = []
        for step in Walk(recording, begin, end):
            steps.append(step)
            if first is not None and not first.is_alive():
                return
        pipe.send(Share(steps, recording.skipped))
    except Exception:
        if os.environ.get("QTOP_DEBUG"):
            raise
