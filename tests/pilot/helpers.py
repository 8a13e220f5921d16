"""What the Pilot tests share: an app on a stub or a recording, and its screen as text."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from textual.events import Key
from textual.pilot import Pilot

from qtop.collect.http import Access
from qtop.session import Session
from qtop.source import Source
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.lines import Lines
from qtop.ui.look import choose

UTF8 = {"LANG": "C.UTF-8"}
GOLDEN = Path(__file__).parent / "golden"
SIZES = ((80, 24), (120, 40), (160, 48), (60, 18), (200, 60))


def make_app(source: Source, environ: Mapping[str, str] = UTF8, access: Access | None = None, **more: Any) -> QtopApp:
    """An app on this source; with ``access`` its session can act and send prompts there."""
    session = Session(source, (lambda: access) if access is not None else None)
    return QtopApp(session, choose("truecolor", environ), **more)


@asynccontextmanager
async def running(app: QtopApp, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[None]]:
    """The app under a Pilot; its session is closed afterwards."""
    try:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield pilot
    finally:
        app.session.close()


def rows(app: QtopApp) -> list[str]:
    """The rows on the screen as text, dialogs and what lies behind them included."""
    return [strip.text for strip in app.screen._compositor.render_strips(app.size)]


def row(app: QtopApp, number: int) -> str:
    """One row, counted from 1."""
    return rows(app)[number - 1]


def lines(app: QtopApp, name: str) -> str:
    """What a widget of the dashboard shows, whatever lies over it."""
    return app._dashboard.query_one(f"#{name}", Lines).text()


def overflows(app: QtopApp) -> list[str]:
    """Lines that are wider than the widget that shows them: the screen would cut their ends without a word."""
    found = []
    for widget in app.screen.query(Lines):
        if not widget.display or not widget.size or not widget.region:
            continue
        for line in widget.lines:
            text = "".join(segment.text for segment in line).rstrip()
            if cell_len(text) > widget.size.width:
                found.append(f"#{widget.id} ({widget.size.width} columns): {text!r}")
    return found


async def until(pilot: Pilot[None], what: Callable[[], object], seconds: float = 10.0, every: float = 0.02) -> None:
    """Wait until something holds, looking every so many seconds; fails with the screen when it does not come about."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            app = pilot.app
            assert isinstance(app, QtopApp)
            raise AssertionError("it did not come about; the screen:\n" + "\n".join(rows(app)))
        await pilot.pause(every)


async def at_end(pilot: Pilot[None], source: ReplaySource) -> None:
    """Wait until a recording has been played, its last sample is on the screen, and its timeline is whole."""
    app = pilot.app
    assert isinstance(app, QtopApp)
    await until(pilot, lambda: source.ended and app.playback.shown is app.session.latest)
    await until(pilot, lambda: app.timeline is not None and app.timeline.done)
    app.redraw()
    await pilot.pause()


def compare(name: str, screen: list[str]) -> str:
    """What differs from tests/pilot/golden/NAME.txt, "" if nothing does; QTOP_GOLDEN=write makes the file anew."""
    shown = "".join(f"{line.rstrip()}\n" for line in screen)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("QTOP_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown, encoding="utf-8")
    expected = golden.read_text(encoding="utf-8")
    if shown == expected:
        return ""
    changes = difflib.unified_diff(expected.splitlines(), shown.splitlines(), name, "shown", lineterm="")
    return "\n".join(["the screen changed (QTOP_GOLDEN=write takes it over):", *changes, ""])


async def tap(pilot: Pilot[None], *keys: str) -> None:
    """Press keys as the terminal's driver hands them over, and wait until they have been dealt with: a third of the
    time of ``Pilot.press``, which waits for the clock."""
    for key in keys:
        pilot.app.post_message(Key(key, key if len(key) == 1 else None))
        await settled(pilot)
    await settled(pilot)


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the app has handed its messages to the screen, that has dealt with them, and what it did is drawn."""
    for _ in range(3):
        await pilot._wait_for_screen()
