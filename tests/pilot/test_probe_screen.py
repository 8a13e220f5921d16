"""The probe screen with keys and mouse: choosing, sending to a fake server, cancelling, comparing, every size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from tests.fakes.sse_server import SseServer
from tests.fakes.stub_source import Machine, StubSource
from tests.fakes.trials import trial, window
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import SIZES, at_end, compare, lines, make_app, overflows, row, rows, running, tap, until
from tests.pilot.test_keys import NOWHERE, message
from tests.pilot.test_mouse import click_on
from tests.pilot.test_texts import TEXTS
from textual.events import Paste
from textual.pilot import Pilot
from textual.widgets import Input

from qtop.collect.http import Access
from qtop.probe.messages import ProbeEvent
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.screens.dialogs import PageDialog
from qtop.ui.screens.probe import ProbeScreen
from qtop.ui.screens.prompt_dialog import PromptDialog
from qtop.ui.trials import Asked, ProbeState


@pytest.fixture(scope="module")
def server() -> Iterator[SseServer]:
    with SseServer() as one:
        yield one


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the machine's."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def app_at(url: str) -> QtopApp:
    return make_app(StubSource(Machine(url=url).samples(0, 5)), access=Access(url))


def page(app: QtopApp) -> str:
    return "\n".join(rows(app))


async def opened(pilot: Pilot[None], app: QtopApp) -> None:
    await tap(pilot, "p")
    await until(pilot, lambda: isinstance(app.screen, ProbeScreen) and "Test " in page(app))


async def test_p_and_enter_is_the_quick_test_and_its_figures_stay(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app) as pilot:
        await opened(pilot, app)
        assert "Enter sends 1 request, up to 64 tokens" in page(app)
        for number, key in ((1, "enter"), (2, "p")):
            await tap(pilot, key)
            await until(pilot, lambda number=number: f"Test {number}   en" in page(app), 20.0)  # type: ignore[misc]
            await until(pilot, lambda: "1 ok, 0 failed" in page(app))
        assert "The sky is red at dusk" in page(app)
        assert len(app.probing.trials) == 2
        assert server.seen[-1].body["max_tokens"] == 64
        await tap(pilot, "o")
        await until(pilot, lambda: "The sky is red at dusk" in lines(app, "probe"))
        await opened(pilot, app)
        assert "Test 2   en" in page(app), "they stay"


async def test_what_is_chosen_is_what_is_sent(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app, (80, 24)) as pilot:
        await opened(pilot, app)
        await tap(pilot, "right", "down", "1", "0", "down", "down", "right", "plus", "down", "9", "down", "right")
        assert "Enter sends 9 requests, up to 90 tokens" in page(app)
        before = len(server.seen)
        await tap(pilot, "enter")
        await until(pilot, lambda: "9 ok, 0 failed" in page(app), 30.0)
        sent = server.seen[before:]
        assert len(sent) == 9
        assert all(one.body["max_tokens"] == 10 and one.body["ignore_eos"] for one in sent)
        assert "量子" in str(sent[0].body["messages"])
        assert app.probing.trials[-1].asked == Asked("zh", 10, 9, 4, 0.0, True)
        assert overflows(app) == []


async def test_a_rate_is_typed_with_its_point(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, "down", "down", "right", "down", "4", "0", "full_stop", "5", "down", "3")
        assert "40.5" in page(app)
        await tap(pilot, "enter")
        await until(pilot, lambda: "3 ok, 0 failed" in page(app), 30.0)
        assert app.probing.trials[-1].asked == Asked("en", 64, 3, 0, 40.5, False)
        assert "40.5/s" in page(app)


@pytest.mark.parametrize("key", ["escape", "p"])
async def test_cancelling_leaves_no_request_on_the_server(key: str) -> None:
    with SseServer() as server:
        app = app_at(server.url("forever"))
        async with running(app) as pilot:
            await opened(pilot, app)
            await tap(pilot, "enter")
            await until(pilot, lambda: "▲ p50" in page(app), 20.0)
            assert "on on on" in page(app)
            await tap(pilot, key)
            assert message(app).startswith("test prompt cancelled: nothing of it goes on in the server")
            await until(pilot, lambda: not app.session.probing)
            assert server.dropped.wait(10.0)
            await until(pilot, lambda: "Enter sends" in page(app))
            await tap(pilot, "escape")
            assert app._main.NAME == "overview"


async def test_leaving_the_screen_does_not_stop_the_test() -> None:
    with SseServer() as server:
        app = app_at(server.url("forever"))
        async with running(app) as pilot:
            await opened(pilot, app)
            await tap(pilot, "enter")
            await until(pilot, lambda: "on on on" in page(app), 20.0)
            await tap(pilot, "o")
            await until(pilot, lambda: "tokens so far" in lines(app, "probe"))
            assert app.session.probing
            await opened(pilot, app)
            await until(pilot, lambda: "Esc cancels" in page(app))
            await tap(pilot, "escape")
            assert server.dropped.wait(10.0)


async def test_some_of_a_cancelled_test_is_kept(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, *["down"] * 4, *"9999")
        await tap(pilot, "enter")
        await until(pilot, lambda: app.probing.state.done >= 2, 20.0)
        await tap(pilot, "escape")
        await until(pilot, lambda: "ended early: cancelled" in page(app), 20.0)


async def test_the_overview_streams_one_without_opening_the_screen(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app) as pilot:
        app.action_probe()
        await until(pilot, lambda: "The sky is red at dusk" in lines(app, "probe"), 20.0)
        assert app._main.NAME == "overview"


async def test_a_text_of_ones_own_is_typed_without_the_global_keys(server: SseServer) -> None:
    app = app_at(server.url("ok"))
    async with running(app, (80, 24)) as pilot:
        await opened(pilot, app)
        await tap(pilot, "left")
        assert "own" in page(app) and "there is no text yet" in page(app)
        await tap(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, PromptDialog))
        await tap(pilot, "enter")
        assert "there is no text yet" in page(app)
        await tap(pilot, *"qgtvmp?1", "enter")
        await until(pilot, lambda: isinstance(app.screen, ProbeScreen))
        assert "8 characters: qgtvmp?1" in page(app)
        await tap(pilot, "p")
        await until(pilot, lambda: "1 ok, 0 failed" in page(app), 20.0)
        assert server.seen[-1].body["messages"][0]["content"].endswith("qgtvmp?1")
        assert "Test 1   “qgtvmp?1” · up to 64 tokens" in page(app)


async def test_what_is_pasted_keeps_all_its_lines() -> None:
    app = app_at("http://127.0.0.1:9")
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, "e")
        await until(pilot, lambda: isinstance(app.screen, PromptDialog))
        app.post_message(Paste("one\r\ntwo\nthree"))
        await until(pilot, lambda: app.screen.query_one(Input).value == "one two three")


async def test_a_file_is_read_and_one_that_cannot_be_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("many words\n" * 20, encoding="utf-8")
    app = app_at("http://127.0.0.1:9")
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, "e")
        await until(pilot, lambda: isinstance(app.screen, PromptDialog))
        app.screen.query_one(Input).value = f"@{tmp_path}/nosuch"
        await tap(pilot, "enter")
        await until(pilot, lambda: "No such file or directory" in page(app))
        app.screen.query_one(Input).value = f"@{path}"
        await tap(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, ProbeScreen))
        await until(pilot, lambda: "220 characters: many words" in page(app))
        assert app.probing.form.asks()["prompt_name"] == f"@{path}"
        assert overflows(app) == []


async def test_global_keys_are_not_swallowed() -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)), access=NOWHERE)
    async with running(app, (80, 24)) as pilot:
        for key, where in (("g", "gpus"), ("t", "threads"), ("v", "server"), ("P", "plots"), ("o", "overview")):
            await opened(pilot, app)
            await tap(pilot, key)
            await until(pilot, lambda where=where: where == app._main.NAME)  # type: ignore[misc]
            await tap(pilot, "o")
        await opened(pilot, app)
        await tap(pilot, "question_mark")
        assert isinstance(app.screen, PageDialog)
        await tap(pilot, "escape", "ctrl+p")
        await until(pilot, lambda: "Search for commands" in page(app))
        await tap(pilot, "escape")
        await until(pilot, lambda: isinstance(app.screen, ProbeScreen))
        await tap(pilot, "5")
        assert message(app) == "no finding has this number", "a digit is a remedy's where no number is chosen"
        await tap(pilot, "q")
        await pilot.pause()
        assert not app.is_running


async def test_a_recording_and_a_missing_server_are_one_line(recording: MakeRecording) -> None:
    source = ReplaySource(recording("idle"), speed=500.0)
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await at_end(pilot, source)
        await tap(pilot, "p")
        await until(pilot, lambda: "it has no server to ask" in row(app, 4))
        assert not "".join(rows(app)[4:-2]).strip()  # the last two are the timeline and the keys
        await tap(pilot, "enter")
        assert message(app).startswith("a recording has no server to ask")
    app = make_app(StubSource(Machine(server=False).samples(0, 3)), access=NOWHERE)
    async with running(app, (80, 24)) as pilot:
        await opened(pilot, app)
        assert sum("No LLM server found on this host" in line for line in rows(app)[2:]) == 1
        assert "Enter sends" not in page(app).split("own text")[0].split("\n", 4)[4]


def keep(app: QtopApp) -> None:
    """Tests that ended, made up."""
    app.probing.trials = [
        trial(1, n=1).seen(window(absent=True)),
        trial(2, n=20, failed=2, prompt="reasoning", ttft=150.0).seen(window(others=7.0, fired=True)),
        trial(3, n=120, rate=2.5, prompt="@notes.txt").seen(window()),
    ]
    app.probing.chosen = app.probing._count = 3


@pytest.mark.parametrize("size", SIZES[:3], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_side_by_side_as_text(size: tuple[int, int], utc: None) -> None:
    app = app_at("http://127.0.0.1:9")
    async with running(app, size) as pilot:
        await opened(pilot, app)
        keep(app)
        app.redraw()
        await tap(pilot)
        wrong = compare(f"probe-idle-{size[0]}x{size[1]}", rows(app)[2:-1])
        await tap(pilot, *["down"] * 6, "x", "down", "space")
        assert overflows(app) == []
        wrong += compare(f"probe-compared-{size[0]}x{size[1]}", rows(app)[2:-1])
        live(app)
        await tap(pilot)
        assert overflows(app) == []
        wrong += compare(
            f"probe-live-{size[0]}x{size[1]}", [line for line in rows(app)[2:-1] if "Test under" not in line]
        )
        assert not wrong, wrong


def live(app: QtopApp, text: str = "量子纠缠是指 two or more particles. ") -> None:
    """A test under way."""
    state = app.probing.state = ProbeState(asked=Asked("zh", 256, 20, 4, 0.0, False), running=True, plan="20 requests")
    for i in range(4):
        state.take(ProbeEvent(kind="started", i=i, t=1.0))
        state.take(ProbeEvent(kind="first", i=i, t=1.2 + i / 100, ms=200.0 + 10 * i))
    for number in range(60):
        state.take(ProbeEvent(kind="delta", t=1.2 + 0.025 * number, text=text))
    state.take(ProbeEvent(kind="gaps", t=3.0, gaps=(*(20.0 + n % 9 for n in range(200)), 88.0)))
    app.draw_probe()


@pytest.mark.parametrize("environ", [{"LANG": "C.UTF-8"}, {"LANG": "C", "NO_COLOR": "1"}], ids=["utf8", "ascii"])
async def test_every_size_and_state_fits(environ: dict[str, str]) -> None:
    url = "http://127.0.0.1:9"
    app = make_app(StubSource(Machine(url=url, wait=0.8).samples(0, 20)), environ, access=Access(url))
    async with running(app, (80, 24)) as pilot:
        await opened(pilot, app)
        keep(app)
        for state in ("idle", "table", "live"):
            await tap(pilot, *(["down"] * 7 if state == "table" else []))
            if state == "live":
                live(app, "".join(TEXTS[name] for name in ("chinese", "emoji", "controls", "hebrew")))
            for width, height in (*SIZES, (40, 12), (80, 24)):
                await pilot.resize_terminal(width, height)
                await until(pilot, lambda size=(width, height): app.size == size)  # type: ignore[misc]
                await tap(pilot)
                app.redraw()
                await tap(pilot, "pagedown")
                shown = rows(app)
                assert all(cell_len(line) == width for line in shown), (state, width, height)
                if width >= 60:
                    assert overflows(app) == [], (state, width, height)
                    assert "ENGINE WAITS" in shown[1]
                if "NO_COLOR" in environ:
                    assert "\n".join(shown).isascii()


async def test_the_mouse_chooses_fields_and_tests() -> None:
    app = app_at("http://127.0.0.1:9")
    async with running(app) as pilot:
        await opened(pilot, app)
        keep(app)
        app.redraw()
        await tap(pilot)
        await click_on(pilot, app, "output")
        assert app.probing.form.name == "output"
        await pilot.click(offset=(row(app, 6).rindex("▸"), 5))
        await pilot.pause()
        assert app.probing.form.output == 128
        await click_on(pilot, app, "reason")
        assert app.probing.chosen == 2
        assert "Test 2   reasoning" in page(app)
        assert "QT201 fired in 82 %" in page(app)


async def test_three_marks_leave_the_last_two() -> None:
    app = app_at("http://127.0.0.1:9")
    async with running(app) as pilot:
        await opened(pilot, app)
        keep(app)
        await tap(pilot, *["down"] * 6, "x", "down", "x", "down", "x")
        assert app.probing.marked == [2, 1]
        assert "Test 2 against test 1" in page(app)
        await tap(pilot, "x")
        assert app.probing.marked == [2]
        await tap(pilot, "up", "up", "up")
        assert not app.screen._in_table  # type: ignore[attr-defined]
        await tap(pilot, "enter")
        await until(pilot, lambda: not app.session.probing, 20.0)
