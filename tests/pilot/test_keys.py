"""Every key on every screen: on a recording, and live on samples of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.fakes.stub_source import Machine, StubLive, StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import SIZES, at_end, lines, make_app, row, rows, running, until
from textual.pilot import Pilot

from qtop.collect.http import Access
from qtop.sample import ServerInfo
from qtop.source.attach import Choice
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.lines import Lines
from qtop.ui.screens.dashboard import DashboardScreen
from qtop.ui.screens.dialogs import ChooseDialog, PageDialog
from qtop.ui.screens.preview import PreviewDialog

NOWHERE = Access("http://127.0.0.1:9")
"""An address at which nothing listens (port 9, discard)."""
KEYS = (
    *"pur123456789fd",
    *("space", "left", "right", "up", "down", "home", "end", "comma", "full_stop", "escape", "enter", "tab", "pageup"),
    *("pagedown", "question_mark", "ctrl+p", "f1", "backspace", "delete", "x", "ctrl+c", "ctrl+l", "y", "n"),
)
CHOICES = (
    Choice("http://127.0.0.1:8000", 11, "vllm", "model-one", "listens"),
    Choice("http://127.0.0.1:8080", 12, "llamacpp", "[b]model[/b] two", "listens"),
)


@pytest.fixture
def pinned() -> Iterator[psutil.Process]:
    """A process of one thread that may use one CPU of several: something that an affinity change could widen."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        os.sched_setaffinity(child.pid, {cpus[0]})
        yield psutil.Process(child.pid)
        child.kill()


def waiting_on(process: psutil.Process) -> Machine:
    """A machine whose server is this process, waiting for its CPU most of the time."""
    cpus = sorted(os.sched_getaffinity(0))
    return Machine(wait=0.8, pid=process.pid, allowed=str(cpus[0]), cpuset=",".join(map(str, cpus)), cpus=len(cpus))


async def back_to_dashboard(pilot: Pilot[None], app: QtopApp) -> None:
    """By Esc: the first may close a dialog, those after it cancel a test prompt, which takes a moment to end."""
    deadline = time.monotonic() + 20.0
    while not isinstance(app.screen, DashboardScreen):
        assert time.monotonic() < deadline, app.screen
        await pilot.press("escape")
        await pilot.pause(0.02 if app.session.probing else None)


def message(app: QtopApp) -> str:
    """What the key line says."""
    return rows(app)[-1].strip()


async def test_what_a_recording_cannot_do_is_one_clear_line(recording: MakeRecording) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=500.0)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await at_end(pilot, source)
        verdict = row(app, 2)
        for key, text in (
            *((number, "this is a recording: nothing can be changed here") for number in "123456789"),
            ("r", "this is a recording already"),
            ("u", "this is a recording: nothing can be changed here"),
            ("d", "no demo server here"),
            ("s", "there is nothing to choose from"),
        ):
            app.say("")
            await pilot.press(key)
            await pilot.pause()
            assert message(app).rstrip(".") == text
            assert row(app, 2) == verdict
            assert isinstance(app.screen, DashboardScreen)


async def test_every_key_on_a_recording_leaves_the_verdict_where_it_is(recording: MakeRecording) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=500.0)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await at_end(pilot, source)
        for key in KEYS:
            await pilot.press(key)
            await back_to_dashboard(pilot, app)
            if app.playback.paused:
                await pilot.press("space")
            await pilot.pause()
            assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 82 %"), key
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running


@pytest.mark.parametrize("opener", ["question_mark", "f", "ctrl+p", "1"])
async def test_every_key_on_every_other_screen(pinned: psutil.Process, opener: str, tmp_path: Path) -> None:
    app = make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE, record_dir=tmp_path)
    before = pinned.cpu_affinity()
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        for key in (*KEYS, "q"):
            if opener == "1" and key in ("enter", "y"):
                continue  # applies: the test of the dialog itself does this
            if isinstance(app.screen, DashboardScreen):
                await pilot.press(opener)
                await until(pilot, lambda: not isinstance(app.screen, DashboardScreen), 3.0)
            await pilot.press(key)
            assert app.is_running, key
            assert " ▌ ENGINE WAITS" in lines(app, "verdict"), key
        await back_to_dashboard(pilot, app)
        assert " ▌ ENGINE WAITS" in row(app, 2)
    assert pinned.cpu_affinity() == before


async def test_q_closes_a_dialog_and_then_leaves() -> None:
    app = make_app(StubSource(Machine().samples(0, 3)))
    async with running(app) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen)
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_preview_says_what_would_change_and_esc_changes_nothing(
    pinned: psutil.Process, size: tuple[int, int]
) -> None:
    app = make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE)
    before = pinned.cpu_affinity()
    async with running(app, size) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
        await pilot.pause(0.1)
        assert "cpu-affinity" in app.screen.query_one("#preview-head", Lines).text()
        shown = " ".join(app.screen.query_one("#preview", Lines).text().split())
        for told in ("1 thread: CPUs", "right none beyond your own", "7 to 25 of up to 32 tokens", "by hand taskset"):
            assert told in shown
        assert any("Enter apply   Esc leave everything as it is" in line for line in rows(app))
        await pilot.press("escape")
        await pilot.pause()
        assert message(app) == "nothing was changed"
    assert pinned.cpu_affinity() == before


