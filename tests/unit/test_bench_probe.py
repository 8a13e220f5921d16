"""The benchmark of load tools: the timetable, the server that keeps it, what is matched with what, the errors."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qtop.probe.answer import Answer
from qtop.probe.sse import SseParser

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def scripts_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by name."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def module(name: str) -> Any:
    return import_module(name)


def timetable(mode: str, **more: Any) -> Any:
    schedule = module("bench_probe_schedule")
    return schedule.Timetable(schedule.Plan(mode=mode, **more), 1000.0)


def request(**more: Any) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "say"}], "stream": True} | more).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("mode", ["together", "staggered"])
def test_instants_are_known_beforehand_and_some_gaps_are_stalls(mode: str) -> None:
    first, again = (timetable(mode).due(3, 1000.5, 100) for _ in range(2))
    assert first == again
    assert 1000.6 <= first[0] <= 1000.5 + 0.1 + 0.02 + 0.104
    gaps = [b - a for a, b in pairwise(first)]
    stalls = [gap for gap in gaps if gap > 0.08]
    assert 2 <= len(stalls) <= 3
    assert all(0.016 <= gap <= 0.024001 for gap in gaps if gap <= 0.08)
    assert len({round(gap, 6) for gap in gaps}) > 90


def test_together_streams_share_their_instants_and_staggered_they_do_not() -> None:
    shared = timetable("together")
    one, other = set(shared.due(1, 1000.0, 60)), set(shared.due(2, 1000.01, 60))
    assert len(one & other) >= 55
    own = timetable("staggered")
    streams = [own.due(number, 1000.0, 60) for number in range(1, 17)]
    assert len({instant for stream in streams for instant in stream}) == 16 * 60
    firsts = sorted(stream[0] for stream in streams)
    assert max(b - a for a, b in pairwise(firsts)) < 0.004  # spread over one gap of 20 ms


def test_without_stalls_and_jitter_every_gap_is_the_same() -> None:
    due = timetable("staggered", jitter=0.0, stall_every=0, rate=100.0).due(1, 1000.0, 20)
    assert [b - a for a, b in pairwise(due)] == pytest.approx([0.01] * 19)


def test_a_request_is_whole_only_with_its_last_byte() -> None:
    http = module("known_sse_http")
    data = request(max_tokens=5)
    assert all(http.parse(data[:size]) is None for size in range(len(data)))
    whole = http.parse(data + b"GET")
    assert (whole.method, whole.path, whole.size) == ("POST", "/v1/chat/completions", len(data))
    wish = http.answer(whole, 0, 0, 1)
    assert (wish.tokens, wish.stream, wish.usage) == (5, True, False)
    assert http.answer(http.parse(b"POST /v1/completions\r\n\r\n"), 0, 0, 1).data.startswith(b"HTTP/1.1 400")
    refused = http.parse(request(max_tokens=10**6))
    assert http.answer(refused, 0, 0, 1).data.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("tokens", [1, 2, 7])
def test_its_frames_are_an_answer_that_qtop_reads(path: str, tokens: int) -> None:
    http = module("known_sse_http")
    frames = http.frames(http.Generate(path, tokens, True, True), 17)
    answer, parser = Answer(), SseParser()
    for index in range(frames.count):
        data, rest = b"", frames.at(index)
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            data, rest = data + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        answer.take(parser.feed(data), float(index))
    assert answer.events == [float(index) for index in range(tokens)]
    assert answer.t_done == tokens - 1
    assert answer.finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (17, tokens) if answer.usage else False


def true(number: int, sent: float, ttft: float, *gaps: float) -> Any:
    return module("bench_probe_truth").Truth(number, sent, ttft, gaps)


def reported(**fields: Any) -> Any:
    return module("bench_probe_truth").Reported(**fields)


def test_results_are_matched_by_number_whatever_their_order() -> None:
    truth = module("bench_probe_truth")
    truths = [true(number, float(number), 100.0, 20.0, 20.0) for number in (1, 2, 3)]
    pairs = truth.match(truths, [reported(number=3), reported(number=1), reported(number=9)])
    assert [(one.number, other.number) for one, other in pairs] == [(3, 3), (1, 1)]
    with pytest.raises(truth.NoMatch, match="same number"):
        truth.match(truths, [reported(number=3), reported(number=3)])


def test_without_numbers_they_are_matched_in_the_order_of_sending_if_none_is_missing() -> None:
    truth = module("bench_probe_truth")
    truths = [true(2, 11.0, 100.0), true(1, 10.0, 100.0)]
    pairs = truth.match(truths, [reported(sent=10.9999, ttft=2.0), reported(sent=9.9999, ttft=1.0)])
    assert [(one.number, other.ttft) for one, other in pairs] == [(1, 1.0), (2, 2.0)]
    assert [one.number for one, _ in truth.match(truths, [reported(), reported()])] == [1, 2]
    warmed_up = truth.match(truths, [reported(sent=10.9999, ttft=2.0)])
    assert [(one.number, other.ttft) for one, other in warmed_up] == [(2, 2.0)]
    with pytest.raises(truth.NoMatch, match="1 results without numbers for 2"):
        truth.match(truths, [reported(ttft=1.0)])


def test_errors_are_of_each_event_where_a_tool_reports_each() -> None:
    truth = module("bench_probe_truth")
    truths = [true(1, 0.0, 100.0, 20.0, 30.0), true(2, 0.0, 110.0, 20.0)]
    mine = [reported(number=1, ttft=101.0, gaps=(21.0, 28.0)), reported(number=2, ttft=109.5, gaps=(20.0, 0.0))]
    found = truth.compare(truths, mine)
    assert (found.matched, found.unmatched, found.itl_of) == (2, 1, "gap")  # one has a gap too many
    assert (found.ttft.count, found.ttft.largest, found.ttft.bias) == (2, 1.0, 0.25)
    assert (found.itl.count, found.itl.p50, found.itl.largest, found.itl.bias) == (2, 1.5, 2.0, -0.5)
    assert found.summary["ttft_p50"] == (105.25, 105.0)
    warm = truth.compare(truths, mine, first=1)
    assert (warm.matched, warm.ttft.bias, warm.itl) == (1, -0.5, None)
    assert warm.summary["ttft_p50"] == (105.25, 105.0)


def test_of_a_tool_that_gives_means_it_is_the_error_of_what_it_sums_up() -> None:
    truth = module("bench_probe_truth")
    truths = [true(1, 0.0, 100.0, *[20.0] * 9, 120.0)]
    said = {"itl": truth.Percentiles(30.0, 30.0)}
    found = truth.compare(truths, [reported(number=1, ttft=100.0, mean_gap=30.0)], said)
    assert found.itl_of == "summary"
    assert found.itl.p50 == 10.0
    assert found.itl.p99 == pytest.approx(81.0)
    assert found.itl_mean.largest == 0.0


def test_the_aim_is_for_the_run_beside_the_dashboard_and_against_every_peer() -> None:
    truth, report, running = module("bench_probe_truth"), module("bench_probe_report"), module("bench_probe_run")
    server = truth.Server("kernel", "none", 1, (0, 0, 0), (0, 0, 0), (0, 0, 0), 0)

    def run(tool: str, p99: float, drawing: bool = False, streams: int = 16) -> Any:
        errors = truth.Comparison(ttft=truth.Errors(1, p99, p99, p99, p99), itl_of="gap", matched=1)
        errors.itl = errors.ttft
        return running.Run(tool, "1", "user", streams, "together", drawing, errors, server, 1.0, 1.0, None, 0.0)

    runs = [run("qtop", 0.1), run("qtop", 0.5, drawing=True), run("floor", 0.01), run("httpx", 4.0), run("other", 0.7)]
    met = report.aims(runs, [16], ["together"])
    assert [(one.figure, one.reached, one.best_peer, one.peer, one.met) for one in met] == [
        ("TTFT", 0.5, 0.7, "other", True),
        ("ITL", 0.5, 0.7, "other", True),
    ]
    assert not report.aims([*runs, run("better", 0.4)], [16], ["together"])[0].met
    # A run with one stream says nothing about sixteen.
    assert report.aims([run("qtop", 0.1, streams=1)], [16], ["together"])[0].reached is None
    assert any("other" in line for line in report.table(runs))


def test_qtops_results_are_read_in_both_shapes() -> None:
    tools = module("bench_probe_tools")
    qtop = tools.Qtop.__new__(tools.Qtop)
    old = {"ok": True, "error": "", "started": 5.0, "ttft_ms": 1.0, "gaps_ms": [2.0], "prompt_tokens": 7}
    new = {"t_send": 5.0, "ttft_ms": 1.0, "gaps_ms": [2.0], "stamps": "kernel"}
    read = qtop.read(Path(), json.dumps({"results": [old, old | {"ok": False, "ttft_ms": None}]}))
    assert (read.stamps, read.requests) == ("user", [reported(number=7, sent=5.0, ttft=1.0, gaps=(2.0,))])
    read = qtop.read(Path(), json.dumps({"requests": [new], "summary": {}}))
    assert (read.stamps, read.requests) == ("kernel", [reported(sent=5.0, ttft=1.0, gaps=(2.0,))])


def test_the_server_is_never_early_and_keeps_what_is_true_when_it_is_held_up(tmp_path: Path) -> None:
    running, truth = module("bench_probe_run"), module("bench_probe_truth")
    with running.known_server(tmp_path, "--rate", "200", "--stall-every", "0", "--ttft", "50") as server:
        port = int(server.url.rpartition(":")[2])
        clients = [socket.create_connection(("127.0.0.1", port), 30.0) for _ in range(3)]
        wish = request(max_tokens=200, stream_options={"include_usage": True}, ignore_eos=True)
        for client in clients:
            client.sendall(wish[:40])
        for client in clients:
            client.sendall(wish[40:])
        first = clients[0].recv(65536)
        time.sleep(0.2)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(0.4)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        answers = [until(client, b"0\r\n\r\n") for client in clients]
        clients[1].sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        exposition = until(clients[1], b"")
        for client in clients:
            client.close()
    assert first.startswith(b"HTTP/1.1 200")
    assert all(answer.count(b'"content":" ') == 200 for answer in (first + answers[0], *answers[1:]))
    assert b'vllm:generation_tokens_total{engine="0",model_name="known/instants"} 600' in exposition
    log = json.loads(server.log.read_text())
    assert [len(one["due"]) for one in log["requests"]] == [200, 200, 200]
    for one in log["requests"]:
        assert all(
            due <= before <= after for due, before, after in zip(*map(one.get, ("due", "before", "after")), strict=True)
        )
        assert one["received"] <= one["read"] < one["due"][0]
    truths, told = truth.read(server.log)
    assert [one.number for one in truths] == [1, 2, 3]
    assert all(max(one.gaps) > 300.0 for one in truths)  # held up for 400 ms, in the middle of 5 ms gaps
    assert told.requests == 3


def test_the_clients_of_the_benchmark_get_what_the_server_sent(tmp_path: Path) -> None:
    running, truth, tools = module("bench_probe_run"), module("bench_probe_truth"), module("bench_probe_tools")
    load = tools.Load(4, 8, 20, "together")
    for tool in (tools.Floor(), tools.Httpx()):
        folder = tmp_path / tool.name
        folder.mkdir()
        with running.known_server(folder, "--rate", "500") as server:
            output = running.execute(tool.command(server.url, load, folder), os.environ, folder, 60.0)
        results = tool.read(folder, output)
        found = truth.compare(truth.read(server.log)[0], results.requests)
        assert (found.matched, found.unmatched, found.itl.count) == (8, 0, 8 * 19)
        assert found.summary["ttft_p50"][0] >= 100.0


def until(client: socket.socket, end: bytes) -> bytes:
    """What comes up to ``end``, or up to the connection's end."""
    data = b""
    while not (end and data.endswith(end)):
        more = client.recv(65536)
        if not more:
            break
        data += more
    return data


def test_a_tool_that_fails_is_said_in_one_line(tmp_path: Path) -> None:
    running = module("bench_probe_run")
    reason = module("bench_run").CannotMeasure
    fails = [sys.executable, "-c", "import sys; sys.exit('no tokenizer\\nat all')"]
    with pytest.raises(reason, match="status 1: at all"):
        running.execute(fails, os.environ, tmp_path, 60.0)
    with pytest.raises(reason, match="does not end in 0 s"):
        running.execute([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path, 0.2)
