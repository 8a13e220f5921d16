"""Our reader of the Prometheus text format."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.collect.engine import exposition
from qtop.collect.engine.exposition import first_prefix, parse
from qtop.sample.series import split_series

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
VLLM = CAPTURES / "vllm-0.25.1-h100.metrics.txt"

names = st.from_regex(r"x:[a-z][a-z0-9_]{0,12}", fullmatch=True).filter(lambda x: not x.endswith("_created"))
label_names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
label_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(-9e29, 9e29)


def written(name: str, labels: dict[str, str]) -> str:
    """A series as a server writes it, escapes and all (the format's own rules)."""

    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inside = ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items())
    return f"{name}{{{inside}}}" if labels else name


keys = st.builds(written, names, st.dictionaries(label_names, label_values, max_size=4))


def test_every_series_of_a_capture_is_read_with_its_value() -> None:
    text = VLLM.read_text()
    expected = {}
    for line in text.splitlines():  # this capture has neither timestamps nor blanks after the labels
        if line.startswith("vllm:") and not re.match(r"vllm:\w+_created\b", line):
            key, value = line.rsplit(" ", 1)
            expected[key] = float(value)
    assert parse(text, ("vllm:",)) == expected
    assert len(expected) > 300
    model = "Qwen/Qwen3-4B-Instruct-2507"
    assert expected[f'vllm:iteration_tokens_total_count{{engine="0",model_name="{model}"}}'] == 3174.0


def test_created_series_comments_and_other_prefixes_are_left_out() -> None:
    series = parse(VLLM.read_text(), ("vllm:",))
    assert not [x for x in series if "_created" in x or not x.startswith("vllm:")]
    several = parse(VLLM.read_text(), ("process_", "python_info"))
    assert several["process_open_fds"] == 54.0
    assert any(x.startswith("python_info{") for x in several)


def test_a_second_scrape_makes_no_new_keys() -> None:
    text = VLLM.read_text()
    first = list(parse(text, ("vllm:",)))
    assert all(a is b for a, b in zip(first, parse(text, ("vllm:",)), strict=True))


_LINES = st.lists(
    st.sampled_from(
        [
            *("x:a 1", "x:a 2", "x:a NaN", 'x:b{l="1"} 3', 'x:b{l="1"} 4', 'x:b{l="2"} 5', "x:c 6 1700000000", "x:c 7"),
            *(
                "x:c 6 1700000001",
                "x:d_created 8",
                "x:d_created 9",
                "y 10",
                "y 11",
                "# HELP x a",
                "# HELP x b",
                "x:e",
                "",
            ),
            *("x:f  12", "x:f 13", 'x:g 14 # {t="1"} 2', 'x:g 15 # {t="1"} 2'),
        ]
    ),
    min_size=1,
    max_size=12,
)


@given(st.lists(_LINES, min_size=2, max_size=5))
def test_a_scrape_reads_the_same_whatever_was_read_before(texts: list[list[str]]) -> None:
    for lines in texts:
        text = "# TYPE x:a gauge\n" + "\n".join(lines)
        after_another = parse(text, ("x:",))
        exposition._last = None
        assert after_another == parse(text, ("x:",))
        after_another.clear()  # the caller's own: what is remembered stays
        assert parse(text, ("x:",)) == parse(text, ("x:", "z:"))


def test_only_what_changed_is_read_again() -> None:
    text = VLLM.read_text()
    many = "\n".join(text.replace('engine="0"', f'engine="{n}"') for n in range(20))

    def cost(forget: bool) -> float:
        best = 1.0
        for _ in range(5):
            if forget:
                exposition._last = None
            begun = time.perf_counter()
            parse(many, ("vllm:",))
            best = min(best, time.perf_counter() - begun)
        return best

    parse(many, ("vllm:",))
    assert cost(forget=True) > 1.5 * cost(forget=False)


def test_the_cache_of_keys_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "CACHE_LIMIT", 100)
    exposition._interned.clear()
    series = parse("".join(f"x:n_{n} {n}\n" for n in range(1_000)), ("x:",))
    assert len(series) == 1_000
    assert len(exposition._interned) <= 100


