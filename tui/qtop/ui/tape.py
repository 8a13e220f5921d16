"""The dashboard on a recording without a terminal: its screen at a time as a picture, or all that it would write to a
terminal as an asciinema cast.

It runs on Textual's test harness, sample after sample, each drawn before the next is read: what comes out depends on
the recording alone, and not on how fast this machine is.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path

from rich.color import ColorSystem
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from qtop.errors import QtopError
from qtop.record.reader import Recording
from qtop.record.redact import redact_text
from qtop.sample import Sample
from qtop.session import Session
from qtop.snapshots import KEEP
from qtop.source.replay import LONGEST_WAIT, ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.look import Look

LEAD_S = float(KEEP)
"""Read before a moment that is drawn, so that charts and rules know what they would know there."""
PATIENCE_S = 60.0
"""Without anything that happens."""
_BEGIN = "\x1b[?25l\x1b[?7l\x1b[2J\x1b[H"
"""No cursor, no wrapping, an empty screen: as the dashboard's driver leaves a terminal before the first frame."""
_FONTS = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)
Size = tuple[int, int]


class _Later(Recording):
    """A recording whose samples begin at a Unix time; ``start`` and ``end`` are the whole's. Its end is known when
    ``over`` is set and not before: a replay shows that it has ended, whose picture must not depend on when it looks."""

    def __init__(self, path: Path, begin: float = -math.inf) -> None:
        super().__init__(path)
        self._begin = begin
        self.over = threading.Event()

    def samples(self) -> Iterator[Sample]:
        """From the last one at or before that time on."""
        yield from self.seek(self._begin)
        self.over.wait()

    def times(self) -> Iterator[float]:
        """Theirs."""
        return (sample.t for sample in self.seek(self._begin))


class _Tape(HeadlessDriver):
    """A terminal that keeps what is written to it."""

    written: list[str]

    @property
    def is_headless(self) -> bool:
        """No: the display layer is to write as it does on a terminal."""
        return False

    def write(self, data: str) -> None:
        """Keep it."""
        self.written.append(data)

    def start_application_mode(self) -> None:
        """Begin."""
        self.written = [_BEGIN]
        super().start_application_mode()

    def take(self) -> str:
        """What was written since the last time."""
        data = "".join(self.written)
        self.written.clear()
        return data


@asynccontextmanager
async def _running(
    path: Path, begin: float, look: Look, size: Size, taped: bool = False, speed: float = 1.0
) -> AsyncIterator[tuple[QtopApp, Pilot[None], ReplaySource, _Later]]:
    source = ReplaySource(path, speed)
    source.recording = later = _Later(path, begin)
    source.pause(True)
    app = QtopApp(Session(source), look)
    if taped:
        app.driver_class = _Tape
        app.console._color_system = ColorSystem.TRUECOLOR  # whatever terminal this is called from
    try:
        async with app.run_test(headless=not taped, size=size) as pilot:
            while app.timeline is None or not app.timeline.done:  # a picture must not depend on how far it has got
                await asyncio.sleep(0.01)
            await pilot.pause(0)
            yield app, pilot, source, later
    finally:
        later.over.set()
        app.session.close()


async def _shown(app: QtopApp, pilot: Pilot[None], seq: int) -> None:
    """Wait until the snapshot of this number is drawn; QtopError when it is not."""
    loop = asyncio.get_running_loop()
    reached, deadline = 0, loop.time() + PATIENCE_S
    while app.playback.shown is None or app.playback.shown.seq < seq:
        latest = app.session.latest
        if latest is not None and latest.seq > reached:
            reached, deadline = latest.seq, loop.time() + PATIENCE_S
        if app.session.source.failure or app.broke is not None or loop.time() > deadline:
            raise QtopError(f"the screen cannot be drawn: {app.session.source.failure or app.broke or 'no answer'}")
        await asyncio.sleep(0.001)
    for _ in range(2):  # a widget that was drawn anew may ask for another
        await pilot.pause(0)


async def _ended(app: QtopApp, pilot: Pilot[None], source: ReplaySource, later: _Later) -> None:
    """Wait until the replay knows that it is over, and the screen says so."""
    later.over.set()
    while not source.ended:
        await asyncio.sleep(0.001)
    app.redraw()
    await pilot.pause(0)


def screen_svg(path: Path, at: float | None, look: Look, size: Size) -> str:
    """The screen at Unix time ``at`` (None: the end) as one SVG that loads nothing."""

    async def shoot() -> str:
        until = Recording(path).end if at is None else at
        async with _running(path, until - LEAD_S, look, size) as (app, pilot, source, later):
            times = list(takewhile(lambda one: one[0] == 0 or one[1] <= until, enumerate(later.times())))
            for _ in times:
                source.step()
            await _shown(app, pilot, len(times))
            if times[-1][1] >= later.end:
                await _ended(app, pilot, source, later)
            return app.export_screenshot(title="qtop")

    # Rich's pictures ask a server for their font; without it the browser's own monospaced one is taken.
    return _FONTS.sub("", asyncio.run(shoot()))


def cast(path: Path, look: Look, size: Size, speed: float) -> str:
    """The whole replay as an asciinema cast, version 2: a header, then one event a sample, of all bytes that the screen
    writes for it. Gaps are as long as in a replay. Source: docs.asciinema.org/manual/asciicast/v2."""

    async def play() -> list[str]:
        async with _running(path, -math.inf, look, size, taped=True, speed=speed) as (app, pilot, source, later):
            head = {
                "version": 2,
                "width": size[0],
                "height": size[1],
                "timestamp": int(later.start),
                "title": f"qtop replay of {redact_text(path.name)}",
                "env": {"TERM": "xterm-256color"},
            }
            lines = [json.dumps(head, ensure_ascii=False)]
            driver = app._driver
            assert isinstance(driver, _Tape)
            at, before = 0.0, later.start
            for number, t in enumerate(later.times(), 1):
                with app.batch_update():  # drawn in one piece, however the widgets come by their figures
                    source.step()
                    await _shown(app, pilot, number)
                await pilot.pause(0)
                if number == 1:  # what came before is how the app happened to begin
                    driver.written = [_BEGIN]
                    app.forget_screen()
                    await pilot.pause(0)
                at += min(LONGEST_WAIT, max(0.0, t - before)) / speed
                before = t
                lines += _event(at, driver.take())
            await _ended(app, pilot, source, later)
            return [*lines, *_event(at, f"{driver.take()}\x1b[m")]

    return "\n".join(asyncio.run(play())) + "\n"


def _event(at: float, data: str) -> list[str]:
    return [json.dumps([round(at, 6), "o", data], ensure_ascii=False)] if data else []
