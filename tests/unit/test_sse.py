"""SSE parsing: the same events under any chunking, and the captures as their servers meant them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.errors import QtopError
from qtop.probe import sse
from qtop.probe.answer import Answer
from qtop.probe.sse import SseEvent, SseParser

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
STREAMS = ["llamacpp.chat.sse", "vllm.chat.sse", "vllm.completions.sse", "vllm.completions.continuous-usage.sse"]


def body(name: str) -> bytes:
    """The event stream of a capture, without the response headers that stand before it."""
    _, _, stream = (CAPTURES / name).read_bytes().partition(b"\n\n")
    return stream


def parse(*chunks: bytes) -> list[SseEvent]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.end()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_capture_parses_the_same_under_any_chunking(name: str, ending: bytes) -> None:
    stream = body(name)
    whole = parse(stream)
    assert whole[-1].data == "[DONE]"
    assert len(whole) == stream.count(b"data: ")

    other = stream.replace(b"\n", ending)

    @settings(deadline=None)
    @given(st.lists(st.integers(min_value=0), max_size=40))
    def any_chunking(places: list[int]) -> None:
        assert parse(*cut(other, places)) == whole

    any_chunking()
    assert parse(*(other[i : i + 1] for i in range(len(other)))) == whole


LINES = st.sampled_from(
    [
        b"data: a",
        b"data:a",
        b"data:  two",
        b"data",
        "data: 量子🔗é".encode(),
        b": comment",
        b"event: note",
        b"id: 7",
        b"id: a\0b",
        b"retry: 10",
        b"nonsense",
        b"",
        b"",
        b"\xff data: bad utf-8",
        b"data: \xff",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(deadline=None)
@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.booleans(), st.lists(st.integers(min_value=0), max_size=60))
def test_chunking_never_matters(lines: list[tuple[bytes, bytes]], bom: bool, places: list[int]) -> None:
    stream = b"\xef\xbb\xbf" * bom + b"".join(line + end for line, end in lines)
    assert parse(*cut(stream, places)) == parse(stream)


def test_the_fields_follow_the_standard() -> None:
    assert parse(b"data: a\ndata: b\n\n") == [SseEvent("a\nb")]
    assert parse(b"data:  two spaces\n\n") == [SseEvent(" two spaces")]
    assert parse(b"data\n\ndata\ndata\n\n") == [SseEvent(""), SseEvent("\n")]
    assert parse(b": only a comment\n\n\n") == []
    assert parse(b"event: x\n\ndata: y\n\n") == [SseEvent("y", "message")]
    assert parse(b"event: error\nid: 3\ndata: y\n\ndata: z\n\n") == [SseEvent("y", "error", "3"), SseEvent("z", id="3")]
    assert parse(b"id: a\0b\ndata: y\n\n") == [SseEvent("y")]


def test_a_byte_order_mark_is_dropped_once() -> None:
    assert parse(b"\xef\xbb", b"\xbfdata: a\n\n") == [SseEvent("a")]
    assert parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n") == []


def test_a_line_that_ends_in_cr_is_not_held_back() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\r\n\r") == [SseEvent("a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [SseEvent("b")]


def test_what_is_left_at_the_end_comes_out_at_the_end() -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\n\ndata: [DONE]") == [SseEvent("x")]
    assert parser.end() == [SseEvent("[DONE]")]
    assert parser.end() == []


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_PENDING", 1000)
    parser = SseParser()
    with pytest.raises(QtopError, match="larger than"):
        for _ in range(30):
            parser.feed(b"x" * 100)
    parser = SseParser()
    with pytest.raises(QtopError):
        for _ in range(30):
            parser.feed(b"data: " + b"x" * 100 + b"\n")
    parser = SseParser()
    for _ in range(30):
        assert parser.feed(b"data: " + b"x" * 100 + b"\n\n")


@pytest.mark.parametrize(
    ("name", "events", "silent", "tokens", "reason"),
    [
        ("llamacpp.chat.sse", 58, 0, 59, "stop"),
        ("vllm.chat.sse", 126, 2, 128, "length"),
        ("vllm.completions.sse", 127, 1, 128, "length"),
        ("vllm.completions.continuous-usage.sse", 128, 0, 128, "length"),
    ],
)
def test_a_capture_is_understood(name: str, events: int, silent: int, tokens: int, reason: str) -> None:
    answer = Answer()
    deltas = answer.take(parse(body(name)), 1.0)
    assert len(deltas) == len(answer.events) == events
    assert len(answer.silent) == silent
    assert answer.usage is not None
    assert answer.usage.completion_tokens == tokens
    assert answer.finish_reason == reason
    assert answer.t_done == 1.0
    assert answer.text_chars == len("".join(delta.text for delta in deltas))
    assert not answer.garbled
    assert answer.error is None
