"""The llama.cpp adapter against a real llama.cpp server."""

from __future__ import annotations

import time
from typing import Protocol

import httpx
import pytest

from qtop.collect.engine.identify import identify
from qtop.collect.engine.llamacpp import LlamaCpp
from qtop.collect.http import Access, open_client
from qtop.sample import Absent, EngineSample

pytestmark = pytest.mark.integration

PREDICTED = "llamacpp:tokens_predicted_total"


class Server(Protocol):
    url: str
    pid: int


def test_a_real_llamacpp_is_identified_and_tells_who_it_is(llama_server: Server) -> None:
    with open_client(Access(llama_server.url), timeout=10.0) as client:
        adapter = identify(client)
        assert isinstance(adapter, LlamaCpp)
        info = adapter.info(client)
    assert info.engine == "llamacpp"
    assert not isinstance(info.model, Absent) and info.model
    assert not isinstance(info.version, Absent) and info.version
    assert not isinstance(info.max_running, Absent) and info.max_running >= 1
    assert not isinstance(info.max_model_len, Absent) and info.max_model_len >= 256


def test_its_counters_and_slots_move_with_a_request(llama_server: Server) -> None:
    adapter = LlamaCpp()
    with open_client(Access(llama_server.url), timeout=30.0) as client:
        before = adapter.scrape(client)
        assert isinstance(before, EngineSample), before
        assert not isinstance(before.slots, Absent), before.slots
        prompt = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, "stream": False}
        answer = client.post("/v1/completions", json=prompt)
        assert answer.status_code == httpx.codes.OK
        used = answer.json()["usage"]["completion_tokens"]
        after = adapter.scrape(client)
        assert isinstance(after, EngineSample), after
    assert after.at > before.at
    assert after.series[PREDICTED] - before.series[PREDICTED] >= used > 0
    assert after.series.keys() == before.series.keys()
    assert all(x.startswith("llamacpp:") for x in after.series)


def test_a_slot_at_work_is_seen_without_its_text(llama_server: Server) -> None:
    words = "zanzibar quokka"
    adapter = LlamaCpp()
    body = {"prompt": f"Tell me all about {words}.", "max_tokens": 200, "stream": True, "ignore_eos": True}
    with (
        open_client(Access(llama_server.url), timeout=30.0) as client,
        open_client(Access(llama_server.url), timeout=30.0) as other,
        other.stream("POST", "/v1/completions", json=body) as stream,
    ):
        next(stream.iter_raw())
        busy: EngineSample | Absent | None = None
        for _ in range(50):
            busy = adapter.scrape(client)
            if (
                isinstance(busy, EngineSample)
                and not isinstance(busy.slots, Absent)
                and any(x.busy for x in busy.slots)
            ):
                break
            time.sleep(0.02)
        assert isinstance(busy, EngineSample), busy
        assert not isinstance(busy.slots, Absent)
        [slot] = [x for x in busy.slots if x.busy]
    assert slot.prompt_tokens > 0
    assert slot.n_ctx >= slot.prompt_tokens + slot.decoded
    assert words not in repr(busy)
