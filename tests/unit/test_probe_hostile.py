"""Servers that say what cannot be: each costs a note or a failed request, never a figure, a request or a thread."""

from __future__ import annotations

import argparse
import json
import socket
import threading
import time
from pathlib import Path

import msgspec
import pytest
from tests.unit.test_probe_cut import HEAD, ask, raw
from tests.unit.test_probe_summary import REQUEST, result

from qtop.errors import QtopError
from qtop.model.presets import preset_decoder
from qtop.model.roofline import Hardware, shape
from qtop.plan.acceptance import accept
from qtop.probe import refusal
from qtop.probe.baseline import load
from qtop.probe.choice import chosen
from qtop.probe.client import ProbeClient
from qtop.probe.load import Load
from qtop.probe.messages import ProbeEvent, ProbeRequest
from qtop.probe.selfcheck import SelfCheck
from qtop.probe.summary import summarise_all
from qtop.report.probe_documents import probe_document
from qtop.sample import Absent, Why
from qtop.verbs.check import _tell, streams_of
from qtop.verbs.probe import _print
from qtop.verbs.testing import Outcome

NO_ROOFLINE = Absent(Why.UNSUPPORTED, "no roofline for this model and GPU")
CHECK = SelfCheck(stamps="kernel", seconds=1.0, cpu_share=0.0)
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\n'


def usage(count: str) -> bytes:
    return f'data: {{"choices":[],"usage":{{"prompt_tokens":{count},"completion_tokens":{count}}}}}\n\n'.encode()


@pytest.mark.parametrize("count", ["9" * 400, "1e308", "-5", "true", '"7"', "NaN", "[]", "10000001"])
def test_counts_that_cannot_be_are_no_counts(count: str) -> None:
    with raw(HEAD + TOKEN + TOKEN + usage(count) + END, False) as url:
        one, _ = ask(url)
    assert one.ok and one.completion_tokens is None and one.prompt_tokens is None
    json.dumps(msgspec.to_builtins(one), allow_nan=False)


@pytest.mark.parametrize("value", ["9" * 400, "1e308", "-1e308", "-1", "true", '"7"', "{}"])
def test_times_that_cannot_be_are_no_times(value: str) -> None:
    times = f'data: {{"choices":[],"metrics":{{"queue_time_ms":{value},"mean_itl_ms":{value}}}}}\n\n'.encode()
    with raw(HEAD + TOKEN + TOKEN + times + END, False) as url:
        one, _ = ask(url)
    assert one.ok and one.server is None
    assert summarise_all([one] * 6).server is None


@pytest.mark.parametrize(
    "event",
    [b"[" * 200_000, b'{"error":' * 3000 + b'"x"' + b"}" * 3000, b'{"choices":[{"delta":[]}]}', b"null", b'"x"'],
)
def test_events_of_no_form_end_nothing(event: bytes) -> None:
    with raw(HEAD + TOKEN + b"data: " + event + b"\n\n" + END, False) as url:
        one, _ = ask(url)
    assert one.events == 1 and (one.ok or one.error.isprintable())


def test_what_was_sent_does_not_come_back_as_a_reason() -> None:
    said = "Authorization: Bearer sk-secret \\u001b[2J"
    with raw(HEAD + TOKEN + END.replace(b"length", said.encode()), False) as url:
        one, _ = ask(url)
    assert one.ok and one.finish_reason == "other"


def test_a_message_does_not_hide_the_prompt_or_the_key() -> None:
    prompt, key = "Why does bread dough rise in the morning?", "sk-AbC123xyz"
    withheld = "the server's message is withheld because it quotes the request"
    for message in (" " * 4100 + prompt, prompt.replace(" ", "  \n"), "SK-ABC123XYZ", "sk-Ab\u200bC12\x003xyz"):
        assert refusal.clean(message, prompt, key) == withheld, message[-60:]
    assert refusal.clean("out of memory", prompt, key) == "out of memory"


@pytest.mark.parametrize("dribble", [b"X-A: b\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_that_never_ends_ends(dribble: bytes) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if not dribble.startswith(b"HTTP"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.05):
                    try:
                        connection.sendall(dribble)
                    except OSError:
                        return

        threading.Thread(target=serve, daemon=True).start()
        begun = time.monotonic()
        one, _ = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.8, stall_s=10.0)
        stop.set()
    assert one.error == "not done after 0.8 s" and one.timed_out
    assert time.monotonic() - begun < 8


def test_the_time_of_a_request_that_failed_counts() -> None:
    with raw(b"", False) as url:
        one, _ = ask(url)
    assert one.ended >= one.started
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute, _ = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.5)
    assert not mute.ok and mute.ended - mute.started > 0.3


