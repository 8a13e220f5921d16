"""The guide's screen: its key, the cursor, the entry of a claim, sizes, recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.node import Node
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.helpers import at_end, make_app, overflows, row, rows, running, tap, until
from tests.pilot.test_mouse import click_on
from tests.pilot.test_screens import name, open_screen, play, wheel
from textual.events import MouseScrollDown
from textual.pilot import Pilot
from textual.widgets import Markdown

from qtop.guide.registry import CLAIMS
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.screens.dialogs import PageDialog
from qtop.ui.screens.guide import GuideScreen

H100 = Path(__file__).parent.parent / "data/recordings/h100-steady16.qtop"


def screen(app: QtopApp) -> GuideScreen:
    found = app._main
    assert isinstance(found, GuideScreen)
    return found


def cursor(app: QtopApp) -> str:
    """The row under the cursor."""
    (found,) = [line for line in rows(app) if line.lstrip().startswith(("▸", "> "))]
    return found


async def page(pilot: Pilot[None], app: QtopApp) -> str:
    """The source of the page that is open."""
    await until(pilot, lambda: isinstance(app.screen, PageDialog) and app.screen.query(Markdown))
    return app.screen.query_one(Markdown).source


async def test_the_key_opens_it_and_the_cursor_reaches_every_claim() -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app, (80, 24)) as pilot:
        await open_screen(pilot, app, "G")
        assert name(app) == "guide"
        assert row(app, 4).strip().startswith("The guide, checked on 6 × ")
        await tap(pilot, "up")
        for claim in CLAIMS:
            assert screen(app).chosen == claim.id
            assert f" {claim.id} " in cursor(app) and claim.title in cursor(app)
            heading = rows(app)[rows(app).index(cursor(app)) - 1]
            if claim.id in ("G1", "G8", "G32"):
                assert claim.section in heading, "the heading of a section's first claim is in sight"
            await tap(pilot, "down")
        assert screen(app).chosen == CLAIMS[-1].id, "it stops at the end"
        await tap(pilot, "pageup")
        assert CLAIMS[-1].id != screen(app).chosen
        for _ in range(10):
            await tap(pilot, "pageup")
        assert screen(app).chosen == "G1" and "2.1 What the GPU" in "\n".join(rows(app))
        app.post_message(wheel(app, MouseScrollDown))
        await until(pilot, lambda: screen(app).chosen == "G4")


async def test_enter_tells_all_of_a_claim_and_esc_leads_back() -> None:
    app = make_app(StubSource(Node().samples(0, 20)))
    async with running(app) as pilot:
        await open_screen(pilot, app, "G")
        await tap(pilot, "down", "down", "enter")
        text = await page(pilot, app)
        assert text.startswith("# G3 ") and "**The guide says.**" in text and "**What is true.**" in text
        await tap(pilot, "escape")
        await until(pilot, lambda: name(app) == "guide")
        assert screen(app).chosen == "G3"
        await click_on(pilot, app, "tier 1: one user")
        assert (await page(pilot, app)).startswith("# G8 ")
        await tap(pilot, "enter")
        await until(pilot, lambda: name(app) == "guide")
        assert screen(app).chosen == "G8"
        await tap(pilot, "escape")
        await until(pilot, lambda: name(app) == "overview")


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_on_a_recording_at_every_size(size: tuple[int, int]) -> None:
    source = ReplaySource(H100, speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        await open_screen(pilot, app, "G")
        app.redraw()
        await tap(pilot)
        assert overflows(app) == []
        assert "NVIDIA H100" in row(app, 4)
        shown = "\n".join(rows(app))
        assert ("does not hold   gen5" in shown) is (size[0] >= 120), "the state in words where there is room"
        assert ("says   " in shown) is (size[1] >= 40), "the chosen claim in short where there is room"
        if size[0] >= 80:
            for measured in ("at batch 4 at most 2.5 req/s, not 8.2", "slowed by heat 0 % of the last 30 s"):
                assert measured in shown, "figures are whole"
        await tap(pilot, "enter")
        assert (await page(pilot, app)).startswith("# G1 ")


async def test_without_server_and_in_ascii() -> None:
    source = StubSource(Machine(server=False).samples(0, 5))
    app = make_app(source, {"LANG": "C", "NO_COLOR": "1"})
    async with running(app) as pilot:
        await until(pilot, lambda: "No LLM server" in row(app, 2))
        await tap(pilot, "G")
        await until(pilot, lambda: name(app) == "guide" and "no server" in row(app, 4))
        assert "\n".join(rows(app)).isascii()
        assert "+ holds 0" in row(app, 5) and "x does not hold" in row(app, 5)
        await tap(pilot, "down")
        await play(pilot, app, source, Node(), 30.0)
        await until(pilot, lambda: "vLLM 0.25.1" in row(app, 4))
        assert "G2" in cursor(app)


async def test_the_palette_knows_it() -> None:
    app = make_app(StubSource(Node().samples(0, 3)))
    async with running(app) as pilot:
        names = {command.title for command in app.get_system_commands(app.screen)}
        assert "Screen guide" in names
        await pilot.pause()