@given(st.dictionaries(keys, numbers, min_size=1, max_size=20))
def test_what_a_server_writes_is_what_is_read(series: dict[str, float]) -> None:
    text = "# HELP x a help\n# TYPE x gauge\n" + "".join(f"{k} {v!r}\n" for k, v in series.items())
    assert parse(text, ("x:",)) == series
    assert parse(text, ("x:",)) == series  # now from the cache


@given(st.dictionaries(keys, numbers, min_size=1, max_size=20), st.integers(0, 2**41))
def test_timestamps_and_exemplars_are_passed_over(series: dict[str, float], stamp: int) -> None:
    for tail in (f" {stamp}", ' # {trace_id="a} 3"} 0.67', "  ", "\r"):
        text = "".join(f"{k} {v!r}{tail}\n" for k, v in series.items())
        assert parse(text, ("x:",)) == series


@given(st.text(), st.booleans())
def test_any_text_gives_series_or_a_value_error(text: str, cut: bool) -> None:
    try:
        series = parse(text, ("vllm:", "x"), cut=cut)
    except ValueError as error:
        assert str(error).startswith("not metrics: ")
    else:
        assert all(math.isfinite(x) for x in series.values())


@given(st.integers(0, 70_000))
def test_a_cut_text_gives_no_value_that_the_whole_does_not_have(size: int) -> None:
    whole = VLLM.read_text()
    head = parse(whole[:size], ("vllm:",), cut=True)
    assert head.items() <= parse(whole, ("vllm:",)).items()


def test_a_number_cut_in_two_is_not_read_as_a_number() -> None:
    text = "x:a 1.0\nx:b 12345.0\n"
    assert parse(text[:15], ("x:",), cut=True) == {"x:a": 1.0}
    assert parse(text[:-1], ("x:",)) == {"x:a": 1.0, "x:b": 12345.0}  # whole, without a last newline


def test_values_that_are_no_numbers_are_left_out() -> None:
    text = "x:a NaN\nx:b +Inf\nx:c -Inf\nx:d zwei\nx:e\nx:g 1.7e308\nx:h -1e31\nx:f 1e3\n"
    assert parse(text, ("x:",)) == {"x:f": 1000.0}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!DOCTYPE html>\n<html>\nvllm:a 1\n</html>", "not metrics: looks like HTML"),
        ("\ufeff \r\n<html>", "not metrics: looks like HTML"),
        ('{"detail":"Not Found"}', "not metrics: looks like JSON"),
        ("404 page not found\n", "not metrics: no line of it is a sample"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text, ("vllm:",))


def test_an_exposition_without_our_series_is_empty_rather_than_refused() -> None:
    assert parse("", ("vllm:",)) == {}
    assert parse("# EOF\n", ("vllm:",)) == {}
    assert parse("process_open_fds 54.0\n", ("vllm:",)) == {}


@given(names, st.dictionaries(label_names, label_values, max_size=4))
def test_a_series_splits_into_what_it_was_written_from(name: str, labels: dict[str, str]) -> None:
    assert split_series(written(name, labels)) == (name, labels)


def test_splitting_handles_quotes_commas_and_braces() -> None:
    key = r'x:a{path="C:\\new,{}",say="\"hi\", he said",empty="",le="+Inf",}'
    labels = {"path": r"C:\new,{}", "say": '"hi", he said', "empty": "", "le": "+Inf"}
    assert split_series(key) == ("x:a", labels)
    assert split_series("x:a") == ("x:a", {})
    assert split_series('x:a{broken="') == ("x:a", {})


def test_the_engine_is_known_by_the_first_prefix() -> None:
    every = ("vllm:", "llamacpp:", "sglang:")
    assert first_prefix(VLLM.read_text(), every) == "vllm:"
    assert first_prefix((CAPTURES / "llamacpp.metrics.txt").read_text(), every) == "llamacpp:"
    assert first_prefix("# TYPE sglang:token_usage gauge\n", every) == "sglang:"
    assert first_prefix("<html>\nvllm:num_requests_running 3\n</html>", every) is None
