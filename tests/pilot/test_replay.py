"""Going through a recording: the timeline, jumps by key and by mouse; markers put while recording."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from tests.fakes.recorded import eventful, record
from tests.fakes.sse_server import SseServer
from tests.fakes.stub_source import BEGIN, Machine, StubSource
from tests.pilot.helpers import make_app, overflows, row, rows, running, tap, until
from tests.pilot.test_keys import message
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input

from qtop.collect.http import Access
from qtop.record.reader import Recording
from qtop.sample import Event
from qtop.source.replay import ReplaySource
from qtop.timeline.kinds import Kind, points_of
from qtop.ui.app import QtopApp
from qtop.ui.panels.timeline import MARGIN, place, time_at
from qtop.ui.plots import BY_ID
from qtop.ui.screens.dashboard import PanelChart
from qtop.ui.screens.line_dialog import LineDialog

TWO = ((80, 24), (120, 40))
SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve minutes with findings, and then a hole and some more; a change, a test prompt and two markers."""
    events = [
        Event(BEGIN + 120, "marker", {"note": "before lunch"}),
        Event(BEGIN + 130, "applied", {"knob": "cpu-affinity", "told": "0-3"}),
        Event(BEGIN + 140, "change", {"knob": "cpu-affinity", "kept": False, "told": "no effect"}),
        Event(BEGIN + 170, "probe", {"started": BEGIN + 150}),
        Event(BEGIN + 500, "marker", {"note": ""}),
    ]
    path = tmp_path_factory.mktemp("replay") / "incident.qtop"
    return record(path, [*eventful(), *events, *Machine().samples(900, 960)])


async def opened(pilot: Pilot[None], app: QtopApp) -> None:
    """The recording stands still, and all of it has been looked through."""
    await until(pilot, lambda: app.playback.shown is not None)
    await tap(pilot, "space")
    await until(pilot, lambda: app.timeline is not None and app.timeline.done)
    app.redraw()
    await pilot.pause()


def shown_at(app: QtopApp) -> float:
    """Seconds into the recording of what the screen shows."""
    assert app.playback.shown is not None
    return app.playback.shown.frame.t - BEGIN


async def arrived(pilot: Pilot[None], app: QtopApp, seconds: float) -> None:
    await until(pilot, lambda: shown_at(app) == seconds)
    app.redraw()
    await pilot.pause()


@pytest.mark.parametrize("size", TWO, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_the_timeline_shows_what_happened_when(incident: Path, size: tuple[int, int]) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app, size) as pilot:
        await opened(pilot, app)
        cells = size[0] - 2 * MARGIN
        strip = row(app, size[1] - 1).ljust(size[0])[MARGIN:]
        assert app.timeline is not None

        def at(second: float) -> str:
            return strip[place(app.timeline, BEGIN + second, cells)]  # type: ignore[arg-type]

        assert strip[0] == "┃"
        assert at(120) == "◆" == at(500)
        assert {at(150), at(170)} == {"p"}
        assert at(140) == "▼"
        assert at(60) in "▅█"  # the engine waits for a CPU
        assert at(620) in "▅█"
        assert at(200) in "─▂"
        assert at(820) == " "  # nobody looked
        assert at(940) in "─▂"
        assert "·" not in strip
        for screen in "gtvPFTGo":
            await tap(pilot, screen)
            await until(pilot, lambda: row(app, size[1] - 1)[MARGIN:].rstrip()[1:] == strip.rstrip()[1:])
            assert overflows(app) == [], screen


async def test_n_goes_through_the_findings_and_back(incident: Path) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app) as pilot:
        await opened(pilot, app)
        assert app.timeline is not None
        times = sorted({turn.t - BEGIN for turn in app.timeline.turns})
        assert len(times) >= 6
        for t in times:
            await tap(pilot, "n")
            await arrived(pilot, app, t)
            assert re.search(r"QT\d+ .* (begins|ends)", message(app))
        assert "PAUSED now" in row(app, 1)
        await tap(pilot, "n")
        assert message(app) == "no finding begins or ends after this moment"
        for t in times[-2::-1]:
            await tap(pilot, "N")
            await arrived(pilot, app, t)
        await tap(pilot, "N")
        assert message(app) == "no finding begins or ends before this moment"
        begins = min(turn.t for turn in app.timeline.turns if turn.rule == "QT201") - BEGIN
        app.go_to(BEGIN + begins)
        await arrived(pilot, app, begins)
        assert "ENGINE WAITS FOR CPU" in row(app, 2)
        await tap(pilot, "left")
        await arrived(pilot, app, begins - 1)
        assert "ENGINE WAITS FOR CPU" not in row(app, 2)


