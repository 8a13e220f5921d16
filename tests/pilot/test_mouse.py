"""The mouse on what is a key, a finding, or the verdict."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from rich.cells import cell_len
from tests.fakes.stub_source import Machine, StubLive, StubSource
from tests.pilot.helpers import SIZES, lines, make_app, row, rows, running, until
from tests.pilot.test_keys import CHOICES, NOWHERE, message, pinned, waiting_on
from textual.pilot import Pilot

from qtop.ui.app import QtopApp
from qtop.ui.screens.dashboard import DashboardScreen
from qtop.ui.screens.dialogs import ChooseDialog, PageDialog
from qtop.ui.screens.preview import PreviewDialog
from qtop.ui.screens.probe import ProbeScreen

__all__ = ["pinned"]


async def click_on(pilot: Pilot[None], app: QtopApp, text: str, line: int | None = None) -> None:
    """Click on the first cell of this text, on row ``line`` (from 1) or wherever it stands first."""
    for number, shown in enumerate(rows(app), 1):
        if text in shown and line in (None, number):
            before = cell_len(shown[: shown.index(text)])
            await pilot.click(offset=(before, number - 1))
            await pilot.pause()
            return
    raise AssertionError(f"{text!r} is not on the screen:\n" + "\n".join(rows(app)))


@pytest.mark.parametrize("size", SIZES[:3], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_key_line(size: tuple[int, int], tmp_path: Path) -> None:
    app = make_app(StubSource(Machine().samples(0, 20)), record_dir=tmp_path)
    async with running(app, size) as pilot:
        last = size[1]
        await click_on(pilot, app, "record", last)
        assert message(app).startswith("recording to ")
        assert "● REC" in row(app, 1)
        await click_on(pilot, app, "REC", 1)
        assert message(app).startswith("recorded ")
        app._message_until = 0.0
        app.redraw()
        await pilot.pause()
        await click_on(pilot, app, "space", last)
        assert "PAUSED" in row(app, 1)


async def test_other_keys_of_the_key_line() -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)))
    async with running(app) as pilot:
        await click_on(pilot, app, "undo", 40)
        assert message(app) == "this is a recording: nothing can be changed here"
        app._message_until = 0.0
        app.redraw()
        await pilot.pause()
        await click_on(pilot, app, "findings", 40)
        assert isinstance(app.screen, PageDialog)
        await pilot.press("escape")
        await click_on(pilot, app, "test prompt", 40)
        assert isinstance(app.screen, ProbeScreen)


async def test_help_and_quit_in_the_header() -> None:
    app = make_app(StubSource(Machine().samples(0, 20)))
    async with running(app, (80, 24)) as pilot:
        await click_on(pilot, app, "help", 1)
        assert isinstance(app.screen, PageDialog)
        await pilot.press("escape")
        await click_on(pilot, app, "quit", 1)
        await pilot.pause()
        assert not app.is_running


@pytest.mark.parametrize("where", ["verdict", "finding"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_click_on_the_fix_opens_its_preview(pinned: psutil.Process, where: str, size: tuple[int, int]) -> None:
    app = make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE)
    before = pinned.cpu_affinity()
    async with running(app, size) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        line = 2 if where == "verdict" else next(n for n, text in enumerate(rows(app), 1) if "QT201" in text)
        await click_on(pilot, app, "[1]", line)
        await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
        await pilot.pause(0.1)
        await click_on(pilot, app, "leave everything")
        assert isinstance(app.screen, DashboardScreen)
        assert message(app) == "nothing was changed"
    assert pinned.cpu_affinity() == before


async def test_a_click_on_a_finding_opens_its_page() -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)))
    async with running(app) as pilot:
        await until(pilot, lambda: "QT201" in lines(app, "findings"))
        await click_on(pilot, app, "QT201")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))
        await pilot.pause(0.1)
        assert "QT201" in "\n".join(rows(app))


async def test_a_click_on_the_verdict_offers_the_demo_server() -> None:
    app = make_app(StubSource(Machine(server=False).samples(0, 3)))
    async with running(app) as pilot:
        await click_on(pilot, app, "[d] start", 2)
        assert message(app) == "no demo server here"


async def test_a_click_chooses_a_server() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press("escape")
        await pilot.pause()
        await click_on(pilot, app, "[s] choose", 2)
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.pause(0.1)
        await click_on(pilot, app, CHOICES[1].url)
        assert source.stub_attachment.chosen == [CHOICES[1].url]


async def test_clicks_everywhere_break_nothing(tmp_path: Path) -> None:
    app = make_app(StubSource(Machine(wait=0.8, gpus=2).samples(0, 20)), record_dir=tmp_path)
    async with running(app, (80, 24)) as pilot:
        for y in range(1, 24):  # row 1 has "quit"
            for x in (3, 60):
                await pilot.click(offset=(x, y))
                if not isinstance(app.screen, DashboardScreen):
                    await pilot.press("escape")
        await pilot.pause()
        assert lines(app, "verdict").startswith(" ▌ ENGINE WAITS")
