"""The server in detail: its figures with where each comes from, latencies no sharper than its histograms, its ranks and
adapters, and the settings in force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from qtop.model.frame import EngineView, Frame, SchedView
from qtop.model.serving import Latency, LatencyView, LoraView, ModelView, Quantile
from qtop.model.settings import SettingsView
from qtop.sample import Absent, Reading, ServerInfo
from qtop.ui.cells import fit, wrap
from qtop.ui.look import Line, Look
from qtop.ui.panels import pair, title
from qtop.ui.panels.table import Cell, Column, heading, row
from qtop.ui.panels.threads import ROLES
from qtop.units import NONE, milliseconds, number, percent, size

_NAME = 18
_VALUE = 18
FIGURES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("running", "running", number),
    ("waiting", "waiting", number),
    ("kv_use", "KV cache in use", percent),
    ("kv_capacity_tokens", "KV cache holds", lambda x: f"{number(x)} tokens"),
    ("preempt_s", "preempted", lambda x: f"{number(x)}/s"),
    ("gen_tok_s", "output", lambda x: f"{number(x)} tok/s"),
    ("prompt_tok_s", "prompt", lambda x: f"{number(x)} tok/s"),
    ("steps_s", "steps", lambda x: f"{number(x)}/s"),
    ("tokens_step", "tokens a step", number),
    ("finished_s", "finished", lambda x: f"{number(x)}/s"),
    ("rejections_s", "rejected", lambda x: f"{number(x)}/s"),
    ("itl_ms", "token gap", milliseconds),
    ("prefix_hit", "prefix cache hits", percent),
    ("spec_accept", "drafts accepted", percent),
    ("sleep", "sleep state", str),
    ("api_cpu", "HTTP process", lambda x: f"{number(x)} CPUs"),
    ("scheduler_cpu", "scheduler", lambda x: f"{number(x)} CPUs"),
    ("scheduler_idle", "scheduler idle", percent),
)
LATENCIES = (
    ("ttft", "TTFT"),
    ("queue", "queue"),
    ("prefill", "prefill"),
    ("decode", "decode"),
    ("itl", "token gap"),
    ("e2e", "whole request"),
)
_LATENCY = (
    Column("", 13, right=False),
    Column("mean", 9),
    Column("p50", 12),
    Column("p95", 12),
    Column("p99", 12, least=70),
    Column("n", 9, least=70),
    Column("from", 0, right=False, least=104),
)
_RANKS = (
    Column("engine", 8, right=False),
    Column("running", 7),
    Column("waiting", 7),
    Column("KV", 5),
    Column("output", 13),
    Column("steps/s", 7),
)
_SETTINGS = (
    Column("setting", 30, right=False),
    Column("value", 22, right=False),
    Column("from", 22, right=False, least=78),
    Column("", 0, right=False, least=110),
)


def serving_lines(look: Look, frame: Frame, width: int) -> list[Line]:
    """All of it, one block under the other."""
    server = frame.server
    if isinstance(server, Absent):
        return [title(look, "Server", width), (look.seg(fit(str(server), width), "label"),)]
    lines = [*_who(look, server, width), *_processes(look, frame.sched, width)]
    engine = frame.engine
    if isinstance(engine, EngineView):
        lines += [(), *_figures(look, engine, width)]
        lines += _by_reason(look, engine, width)
        lines += _adapters(look, engine.loras, width)
        lines += _models(look, engine.models, width)
        lines += _ranks(look, engine, width)
    else:
        lines += [pair(look, "metrics", fit(str(engine), width - 20), "warn", 20)]
    lines += [(), *_latencies(look, frame.latency, width)]
    return [*lines, (), *_settings(look, frame.settings, width)]


def _who(look: Look, server: ServerInfo, width: int) -> list[Line]:
    from qtop.ui.panels.server import ENGINES

    version = f" {server.version}" if isinstance(server.version, str) else ""
    note = "" if server.verified else "not verified on a running server"
    lines = [title(look, f"Server: {ENGINES.get(server.engine, server.engine)}{version}", width, note)]
    for name, value in (("model", server.model), ("address", server.url), ("process", server.pid)):
        text = str(value) if not isinstance(value, Absent) else f"{NONE} {value}"
        lines.append(pair(look, name, fit(text, width - _NAME), label_width=_NAME))
    return lines


def _processes(look: Look, sched: SchedView | Absent, width: int) -> list[Line]:
    """How many of each kind there are, where there are several."""
    if isinstance(sched, Absent) or sched.processes < 2:
        return []
    found = Counter({one.pid: one.process_role or "other" for one in sched.threads}.values())
    text = ", ".join(
        f"{n} {ROLES.get(role, role)}{'s' if n > 1 else ''}"
        for role, n in sorted(found.items(), key=lambda x: _order(x[0]))
    )
    return [
        pair(look, "" if row else "processes", line, label_width=_NAME)
        for row, line in enumerate(wrap(text, width - _NAME))
    ]


def _order(role: str) -> tuple[int, str]:
    known = ("launcher", "router", "api", "coordinator", "engine", "scheduler", "worker")
    return (known.index(role) if role in known else len(known), role)


def _figures(look: Look, engine: EngineView, width: int) -> list[Line]:
    """Each figure with its source; what this engine does not tell is named once, at the end."""
    lines: list[Line] = [title(look, "Now", width, "where it comes from")]
    silent: list[str] = []
    for field, name, shown in FIGURES:
        value = getattr(engine, field)
        if isinstance(value, Absent):
            silent.append(name)
            continue
        source = engine.sources.get(field, "")
        head = pair(look, name, fit(shown(value), _VALUE - 1).ljust(_VALUE), label_width=_NAME)
        lines.append((*head, look.seg(fit(source, max(0, width - _NAME - _VALUE)), "label")))
    if silent:
        told = wrap(", ".join(silent), width - _NAME)
        lines += [pair(look, "" if row else "not told", text, "label", _NAME) for row, text in enumerate(told)]
    return lines


def _by_reason(look: Look, engine: EngineView, width: int) -> list[Line]:
    lines: list[Line] = []
    for name, parts, unit in (
        ("waiting for", engine.waiting_by_reason, ""),
        ("ended by", engine.finished_by_reason, "/s"),
    ):
        if isinstance(parts, Absent) or not parts:
            continue
        parts = {reason: value for reason, value in parts.items() if value > 0}
        text = "   ".join(f"{reason} {number(value)}{unit}" for reason, value in sorted(parts.items())) or "nothing"
        lines.append(pair(look, name, fit(text, width - _NAME), label_width=_NAME))
    return lines


def _adapters(look: Look, loras: LoraView | Absent, width: int) -> list[Line]:
    if isinstance(loras, Absent):
        return []
    text = [f"at most {number(loras.max)}"] if not isinstance(loras.max, Absent) else []
    for name, adapters in (("running", loras.running), ("waiting", loras.waiting)):
        if not isinstance(adapters, Absent) and adapters:
            text.append(f"{name}: {', '.join(adapters)}")
    return [pair(look, "LoRA adapters", fit("   ".join(text), width - _NAME), label_width=_NAME)] if text else []


def _models(look: Look, models: tuple[ModelView, ...] | Absent, width: int) -> list[Line]:
    if isinstance(models, Absent):
        return []
    return [
        pair(
            look,
            "in memory",
            fit(f"{one.name}   {size(one.bytes)}, {size(one.vram_bytes)} of it on GPUs", width - _NAME),
            label_width=_NAME,
        )
        for one in models
    ]


def _ranks(look: Look, engine: EngineView, width: int) -> list[Line]:
    if len(engine.engines) < 2:
        return []
    lines: list[Line] = [(), heading(look, _RANKS, width)]
    for rank in engine.engines:
        cells = (
            rank.label,
            number(rank.running),
            number(rank.waiting),
            percent(rank.kv_use),
            f"{number(rank.gen_tok_s)} tok/s",
            number(rank.steps_s),
        )
        lines.append(row(look, [Cell(text) for text in cells], _RANKS, width))
    return lines


def _latencies(look: Look, view: LatencyView | Absent, width: int) -> list[Line]:
    if isinstance(view, Absent):
        return [title(look, "Latency", width), (look.seg(fit(str(view), width), "label"),)]
    lines: list[Line] = [title(look, f"Latency, last {view.seconds:.0f} s", width, "by the server's own histograms")]
    lines.append(heading(look, _LATENCY, width))
    for field, name in LATENCIES:
        one: Latency | Absent = getattr(view, field)
        if isinstance(one, Absent):
            lines.append((look.seg(f"{name.ljust(16)}{fit(str(one), width - 16)}", "label"),))
            continue
        cells = [name, milliseconds(one.mean_ms), *(quantile(p) for p in (one.p50, one.p95, one.p99)), number(one.n)]
        lines.append(row(look, [*(Cell(text) for text in cells), Cell(one.source, "label")], _LATENCY, width))
    return lines


def quantile(value: Reading[Quantile]) -> str:
    """As the range in which it surely lies; "< 300 ms" inside a first bucket, "> 60 s" beyond the last."""
    if isinstance(value, Absent):
        return NONE
    if value.relation == "<":
        return f"< {_short(value.high_ms)}"
    if value.relation == ">":
        return f"> {_short(value.low_ms)}"
    if value.high_ms >= 1000:
        return f"{value.low_ms / 1000:g}–{value.high_ms / 1000:g} s"
    return f"{value.low_ms:g}–{_short(value.high_ms)}"


def _short(ms: float) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _settings(look: Look, view: SettingsView | Absent, width: int) -> list[Line]:
    if isinstance(view, Absent):
        return [title(look, "Settings in force", width), (look.seg(fit(str(view), width), "label"),)]
    lines: list[Line] = [title(look, "Settings in force", width)]
    for group, settings in view.groups.items():
        if not settings:
            continue
        lines.append(row(look, [Cell(group, "title"), Cell(""), Cell(""), Cell("")], _SETTINGS, width))
        for one in settings:
            cells = (
                Cell(f"  {one.name}", "label"),
                Cell(one.value),
                Cell(one.source, "label"),
                Cell(one.note, "warn" if "not a flag" in one.note else "label"),
            )
            lines.append(row(look, cells, _SETTINGS, width))
    for name, why in view.missing.items():
        lines.append(pair(look, f"  {name}", fit(str(why), width - 30), "label", 30))
    return lines