async def test_m_goes_to_markers(incident: Path) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, "m")
        await arrived(pilot, app, 120.0)
        assert message(app).endswith("(02:00): marker, before lunch")
        await tap(pilot, "m")
        await arrived(pilot, app, 500.0)
        assert message(app).endswith("(08:20): marker")
        await tap(pilot, "m")
        assert message(app) == "no marker after this moment"
        await tap(pilot, "M")
        await arrived(pilot, app, 120.0)
        await tap(pilot, "M")
        assert message(app) == "no marker before this moment"


async def test_markers_between_two_samples_and_keys_faster_than_the_screen(tmp_path: Path) -> None:
    marks = [Event(BEGIN + t, "marker", {"note": f"at {t}"}) for t in (10.9, 11.2, 11.7, 20.5)]
    source = ReplaySource(record(tmp_path / "marks.qtop", [*Machine().samples(0, 30), *marks]))
    app = make_app(source)
    async with running(app) as pilot:
        await opened(pilot, app)
        for t, lands in ((10.9, 10.0), (11.2, 11.0), (11.7, 11.0), (20.5, 20.0)):
            await tap(pilot, "m")
            assert message(app).endswith(f"marker, at {t}")
            await arrived(pilot, app, lands)
        for t in (11.7, 11.2, 10.9):
            await tap(pilot, "M")
            assert message(app).endswith(f"marker, at {t}")
        await arrived(pilot, app, 10.0)
        await tap(pilot, "right", "M")  # from the sample at 11 back
        await until(pilot, lambda: message(app).endswith("marker, at 10.9"))
        for key in "mmm":
            app.post_message(Key(key, key))
        await arrived(pilot, app, 20.0)
        assert message(app).endswith("marker, at 20.5")


@pytest.mark.parametrize("size", TWO, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_time_is_typed(incident: Path, size: tuple[int, int]) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app, size) as pilot:
        await opened(pilot, app)

        async def typed(text: str) -> None:
            await tap(pilot, "slash")
            await until(pilot, lambda: isinstance(app.screen, LineDialog))
            app.screen.query_one(Input).value = text
            await tap(pilot, "enter")

        await typed("05:00")
        await arrived(pilot, app, 300.0)
        await typed("+90s")
        await arrived(pilot, app, 390.0)
        await typed("soon")
        assert isinstance(app.screen, LineDialog)
        assert any("soon is no time: " in line for line in rows(app))
        await tap(pilot, "escape")
        assert not isinstance(app.screen, LineDialog)
        await typed("2h")
        assert any("2h is not in it: from " in line for line in rows(app))
        app.screen.query_one(Input).value = "0"
        await tap(pilot, "enter")
        await arrived(pilot, app, 0.0)


async def test_charts_and_steps_back_fill_after_a_jump(incident: Path) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app) as pilot:
        await opened(pilot, app)
        app.go_to(BEGIN + 700)
        await arrived(pilot, app, 700.0)
        await until(pilot, lambda: app.session.kept == 701)
        await until(pilot, lambda: app._dashboard._history is app.session.history)
        known = [
            one for one in app.session.history.series(BY_ID["wait"].pick, BEGIN + 700, 300.0) if one[1] is not None
        ]
        assert len(known) > 290
        assert len(app._dashboard.query_one("#sched-chart", PanelChart)._sums) == len(known)
        for _ in range(3):
            await tap(pilot, "home")
        await arrived(pilot, app, 670.0)


async def test_a_click_on_the_timeline_goes_there(incident: Path) -> None:
    app = make_app(ReplaySource(incident))
    async with running(app, (80, 24)) as pilot:
        await opened(pilot, app)
        assert app.timeline is not None
        for column in (40, 0, 79):
            want = int(time_at(app.timeline, column, 80) - BEGIN)
            await pilot.click(offset=(column, 22))
            await arrived(pilot, app, float(want))
            assert row(app, 23).ljust(80)[max(1, min(78, column))] == "┃"


