"""The live source against servers that end, come back, change, hang, lie and lock themselves up."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from tests.conftest import MakeLlamaServer
from tests.fakes.behaved import DATA
from tests.fakes.hostile import KEY, MODES, Hostile
from tests.fakes.spawned import Spawned

from qtop.clock import mono, wall
from qtop.collect import discover
from qtop.collect.discover import Candidate
from qtop.demo.server import DemoServer, free_port
from qtop.diagnose.rule import State
from qtop.model.frame import EngineView, Frame, HostView, SchedView
from qtop.sample import Absent, Sample, ServerInfo, Why
from qtop.session import Session, Snapshot
from qtop.source import live
from qtop.source.attach import Attachment, Target
from qtop.source.live import LiveSource

PATIENCE_S = 30.0
TICK = 0.25


@contextmanager
def watching(target: Target, interval: float = TICK) -> Iterator[Session]:
    """A started session on this target."""
    source = LiveSource(target, interval)
    session = Session(source, access=lambda: source.attached.access if source.attached else None)
    frames: list[Frame] = []
    session.listen(lambda snapshot: frames.append(snapshot.frame))
    session.start()
    try:
        yield session
    finally:
        session.close()
        assert source.failure == ""
        assert frames
        for frame in frames:
            nothing_negative(frame)


def nothing_negative(frame: Frame) -> None:
    """No rate, share or count of a frame is below zero, whatever happened to the counters."""
    for section in (frame.engine, frame.sched, frame.host, frame.own):
        if isinstance(section, Absent):
            continue
        for name in section.__struct_fields__:
            value = getattr(section, name)
            if isinstance(value, (int, float)):
                assert value >= 0, f"{type(section).__name__}.{name} = {value}"
    if isinstance(frame.sched, SchedView):
        for thread in frame.sched.threads:
            assert 0 <= thread.run <= 1 and 0 <= thread.wait <= 1


def until(session: Session, holds: Callable[[Snapshot], bool], what: str) -> Snapshot:
    """The first snapshot from now on for which this holds."""
    seen, deadline = 0, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        snapshot = session.wait(seen, 2.0)
        if snapshot is None:
            continue
        seen = snapshot.seq
        if holds(snapshot):
            return snapshot
    latest = session.latest
    assert latest is not None
    pytest.fail(f"{what} did not happen: server {latest.frame.server}, engine {latest.frame.engine}")


def pid_of(snapshot: Snapshot) -> object:
    server = snapshot.frame.server
    return server.pid if isinstance(server, ServerInfo) else None


def measured(snapshot: Snapshot) -> bool:
    """The server is there, its metrics give rates, and its threads are seen."""
    engine = snapshot.frame.engine
    known = isinstance(engine, EngineView) and isinstance(engine.prompt_tok_s, float)
    return known and isinstance(snapshot.frame.sched, SchedView)


def engine_of(snapshot: Snapshot) -> str:
    server = snapshot.frame.server
    return server.engine if isinstance(server, ServerInfo) else ""


# Ending, coming back, changing


def test_killed_and_started_again_on_the_same_port() -> None:
    with Spawned("vllm") as first, watching(Target(url=first.url)) as session:
        assert pid_of(until(session, measured, "measuring")) == first.pid
        first.signal(signal.SIGKILL)  # and not waited for: it stays a zombie
        lost = until(session, lambda one: isinstance(one.frame.server, Absent), "noticing its end")
        assert isinstance(lost.frame.server, Absent) and lost.frame.server.why is Why.LOST
        said = until(session, lambda one: str(first.pid) in str(one.frame.server), "saying so").verdict.headline
        assert "ended" in said and first.url in said
        finding = next(one for one in lost.findings if one.rule == "QT201")
        assert finding.state is State.CANNOT_TELL
        with Spawned("vllm", first.port) as second:
            back = until(session, lambda one: pid_of(one) == second.pid and measured(one), "finding it again")
            assert isinstance(back.frame.host, HostView)


def test_replaced_by_another_engine_on_the_same_port() -> None:
    with Spawned("vllm") as first, watching(Target(url=first.url)) as session:
        assert engine_of(until(session, measured, "measuring")) == "vllm"
        first.close()
        with Spawned("llamacpp", first.port) as second:
            now = until(session, lambda one: engine_of(one) == "llamacpp", "noticing the other")
            assert pid_of(now) == second.pid
            seen = until(session, lambda one: isinstance(one.frame.engine, EngineView), "its metrics")
            assert isinstance(seen.frame.engine, EngineView)
            assert isinstance(seen.frame.engine.preempt_s, Absent), "no counter of the one before is left"


def test_replaced_by_a_real_llamacpp(make_llama_server: MakeLlamaServer) -> None:
    with Spawned("vllm") as first, watching(Target(url=first.url)) as session:
        until(session, measured, "measuring")
        first.close()
        server: DemoServer = make_llama_server(threads=1, port=first.port)
        now = until(session, lambda one: engine_of(one) == "llamacpp" and measured(one), "measuring the other")
        assert pid_of(now) == server.pid
        server.stop()
        until(session, lambda one: isinstance(one.frame.server, Absent), "noticing its end")


@pytest.mark.parametrize(("before", "after"), [("vllm", "llamacpp"), ("llamacpp", "vllm"), ("vllm", "openai")])
def test_replaced_behind_the_same_process(before: str, after: str) -> None:
    """A supervisor or proxy holds the port: its pid stays, what answers is another."""
    with Hostile(before) as server, watching(Target(url=server.url)) as session:
        until(session, lambda one: isinstance(one.frame.engine, EngineView), "its metrics")
        server._listener.mode = MODES[after]
        until(session, lambda one: engine_of(one) == after, "noticing the other")


def test_another_model_on_the_same_port_is_another_server() -> None:
    models = b'{"object":"list","data":[{"id":"%s","object":"model","owned_by":"vllm"}]}'
    with Hostile("vllm", routes={"/v1/models": (200, "application/json", models % b"one")}) as first:
        attachment = Attachment(Target(url=first.url))
        assert model_of(attachment.read()) == "one"
    attachment.scraped(False)  # as the scraper says when nobody answers
    with Hostile("vllm", first.port, routes={"/v1/models": (200, "application/json", models % b"two")}):
        attachment.scraped(True)
        attachment._next = 0.0
        assert model_of(attachment.read()) == "two"


def model_of(server: ServerInfo | Absent) -> object:
    return server.model if isinstance(server, ServerInfo) else server


def test_a_server_that_starts_later_is_found() -> None:
    port = free_port()
    with watching(Target(url=f"http://127.0.0.1:{port}")) as session:
        nothing = until(session, lambda one: "nothing listens" in str(one.frame.server), "saying that it is not there")
        assert isinstance(nothing.frame.host, HostView), "the host is watched all the same"
        with Spawned("loading", port) as loading:
            until(session, lambda one: "loading" in str(one.frame.server), "saying that it loads")
            loading.close()
        with Spawned("vllm", port):
            until(session, measured, "measuring")


# Hanging and lying


def test_a_server_that_accepts_and_never_answers_any_more() -> None:
    with Spawned("vllm") as server, watching(Target(url=server.url)) as session:
        until(session, measured, "measuring")
        server.signal(signal.SIGSTOP)
        hung = until(session, lambda one: "did not answer" in str(one.frame.engine), "saying that it hangs")
        assert isinstance(hung.frame.server, ServerInfo) and isinstance(hung.frame.sched, SchedView)
        later = [session.wait(hung.seq + n, 2.0) for n in range(8)]
        assert all(one is not None for one in later), "the samples go on"
        server.signal(signal.SIGCONT)
        until(session, measured, "going on")


def test_a_server_that_never_answers_from_the_outset() -> None:
    with Hostile("silent") as server:
        said = Attachment(Target(url=server.url)).read()
    assert isinstance(said, Absent) and "accepted but did not answer" in said.detail


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("html", "HTML"),
        ("huge", "larger than"),
        ("endless", "larger than"),
        ("cut", "cut off"),
        ("cut-chunked", "cut off"),
        ("drip", "not complete"),
        ("compressed", "compressed"),
    ],
)
def test_metrics_that_are_none_cost_only_the_metrics(mode: str, told: str) -> None:
    with Hostile(mode) as server, watching(Target(url=server.url)) as session:
        seen = until(
            session,
            lambda one: told in str(one.frame.engine) and isinstance(one.frame.sched, SchedView),
            f'"{told}" about the metrics, and threads',
        )
        assert engine_of(seen) == "vllm" and isinstance(seen.frame.host, HostView)
        assert isinstance(seen.frame.engine, Absent) and "\n" not in seen.frame.engine.detail


@pytest.mark.parametrize("mode", ["website", "garbage", "reset", "close", "failing", "redirect", "drip-head"])
def test_what_is_no_server_is_said_in_one_clause(mode: str) -> None:
    with Hostile(mode) as server:
        said = Attachment(Target(url=server.url)).read()
    assert isinstance(said, Absent) and 0 < len(said.detail) < 160 and "\n" not in said.detail


# Locks


@pytest.mark.parametrize("mode", ["locked-all", "locked-gateway"])
def test_a_locked_server_says_how_to_unlock_it(mode: str) -> None:
    with Hostile(mode) as server:
        without = Attachment(Target(url=server.url)).read()
        wrong = Attachment(Target(url=server.url, api_key="wrong")).read()
        right = Attachment(Target(url=server.url, api_key=KEY)).read()
    if isinstance(without, Absent):
        assert without.why is Why.DENIED and "QTOP_API_KEY" in without.detail
    else:
        assert isinstance(without.model, Absent) and "QTOP_API_KEY" in without.model.detail
    assert isinstance(wrong, Absent) or isinstance(wrong.model, Absent)
    assert isinstance(right, ServerInfo) and isinstance(right.model, str)


def test_self_signed_certificates() -> None:
    with Hostile("vllm", tls="localhost") as server:
        plain = Attachment(Target(url=server.url)).read()
        assert isinstance(plain, Absent) and "--ca FILE or --insecure" in plain.detail
        for verify in (str(DATA / "tls" / "localhost.pem"), False):
            assert isinstance(Attachment(Target(url=server.url, verify=verify)).read(), ServerInfo)
        other = Attachment(Target(url=server.url, verify=str(DATA / "tls" / "othername.pem"))).read()
        assert isinstance(other, Absent) and "certificate" in other.detail
        unread = Attachment(Target(url=server.url, verify="/nonexistent.pem")).read()
        assert isinstance(unread, Absent) and "/nonexistent.pem" in unread.detail


def test_a_certificate_for_another_name() -> None:
    with Hostile("vllm", tls="othername") as server:
        said = Attachment(Target(url=server.url, verify=str(DATA / "tls" / "othername.pem"))).read()
    assert isinstance(said, Absent) and "another name" in said.detail


# The API key goes to nobody who was neither named nor recognised


def found(monkeypatch: pytest.MonkeyPatch, *servers: tuple[Hostile, str]) -> None:
    """Make discovery find exactly these servers, each with this engine hint."""
    unseen = Absent(Why.NOT_HERE)
    listed = tuple(Candidate(one.url, None, None, unseen, hint, "listens", False) for one, hint in servers)
    monkeypatch.setattr(discover, "candidates", lambda: listed)
    monkeypatch.setattr(discover, "pid_for_url", lambda _url: None)
    monkeypatch.setattr(discover, "starting", tuple)


def keys(server: Hostile) -> set[str | None]:
    return {seen.headers.get("authorization") for seen in server.seen}


@pytest.mark.parametrize("mode", ["website", "openai", "locked", "locked-all", "locked-gateway", "vllm", "redirect"])
def test_an_unrecognised_listener_never_gets_the_key(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile(mode) as stranger:
        found(monkeypatch, (stranger, ""))
        attachment = Attachment(Target(api_key=KEY))
        for _ in range(3):
            attachment._next = 0.0
            attachment.read()
        assert stranger.seen and keys(stranger) == {None}
        assert attachment.attached is None or attachment.attached.access.api_key is None


def test_a_locked_stranger_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("locked-gateway") as stranger:
        found(monkeypatch, (stranger, ""))
        said = Attachment(Target(api_key=KEY)).read()
        assert isinstance(said, Absent) and f"--url {stranger.url}" in said.detail
        assert KEY not in said.detail
        named = Attachment(Target(url=stranger.url, api_key=KEY)).read()
    assert isinstance(named, ServerInfo)


def test_a_stranger_that_answers_without_the_key_says_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("locked") as stranger:  # a vLLM: /metrics is open, and its labels name the model
        found(monkeypatch, (stranger, ""))
        server = Attachment(Target(api_key=KEY)).read()
    assert isinstance(server, ServerInfo) and server.engine == "vllm"
    locked = [one for one in (server.model, server.max_model_len) if isinstance(one, Absent)]
    assert locked and all(f"--url {stranger.url}" in one.detail for one in locked)


def test_a_recognised_server_gets_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("locked-all") as server, Hostile("website") as stranger:
        found(monkeypatch, (server, "llamacpp"), (stranger, ""))
        attachment = Attachment(Target(api_key=KEY))
        assert isinstance(attachment.read(), ServerInfo)
        assert keys(stranger) == {None} and f"Bearer {KEY}" in keys(server)
        assert attachment.attached is not None and attachment.attached.access.api_key == KEY


def test_whoever_takes_the_port_of_a_server_that_ended_does_not_get_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("locked-all") as server:
        found(monkeypatch, (server, "llamacpp"))
        attachment = Attachment(Target(api_key=KEY))
        assert isinstance(attachment.read(), ServerInfo)
    attachment._lose(Absent(Why.LOST, "it ended"))
    with Hostile("openai", server.port) as stranger:
        found(monkeypatch, (stranger, ""))
        attachment._next = 0.0
        attachment.read()
        assert stranger.seen and keys(stranger) == {None}


def test_several_servers_are_a_choice_and_a_chosen_one_gets_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("vllm") as one, Hostile("locked") as two:
        found(monkeypatch, (one, "vllm"), (two, ""))
        attachment = Attachment(Target(api_key=KEY))
        said = attachment.read()
        assert isinstance(said, Absent) and "2 servers found" in said.detail
        assert {choice.url for choice in attachment.choices} == {one.url, two.url}
        assert keys(two) == {None}
        attachment.choose(two.url)
        chosen = attachment.read()
        assert isinstance(chosen, ServerInfo) and chosen.url == two.url and attachment.choices == ()
        assert f"Bearer {KEY}" in keys(two)


def test_a_recognised_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile("close") as server, Hostile("website") as stranger:
        found(monkeypatch, (server, "vllm"), (stranger, ""))
        said = Attachment(Target()).read()
    assert isinstance(said, Absent) and str(server.port) in said.detail and str(stranger.port) not in said.detail


def test_nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch)
    attachment = Attachment(Target())
    said = attachment.read()
    assert said == Absent(Why.LOST, "No LLM server found on this host")
    assert attachment.searched(0.0)


def test_a_search_that_fails_says_so_and_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[Candidate, ...]:
        raise RuntimeError("inside")

    monkeypatch.setattr(discover, "candidates", fail)
    attachment = Attachment(Target())
    said = attachment.read()
    assert isinstance(said, Absent) and "RuntimeError" in said.detail
    assert attachment.searched(0.0)


# Time that passes unseen


class Clock:
    """The clocks of the source, which can be made to jump."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mono_ahead = self.wall_ahead = 0.0
        monkeypatch.setattr(live, "mono", lambda: mono() + self.mono_ahead)
        monkeypatch.setattr(live, "wall", lambda: wall() + self.wall_ahead)


