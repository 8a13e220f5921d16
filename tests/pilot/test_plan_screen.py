"""The plan's screen: filled in from what runs, each key and the mouse, files, what is started, sizes, ASCII."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.helpers import at_end, compare, make_app, overflows, row, rows, running, tap, until
from tests.pilot.test_keys import NOWHERE, message
from tests.pilot.test_mouse import click_on
from tests.pilot.test_screens import name, open_screen
from textual.pilot import Pilot

from qtop.act.plan_here import Asked
from qtop.plan.making import Plan
from qtop.source.replay import ReplaySource
from qtop.ui.app import QtopApp
from qtop.ui.screens.dialogs import ConfirmDialog
from qtop.ui.screens.plan_dialogs import FileDialog, ListDialog

H100 = Path(__file__).parent.parent / "data/recordings/h100-steady16.qtop"
QWEN, CARD = "Qwen/Qwen3-4B-Instruct-2507", "RTX 4090 D"
UTF8 = {"LANG": "C.UTF-8"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No vLLM, no cache of models, files of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    yield


def made(app: QtopApp) -> Plan:
    found = app.planning.made
    assert found is not None, app.planning.failed
    return found


def value(app: QtopApp, field: str) -> str:
    """What stands beside a field's name."""
    (line,) = [line for line in rows(app) if re.match(rf"[ ▸]+{field} ", line) and "●" in line]
    return line[14:44].replace("▸", "").replace("◂", "").strip()


def planned(environ: dict[str, str] = UTF8, *, live: bool = True, asked: Asked | None = None) -> QtopApp:
    """An app without a server, on a card of the table."""
    app = make_app(StubSource(Machine(server=False).samples(0, 5)), environ, NOWHERE if live else None)
    app.planning.ask(asked or Asked(model=QWEN, gpu=CARD, given={"context": 32_768, "seqs": 8}), None)
    return app


async def to(pilot: Pilot[None], app: QtopApp, field: str) -> None:
    """The cursor to a field, by the keys."""
    for _ in range(12):
        form = app.planning.form
        assert form is not None
        if form.name == field:
            return
        await tap(pilot, "down")
    raise AssertionError(field)


async def test_filled_in_from_the_server_and_beside_it() -> None:
    source = ReplaySource(H100, speed=500.0)
    app = make_app(source)
    async with running(app, (160, 48)) as pilot:
        await at_end(pilot, source)
        await open_screen(pilot, app, "L")
        text = "\n".join(rows(app))
        assert "FITS: Qwen/Qwen3-4B-Instruct-2507" in text and "NVIDIA H100 80GB HBM3 — 427 056 tokens" in text
        assert value(app, "context").startswith("32K") and value(app, "memory").startswith("0.85")
        assert re.search(r"tokens of cache +427 056 +426 960 +0.0 %", text)
        assert "of the bound" in text
        await tap(pilot, "S")
        assert message(app) == "this is a recording: nothing can be changed here"
        assert "S start it" not in text


async def test_arrows_step_and_shift_steps_finely() -> None:
    app = planned()
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        assert made(app).serving.context == 32_768
        await tap(pilot, "left")
        assert made(app).serving.context == 16_384 and value(app, "context").startswith("16K")
        await tap(pilot, "shift+right")
        assert made(app).serving.context == 17_408
        await tap(pilot, "right", "right", "right", "right", "right", "right")
        assert made(app).serving.context == 262_144, "not beyond what the model was made for"
        assert "DOES NOT FIT" in row(app, 4)
        await to(pilot, app, "seqs")
        await tap(pilot, "right")
        assert made(app).serving.seqs == 16
        await to(pilot, app, "weights")
        await tap(pilot, "right", "right")
        assert made(app).serving.weights == "fp8"
        await to(pilot, app, "kv")
        await tap(pilot, "left")
        assert made(app).serving.kv == "fp8"
        await to(pilot, app, "utilization")
        await tap(pilot, "shift+left")
        assert made(app).serving.utilization == pytest.approx(0.91)
        await to(pilot, app, "goal")
        await tap(pilot, "right")
        assert made(app).wish.goal == "latency"
        await to(pilot, app, "eager")
        await tap(pilot, "right")
        assert made(app).serving.eager and made(app).memory.reserve.graphs == 0
        await to(pilot, app, "gpus")
        await tap(pilot, "right")
        assert made(app).serving.spread == 2 and "--tensor-parallel-size 2" in "\n".join(rows(app))


