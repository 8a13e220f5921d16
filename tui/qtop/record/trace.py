"""Lines of a trace to Samples: pure functions from one decoded JSON object.

A trace is what a simple logger wrote, one object a second: ``t``, ``gpu`` (or ``gpus``), ``procs``, ``stat``, ``psi``,
``loadavg``, ``metrics``, ``metrics_ms``. Any of them but ``t`` may be missing, or hold what nobody expected: then that
reading is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from qtop.record.trace_gpu import gpu_section
from qtop.record.trace_values import MISSING, integer, mapping, number
from qtop.sample import (
    NOT_RECORDED,
    Absent,
    CpuTimes,
    EngineSample,
    HostSample,
    Pressure,
    ProcessSample,
    Reading,
    Sample,
    ServerInfo,
    ServerProcs,
    ThreadSample,
    Why,
)
from qtop.sample.series import split_series

SECTIONS = ("gpu", "gpus", "procs", "stat", "metrics", "psi", "loadavg")
"""What makes an object with a time a line of a trace."""
HZ = 100
"""Clock ticks a second: USER_HZ, the same on every Linux that runs a GPU server."""
PAGE = 4096

_SERIES = re.compile(
    r'\s*(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})?\s+(?P<value>[^\s_]+)'
)
_UNREADABLE = Absent(Why.FAILED, "unreadable in the trace")


def is_trace_line(line: object) -> bool:
    """True for an object with a time and at least one of the sections."""
    return isinstance(line, dict) and number(line.get("t")) is not None and any(key in line for key in SECTIONS)


def samples(lines: Iterable[Mapping[str, object]]) -> Iterator[Sample]:
    """The Samples of the lines of one trace; what is known of the server stays known when a scrape is missing."""
    server: ServerInfo | Absent = NOT_RECORDED
    for line in lines:
        sample = to_sample(line, server)
        server = sample.server
        yield sample


def to_sample(line: Mapping[str, object], before: ServerInfo | Absent = NOT_RECORDED) -> Sample:
    """One line as a Sample; ``before`` is what was known of the server. ``at`` of every section is the line's time."""
    t = number(line.get("t")) or 0.0
    engine = engine_sample(line, t)
    procs = server_procs(line, t)
    return Sample(
        t=t,
        server=server_info(line, engine, procs, before),
        engine=engine,
        procs=procs,
        host=host_sample(line, t),
        gpu=gpu_section(line, t),
    )


# The server


def engine_sample(line: Mapping[str, object], t: float) -> EngineSample | Absent:
    """The scrape: series by exposition name with labels, without ``_created`` and what is not a finite number."""
    raw = line.get("metrics")
    if raw is None:
        return NOT_RECORDED
    lines = raw.splitlines() if isinstance(raw, str) else raw if isinstance(raw, list) else []
    series: dict[str, float] = {}
    for text in lines:
        found = _series(text) if isinstance(text, str) else None
        if found is not None:
            series[found[0]] = found[1]
    if not series:
        return Absent(Why.FAILED, "no metrics came with this line of the trace")
    return EngineSample(at=t, scrape_ms=number(line.get("metrics_ms")) or 0.0, series=series)


def _series(text: str) -> tuple[str, float] | None:
    found = _SERIES.match(text)
    if found is None or found["name"].endswith("_created"):
        return None
    value = number(found["value"])
    return None if value is None else (found["name"] + (found["labels"] or ""), value)