def test_a_fault_of_the_probers_own_is_a_failed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(ProbeClient, "ask", broken)
    asked = ProbeRequest(url="http://127.0.0.1:9", model="m", prompt="x", requests=3, concurrency=3, warmup=1)
    events: list[ProbeEvent] = []
    with ProbeClient(asked) as client:
        Load(client, asked, events.append).run()
    found = [event.result for event in events if event.result is not None]
    assert len(found) >= 2  # and after so many in a row it gives up, as it does for a server
    assert {one.error for one in found} == {"the prober failed (RuntimeError)"}
    assert events[-1].kind == "report"


def test_a_prompt_that_is_no_text_is_one_line() -> None:
    with pytest.raises(QtopError, match="not text in UTF-8"):
        chosen("a\udcff", 64, None)


def test_a_tokenizer_that_counts_nonsense_is_not_believed() -> None:
    for body in (
        b'{"count": ' + b"9" * 400 + b"}",
        b'{"count": 99}',
        b"[" * 100_000,
        b'{"tokens": 7}',
        b'{"count": -1}',
    ):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with raw(answer, False) as url, ProbeClient(ProbeRequest(url=url, model="m", prompt="x")) as client:
            assert client.count_tokens("a b c") is None


def test_an_answer_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    _print("\x1b]0;PWNED\x07 sky\n\tis\x1b[2J 量子")
    assert capsys.readouterr().out == " ]0;PWNED  sky\n\tis [2J 量子"


# The acceptance test


def told(outcome: Outcome, capsys: pytest.CaptureFixture[str], requests: int = 20) -> tuple[int, dict[str, object]]:
    asked = msgspec.structs.replace(REQUEST, requests=requests)
    code = _tell(argparse.Namespace(json=True), asked, outcome, NO_ROOFLINE, None)
    return code, json.loads(capsys.readouterr().out)


def test_a_test_that_did_not_run_to_its_end_has_not_passed(capsys: pytest.CaptureFixture[str]) -> None:
    good = [result(i=k) for k in range(40)]
    assert told(Outcome(good[:20], CHECK), capsys)[0] == 0
    code, document = told(Outcome(good[:20], CHECK), capsys, requests=40)
    assert (code, document["passed"]) == (1, False)  # twenty have vanished
    code, document = told(Outcome(good, CHECK, error="the test process ended (signal 9)"), capsys, requests=40)
    assert (code, document["passed"], document["ended_early"]) == (1, False, "the test process ended (signal 9)")


def test_the_line_is_for_the_streams_that_ran() -> None:
    few = msgspec.structs.replace(REQUEST, concurrency=1024, requests=20)
    assert streams_of(few, [result()]) == 20
    scheduled = msgspec.structs.replace(REQUEST, rate=10.0, concurrency=0)
    # Five requests of 0.2 s each in one second: one in flight on the mean.
    assert streams_of(scheduled, [result(started=k * 0.2) for k in range(5)]) == 1
    assert streams_of(scheduled, [result(started=0.0) for _ in range(8)]) == 8


def test_token_counts_do_not_move_the_line() -> None:
    card = Hardware(shape(preset_decoder("Qwen3-4B")), 3.35e12, 1, "NVIDIA H100 80GB HBM3")
    honest = summarise_all([result(tokens=256, i=k) for k in range(20)])
    inflated = msgspec.structs.replace(honest, output_tokens=20 * 10**30)
    limits = [accept(one, card, "", 1, 256, 20).lines[-1].limit for one in (honest, inflated)]
    assert limits[1] == pytest.approx(limits[0], rel=0.01)


def test_a_baseline_that_cannot_judge_is_refused(tmp_path: Path) -> None:
    for results, clause in (
        ([], "holds 0 good requests"),
        ([result(error="cut")] * 9, "holds 0 good requests"),
        ([msgspec.structs.replace(result(), ttft_ms=1e308)] * 9, "times that cannot be"),
    ):
        document = probe_document(REQUEST, results, summarise_all(results[:1]), None, None)
        (tmp_path / "x.json").write_text(json.dumps(document))
        with pytest.raises(QtopError, match=clause):
            load(tmp_path / "x.json")
