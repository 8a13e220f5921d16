"""The display layer, held against a terminal emulator: the screen shows what Textual would have drawn."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from tests.fakes.emulated import EmulatedDriver, Terminal, check, drive, settle
from textual import events
from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.geometry import Offset, Size
from textual.pilot import Pilot
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Label, Static

from qtop.ui.canvas import Canvas, cells
from qtop.ui.display import DisplayMixin
from qtop.ui.pens import PLAIN, Palette

WORDS = (
    "12.5",
    "n/a",
    "量子纠缠",
    "是指",
    "run 17 %",
    "█▌▎",
    "⣀⣤⣶⣿",
    "e\u0301a",
    "🚀",
    "",
    "½·…",
    "한국어",
    "日本",
)
SCREENFUL = 30


class Body(DisplayMixin):
    CSS = """
    Horizontal { height: auto; }
    .n { width: 15; height: 1; color: #80c0ff; background: #101820; }
    .tint { background: #402010; text-style: bold; }
    .line { text-style: underline; color: red; }
    """

    def __init__(self, size: tuple[int, int] = (80, 24), **options: Any) -> None:
        super().__init__(driver_class=EmulatedDriver, **options)
        self.terminal = Terminal(*size)
        self.cell_size = size

    def compose(self) -> ComposeResult:
        for row in range(SCREENFUL // 5):
            with Horizontal():
                for column in range(5):
                    yield Static(f"{row}.{column}", classes="n", id=f"n{row * 5 + column}", markup=False)
        with VerticalScroll(id="scroll"):
            for line in range(40):
                yield Label(f"line {line} 行 {line * 7919 % 101}", markup=False)
        yield Input("typed", id="input")
        yield Footer()

    async def drive(self, script: Callable[[Pilot[None]], Awaitable[None]]) -> None:
        await drive(self, self.cell_size, script)

    def resize_terminal(self, columns: int, lines: int) -> None:
        self.terminal.resize(lines, columns)
        self.post_message(events.Resize(Size(columns, lines), Size(columns, lines)))


class LayerApp(Body, App[None]):
    """The app under test."""


class StockApp(LayerApp):
    """The same app, drawn by Textual."""

    def _display(self, screen: Screen[object], renderable: Any) -> None:
        App._display(self, screen, renderable)


class Ask(ModalScreen[None]):
    CSS = "Ask { align: center middle; background: #000000 60%; } #box { width: 31; height: 5; border: round green; }"

    def compose(self) -> ComposeResult:
        yield Static("Apply 应用 this?  y / n", id="box")


class Other(Screen[None]):
    def compose(self) -> ComposeResult:
        yield Static("another screen 屏幕 " * 20)


@pytest.mark.parametrize("seed", range(4))
async def test_the_terminal_shows_what_the_compositor_has_drawn(seed: int) -> None:
    app, pick = LayerApp(), random.Random(seed)

    async def script(pilot: Pilot[None]) -> None:
        check(app)
        for _ in range(15):
            for _ in range(pick.randint(0, 8)):
                cell = app.query_one(f"#n{pick.randrange(SCREENFUL)}", Static)
                cell.update(" ".join(pick.choices(WORDS, k=pick.randint(1, 3))))
                cell.set_class(pick.random() < 0.3, "tint")
                cell.set_class(pick.random() < 0.2, "line")
                if pick.random() < 0.2:
                    cell.refresh(layout=True)
            app.query_one("#scroll").scroll_to(y=pick.randint(0, 30), animate=False)
            await settle(pilot)
            check(app)

    await app.drive(script)


async def test_screens_and_modals_come_and_go() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        for screen in (Ask(), Other(), Ask()):
            await app.push_screen(screen)
            await settle(pilot)
            check(app)
        app.screen.query_one("#box", Static).update("量子纠缠 " * 3)
        await settle(pilot)
        check(app)
        while len(app.screen_stack) > 1:
            await app.pop_screen()
            await settle(pilot)
            check(app)

    await app.drive(script)


@pytest.mark.parametrize("size", [(60, 20), (97, 31), (80, 24)])
async def test_a_resize_paints_everything_again(size: tuple[int, int]) -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app.terminal.reset()  # what a terminal that re-wraps its lines leaves is not what was there
        app.terminal.take("\x1b[?7l" + "x" * 200)
        app.resize_terminal(*size)
        await settle(pilot)
        check(app)
        app.query_one("#n3", Static).update("after")
        await settle(pilot)
        check(app)

    await app.drive(script)


async def test_a_suspended_app_paints_everything_on_return() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        with app.suspend():
            app.terminal.take("\x1b[2J\x1b[5;5H\x1b[31mshell$ ls\x1b[m")
        await settle(pilot)
        check(app)

    await app.drive(script)


async def test_output_of_others_through_the_driver_is_noticed() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        assert app._driver is not None
        app._driver.write("\x1b[?1049h")  # as on SIGCONT, before anybody is told
        app.query_one("#n3", Static).update("12")
        await settle(pilot)
        check(app)
        app._driver.write("\x1b[3;3Hnoise")
        app.query_one("#n4", Static).update("13")
        await settle(pilot)
        check(app)

    await app.drive(script)


async def test_the_bell_and_the_clipboard_cost_no_repaint() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        canvas = app._canvas
        app.bell()
        app.copy_to_clipboard("text")
        app.query_one("#n3", Static).update("12")
        await settle(pilot)
        assert app._canvas is canvas
        check(app)

    await app.drive(script)


async def test_noise_from_outside_goes_when_the_screen_is_forgotten() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app.terminal.take("\x1b[3;3Hbroadcast message")
        app.forget_screen()
        await settle(pilot)
        check(app)

    await app.drive(script)


async def test_nothing_is_written_when_nothing_changes() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app._sync_available = True
        app.terminal.written.clear()
        before = app.bytes_written
        for number in range(SCREENFUL):
            cell = app.query_one(f"#n{number}", Static)
            cell.update(f"{number // 5}.{number % 5}")
        app.screen.refresh()
        await settle(pilot)
        assert app.terminal.written == []
        assert app.bytes_written == before

    await app.drive(script)


async def test_a_large_frame_is_one_synchronized_update_and_every_byte_is_counted() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app._sync_available = True
        for drawn, marked in ((SCREENFUL, True), (1, False)):
            app.terminal.written.clear()
            before = app.bytes_written
            with app.batch_update():
                for number in range(drawn):
                    app.query_one(f"#n{number}", Static).update(f"量{'█▌' * drawn} {number}")
            await settle(pilot)
            written = app.terminal.written
            assert app.bytes_written - before == len("".join(written).encode())
            if marked:
                assert (written[0], len(written), written[-1]) == ("\x1b[?2026h", 3, "\x1b[?2026l")
            else:  # it fits into one packet, so there is nothing to hold back
                assert len(written) == 1
            check(app)

    await app.drive(script)


async def test_whoever_writes_after_a_frame_finds_a_plain_style() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        for foreign in ("\x1b[?1049l", "\x1b[3;3Hnoise"):
            app.query_one("#n3", Static).update(f"before {foreign[-3:]}")
            await settle(pilot)
            assert app._driver is not None
            app._driver.write("\x1b[?25l")  # touches no cell, so it costs no reset
            app.terminal.written.clear()
            app._driver.write(foreign)
            app._driver.write(foreign)
            assert app.terminal.written == ["\x1b[m" + foreign, foreign]
            attributes = app.terminal.cursor.attrs
            assert (attributes.fg, attributes.bg, attributes.bold) == ("default", "default", False)
            app.screen.refresh()
            await settle(pilot)
            check(app)

    await app.drive(script)


async def test_the_style_is_reset_also_when_the_screen_was_forgotten_meanwhile() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app.query_one("#n3", Static).update("12")
        await settle(pilot)
        app.terminal.written.clear()
        app.forget_screen()
        assert app._driver is not None
        app._driver.write("\x1b[?1049l")
        assert app.terminal.written[0].startswith("\x1b[m")

    await app.drive(script)


async def test_the_cursor_follows_the_focused_input() -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        app.query_one("#input", Input).focus()
        await settle(pilot)
        await pilot.press("a", "b")
        await settle(pilot)
        assert (app.terminal.cursor.x, app.terminal.cursor.y) == tuple(app.cursor_position) != (0, 0)
        app.cursor_position = Offset(2, 1)
        app.query_one("#n3", Static).update("12")
        await settle(pilot)
        assert (app.terminal.cursor.x, app.terminal.cursor.y) == (2, 1)

    await app.drive(script)


async def test_an_error_in_the_layer_leaves_the_drawing_to_textual(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LayerApp()

    async def script(pilot: Pilot[None]) -> None:
        monkeypatch.setattr(Canvas, "flush", lambda *_: 1 / 0)
        app.query_one("#n3", Static).update("12")
        await settle(pilot)
        check(app)
        before = app.bytes_written
        app.query_one("#n3", Static).update("13")
        await settle(pilot)
        check(app)
        assert app.bytes_written > before

    await app.drive(script)


@pytest.mark.parametrize("ansi", [False, True])
async def test_a_dashboard_takes_less_than_two_thirds_of_textuals_bytes(ansi: bool) -> None:
    async def cost(app: LayerApp) -> int:
        result = []

        async def script(pilot: Pilot[None]) -> None:
            pick = random.Random(1)
            start = app.bytes_written or sum(len(data.encode()) for data in app.terminal.written)
            for _ in range(5):
                for number in range(SCREENFUL):
                    app.query_one(f"#n{number}", Static).update(f"value {pick.uniform(10, 99):5.1f} W")
                await settle(pilot)
            check(app)
            end = app.bytes_written or sum(len(data.encode()) for data in app.terminal.written)
            result.append(end - start)

        await app.drive(script)
        return result[0]

    layer, stock = await cost(LayerApp(ansi_color=ansi)), await cost(StockApp(ansi_color=ansi))
    assert 0 < layer < 0.67 * stock


def test_text_is_split_into_cells() -> None:
    assert cells("a量b") == ["a", "量", "", "b"]
    assert cells("e\u0301x") == ["e\u0301", "x"]
    assert cells("\x1b[2J\x07ok") == list("[2Jok")
    assert cells("") == []


def test_a_link_that_hides_an_escape_sequence_is_no_link() -> None:
    palette = Palette(ColorSystem.TRUECOLOR)
    assert palette.pen(Style(link="http://x/\x1b\\\x1b[2J")) is PLAIN
    pen = palette.pen(Style(link="http://x/"))
    assert PLAIN.to(pen).endswith(";http://x/\x1b\\")
    assert pen.to(PLAIN) == "\x1b]8;;\x1b\\"


COLOUR = st.sampled_from([None, "default", "red", "bright_blue", "color(99)", "#102030"])
FLAG = st.sampled_from([None, False, True])
FLAGS = ("bold", "dim", "italic", "underline", "blink", "reverse", "strike", "conceal", "underline2", "overline")
STYLE = st.builds(Style, color=COLOUR, bgcolor=COLOUR, **dict.fromkeys(FLAGS, FLAG))

ON = {
    1: "bold",
    2: "dim",
    3: "italic",
    4: "underline",
    5: "blink",
    6: "blink2",
    7: "reverse",
    8: "conceal",
    9: "strike",
}
ON |= {21: "underline2", 51: "frame", 52: "encircle", 53: "overline"}
OFF = {22: ("bold", "dim"), 23: ("italic",), 24: ("underline", "underline2"), 25: ("blink", "blink2"), 27: ("reverse",)}
OFF |= {29: ("strike",)}


def draw_with(state: dict[str, str], sequence: str) -> dict[str, str]:
    """What a terminal's style is after the sequence: a plain reading of ECMA-48's SGR."""
    state = dict(state)
    if not sequence:
        return state
    assert sequence.startswith("\x1b[") and sequence.endswith("m")
    codes = [int(code or 0) for code in sequence[2:-1].split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            state = {}
        elif code in ON:
            state[ON[code]] = "on"
        elif code in OFF:
            for name in OFF[code]:
                state.pop(name, None)
        elif code in (39, 49):
            state.pop("fore" if code == 39 else "back", None)
        else:
            rest = {2: 4, 5: 2}[codes[0]] if code in (38, 48) else 0
            tens = code // 10
            state["fore" if tens in (3, 9) else "back"] = f"{code % 10 + (8 if tens > 8 else 0)}:{codes[:rest]}"
            del codes[:rest]
    return state


@given(STYLE, STYLE, st.sampled_from([ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT, ColorSystem.STANDARD]))
def test_a_step_between_styles_ends_where_a_fresh_start_does(old: Style, new: Style, system: ColorSystem) -> None:
    palette = Palette(system)
    start = draw_with({}, PLAIN.to(palette.pen(old)))
    step = palette.pen(old).to(palette.pen(new))
    assert draw_with(start, step) == draw_with({}, PLAIN.to(palette.pen(new)))
    rendered = new.copy().render("x", color_system=system).partition("x")[0]
    assert draw_with({}, PLAIN.to(palette.pen(new))) == draw_with({}, rendered)
    assert len(step) <= len("\x1b[0;m") + len(PLAIN.to(palette.pen(new)))


@pytest.mark.parametrize("glyph", ["⚠\ufe0f", "👩\u200d🔬", "👍🏽", "🇬🇧", "🚀", "e\u0301", "ก\u0e33"])
def test_a_character_of_doubtful_width_moves_nothing_else(glyph: str) -> None:
    terminal, canvas = Terminal(20, 2), Canvas(20, 2, Palette(ColorSystem.TRUECOLOR))
    terminal.take("\x1b[?7l")
    width = len(cells(glyph))
    for number in (5, 6, 71):
        canvas.put(0, 0, [Segment(f"{glyph}|{number:<{19 - width}}")])
        terminal.take(canvas.flush((0, 1)))
        shown = "".join(terminal.buffer[0][x].data or " " for x in range(width, 20))
        assert shown == f"|{number:<{19 - width}}"
    canvas.put(0, 0, [Segment("x" * 20)])
    terminal.take(canvas.flush((0, 1)))
    assert terminal.display[0] == "x" * 20


@pytest.mark.parametrize("drawn_width", [1, 2])
def test_a_terminal_that_draws_other_widths_keeps_the_rest_of_the_line(
    monkeypatch: pytest.MonkeyPatch, drawn_width: int
) -> None:
    monkeypatch.setattr(pyte.screens, "wcwidth", lambda character: drawn_width if ord(character) > 0x2600 else 1)
    terminal, canvas = Terminal(9, 2), Canvas(9, 2, Palette(ColorSystem.TRUECOLOR))
    terminal.take("\x1b[?7l")
    for glyph, rest in (("☢", "abc 1"), ("⚠", "abc 1"), ("🚀", "bc 1"), ("⚠", "abc 2"), ("", "plain")):
        line = cells(glyph + rest)
        line += [" "] * (9 - len(line))
        canvas.put(0, 0, [Segment("".join(line))])
        terminal.take(canvas.flush((0, 1)))
        width = len(cells(glyph))
        assert [terminal.buffer[0][x].data for x in range(width, 9)] == line[width:]


def test_moves_are_the_shortest() -> None:
    canvas = Canvas(100, 30, Palette(ColorSystem.TRUECOLOR))
    for y in range(30):
        canvas.put(0, y, [Segment("." * 100)])
    canvas.flush((0, 0))

    def cost(*changes: tuple[int, int, str]) -> str:
        for x, y, text in changes:
            canvas.put(x, y, [Segment(text)])
        return canvas.flush()

    assert canvas.flush((0, 0)) == ""
    assert canvas.flush((3, 1)) == "\x1b[2;4H"
    assert cost((0, 0, "a")) == "\x1b[Ha"
    assert cost((0, 0, "b"), (3, 0, "c")) == "\x1b[Hb..c"
    assert cost((0, 0, "d"), (30, 0, "e")) == "\x1b[Hd\x1b[29Ce"
    assert cost((50, 0, "f"), (0, 1, "g")) == "\x1b[1;51Hf\r\ng"
    assert cost((5, 28, "h"), (6, 29, "i")) == "\x1b[29;6Hh\x1b[Bi"
    assert cost((99, 29, "j")) == "\x1b[30;100Hj"
    assert cost((0, 5, "█" * 9)).startswith("\x1b[6H█")
    assert cost((0, 5, "k"), (2, 5, "l"), (6, 5, "m")) == "\x1b[6Hk█l\x1b[3Cm"
    canvas.put(0, 0, [Segment("xx", Style(color="red")), Segment("  "), Segment("y", Style(color="red"))])
    assert canvas.flush() == "\x1b[H\x1b[31mxx  y"
    assert cost((0, 0, "z")) == "\x1b[H\x1b[mz"  # the style stays from frame to frame
    assert canvas.flush((0, 0)) == "\r"


def test_nothing_is_taken_for_granted_of_a_terminal_that_is_new() -> None:
    canvas, terminal = Canvas(4, 1, Palette(ColorSystem.TRUECOLOR)), Terminal(4, 1)
    terminal.take("\x1b[31;44;1m")
    canvas.put(0, 0, [Segment("    ")])
    terminal.take(canvas.flush())
    assert terminal.look() == Terminal(4, 1).look()


def test_a_link_ends_with_its_frame() -> None:
    canvas = Canvas(4, 1, Palette(ColorSystem.TRUECOLOR))
    canvas.put(0, 0, [Segment("a", Style(link="http://x/"))])
    assert canvas.flush().endswith("a\x1b]8;;\x1b\\")


LETTERS = st.text(st.sampled_from("ab01 .█⣿量子한…"), min_size=1, max_size=9)
LOOK = st.sampled_from([Style(), Style(color="red"), Style(bgcolor="blue"), Style(bold=True), Style(underline=True)])
PUT = st.tuples(st.integers(0, 11), st.integers(0, 3), st.lists(st.tuples(LETTERS, LOOK), min_size=1, max_size=3))


def overwrite(row: list[tuple[str, Style]], x: int, parts: list[tuple[str, Style]]) -> None:
    """Place the parts cell by cell; whatever is left of a character that is cut in half is blank."""
    for text, style in parts:
        for cell in cells(text):
            if x < len(row):
                row[x] = (cell, style)
                x += 1
    for index, (cell, style) in enumerate(row):
        wide = cell != "" and len(cells(cell)) == 2
        if wide and (index + 1 == len(row) or row[index + 1][0] != ""):
            row[index] = (" ", style)
        if cell == "" and (index == 0 or row[index - 1][0] in ("", " ") or len(cells(row[index - 1][0])) != 2):
            row[index] = (" ", style)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(PUT, max_size=4), min_size=1, max_size=6))
def test_whatever_is_put_is_what_the_terminal_shows(frames: list[list[Any]]) -> None:
    width, height = 12, 4
    canvas, terminal = Canvas(width, height, Palette(ColorSystem.TRUECOLOR)), Terminal(width, height)
    rows = [[(" ", Style())] * width for _ in range(height)]
    for y in range(height):
        canvas.put(0, y, [Segment(" " * width)])
    for frame in frames:
        for x, y, parts in frame:
            canvas.put(x, y, [Segment(text, style) for text, style in parts])
            overwrite(rows[y], x, parts)
        wanted = len(frame) % 2 == 1
        terminal.take(written := canvas.flush((1, 1) if wanted else None))
        assert not written or not wanted or (terminal.cursor.x, terminal.cursor.y) == (1, 1)
        assert canvas.flush() == ""
        terminal.take("\x1b[4;12H")  # another program has moved the cursor
        for y, row in enumerate(rows):
            expected = Terminal(width, 1)
            expected.take("".join(style.render(cell) for cell, style in row))
            assert terminal.look()[y] == expected.look()[0], y
