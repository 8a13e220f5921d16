"""Text that others wrote on the screen: answers in any script, with marks and control characters; and LANG=C."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.fakes.stub_source import Machine, StubLive, StubSource
from tests.pilot.helpers import SIZES, UTF8, lines, make_app, overflows, row, rows, running, until
from tests.pilot.test_keys import CHOICES

from qtop.locales import wants_ascii
from qtop.probe.messages import ProbeEvent
from qtop.sample import Absent, Why
from qtop.ui.app import QtopApp
from qtop.ui.cells import clean, fit, width_of, wrap
from qtop.ui.look import choose

TEXTS = {
    "chinese": "量子纠缠是指两个或多个粒子之间存在的一种特殊关联，即使它们相距很远。" * 6,
    "japanese": "量子もつれとは、ﾊﾝｶｸ、ガ ガ" * 9,
    "hebrew": "שזירה קוונטית היא תופעה פיזיקלית " * 9,
    "arabic": "التشابك الكمي هو ظاهرة " * 9 + "\u202eevil\u202c \u2066isolate\u2069",
    "thai": "ความพัวพันเชิงควอนตัม " * 9,
    "emoji": "👩\u200d💻 ❤️ 🇩🇪 👍🏽 ☎️ 1️⃣ 🏳️\u200d🌈 " * 9,
    "marks": "z\u0301\u0302\u0303\u0304\u0335a\u0336l\u0337g\u0338o " * 20,
    "controls": "a\x00b\x07c\x08d\te\x0bf\x0cg\x0eh\x1b[2J\x1b]0;title\x07\x1b[31mred\x7f\x85\x9b1m"
    "\u2028\u2029\ufeff\xad",
    "newlines": "one\r\ntwo\n\n\nthree\rfour\n" * 6,
    "long word": "x" * 3000,
    "surrogate": "a\udc80b\ud800c",
    "markup": "[bold red]not markup[/] [/] [[ ]] [@click=app.quit]no[/]",
    "nothing": "",
}


async def stream(app: QtopApp, text: str, pieces: int = 7) -> None:
    """A whole test prompt as the prober tells it."""
    events = [ProbeEvent(kind="started", t=1.0), ProbeEvent(kind="first", t=1.2)]
    size = max(1, -(-len(text) // pieces))
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    events += [ProbeEvent(kind="delta", t=1.2 + 0.025 * number, text=part) for number, part in enumerate(parts)]
    for event in events:
        app.probing.take(event)
    app._dashboard.draw_probe(app.probing.state)


@pytest.mark.parametrize("name", TEXTS)
async def test_an_answer_of_any_kind_stays_in_its_panel(name: str) -> None:
    app = make_app(StubSource(Machine(wait=0.8).samples(0, 20)))
    async with running(app, (80, 24)) as pilot:
        await stream(app, TEXTS[name])
        for width, height in SIZES:
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda: {cell_len(line) for line in rows(app)} == {width})  # noqa: B023 - awaited at once
            app._dashboard.draw_probe(app.probing.state)
            await pilot.pause()
            assert overflows(app) == []
            shown = rows(app)
            assert all(cell_len(line) == width for line in shown), (width, height)
            assert all(line.isprintable() for line in shown), (width, height)
            assert "TTFT 200 ms" in lines(app, "probe")
            assert row(app, 2).startswith(" ▌ ENGINE WAITS FOR CPU 80 %")


async def test_the_answer_is_there_to_read() -> None:
    app = make_app(StubSource(Machine().samples(0, 3)))
    async with running(app, (160, 48)) as pilot:
        await stream(app, "Grüße, 量子 and שלום\nsecond line [b]x[/b]\x1b[2J")
        await pilot.pause()
        shown = lines(app, "probe").splitlines()
        assert "Grüße, 量子 and שלום" in shown
        assert "second line [b]x[/b] [2J▌" in shown


@given(st.text(max_size=300), st.integers(20, 90))
@settings(max_examples=300, deadline=None)
def test_any_text_wraps_and_fits_within_its_width(text: str, width: int) -> None:
    look = choose("ansi", UTF8)
    for line in (*wrap(text, width), fit(text, width)):
        drawn = look.seg(line).text
        assert drawn.isprintable()
        assert cell_len(drawn) == width_of(line) <= width
    assert cell_len(clean(text)) == width_of(clean(text))


@pytest.mark.parametrize("width", [20, 28])
def test_a_word_one_cell_too_long_is_broken(width: int) -> None:
    assert wrap("0 " + "0" * (width + 1), width) == ["0", "0" * width, "0"]
    assert wrap("…" * (width + 1), width) == ["…" * width, "…"]


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_ascii_takes_as_many_cells_as_what_it_stands_for(text: str) -> None:
    drawn = choose("ansi", {"LC_ALL": "C"}).seg(text).text
    assert drawn.isascii()
    assert drawn.isprintable()
    assert cell_len(drawn) == cell_len(clean(text))


@pytest.mark.parametrize(
    ("environ", "ascii_only"),
    [
        ({"LANG": "C"}, True),
        ({"LANG": "POSIX"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.utf8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C", "LC_CTYPE": "en_GB.UTF-8"}, False),
        ({"LANG": "C.UTF-8", "LC_CTYPE": ""}, False),
        ({}, False),
    ],
)
def test_the_locale_decides_what_may_be_drawn(environ: dict[str, str], ascii_only: bool) -> None:
    assert wants_ascii(environ) is ascii_only


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_under_lang_c_all_that_is_drawn_is_ascii(size: tuple[int, int], tmp_path: Path) -> None:
    lost = {"3": Absent(Why.LOST, "weg – für immer")}
    machine = Machine(wait=0.8, gpus=3, lost=lost, model="模型–ü", competitors=("ストレス", "é"))
    app = make_app(StubSource(machine.samples(0, 20)), {"LANG": "C"}, record_dir=tmp_path)
    async with running(app, size) as pilot:
        await until(pilot, lambda: "ENGINE WAITS" in row(app, 2))
        await stream(app, TEXTS["chinese"] + TEXTS["emoji"] + TEXTS["hebrew"])
        for key in ("", "question_mark", "escape", "f", "pagedown", "escape", "ctrl+p", "down", "escape", "space", "r"):
            if key:
                await pilot.press(key)
            await pilot.pause(0.05)
            shown = rows(app)
            odd = {char for line in shown for char in line if not char.isascii()}
            assert not odd, (key, odd)
            assert all(cell_len(line) == size[0] for line in shown), key


async def test_under_lang_c_the_choice_of_servers_is_ascii() -> None:
    app = make_app(StubLive(Machine(server=False).samples(0, 3), CHOICES), {"LC_ALL": "POSIX"})
    async with running(app, (80, 24)) as pilot:
        await until(pilot, lambda: "Several servers" in "\n".join(rows(app)))
        assert "\n".join(rows(app)).isascii()
