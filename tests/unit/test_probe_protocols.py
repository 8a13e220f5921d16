"""Servers that speak their own protocol, per-request times, and prompts that are chosen and lengthened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.sse_server import TOKENS, SseServer
from tests.unit.test_probe_client import ask, request

from qtop.errors import QtopError
from qtop.probe.choice import MARGIN, chosen
from qtop.probe.client import ProbeClient
from qtop.probe.fill import CHARS_A_TOKEN, filled
from qtop.probe.prompts import BY_NAME, PRESETS, READING
from qtop.probe.protocol import DIALECTS, JsonFramer, Wanted
from qtop.probe.timing import ServerTimes

TEXT = "".join(TOKENS)


@pytest.fixture
def server() -> Iterator[SseServer]:
    with SseServer() as running:
        yield running


def test_tgi_without_openai_routes(server: SseServer) -> None:
    result, text = ask(server, "tgi")
    assert result.ok, result.error
    assert text == TEXT
    assert result.endpoint == "/generate_stream"
    assert (result.events, result.completion_tokens, result.prompt_tokens) == (6, 6, 9)
    assert result.finish_reason == "length"
    sent = server.seen[-1].body
    assert sent["parameters"] == {"max_new_tokens": 6, "details": True}  # no temperature: TGI refuses 0
    assert [seen.path.rpartition("/")[2] for seen in server.seen] == ["completions", "completions", "generate_stream"]


@pytest.mark.parametrize("manner", ["generate_nul", "generate_lines"])
def test_the_retired_vllm_server_repeats_the_prompt_and_all_so_far(server: SseServer, manner: str) -> None:
    result, text = ask(server, manner)
    assert result.ok, result.error
    assert text == TEXT
    assert result.events == 6
    assert result.completion_tokens is None
    assert "usage" in result.notes["completion_tokens"]
    assert "/generate" in result.notes["endpoint"]


def test_a_named_protocol_is_the_only_one_tried(server: SseServer) -> None:
    result, _ = ask(server, "no_chat", api="chat")
    assert not result.ok and len(server.seen) == 1
    result, _ = ask(server, "no_chat", api="completions")
    assert result.ok and server.seen[-1].path.endswith("/completions")


def test_the_servers_own_times_are_joined(server: SseServer) -> None:
    result, _ = ask(server, "timed")
    assert result.ok
    assert result.server == ServerTimes(queue_ms=0.5, prefill_ms=12.5, decode_ms=25.0, mean_itl_ms=5.0)
    assert ask(server, "ok")[0].server is None


def test_times_that_are_none_or_nonsense_are_no_times() -> None:
    assert ServerTimes.of({}) is None
    assert ServerTimes.of({"queue_time_ms": None}) is None
    assert ServerTimes.of({"queue_time_ms": "soon", "mean_itl_ms": True}) is None
    assert ServerTimes.of({"queue_time_ms": float("inf"), "mean_itl_ms": 2}) == ServerTimes(mean_itl_ms=2.0)


@given(st.lists(st.text(min_size=1).map(lambda text: json.dumps({"text": [text]})), max_size=8), st.data())
def test_json_objects_are_found_under_any_chunking(objects: list[str], data: st.DataObject) -> None:
    ends = [data.draw(st.sampled_from((b"\0", b"\n", b"\r\n"))) for _ in objects]
    raw = b"".join(one.encode() + end for one, end in zip(objects, ends, strict=True))
    framer, found, at = JsonFramer(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, len(raw) - at))
        found += framer.feed(raw[at : at + size])
        at += size
    found += framer.end()
    assert [event.data.strip() for event in found] == objects


def test_an_object_without_end_is_not_collected_for_ever() -> None:
    framer = JsonFramer()
    with pytest.raises(QtopError, match="larger than"):
        for _ in range(20):
            framer.feed(b"x" * 2**20)
    assert JsonFramer().feed(b"") == []


def test_an_object_that_the_streams_end_ends() -> None:
    framer = JsonFramer()
    assert framer.feed(b'{"text": ["a"]}') == []
    assert [event.data for event in framer.end()] == ['{"text": ["a"]}']
    assert framer.end() == []


def test_only_what_is_wanted_is_asked_for(server: SseServer) -> None:
    asked = request(server, "ok")
    for dialect in DIALECTS:
        body = dialect.body(asked, "p", Wanted(usage=False))
        assert "stream_options" not in body and "ignore_eos" not in body
    assert DIALECTS[0].body(asked, "p", Wanted(ignore_eos=True))["ignore_eos"] is True


# Prompts


def test_presets_are_complete() -> None:
    assert {"en", "zh", "code", "reasoning", "1k", "8k", "32k", "max"} == set(BY_NAME)
    assert all(preset.what and preset.text for preset in PRESETS)


def test_a_prompt_is_a_preset_a_file_or_a_text(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("\ufeffWhy?", encoding="utf-8")
    assert chosen("zh", 64, None).name == "zh"
    assert chosen("What is rye?", 64, None).text == "What is rye?"
    assert chosen(f"@{file}", 64, None).text == "Why?"
    assert chosen("8k", 64, 16384).fill == 8192
    assert chosen("8k", 64, None).fill == 8192
    assert chosen("max", 256, 4096).fill == 4096 - 256 - MARGIN


@pytest.mark.parametrize(
    ("words", "context", "clause"),
    [
        ("", None, "is empty"),
        ("@missing.txt", None, "cannot read"),
        ("32k", 4096, "do not fit"),
        ("max", None, "does not say"),
        ("max", 200, "leave no room"),
    ],
)
def test_a_prompt_that_cannot_be_is_one_line(words: str, context: int | None, clause: str) -> None:
    with pytest.raises(QtopError, match=clause):
        chosen(words, 128, context)


def test_a_file_that_is_no_text_or_too_large_is_one_line(tmp_path: Path) -> None:
    for content, clause in ((b"\xff\xfe\x00", "not text"), (b" \n", "is empty"), (b"x" * (2**22 + 1), "larger than")):
        (tmp_path / "p").write_bytes(content)
        with pytest.raises(QtopError, match=clause):
            chosen(f"@{tmp_path / 'p'}", 64, None)


@pytest.mark.parametrize("each", [2.5, 3.7, 4.4, 6.0])
@pytest.mark.parametrize("tokens", [200, 1024, 32768])
def test_a_prompt_is_lengthened_to_what_the_server_counts(each: float, tokens: int) -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(round(len(text) / each))
        return counted[-1]

    text = filled(READING, tokens, count)
    assert text.endswith(READING)
    assert tokens * 0.98 - 30 <= len(text) / each <= tokens
    assert len(counted) <= 6


def test_without_a_count_it_stays_below() -> None:
    text = filled(READING, 1000, lambda text: None)
    assert len(text) <= 1000 * CHARS_A_TOKEN + len(READING)
    assert filled(READING, 5, lambda text: None).endswith(READING)
    assert filled(READING, 1000, lambda text: None) == text  # the same at every call: runs can be compared


def test_tokens_are_counted_by_whoever_counts_them(server: SseServer) -> None:
    with ProbeClient(request(server, "nothing")) as client:
        assert client.count_tokens("a b c") is None