@pytest.mark.parametrize("suspended", [False, True], ids=["stopped", "suspended"])
def test_a_stop_is_said_once_and_breaks_every_rate(monkeypatch: pytest.MonkeyPatch, suspended: bool) -> None:
    clock = Clock(monkeypatch)
    samples: list[Sample] = []
    source = LiveSource(Target(url="http://127.0.0.1:1"), TICK)
    source.start(samples.append)
    try:
        wait_for(lambda: len(samples) >= 4)
        before = len(samples)
        clock.wall_ahead = 3600.0
        clock.mono_ahead = 0.0 if suspended else 3600.0
        wait_for(lambda: len(samples) >= before + 6)
    finally:
        source.stop()
    gaps = [sample for sample in samples if isinstance(sample.host, Absent) and "stood still" in sample.host.detail]
    assert len(gaps) == 1 and "360" in str(gaps[0].host)
    at = samples.index(gaps[0])
    assert all(isinstance(getattr(gaps[0], name), Absent) for name in ("engine", "procs", "gpu", "wakeup"))
    assert not any(isinstance(sample.host, Absent) for sample in samples[at + 1 :])
    between = [b.t - a.t for a, b in pairwise(samples[at:])]
    assert min(between) > TICK / 5, "nothing is caught up on"


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fault_while_a_sample_is_taken_does_not_end_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QTOP_DEBUG", raising=False)
    taken: list[Any] = []

    def take(sample: Sample) -> None:
        taken.append(sample)
        if len(taken) == 2:
            raise ValueError("a rule went wrong")

    source = LiveSource(Target(url="http://127.0.0.1:1"), TICK)
    source.start(take)
    try:
        wait_for(lambda: len(taken) >= 4)
    finally:
        source.stop()
    assert "a rule went wrong" in source.failure
