"""The display layer: writes only the terminal cells that change.

Textual repaints dirty regions. Most cells of such a region already show what is written to them, and over SSH those
bytes are what a person waits for. :class:`DisplayMixin` hands the compositor's update to a Canvas, which knows what the
terminal shows and returns the runs that differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.color import ColorSystem
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import ScreenStackError

from qtop.ui.canvas import Canvas, UnknownOutputError
from qtop.ui.pens import Palette

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual import events
    from textual.app import App
    from textual.driver import Driver
    from textual.screen import Screen

    _Base = App[None]
else:
    _Base = object

_HARMLESS = re.compile(
    r"(?:\x07"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b\[\?(?:7|25|1000|1002|1003|1004|1005|1006|1015|1016|2004|2026|2031|2048)(?:[hl]|\$p)"
    r"|\x1b\[[<>=?][\d;]*u)*"
)
"""What others may write without touching a cell, the cursor's place or the style: bell, titles, clipboard, modes."""
_ONE_SEGMENT = 1000
"""A frame of fewer bytes arrives in one network packet: asking the terminal to hold back half of it gains nothing."""


class DisplayMixin(_Base):
    """Makes a Textual App write only the cells that change: ``class QtopApp(DisplayMixin, App[None])``.

    It replaces the private ``App._display`` of Textual 8 on full-screen terminals. Inline and headless apps, and output
    that it cannot see through, are left to Textual.
    """

    _canvas: Canvas | None = None
    _palette: Palette | None = None
    _watched: Driver | None = None
    _frame: str = ""
    _styled: bool = False
    """A frame has left the terminal with its style: whoever writes next gets a reset first."""
    _bytes_written: int = 0
    _leave_to_textual: bool = False

    @property
    def bytes_written(self) -> int:
        """Bytes (UTF-8) that the app has written to the terminal since its first frame, Textual's own among them."""
        return self._bytes_written

    def forget_screen(self) -> None:
        """Assume nothing of what the terminal shows, and paint all of it again.

        For when another program may have written to the terminal. What goes through Textual's driver is noticed anyway.
        """
        self._canvas = None
        try:
            self.screen.refresh()
        except ScreenStackError:
            pass  # nothing is shown yet, so the first frame paints everything

    async def _on_resize(self, event: events.Resize) -> None:
        # Terminals cut or re-wrap lines on a resize, also where the size ends up as it was; SIGCONT sends one as well.
        self.forget_screen()

    @contextmanager
    def suspend(self) -> Iterator[None]:
        """Lend the terminal to another program, as App.suspend does, and paint everything afterwards."""
        try:
            with super().suspend():
                yield
        finally:
            self.forget_screen()

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        driver = self._driver
        if driver is not None and driver is not self._watched:
            self._watch(driver)
        if (
            self._leave_to_textual
            or not isinstance(renderable, LayoutUpdate | ChopsUpdate)
            or driver is None
            or driver.is_headless
            or driver.is_inline
            or self._batch_count
            or not self._running
            or self._closed
        ):
            super()._display(screen, renderable)
            return
        try:
            handled = self._display_changes(renderable, driver)
        except Exception as error:  # a Textual that has moved on must cost bytes, not the screen
            self.log.error(f"display layer switched off: {error!r}")
            self._canvas = None
            self._leave_to_textual, handled = True, False
        if handled:
            self.post_display_hook()
        else:
            super()._display(screen, renderable)

    def _display_changes(self, update: LayoutUpdate | ChopsUpdate, driver: Driver) -> bool:
        """Write what the update changes; False if it is for Textual to write."""
        system = self.console._color_system or ColorSystem.TRUECOLOR
        if self._palette is None or self._palette.system is not system:
            self._palette, self._canvas = Palette(system), None
        width, height = self.size
        canvas, unpainted = self._canvas, False
        if canvas is None or (canvas.width, canvas.height) != (width, height):
            canvas = self._canvas = Canvas(width, height, self._palette)
            unpainted = not isinstance(update, LayoutUpdate)
        try:
            _put(canvas, update)
        except UnknownOutputError:
            self._canvas = None
            return False
        # The cursor is hidden: its place matters to input methods alone, which draw where somebody types.
        cursor = None
        if hasattr(self.focused, "cursor_screen_offset"):
            cursor = self._previous_cursor_position = self.screen.outer_size.clamp_offset(self.cursor_position)
        frame = canvas.flush(cursor)
        if frame:
            self._frame, self._styled = frame, True
            self._write_frame(frame, driver)
        # A signal handler may have given the terminal away and taken it back while this frame was made or written.
        if self._canvas is not canvas:
            self.forget_screen()
        elif unpainted:
            self.screen.refresh()
        return True

    def _write_frame(self, frame: str, driver: Driver) -> None:
        whole = len(frame) < _ONE_SEGMENT and len(frame.encode()) < _ONE_SEGMENT
        if not whole:
            self._begin_update()
        try:
            driver.write(frame)
        finally:
            if not whole:
                self._end_update()
        driver.flush()

    def _watch(self, driver: Driver) -> None:
        """Count what goes through the driver; when somebody else draws, reset the style and forget the screen."""
        self._watched, write = driver, driver.write

        def watched(data: str) -> None:
            if data is not self._frame and not _HARMLESS.fullmatch(data):
                self._canvas = None
                if self._styled:
                    self._styled, data = False, f"\x1b[m{data}"
            self._bytes_written += len(data) if data.isascii() else len(data.encode("utf-8", "replace"))
            write(data)

        watch: Callable[[str], None] = watched
        setattr(driver, "write", watch)  # noqa: B010 - on the instance, so that the driver's own writes are seen too


def _put(canvas: Canvas, update: LayoutUpdate | ChopsUpdate) -> None:
    if isinstance(update, LayoutUpdate):
        for y, strips in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in strips:
                canvas.put(x, y, strip)
                x += strip.cell_length
        return
    for y, x1, x2 in update.spans:
        for end, (x, chop) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if chop is not None and x < x2 and end > x1:
                canvas.put(x, y, chop if end <= x2 else chop.crop(0, x2 - x))
