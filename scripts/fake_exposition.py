"""A vLLM's /metrics that moves: a recorded exposition whose gauges, counters and histograms go on as under load.

All of a real server's series are there (59 KB, 450 of them), so that a reader pays what it pays in earnest. The load is
a small model that keeps the figures in step with each other: so many requests run, each decodes a token every so many
milliseconds, as many end as the tokens allow.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, field

_SERIES = re.compile(r"(?P<key>(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?) (?P<value>\S+)")
_LE = re.compile(r'le="([^"]+)"')
_ENGINE = re.compile(r'engine="(\d+)"')
TOKENS_A_REQUEST = 160.0
PROMPT_A_REQUEST = 620.0
CACHED = 0.14
"""Share of the prompt that the prefix cache has."""


@dataclass
class Series:
    """One line: what stands before its value, and the value."""

    key: str
    value: float


@dataclass
class Histogram:
    """The lines of one histogram (one set of labels): buckets by upper bound, count, sum."""

    buckets: list[tuple[float, Series]] = field(default_factory=list)
    count: Series | None = None
    sum: Series | None = None

    def observe(self, number: float, median: float, sigma: float) -> None:
        """So many observations of a log-normal distribution (each bucket gets its share, rounded)."""
        whole = round(number)
        for bound, series in self.buckets:
            share = 1.0 if math.isinf(bound) else _lognormal(bound, median, sigma)
            series.value += round(whole * share)
        if self.count is not None:
            self.count.value += whole
        if self.sum is not None:
            self.sum.value += whole * median * math.exp(sigma * sigma / 2.0)


def _lognormal(bound: float, median: float, sigma: float) -> float:
    """The share at or below ``bound``."""
    return 0.5 * (1.0 + math.erf(math.log(bound / median) / (sigma * math.sqrt(2.0)))) if bound > 0 else 0.0


def _go(value: float) -> str:
    """A number as prometheus_client writes it (source: its utils.floatToGoString)."""
    text = repr(value)
    dot = text.find(".")
    if value <= 0 or dot <= 6:
        return text
    mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
    return f"{mantissa}e+{dot - 1:02d}"


class Exposition:
    """The lines of a recorded /metrics; ``advance`` moves them on, ``text`` gives them as a server would.

    With several ``engines`` each series of engine "0" is there for every one (data parallel), each with a load of its
    own.
    """

    def __init__(self, recorded: str, engines: int = 1, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._lines: list[str | Series] = []
        self._named: dict[tuple[str, str], list[Series]] = {}
        """(name, engine or "") → its series."""
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._clock = 0.0
        self.engines = engines
        for line in recorded.splitlines():
            found = None if line.startswith("#") else _SERIES.fullmatch(line)
            if found is None:
                self._lines.append(line)
                continue
            engine = _ENGINE.search(found["labels"] or "")
            for number in range(engines if engine else 1):
                key = found["key"] if number == 0 else _ENGINE.sub(f'engine="{number}"', found["key"])
                self._add(found["name"], str(number) if engine else "", Series(key, float(found["value"])))

    def _add(self, name: str, engine: str, series: Series) -> None:
        self._lines.append(series)
        self._named.setdefault((name, engine), []).append(series)
        bound = _LE.search(series.key)
        base = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        histogram = self._histograms.setdefault((base, engine), Histogram())
        if bound is not None:
            histogram.buckets.append((float(bound[1]), series))
        elif name.endswith("_count"):
            histogram.count = series
        elif name.endswith("_sum"):
            histogram.sum = series

    def text(self) -> str:
        """The whole exposition."""
        return "\n".join(one if isinstance(one, str) else f"{one.key} {_go(one.value)}" for one in self._lines) + "\n"

    def advance(self, seconds: float) -> None:
        """Move all of it on by so much time under load."""
        self._clock += seconds
        ended = sum(self._engine(str(number), seconds) for number in range(self.engines))
        self._http(ended)
        self._count("process_cpu_seconds_total", "", 0.31 * seconds)
        for series in self._named.get(("python_gc_objects_collected_total", ""), []):
            series.value += round(90 * seconds)

    def rest(self) -> None:
        """No request is running; counters stay where they are."""
        for number in range(self.engines):
            for name in ("num_requests_running", "num_requests_waiting", "num_requests_waiting_by_reason"):
                self._set(f"vllm:{name}", str(number), 0.0)
            self._set("vllm:kv_cache_usage_perc", str(number), 0.0)

    def _engine(self, engine: str, seconds: float) -> float:
        """One engine's load for so long; gives the requests that ended."""
        rng, phase = self._random, self._clock + 5.0 * int(engine)
        running = round(30 + 9 * math.sin(phase / 7) + rng.uniform(-3, 3))
        waiting = max(0, round(2 + 3 * math.sin(phase / 5) + rng.uniform(-2, 2)))
        itl = 0.019 + 0.0001 * running + rng.uniform(-0.0015, 0.0015)
        tokens = running / itl * seconds
        ended = tokens / TOKENS_A_REQUEST * rng.uniform(0.85, 1.15)
        prompt = ended * PROMPT_A_REQUEST
        self._set("vllm:num_requests_running", engine, running)
        self._set("vllm:num_requests_waiting", engine, waiting)
        self._set("vllm:num_requests_waiting_by_reason", engine, waiting)
        self._set("vllm:kv_cache_usage_perc", engine, running * 0.011 + rng.uniform(0, 0.03))
        counters = {
            "generation_tokens_total": tokens,
            "prompt_tokens_total": prompt,
            "prompt_tokens_cached_total": prompt * CACHED,
            "prefix_cache_queries_total": prompt,
            "prefix_cache_hits_total": prompt * CACHED,
            "prompt_tokens_by_source_total": prompt * (1 - CACHED),
            "request_success_total": ended,
            "estimated_flops_per_gpu_total": tokens * 8.1e9,
            "estimated_read_bytes_per_gpu_total": seconds / itl * 8.3e9,
            "estimated_write_bytes_per_gpu_total": tokens * 1.5e5,
        }
        if rng.random() < 0.1 * seconds:
            counters["num_preemptions_total"] = 1.0
        for name, more in counters.items():
            self._count(f"vllm:{name}", engine, more)
        decode, queue, prefill = itl * TOKENS_A_REQUEST, 0.004 + 0.03 * waiting, 0.19 + rng.uniform(-0.04, 0.04)
        for name, number, median, sigma in (
            ("time_to_first_token_seconds", ended, queue + prefill + 0.05, 0.4),
            ("inter_token_latency_seconds", tokens, itl, 0.3),
            ("request_time_per_output_token_seconds", ended, itl, 0.15),
            ("e2e_request_latency_seconds", ended, queue + prefill + decode, 0.3),
            ("request_queue_time_seconds", ended, queue, 0.7),
            ("request_inference_time_seconds", ended, prefill + decode, 0.3),
            ("request_prefill_time_seconds", ended, prefill, 0.4),
            ("request_decode_time_seconds", ended, decode, 0.3),
            ("request_prompt_tokens", ended, PROMPT_A_REQUEST, 0.5),
            ("request_generation_tokens", ended, TOKENS_A_REQUEST, 0.5),
            ("request_max_num_generation_tokens", ended, TOKENS_A_REQUEST, 0.5),
            ("request_params_max_tokens", ended, 256.0, 0.5),
            ("request_params_n", ended, 1.0, 0.01),
            ("request_prefill_kv_computed_tokens", ended, PROMPT_A_REQUEST * (1 - CACHED), 0.5),
            ("iteration_tokens_total", seconds / itl, running * 1.3, 0.8),
        ):
            self._observe(f"vllm:{name}", engine, number, median, sigma)
        return ended

    def _http(self, ended: float) -> None:
        for (name, engine), found in self._named.items():
            if engine == "" and name == "http_requests_total":
                found[0].value += round(ended)
        for base in ("http_request_duration_highr_seconds", "http_request_duration_seconds"):
            self._observe(base, "", ended, 3.4, 0.3)

    def _set(self, name: str, engine: str, value: float) -> None:
        for series in self._named.get((name, engine), [])[:1]:
            series.value = float(value)

    def _count(self, name: str, engine: str, more: float) -> None:
        # Of a counter with further labels (finished_reason, source) the first series is the one that a load moves.
        for series in self._named.get((name, engine), [])[:1]:
            series.value = float(round(series.value + more, 2 if name.startswith("process") else 0))

    def _observe(self, base: str, engine: str, number: float, median: float, sigma: float) -> None:
        histogram = self._histograms.get((base, engine))
        if histogram is not None:
            histogram.observe(number, median, sigma)