async def test_typing_an_exact_value_and_leaving_it() -> None:
    app = planned()
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await tap(pilot, "1", "2", "k")
        assert made(app).serving.context == 12 * 1024, "the picture answers while it is typed"
        await tap(pilot, "enter")
        assert name(app) == "plan" and value(app, "context").startswith("12K")
        await tap(pilot, "enter", "7", "7")
        assert "77▌" in value(app, "context")
        await tap(pilot, "escape")
        assert name(app) == "plan" and made(app).serving.context == 12 * 1024
        await to(pilot, app, "utilization")
        await tap(pilot, "0", "full_stop", "8", "7", "enter")
        assert made(app).serving.utilization == pytest.approx(0.87)
        await tap(pilot, "backspace")
        assert made(app).wish.utilization is None and "default" in value(app, "memory")
        await to(pilot, app, "gpus")
        await tap(pilot, "3", "enter")
        assert app.planning.made is None and "32 heads cannot be spread over 3 GPUs" in row(app, 4)
        await tap(pilot, "backspace")
        assert made(app).serving.spread == 1
        await tap(pilot, "escape")
        await until(pilot, lambda: name(app) == "overview")
        await open_screen(pilot, app, "L")
        assert made(app).serving.context == 12 * 1024, "it stays as it was left"


async def test_a_model_and_a_card_from_the_list() -> None:
    app = planned()
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await to(pilot, app, "gpu")
        await tap(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, ListDialog))
        await tap(pilot, "down", "enter")
        await until(pilot, lambda: name(app) == "plan")
        assert made(app).wish.gpu.name != CARD
        before = made(app).wish.gpu.name
        await tap(pilot, "right")
        assert made(app).wish.gpu.name not in (CARD, before)
        await to(pilot, app, "model")
        await tap(pilot, "right")
        assert made(app).wish.model.name != QWEN
        await tap(pilot, "left", "enter")
        await until(pilot, lambda: isinstance(app.screen, ListDialog))
        await tap(pilot, "escape")
        await until(pilot, lambda: name(app) == "plan")
        assert made(app).wish.model.name == QWEN


async def test_every_model_and_card_of_the_lists_can_be_chosen() -> None:
    app = planned()
    async with running(app, (80, 24)) as pilot:
        await open_screen(pilot, app, "L")
        form = app.planning.form
        assert form is not None
        for field, names in (("model", form.models), ("gpu", form.gpus)):
            await to(pilot, app, field)
            for one in names:
                app.planning.choose(one)
                assert form.shown_name(field) == one
                assert app.planning.made is not None, (one, app.planning.failed)
                app.redraw()
                await tap(pilot)
                assert overflows(app) == [], one


async def test_the_nearest_the_longest_and_as_it_was() -> None:
    app = planned(asked=Asked(model=QWEN, gpu=CARD))
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        assert not made(app).fits and "What does fit" in "\n".join(rows(app))
        assert "what does not fit is not started" in "\n".join(rows(app))
        nearest = made(app).nearest[0].serving.context
        await tap(pilot, "n")
        assert made(app).fits and made(app).serving.context == nearest
        await tap(pilot, "n")
        assert message(app) == "it fits as it is"
        await to(pilot, app, "context")
        await tap(pilot, "8", "k", "enter", "x")
        longest = made(app).serving.context
        assert made(app).fits and longest >= nearest
        await tap(pilot, "shift+right")
        assert not made(app).fits, "none is longer"
        await tap(pilot, "l")
        assert made(app).serving.context == 262_144


async def test_the_mouse() -> None:
    app = planned()
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await click_on(pilot, app, "KV cache")
        form = app.planning.form
        assert form is not None and form.name == "kv"
        line = next(number for number, text in enumerate(rows(app)) if text.startswith(" ▸ KV cache"))
        await pilot.click(offset=(rows(app)[line].index("●") + 11, line))
        await until(pilot, lambda: made(app).serving.kv == "fp8")
        line = next(number for number, text in enumerate(rows(app)) if "[░" in text)
        spot = rows(app)[line].index("[░")
        await pilot.click(offset=(spot - 5, line))
        await until(pilot, lambda: made(app).serving.context == 16_384)
        assert made(app).serving.seqs == 8
        await click_on(pilot, app, "pgdn", 40)
        await until(pilot, lambda: " Notes " in "\n".join(rows(app)))


