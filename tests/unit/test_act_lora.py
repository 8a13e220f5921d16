"""The knobs lora and reset-prefix-cache on a server with vLLM's routes: what is asked, told, put back, kept secret."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.apply_driver import Said
from tests.fakes.vllm_routes import FakeVllm

from qtop.act import reach
from qtop.act.change import Work
from qtop.act.journal import Journal
from qtop.act.knobs.lora import Lora
from qtop.act.knobs.prefix_cache import ResetPrefixCache
from qtop.act.transaction import Policy, run
from qtop.act.undo import undo
from qtop.clock import wall
from qtop.collect.http import Access
from qtop.errors import QtopError, Refused
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Sample, ServerInfo

lora, reset = Lora(), ResetPrefixCache()
KEY = "sesame"
RED = "load:red=/adapters/red"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("QTOP_API_KEY", raising=False)
    yield
    reach.through(lambda: None)


@pytest.fixture
def server() -> Iterator[FakeVllm]:
    with FakeVllm() as made:
        yield made


def frame_of(server: FakeVllm, engine: str = "vllm") -> Frame:
    info = ServerInfo(url=server.url, engine=engine, pid=os.getpid())
    return Deriver().push(Sample(t=wall(), server=info))


def change(frame: Frame, value: str, verdict: str | None = None, said: list[str] | None = None) -> str:
    def say(step: str, text: str) -> None:
        if said is not None:
            said.append(text)

    meter = Said(verdict) if verdict is not None else None
    return run([(lora, lambda: lora.plan(frame, value))], meter, say, Policy()).text


def test_an_adapter_is_loaded_its_latency_told_and_unloaded_by_undo(server: FakeVllm) -> None:
    plan = lora.plan(frame_of(server), RED)
    assert plan.preview == ("adapter red: not loaded → /adapters/red",)
    assert not server.loras
    said: list[str] = []
    change(frame_of(server), RED, None, said)
    assert server.loras == {"red": "/adapters/red"}
    assert any(line.startswith("red loaded in ") and line.endswith(" ms") for line in said)
    (kept,) = Journal().in_force()
    assert kept.parts[0].record["took_ms"] > 0
    assert undo().restored == 1
    assert server.loras == {}


def test_an_adapter_is_unloaded_and_loaded_again_by_undo(server: FakeVllm) -> None:
    server.loras["blue"] = "/adapters/blue"
    assert "404" in lora.plan(frame_of(server), "unload:blue").warnings[0]
    change(frame_of(server), "unload:blue")
    assert server.loras == {}
    undo()
    assert server.loras == {"blue": "/adapters/blue"}


@pytest.mark.parametrize(("verdict", "stays"), [("no effect", True), ("improved", True), ("worse", False)])
def test_it_is_wanted_for_what_it_does_and_stays_unless_worse(verdict: str, stays: bool, server: FakeVllm) -> None:
    change(frame_of(server), RED, verdict)
    assert bool(server.loras) is stays


def test_the_key_goes_along_and_is_never_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeVllm(key=KEY) as server:
        with pytest.raises(Refused, match="wants its API key"):
            lora.plan(frame_of(server), RED)
        reach.through(lambda: Access(server.url, KEY))
        assert KEY not in str(lora.plan(frame_of(server), RED))
        change(frame_of(server), RED)
        assert KEY not in (tmp_path / "XDG_STATE_HOME/qtop/journal.jsonl").read_text()
        # A later undo has no session: it says what it needs, and closes nothing.
        reach.through(lambda: None)
        with pytest.raises(Refused, match="QTOP_API_KEY"):
            undo()
        assert server.loras
        monkeypatch.setenv("QTOP_API_KEY", KEY)
        assert undo().restored == 1
        assert not server.loras


def test_a_key_goes_to_no_other_server(server: FakeVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's is for the session's server, and the environment's for one that had a key at the time."""
    change(frame_of(server), RED)
    monkeypatch.setenv("QTOP_API_KEY", KEY)
    reach.through(lambda: Access("http://127.0.0.1:1", KEY))
    undo()
    assert set(server.keys) == {""}


