"""The parts of a report that are lists: facts, configuration, test prompts, actions; for the page and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from qtop import __version__
from qtop.probe.timing import ProbeResult
from qtop.report.documents import settings_document
from qtop.report.gathered import Gathered, utc
from qtop.sample import Absent, ServerInfo
from qtop.units import NONE, duration, milliseconds, number, percent, size

Pairs = list[tuple[str, str]]


def span_text(report: Gathered) -> str:
    """When, how long, how many samples, from what."""
    whole = report.whole
    begin, end = utc(whole.begin), utc(whole.end)
    until = end[11:] if end[:10] == begin[:10] else end
    source = {"real": "", "unknown": ""}.get(report.header.source, f" · {report.header.source} numbers")
    prompts = f" · {report.holds_prompts}" if report.holds_prompts else ""
    return f"{begin} – {until} UTC · {duration(whole.seconds)} · {whole.samples} samples{source}{prompts}"


def _read(reading: object) -> str:
    return NONE if isinstance(reading, Absent) or reading in (None, "") else str(reading)


def server_facts(report: Gathered) -> Pairs:
    """Who the server is."""
    server = report.server
    if not isinstance(server, ServerInfo):
        return [("server", str(server))]
    argv = server.argv
    return [
        ("model", _read(server.model)),
        ("engine", f"{server.engine} {'' if isinstance(server.version, Absent) else server.version}".strip()),
        ("address", _read(server.url)),
        ("longest request", f"{_read(server.max_model_len)} tokens"),
        ("requests at once", _read(server.max_running)),
        ("where", ("in a container" if server.in_container else "this host") if server.on_host else "another host"),
        ("command line", NONE if isinstance(argv, Absent) else " ".join(argv)),
    ]


def host_facts(report: Gathered) -> Pairs:
    """The host and its GPUs, as they were at the end."""
    header, frame = report.header, report.whole.frame
    host = frame.host
    facts = [("kernel", header.kernel or NONE), ("CPUs", str(header.cpus or NONE))]
    if not isinstance(host, Absent):
        facts[1] = ("CPUs", f"{host.cpus}" + ("" if isinstance(host.cores, Absent) else f" on {host.cores} cores"))
        facts += [
            ("NUMA nodes", _read(host.nodes)),
            ("memory", f"{size(host.mem_total)}, {size(host.mem_available)} available"),
            ("governor", _read(host.governor)),
            ("memory pressure", percent(host.psi_memory)),
        ]
    for gpu in () if isinstance(frame.gpus, Absent) else frame.gpus:
        told = [_read(gpu.name), size(gpu.mem_total), f"limit {number(gpu.power_limit_w)} W", f"PCIe {_read(gpu.pcie)}"]
        facts.append((f"GPU {gpu.index}", ", ".join(told)))
    if isinstance(frame.gpus, Absent):
        facts.append(("GPUs", str(frame.gpus)))
    return facts


def version_facts(report: Gathered) -> Pairs:
    """Which qtop recorded and which one reads."""
    header = report.header
    facts = [("recorded by", f"qtop {header.qtop_version or NONE}"), ("diagnosed by", f"qtop {__version__}")]
    facts.append(("sample every", f"{header.interval:g} s"))
    if header.note:
        facts.append(("note", header.note))
    if header.truncated:
        facts.append(("cut", "the file holds only part of what was observed"))
    if report.skipped:
        facts.append(("damaged", f"{report.skipped} records skipped"))
    return facts


def settings_rows(report: Gathered) -> tuple[list[tuple[str, str, str, str]], Pairs]:
    """(name, value, source, note) in the order of the groups; and what is missing with why."""
    document = settings_document(report.settings)
    if "groups" not in document:
        return [], [("configuration", document["detail"] or document["absent"].replace("_", " "))]
    rows = [
        (one["name"], one["value"], one["source"], one["note"]) for held in document["groups"].values() for one in held
    ]
    missing = [
        (name, why["detail"] or why["absent"].replace("_", " ")) for name, why in sorted(document["missing"].items())
    ]
    return rows, missing


PROBE_HEAD = ("sent", "prompt", "answer", "TTFT", "TPOT", "E2E", "ended")
PROBES_SHOWN = 200
"""Test prompts listed; a benchmark sends thousands."""


def probe_rows(report: Gathered) -> list[tuple[str, ...]]:
    """One row a test prompt, as many as are shown."""
    return [_probe_row(one) for one in report.probes[:PROBES_SHOWN]]


def _probe_row(one: ProbeResult) -> tuple[str, ...]:
    ended = "ok" if one.ok else one.error
    times = (milliseconds(value) for value in (one.ttft_ms, one.tpot_ms, one.e2e_ms))
    return (
        utc(one.started, "%H:%M:%S"),
        number(one.prompt_tokens),
        number(one.completion_tokens),
        *times,
        f"{ended} ({one.finish_reason})" if one.finish_reason and one.ok else ended,
    )


def event_rows(report: Gathered) -> Iterator[tuple[str, str, str]]:
    """(when, kind, what came of it) of changes, undoing and notes."""
    for event in report.events:
        data = event.data
        # a key "text" is left out when a recording is written, as that of a prompt is; imported ones may have it
        told = str(data.get("told") or data.get("text") or data.get("note") or "")
        knob = str(data.get("knob") or "")
        if not told:
            restored = data.get("restored")
            told = f"{knob} put back" if restored is True else f"{knob} not put back" if restored is False else knob
        if data.get("kept") is False and event.kind == "change":
            told += " (put back)" if "put back" not in told else ""
        yield utc(event.t), event.kind, told
