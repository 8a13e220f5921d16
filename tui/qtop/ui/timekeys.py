"""The keys that have to do with time: holding the screen, stepping; in a replay going elsewhere; markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from qtop.clock import wall
from qtop.diagnose.rule import State
from qtop.source.replay import ReplaySource
from qtop.ui.cells import width_of
from qtop.units import clock

if TYPE_CHECKING:
    from textual.app import App

    from qtop.session import Session
    from qtop.timeline.scan import Timeline
    from qtop.ui.panels.timeline import Strip
    from qtop.ui.playback import Playback

    _Base = App[None]
else:
    _Base = object

MOST_NOTE = 200
"""Characters of a marker's note."""
SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
MARGINS = 2
"""Columns of the key line that a message does not have."""
SHOWN = 2
"""Findings named when several begin or end at the same moment."""


class TimeMixin(_Base):
    """``class QtopApp(TimeMixin, …, App[None])``, with its keys among the app's."""

    TIME_KEYS: ClassVar[tuple[Binding, ...]] = (
        Binding("space", "pause", "Pause"),
        Binding("left,comma", "step(-1)", "Step back", show=False),
        Binding("right,full_stop", "step(1)", "Step on", show=False),
        Binding("home", "step(-10)", "Ten back", show=False),
        Binding("end", "latest", "Latest", show=False),
        Binding("m", "mark", "Mark", show=False),
        Binding("M", "marker(-1)", "Previous marker", show=False),
        Binding("n", "turn(1)", "Next finding", show=False),
        Binding("N", "turn(-1)", "Previous finding", show=False),
        Binding("slash", "go", "Go to a time", show=False),
        Binding("less_than_sign", "speed(-1)", "Slower", show=False),
        Binding("greater_than_sign", "speed(1)", "Faster", show=False),
    )
    session: Session
    playback: Playback
    timeline: Timeline | None = None
    """Of the recording that is replayed."""
    strip: Strip | None = None

    def say(self, message: str) -> None:
        """A line where the keys are."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw what is shown anew."""
        raise NotImplementedError

    def look_through(self) -> None:
        """In a replay: find out beside it what happened when."""
        source = self.session.source
        if isinstance(source, ReplaySource):
            from qtop.timeline.scan import Timeline
            from qtop.ui.panels.timeline import Strip

            self.timeline = Timeline(source.recording.path, lambda: self.run_later(self.redraw))  # type: ignore[attr-defined]
            self.strip = Strip(self.timeline)
            self.timeline.start()

    # Holding and stepping

    def action_pause(self) -> None:
        """Hold the screen (a replay: the recording), or go on."""
        self.say(self.playback.toggle())
        self.redraw()

    def action_step(self, by: int) -> None:
        """Step through what is kept; in a paused replay also on into the recording."""
        if not self.playback.paused:
            self.action_pause()
        if by > 0 and self.playback.at_the_end():
            self.call_later(self._read_on)
            return
        self.playback.step(by)
        self.redraw()

    def _read_on(self) -> None:
        self.playback.read_on()
        self.redraw()

    def action_latest(self) -> None:
        """Back to now."""
        if self.playback.paused:
            self.action_pause()

    def action_speed(self, by: int) -> None:
        """A replay: faster or slower."""
        source = self.session.source
        if not isinstance(source, ReplaySource):
            self.say("time goes by itself here: only a replay can be faster or slower")
            return
        speeds = [one for one in SPEEDS if (one > source.speed if by > 0 else one < source.speed)]
        if speeds:
            source.pace(speeds[0] if by > 0 else speeds[-1])
        self.say(f"replay at {source.speed:g} times its pace")
        self.redraw()

    # Going elsewhere in a replay

    def _elsewhere(self) -> tuple[Timeline, float] | None:
        """The timeline and the moment that is looked at; without them a line that says why."""
        now = self.playback.now
        if self.timeline is None:
            self.say("only a replay can go to another time; ← → step through the last minutes")
            return None
        return (self.timeline, now) if now is not None else None

    def go_to(self, t: float, told: str = "") -> None:
        """Show this moment of the recording."""
        from qtop.timeline.when import told as moment

        if self.timeline is not None:
            self.playback.go_to(t, self.timeline)
            self.say(told or moment(t, self.timeline.begin))

    def action_go_to_column(self, column: int, width: int) -> None:
        """To the time under this column of a timeline so wide."""
        if self.timeline is not None:
            from qtop.ui.panels.timeline import time_at

            self.go_to(time_at(self.timeline, column, width))

    def action_go(self) -> None:
        """Ask for a time, and go there."""
        place = self._elsewhere()
        if place is None:
            return
        from qtop.timeline.when import FORMS, parse
        from qtop.ui.screens.line_dialog import LineDialog

        timeline, now = place

        def chosen(t: float | None) -> None:
            if t is not None:
                self.go_to(t)

        heading = f"Go to a time of this recording, {clock(timeline.end - timeline.begin)} long"
        dialog = LineDialog(heading, FORMS, lambda text: parse(text, now, timeline.begin, timeline.end), 20)
        self.push_screen(dialog, chosen)

    def action_turn(self, by: int) -> None:
        """To the next moment at which a finding begins or ends, or to the one before."""
        place = self._elsewhere()
        if place is None:
            return
        from qtop.diagnose.registry import BY_ID
        from qtop.timeline.when import told

        timeline, now = place
        turns = timeline.next_turn(now, by)
        if not turns:
            self.say(self._none(timeline, "no finding begins or ends", by))
            return
        more = f", and {len(turns) - SHOWN} more" if len(turns) > SHOWN else ""

        def line(titles: bool) -> str:
            names = [f"{one.rule} {BY_ID[one.rule].title}" if titles else one.rule for one in turns[:SHOWN]]
            words = [
                f"{name} {'begins' if one.state is State.FIRING else 'ends'}"
                for name, one in zip(names, turns, strict=False)
            ]
            return f"{told(turns[0].t, timeline.begin)}: {', '.join(words)}{more}"

        full = line(titles=True)
        self.go_to(turns[0].t, full if width_of(full) <= self.size.width - MARGINS else line(titles=False))

    @staticmethod
    def _none(timeline: Timeline, what: str, by: int) -> str:
        if timeline.failure:
            return f"{what} as far as it could be read: {timeline.failure}"
        if by > 0 and not timeline.done:
            so_far = (timeline.reached - timeline.begin) / max(1e-9, timeline.end - timeline.begin)
            return f"{what} later on so far: {so_far:.0%} looked through"
        return f"{what} {'after' if by > 0 else 'before'} this moment"

    def action_marker(self, by: int) -> None:
        """To the next marker, or to the one before."""
        place = self._elsewhere()
        if place is None:
            return
        from qtop.timeline.when import told

        timeline, now = place
        marker = timeline.next_marker(now, by)
        if marker is None:
            self.say(f"no marker {'after' if by > 0 else 'before'} this moment")
            return
        note = str(marker.event.data.get("note") or "")
        self.go_to(marker.t, f"{told(marker.t, timeline.begin)}: marker{f', {note}' if note else ''}")

    # Markers

    def action_mark(self) -> None:
        """Put a marker into the recording that is being made; in a replay go to the next one."""
        if self.timeline is not None:
            self.action_marker(1)
            return
        if self.session.recording is None:
            self.say("no recording is being made: r begins one, then m marks a moment of it")
            return
        from qtop.ui.screens.line_dialog import LineDialog

        shown = self.playback.shown
        t = shown.frame.t if self.playback.paused and shown is not None else wall()

        def put(note: str | None) -> None:
            if note is not None:
                self.say(self._put(note, t))

        hint = "Enter puts it there, with a note or without   Esc leaves it"
        self.push_screen(LineDialog("Note of this marker", hint, str, MOST_NOTE), put)

    def _put(self, note: str, t: float) -> str:
        from qtop.timeline.kinds import MARK

        if self.session.recording is None:
            return "the recording has ended meanwhile: no marker was put"
        self.session.note(MARK, {"note": note}, t)
        return "marked" + (f": {note}" if note else "")
