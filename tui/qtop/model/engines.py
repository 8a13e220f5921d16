"""What each engine's metrics mean (source of names and renames: vLLM 0.8–0.33, llama.cpp server; checked on running
ones)."""

from __future__ import annotations

from collections.abc import Callable

from qtop.model.frame import EngineView, Stage, Waterfall
from qtop.model.series import Totals, increase, rate, ratio, totals_of
from qtop.sample import Absent, EngineSample, Reading, SlotSample, Why

_ITL = ("inter_token_latency_seconds", "time_per_output_token_seconds")


def engine_view(engine: str, old: EngineSample | None, new: EngineSample) -> EngineView:
    """The server's numbers between two scrapes, for an engine that is known; all absent for one that is not."""
    seconds = new.at - old.at if old is not None else 0.0
    before = totals_of(old.series) if old is not None else Totals({})
    now = totals_of(new.series)
    reader = _READERS.get(engine)
    if reader is None:
        nothing = Absent(Why.UNSUPPORTED, "qtop knows no metrics of this server")
        return EngineView(
            running=nothing,
            waiting=nothing,
            kv_use=nothing,
            preempt_s=nothing,
            gen_tok_s=nothing,
            prompt_tok_s=nothing,
            steps_s=nothing,
            finished_s=nothing,
            itl_ms=nothing,
            scrape_ms=new.scrape_ms,
        )
    return reader(before, now, old, new, seconds)


