"""A terminal emulator (pyte) in the place of an app's driver, and the check that it shows what Textual has drawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

import pyte
from textual import events
from textual._compositor import LayoutUpdate
from textual.app import App
from textual.driver import Driver
from textual.geometry import Size
from textual.pilot import Pilot

Cell = tuple[str, str, str, bool, bool, bool, bool, bool]


class Terminal(pyte.Screen):
    """An emulated terminal that takes what a driver writes."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines)
        self.stream = pyte.Stream(self)
        self.written: list[str] = []

    def take(self, data: str) -> None:
        self.written.append(data)
        self.stream.feed(data)
        if "\x1b[?1049" in data:
            self.erase_in_display(2)

    def look(self) -> list[list[Cell]]:
        return [[visible(self.buffer[y][x]) for x in range(self.columns)] for y in range(self.lines)]


def visible(char: Any) -> Cell:
    """What a person can tell apart: a blank cell without lines has no foreground, no weight and no slant."""
    lines = (char.underscore, char.reverse, char.strikethrough)
    if char.data == " " and not any(lines):
        return (" ", "", char.bg, False, False, *lines)
    return (char.data, char.fg, char.bg, char.bold, char.italics, *lines)


class EmulatedDriver(Driver):
    """A full-screen driver without a terminal: it writes to the app's emulator."""

    @property
    def can_suspend(self) -> bool:
        return True

    def write(self, data: str) -> None:
        self._app.terminal.take(data)  # type: ignore[attr-defined]

    def flush(self) -> None:
        pass

    def start_application_mode(self) -> None:
        self.write("\x1b[?1049h\x1b[?25l\x1b[?7l")
        assert self._size is not None
        size = Size(*self._size)
        self._app.post_message(events.Resize(size, size))

    def stop_application_mode(self) -> None:
        self.write("\x1b[?7h\x1b[?1049l\x1b[?25h")

    def disable_input(self) -> None:
        pass


async def settle(pilot: Pilot[None]) -> None:
    for _ in range(2):
        await pilot.pause(0.02)


async def drive(app: App[None], size: tuple[int, int], script: Callable[[Pilot[None]], Awaitable[None]]) -> None:
    """Run an app whose driver is this module's through a script; what fails in it is raised here, after the end."""
    failures: list[BaseException] = []

    async def run(pilot: Pilot[None]) -> None:
        try:
            await settle(pilot)
            await script(pilot)
        except BaseException as error:
            failures.append(error)
        finally:
            app.exit()

    await app.run_async(size=size, auto_pilot=run)  # type: ignore[arg-type]
    if failures:
        raise failures[0]


def check(app: Any) -> None:
    """Compare the terminal with all of the compositor's picture, drawn by Textual on an empty terminal."""
    screen = app.screen
    whole = screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(whole, LayoutUpdate)
    expected = Terminal(app.terminal.columns, app.terminal.lines)
    expected.take("\x1b[?7l")
    for segment in chain.from_iterable(chain.from_iterable(whole.strips)):
        if segment.style is not None:
            segment.style._ansi = None  # Rich keeps the codes of whichever colours it was first drawn in, and shares it
    expected.take(whole.render_segments(app.console))
    for y, (want, have) in enumerate(zip(expected.look(), app.terminal.look(), strict=True)):
        assert have == want, f"row {y}\nshows {''.join(c[0] for c in have)!r}\nnot   {''.join(c[0] for c in want)!r}"


async def check_soon(pilot: Pilot[None], app: Any, looks: int = 20) -> None:
    """The same once what was asked for has been drawn, which a busy machine may take its time for: what the display
    left out stays wrong, however often one looks."""
    for look in range(looks):
        await settle(pilot)
        try:
            check(app)
            return
        except AssertionError:
            if look == looks - 1:
                raise
