"""The screens beside the overview as text: at the end of a real recording, and on a node with many GPUs.

Compared with tests/pilot/golden/NAME-SCREEN-WIDTHxHEIGHT.txt; QTOP_GOLDEN=write makes the files anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.fakes.node import Node
from tests.fakes.stub_source import StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import at_end, compare, make_app, overflows, rows, running, until
from textual.pilot import Pilot

from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp

SIZES = ((80, 24), (120, 40), (160, 48))
SCREENS = {"gpus": "g", "threads": "t", "server": "v", "plots": "P"}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the machine's."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def walk(app: QtopApp, pilot: Pilot[None], name: str, size: tuple[int, int]) -> None:
    """Every screen against its golden, figures whole."""
    wrong = []
    for screen, key in SCREENS.items():
        await pilot.press(key)
        await pilot.pause(0.05)
        assert overflows(app) == [], screen
        wrong.append(compare(f"{name}-{screen}-{size[0]}x{size[1]}", rows(app)))
    assert not any(wrong), "".join(wrong)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_at_the_end_of_a_recording(recording: MakeRecording, size: tuple[int, int]) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        await walk(app, pilot, "pinned1_hogs", size)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_node_with_gpus_of_several_kinds(size: tuple[int, int]) -> None:
    app = make_app(StubSource(Node().samples(0, 40)))
    async with running(app, size) as pilot:
        await until(pilot, lambda: len(app.session.history) == 40)
        await pilot.pause(0.05)
        app.redraw()
        await walk(app, pilot, "node", size)