def server_info(
    line: Mapping[str, object], engine: EngineSample | Absent, procs: ServerProcs | Absent, before: ServerInfo | Absent
) -> ServerInfo | Absent:
    """Who the server is: model and limits by the labels of its series, process by the tree; no more was recorded."""
    known = before if isinstance(before, ServerInfo) else None
    if isinstance(engine, Absent) and isinstance(procs, Absent):
        return before
    model: Reading[str] = known.model if known else NOT_RECORDED
    limits: dict[str, Reading[int]] = {
        "max_model_len": known.max_model_len if known else NOT_RECORDED,
        "max_num_seqs": known.max_running if known else NOT_RECORDED,
    }
    if isinstance(engine, EngineSample):
        names = (split_series(key)[1].get("model_name") for key in engine.series)
        model = next((name for name in names if name), model)
        for key in engine.series:
            if key.startswith("vllm:cache_config_info{"):
                labels = split_series(key)[1]
                for name in limits:
                    if labels.get(name, "").isdecimal():
                        limits[name] = int(labels[name])
    root = procs.processes[0] if isinstance(procs, ServerProcs) else None
    return ServerInfo(
        engine="vllm",
        model=model,
        max_model_len=limits["max_model_len"],
        max_running=limits["max_num_seqs"],
        pid=root.pid if root else known.pid if known else NOT_RECORDED,
        started=_started(line, root) if root else known.started if known else NOT_RECORDED,
    )


def _started(line: Mapping[str, object], root: ProcessSample) -> Reading[float]:
    """When the server started, if the trace kept the boot time of /proc/stat."""
    for row in _rows(line.get("stat")):
        name, _, value = row.partition(" ")
        if name == "btime" and value.strip().isdecimal():
            return int(value) + root.start_ticks / HZ
    return NOT_RECORDED


# Its processes


def server_procs(line: Mapping[str, object], t: float) -> ServerProcs | Absent:
    """The process tree, root first; processes that have ended, or without a readable stat line, are left out."""
    raw = line.get("procs")
    if raw is None:
        return NOT_RECORDED
    entries = raw if isinstance(raw, list) else []
    found = [process for entry in entries if isinstance(entry, dict) and (process := process_sample(entry)) is not None]
    if not found:
        return Absent(Why.LOST, "the trace has no running process of the server here")
    pids = {process.pid for process in found}
    return ServerProcs(at=t, processes=tuple(sorted(found, key=lambda process: process.ppid in pids)))


def process_sample(entry: Mapping[str, object]) -> ProcessSample | None:
    """One process; None if it has ended (state Z or X) or its stat line cannot be read (source: proc_pid_stat(5))."""
    stat = entry.get("stat")
    if not isinstance(stat, str):
        return None
    left, right = stat.find("("), stat.rfind(")")  # the name may hold spaces and parentheses
    fields = stat[right + 1 :].split()
    try:
        pid, state, ppid = int(stat[:left]), fields[0], int(fields[1])
        cpu_ticks, start_ticks = int(fields[11]) + int(fields[12]), int(fields[19])
        pages = int(fields[21])
    except (ValueError, IndexError):
        return None
    if left < 0 or right < left or state in "ZXx":
        return None
    processor = integer(fields[36]) if len(fields) > 36 else None
    status = _status(entry.get("status_ctx"))
    rss = status.get("VmRSS", "").split()
    allowed = status.get("Cpus_allowed_list", "")
    return ProcessSample(
        pid=pid,
        start_ticks=start_ticks,
        ppid=ppid,
        comm=stat[left + 1 : right],
        cpu_ticks=cpu_ticks,
        rss_bytes=int(rss[0]) * 1024 if rss and rss[0].isdecimal() else pages * PAGE,
        threads=_threads(entry, pid, stat[left + 1 : right], allowed, -1 if processor is None else processor),
        allowed=allowed or NOT_RECORDED,
        voluntary=_count(status.get("voluntary_ctxt_switches")),
        involuntary=_count(status.get("nonvoluntary_ctxt_switches")),
    )


def _status(raw: object) -> dict[str, str]:
    pairs = (row.partition(":") for row in _rows(raw))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _count(text: str | None) -> Reading[int]:
    value = integer(text)
    return NOT_RECORDED if value is None else value