async def test_a_fix_that_cannot_be_measured_changes_nothing_and_says_so(
    pinned: psutil.Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = make_app(StubSource(waiting_on(pinned).samples(0, 20)), access=NOWHERE)
    before = pinned.cpu_affinity()
    async with running(app, (160, 48)) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, PreviewDialog))
        await pilot.press("enter")
        await until(pilot, lambda: message(app).startswith("cannot measure: the test prompt failed"), 20.0)
        assert "Nothing was changed" in message(app)
        assert not app.changes.busy_text
    assert pinned.cpu_affinity() == before


async def test_a_number_without_a_finding_says_so() -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)), access=NOWHERE)
    async with running(app) as pilot:
        await until(pilot, lambda: "[1]" in row(app, 2))
        for key in "456789":
            app.say("")
            await pilot.press(key)
            await pilot.pause()
            assert message(app) == "no finding has this number"


async def test_undo_with_nothing_to_undo_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = make_app(StubSource(Machine().samples(0, 3)), access=NOWHERE)
    async with running(app) as pilot:
        await pilot.press("u")
        await until(pilot, lambda: message(app) == "nothing to undo")


async def test_a_prompt_without_a_server_says_so() -> None:
    app = make_app(StubSource(Machine(server=False).samples(0, 3)), access=NOWHERE)
    async with running(app) as pilot:
        await pilot.press("p", "p")
        await pilot.pause()
        assert message(app).startswith("No LLM server found on this host")
        assert not app.session.probing


async def test_p_again_cancels_a_prompt_and_so_does_esc() -> None:
    app = make_app(StubSource(Machine(url=NOWHERE.url).samples(0, 3)), access=Access("http://192.0.2.1:9"))
    async with running(app) as pilot:  # an address that is never answered: the prompt hangs until it is cancelled
        await pilot.press("p")
        for key in ("p", "escape"):
            await pilot.press("p")
            await pilot.pause()
            if not app.session.probing:
                pytest.skip("this host refuses to send to an unused address")
            await pilot.press(key)
            await pilot.pause()
            assert message(app).startswith("test prompt cancelled")
            await until(pilot, lambda: not app.session.probing)


async def test_several_servers_are_offered_and_the_chosen_one_is_taken() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.pause()
        shown = "\n".join(rows(app))
        for choice in CHOICES:
            assert f"{choice.url}  {choice.engine}  {choice.model}  pid {choice.pid}" in shown
        await pilot.press("down", "enter")
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen)
        assert source.stub_attachment.chosen == [CHOICES[1].url]
        assert " ▌ " in row(app, 2)


async def test_the_choice_can_wait_until_s_and_every_key_is_safe_there() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        for key in (*(key for key in KEYS if key != "enter"), "q"):
            await back_to_choice(pilot, app)
            await pilot.press(key)
            assert " ▌ " in lines(app, "verdict"), key
        await back_to_dashboard(pilot, app)
        source.stub.play(Machine(server=False).sample(10.0))
        await pilot.pause(0.1)
        assert isinstance(app.screen, DashboardScreen)  # asked once: it does not come back by itself
        assert row(app, 2).endswith("[s] choose ")
        assert source.stub_attachment.chosen == []


async def back_to_choice(pilot: Pilot[None], app: QtopApp) -> None:
    if not isinstance(app.screen, ChooseDialog):
        await back_to_dashboard(pilot, app)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))


async def test_the_choice_is_offered_again_when_there_are_others_and_goes_when_there_are_none() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = make_app(source)
    async with running(app) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        source.stub_attachment.offer((*CHOICES, Choice("http://127.0.0.1:9000", 13, "vllm", "three", "listens")))
        source.stub.play(Machine(server=False).sample(11.0))
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        source.stub_attachment.offer(())
        source.stub.play(Machine().sample(12.0))
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        await pilot.press("s")
        await pilot.pause()
        assert message(app) == "there is nothing to choose from"


async def test_a_choice_made_by_itself_is_not_asked_for_again() -> None:
    source = StubLive(Machine(server=False).samples(0, 3), CHOICES)
    app = make_app(source)
    async with running(app) as pilot:
        await until(pilot, lambda: isinstance(app.screen, ChooseDialog))
        await pilot.press("enter")
        source.stub.play(*Machine().samples(3, 6))
        await until(pilot, lambda: "tiny-model" in lines(app, "header"))
        assert isinstance(app.screen, DashboardScreen)
        assert isinstance(app.session.latest and app.session.latest.frame.server, ServerInfo)


async def test_the_palette_lists_and_runs_commands() -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)))
    async with running(app) as pilot:
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "Choose the server" in "\n".join(rows(app)))  # by name, as many as fit
        await pilot.press(*"stream")
        await until(pilot, lambda: "Choose the server" not in "\n".join(rows(app)))
        assert "Stream a test prompt" in "\n".join(rows(app))
        await pilot.press(*["backspace"] * 6, *"help")
        await until(pilot, lambda: "Stream a test prompt" not in "\n".join(rows(app)))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PageDialog))


async def test_what_breaks_while_a_snapshot_is_drawn_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source)
    with pytest.raises(ZeroDivisionError):
        async with running(app) as pilot:
            monkeypatch.setattr(app, "redraw", lambda: 1 / 0)
            source.play(Machine().sample(4.0))
            await pilot.pause(0.2)
    assert isinstance(app.broke, ZeroDivisionError)
    assert not app._exit_renderables
