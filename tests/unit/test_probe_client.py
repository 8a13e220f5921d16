"""The client against a server that streams and misbehaves."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.fakes.sse_server import TOKENS, SseServer

from qtop.errors import QtopError
from qtop.probe import refusal
from qtop.probe.answer import Delta
from qtop.probe.client import ProbeClient, base_url, is_here
from qtop.probe.messages import ProbeRequest
from qtop.probe.prompts import CHINESE, ENGLISH, tagged
from qtop.probe.timing import ProbeResult

PATIENCE = 15.0
"""Seconds in which something must have happened; generous, because the machine may be busy."""


@pytest.fixture
def server() -> Iterator[SseServer]:
    with SseServer() as running:
        yield running


def ask(server: SseServer, manner: str, **changes: object) -> tuple[ProbeResult, str]:
    """One request in this process; the result and the text that came."""
    text: list[str] = []
    with ProbeClient(request(server, manner, **changes)) as client:
        result = client.ask(lambda delta: text.append(delta.text))
    return result, "".join(text)


def request(server: SseServer, manner: str, **changes: object) -> ProbeRequest:
    fields: dict[str, object] = {"url": server.url(manner), "model": "m", "prompt": ENGLISH, "max_tokens": 6, **changes}
    return msgspec.convert(fields, ProbeRequest)


def test_a_chat_answer_is_measured(server: SseServer) -> None:
    result, text = ask(server, "ok")
    assert result.ok, result.error
    assert text == "".join(TOKENS)
    assert result.text_chars == len(text)
    assert result.events == result.completion_tokens == 6
    assert result.prompt_tokens == 9
    assert result.finish_reason == "length"
    assert result.gap_kind == "itl"
    assert result.ttft_ms is not None and result.e2e_ms is not None
    assert 0 < result.ttft_ms < result.e2e_ms
    assert result.ttfo_ms == result.ttft_ms
    assert result.connect_ms is not None
    assert result.connect_ms <= result.client_queue_ms
    assert result.itl_ms is not None
    assert result.itl_ms.p90 is None
    sent = server.seen[0]
    assert sent.path == "/ok/v1/chat/completions"
    assert sent.body["stream"] is True
    assert sent.body["stream_options"] == {"include_usage": True}
    assert sent.body["temperature"] == 0
    assert sent.body["max_tokens"] == 6
    assert "ignore_eos" not in sent.body
    assert "authorization" not in sent.headers


def test_every_prompt_has_a_tag_of_its_own_unless_told_otherwise(server: SseServer) -> None:
    with ProbeClient(request(server, "ok")) as client:
        for _ in range(2):
            client.ask(lambda delta: None)
    first, second = (seen.body["messages"][0]["content"] for seen in server.seen)
    assert first.endswith("\n" + ENGLISH)
    assert first.split("\n")[0] != second.split("\n")[0]
    ask(server, "ok", unique_prefix=False)
    assert server.seen[-1].body["messages"][0]["content"] == ENGLISH


def test_every_request_has_a_connection_of_its_own(server: SseServer) -> None:
    with ProbeClient(request(server, "ok")) as client:
        results = [client.ask(lambda delta: None) for _ in range(3)]
    assert server.connections == 3
    assert all(result.ok and result.connect_ms is not None for result in results)


@pytest.mark.parametrize("manner", ["no_chat", "no_template"])
def test_without_chat_the_completions_endpoint_is_used_and_remembered(server: SseServer, manner: str) -> None:
    with ProbeClient(request(server, manner)) as client:
        results = [client.ask(lambda delta: None) for _ in range(2)]
    assert [seen.chat for seen in server.seen] == [True, False, False]
    assert server.seen[1].body["prompt"].endswith(ENGLISH)
    for result in results:
        assert result.ok, result.error
        assert result.completion_tokens == 6
        assert "/v1/completions" in result.notes["endpoint"]


def test_a_missing_model_is_not_mistaken_for_missing_chat(server: SseServer) -> None:
    result, _ = ask(server, "no_model")
    assert len(server.seen) == 1
    assert result.error == "not found (404): The model `m` does not exist."


def test_no_endpoint_at_all_says_so(server: SseServer) -> None:
    result, _ = ask(server, "nothing")
    assert result.error == "neither /v1/chat/completions nor /v1/completions is there (404)"


def test_refused_stream_options_are_left_out_once_and_for_all(server: SseServer) -> None:
    with ProbeClient(request(server, "strict")) as client:
        results = [client.ask(lambda delta: None) for _ in range(2)]
    assert ["stream_options" in seen.body for seen in server.seen] == [True, False, False]
    for result in results:
        assert result.ok
        assert result.completion_tokens is None
        assert result.tpot_ms is None
        assert result.notes["completion_tokens"]
        assert "stream_options" in result.notes["usage"]


def test_refused_ignore_eos_is_left_out_and_usage_kept(server: SseServer) -> None:
    result, _ = ask(server, "no_ignore", ignore_eos=True)
    assert result.ok
    assert result.completion_tokens == 6
    assert "ignore_eos" in result.notes["ignore_eos"]


def test_reasoning_counts_for_the_first_token_and_not_for_the_first_output(server: SseServer) -> None:
    deltas: list[Delta] = []
    with ProbeClient(request(server, "reasoning")) as client:
        result = client.ask(deltas.append)
    assert [delta.reasoning for delta in deltas] == [True, True, False]
    assert result.ttft_ms is not None and result.ttfo_ms is not None
    assert result.ttft_ms < result.ttfo_ms


def test_several_tokens_an_event_are_labelled(server: SseServer) -> None:
    result, _ = ask(server, "pairs")
    assert result.gap_kind == "icl"
    assert (result.events, result.completion_tokens) == (3, 6)


@pytest.mark.parametrize(
    ("manner", "changes", "error", "events"),
    [
        ("stall", {"stall_s": 0.5}, "no token for 0.5 s", 1),
        ("pings", {"stall_s": 0.5}, "no token for 0.5 s", 1),
        ("mute", {"timeout_s": 0.5}, "not done after 0.5 s", 0),
        ("forever", {"timeout_s": 0.7}, "not done after 0.7 s", None),
        ("cut", {}, "the connection was cut in the middle of the answer", 2),
        ("early", {}, "the stream ended before the answer did", 1),
        ("error", {}, "the server broke off: EngineCore died [2J see the log", 1),
        ("html", {}, "the server answered 502", 0),
        ("silent", {}, "the answer carried no text", 0),
        ("key", {"api_key": "sk-secret"}, "the server wants an API key (401): the server's message is withheld", 0),
        ("quote", {}, "the server answered 500: the server's message is withheld", 0),
        ("quote", {"prompt": CHINESE}, "the server answered 500: the server's message is withheld", 0),
        ("echo", {}, "the server answered 422: Input should be valid", 0),
    ],
)
def test_what_goes_wrong_is_one_clause(
    server: SseServer, manner: str, changes: dict[str, object], error: str, events: int | None
) -> None:
    result, _ = ask(server, manner, **changes)
    assert not result.ok
    assert result.error.startswith(error)
    assert result.error.isprintable()
    assert ENGLISH not in result.error and CHINESE[:8] not in result.error and "secret" not in result.error
    assert result.e2e_ms is None
    assert result.notes["e2e_ms"] == result.error
    if events is None:
        assert result.events > 0
    else:
        assert result.events == events
        assert (result.ttft_ms is not None) == (events > 0)


def test_a_server_that_never_closes_the_body_is_left_after_done(server: SseServer) -> None:
    result, text = ask(server, "linger")
    assert result.ok, result.error
    assert text == "".join(TOKENS)
    assert server.dropped.wait(PATIENCE)


def test_nobody_there(server: SseServer) -> None:
    gone = request(server, "ok")
    server.close()
    with ProbeClient(gone) as client:
        result = client.ask(lambda delta: None)
    assert result.error == "connection refused; nothing listens there"


def test_the_proxy_of_the_environment_is_never_used_for_this_machine(
    server: SseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ask(server, "ok", trust_env=True)[0].ok


def test_addresses() -> None:
    assert base_url("http://h:8000/v1/") == base_url("http://h:8000") == "http://h:8000"
    for here in ("http://localhost:1", "http://127.8.0.1", "http://[::1]:8000", "http://0.0.0.0:8000"):
        assert is_here(here), here
    for elsewhere in ("http://10.0.0.1", "http://example.org", "http://localhost.example.org", "nonsense"):
        assert not is_here(elsewhere), elsewhere


def test_a_bad_address_or_certificate_file_is_a_plain_error(server: SseServer, tmp_path: Path) -> None:
    for url in ("ftp://127.0.0.1", "http://h:port", "nonsense"):
        with ProbeClient(request(server, "ok", url=url)) as client:
            assert client.ask(lambda delta: None).error == "the address is not one of http or https"
    with pytest.raises(QtopError, match=r"certificate file ca\.pem"):
        ProbeClient(request(server, "ok", url="https://127.0.0.1", verify=str(tmp_path / "ca.pem")))
    with pytest.raises(QtopError, match="API key"):
        ProbeClient(request(server, "ok", api_key="sk-\n"))


def test_a_proxy_that_cannot_be_used_is_a_plain_error(server: SseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://user:secret@127.0.0.1")
    with pytest.raises(QtopError, match="proxy") as caught:
        ProbeClient(request(server, "ok", url="http://example.invalid", trust_env=True))
    assert "secret" not in str(caught.value)


def test_transport_errors_have_a_clause_each() -> None:
    def clause(error: Exception, begun: bool = False) -> str:
        return refusal.transport_text(error, begun=begun, timeout_s=30.0, connect_s=10.0)

    assert clause(httpx.ConnectTimeout("")) == "no connection within 10 s"
    assert clause(httpx.ReadTimeout("")) == "not done after 30 s"
    assert "certificate" in clause(httpx.ConnectError(str(ssl.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED] x"))))
    assert "https" in clause(httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER]"))
    assert "host name" in clause(httpx.ConnectError("[Errno -2] Name or service not known"))
    assert "before" in clause(httpx.RemoteProtocolError("x"))
    assert "middle" in clause(httpx.ReadError("x"), begun=True)
    assert clause(ValueError("the prompt")) == "the request failed (ValueError)"


def test_a_repr_does_not_show_the_key_or_the_prompt(server: SseServer) -> None:
    shown = repr(request(server, "ok", api_key="sk-secret"))
    assert "secret" not in shown
    assert ENGLISH not in shown
    assert "secret" not in str(request(server, "ok", api_key="sk-secret").__rich_repr__())


def test_an_answer_in_one_piece_that_says_no_end_is_no_stream(server: SseServer) -> None:
    result, _ = ask(server, "piece")
    assert (result.ok, result.error) == (False, "the server sent no event stream")
    assert (result.ttft_ms, result.e2e_ms, result.unstreamed) == (None, None, False)


def test_the_built_in_prompts() -> None:
    assert 20 <= len(CHINESE) <= 32
    assert "量子纠缠" in CHINESE
    assert ENGLISH.isascii()
    assert tagged(ENGLISH) != tagged(ENGLISH)
