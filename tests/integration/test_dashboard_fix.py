"""A real llama.cpp in the dashboard, by keys: a finding appears, 1 and Enter fix it, it clears, u puts it back."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.crash import masks, pin
from tests.fakes.load import Neighbours, busy_loops, streams
from tests.pilot.helpers import UTF8, lines, row, rows, running, until
from tests.pilot.test_keys import message

from qtop.act.journal import Journal
from qtop.collect.http import Access
from qtop.probe.prompts import ENGLISH
from qtop.session import Session
from qtop.source.attach import Target
from qtop.source.live import LiveSource
from qtop.ui.app import QtopApp
from qtop.ui.look import choose
from qtop.ui.screens.preview import PreviewDialog

pytestmark = pytest.mark.measured

CPUS = sorted(os.sched_getaffinity(0))
SHARED = CPUS[0]
QUIET = 0.05
"""CPUs' worth of time that the rest of the machine may use without explaining what the test sees."""
LOOK_S = 0.5
"""Between two looks at the screen: looking costs CPU time as well."""


def verdict(app: QtopApp) -> str:
    return lines(app, "verdict")


def expect(true: bool, neighbours: float, shown: str) -> None:
    """Assert what holds on a machine that is otherwise idle; skip where others used its CPUs meanwhile."""
    if not true and neighbours > QUIET:
        pytest.skip(f"needs a quiet machine: other processes used {neighbours:.0%} of a CPU ({shown})")
    assert true, shown


@pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs: one to share and one to move to")
async def test_by_keys_found_fixed_cleared_and_put_back(
    make_llama_server: MakeLlamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = make_llama_server(threads=1)
    pin(server.pid, {SHARED})
    before = masks(server.pid)
    source = LiveSource(Target(url=server.url))

    def access() -> Access | None:
        return source.attached.access if source.attached is not None else None

    app = QtopApp(Session(source, access), choose("truecolor", UTF8), prompt=ENGLISH, max_tokens=32)
    with busy_loops(SHARED, 1) as hogs, ExitStack() as load:
        load.enter_context(streams(server.port, 1))
        others = Neighbours([server.pid, *hogs])
        async with running(app, (120, 40)) as pilot:
            await until(pilot, lambda: verdict(app).startswith(" ▌ ENGINE WAITS FOR CPU"), 60.0, LOOK_S)
            assert "[1] widen affinity" in row(app, 2)
            assert "QT201" in lines(app, "findings")

            await pilot.press("1")
            await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
            await until(pilot, lambda: "Enter apply" in "\n".join(rows(app)))
            assert masks(server.pid) == before  # a preview changes nothing
            load.close()  # it makes measuring take twice as long
            await pilot.press("enter")
            await until(pilot, lambda: app.changes.busy_text, 5.0)
            assert "cpu-affinity" in row(app, 1)
            await pilot.press("p", "p", "o", "u", "1")  # none of these may disturb what is being measured
            others.share()
            await until(pilot, lambda: not app.changes.busy_text, 200.0, LOOK_S)
            told = message(app)
            expect(told.startswith("cpu-affinity kept"), others.share(), told)
            assert told.endswith("u undoes it")
            assert all(mask == set(CPUS) for mask in masks(server.pid).values())

            load.enter_context(streams(server.port, 1))
            deadline = time.monotonic() + 60.0
            while verdict(app).startswith(" ▌ ENGINE WAITS") and time.monotonic() < deadline:
                await pilot.pause(LOOK_S)
            left, disturbed = verdict(app), others.share()
            await pilot.press("u")
            await until(pilot, lambda: message(app).startswith("undone: cpu-affinity"), 5.0)
    after = masks(server.pid)
    assert {tid: mask for tid, mask in after.items() if tid in before} == before
    assert set(after.values()) == {frozenset({SHARED})}
    assert Journal().in_force() == []
    expect(not left.startswith(" ▌ ENGINE WAITS"), disturbed, left)
