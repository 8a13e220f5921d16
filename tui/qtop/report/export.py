"""Figures over time for other tools: CSV, JSON lines, OpenMetrics. In memory that does not grow with their number."""

from __future__ import annotations

import csv
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import BinaryIO, NamedTuple, TextIO

from qtop.model.fields import UNITS, Field
from qtop.record.redact import redact_text
from qtop.sample import Absent, Reading

PREFIX = "qtop_"
CHUNK = 1024
"""Pairs of a series that wait in memory."""


class Point(NamedTuple):
    """All fields at one Unix time, in the order of the fields."""

    t: float
    values: Sequence[Reading[float]]


def iso(t: float) -> str:
    """Unix time as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(round(t, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def figure(value: float) -> str:
    """Nine significant digits, more than any reading has; whole numbers in full."""
    return str(int(value)) if _whole(value) else f"{value:.9g}"


def _whole(value: float) -> bool:
    return abs(value) < 2**53 and value == int(value)


def write_csv(fields: Sequence[Field], points: Iterable[Point], out: TextIO) -> int:
    """A header and one row a point (RFC 4180, CRLF): Unix time, ISO time, the fields; empty where absent. Gives how
    many points."""
    rows = csv.writer(out, lineterminator="\r\n")
    rows.writerow(["time", "time_iso", *(field.name for field in fields)])
    count = 0
    for point in points:
        values = ["" if isinstance(one, Absent) else figure(one) for one in point.values]
        rows.writerow([f"{point.t:.3f}", iso(point.t), *values])
        count += 1
    return count


def write_json(fields: Sequence[Field], points: Iterable[Point], out: TextIO) -> int:
    """One JSON object a line: ``time``, ``time_iso``, ``values`` by name, and ``absent`` with the reason of each that
    is not there."""
    count = 0
    told: dict[Absent, dict[str, str]] = {}
    for point in points:
        values: dict[str, float] = {}
        absent: dict[str, dict[str, str]] = {}
        for field, value in zip(fields, point.values, strict=True):
            if isinstance(value, Absent):
                if value not in told:
                    if len(told) > CHUNK:  # a detail may hold a figure, and then there are many of them
                        told.clear()
                    told[value] = {"why": value.why.value, "detail": redact_text(value.detail)}
                absent[field.name] = told[value]
            else:
                values[field.name] = int(value) if _whole(value) else float(figure(value))
        line = {"time": round(point.t, 3), "time_iso": iso(point.t), "values": values, "absent": absent}
        out.write(json.dumps(line, ensure_ascii=True, allow_nan=False, separators=(",", ":")) + "\n")
        count += 1
    return count


class _Series:
    """Pairs of time and value of each field: what is many lies in a file, because a metric's samples must stand
    together in OpenMetrics, while a recording gives them tick by tick."""

    def __init__(self, count: int, file: BinaryIO) -> None:
        self._file = file
        self._held = [array("d") for _ in range(count)]
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        self._end = 0

    def add(self, at: int, t: float, value: float) -> None:
        """A pair of the field with this number."""
        held = self._held[at]
        held.extend((t, value))
        if len(held) >= 2 * CHUNK:
            data = held.tobytes()
            self._file.seek(self._end)
            self._file.write(data)
            self._places[at].append((self._end, len(data)))
            self._end += len(data)
            del held[:]

    def pairs(self, at: int) -> Iterator[tuple[float, float]]:
        """Those of the field with this number, in the order in which they came."""
        for place, size in self._places[at]:
            self._file.seek(place)
            chunk = array("d", self._file.read(size))
            yield from zip(chunk[::2], chunk[1::2], strict=True)
        held = self._held[at]
        yield from zip(held[::2], held[1::2], strict=True)


def metric_name(field: Field) -> str:
    """The metric of a field: "qtop_gpu_memory_used_bytes"."""
    suffix = UNITS[field.unit].suffix
    return PREFIX + field.metric + (f"_{suffix}" if suffix else "")


def write_openmetrics(fields: Sequence[Field], points: Iterable[Point], out: TextIO) -> tuple[int, int]:
    """OpenMetrics text 1.0, all gauges, in base units, with a timestamp a sample: what ``promtool tsdb
    create-blocks-from openmetrics`` reads. Gives how many points were written and how many left out because their time
    was not after the one before, which the format does not allow (source: OpenMetrics 1.0, "Timestamps")."""
    written, left, last = 0, 0, float("-inf")
    with tempfile.TemporaryFile() as file:
        series = _Series(len(fields), file)
        for point in points:
            t = round(point.t, 3)
            if t <= last:
                left += 1
                continue
            last = t
            written += 1
            for at, value in enumerate(point.values):
                if not isinstance(value, Absent):
                    series.add(at, t, value * UNITS[fields[at].unit].scale)
        order = sorted(range(len(fields)), key=lambda at: metric_name(fields[at]))
        for name, group in groupby(order, key=lambda at: metric_name(fields[at])):
            _write_family(name, [(fields[at], series.pairs(at)) for at in group], out)
        out.write("# EOF\n")
    return written, left


def _write_family(name: str, members: list[tuple[Field, Iterator[tuple[float, float]]]], out: TextIO) -> None:
    first = members[0][0]
    suffix = UNITS[first.unit].suffix
    out.write(f"# TYPE {name} gauge\n")
    if suffix:
        out.write(f"# UNIT {name} {suffix}\n")
    what = FAMILIES.get(first.metric, first.what)
    out.write(f"# HELP {name} {_escaped(what)}\n")
    for field, pairs in members:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in field.labels)
        head = f"{name}{{{labels}}}" if labels else name
        for t, value in pairs:
            out.write(f"{head} {figure(value)} {t:.3f}\n")


FAMILIES = {
    "latency": "latency of requests by the server's histograms, last 30 s, by stage",
    "latency_observations": "observations behind the latencies of the last 30 s, by stage",
    "request_stage": "where a request's time goes; mean, last 30 s, by stage",
    "sched_run": "share of wall time that the critical thread of a process ran, by role",
    "sched_wait": "share of wall time that the critical thread of a process waited for a CPU, by role",
    "sched_throttled": "the part of that wait that the CPU quota explains, by role",
    "gpu_clock_limited": "share of time in which a limit held the clock down, by limit",
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
