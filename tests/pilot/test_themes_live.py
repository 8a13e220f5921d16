"""Themes on the running dashboard: switched live, with the same text in each, readable, and none under NO_COLOR."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from itertools import accumulate
from pathlib import Path

import pytest
from rich.color import ColorSystem
from rich.segment import Segment
from tests.fakes.colours import contrast
from tests.fakes.emulated import EmulatedDriver, Terminal, check_soon
from tests.fakes.stub_source import Machine, StubLive, StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import GOLDEN, UTF8, at_end, row, rows, running, until
from tests.pilot.terminal import QTOP, environment, terminal
from tests.pilot.test_golden import CASES
from tests.pilot.test_keys import CHOICES
from textual import events
from textual._compositor import LayoutUpdate
from textual.geometry import Size
from textual.pilot import Pilot

from qtop.session import Session
from qtop.source import Source
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.look import Look, choose
from qtop.ui.pens import Palette, Pen
from qtop.ui.scheme import DISTINCT_FILLS
from qtop.ui.themes import BUILT_IN

NO_COLOUR = {**UTF8, "NO_COLOR": "1"}
SAMPLE = Path(__file__).parent.parent / "data" / "recordings" / "h100-affinity.qtop"
BUSY = Machine(wait=0.8, gpus=2)
FILLS = str.maketrans(dict.fromkeys([*DISTINCT_FILLS.values(), "■"], "█"))
"""A stage's fill is the theme's own; the rest of the text is not."""
PALETTE = Palette(ColorSystem.TRUECOLOR)
SGR = re.compile(r"\x1b\[([\d;]*)m")


def app_with(source: Source, theme: str, environ: Mapping[str, str] = UTF8) -> QtopApp:
    return QtopApp(Session(source), choose("truecolor", environ, theme))


async def wear(app: QtopApp, pilot: Pilot[None], theme: str) -> None:
    """Put a theme on and take its message off the key line."""
    app.use_theme(theme)
    assert app.look.scheme.name == theme
    await pilot.pause()
    app._message = ""
    await pilot.pause(0.05)
    app.redraw()
    await pilot.pause(0.02)


def segments(app: QtopApp) -> list[list[Segment]]:
    """All of the picture by rows, with what lies behind a dialog."""
    whole = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(whole, LayoutUpdate)
    return [[segment for strip in line for segment in strip] for line in whole.strips]


def cells(app: QtopApp) -> list[list[tuple[str, Pen]]]:
    """Every cell's character and pen, as the display layer would send them."""
    return [[(char, PALETTE.pen(segment.style)) for segment in line for char in segment.text] for line in segments(app)]


def looks(app: QtopApp) -> Cells:
    """Every cell as a person sees it: a blank has no foreground."""
    return [
        [(char, pen.blank if char == " " else (pen.attributes, pen.fore, pen.back)) for char, pen in line]
        for line in cells(app)
    ]


def shown(app: QtopApp) -> str:
    return "".join(f"{line.rstrip()}\n" for line in rows(app))


@pytest.mark.parametrize(("trace", "size"), CASES, ids=lambda case: case if isinstance(case, str) else f"x{case[0]}")
async def test_colours_only_repeat_what_the_text_says(
    recording: MakeRecording, trace: str, size: tuple[int, int]
) -> None:
    golden = (GOLDEN / f"{trace}-{size[0]}x{size[1]}.txt").read_text(encoding="utf-8")
    for theme, environ in (("dark", UTF8), ("auto", NO_COLOUR), ("auto", {"LC_ALL": "C", "NO_COLOR": "1"})):
        source = ReplaySource(recording(trace), speed=500.0)
        app = app_with(source, theme, environ)
        async with running(app, size) as pilot:
            await at_end(pilot, source)
            if theme == "auto":
                if app.look.ascii:  # bars and charts are drawn in other steps there
                    assert shown(app).isascii()
                    assert words(shown(app)) == words("\n".join(map(app.look.plain, golden.splitlines())))
                else:
                    assert shown(app).translate(FILLS) == golden.translate(FILLS)
                assert not [pen for line in cells(app) for _, pen in line if pen.fore or pen.back]
                continue
            for name in BUILT_IN:
                await wear(app, pilot, name)
                assert shown(app).translate(FILLS) == golden.translate(FILLS), name


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9*]+", text)


Cells = list[list[tuple[str, object]]]
Opened = Callable[[QtopApp, Pilot[None]], Awaitable[None]]


def pressing(*keys: str) -> Opened:
    async def press(_app: QtopApp, pilot: Pilot[None]) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.05)

    return press


