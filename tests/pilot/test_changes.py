"""Changes by keys: the preview and its value, progress, keep or put back, cancel, undo, and the tuning screen.

The knob, the transaction, the journal and the screen are the real ones; only what is measured is made up.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fakes.stub_source import StubSource
from tests.pilot.helpers import make_app, overflows, row, rows, running, until
from tests.pilot.test_keys import NOWHERE, message, pinned, waiting_on
from textual.pilot import Pilot
from textual.widgets import Input

from qtop.act.journal import Journal
from qtop.act.meter import ProbeMeter
from qtop.act.proof import Judgement
from qtop.errors import Refused
from qtop.sample import cpulist
from qtop.session import Session
from qtop.ui.app import QtopApp
from qtop.ui.lines import Lines
from qtop.ui.look import choose
from qtop.ui.screens.dialogs import ConfirmDialog, KeepDialog, PageDialog
from qtop.ui.screens.preview import PreviewDialog
from qtop.ui.screens.tuning import TuningScreen

__all__ = ["pinned"]

CPUS = sorted(os.sched_getaffinity(0))
ALL = cpulist.show(frozenset(CPUS))


class Measured:
    """What measuring says; ``hold`` keeps the measurement after the change from ending."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.verdict = "improved"
        self.hold = threading.Event()
        self.hold.set()
        measured = self

        def after(meter: ProbeMeter, settle_s: float) -> list[Any]:
            while not measured.hold.wait(0.02):
                if meter.cancelled:
                    raise Refused("cancelled")
            return []

        def compared(befores: list[Any], afters: list[Any]) -> Judgement:
            return Judgement(measured.verdict, f"{measured.verdict}: TTFT 400 → 200 ms", clear=True)

        monkeypatch.setattr(ProbeMeter, "before", lambda meter: [])
        monkeypatch.setattr(ProbeMeter, "after", after)
        monkeypatch.setattr(ProbeMeter, "compared", staticmethod(compared))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Measured]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = Measured(monkeypatch)
    yield made
    made.hold.set()


def app_on(pinned: psutil.Process) -> QtopApp:
    return make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE)


async def preview(pilot: Pilot[None], app: QtopApp) -> PreviewDialog:
    await until(pilot, lambda: "[1]" in row(app, 2))
    await pilot.press("1")
    await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
    await pilot.pause(0.1)
    assert isinstance(app.screen, PreviewDialog)
    return app.screen


async def ended(pilot: Pilot[None], app: QtopApp) -> None:
    await until(pilot, lambda: not app.changes.busy_text)


def states() -> list[str]:
    return [change.state for change in Journal().changes()]


# The preview


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 18)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_preview_tells_all_and_scrolls_where_it_is_long(
    pinned: psutil.Process, measured: Measured, size: tuple[int, int]
) -> None:
    app = app_on(pinned)
    async with running(app, size) as pilot:
        dialog = await preview(pilot, app)
        told = dialog.query_one("#preview", Lines).text()
        labels = ("value", "changes", "right", "meanwhile", "undone by", "by hand", "measured", "kept")
        column = {line.index(line[11:].strip()[:4]) for line in told.splitlines() if line[:1].strip()}
        assert all(f"\n{label} " in f"\n{told}" for label in labels)
        assert column == {11}
        assert overflows(app) == []
        last = "kept       if the server"
        if size == (60, 18):
            assert not any(last in line for line in rows(app))
            await pilot.press("pagedown", "pagedown")
            await pilot.pause()
        assert any(last in line for line in rows(app))
        assert any("Enter apply" in line for line in rows(app))  # the keys stay in sight


