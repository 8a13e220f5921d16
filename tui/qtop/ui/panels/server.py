"""The server panel: load, cache, tokens, and how that compares with what the GPU could do."""

from __future__ import annotations

from qtop.model.engines import TABLES
from qtop.model.frame import EngineView, Frame
from qtop.model.several import cap_of
from qtop.plan.memory import full_length_requests
from qtop.sample import Absent, Reading, ServerInfo
from qtop.ui.cells import fit
from qtop.ui.look import Line, Look
from qtop.ui.panels import crit_above, packed, pair, title
from qtop.ui.widgets.marks import bar
from qtop.units import milliseconds, number, percent

ENGINES = {name: table.title for name, table in TABLES.items()} | {
    "openai": "OpenAI-compatible",
    "unknown": "unknown server",
}


def server_lines(look: Look, frame: Frame, width: int, rows: int = 99) -> list[Line]:
    """What the server says of itself; one line why, where it says nothing."""
    server = frame.server
    if isinstance(server, Absent):
        return [title(look, "Server", width), pair(look, "server", fit(str(server), width - 8), "label")]
    where = "in a container" if server.in_container else "" if server.on_host else "on another host"
    lines = [title(look, f"Server {ENGINES.get(server.engine, server.engine)}", width, where)]
    engine = frame.engine
    if not isinstance(engine, EngineView):
        lines.append(pair(look, "metrics", fit(str(engine), width - 8), "warn"))
        return lines + _limits(look, server, frame)
    lines.append(_load(look, engine, cap_of(frame), width))
    lines.append(_cache(look, engine, width))
    lines.append(_tokens(look, engine, frame, width))
    lines.append(pair(look, "prompt", f"{number(engine.prompt_tok_s, 6)} tok/s"))
    steps = f"   {number(engine.steps_s)} steps/s" if not isinstance(engine.steps_s, Absent) else ""
    lines.append(packed(width, pair(look, "gap", f"{milliseconds(engine.itl_ms)} a token"), (look.seg(steps),)))
    return (lines + _limits(look, server, frame))[:rows]


def _load(look: Look, engine: EngineView, most: Reading[int], width: int) -> Line:
    cap = f" of {number(most)}" if not isinstance(most, Absent) else ""
    waits = not isinstance(engine.waiting, Absent) and engine.waiting > 0
    return packed(
        width,
        pair(look, "running", f"{number(engine.running)}{cap}"),
        (look.seg("   waiting ", "label"), look.seg(number(engine.waiting), "warn" if waits else "text")),
    )


def _cache(look: Look, engine: EngineView, width: int) -> Line:
    groups: list[Line] = [pair(look, "KV", percent(engine.kv_use, 5), crit_above(engine.kv_use, 0.8, 0.9))]
    if not isinstance(engine.kv_use, Absent):
        groups.append((look.seg(" "), look.seg(bar(engine.kv_use, 10, ascii=look.ascii), "accent")))
    if not isinstance(engine.preempt_s, Absent):
        pen = "warn" if engine.preempt_s > 0 else "text"
        groups.append((look.seg("  preempt ", "label"), look.seg(f"{number(engine.preempt_s)}/s", pen)))
    return packed(width, *groups)


def _tokens(look: Look, engine: EngineView, frame: Frame, width: int) -> Line:
    line = pair(look, "output", f"{number(engine.gen_tok_s, 6)} tok/s")
    bound = frame.roofline_tok_s
    if isinstance(bound, Absent) or isinstance(engine.gen_tok_s, Absent) or bound <= 0:
        return line
    return packed(width, line, (look.seg(f"  {percent(engine.gen_tok_s / bound)} of roofline", "label"),))


def _limits(look: Look, server: ServerInfo, frame: Frame) -> list[Line]:
    if isinstance(server.max_model_len, Absent):
        return []
    text = f"{number(server.max_model_len)} tokens"
    fits = full_length_requests(frame.kv_tokens, server.max_model_len)
    if not isinstance(fits, Absent):
        text += f", {number(fits)} such fit"
    return [pair(look, "context", text, "label")]
