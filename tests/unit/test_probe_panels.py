"""The probe screen's parts without a screen: the form, the histogram, the state, the table, one test in full."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tests.fakes.trials import result, trial, window

from qtop.errors import QtopError
from qtop.probe.choice import MARGIN, MOST_BYTES, read_prompt
from qtop.probe.messages import ProbeEvent
from qtop.probe.prompts import BY_NAME, CHINESE
from qtop.probe.selfcheck import SelfCheck
from qtop.ui.form import OWN, Form
from qtop.ui.look import Line, choose
from qtop.ui.panels.histogram import GapCounts, histogram_lines
from qtop.ui.panels.probe_form import form_lines, line_of
from qtop.ui.panels.probe_live import live_lines
from qtop.ui.panels.probe_results import compare_lines, detail_lines, table_lines
from qtop.ui.trials import KEEP_TEXT, Asked, ProbeState, Trial

LOOK = choose("truecolor", {"LANG": "C.UTF-8"})
PLAIN = choose("truecolor", {"LANG": "C"})
WIDTHS = (58, 78, 118, 158, 198)


def text(lines: list[Line]) -> str:
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


def widest(lines: list[Line]) -> int:
    return max(cell_len("".join(segment.text for segment in line).rstrip()) for line in lines)


def at(form: Form, name: str) -> Form:
    form.at = form.fields.index(name)
    return form


# The form


def test_the_defaults_are_the_quick_test() -> None:
    asks = Form.of("", 64).asks()
    assert (asks["prompt_name"], asks["max_tokens"], asks["requests"], asks["concurrency"]) == ("en", 64, 1, 1)
    assert (asks["rate"], asks["fill"], asks["ignore_eos"]) == (0.0, 0, False)


@pytest.mark.parametrize(
    ("setting", "chosen"), [("zh", "zh"), (CHINESE, "zh"), ("8k", "8k"), ("max", "max"), ("why is the sky red?", OWN)]
)
def test_the_settings_prompt_is_a_preset_or_a_text(setting: str, chosen: str) -> None:
    form = Form.of(setting, 8)
    assert form.prompt == chosen
    if chosen == OWN:
        assert form.asks()["prompt"] == setting


def test_arrows_go_through_steps_and_digits_set_what_lies_between() -> None:
    form = at(Form(), "streams")
    for shown in (2, 4, 8, 16, 32, 64):
        form.step(1)
        assert form.streams == shown
    for digit in "48":
        assert form.digit(digit)
    assert form.streams == 48
    form.step(1)
    assert (form.streams, form.typed) == (64, "")
    form.step(-1)
    assert form.streams == 32
    for _ in range(12):
        form.step(1)
    assert form.streams == 1024
    at(form, "output")
    for _ in range(20):
        form.step(-1)
    assert form.output == 8


def test_what_is_typed_stays_within_bounds_and_can_be_erased() -> None:
    form = at(Form(), "requests")
    for digit in "99999999999":
        form.digit(digit)
    assert form.requests == 10_000
    form.move(-1)
    form.move(1)
    form.erase()
    assert (form.typed, form.requests) == ("1000", 1000)
    for _ in range(9):
        form.erase()
    assert form.requests == 1
    assert not form.digit("."), "there is no half request"
    assert not at(form, "prompt").digit("5")
    at(form, "arrival").step(1)
    at(form, "rate")
    for char in "2.5":
        assert form.digit(char)
    assert not form.digit(".")
    assert form.asks()["rate"] == 2.5
    assert form.asks()["concurrency"] == 0


def test_up_and_down_stop_at_both_ends() -> None:
    form = Form()
    form.move(-1)
    assert form.name == "prompt"
    form.move(99)
    assert form.name == "exact"
    form.step(1)
    assert form.asks()["ignore_eos"]


def test_long_prompts_need_to_know_what_fits() -> None:
    form = Form(prompt="max", output=100, context=8192)
    assert form.fill == 8192 - 100 - MARGIN
    assert "8 028 tokens" in form_text(form)
    form.context = None
    with pytest.raises(QtopError, match="does not say how long a prompt may be"):
        form.asks()
    form.prompt = "8k"
    assert form.asks()["fill"] == 8192, "where nobody says what fits, the server may"
    form.context = 8192
    with pytest.raises(QtopError, match="8192 tokens and 100 of answer do not fit: this server takes 8192"):
        form.asks()
    form.prompt, form.output = "max", 8190
    with pytest.raises(QtopError, match="leave no room"):
        form.asks()
    form.prompt = OWN
    with pytest.raises(QtopError, match="e types one"):
        form.asks()


def form_text(form: Form) -> str:
    return text(form_lines(LOOK, form, 78, "1 request, up to 64 tokens", "", True))


@given(
    st.sampled_from([*BY_NAME, OWN]),
    st.text(max_size=60),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "1", "12345678"]),
)
@settings(max_examples=60, deadline=None)
def test_the_form_fits_every_width(prompt: str, own: str, place: int, rate: bool, exact: bool, typed: str) -> None:
    form = Form(prompt=prompt, text=own, open=rate, exact=exact, at=place, typed=typed, streams=1024)
    for look in (LOOK, PLAIN):
        for width in WIDTHS:
            lines = form_lines(look, form, width, "20 requests, up to 1 280 tokens", "a warning " * 30, True)
            assert widest(lines) <= width
            assert len({len(line) for line in lines[1:7]}) == 1
    assert line_of(form)


# A file


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "cannot read .*: No such file"),
        (b"\xff\xfe\x00text", "is not text"),
        (b"a\0b", "is not text"),
        (b"  \n", "is empty"),
        (b"x" * (MOST_BYTES + 1), "larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_prompt_is_one_line(tmp_path: Path, data: bytes | None, told: str) -> None:
    path = tmp_path / "prompt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(QtopError, match=told) as caught:
        read_prompt(str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_device_are_no_files(tmp_path: Path) -> None:
    for path in (str(tmp_path), "/dev/zero", "a\0b"):
        with pytest.raises(QtopError):
            read_prompt(path)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "prompt.md"
    path.write_bytes("\ufeffGrüße,\n量子\n".encode())
    assert read_prompt(str(path)) == "Grüße,\n量子\n"


# The histogram


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_every_gap_is_in_one_column_and_columns_stay_while_gaps_fit(gaps: list[float]) -> None:
    counts = GapCounts()
    for gap in gaps:
        counts.add(gap)
    low, high = counts.span()
    assert low <= max(0.1, min(gaps)) * (1 + 1e-9) and max(gaps) < high
    for width in (30, 71, 150):
        columns = counts.columns(width)
        assert sum(columns) == len(gaps) and len(columns) <= width
        assert columns[counts.place(max(gaps), width)] > 0
        counts.add(max(gaps))
        counts.add(min(gaps))
        assert counts.span() == (low, high), "another gap in between moves nothing"
        gaps = [*gaps, max(gaps), min(gaps)]
    for look in (LOOK, PLAIN):
        for width in WIDTHS:
            lines = histogram_lines(look, counts, "itl", width, 9)
            assert widest(lines) <= width
            assert len(lines) == 9


@given(st.lists(st.floats(0.2, 1e4), min_size=1, max_size=100))
@settings(max_examples=100, deadline=None)
def test_a_median_read_from_the_bins_is_that_of_a_gap_within_a_bin(gaps: list[float]) -> None:
    counts = GapCounts()
    for gap in gaps:
        counts.add(gap)
    median = counts.quantile(0.5)
    assert median is not None
    assert min(abs(median / gap - 1) for gap in gaps) < 0.012


def test_the_histogram_marks_median_and_largest() -> None:
    counts = GapCounts()
    for gap in (*[20.0] * 50, *[24.0] * 50, *[25.0] * 60, 88.0):
        counts.add(gap)
    shown = text(histogram_lines(LOOK, counts, "icl", 78, 9, 24.0)).splitlines()
    assert shown[0].startswith("Gaps between chunks ──")
    assert shown[0].endswith(" 161 of them   p50 24.0 ms   largest 88.0 ms")
    ruler, figures, marks = shown[-3:]
    assert figures.split() == ["20", "ms", "50", "ms", "100", "ms"]
    assert ruler.count("┴") == 3
    places = [place for place, char in enumerate(marks) if char == "▲"]
    bars = shown[-4]
    assert len(places) == 2 and all(bars[place] != " " for place in places), "the arrows stand under bars"
    assert "p50" in marks and "largest" in marks
    assert text(histogram_lines(LOOK, GapCounts(), "itl", 78, 9)).startswith("Gaps between tokens ──")


# What the prober says


def events(*told: tuple[str, int, float, str]) -> list[ProbeEvent]:
    return [ProbeEvent(kind=kind, i=i, t=t, text=word) for kind, i, t, word in told]  # type: ignore[arg-type]


def test_of_several_streams_one_is_followed_and_all_are_counted() -> None:
    state = ProbeState(asked=Asked("en", 8, 3, 2, 0.0, False), running=True)
    told = events(("started", 0, 1.0, ""), ("started", 1, 1.0, ""), ("first", 1, 1.2, ""), ("delta", 1, 1.2, "one"))
    for event in (*told, ProbeEvent(kind="first", i=0, t=1.3, ms=300.0)):
        state.take(event)
    assert (state.text, state.in_flight, state.ttfts_ms) == ("one", 2, [pytest.approx(200.0), 300.0])
    assert state.ttft_ms == pytest.approx(200.0), "of the stream that is followed"
    state.take(ProbeEvent(kind="gaps", t=1.4, gaps=(5.0, 6.0), running=2))
    for event in events(("delta", 1, 1.25, " two"), ("delta", 1, 1.3, "")):
        state.take(event)
    assert state.gaps_ms == [pytest.approx(50.0), pytest.approx(50.0)]
    assert state.counts.n == 2
    state.take(ProbeEvent(kind="done", i=1, t=1.5, result=result(1)))
    for event in events(("started", 2, 1.6, ""), ("delta", 0, 1.7, "other")):
        state.take(event)
    assert (state.text, state.sent, state.done, state.in_flight) == ("other", 3, 1, 2)
    state.take(ProbeEvent(kind="done", i=0, t=1.8, result=result(0, error="it broke")))
    state.take(ProbeEvent(kind="done", i=2, t=2.0, result=result(2)))
    state.take(ProbeEvent(kind="end", t=2.0))
    assert (state.running, state.failed, state.in_flight, state.error) == (False, 1, 0, "it broke")
    assert state.elapsed(99.0) == pytest.approx(1.0)


def test_a_warm_up_is_not_counted() -> None:
    state = ProbeState(asked=Asked("en", 8, 2, 1, 0.0, False), running=True)
    state.take(ProbeEvent(kind="started", t=1.0, warmup=True))
    assert (state.sent, state.note, state.elapsed(5.0)) == (0, "warm-up", 0.0)
    assert "warming up" in text(live_lines(LOOK, state, 78, 20, 5.0))


def test_a_long_answer_loses_its_beginning_seldom() -> None:
    state = ProbeState()
    seen = set()
    for number in range(4000):
        state.take(ProbeEvent(kind="delta", t=float(number), text="word "))
        seen.add(len(state.text) < 5)
        assert len(state.text) <= KEEP_TEXT
    assert state.text.endswith("word ")


@pytest.mark.parametrize("rows", [6, 12, 17, 20, 36])
def test_what_streams_fits_every_size(rows: int) -> None:
    state = ProbeState(asked=Asked("own text", 64, 20, 4, 0.0, True), running=True)
    state.take(ProbeEvent(kind="started", t=1.0))
    for number in range(300):
        state.take(ProbeEvent(kind="delta", t=1.0 + 0.02 * number, text="量子纠缠是指 two "))
    state.take(ProbeEvent(kind="gaps", t=8.0, gaps=tuple(20.0 + number % 7 for number in range(300))))
    state.take(ProbeEvent(kind="first", t=8.0, ms=100.0))
    for look in (LOOK, PLAIN):
        for width in WIDTHS:
            lines = live_lines(look, state, width, rows, 9.0)
            assert widest(lines) <= width
            assert len(lines) <= max(rows, 8)
            shown = text(lines)
            assert "0 of 20 done   1 in flight   00:08" in shown
            assert "Esc cancels" in shown
            assert "TTFT 100 ms" in shown


# Side by side, and one in full


def test_the_table_has_the_latest_first_and_dashes_where_requests_are_few() -> None:
    trials = [trial(1, n=1), trial(2, n=20, failed=2), trial(3, n=20, rate=2.5)]
    shown = text(table_lines(LOOK, trials, 2, [1, 3], 158, 9, True)).splitlines()
    assert [line.split()[0] for line in shown[2:]] == ["×", "▸", "×"]
    assert [line[2:5].strip() for line in shown[2:]] == ["3", "2", "1"]
    assert "2.5/s" in shown[2] and "18/2" in shown[3]
    assert " – " in shown[2], "an interval, from 6 requests on"
    assert " – " not in shown[4].replace("–   ", ""), "of one request there is none"
    few = text(table_lines(LOOK, [trial(number, n=1) for number in range(1, 30)], 4, [], 78, 5, False)).splitlines()
    assert len(few) == 5 and any(line.startswith("·   4") for line in few)


def test_a_self_check_with_marks_is_marked_and_told_in_words() -> None:
    check = SelfCheck(stamps="user", seconds=1.0, cpu_share=0.1, marks=("the prober's own loop lags 9 ms",))
    one = trial(1, n=8, check=check)
    assert text(table_lines(LOOK, [one], 1, [], 78, 5, False)).rstrip().endswith("u!")
    assert "! the prober's own loop lags 9 ms" in text(detail_lines(LOOK, one, 78, False))


def test_one_test_in_full_tells_the_server_s_part_and_who_else_was_there() -> None:
    one = trial(1, n=20, failed=3, error="it took longer than 120 s").seen(window(others=7.0, fired=True))
    for tall in (False, True):
        shown = text(detail_lines(LOOK, one, 118, tall))
        for part in (
            "17 ok, 3 failed",
            "failed: 3 × it took longer than 120 s",
            "Where these requests' time went (12 s)",
            "7 requests of other clients finished in this window as well",
            "QT201 fired in 82 % of it: the engine waits",
            "stamped by the kernel",
            "Gaps between tokens",
            "an answer",
        ):
            assert part in shown, part
    stages = [line.split()[0] for line in shown.splitlines() if line.rstrip().endswith(" ms") and "█" in line]
    assert [name for name in stages if name in ("client", "network", "frontend", "queue", "prefill", "decode")] == [
        "client", "network", "frontend", "queue", "prefill", "decode",
    ]  # fmt: skip
    doubted = trial(2).seen(window(others=7.0, why="7 requests of other clients are in these means"))
    assert "doubt: 7 requests of other clients are in these means" in text(detail_lines(LOOK, doubted, 78, False))
    absent = trial(2).seen(window(absent=True))
    assert "the server was not read" in text(detail_lines(LOOK, absent, 78, False))
    assert "reading it once more" in text(detail_lines(LOOK, trial(3), 78, False))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_it_is_wider_than_the_screen(width: int) -> None:
    trials = [
        trial(1, n=1),
        trial(2, n=200, rate=0.01, prompt="@/a/long/path/" + "x" * 80, gap_kind="icl"),
        trial(3, n=20, failed=20, error="e" * 300).seen(window(others=1.0, fired=True)),
        Trial(4, Asked("en", 64, 3, 1024, 0.0, True), 0.0, (), error="cancelled"),
    ]
    for look in (LOOK, PLAIN):
        assert widest(table_lines(look, trials, 3, [2], width, 9, True)) <= width
        for one in trials:
            for tall in (False, True):
                assert widest(detail_lines(look, one, width, tall)) <= width
        assert widest(compare_lines(look, trials[0], trials[1], width)) <= width
        if look is PLAIN:
            assert text(detail_lines(look, trials[2], width, True)).isascii()


def test_two_tests_are_compared_in_words() -> None:
    slow, fast = trial(1, n=20, ttft=200.0), trial(2, n=20, ttft=100.0)
    shown = text(compare_lines(LOOK, slow, fast, 78)).splitlines()
    assert shown[0].startswith("Test 2 against test 1")
    assert shown[1] == "better"
    assert ": better" in shown[2] and "202 ms → 102 ms" in shown[2]
    assert ": within noise" in shown[3]
    assert "cannot tell" in text(compare_lines(LOOK, trial(1, n=1), trial(2, n=1), 118))
    unlike = text(compare_lines(LOOK, slow, trial(3, n=20, rate=2.0, prompt="8k"), 118))
    assert "they differ in prompt and arrival" in unlike