async def test_another_value_is_shown_before_it_is_made(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    other = str(CPUS[-1])
    async with running(app, (80, 24)) as pilot:
        dialog = await preview(pilot, app)
        await pilot.press("e")
        await pilot.pause()
        dialog.query_one(Input).value = ""
        await pilot.press(*other, "enter")
        await until(pilot, lambda: f"→ {other}" in dialog.query_one("#preview", Lines).text())
        assert pinned.cpu_affinity() == CPUS[:1]
        assert app.screen is dialog
        await pilot.press("enter")
        await until(pilot, lambda: bool(app.changes.busy_text) or message(app).startswith("cpu-affinity kept"))
        await ended(pilot, app)
        assert pinned.cpu_affinity() == CPUS[-1:]


@pytest.mark.parametrize(("typed", "told"), [("x", "not a list of CPUs"), ("99999", "is not among those"), ("", "yet")])
async def test_a_value_that_cannot_be_is_one_line_and_changes_nothing(
    pinned: psutil.Process, measured: Measured, typed: str, told: str
) -> None:
    app = app_on(pinned)
    async with running(app, (80, 24)) as pilot:
        dialog = await preview(pilot, app)
        await pilot.press("e")
        await pilot.pause()
        dialog.query_one(Input).value = typed
        await pilot.press("enter")
        await until(pilot, lambda: told in dialog.query_one("#preview-keys", Lines).text())
        assert len(dialog.query_one("#preview-keys", Lines).text().strip().splitlines()) == 2
        await pilot.press("escape")  # back to the plan that stands
        await pilot.pause()
        assert told not in dialog.query_one("#preview-keys", Lines).text()
        await pilot.press("escape")
        await until(pilot, lambda: message(app) == "nothing was changed")
        assert pinned.cpu_affinity() == CPUS[:1]


# What comes of it


async def test_progress_goes_step_by_step_and_ends(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    measured.hold.clear()
    async with running(app, (80, 24)) as pilot:
        await preview(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: "✓ change  ▸ after" in "\n".join(rows(app)))
        assert "Esc puts it back" in "\n".join(rows(app)[-4:])
        assert "cpu-affinity" in row(app, 1)
        assert pinned.cpu_affinity() == CPUS
        measured.hold.set()
        await ended(pilot, app)
        await until(pilot, lambda: "▸" not in "\n".join(rows(app)[-4:]))
        assert message(app).startswith("cpu-affinity kept: improved")
        assert message(app).endswith("u undoes it")
        await pilot.press("u")
        await until(pilot, lambda: message(app).startswith("undone: cpu-affinity"))
    assert pinned.cpu_affinity() == CPUS[:1]
    assert states() == ["closed"]


async def test_esc_brings_the_old_values_back(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    measured.hold.clear()
    async with running(app, (80, 24)) as pilot:
        await preview(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: pinned.cpu_affinity() == CPUS)
        await pilot.press("escape")
        await ended(pilot, app)
        assert message(app) == "cancelled"
    assert pinned.cpu_affinity() == CPUS[:1]
    assert states() == ["closed"]


@pytest.mark.parametrize(("key", "kept"), [("k", True), ("enter", False), ("escape", False)])
@pytest.mark.parametrize("verdict", ["no effect", "cannot tell"])
async def test_without_an_effect_it_is_asked(
    pinned: psutil.Process, measured: Measured, verdict: str, key: str, kept: bool
) -> None:
    app = app_on(pinned)
    measured.verdict = verdict
    async with running(app, (80, 24)) as pilot:
        await preview(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, KeepDialog))
        await pilot.pause(0.1)
        assert f"{verdict}: TTFT 400 → 200 ms" in app.screen.query_one("#keep", Lines).text()
        assert pinned.cpu_affinity() == CPUS  # in force until it is answered
        await pilot.press(key)
        await ended(pilot, app)
    assert (pinned.cpu_affinity() == CPUS) is kept
    assert states() == ["kept" if kept else "closed"]


async def test_worse_is_put_back_without_a_question(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    measured.verdict = "worse"
    async with running(app, (80, 24)) as pilot:
        await preview(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: message(app).startswith("cpu-affinity put back: worse"))
        assert not isinstance(app.screen, KeepDialog)
    assert pinned.cpu_affinity() == CPUS[:1]


async def test_leaving_while_it_is_asked_puts_back(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    measured.verdict = "no effect"
    async with running(app, (80, 24)) as pilot:
        await preview(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, KeepDialog))
        app.exit()
        await pilot.pause()
    assert pinned.cpu_affinity() == CPUS[:1]
    assert states() == ["closed"]


# The tuning screen


async def tuning(pilot: Pilot[None], app: QtopApp) -> TuningScreen:
    await until(pilot, lambda: "[1]" in row(app, 2))
    await pilot.press("T")
    await until(pilot, lambda: "possible now" in row(app, 4) or "possible now" in row(app, 3))
    assert isinstance(app.screen, TuningScreen)
    return app.screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_knobs_with_value_proposal_and_who_proposes(
    pinned: psutil.Process, measured: Measured, size: tuple[int, int]
) -> None:
    app = app_on(pinned)
    async with running(app, size) as pilot:
        await tuning(pilot, app)
        await pilot.pause(0.1)
        (line,) = [line for line in rows(app) if "▸" in line]
        assert line.split()[1:] == ["cpu-affinity", str(CPUS[0]), "→", ALL, "live", "you", "QT201,", "QT204"]
        assert any("qtop has changed nothing" in line for line in rows(app))
        assert overflows(app) == []


async def test_a_change_from_the_screen_is_listed_opened_and_undone(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    async with running(app, (120, 40)) as pilot:
        screen = await tuning(pilot, app)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
        await pilot.press("enter")
        await until(pilot, lambda: any("in force" in line for line in rows(app)))
        await until(pilot, lambda: not app.changes.busy_text)
        await pilot.press("pageup", "pageup")  # what was possible before is so no more, and further down
        assert screen.chosen.startswith("txn:")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))
        await until(pilot, lambda: any("qtop wrote" in line for line in rows(app)))
        await pilot.press("escape")
        await pilot.press("u")
        await until(pilot, lambda: pinned.cpu_affinity() == CPUS[:1])
        await until(pilot, lambda: any("put back" in line for line in rows(app)[:-1]))
        await pilot.press("u")
        await until(pilot, lambda: message(app) == "this change was put back already")


async def test_all_that_findings_propose_one_by_one(pinned: psutil.Process, measured: Measured) -> None:
    app = app_on(pinned)
    async with running(app, (120, 40)) as pilot:
        await tuning(pilot, app)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
        await until(pilot, lambda: any("1  cpu-affinity: let 1 thread" in line for line in rows(app)))
        assert pinned.cpu_affinity() == CPUS[:1]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))
        await until(pilot, lambda: any("1 kept" in line for line in rows(app)))
        shown = "\n".join(rows(app))
        assert "To make it permanent:" in shown
        assert f"taskset -acp {ALL} {pinned.pid}" in shown
        assert pinned.cpu_affinity() == CPUS