def _vllm(before: Totals, now: Totals, old: EngineSample | None, new: EngineSample, seconds: float) -> EngineView:
    def per_second(*names: str) -> Reading[float]:
        full = [f"vllm:{name}" for name in names]
        return rate(before.total(*full), now.total(*full), seconds)

    return EngineView(
        running=now.total("vllm:num_requests_running"),
        waiting=now.total("vllm:num_requests_waiting"),
        kv_use=now.largest("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        preempt_s=per_second("num_preemptions_total"),
        gen_tok_s=per_second("generation_tokens_total"),
        prompt_tok_s=per_second("prompt_tokens_total"),
        steps_s=per_second("iteration_tokens_total_count"),
        finished_s=per_second("request_success_total"),
        itl_ms=_mean_ms(before, now, *(f"vllm:{name}" for name in _ITL)),
        scrape_ms=new.scrape_ms,
    )


def _llamacpp(before: Totals, now: Totals, old: EngineSample | None, new: EngineSample, seconds: float) -> EngineView:
    def per_second(name: str) -> Reading[float]:
        return rate(before.total(f"llamacpp:{name}"), now.total(f"llamacpp:{name}"), seconds)

    unsupported = Absent(Why.UNSUPPORTED, "llama.cpp does not tell")
    tokens = increase(before.total("llamacpp:tokens_predicted_total"), now.total("llamacpp:tokens_predicted_total"))
    spent = increase(
        before.total("llamacpp:tokens_predicted_seconds_total"), now.total("llamacpp:tokens_predicted_seconds_total")
    )
    itl = ratio(spent, tokens)
    return EngineView(
        running=now.total("llamacpp:requests_processing"),
        waiting=now.total("llamacpp:requests_deferred"),
        kv_use=_slots_use(new),
        preempt_s=unsupported,
        gen_tok_s=_slots_rate(old, new, seconds, per_second("tokens_predicted_total")),
        prompt_tok_s=per_second("prompt_tokens_total"),
        steps_s=per_second("n_decode_total"),
        finished_s=unsupported,
        itl_ms=itl if isinstance(itl, Absent) else itl * 1000.0,
        scrape_ms=new.scrape_ms,
    )


_READERS: dict[str, Callable[[Totals, Totals, EngineSample | None, EngineSample, float], EngineView]] = {
    "vllm": _vllm,
    "llamacpp": _llamacpp,
}


def _mean_ms(before: Totals, now: Totals, *histograms: str) -> Reading[float]:
    """Δsum/Δcount of a histogram in seconds, as ms."""
    sums, counts = ([f"{name}{suffix}" for name in histograms] for suffix in ("_sum", "_count"))
    mean = ratio(increase(before.total(*sums), now.total(*sums)), increase(before.total(*counts), now.total(*counts)))
    return mean if isinstance(mean, Absent) else mean * 1000.0


def _slots_use(new: EngineSample) -> Reading[float]:
    """Context in use over context there is; llama.cpp has no gauge for it, its slots tell."""
    if isinstance(new.slots, Absent):
        return new.slots
    room = sum(slot.n_ctx for slot in new.slots)
    used = sum(slot.prompt_tokens + slot.decoded for slot in new.slots if slot.busy)
    return min(1.0, used / room) if room else Absent(Why.UNSUPPORTED, "no slots")


def _slots_rate(old: EngineSample | None, new: EngineSample, seconds: float, counted: Reading[float]) -> Reading[float]:
    """Tokens a second from the slots: the counter moves only when a request ends."""
    if old is None or isinstance(old.slots, Absent) or isinstance(new.slots, Absent) or seconds <= 0:
        return counted
    before: dict[int, SlotSample] = {slot.id: slot for slot in old.slots}
    tokens = 0
    for slot in new.slots:
        was = before.get(slot.id)
        begun = was.decoded if was is not None and was.decoded <= slot.decoded else 0
        tokens += slot.decoded - begun
    return tokens / seconds


def waterfall(engine: str, old: EngineSample, new: EngineSample) -> Waterfall | Absent:
    """Window means between two scrapes. Frontend = TTFT − queue − prefill: tokenising, IPC, event-loop lag.

    vLLM counts TTFT at the first token and the other times at the end of a request, so the window should hold many.
    """
    if engine == "llamacpp":
        return _llamacpp_waterfall(old, new)
    if engine != "vllm":
        return Absent(Why.UNSUPPORTED, "this server does not say where its time goes")
    before, now = totals_of(old.series), totals_of(new.series)

    def mean(*names: str) -> Reading[float]:
        return _mean_ms(before, now, *(f"vllm:{name}" for name in names))

    ttft, queue = mean("time_to_first_token_seconds"), mean("request_queue_time_seconds")
    prefill, decode = mean("request_prefill_time_seconds"), mean("request_decode_time_seconds")
    parts = (ttft, queue, prefill)
    frontend: Reading[float]
    if isinstance(ttft, Absent) or isinstance(queue, Absent) or isinstance(prefill, Absent):
        frontend = next(part for part in parts if isinstance(part, Absent))
    else:
        frontend = max(0.0, ttft - queue - prefill)
    tokens = ratio(
        increase(before.total("vllm:request_generation_tokens_sum"), now.total("vllm:request_generation_tokens_sum")),
        increase(
            before.total("vllm:request_generation_tokens_count"), now.total("vllm:request_generation_tokens_count")
        ),
    )
    return Waterfall(
        seconds=new.at - old.at,
        finished=increase(before.total("vllm:request_success_total"), now.total("vllm:request_success_total")),
        stages=(Stage("frontend", frontend), Stage("queue", queue), Stage("prefill", prefill), Stage("decode", decode)),
        ttft_ms=ttft,
        itl_ms=mean(*_ITL),
        tokens=tokens,
    )


def _llamacpp_waterfall(old: EngineSample, new: EngineSample) -> Waterfall:
    """llama.cpp counts prompt and generation seconds, not requests: what it says is time a token."""
    before, now = totals_of(old.series), totals_of(new.series)

    def grown(name: str) -> Reading[float]:
        return increase(before.total(f"llamacpp:{name}"), now.total(f"llamacpp:{name}"))

    def ms(seconds: Reading[float]) -> Reading[float]:
        return seconds if isinstance(seconds, Absent) else seconds * 1000.0

    unsupported = Absent(Why.UNSUPPORTED, "llama.cpp does not tell")
    itl = ratio(grown("tokens_predicted_seconds_total"), grown("tokens_predicted_total"))
    return Waterfall(
        seconds=new.at - old.at,
        finished=unsupported,
        stages=(
            Stage("frontend", unsupported),
            Stage("queue", unsupported),
            Stage("prefill", ms(grown("prompt_seconds_total"))),
            Stage("decode", ms(grown("tokens_predicted_seconds_total"))),
        ),
        ttft_ms=unsupported,
        itl_ms=ms(itl),
        tokens=grown("tokens_predicted_total"),
    )
