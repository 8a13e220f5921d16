"""What the rules of the GPU share: the worst of several GPUs, clocks that were lost, who else is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qtop.diagnose.rule import CannotTell, Evidence, NotApplicable
from qtop.diagnose.rules.common import gpus_of, known, running_of, said
from qtop.model.frame import EngineView, Frame, GpuView
from qtop.model.gpu_view import OtherProcess
from qtop.sample import NOT_RECORDED, Absent, Reading, Why
from qtop.units import size

HALVED = 0.5
"""A hardware slowdown divides the clock by two or more (source: nvml.h, nvmlClocksEventReasonHwSlowdown)."""
COUNTERS = {"power_cap": "field 74", "sw_thermal": "field 269", "hw_thermal": "field 270", "power_brake": "field 271"}


def worst(gpus: Iterable[GpuView], reading: Callable[[GpuView], Reading[float]]) -> tuple[float, GpuView] | CannotTell:
    """The largest value among the GPUs that tell it, or why none does."""
    best: tuple[float, GpuView] | None = None
    why: Absent = NOT_RECORDED
    for gpu in gpus:
        value = reading(gpu)
        if isinstance(value, Absent):
            why = value
        elif best is None or value > best[0]:
            best = value, gpu
    return CannotTell(said(why)) if best is None else best


def lost_clock(gpu: GpuView) -> float | None:
    """Share of its highest SM clock that the GPU does without now, 0–1."""
    now, most = gpu.sm_mhz, gpu.sm_max_mhz
    if isinstance(now, Absent) or isinstance(most, Absent) or most <= 0:
        return None
    return max(0.0, 1.0 - now / most)


def works(gpu: GpuView) -> bool:
    """Whether any kernel ran of late; True where the driver does not tell."""
    return isinstance(gpu.util, Absent) or gpu.util > 0


def stalled(frame: Frame) -> bool:
    """Whether the server makes no progress at all: it does not answer, or requests run and bring no token."""
    engine = frame.engine
    if isinstance(engine, Absent):
        return engine.why in (Why.LOST, Why.STALE)
    return running_of(engine) > 0 and known(engine.gen_tok_s) == 0 and known(engine.prompt_tok_s) == 0


def is_idle(frame: Frame) -> bool:
    """Whether the server says that no request runs."""
    return isinstance(frame.engine, EngineView) and known(frame.engine.running) == 0


def no_server(frame: Frame) -> CannotTell | None:
    """Why there is no server to speak of; None where there is one, or a recording does not say."""
    server = frame.server
    if isinstance(server, Absent) and server.why is not Why.NOT_RECORDED:
        return CannotTell(server.detail or "no server")
    return None


def watched(frame: Frame) -> tuple[GpuView, ...] | CannotTell | NotApplicable:
    """The GPUs of a server that is there, as ``gpus_of`` has them, or why there is nothing to judge."""
    return no_server(frame) or gpus_of(frame)


def clock_line(gpu: GpuView) -> tuple[Evidence, ...]:
    """Clock, temperature and power of a GPU, as far as they are known."""
    lines: list[Evidence] = []
    if not isinstance(gpu.sm_mhz, Absent):
        most = "" if isinstance(gpu.sm_max_mhz, Absent) else f"it can do {gpu.sm_max_mhz} MHz"
        lines.append(Evidence("SM clock", float(gpu.sm_mhz), "MHz", None, most))
    if not isinstance(gpu.temp_c, Absent):
        lines.append(Evidence("temperature", float(gpu.temp_c), "°C"))
    if not isinstance(gpu.margin_c, Absent):
        lines.append(Evidence("left until the hardware slows it down", float(gpu.margin_c), "°C"))
    if not isinstance(gpu.mem_temp_c, Absent):
        lines.append(Evidence("temperature of its memory", float(gpu.mem_temp_c), "°C"))
    if not isinstance(gpu.power_w, Absent):
        limit = known(gpu.power_limit_w)
        lines.append(Evidence("power", gpu.power_w, "W", limit, "the limit in force" if limit is not None else ""))
    return tuple(lines)


def at_clock(gpu: GpuView) -> str:
    """ " (84 °C, 1410 of 1980 MHz)", as far as it is known."""
    parts = [] if isinstance(gpu.temp_c, Absent) else [f"{gpu.temp_c} °C"]
    if not isinstance(gpu.sm_mhz, Absent):
        of = "" if isinstance(gpu.sm_max_mhz, Absent) else f" of {gpu.sm_max_mhz}"
        parts.append(f"{gpu.sm_mhz}{of} MHz")
    return f" ({', '.join(parts)})" if parts else ""


def how_known(gpu: GpuView, name: str) -> str:
    """Where the seconds of a clock limit come from."""
    if isinstance(gpu.duty.get(name, NOT_RECORDED), Absent):
        return "clock event reasons at neighbouring readings; the driver has no counter"
    return f"the driver's ns counter ({COUNTERS.get(name, name)})"


def process_name(one: OtherProcess) -> str:
    """ "python3 (1322)"."""
    return f"{one.comm or 'process'} ({one.pid})"


def process_lines(others: Iterable[OtherProcess], most: int = 4) -> tuple[Evidence, ...]:
    """What other processes hold and do."""
    lines = []
    for one in list(others)[:most]:
        held = said(one.bytes) if isinstance(one.bytes, Absent) else f"holds {size(one.bytes)}"
        if isinstance(one.sm, Absent):
            lines.append(Evidence(process_name(one), held, ""))
        else:
            lines.append(Evidence(f"{process_name(one)}, {held}, computes", one.sm, "of the SMs' time"))
    return tuple(lines)


def _set_to(frame: Frame, name: str) -> str:
    """A setting of the server in force, in lower case; "" where it is not known."""
    one = None if isinstance(frame.settings, Absent) else frame.settings.get(name)
    return "" if one is None else one.value.lower()


def _quantised(frame: Frame) -> bool:
    return _set_to(frame, "quantization") not in ("", "none", "auto", "off")


def less_to_read(frame: Frame) -> str:
    """What makes a step read less of the GPU's memory, and is not done yet."""
    ways = [] if _quantised(frame) else ["quantised weights"]
    if not _set_to(frame, "kv_cache_dtype").startswith("fp8"):
        ways.append("an fp8 KV cache")
    return " or ".join(ways or ["shorter contexts", "more GPUs"])


def less_to_compute(frame: Frame) -> str:
    """What makes a token cost less work, and is not done yet."""
    return "shorter prompts" if _quantised(frame) else "fp8 weights, shorter prompts"
