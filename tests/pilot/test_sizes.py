"""The dashboard at every size, resized while it runs: the verdict stays, and no figure is cut."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import SIZES, at_end, lines, make_app, overflows, row, rows, running, until

from qtop.sample import Absent, Why
from qtop.source.replay import ReplaySource

FELL = Absent(Why.LOST, "fell off the bus; the kernel log (Xid) says why")
MACHINES = {
    "no-gpu": Machine(wait=0.8),
    "gpu": Machine(wait=0.8, gpus=1),
    "gpus": Machine(wait=0.8, gpus=8),
    "many-gpus": Machine(wait=0.8, gpus=16),
    "lost-gpu": Machine(wait=0.8, gpus=2, lost={"1": FELL}),
    "all-gpus-lost": Machine(wait=0.8, lost={str(index): FELL for index in range(8)}),
    "no-server": Machine(server=False),
    "long-name": Machine(wait=0.8, gpus=1, model="organisation/" + "very-long-model-name-" * 20),
    "odd-name": Machine(
        wait=0.8, gpus=1, model="模型/通义千问-最新版本-\u202eשלום\u200d👩\u200d💻\x1b[31m", engine="vllm"
    ),
    "odd-gpu": Machine(wait=0.8, gpus=1, gpu_name="显卡" * 40, competitors=("ストレス", "a\x1b]0;b", "👩\u200d🚀")),
}
CHANGES = (*SIZES, (80, 24), (200, 60), (60, 18), (104, 32), (103, 31), (120, 20), (81, 50), (120, 40))


@pytest.mark.parametrize("name", MACHINES)
async def test_resized_while_it_runs(name: str) -> None:
    machine = MACHINES[name]
    source = StubSource(machine.samples(0, 20))
    app = make_app(source)
    headline = " ▌ ENGINE WAITS FOR CPU 80 %" if machine.server else " ▌ No LLM server found"
    async with running(app, (80, 24)) as pilot:
        for step, (width, height) in enumerate(CHANGES):
            await pilot.resize_terminal(width, height)
            source.play(machine.sample(20.0 + step))
            await until(pilot, lambda size=(width, height): app.size == size and len(rows(app)) == size[1])  # type: ignore[misc]
            await pilot.pause(0.05)
            shown = rows(app)
            assert shown[1].startswith(headline), (width, height)
            assert all(cell_len(line) == width for line in shown), (width, height)
            assert overflows(app) == [], (width, height)
            assert re.search(r"q(uit)?|p test prompt", shown[-1]), (width, height)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", ["no-gpu", "gpu", "gpus", "lost-gpu"])
async def test_the_figures_that_matter_are_whole(name: str, size: tuple[int, int]) -> None:
    app = make_app(StubSource(MACHINES[name].samples(0, 20)))
    async with running(app, size) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        shown = "\n".join(rows(app))
        assert re.search(r"\bwait +80 %", shown)
        assert re.search(r"\boutput +40 tok/s", shown)
        assert re.search(r"\brunning 1 of 4 +waiting 0\b", shown)
        assert re.search(r"\bp95 0\.\d\d ms", shown)
        assert re.search(r"QT201 .* 80 %  \[1\] fix", shown)
        if name == "no-gpu":
            assert "GPU  no NVIDIA driver on this host" in shown
        else:
            assert re.search(r"\bbusy +31 %", shown)
            assert re.search(r"60\.0/80\.0 GiB", shown)
        if name == "lost-gpu":
            assert "GPU 1   fell off the bus" in shown
        if name == "gpus":
            assert "GPU 1    32 %  61.0/80.0 GiB" in shown
            assert "GPU 7    38 %" in shown or "4 more  35 % to 38 % busy" in shown


@pytest.mark.parametrize("size", [(40, 12), (20, 5), (10, 3), (1, 1)], ids=str)
async def test_a_tiny_terminal_breaks_nothing(size: tuple[int, int]) -> None:
    machine = MACHINES["gpus"]
    source = StubSource(machine.samples(0, 20))
    app = make_app(source)
    async with running(app, (80, 24)) as pilot:
        await pilot.resize_terminal(*size)
        source.play(machine.sample(21.0))
        for key in ("question_mark", "escape", "f", "escape", "ctrl+p", "escape", "space", "left", "space"):
            await pilot.press(key)
        await pilot.resize_terminal(80, 24)
        source.play(machine.sample(22.0))
        await until(pilot, lambda: row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 80 %"))
        await pilot.pause(0.05)
        assert overflows(app) == []


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_recording_of_an_h100_fits_every_size(recording: MakeRecording, size: tuple[int, int]) -> None:
    source = ReplaySource(recording("pinned1_hogs"), speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 82 %")
        assert overflows(app) == []
        assert re.search(r"engine +run +18 % +wait +82 %", lines(app, "sched"))
        assert re.search(r"69\.4/79\.6 GiB", lines(app, "gpu"))
        await pilot.press("space", "left", "left")
        await pilot.pause(0.05)
        assert "PAUSED" in row(app, 1)
        assert overflows(app) == []
