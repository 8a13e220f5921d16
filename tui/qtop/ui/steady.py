"""Figures that stand still on the screen while only noise moves them: over SSH each redraw costs bytes.

Only what is drawn is steadied. Frames, rules, charts and recordings are exact, and so is what is read back (a pause, a
replay).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

from msgspec.structs import replace

from qtop.model.frame import Frame, HostView, OwnView, SchedView, WakeupView
from qtop.model.history import History
from qtop.sample import Absent, Reading

HOLD_S = 3.0
"""Seconds after which a reading that goes on being another is shown, however small the difference."""
OWN_S = 10.0
"""Seconds over which qtop's own cost is averaged: drawing a new figure must not change it."""


class Steady:
    """One figure in multiples of ``step``, in its own unit.

    What is shown stays while readings are within ``slack`` steps of it, unless none of the last ``HOLD_S`` seconds
    rounds to it: then the mean of those takes its place. A larger change is shown at once, or ``HOLD_S`` after the
    change before it.
    """

    def __init__(self, step: float, slack: float = 2.0) -> None:
        self._step = step
        self._slack = slack
        self._shown = 0  # in steps
        self._t: float | None = None
        self._confirmed = 0.0
        self._changed = -math.inf
        self._others: list[float] = []

    def show(self, t: float, value: float) -> float:
        """Take a reading at ``t`` (seconds) and return what is to be shown; a time that goes back begins anew."""
        if self._t is None or t < self._t:
            self._t, self._changed = None, -math.inf
            self._take(t, value)
        elif t > self._t:
            self._others.append(value)
            large = abs(value / self._step - self._shown) > self._slack
            if round(value / self._step) == self._shown or (large and t - self._changed >= HOLD_S):
                self._take(t, value)
            elif t - self._confirmed >= HOLD_S:
                self._take(t, fmean(self._others))
        self._t = t
        return self._shown * self._step

    def _take(self, t: float, value: float) -> None:
        before, self._shown, self._confirmed = self._shown, round(value / self._step), t
        if self._t is not None and self._shown != before:
            self._changed = t
        self._others.clear()


class Calm:
    """The noisy figures of one screen."""

    def __init__(self) -> None:
        self._figures: dict[str, Steady] = {}

    def frame(self, frame: Frame, history: History) -> Frame:
        """The frame as it is drawn: the host's shares in 1 %, wake-ups in 0.05 ms, qtop's own cost averaged."""
        t, sched = frame.t, frame.sched
        if isinstance(sched, SchedView):
            sched = replace(sched, cpu=self._steady("cpu", 0.01, t, sched.cpu))
        return replace(
            frame, sched=sched, host=self._host(frame), wakeup=self._wakeup(frame), own=self._own(frame, history)
        )

    def _host(self, frame: Frame) -> HostView | Absent:
        host = frame.host
        if isinstance(host, Absent):
            return host
        return replace(
            host,
            busy=self._steady("busy", 0.01, frame.t, host.busy),
            psi_cpu=self._steady("psi", 0.01, frame.t, host.psi_cpu),
            steal=self._steady("steal", 0.01, frame.t, host.steal),
        )

    def _wakeup(self, frame: Frame) -> WakeupView | Absent:
        wakeup = frame.wakeup
        if isinstance(wakeup, Absent):
            return wakeup
        return replace(
            wakeup,
            p50_ms=self._steady("p50", 0.05, frame.t, wakeup.p50_ms),
            p95_ms=self._steady("p95", 0.05, frame.t, wakeup.p95_ms),
        )

    def _own(self, frame: Frame, history: History) -> OwnView | Absent:
        own = frame.own
        if isinstance(own, Absent):
            return own
        past = history.between(frame.t - OWN_S, frame.t)
        views = [one.own for one in past if isinstance(one.own, OwnView)] or [own]
        return replace(
            own,
            cpu=self._steady("own", 0.01, frame.t, _mean(views, lambda view: view.cpu)),
            tty_bytes_s=self._steady("tty", 100.0, frame.t, _mean(views, lambda view: view.tty_bytes_s)),
        )

    def _steady(self, name: str, step: float, t: float, value: Reading[float]) -> Reading[float]:
        if isinstance(value, Absent):
            self._figures.pop(name, None)
            return value
        if name not in self._figures:
            self._figures[name] = Steady(step)
        return self._figures[name].show(t, value)


def _mean(views: list[OwnView], pick: Callable[[OwnView], Reading[float]]) -> Reading[float]:
    values = [pick(view) for view in views]
    known = [value for value in values if not isinstance(value, Absent)]
    return fmean(known) if known else values[-1]