def _threads(
    entry: Mapping[str, object], pid: int, comm: str, allowed: str, processor: int
) -> tuple[ThreadSample, ...] | Absent:
    """The threads; /proc/PID/schedstat stands in for the main thread, whose figures it holds."""
    threads: list[ThreadSample] = []
    for tid_text, row in mapping(entry.get("threads")).items():
        tid = integer(tid_text)
        if tid is None or not isinstance(row, list | tuple) or len(row) < 4:
            continue
        run, wait, slices = (integer(value) for value in row[1:4])
        if run is None or wait is None or slices is None:
            continue
        main = tid == pid
        threads.append(
            ThreadSample(tid, str(row[0]), run, wait, slices, allowed if main else "", processor if main else -1)
        )
    if not any(thread.tid == pid for thread in threads):
        whole = entry.get("schedstat")
        numbers = [integer(value) for value in whole.split()[:3]] if isinstance(whole, str) else []
        if len(numbers) == 3 and numbers[0] is not None and numbers[1] is not None and numbers[2] is not None:
            threads.insert(0, ThreadSample(pid, comm, numbers[0], numbers[1], numbers[2], allowed, processor))
    if threads:
        return tuple(threads)
    return NOT_RECORDED if not entry.get("threads") else _UNREADABLE


# The host


def host_sample(line: Mapping[str, object], t: float) -> HostSample | Absent:
    """CPU times, pressure and load; absent only when the line has none of them."""
    cpus = cpu_times(line.get("stat"))
    psi = mapping(line.get("psi"))
    load1, runnable = _load(line.get("loadavg"))
    if not cpus and not psi and isinstance(load1, Absent):
        return NOT_RECORDED if line.get("stat") is None else _UNREADABLE
    return HostSample(
        at=t,
        cpus=cpus,
        hz=HZ,
        psi_cpu=_pressure(psi.get("cpu", MISSING)),
        psi_memory=_pressure(psi.get("memory", MISSING)),
        psi_io=_pressure(psi.get("io", MISSING)),
        load1=load1,
        runnable=runnable,
    )


def cpu_times(raw: object) -> dict[str, CpuTimes]:
    """The cpu lines of /proc/stat by number as text, the sum as "all" (added up if the trace lacks it)."""
    cpus: dict[str, CpuTimes] = {}
    for row in _rows(raw):
        name, *ticks = row.split() or [""]
        number_text = name.removeprefix("cpu")
        if not name.startswith("cpu") or (number_text and not number_text.isdecimal()):
            continue
        values = [integer(tick) for tick in ticks[:8]]
        if len(values) < 4 or None in values:
            continue
        known = [value or 0 for value in values] + [0] * (8 - len(values))  # old kernels have fewer columns
        cpus[number_text or "all"] = CpuTimes(*known)
    if cpus and "all" not in cpus:
        columns = zip(
            *((c.user, c.nice, c.system, c.idle, c.iowait, c.irq, c.softirq, c.steal) for c in cpus.values()),
            strict=True,
        )
        cpus["all"] = CpuTimes(*(sum(column) for column in columns))
    return cpus


def _pressure(raw: object) -> Reading[Pressure]:
    """Totals of a PSI file; "full" is 0 where the kernel has no such line."""
    if raw is MISSING:
        return NOT_RECORDED
    if not raw:
        return Absent(Why.UNSUPPORTED, "the host of the trace had no pressure stall information")
    totals: dict[str, int] = {}
    for row in _rows(raw):
        kind, _, rest = row.partition(" ")
        total = integer(rest.rpartition("total=")[2])
        if total is not None:
            totals[kind] = total
    return Pressure(totals["some"], totals.get("full", 0)) if "some" in totals else _UNREADABLE


def _load(raw: object) -> tuple[Reading[float], Reading[int]]:
    if raw is None:
        return NOT_RECORDED, NOT_RECORDED
    fields = raw.split() if isinstance(raw, str) else []
    load = number(fields[0]) if fields else None
    runnable = integer(fields[3].partition("/")[0]) if len(fields) > 3 else None
    return _UNREADABLE if load is None else load, _UNREADABLE if runnable is None else runnable


def _rows(raw: object) -> list[str]:
    """Lines of a text, or of a list of lines."""
    if isinstance(raw, str):
        return raw.splitlines()
    return [row for row in raw if isinstance(row, str)] if isinstance(raw, list) else []