def test_an_adapter_that_somebody_else_replaced_is_shown_and_left(server: FakeVllm) -> None:
    change(frame_of(server), RED)
    server.loras["red"] = "/elsewhere"
    with pytest.raises(Refused, match="before qtop not loaded, qtop wrote /adapters/red, now /elsewhere"):
        undo()
    assert server.loras == {"red": "/elsewhere"}


def test_a_server_that_ended_has_forgotten_and_one_that_is_silent_has_not(server: FakeVllm) -> None:
    plan = lora.plan(frame_of(server), RED)
    lora.apply(plan.record, Work())
    other = copy.deepcopy(plan.record) | {"start": plan.record["start"] - 1}
    assert lora.read(other).all_gone
    lora.restore(other, Work())
    assert server.loras
    silent = plan.record | {"url": "http://127.0.0.1:1"}
    assert "nothing listens" in lora.read(silent).elsewhere


def test_what_the_server_refuses_is_told_in_its_words_and_nothing_is_left(server: FakeVllm) -> None:
    with pytest.raises(Refused, match="did not load red: Loading lora red failed: No adapter found for /nowhere/red"):
        change(frame_of(server), "load:red=/nowhere/red")
    assert Journal().in_force() == []
    server.loras["red"] = "/adapters/red"
    for value, words in (
        (RED, "name of an adapter or a model already"),
        ("load:tiny-qwen3=/adapters/red", "name of an adapter or a model already"),
        ("unload:green", "no adapter is called green. There is: red"),
        ("unload:tiny-qwen3", "no adapter is called tiny-qwen3"),
    ):
        with pytest.raises(Refused, match=words):
            lora.plan(frame_of(server), value)


@pytest.mark.parametrize("value", ["", "red", "load:red", "load:=/x", "load:a b=/x", "unload:", "load:red=/x\ny"])
def test_a_value_that_cannot_be_meant(value: str, server: FakeVllm) -> None:
    with pytest.raises(QtopError, match="lora cannot be"):
        lora.plan(frame_of(server), value)


def test_a_server_without_the_routes_is_told_what_opens_them() -> None:
    with FakeVllm(routes=()) as closed:
        with pytest.raises(Refused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
            lora.plan(frame_of(closed), RED)
        with pytest.raises(Refused, match="development mode"):
            reset.plan(frame_of(closed), None)
        with pytest.raises(Refused, match="is for vLLM"):
            reset.plan(frame_of(closed, engine="llamacpp"), None)


def empty(frame: Frame, verdict: str | None = None) -> str:
    meter = Said(verdict) if verdict is not None else None
    return run([(reset, lambda: reset.plan(frame, None))], meter, lambda step, text: None, Policy()).text


@pytest.mark.parametrize("bare", [False, True])
def test_the_prefix_cache_is_emptied_and_nothing_is_left_to_undo(bare: bool, server: FakeVllm) -> None:
    server.bare = bare
    assert reset.plan(frame_of(server), None).undone.startswith("nothing")
    assert empty(frame_of(server), "worse").startswith("kept: worse"), "there is no putting back"
    assert server.resets == 1
    assert Journal().in_force() == []
    assert undo().text == "nothing to undo"
    assert [change.state for change in Journal().changes()] == ["closed"]


def test_a_reset_that_the_server_does_not_do_is_told_as_it_is(server: FakeVllm) -> None:
    server.held = True
    with pytest.raises(Refused, match=r'\{"success": false\}'):
        empty(frame_of(server))
    assert server.resets == 0
    assert Journal().in_force() == []
    with pytest.raises(QtopError, match="takes no value"):
        reset.plan(frame_of(server), "everything")


def test_killed_between_asking_and_noting_it(server: FakeVllm) -> None:
    """The record says asked, and the adapter comes a moment later: undo waits for it."""
    plan = lora.plan(frame_of(server), RED)
    record = json.loads(json.dumps(plan.record)) | {"asked": True}
    looks: list[str] = []
    real = server.get

    def late(path: str, given: str) -> tuple[int, object]:
        looks.append(path)
        if len(looks) == 3:
            server.loras["red"] = "/adapters/red"
        return real(path, given)

    server.get = late  # type: ignore[method-assign]
    lora.restore(record, Work())
    assert server.loras == {}
    assert len(looks) >= 3
