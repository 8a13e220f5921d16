"""Streams that are cut, never end, or are not what they should be: each a typed outcome with what had arrived."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtop.probe.client import ProbeClient
from qtop.probe.messages import ProbeRequest
from qtop.probe.timing import ProbeResult

CAPTURE = Path(__file__).parents[1] / "data" / "captures" / "vllm.chat.sse"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
BODY = CAPTURE.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")[2].lstrip(b"\n")
EVENTS = BODY.count(b'"content":"') - BODY.count(b'"content":""')


@contextmanager
def raw(payload: bytes, reset: bool) -> Iterator[str]:
    """A server that writes these bytes to whoever asks, and then closes or resets the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                connection.recv(65536)
                connection.sendall(payload)
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def ask(url: str, **more: object) -> tuple[ProbeResult, str]:
    text: list[str] = []
    fields = {"url": url, "model": "m", "prompt": "Why?", "api": "chat", "stall_s": 2.0, "timeout_s": 2.0, **more}
    with ProbeClient(ProbeRequest(**fields)) as client:  # type: ignore[arg-type]
        result = client.ask(lambda delta: text.append(delta.text))
    return result, "".join(text)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.02, 0.1, 0.25, 0.5, 0.501, 0.75, 0.9, 0.99, 1.0])
def test_a_stream_cut_anywhere_keeps_what_had_arrived(share: float, reset: bool) -> None:
    kept = BODY[: int(len(BODY) * share)]
    with raw(HEAD + kept, reset) as url:
        result, text = ask(url)
    told = kept.rpartition(b"\n\n")[0]
    whole = b'"finish_reason":"length"' in told or b'"finish_reason":"stop"' in told
    if not reset:  # a reset may throw away what had not been read yet
        assert result.ok == whole
        assert result.events == sum(
            bool(json.loads(line[6:])["choices"] and json.loads(line[6:])["choices"][0]["delta"].get("content"))
            for line in kept.decode().split("\n\n")[:-1]
            if line.startswith("data: {")
        )
    assert result.events <= EVENTS and bool(text) == bool(result.events)
    if not result.ok:
        assert result.error.isprintable() and len(result.error) < 120
        assert (result.ttft_ms is not None) == (result.events > 0 and "lost" not in result.notes.get("ttft_ms", ""))


@pytest.mark.parametrize(
    "head", [b"", b"\0" * 64, b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200", b"HTTP/1.1 999 \r\n\r\n"]
)
def test_what_is_no_answer_is_one_clause(head: bytes) -> None:
    with raw(head, False) as url:
        result, _ = ask(url)
    assert not result.ok and result.error.isprintable()


def test_invalid_utf8_and_line_separators_inside_json_end_nothing() -> None:
    piece = 'data: {"choices":[{"delta":{"content":"a\u2028b\u0085c"}}]}\n\n'.encode()
    broken = b'data: {"choices":[{"delta":{"content":"\xff\xfe"}}]}\n\n'
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    with raw(HEAD + piece + broken + end, False) as url:  # [DONE] is missing too
        result, text = ask(url)
    assert result.ok and result.events == 2
    assert text == "a\u2028b\u0085c\ufffd\ufffd"


def test_an_error_object_in_the_middle_is_told_with_what_had_arrived() -> None:
    first = BODY[: BODY.index(b"\n\n", len(BODY) // 3) + 2]
    error = b'data: {"error": {"message": "CUDA error: out of memory", "code": 500}}\n\n'
    with raw(HEAD + first + error, False) as url:
        result, _ = ask(url)
    assert not result.ok and result.events > 5
    assert result.error == "the server broke off: CUDA error: out of memory"


def test_a_body_that_never_ends_ends() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(HEAD)
                while not stop.wait(0.01):
                    try:
                        connection.sendall(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n')
                    except OSError:
                        return

        threading.Thread(target=serve, daemon=True).start()
        result, _ = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.6)
        stop.set()
    assert result.error == "not done after 0.6 s" and result.timed_out
    assert result.events > 1 and result.ttft_ms is not None
