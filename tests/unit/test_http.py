"""Requests to servers that are sick, foreign or hostile: always a short reason, never an exception, never for long."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.hostile import KEY, Hostile

from qtop import __version__
from qtop.collect.address import is_local, normalise_url
from qtop.collect.http import Access, Body, ask, fetch, fetch_json, open_client
from qtop.errors import QtopError
from qtop.sample import Absent, Why

TLS = Path(__file__).parent.parent / "data" / "tls"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that nothing listens on, kept from others."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def get(
    url: str, path: str = "/metrics", key: str | None = None, verify: bool | str = True, **more: float
) -> Body | Absent:
    timeout = more.pop("timeout", 5.0)
    with open_client(Access(url, key, verify), timeout) as client:
        return fetch(client, path, **more)  # type: ignore[arg-type]


def reason(answer: object) -> Absent:
    assert isinstance(answer, Absent), answer
    assert "\n" not in answer.detail and len(answer.detail) < 120
    return answer


# ---- addresses


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        (" 127.0.0.1:8000/ ", "http://127.0.0.1:8000"),
        ("8000", "http://127.0.0.1:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("gpu-box", "http://gpu-box"),
        ("HTTPS://GPU-box.example:443/v1", "https://gpu-box.example:443"),
        ("http://h:1/v1/chat/completions", "http://h:1"),
        ("http://h:1/v1/", "http://h:1"),
        ("http://h:1/metrics", "http://h:1"),
        ("http://h:1/team/llm/v1", "http://h:1/team/llm"),
        ("http://h:1/v1beta", "http://h:1/v1beta"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("http://0.0.0.0:8000", "http://0.0.0.0:8000"),
    ],
)
def test_what_people_paste_becomes_a_base_url(text: str, url: str) -> None:
    assert normalise_url(text) == url
    assert Access(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "  ", "ftp://h:1", "http://", "h:99999", "h:0", "h:x", "::1:8000", "http://h:1/?q=1", "http://h/#f"),
        *(
            "a b:1",
            "http://[::1",
            "http://[zz]:1",
            "a..b:1",
            "-h:1",
            "x" * 300,
            "1.2.3:80",
            "h\x00:1",
            "http://h:1/a b",
        ),
        "http://ü:1",
    ],
)
def test_nonsense_is_one_clear_line(text: str) -> None:
    with pytest.raises(QtopError) as caught:
        normalise_url(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(QtopError) as caught:
        Access("http://me:hunter2@h:8000")
    assert "hunter2" not in str(caught.value)
    assert "--api-key-file" in str(caught.value)


@given(st.text(max_size=40) | st.from_regex(r"(https?://)?[a-z0-9.\[\]:-]{1,20}(/[a-z0-9/]*)?", fullmatch=True))
def test_any_text_is_a_url_that_httpx_takes_or_a_qtop_error(text: str) -> None:
    try:
        url = normalise_url(text)
    except QtopError:
        return
    assert normalise_url(url) == url
    assert str(httpx.URL(url)).startswith(("http://", "https://"))


def test_this_host_by_any_name_is_local() -> None:
    assert all(map(is_local, ["localhost", "api.localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "0.0.0.0"]))
    assert is_local("::ffff:127.0.0.1")
    assert is_local(socket.gethostname())
    assert not any(map(is_local, ["192.0.2.77", "2001:db8::77", "gpu.example", "localhost.example"]))


# ---- the client


def test_a_local_server_is_reached_past_a_dead_proxy(monkeypatch: pytest.MonkeyPatch, dead_port: int) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{dead_port}")
    with Hostile("vllm") as server:
        assert isinstance(get(server.url, "/health"), Body)
        assert isinstance(get(f"localhost:{server.port}", "/health"), Body)
    away = reason(get("http://192.0.2.77:8000"))  # TEST-NET-1: no such host, so only the proxy can refuse
    assert away.detail == f"nothing listens on the proxy 127.0.0.1:{dead_port}"


@pytest.mark.parametrize("proxy", ["socks5://user:hunter2@127.0.0.1:1", "gopher://x:1", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(QtopError) as caught:
        open_client(Access("http://192.0.2.77:8000"))
    assert "hunter2" not in str(caught.value)
    open_client(Access("http://127.0.0.1:8000")).close()


def test_every_route_gets_the_key_and_the_name_of_qtop() -> None:
    with Hostile("locked") as server, open_client(Access(server.url, f"{KEY}\n")) as client:
        for path in ("/metrics", "/version", "/v1/models", "/health"):
            assert isinstance(fetch(client, path), Body)
        assert {x.headers["authorization"] for x in server.seen} == {f"Bearer {KEY}"}
        assert {x.headers["user-agent"] for x in server.seen} == {f"qtop/{__version__}"}
        assert len(server.seen) == 4


def test_the_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with Hostile("locked") as server:
        access = Access(server.url, "sk-very-secret")
        denied = reason(get(server.url, "/v1/models", "sk-very-secret"))
    assert denied == Absent(Why.DENIED, "the server refuses this API key on /v1/models")
    assert "sk-very-secret" not in repr(access) + caplog.text
    with pytest.raises(QtopError) as caught:
        Access("h:1", "sk-very\nsecret")
    assert "sk-very" not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    with Hostile("redirect") as server:
        answer = reason(get(server.url, key=KEY))
        assert "redirects" in answer.detail
        assert len(server.seen) == 1


def test_requests_share_one_connection() -> None:
    with Hostile("vllm") as server, open_client(Access(server.url)) as client:
        for path in ("/metrics", "/nowhere", "/v1/models", "/metrics"):
            ask(client, path)
        assert len(server.seen) == 4
        assert len({x.client_port for x in server.seen}) == 1


def test_a_connection_that_the_server_dropped_is_opened_again() -> None:
    with Hostile("stale") as server, open_client(Access(server.url)) as client:
        assert [type(fetch(client, "/health")) for _ in range(4)] == [Body] * 4


# ---- failures, each with its reason


def test_a_good_answer() -> None:
    with Hostile("vllm") as server:
        body = get(server.url)
    assert isinstance(body, Body)
    assert (body.status, body.content_type, body.server, body.cut) == (200, "text/plain", "uvicorn", False)
    assert "vllm:num_requests_running" in body.text()
    assert body.took_ms > 0


def test_nothing_listens(dead_port: int) -> None:
    assert reason(get(f"127.0.0.1:{dead_port}")) == Absent(Why.LOST, f"nothing listens on 127.0.0.1:{dead_port}")


def test_accepted_and_never_answered() -> None:
    with Hostile("silent") as server:
        answer = reason(get(server.url, timeout=0.3))
    assert answer == Absent(Why.FAILED, f"127.0.0.1:{server.port} accepted but did not answer within 0.3 s")


@pytest.mark.parametrize(("mode", "clause"), [("drip", "/metrics was not complete"), ("drip-head", "did not answer")])
def test_a_drip_ends_at_the_deadline(mode: str, clause: str) -> None:
    """Each byte comes in good time, so that no timeout of a single read helps."""
    started = time.monotonic()
    with Hostile(mode) as server:
        answer = reason(get(server.url, timeout=30.0, deadline_s=0.4))
    assert answer.why is Why.FAILED
    assert clause in answer.detail
    assert time.monotonic() - started < 20.0


def test_the_deadline_of_one_request_does_not_bind_the_next() -> None:
    with Hostile("vllm", gap_s=0.05) as server, open_client(Access(server.url), 5.0) as client:
        assert isinstance(fetch(client, "/health", deadline_s=1.0), Body)
        time.sleep(1.1)
        with client.stream("POST", "/v1/completions", json={}) as response:  # on the same connection
            assert next(response.iter_raw()).startswith(b"data: ")


@pytest.mark.parametrize(
    ("mode", "path", "why", "clause"),
    [
        ("huge", "/metrics", Why.FAILED, "/metrics is larger than 8 MiB"),
        ("endless", "/metrics", Why.FAILED, "/metrics is larger than 8 MiB"),
        ("cut", "/metrics", Why.FAILED, "/metrics was cut off after 29 KiB"),
        ("cut-chunked", "/metrics", Why.FAILED, "/metrics was cut off after"),
        ("compressed", "/metrics", Why.FAILED, "/metrics came compressed"),
        ("garbage", "/metrics", Why.FAILED, "does not answer in HTTP"),
        ("reset", "/metrics", Why.LOST, "closed the connection without an answer"),
        ("close", "/metrics", Why.LOST, "closed the connection without an answer"),
        ("failing", "/metrics", Why.FAILED, "/metrics answered HTTP 500"),
        ("loading", "/metrics", Why.NOT_YET, "the server is loading its model"),
        ("vllm", "/nowhere", Why.UNSUPPORTED, "the server has no /nowhere"),
        ("llamacpp-bare", "/slots", Why.UNSUPPORTED, "the server has no /slots"),
        ("locked", "/v1/models", Why.DENIED, "the server wants an API key: set --api-key-file or QTOP_API_KEY"),
        ("locked-gateway", "/metrics", Why.DENIED, "the server wants an API key"),
    ],
)
def test_every_failure_has_its_reason(mode: str, path: str, why: Why, clause: str) -> None:
    with Hostile(mode) as server:
        answer = reason(get(server.url, path))
    assert answer.why is why
    assert clause in answer.detail


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    answer = reason(get("http://no-such-host.invalid:8000"))
    assert answer == Absent(Why.FAILED, "no address is known for no-such-host.invalid")


def test_part_of_an_answer_where_part_is_enough() -> None:
    for mode in ("cut", "cut-chunked", "endless", "drip"):
        with Hostile(mode, gap_s=0.0) as server, open_client(Access(server.url)) as client:
            body = ask(client, "/metrics", limit=4_000, deadline_s=2.0, allow_cut=True)
        assert isinstance(body, Body), mode
        assert body.cut
        assert 0 < len(body.data) <= 4_000


def test_a_closed_client_is_a_reason_too() -> None:
    client = open_client(Access("127.0.0.1:9"))
    client.close()
    reason(fetch(client, "/metrics"))


class _Count(msgspec.Struct):
    n: int


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"n":"3"}', b"\xff\xfe", b"[" * 200_000, b"<html>", b'{"n":1e400}'],
    ids=lambda x: repr(x[:9]),
)
def test_json_of_another_shape_is_a_reason(data: bytes) -> None:
    with (
        Hostile("vllm", routes={"/x": (200, "application/json", data)}) as server,
        open_client(Access(server.url)) as client,
    ):
        answer = reason(fetch_json(client, "/x", _Count))
    assert answer.why is Why.FAILED


# ---- TLS


def test_a_self_signed_certificate_says_what_to_pass() -> None:
    with Hostile("vllm", tls="localhost") as server:
        answer = reason(get(server.url))
    assert answer == Absent(Why.FAILED, "the certificate of 127.0.0.1 is not trusted: pass --ca FILE or --insecure")


def test_the_right_ca_or_insecure_lets_it_through() -> None:
    with Hostile("vllm", tls="localhost") as server:
        assert isinstance(get(server.url, verify=str(TLS / "localhost.pem")), Body)
        assert isinstance(get(server.url, verify=False), Body)
        reason(get(server.url, verify=str(TLS / "othername.pem")))


def test_a_certificate_for_another_name() -> None:
    with Hostile("vllm", tls="othername") as server:
        answer = reason(get(server.url, verify=str(TLS / "othername.pem")))
    assert "is for another name" in answer.detail


def test_tls_that_drips_ends_at_the_deadline() -> None:
    with Hostile("drip-head", tls="localhost") as server:
        answer = reason(get(server.url, verify=False, timeout=30.0, deadline_s=0.4))
    assert "did not answer" in answer.detail


def test_https_to_a_plain_server_and_http_to_a_tls_server() -> None:
    with Hostile("vllm") as server:
        assert "does not speak TLS" in reason(get(server.url.replace("http:", "https:"))).detail
    with Hostile("vllm", tls="localhost") as server:
        reason(get(server.url.replace("https:", "http:")))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        assert "did not answer in TLS within 0.3 s" in reason(get(f"https://127.0.0.1:{port}", timeout=0.3)).detail


@pytest.mark.parametrize("name", ["/no/such/file.pem", __file__])
def test_a_ca_file_that_is_none(name: str) -> None:
    with pytest.raises(QtopError, match="cannot read CA certificates"):
        open_client(Access("https://127.0.0.1:1", verify=name))


def test_a_containers_address_is_near_and_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with (
        open_client(Access("http://10.99.0.2:8000", near=True)) as near,
        open_client(Access("http://10.99.0.2:8000")) as far,
    ):
        assert not near._mounts
        assert far._mounts
