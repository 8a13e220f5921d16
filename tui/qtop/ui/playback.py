"""Which moment is on the screen: the latest, or with the screen held an earlier one; live and in replay alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtop.session import Session, Snapshot
from qtop.source.replay import ReplaySource
from qtop.units import clock

if TYPE_CHECKING:
    from qtop.timeline.scan import Timeline


class Playback:
    """Everything here runs on the UI thread. Draws nothing: whoever calls it redraws."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.shown: Snapshot | None = None
        """The snapshot on the screen; None before the first."""
        self.paused = False
        self._back = 0
        self._target: float | None = None
        self._landed: Snapshot | None = None
        self._span = (0.0, 0.0)
        """Unix times of the first and last sample of the recording that is replayed."""

    def take(self, snapshot: Snapshot) -> None:
        """A new snapshot came: shown, unless the screen is held; also then where a replay has gone elsewhere."""
        elsewhere = self.shown is None or snapshot.jump != self.shown.jump
        if not self.paused or elsewhere:
            self.shown = snapshot
        if elsewhere:
            self._back, self._landed = 0, snapshot

    def go_to(self, t: float, timeline: Timeline) -> None:
        """In a replay: to the last moment at or before Unix second ``t``."""
        self._target, self._landed = t, None
        self._session.jump(t, timeline)

    @property
    def now(self) -> float | None:
        """The Unix second that is looked at. After a jump it is the one asked for, which may lie a little after the
        sample that is shown, and is known before that is; None before the first sample."""
        shown = self.shown
        if self._target is not None and self._landed is None:
            return self._target
        if shown is None:
            return None
        if self._target is not None and shown is self._landed:
            return max(self._target, shown.frame.t)
        return shown.frame.t

    def toggle(self) -> str:
        """Hold the screen (a replay: the recording), or go on; gives a line that says which."""
        source = self._session.source
        self.paused = not self.paused
        self._back = 0
        if isinstance(source, ReplaySource):
            source.pause(self.paused)
        if not self.paused and self._session.latest is not None:
            self.shown = self._session.latest
        if self.paused:
            return "paused: ← → step, space goes on"
        return "live" if source.live else "playing"

    def at_the_end(self) -> bool:
        """A paused replay shows the last sample read: stepping on means reading another."""
        return isinstance(self._session.source, ReplaySource) and self.shown is self._session.latest

    def step(self, by: int) -> None:
        """Move by so many snapshots through what is kept."""
        session = self._session
        if session.source.live and self.shown is not None:
            self._back = session.index_of(self.shown)
        self._back = max(0, min(session.kept - 1, self._back - by))
        self.shown = session.back(self._back) or self.shown

    def read_on(self) -> None:
        """In a replay: read one sample more, and wait for it a moment."""
        source, before = self._session.source, self.shown
        if isinstance(source, ReplaySource):
            source.step()
            self.shown = self._session.wait(before.seq if before else 0, 0.2) or self.shown
            self._back = 0

    def place(self) -> str:
        """Where a replay stands, as "00:12 / 00:18 ×1"; "" on a live host."""
        source = self._session.source
        if not isinstance(source, ReplaySource):
            return ""
        t = self.shown.frame.t if self.shown is not None else 0.0
        if t > self._span[1]:  # asking reads the file: once, and again when one that grows has grown
            self._span = (source.recording.start, source.recording.end)
        begin, end = self._span
        ended = " end" if source.ended else ""
        return f"{clock(max(0.0, t - begin))} / {clock(end - begin)} ×{source.speed:g}{ended}"

    def distance(self) -> str:
        """How far back a held screen shows, as "12 s back" or "now"; "" when it is not held."""
        latest = self._session.latest
        if not self.paused or self.shown is None or latest is None:
            return ""
        back = latest.frame.t - self.shown.frame.t
        return f"{back:.0f} s back" if back >= 0.5 else "now"
