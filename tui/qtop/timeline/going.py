"""Going to a moment of a recording: at once with a short run-up, and what came before it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from qtop.model.history import KEEP_S
from qtop.record.reader import Recording
from qtop.sample import Sample
from qtop.source.replay import Jump
from qtop.timeline.rerun import Moment, Rerun
from qtop.timeline.scan import AT_ONCE, REST_S, Timeline

Arrive = Callable[[Sequence[Moment], Rerun], None]
Fill = Callable[[Sequence[Moment]], None]


def jump_to(t: float, timeline: Timeline, recording: Recording, arrive: Arrive, fill: Fill) -> Jump:
    """A jump to Unix second ``t``. ``arrive`` is called with the moments of the run-up, the one gone to as the last,
    and with what goes on from there; ``fill``, once that is shown, with those of the quarter of an hour before."""
    start = timeline.start_for(t)
    first: list[float] = []

    def land(samples: Iterator[Sample]) -> None:
        rerun = Rerun(start)
        moments = [moment for sample in samples if (moment := rerun.push(sample)) is not None]
        told = [moment.frame.t for moment in moments if moment.verdict is not None]
        if told:
            first.append(told[0])
            arrive(moments, rerun)

    def settle(going: Callable[[], bool]) -> None:
        if not first:
            return
        before = timeline.start_for(first[0] - KEEP_S)
        rerun = Rerun(before)
        moments: list[Moment] = []
        for at, sample in enumerate(recording.seek(before.begin)):
            if not going():
                return
            if sample.t >= first[0]:
                break
            if (moment := rerun.push(sample)) is not None:
                moments.append(moment)
            if at % AT_ONCE == 0:
                time.sleep(REST_S)  # the screen is drawn meanwhile
        fill(moments)

    return Jump(t, start.begin, land, settle)
