"""Pausing and stepping, live and in a replay; recording from the dashboard."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import at_end, lines, make_app, row, running, until
from tests.pilot.test_keys import message

from qtop.record.blockfile import BlockFile
from qtop.record.reader import Recording
from qtop.sample import WakeupSample
from qtop.source.replay import ReplaySource


async def test_a_paused_screen_stays_and_steps_through_what_came_before() -> None:
    machine = Machine(tokens_s=50.0)
    source = StubSource(machine.samples(0, 30))
    app = make_app(source)
    async with running(app) as pilot:
        t = [snapshot.frame.t for snapshot in app.session._snapshots]
        await pilot.press("space")
        await pilot.pause()
        assert "PAUSED now" in row(app, 1)
        assert message(app).startswith("paused")
        source.play(*machine.samples(30, 40))
        await until(pilot, lambda: "PAUSED 10 s back" in row(app, 1))
        await pilot.press("left", "left", "comma")
        await until(pilot, lambda: "PAUSED 13 s back" in row(app, 1))
        await pilot.press("right", "full_stop")
        await until(pilot, lambda: "PAUSED 11 s back" in row(app, 1))
        await pilot.press("home")
        await until(pilot, lambda: "PAUSED 21 s back" in row(app, 1))
        for _ in range(5):
            await pilot.press("home")
        await until(pilot, lambda: "PAUSED 39 s back" in row(app, 1))
        assert app.playback.shown is not None
        assert app.playback.shown.frame.t == t[0]
        await pilot.press("left")
        await pilot.pause()
        assert app.playback.shown.frame.t == t[0]
        for _ in range(45):
            await pilot.press("right")
        await until(pilot, lambda: "PAUSED now" in row(app, 1))
        await pilot.press("home", "end")
        await until(pilot, lambda: "PAUSED" not in row(app, 1))
        assert message(app) == "live"
        assert app.playback.shown is app.session.latest


async def test_a_live_screen_shows_noisy_figures_in_steps_and_a_paused_one_exactly() -> None:
    samples = [
        replace(sample, wakeup=WakeupSample(float(second), 25.0, (330,) * 50))
        for second, sample in enumerate(Machine().samples(0, 12))
    ]
    source = StubSource(samples[:2])
    app = make_app(source)
    async with running(app) as pilot:
        p95 = re.compile(r"p95 (\S+) ms")

        def shown() -> str:
            found = p95.search(lines(app, "sched"))
            return found[1] if found else ""

        await until(pilot, shown)
        live = set()
        for sample in samples[2:]:
            source.play(sample)
            await until(pilot, lambda: app.playback.shown is app.session.latest)
            await pilot.pause()
            live.add(shown())
        await pilot.press("space")
        exact = set()
        for _ in range(4):
            await pilot.press("left")
            await pilot.pause()
            exact.add(shown())
        assert live == {"0.35"}
        assert exact == {"0.33"}


async def test_an_arrow_pauses_a_live_screen() -> None:
    app = make_app(StubSource(Machine().samples(0, 30)))
    async with running(app) as pilot:
        await pilot.press("left")
        await until(pilot, lambda: "PAUSED 1 s back" in row(app, 1))


async def test_the_verdict_steps_with_the_screen() -> None:
    app = make_app(StubSource([*Machine().samples(0, 20), *Machine(wait=0.9).samples(20, 40)]))
    async with running(app) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        await pilot.press("home", "home", "home")
        await until(pilot, lambda: "Nothing that qtop checks" in row(app, 2))
        await pilot.press("end")
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))


async def test_stepping_before_the_first_sample_breaks_nothing() -> None:
    source = StubSource()
    app = make_app(source)
    async with running(app) as pilot:
        for key in ("left", "right", "home", "end", "space", "f", "1", "r", "r"):
            await pilot.press(key)
        source.play(*Machine().samples(0, 3))
        await until(pilot, lambda: " ▌ " in row(app, 2))


async def test_a_replay_is_held_and_stepped_on_and_back(recording: MakeRecording) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=1.0)
    app = make_app(source)

    def at() -> int:
        return source.position

    def shown_at() -> float:
        assert app.playback.shown is not None
        return app.playback.shown.frame.t

    async with running(app) as pilot:
        await until(pilot, lambda: at() >= 1 and app.playback.shown is not None)
        await pilot.press("space")
        await pilot.pause(0.05)
        held = at()
        times = [shown_at()]
        assert "PAUSED" in row(app, 1)
        for step in range(1, 6):  # each goes one sample on into the recording
            await pilot.press("right")
            await until(pilot, lambda want=held + step: at() == want and shown_at() > times[-1])  # type: ignore[misc]
            times.append(shown_at())
        await asyncio.sleep(0.3)
        assert at() == held + 5
        await pilot.press("left", "left")
        await until(pilot, lambda: shown_at() == times[-3])
        await pilot.press("right")
        await until(pilot, lambda: shown_at() == times[-2])
        assert at() == held + 5
        source.speed = 500.0
        await pilot.press("space")
        await at_end(pilot, source)
        assert re.search(r"▶ 00:17 / 00:17 ×500 end", row(app, 1))
        assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 82 %")
        await pilot.press("right", "right")
        await pilot.pause(0.3)
        assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 82 %")


async def test_r_records_and_r_ends_it(tmp_path: Path) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app) as pilot:
        await pilot.press("r")
        await until(pilot, lambda: "● REC 00:0" in row(app, 1))
        assert re.search(r"recording to .*\.qtop; r stops it", message(app))
        source.play(*Machine().samples(3, 10))
        await pilot.press("r")
        await until(pilot, lambda: message(app).startswith("recorded 7 samples in "))
        assert "REC" not in row(app, 1)
    (made,) = tmp_path.iterdir()
    assert len(list(Recording(made).samples())) == 7


async def test_a_second_recording_in_the_same_second_does_not_overwrite_the_first(tmp_path: Path) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app) as pilot:
        for number in range(3):
            await pilot.press("r")
            source.play(*Machine().samples(3 + 4 * number, 7 + 4 * number))
            await pilot.press("r")
            await until(pilot, lambda: message(app).startswith("recorded 4 samples in "))
    made = sorted(tmp_path.iterdir())
    assert [len(list(Recording(path).samples())) for path in made] == [4, 4, 4]


async def test_quitting_closes_the_recording(tmp_path: Path) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app) as pilot:
        await pilot.press("r")
        source.play(*Machine().samples(3, 10))
        await pilot.press("q")
    (made,) = tmp_path.iterdir()
    assert len(list(Recording(made).samples())) == 7


@pytest.mark.parametrize("where", ["missing", "file", "denied"])
async def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "folder"
    if where == "file":
        folder.write_text("")
    elif where == "denied":
        if os.geteuid() == 0:
            folder = Path("/proc")
        else:
            folder.mkdir(mode=0o500)
    app = make_app(StubSource(Machine().samples(0, 3)), record_dir=folder)
    async with running(app) as pilot:
        await pilot.press("r")
        await pilot.pause()
        assert message(app).startswith("cannot create "), message(app)
        reason = {"missing": "No such file or directory", "file": "Not a directory", "denied": ""}[where]
        assert message(app).endswith(reason), message(app)
        assert "REC" not in row(app, 1)
        assert " ▌ " in row(app, 2)
        assert app.session.recording is None
        assert "tiny-model" in lines(app, "header")


async def test_a_disk_that_fills_up_under_a_recording_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = StubSource(Machine().samples(0, 3))
    app = make_app(source, record_dir=tmp_path)
    async with running(app, (160, 48)) as pilot:
        await pilot.press("r")
        source.play(*Machine().samples(3, 6))
        writer = app.session.recording
        assert writer is not None
        await until(pilot, lambda: writer.stats.samples == 3)

        def full(self: BlockFile, line: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(BlockFile, "append", full)
        source.play(*Machine().samples(6, 8))
        await until(pilot, lambda: writer.error is not None)
        source.play(Machine().sample(8.0))
        await until(pilot, lambda: message(app).startswith("disk full: recording stopped at "))
        assert "3 samples kept in" in message(app)
        assert "REC" not in row(app, 1)
        assert "tiny-model" in row(app, 1)


async def test_nothing_is_drawn_once_the_screen_is_being_taken_down() -> None:
    source = StubSource(Machine(tokens_s=50.0).samples(0, 10))
    app = make_app(source)
    async with running(app) as pilot:
        await until(pilot, lambda: app.playback.shown is not None)
        app.exit()
        await app._dashboard.query("*").remove()  # a screen loses these before it is told that it goes
        latest = app.session.latest
        assert latest is not None
        app._take(latest)
        app.say("late")
        app.draw_probe()
        app.redraw()
    assert app.broke is None
    assert app._exception is None
