"""The figures of a frame by name, with unit and meaning: what other tools are given. Pure.

A name is where the figure stands in a frame ("engine.running", "gpu.0.util"); ``gpu.N`` in the registry stands for each
GPU. A figure that is not there is ``Absent`` with its reason, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from qtop.model.cpu import SchedView, ThreadView
from qtop.model.field_list import ENGINE, GPU, HOST, OTHER, STAGES, Row
from qtop.model.frame import Frame
from qtop.model.gpu_view import GpuView
from qtop.model.serving import Latency, Quantile
from qtop.sample import NOT_RECORDED, Absent, Reading, Why

ROLES = ("api", "engine", "worker", "scheduler", "tokenizer", "detokenizer", "server", "runner")
"""Of the server's processes, as ``ThreadView.process_role`` has them, with the most to do for a request."""
LATENCIES = ("queue", "prefill", "decode", "ttft", "itl", "e2e")


class Unit(NamedTuple):
    """How a unit of the model becomes a base unit: ``value × scale``, with the suffix that the name then takes."""

    suffix: str
    scale: float


UNITS = {
    "share": Unit("ratio", 1.0),
    "ms": Unit("seconds", 1e-3),
    "s": Unit("seconds", 1.0),
    "bytes": Unit("bytes", 1.0),
    "MHz": Unit("hertz", 1e6),
    "W": Unit("watts", 1.0),
    "°C": Unit("celsius", 1.0),
    "CPUs": Unit("cpus", 1.0),
    "tokens": Unit("tokens", 1.0),
    "requests": Unit("requests", 1.0),
    "count": Unit("", 1.0),
    "bytes/s": Unit("bytes_per_second", 1.0),
    "tokens/s": Unit("tokens_per_second", 1.0),
    "requests/s": Unit("requests_per_second", 1.0),
    "1/s": Unit("per_second", 1.0),
    "1/min": Unit("per_second", 1 / 60),
}
"""Prometheus wants base units (source: prometheus.io/docs/practices/naming)."""


class Field(NamedTuple):
    """One figure."""

    name: str
    unit: str
    """A key of ``UNITS``."""
    what: str
    read: Callable[[Frame], Reading[float]]
    metric: str
    """Its metric without prefix and unit."""
    labels: tuple[tuple[str, str], ...] = ()
    usual: bool = False
    """Given where nobody says which."""


def registry(gpus: Sequence[int] | None = None) -> tuple[Field, ...]:
    """All fields, those of GPUs for each of these indices; None: once, as "gpu.N"."""
    fields = [_plain(row, f"engine_{row.stem}") for row in ENGINE]
    fields += [_latency(stage, stat) for stage in LATENCIES for stat in ("mean", "p50", "p95", "p99", "n")]
    fields += [_stage(name, what) for name, what in STAGES]
    fields += [_role(role, stat) for role in ROLES for stat in ("run", "wait", "throttled")]
    fields += [_plain(row, row.stem) for row in (*HOST, *OTHER)]
    for index in ["N"] if gpus is None else [str(one) for one in gpus]:
        fields += [_gpu(row, index) for row in GPU]
    return tuple(fields)


def chosen(patterns: Iterable[str], fields: Sequence[Field]) -> tuple[tuple[Field, ...], tuple[str, ...]]:
    """The fields that these names or patterns ("gpu.*.util") mean, in the order asked for, each once; and the patterns
    that mean none."""
    found: dict[str, Field] = {}
    unknown: list[str] = []
    for pattern in patterns:
        hits = [one for one in fields if pattern == "all" or fnmatchcase(one.name, pattern)]
        if not hits:
            unknown.append(pattern)
        found.update((one.name, one) for one in hits)
    return tuple(found.values()), tuple(unknown)


def walk(value: object, path: Sequence[str]) -> Reading[float]:
    """The number at the end of this path of fields and keys; absent with the reason of the first thing that is not
    there."""
    for name in path:
        if isinstance(value, Absent):
            return value
        if value is None:
            return Absent(Why.UNSUPPORTED, "there is none")
        value = value.get(name, NOT_RECORDED) if isinstance(value, dict) else getattr(value, name)
    return _number(value)


def _number(value: object) -> Reading[float]:
    if isinstance(value, Absent):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return Absent(Why.FAILED, "not a number")