async def test_a_replay_is_made_faster_and_slower(incident: Path) -> None:
    source = ReplaySource(incident)
    app = make_app(source)
    async with running(app) as pilot:
        await opened(pilot, app)
        await tap(pilot, "greater_than_sign", "greater_than_sign")
        assert source.speed == 5.0
        assert "×5" in row(app, 1)
        await tap(pilot, *["less_than_sign"] * 9)
        assert source.speed == 0.25
        await tap(pilot, *["greater_than_sign"] * 20, "space")
        assert source.speed == 200.0
        await until(pilot, lambda: source.ended)


async def test_live_there_is_nowhere_else_to_go() -> None:
    app = make_app(StubSource(Machine().samples(0, 10)))
    async with running(app) as pilot:
        await until(pilot, lambda: app.playback.shown is not None)
        for key in ("n", "N", "slash", "M"):
            await tap(pilot, key)
            assert message(app) == "only a replay can go to another time; ← → step through the last minutes"
        await tap(pilot, "greater_than_sign")
        assert message(app) == "time goes by itself here: only a replay can be faster or slower"
        assert "┃" not in "".join(rows(app))


async def test_m_marks_a_recording(tmp_path: Path) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app) as pilot:
        await tap(pilot, "m")
        assert message(app) == "no recording is being made: r begins one, then m marks a moment of it"
        await tap(pilot, "r")
        source.play(*Machine().samples(3, 10))
        for note, last in (("slow since the deploy", "enter"), ("", "enter"), ("thrown away", "escape")):
            await tap(pilot, "m")
            await until(pilot, lambda: isinstance(app.screen, LineDialog))
            app.screen.query_one(Input).value = note
            await tap(pilot, last)
            assert not isinstance(app.screen, LineDialog)
        note = f"key {SECRET} on {socket.gethostname()} of /home/alice/run.sh"
        await tap(pilot, "space", "left", "left", "m")  # what a held screen shows is marked
        await until(pilot, lambda: isinstance(app.screen, LineDialog))
        app.screen.query_one(Input).value = note
        await tap(pilot, "enter")
        assert message(app).startswith("marked: key ")
        await tap(pilot, "space", "r")
        assert message(app).startswith("recorded ")
    (made,) = tmp_path.iterdir()
    marks = [event for event in Recording(made).events() if event.kind == "marker"]
    assert [str(mark.data["note"]) for mark in marks[:2]] == ["slow since the deploy", ""]
    assert len(marks) == 3
    assert marks[2].t == BEGIN + 7
    told = str(marks[2].data["note"])
    assert SECRET not in told
    assert "alice" not in told
    assert socket.gethostname() not in told
    assert told.startswith("key ")


async def test_a_test_prompt_that_is_cut_short_is_marked(tmp_path: Path) -> None:
    with SseServer() as server:
        url = server.url("forever")
        source = StubSource(Machine(url=url).samples(0, 5))
        app = make_app(source, access=Access(url), record_dir=tmp_path)
        async with running(app) as pilot:
            await tap(pilot, "r", "p", "enter")
            await until(pilot, lambda: app.probing.state.tokens > 3, 20.0)
            await tap(pilot, "escape")
            await until(pilot, lambda: not app.session.probing)
            source.play(*Machine(url=url).samples(5, 7))
            await tap(pilot, "r")
    (made,) = tmp_path.iterdir()
    (cut,) = [event for event in Recording(made).events() if event.kind == "probe-cut"]
    assert cut.data["told"] == "1 of the test prompts cut short"
    assert [point.kind for point in points_of(cut)] == [Kind.PROBE, Kind.PROBE]


async def test_a_recording_that_ended_under_the_dialog_is_told(tmp_path: Path) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app) as pilot:
        await tap(pilot, "r", "m")
        await until(pilot, lambda: isinstance(app.screen, LineDialog))
        app.session.stop_recording()
        await tap(pilot, "enter")
        assert message(app) == "the recording has ended meanwhile: no marker was put"