async def test_a_mark_chooses_what_is_tried_and_what_is_not_possible_cannot_be_marked(
    pinned: psutil.Process, measured: Measured
) -> None:
    app = app_on(pinned)
    async with running(app, (120, 40)) as pilot:
        await tuning(pilot, app)
        await pilot.press("x")
        await until(pilot, lambda: any(line.split()[:3] == ["▸", "x", "cpu-affinity"] for line in rows(app)))
        await pilot.press("x")
        await until(pilot, lambda: any(line.split()[:2] == ["▸", "cpu-affinity"] for line in rows(app)))
        await pilot.press(*["down"] * 4, "x")
        await until(pilot, lambda: message(app) == "only what is possible now can be marked")


async def test_read_only_says_why_not(pinned: psutil.Process, measured: Measured) -> None:
    session = Session(StubSource(waiting_on(pinned).samples(0, 20)), lambda: NOWHERE, read_only=True)
    app = QtopApp(session, choose("truecolor", {"LANG": "C.UTF-8"}))
    told = "qtop runs with --read-only: nothing can be changed"
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        await pilot.press("T")
        await until(pilot, lambda: any(f"Tuning: {told}" in line for line in rows(app)))
        for key in ("1", "u", "a", "x"):
            app.say("")
            await pilot.press(key)
            await until(pilot, lambda: message(app) == told)
    assert not Journal().path.exists()


async def test_a_killed_qtops_change_is_told_of(pinned: psutil.Process, measured: Measured, tmp_path: Path) -> None:
    line = {
        "schema": 2,
        "txn": "x",
        "step": "begin",
        "t": 1.0,
        "parts": [{"knob": "swappiness", "record": {"new": "1"}}],
    }
    Journal().path.write_text(json.dumps(line) + "\n")
    app = app_on(pinned)
    async with running(app, (120, 40)) as pilot:
        await until(pilot, lambda: "(swappiness) was left unfinished: u puts it back" in message(app))