async def test_a_file_is_never_replaced_without_asking(tmp_path: Path) -> None:
    app = planned(live=False)
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await tap(pilot, "w")
        await until(pilot, lambda: isinstance(app.screen, FileDialog))
        await tap(pilot, "down", "enter")
        await until(pilot, lambda: name(app) == "plan")
        file = tmp_path / "vllm.yaml"
        assert "max-model-len: 32768" in file.read_text() and message(app) == "wrote vllm.yaml"
        file.write_text("mine")
        await tap(pilot, "w", "down", "enter")
        await until(pilot, lambda: "exists: Enter again replaces it" in "\n".join(rows(app)))
        assert file.read_text() == "mine"
        await tap(pilot, "escape")
        await until(pilot, lambda: name(app) == "plan")
        assert file.read_text() == "mine"
        await tap(pilot, "w", "down", "enter", "enter")
        await until(pilot, lambda: name(app) == "plan")
        assert "max-model-len" in file.read_text()


def vllm_like(folder: Path) -> Path:
    """A program that says that it is vLLM 0.25.1, whose parser cannot be asked, and that waits when it serves."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo 0.25.1; exit 0; fi\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    script = folder / "bin" / "vllm"
    script.write_text(f"#!{python}\nimport time\nprint('serving', flush=True)\ntime.sleep(600)\n")
    script.chmod(0o755)
    return script


async def test_it_is_started_after_a_preview_and_ended(tmp_path: Path) -> None:
    app = planned()
    app.planning.ask(Asked(model=QWEN, gpu=CARD, given={"context": 32_768}), str(vllm_like(tmp_path)))
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await tap(pilot, "S")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog), 60)
        await until(pilot, lambda: "ended by" in "\n".join(rows(app)))
        told = " ".join("\n".join(rows(app)).split())
        for part in ("qtop serve --name vllm-8", "careful: the plan is for RTX 4090 D", "where: this host", "log: "):
            assert part in told, told
        await tap(pilot, "escape")
        assert app.launching.begun is None, "nothing is started without a yes"
        await tap(pilot, "S")
        await until(pilot, lambda: isinstance(app.screen, ConfirmDialog), 60)
        await tap(pilot, "enter")
        await until(pilot, lambda: app.launching.begun is not None, 60)
        begun = app.launching.begun
        assert begun is not None
        try:
            assert begun.alive
            await until(pilot, lambda: begun.log.exists() and "serving" in begun.log.read_text(), 60)
            await tap(pilot, "S")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await tap(pilot, "enter")
            await until(pilot, lambda: not begun.alive, 60)
        finally:
            if begun.alive:
                from qtop.act.serve.begin import end

                end(begun)


async def test_without_a_vllm_nothing_can_be_started() -> None:
    app = planned()
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        await tap(pilot, "S")
        await until(pilot, lambda: "no vLLM is installed here" in message(app))


async def test_read_only_has_no_such_key() -> None:
    app = planned()
    app.session.read_only = True
    async with running(app) as pilot:
        await open_screen(pilot, app, "L")
        assert "S start it" not in "\n".join(rows(app))
        await tap(pilot, "S")
        assert "--read-only" in message(app)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48), (60, 18), (200, 60)])
async def test_every_page_at_every_size(size: tuple[int, int]) -> None:
    source = ReplaySource(H100, speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        await open_screen(pilot, app, "L")
        first, seen = "\n".join(rows(app)), set()
        # Where plan against measured stands on another page, the first one has a line of it.
        assert size != (120, 40) or (
            "measured beside it: 426 960 tokens of cache (" in first and "Beside vllm" not in first
        )
        for _ in range(6):
            assert overflows(app) == [] and row(app, 4).startswith(" FITS: ")
            seen.add("\n".join(rows(app)))
            await tap(pilot, "pagedown")
        text = "\n".join(seen)
        if size[0] >= 80:
            for part in ("What fits", "Decode: tok/s", "First token (TTFT)", "Beside vllm", "Notes", "vllm serve"):
                assert part in text, part


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("how", ["fits", "not", "ascii"])
async def test_golden(size: tuple[int, int], how: str) -> None:
    environ = {"LANG": "C", "NO_COLOR": "1"} if how == "ascii" else UTF8
    context = {"context": 32_768, "seqs": 8} if how != "not" else {}
    app = planned(environ, asked=Asked(model=QWEN, gpu=CARD, version=(0, 25, 1), given=context))
    async with running(app, size) as pilot:
        await open_screen(pilot, app, "L")
        await until(pilot, lambda: how == "not" or "not checked: no vLLM" in "\n".join(rows(app)))
        app._message_until = 0.0
        app.redraw()
        await tap(pilot)
        assert overflows(app) == []
        # What qtop itself costs stands at the end of the key line.
        shown = [*rows(app)[:-1], rows(app)[-1].partition("  qtop ")[0]]
        assert how != "ascii" or "\n".join(shown).isascii()
        assert compare(f"plan-{how}-{size[0]}x{size[1]}", shown) == ""
