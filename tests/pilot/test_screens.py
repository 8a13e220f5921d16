"""The screens beside the overview: every key and the mouse, sizes, and what happens to the server meanwhile."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len
from tests.fakes.node import Node
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import SIZES, at_end, make_app, overflows, row, rows, running, tap, until
from tests.pilot.test_keys import KEYS, NOWHERE, back_to_dashboard, message, pinned, waiting_on
from tests.pilot.test_mouse import click_on
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.screens.base import MainScreen
from qtop.ui.screens.dashboard import DashboardScreen
from qtop.ui.screens.dialogs import PageDialog
from qtop.ui.screens.listing import ListScreen
from qtop.ui.screens.preview import PreviewDialog

__all__ = ["pinned"]

SCREENS = {
    "gpus": "g",
    "threads": "t",
    "server": "v",
    "plots": "P",
    "probe": "p",
    "findings": "F",
    "tuning": "T",
    "plan": "L",
    "guide": "G",
}
DIALOGS = {*"123456789f", "question_mark", "f1"}
"""Keys that lead to a dialog: a test of its own."""
BUSY = Node(wait=0.8, allowed="3")
"""Its engines wait; 54 threads, six GPUs: more rows than any screen has."""


async def open_screen(pilot: Pilot[None], app: QtopApp, key: str) -> None:
    await tap(pilot, key)
    await until(pilot, lambda: name(app) in SCREENS and row(app, 2).strip())


def name(app: QtopApp) -> str:
    """The main screen that is on top, "" for a dialog."""
    return app.screen.NAME if isinstance(app.screen, MainScreen) else ""


def wheel(app: QtopApp, kind: type[MouseScrollDown] | type[MouseScrollUp]) -> MouseScrollDown | MouseScrollUp:
    return kind(None, 5, 10, 0, 0, 0, False, False, False)


async def play(pilot: Pilot[None], app: QtopApp, source: StubSource, machine: Machine, second: float) -> None:
    sample = machine.sample(second)
    source.play(sample)
    await until(pilot, lambda: app.playback.shown is not None and app.playback.shown.frame.t == sample.t)


@pytest.mark.parametrize("screen", SCREENS)
async def test_every_key_leaves_the_verdict_and_leads_back(screen: str, tmp_path: Path) -> None:
    app = make_app(StubSource(BUSY.samples(0, 20)), access=NOWHERE, record_dir=tmp_path)
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        for key in (*(key for key in KEYS if key not in DIALOGS), *"wjkTogtvmG", "plus", "minus"):
            if name(app) != screen:
                await back_to_dashboard(pilot, app)
                await open_screen(pilot, app, SCREENS[screen])
            await tap(pilot, key)
            assert app.is_running, key
            if name(app):
                await until(pilot, lambda: row(app, 2).strip())
                assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU"), key
                assert len(rows(app)) == 24, key
        await back_to_dashboard(pilot, app)
        await tap(pilot, SCREENS[screen], "q")
        await pilot.pause()
        assert not app.is_running


async def test_tab_goes_round_and_the_same_key_leads_back() -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app) as pilot:
        seen = []
        for _ in range(len(SCREENS) + 2):
            seen.append(name(app))
            await tap(pilot, "tab")
            await pilot.pause(0.02)
        assert seen == ["overview", *SCREENS, "overview"]
        for back in ("same", "o", "escape"):
            for screen, key in SCREENS.items():
                if name(app) != "overview":
                    await tap(pilot, "o")
                await open_screen(pilot, app, key)
                assert name(app) == screen
                if screen == "probe" and back == "same":
                    continue  # there it sends
                await tap(pilot, key if back == "same" else back)
                await pilot.pause(0.02)
                assert isinstance(app.screen, DashboardScreen), (screen, back)
                assert len(app.screen_stack) == 2, "none is left underneath"


@pytest.mark.parametrize("screen", ["gpus", "threads", "server"])
async def test_scrolling_shows_every_row_once_and_stops_at_both_ends(screen: str) -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app, (80, 24)) as pilot:
        await open_screen(pilot, app, SCREENS[screen])
        top = rows(app)
        assert re.search(r"↑↓ \d+ more below", top[-2])
        await tap(pilot, "up", "k", "pageup")
        assert rows(app) == top
        assert isinstance(app.screen, ListScreen)
        seen = [*app.screen.lines("list").text().split("\n")]
        for _ in range(60):
            if "more below" not in rows(app)[-2]:
                break
            await tap(pilot, "pagedown")
            seen += app.screen.lines("list").text().split("\n")
        end = rows(app)
        assert re.search(r"↑↓ \d+ above *$", end[-2]), end[-2]
        await tap(pilot, "down", "j", "pagedown")
        assert rows(app) == end
        view = app._view()
        assert view is not None
        every = ["".join(part.text for part in line).rstrip() for line in app.screen.rows(view, 78)]
        assert set(every) <= {line.rstrip() for line in seen}
        for _ in range(60):
            await tap(pilot, "pageup")
        assert rows(app) == top
        app.post_message(wheel(app, MouseScrollDown))
        await until(pilot, lambda: "3 above" in rows(app)[-2])
        app.post_message(wheel(app, MouseScrollUp))
        await until(pilot, lambda: rows(app) == top)


async def test_the_keys_in_the_last_row_can_be_clicked() -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app) as pilot:
        await open_screen(pilot, app, "t")
        await click_on(pilot, app, "scroll", 40)
        assert "↑↓ 1 above" in rows(app)[-2]
        await click_on(pilot, app, "sort", 40)
        assert "sorted by running" in "\n".join(rows(app))
        await click_on(pilot, app, "plots", 40)
        assert name(app) == "plots"
        await click_on(pilot, app, "TTFT")
        assert "mean TTFT, last 30 s" in row(app, 4)
        assert "cannot tell: no request finished" in row(app, 39) or "cannot tell" in row(app, 39)
        await click_on(pilot, app, "overview", 40)
        assert name(app) == "overview"


async def test_a_click_on_a_chart_of_the_overview_shows_it_whole() -> None:
    app = make_app(StubSource(Node(wait=0.3).samples(0, 20)))
    async with running(app) as pilot:
        for chart, what in (
            ("gpu", "SMs busy"),
            ("sched", "waits for a CPU"),
            ("server", "output tokens a second"),
        ):
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
            await pilot.pause(0.05)
            await pilot.click(f"#{chart}-chart")
            await until(pilot, lambda: name(app) == "plots")
            await until(pilot, lambda what=what: what in row(app, 4))  # type: ignore[misc]
            await tap(pilot, "escape")


@pytest.mark.parametrize(
    ("machine", "ascii", "sizes"),
    [
        ("node", False, SIZES),
        ("node", True, ((60, 18), (120, 40))),
        ("bare", False, ((60, 18), (120, 40))),
        ("nobody", True, ((60, 18), (120, 40))),
        ("names", False, ((60, 18), (120, 40))),
    ],
)
async def test_resized_on_every_screen(machine: str, ascii: bool, sizes: tuple[tuple[int, int], ...]) -> None:
    node = {
        "node": BUSY,
        "bare": Machine(wait=0.8),
        "nobody": Machine(server=False, lost={"1": BUSY.lost["2"]}),
        "names": Node(wait=0.8, allowed="3", model="模型/通义千问-" * 9, gpu_name="显卡" * 40),
    }[machine]
    source = StubSource(node.samples(0, 20))
    environ = {"LANG": "C", "NO_COLOR": "1"} if ascii else {"LANG": "C.UTF-8"}
    app = make_app(source, environ)
    second = 20.0
    async with running(app, (80, 24)) as pilot:
        for screen, key in SCREENS.items():
            await open_screen(pilot, app, key)
            for width, height in sizes:
                await pilot.resize_terminal(width, height)
                second += 1.0
                source.play(node.sample(second))
                await until(pilot, lambda size=(width, height): app.size == size)  # type: ignore[misc]
                await tap(pilot)
                app.redraw()
                await tap(pilot)
                shown = rows(app)
                assert name(app) == screen
                assert all(cell_len(line) == width for line in shown), (screen, width, height)
                assert overflows(app) == [], (screen, width, height)
                assert shown[1].startswith(" | " if ascii else " ▌ "), shown[1]
                if ascii:
                    assert "\n".join(shown).isascii(), screen
            await tap(pilot, "o")
            await until(pilot, lambda: name(app) == "overview")


@pytest.mark.parametrize("screen", SCREENS)
async def test_dialogs_over_every_screen(screen: str, pinned: psutil.Process) -> None:
    app = make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE)
    before = pinned.cpu_affinity()
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        await open_screen(pilot, app, SCREENS[screen])
        if screen == "plan":
            await tap(pilot, "up", "up", "up")  # to a choice: in a number a digit is typed
        for key, dialog in (("question_mark", PageDialog), ("f", PageDialog), ("1", PreviewDialog)):
            await tap(pilot, key)
            await until(pilot, lambda dialog=dialog: isinstance(app.screen, dialog))  # type: ignore[misc]
            for other in "gtvmoG":  # the keys of the screens are not the dialog's
                await tap(pilot, other)
            assert isinstance(app.screen, dialog), key
            await tap(pilot, "escape")
            await until(pilot, lambda: name(app) == screen)
            assert "ENGINE WAITS" in row(app, 2)
        await tap(pilot, *(["p"] if screen == "probe" else ["p", "p"]))
        await until(pilot, lambda: not app.session.probing, 20.0)
        assert name(app) == "probe"
    assert pinned.cpu_affinity() == before


@pytest.mark.parametrize("screen", SCREENS)
async def test_what_may_happen_while_a_screen_is_shown(screen: str) -> None:
    """The server goes and comes back, the GPUs go, time steps back, the theme changes."""
    source = StubSource(BUSY.samples(0, 20))
    app = make_app(source)
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        await open_screen(pilot, app, SCREENS[screen])
        for second, machine, verdict in (
            (20.0, Node(server=False), "GPU 2 LOST"),
            (21.0, Node(server=False, gpus=0, lost={}), ""),
            (22.0, Machine(server=False), "No LLM server found"),
            (30.0, BUSY, ""),
            (31.0, BUSY, ""),
            (5.0, BUSY, ""),
        ):
            await play(pilot, app, source, machine, second)
            assert verdict in row(app, 2), second
            await tap(pilot, "c", "down", "down")
            await pilot.pause(0.02)
            assert overflows(app) == [], second
            assert name(app) == screen


async def test_the_cursor_of_a_plot_holds_the_screen_and_the_verdict_is_that_moment_s() -> None:
    source = StubSource([*Node().samples(0, 40), *Node(wait=0.9, allowed="3").samples(40, 60)])
    app = make_app(source)
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        await open_screen(pilot, app, "P")
        app._main.choose("wait")
        await pilot.pause(0.02)
        await tap(pilot, *["left"] * 9)
        await until(pilot, lambda: "ENGINE WAITS" not in row(app, 2))
        reading = row(app, 39)
        assert re.search(r"│ \d\d:\d\d:\d\d +0 %", reading), reading
        assert sum("│" in line for line in rows(app)[4:36]) >= 30, "the cursor goes through the whole chart"
        await tap(pilot, "right", "right", "end")
        await until(pilot, lambda: "PAUSED" not in row(app, 1))
        await until(pilot, lambda: "now 90 %" in row(app, 39))
        assert "ENGINE WAITS" in row(app, 2)


async def test_plots_are_chosen_spanned_and_shown_with_exact_axes() -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app) as pilot:
        await open_screen(pilot, app, "P")
        await until(pilot, lambda: "SMs busy" in row(app, 4))
        first = row(app, 4)
        await tap(pilot, "down")
        assert "tensor cores" in row(app, 4)
        await tap(pilot, "up", "up")
        assert "qtop's own share" in row(app, 4), "it goes round"
        await tap(pilot, "down")
        assert row(app, 4) == first
        for key, span in (("plus", "15 min"), ("plus", "15 min"), ("minus", "5 min"), ("minus", "1 min")):
            await tap(pilot, key)
            assert f"last {span}" in row(app, 4)
        await tap(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))
        assert "SMs busy (GPM), %" in "\n".join(rows(app))
        await tap(pilot, "escape")
        await pilot.pause()
        assert name(app) == "plots"


@pytest.mark.parametrize("size", SIZES[3:], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_recording_at_its_end_fits_every_screen(recording: MakeRecording, size: tuple[int, int]) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        for key in SCREENS.values():
            await open_screen(pilot, app, key)
            assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 82 %")
            assert overflows(app) == []
            if key == "p":
                assert row(app, 4).strip() == "This is a recording: it has no server to ask."
                await tap(pilot, "p")
                assert message(app).startswith("a recording has no server")
            await tap(pilot, "left", "left", "space")
            await tap(pilot, "o")


async def test_a_server_known_by_its_documentation_only_is_said_to_be() -> None:
    app = make_app(StubSource(Node(verified=False).samples(0, 20)))
    async with running(app, (80, 24)) as pilot:
        await open_screen(pilot, app, "v")
        assert row(app, 4).rstrip().endswith("not verified on a running server")
