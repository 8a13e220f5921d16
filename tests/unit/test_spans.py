"""Composing only what changed, and lines drawn without Textual's borders and padding: the picture is the same."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.segment import Segment
from rich.style import Style
from tests.fakes.emulated import EmulatedDriver, Terminal, check, drive, settle
from textual._compositor import Compositor
from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.geometry import Region
from textual.pilot import Pilot
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Label, Static

from qtop.ui.display import DisplayMixin
from qtop.ui.lines import Lines
from qtop.ui.spans import SpanCompositor

WORDS = ("12.5 %", "n/a", "量子纠缠", "█▌▎", "⣀⣤⣶⣿", "🚀", "", "½·…")
PENS = (None, Style(color="red"), Style(bold=True), Style(bgcolor="#203040"), Style(underline=True))


class SpanScreen(Screen[None]):
    def __init__(self) -> None:
        super().__init__()
        self._compositor = SpanCompositor()

    def compose(self) -> ComposeResult:
        with Horizontal():
            for number in range(4):
                yield Static(f"{number}", classes="n", id=f"n{number}", markup=False)
        yield Lines(id="a")
        yield Lines(id="b")
        with VerticalScroll(id="scroll"):
            for line in range(30):
                yield Label(f"line {line} 行", markup=False)
        yield Static("above " * 9, id="over")


class Ask(ModalScreen[None]):
    CSS = "Ask { align: center middle; background: #000000 60%; } #box { width: 31; height: 5; border: round green; }"

    def compose(self) -> ComposeResult:
        yield Static("Apply this?", id="box")


class SpanApp(DisplayMixin, App[None]):
    CSS = """
    Horizontal { height: auto; }
    .n { width: 15; height: 1; background: #101820; }
    #b { padding: 1 2; border: round green; }
    #over { layer: above; dock: right; width: 9; height: 6; background: #402010; }
    SpanScreen { layers: default above; }
    """

    def __init__(self) -> None:
        super().__init__(driver_class=EmulatedDriver)
        self.terminal = Terminal(80, 24)

    def get_default_screen(self) -> Screen[None]:
        return SpanScreen()

    async def drive(self, script: Callable[[Pilot[None]], Awaitable[None]]) -> None:
        await drive(self, (80, 24), script)


def some_lines(pick: random.Random, count: int) -> list[tuple[Segment, ...]]:
    return [
        tuple(Segment(pick.choice(WORDS), pick.choice(PENS)) for _ in range(pick.randint(0, 5))) for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_the_terminal_shows_all_that_textual_would_draw(seed: int) -> None:
    app, pick = SpanApp(), random.Random(seed)

    async def script(pilot: Pilot[None]) -> None:
        for _ in range(20):
            for name in pick.sample(("a", "b"), pick.randint(0, 2)):
                app.query_one(f"#{name}", Lines).show(some_lines(pick, pick.choice((3, 3, 3, 4))))
            for number in range(pick.randint(0, 3)):
                app.query_one(f"#n{number}", Static).update(pick.choice(WORDS))
            if pick.random() < 0.2:
                app.query_one("#scroll").scroll_to(y=pick.randint(0, 20), animate=False)
            if pick.random() < 0.2:
                app.query_one("#over").toggle_class("-none").display = pick.random() < 0.5
            await settle(pilot)
            check(app)
        app.push_screen(Ask())
        await settle(pilot)
        app.screen_stack[0].query_one("#a", Lines).show(some_lines(pick, 3))
        await settle(pilot)
        check(app)
        app.pop_screen()
        await settle(pilot)
        check(app)

    await app.drive(script)


async def test_a_changed_line_renders_its_widget_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    app = SpanApp()

    async def script(pilot: Pilot[None]) -> None:
        lines = app.query_one("#a", Lines)
        lines.show([(Segment("one"),), (Segment("two"),)])
        app.query_one("#over").display = False
        await settle(pilot)
        asked: list[tuple[Widget, Region]] = []
        for kind in (Lines, Static, Screen, VerticalScroll):
            plain: Any = kind.render_lines

            def render(widget: Widget, crop: Region, plain: Any = plain) -> Any:
                asked.append((widget, crop))
                return plain(widget, crop)

            monkeypatch.setattr(kind, "render_lines", render)
        lines.show([(Segment("one"),), (Segment("2"),)])
        await settle(pilot)
        assert [(widget.id, crop.y, crop.height) for widget, crop in dict(asked).items()] == [("a", 1, 1)]

    await app.drive(script)


async def test_what_goes_wrong_in_it_is_left_to_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    app = SpanApp()
    asked: list[object] = []
    plain = Compositor.render_partial_update

    def render(compositor: Compositor) -> Any:
        asked.append(compositor)
        return plain(compositor)

    async def script(pilot: Pilot[None]) -> None:
        monkeypatch.setattr(Compositor, "render_partial_update", render)
        monkeypatch.setattr(SpanCompositor, "_owner", lambda *_: 1 / 0)
        app.query_one("#n0", Static).update("new")
        await settle(pilot)
        assert asked
        check(app)

    await app.drive(script)


async def test_bare_lines_are_drawn_as_textual_draws_them() -> None:
    app, pick = SpanApp(), random.Random(7)

    async def script(pilot: Pilot[None]) -> None:
        for name, bare in (("a", True), ("b", False)):
            lines = app.query_one(f"#{name}", Lines)
            lines.show(some_lines(pick, 4))
            await settle(pilot)
            assert lines.ground.bare is bare
            crop = Region(3, 1, 20, 3)
            want = lines._styles_cache.render_widget(lines, crop)
            assert [list(strip) for strip in lines.render_lines(crop)] == [list(strip) for strip in want]
        lines = app.query_one("#a", Lines)
        before = lines.ground
        lines.styles.background = "#303030"
        assert lines.ground is not before
        lines.styles.tint = "red 30%"
        assert not lines.ground.bare

    await app.drive(script)