SCREENS: dict[str, Opened] = {
    "dashboard": pressing(),
    "help": pressing("question_mark"),
    "rule": pressing("f"),
    "commands": pressing("ctrl+p", "down"),
    "gpus": pressing("g"),
    "threads": pressing("t"),
    "server": pressing("v"),
    "plots": pressing("P"),
    "guide": pressing("G"),
}


SWITCHED = {name: opened for name, opened in SCREENS.items() if name not in ("threads", "server", "guide")}
"""One list and one chart stand for the rest."""


async def test_a_theme_switched_to_looks_as_one_begun_with() -> None:
    begun: dict[tuple[str, str], Cells] = {}
    for theme in BUILT_IN:
        app = app_with(StubSource(BUSY.samples(0, 20)), theme)
        async with running(app, (80, 24)) as pilot:
            await until(pilot, lambda app=app: "ENGINE WAITS" in row(app, 2))  # type: ignore[misc]
            await wear(app, pilot, theme)
            for name, opened in SWITCHED.items():
                await opened(app, pilot)
                begun[name, theme] = looks(app)
                await pilot.press("escape")
    app = app_with(StubSource(BUSY.samples(0, 20)), "mono")
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        for name, opened in SWITCHED.items():
            await opened(app, pilot)
            for theme in (*BUILT_IN, "dark"):
                await wear(app, pilot, theme)
                for y, (now, then) in enumerate(zip(looks(app), begun[name, theme], strict=True)):
                    text = "".join(char for char, _ in now)
                    # Which theme is shown now is said there, and the cursor blinks.
                    if not re.search("shown now|colours of the dashboard|Search for commands", text):
                        assert now == then, f"{name} in {theme}, row {y + 1}: {text!r}"
            await pilot.press("escape")


async def test_the_choice_of_servers_looks_the_same_too() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = app_with(source, "dark")
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "Several servers" in "\n".join(rows(app)))
        text = rows(app)[:-1]
        for theme in BUILT_IN:
            await wear(app, pilot, theme)
            assert rows(app)[:-1] == text
            (chosen,) = [line for line in cells(app) if CHOICES[0].url in "".join(char for char, _ in line)]
            (other,) = [line for line in cells(app) if CHOICES[1].url in "".join(char for char, _ in line)]
            at = "".join(char for char, _ in chosen).index(CHOICES[0].url)
            assert chosen[at][1].blank != other[at][1].blank, f"{theme}: the cursor does not show"


READABLE = {"dark": 4.5, "light": 4.5, "contrast": 7.0}
"""Contrast of text at least (source: WCAG 2.2, 1.4.3 AA and 1.4.6 AAA)."""


@pytest.mark.parametrize("theme", READABLE)
async def test_all_text_that_is_drawn_is_readable(theme: str) -> None:
    app = app_with(StubSource(BUSY.samples(0, 20)), theme)
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        for name, opened in SCREENS.items():
            await opened(app, pilot)
            # What lies behind a dialog is dimmed on purpose.
            inner = "CommandList" if name == "commands" else ".dialog"
            region = (
                app.screen.region if name not in ("help", "rule", "commands") else app.screen.query_one(inner).region
            )
            texts = [
                segment
                for y, line in enumerate(segments(app))
                for x, segment in zip(accumulate((len(one.text) for one in line), initial=0), line, strict=False)
                if region.contains(x, y) and any(char.isalnum() for char in segment.text)
            ]
            assert len(texts) > 10, name
            for text, style, _ in texts:
                assert style is not None and style.color is not None and style.bgcolor is not None and not style.dim
                fore, back = style.color.triplet, style.bgcolor.triplet
                assert fore is not None and back is not None
                assert contrast(fore, back) >= READABLE[theme], f"{name}: {text!r} is {fore.hex} on {back.hex}"
            await pilot.press("escape")


class Emulated(QtopApp):
    """The dashboard on an emulated terminal."""

    def __init__(self, source: Source, look: Look, size: tuple[int, int]) -> None:
        super().__init__(Session(source), look)
        self.driver_class = EmulatedDriver
        self.terminal = Terminal(*size)

    def resize_terminal(self, columns: int, lines: int) -> None:
        self.terminal.resize(lines, columns)
        self.post_message(events.Resize(Size(columns, lines), Size(columns, lines)))