def _plain(row: Row, metric: str) -> Field:
    path = row.path.split(".")
    return Field(row.name, row.unit, row.what, lambda frame: walk(frame, path), metric, (), row.usual)


def _gpu(row: Row, index: str) -> Field:
    path = row.path.split(".")

    def read(frame: Frame) -> Reading[float]:
        found = _gpu_of(frame, index)
        return found if isinstance(found, Absent) else walk(found, path)

    labels = (("gpu", index), *row.labels)
    return Field(f"gpu.{index}.{row.name}", row.unit, row.what, read, f"gpu_{row.stem}", labels, row.usual)


def _gpu_of(frame: Frame, index: str) -> GpuView | Absent:
    if isinstance(frame.gpus, Absent):
        return frame.gpus
    found = next((one for one in frame.gpus if str(one.index) == index), None)
    return found if found is not None else frame.gpus_lost.get(index, Absent(Why.LOST, f"no GPU {index} at this time"))


def _latency(stage: str, stat: str) -> Field:
    told = {"mean": "mean", "n": "observations"}.get(stat, f"{stat[1:]}th percentile, where the histogram tells it")
    what = f"{STAGE_WORDS[stage]}: {told}, by the server's histogram, last 30 s"

    def read(frame: Frame) -> Reading[float]:
        if isinstance(frame.latency, Absent):
            return frame.latency
        found: Latency | Absent = getattr(frame.latency, stage)
        if isinstance(found, Absent):
            return found
        if stat == "n":
            return found.n
        return _number(found.mean_ms) if stat == "mean" else _quantile(getattr(found, stat))

    usual = stat in ("mean", "p50", "p95") and stage in ("ttft", "itl", "queue")
    if stat == "n":
        return Field(f"latency.{stage}.n", "count", what, read, "latency_observations", (("stage", stage),))
    return Field(f"latency.{stage}.{stat}", "ms", what, read, "latency", (("stage", stage), ("stat", stat)), usual)


STAGE_WORDS = {
    "queue": "waiting to be scheduled",
    "prefill": "prefill",
    "decode": "decoding",
    "ttft": "time to first token",
    "itl": "gap between tokens",
    "e2e": "whole request",
}


def _quantile(found: Quantile | Absent) -> Reading[float]:
    """A percentile only where both bounds of its bucket are known; elsewhere the bound is the reason."""
    if isinstance(found, Absent) or found.relation == "=":
        return found if isinstance(found, Absent) else _number(found.value_ms)
    side = "not above" if found.relation == "<" else "above"
    return Absent(Why.UNSUPPORTED, f"the histogram tells only that it is {side} {found.value_ms:g} ms")


def _stage(name: str, what: str) -> Field:
    def read(frame: Frame) -> Reading[float]:
        if isinstance(frame.waterfall, Absent):
            return frame.waterfall
        found = next((stage for stage in frame.waterfall.stages if stage.name == name), None)
        return _number(found.ms) if found is not None else Absent(Why.UNSUPPORTED, "this server does not tell")

    return Field(f"waterfall.{name}", "ms", what, read, "request_stage", (("stage", name),), name != "client")


def _role(role: str, stat: str) -> Field:
    what = {
        "run": "share of wall time that it ran",
        "wait": "share of wall time that it was runnable and had no CPU",
        "throttled": "the part of that wait that the CPU quota explains",
    }[stat]

    def read(frame: Frame) -> Reading[float]:
        found = role_thread(frame.sched, role)
        return found if isinstance(found, Absent) else _number(getattr(found, stat))

    usual = role in ("api", "engine", "server") and stat != "throttled"
    labels = (("role", role),)
    return Field(
        f"sched.{role}.{stat}", "share", f"critical thread of the {role} process: {what}", read, f"sched_{stat}",
        labels, usual,
    )  # fmt: skip


def role_thread(sched: SchedView | Absent, role: str) -> ThreadView | Absent:
    """Of the critical threads of processes that do this, the one that waits longest."""
    if isinstance(sched, Absent):
        return sched
    found = next((one for one in sched.critical if one.process_role == role), None)
    return found if found is not None else Absent(Why.UNSUPPORTED, f"the server has no critical {role} thread")
