"""A request of the user's on the wire, answers in one piece, and the counters of how prompts ended."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from qtop.errors import QtopError
from qtop.probe import refusal
from qtop.probe.client import ProbeClient
from qtop.probe.lint import LIMIT_IGNORED, LIMIT_MISSING, STREAM_MISSING
from qtop.probe.messages import ProbeRequest
from qtop.probe.sse import DOCUMENT, AnswerFramer, SseEvent
from qtop.probe.tally import Tally, added, limit_ignored
from qtop.probe.timing import ProbeResult, Reading, Stamps, measure
from qtop.sample import PromptEnds
from qtop.verbs.own_request import came, read_own, same_server

TOKENS = 12


class Answers(BaseHTTPRequestHandler):
    """Streams where the body says so; by its path in one piece though asked, gathered, or a refusal."""

    seen: list[tuple[str, dict[str, Any], str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, body, self.headers.get("Authorization", "")))
        if self.path.startswith("/long"):
            said = "This model's maximum context length is 2048 tokens. However, you said once upon a time in the west"
            return self._whole(400, {"error": {"message": said}})
        if self.path.startswith("/late"):
            return self._whole(504, {})
        if body.get("stream") is not True or self.path.startswith("/deaf"):
            choice = {"index": 0, "text": "a" * TOKENS, "finish_reason": "length"}
            usage = {"prompt_tokens": 3, "completion_tokens": TOKENS}
            return self._whole(200, {"choices": [choice], "usage": usage})
        return self._stream(gathered=self.path.startswith("/gathered"))

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, gathered: bool) -> None:
        lines = [b'data: {"choices":[{"text":"a"}]}\n\n' for _ in range(200 if gathered else TOKENS)]
        lines.append(b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\ndata: [DONE]\n\n')
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        if gathered:
            time.sleep(0.3)
            self.wfile.write(b"".join(lines))
            return
        for line in lines:
            self.wfile.write(line)
            self.wfile.flush()
            time.sleep(0.005)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Answers.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(url: str, path: str, body: dict[str, Any], **changes: Any) -> ProbeResult:
    fields = {
        "url": url,
        "model": "m",
        "prompt": "once upon a time in the west",
        "body": json.dumps(body),
        "path": path,
        "streaming": body.get("stream") is True,
    }
    request = msgspec.convert({**fields, **changes}, ProbeRequest)
    with ProbeClient(request) as client:
        return client.ask(lambda delta: None)


def test_a_body_goes_as_it_is_and_nowhere_else(url: str) -> None:
    body = {"prompt": "x", "stream": True, "max_new_tokens": 5, "odd": [1, {"a": None}]}
    result = ask(url, "/v1/completions", body)
    assert result.ok and not result.unstreamed
    assert result.ttft_ms is not None
    assert [one[:2] for one in Answers.seen] == [("/v1/completions", body)]


def test_an_answer_without_a_stream_is_one_and_has_no_first_token(url: str) -> None:
    result = ask(url, "/v1/completions", {"prompt": "x"})
    assert result.ok and not result.unstreamed  # nobody asked for a stream
    assert (result.ttft_ms, result.completion_tokens, result.finish_reason) == (None, TOKENS, "length")
    assert "one piece" in result.notes["ttft_ms"]
    assert came(result).startswith(f"came: in one piece, {TOKENS} tokens, cut at its limit")


@pytest.mark.parametrize("path", ["/deaf/v1/completions", "/gathered/v1/completions"])
def test_a_stream_that_comes_in_one_piece_is_seen(url: str, path: str) -> None:
    for _ in range(5):  # on a busy machine qtop may read too late to know
        result = ask(url, path, {"prompt": "x", "stream": True})
        assert result.ok
        if result.unstreamed:
            break
    assert result.unstreamed
    assert came(result).startswith("came: in one piece")


def test_a_refusal_for_length_is_known_though_its_words_are_withheld(url: str) -> None:
    result = ask(url, "/long", {"prompt": "x", "stream": True})
    assert not result.ok and result.too_long
    assert "west" not in result.error and "withheld" in result.error
    assert len(Answers.seen) == 1  # it is not tried in another way


def test_a_proxys_504_is_a_time_out(url: str) -> None:
    result = ask(url, "/late", {"prompt": "x"})
    assert not result.ok and result.timed_out and not result.too_long


# ---- framing and timing


def test_a_document_is_told_from_a_stream_under_any_cut() -> None:
    text = b' \n{"a": "b\\n\\ndata: c"}'
    for cut in range(1, len(text)):
        framer = AnswerFramer()
        assert framer.feed(text[:cut]) + framer.feed(text[cut:]) == []
        (event,) = framer.end()
        assert event.event == DOCUMENT
        assert json.loads(event.data) == {"a": "b\n\ndata: c"}
    framer = AnswerFramer()
    assert framer.feed(b"data: {}\n\n") == [SseEvent("{}")]
    assert framer.end() == []
    with pytest.raises(QtopError, match="larger"):
        AnswerFramer().feed(b"{" + b"x" * (9 << 20))


def stamps(gap_s: float, events: int, ttft_s: float = 1.0, merged: tuple[float, ...] = ()) -> Stamps:
    times = tuple(10.0 + ttft_s + gap_s * i for i in range(events))
    return Stamps(t_due=10.0, t_send=10.0, t_end=times[-1], events=times, merged=merged)


@pytest.mark.parametrize(
    ("gap_s", "events", "ttft_s", "piece"),
    [
        (0.00002, 40, 1.0, True),
        (0.0, 16, 0.26, True),
        (0.0, 15, 0.26, False),  # too few to tell
        (0.0, 24, 0.1, False),  # an API server that had to wait for a CPU
        (0.00015, 40, 1.0, False),  # a fast server's
        (0.004, 40, 0.02, False),
        (0.00005, 4000, 0.5, False),  # they took long for what came before
    ],
)
def test_what_is_one_piece(gap_s: float, events: int, ttft_s: float, piece: bool) -> None:
    assert measure(stamps(gap_s, events, ttft_s)).unstreamed is piece


def test_what_qtop_read_late_is_not_held_against_the_server() -> None:
    one = stamps(0.0, 20)
    assert measure(one).unstreamed
    late = stamps(0.0, 20, merged=(one.events[0],))
    assert measure(late, client_wait_ms=1.8).unstreamed
    assert not measure(late, client_wait_ms=2.0).unstreamed  # they may have come 0.1 ms one after the other
    kernel = Reading(by_kernel=True, lag_s=0.0)
    assert measure(one, client_wait_ms=2.0, reading=kernel).unstreamed
    assert not measure(one, streaming=False).unstreamed
    assert not measure(one, error="cut").unstreamed


# ---- counting


def request(**changes: Any) -> ProbeRequest:
    return msgspec.convert({"url": "http://x", "model": "m", "prompt": "p", "max_tokens": 64, **changes}, ProbeRequest)


def result(
    tokens: int | None = 64, reason: str = "length", error: str = "", prompt: int = 9, **more: Any
) -> ProbeResult:
    plain = measure(stamps(0.01, 3), finish_reason=reason, error=error)
    return msgspec.structs.replace(plain, completion_tokens=tokens, prompt_tokens=prompt, **more)


@pytest.mark.parametrize(
    ("made", "reason", "asked", "context", "ignored"),
    [
        (64, "length", 64, None, False),
        (63, "length", 64, None, True),
        (100, "length", 64, 2048, True),
        (63, "stop", 64, None, False),
        (None, "length", 64, None, False),
        (30, "length", 64, 40, False),  # prompt and answer fill the context
        (30, "length", 64, 41, True),
    ],
)
def test_when_a_limit_was_ignored(
    made: int | None, reason: str, asked: int, context: int | None, ignored: bool
) -> None:
    assert limit_ignored(request(max_tokens=asked), result(made, reason), context) is ignored


def test_what_a_body_asks_for_is_its_own_limit() -> None:
    own = {"body": "{}", "path": "/v1/completions"}
    assert not limit_ignored(request(**own), result(16), None)
    assert limit_ignored(request(**own, limit=40), result(16), None)
    assert request(**own).asked_tokens == 0
    assert request().asked_tokens == 64


def test_how_prompts_ended_adds_up() -> None:
    tally = Tally()
    own = {"body": "{}", "path": "/v1/completions"}
    tally.take(request(), result())
    tally.take(request(), result(tokens=None, error="no token for 1 s", timed_out=True))
    tally.take(request(), result(tokens=None, error="400", too_long=True))
    tally.take(request(**own, faults=(STREAM_MISSING, LIMIT_IGNORED)), result(16))
    tally.take(request(**own, faults=(LIMIT_MISSING,)), result(16, ttft_ms=None))
    tally.take(request(**own, faults=(STREAM_MISSING, LIMIT_IGNORED)), result(error="400"))  # it told its client
    tally.take(request(**own), result(16))  # n × max_tokens: nothing is known to be wrong
    sample = tally.sample(5.0)
    assert sample.at == 5.0
    assert sample.requests == 6
    assert sample.ends == PromptEnds(
        ended=7, failed=3, timed_out=1, too_long=1, cut_at_16=2, sent_unstreamed=1, sent_unknown_limit=1
    )
    assert added(PromptEnds(), request(), result(unstreamed=True), None).unstreamed == 1


# ---- words of servers


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens",
        "max_tokens=5000 cannot be greater than max_model_len=2048. Please request fewer output tokens.",
        "request (30031 tokens) exceeds the available context size (2048 tokens), try increasing it",
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000",
    ],
)
def test_how_servers_say_too_long(said: str) -> None:
    assert refusal.too_long(400, said)
    assert not refusal.too_long(404, said)


@pytest.mark.parametrize(
    "said",
    [
        "The model `nope` does not exist.",
        "1 validation error: Unsupported Media Type: Only 'application/json' is allowed",
        "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)",
        "",
    ],
)
def test_other_refusals_are_not_for_length(said: str) -> None:
    assert not refusal.too_long(400, said)


# ---- the verb's parts


@pytest.mark.parametrize(
    ("origin", "url", "same"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("localhost:8000", "http://127.0.0.1:8000/v1", True),
        ("localhost:8000", "http://127.0.0.1:8001", False),
        ("gpu1:8000", "http://127.0.0.1:8000", False),
        ("gpu1:80", "http://gpu1", True),
        ("GPU1:443", "https://gpu1/llm", True),
        ("api.openai.com:443", "http://gpu1:443", False),
        ("", "http://127.0.0.1:8000", False),
    ],
)
def test_a_key_goes_to_no_other_server(origin: str, url: str, same: bool) -> None:
    assert same_server(origin, url) is same


def test_a_request_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("-", "@-"):
        monkeypatch.setattr("sys.stdin", io.StringIO('{"prompt":"x"}'))
        assert read_own(name).route == "/v1/completions"
    with pytest.raises(QtopError, match="No such file"):
        read_own("@/no/such/file")
