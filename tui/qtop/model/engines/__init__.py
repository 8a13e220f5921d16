"""What each engine's metrics mean: one table for each, one way to read them all.

Names of vLLM and llama.cpp were checked on running servers, those of the others are from their public sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtop.model.engines import llamacpp, ollama, sglang, tgi, triton, trtllm, vllm
from qtop.model.engines.scrapes import ReadOne, Scrapes, always, read
from qtop.model.engines.table import EngineTable
from qtop.model.frame import EngineView
from qtop.model.quantiles import WINDOW_S, latency
from qtop.model.series import Layout, totals_of
from qtop.model.serving import Latency, LatencyView, RankView
from qtop.sample import Absent, EngineSample, Why

TABLES: Mapping[str, EngineTable] = {
    module.TABLE.engine: module.TABLE for module in (vllm, llamacpp, sglang, tgi, trtllm, triton, ollama)
}
"""By ``ServerInfo.engine``."""
TOKEN_COUNTERS = tuple(name for table in TABLES.values() for name in table.token_counters)

_FIELDS = tuple(name for name in EngineView.__struct_fields__ if name not in ("scrape_ms", "engines", "sources"))
_RANK_FIELDS = RankView.__struct_fields__[1:]
_UNKNOWN = Absent(Why.UNSUPPORTED, "qtop knows no metrics of this server")


def engine_view(
    engine: str, old: EngineSample | None, new: EngineSample, first: EngineSample | None = None
) -> EngineView:
    """The server's numbers between two scrapes, shares of the window since ``first``; all absent for an engine that is
    not known."""
    table = TABLES.get(engine)
    values: dict[str, Any] = dict.fromkeys(_FIELDS, _UNKNOWN)
    sources: dict[str, str] = {}
    ranks: tuple[RankView, ...] = ()
    if table is not None:
        scrapes = Scrapes.of(old, new, first)
        for name in _FIELDS:
            spec = table.fields.get(name)
            if spec is None:
                values[name] = table.not_told(name)
                continue
            values[name], source = read(spec, scrapes)
            if source:
                sources[name] = source
        ranks = _ranks(table, scrapes)
    return EngineView(**values, scrape_ms=new.scrape_ms, engines=ranks, sources=sources)


def _ranks(table: EngineTable, scrapes: Scrapes) -> tuple[RankView, ...]:
    """Each engine by itself; none where the series carry no label for it."""
    if not table.rank_label:
        return ()
    each = scrapes.now.layout.once(table, lambda layout: _plan_ranks(table, layout))
    return tuple([RankView(value, *[get(scrapes) for get in fields]) for value, fields in each])


def _plan_ranks(table: EngineTable, layout: Layout) -> list[tuple[str, list[ReadOne]]]:
    """How to read each engine's ``_RANK_FIELDS``, by the value of its label."""
    label = table.rank_label
    found = {value for spec in table.ranks.values() for value in spec.values(layout, label)} - {""}
    absent = always(Absent(Why.UNSUPPORTED, f"{table.title} does not tell it for each"))
    return [
        (
            value,
            [
                spec.plan_one(layout, label, value) if (spec := table.ranks.get(name)) is not None else absent
                for name in _RANK_FIELDS
            ],
        )
        for value in sorted(found, key=lambda value: (len(value), value))
    ]


def latency_view(engine: str, first: EngineSample, new: EngineSample) -> LatencyView | Absent:
    """Latencies between two scrapes that are ``WINDOW_S`` seconds apart or more; not yet before."""
    table = TABLES.get(engine)
    if table is None:
        return _UNKNOWN
    seconds = new.at - first.at
    if not table.latencies:
        return Absent(Why.UNSUPPORTED, f"{table.title} has no histogram of latencies")
    if seconds < WINDOW_S:
        return Absent(Why.NOT_YET, f"needs {WINDOW_S:.0f} s of metrics, there are {seconds:.0f} s")
    old, now = first.series, new.series

    def find(name: str) -> Latency | Absent:
        spec = table.latencies.get(name)
        if spec is None:
            return table.not_told(name)
        return latency(totals_of(old), totals_of(now), spec.names, spec.scale, spec.match, spec.copies)

    return LatencyView(seconds, find)