async def test_the_terminal_shows_the_screen_through_switches_resizes_and_dialogs() -> None:
    source = StubSource(BUSY.samples(0, 20))
    app = Emulated(source, choose("truecolor", UTF8), (120, 40))
    failures: list[BaseException] = []

    async def script(pilot: Pilot[None]) -> None:
        try:
            await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
            step = 20.0
            for keys in (
                ["c"],
                ["question_mark"],
                ["c"],
                ["escape", "c"],
                ["ctrl+p"],
                ["escape", "c", "c"],
                ["f", "c"],
                ["escape", "g"],
                ["down", "pagedown", "t"],
                ["w", "v"],
                ["P"],
                ["down", "left", "c"],
            ):
                await pilot.press(*keys)
                await check_soon(pilot, app)
                size = (80, 24) if app.size.width == 120 else (120, 40)
                app.resize_terminal(*size)
                await until(pilot, lambda size=size: app.size == size)  # type: ignore[misc]
                await check_soon(pilot, app)
                step += 1.0
                source.play(BUSY.sample(step))
                await check_soon(pilot, app)
        except BaseException as error:
            failures.append(error)
        finally:
            app.exit()

    await app.run_async(size=(120, 40), auto_pilot=script)  # type: ignore[arg-type]
    app.session.close()
    if failures:
        raise failures[0]


async def test_c_goes_through_every_theme_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "qtop" / "themes"
    own.mkdir(parents=True)
    (own / "aa-broken.toml").write_text('base = "dark"\n[pens]\nwarn = "yelow"\n')
    (own / "mine.toml").write_text('base = "light"\nabout = "mine alone"\n[pens]\nwarn = "#112233"\n')
    app = app_with(StubSource(BUSY.samples(0, 20)), "dark")
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        seen = []
        for _ in range(7):
            await pilot.press("c")
            await pilot.pause(0.02)
            seen.append((app.look.scheme.name, row(app, 40).strip()))
        assert [name for name, _ in seen] == ["light", "contrast", "terminal", "mono", "mono", "mine", "dark"]
        assert seen[4][1].startswith("palette ") and "' is no style" in seen[4][1]
        assert seen[5][1].startswith("theme mine: mine alone")
        await pilot.press("ctrl+p", *"mine")
        await until(pilot, lambda: "Theme mine" in "\n".join(rows(app)))
        await pilot.press("enter")
        await until(pilot, lambda: app.look.scheme.name == "mine")


async def test_no_color_stays_without_colours() -> None:
    app = app_with(StubSource(BUSY.samples(0, 20)), "light", NO_COLOUR)
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        await pilot.press("c")
        await pilot.pause(0.02)
        assert "NO_COLOR is set" in row(app, 40)
        for screen in SCREENS.values():
            await screen(app, pilot)
            assert not [pen for line in cells(app) for _, pen in line if pen.fore or pen.back]
            await pilot.press("escape")


def colours(output: str) -> set[str]:
    """The SGR codes sent that choose a colour."""
    codes = {code for found in SGR.findall(output) for code in found.split(";")}
    return {code for code in codes if code.isdigit() and (30 <= int(code) <= 49 or 90 <= int(code) <= 107)}


@pytest.mark.parametrize(
    ("more", "arguments", "told"),
    [
        ({"NO_COLOR": "1"}, ["--theme", "light"], set()),
        ({"NO_COLOR": ""}, ["--theme", "light"], {"38", "48"}),
        ({"SSH_CONNECTION": "a 1 b 2"}, [], {"31", "36"}),
    ],
)
def test_what_reaches_a_real_terminal(
    tmp_path: Path, more: dict[str, str], arguments: list[str], told: set[str]
) -> None:
    command = [*QTOP, "replay", str(SAMPLE), "--speed", "20", *arguments]
    with terminal(command, environment(tmp_path, **more)) as one:
        one.until_shows("ENGINE WAITS FOR CPU")
        for key, shows in (("?", "stream a test prompt"), ("\x10", "Search for commands")):
            one.press(key)
            one.until_shows(shows)
            one.press("\x1b")
            one.until(lambda shows=shows: shows not in one.text())  # type: ignore[misc]
        one.press("q")
        assert one.ended() == 0
        sent = colours(one.output())
    assert sent >= told
    if not told:
        assert not sent
    elif "38" not in told:  # neither other palettes nor black and white, which may be the background
        assert sent <= {"31", "32", "33", "34", "35", "36", "39", "49"}


def test_verbs_on_a_terminal_print_no_escapes(tmp_path: Path) -> None:
    for verb in (["doctor", "--from", str(SAMPLE)], ["rules", "QT201"], ["--help"]):
        with terminal([*QTOP, *verb], environment(tmp_path, NO_COLOR="1")) as one:
            one.ended()
            one.until(lambda one=one: len(one.output()) > 200)  # type: ignore[misc]
            assert "\x1b" not in one.output()


def test_a_theme_that_is_none_is_one_line(tmp_path: Path) -> None:
    for verb in (["replay", str(SAMPLE)], [], ["demo"]):
        with terminal([*QTOP, *verb, "--theme", "nosuch"], environment(tmp_path)) as one:
            assert one.ended() == 2
            one.until_shows("no theme is called 'nosuch'")
            assert "\x1b" not in one.output()
