"""What can be charted: one entry a figure, with what it is, its unit and its scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qtop.model.frame import EngineView, Frame, GpuView, HostView, OwnView, SchedView, WakeupView, Waterfall
from qtop.sample import NOT_YET, Absent, Gpm, Reading

Pick = Callable[[Frame], Reading[float]]


@dataclass(frozen=True)
class Plot:
    """One figure over time. Shares are 0–1 in ``pick`` and shown in %."""

    id: str
    group: str
    name: str
    """Short, for a list."""
    what: str
    """In full, for a caption."""
    unit: str
    pick: Pick
    scale: float | None = None
    """The value at the upper edge, in what ``pick`` gives; None: as it comes."""

    @property
    def factor(self) -> float:
        """From what ``pick`` gives to what is shown."""
        return 100.0 if self.unit == "%" else 1.0


def _gpu(pick: Callable[[GpuView], Reading[float]]) -> Pick:
    """A figure of the busiest GPU: one that idles beside it would hide what holds things up."""

    def chosen(frame: Frame) -> Reading[float]:
        if isinstance(frame.gpus, Absent):
            return frame.gpus
        values = [pick(gpu) for gpu in frame.gpus]
        known = [value for value in values if not isinstance(value, Absent)]
        return max(known) if known else (values[0] if values else NOT_YET)

    return chosen


def _engine(pick: Callable[[EngineView], Reading[float]]) -> Pick:
    return lambda frame: frame.engine if isinstance(frame.engine, Absent) else pick(frame.engine)


def _host(pick: Callable[[HostView], Reading[float]]) -> Pick:
    return lambda frame: frame.host if isinstance(frame.host, Absent) else pick(frame.host)


def _fall(pick: Callable[[Waterfall], Reading[float]]) -> Pick:
    return lambda frame: frame.waterfall if isinstance(frame.waterfall, Absent) else pick(frame.waterfall)


def _wakeup(frame: Frame) -> Reading[float]:
    return frame.wakeup.p95_ms if isinstance(frame.wakeup, WakeupView) else frame.wakeup


def _own_cpu(frame: Frame) -> Reading[float]:
    return frame.own.cpu if isinstance(frame.own, OwnView) else frame.own


def _critical(part: str) -> Pick:
    def most(frame: Frame) -> Reading[float]:
        if not isinstance(frame.sched, SchedView):
            return frame.sched
        return max((float(getattr(thread, part)) for thread in frame.sched.critical), default=NOT_YET)

    return most


def _sm(gpu: GpuView) -> Reading[float]:
    return _gpm(gpu, "sm_util")


def _gpm(gpu: GpuView, name: str) -> Reading[float]:
    if not isinstance(gpu.gpm, Gpm):
        return gpu.gpm
    share: Reading[float] = getattr(gpu.gpm, name)
    return share if isinstance(share, Absent) else share / 100.0


def _vram(gpu: GpuView) -> Reading[float]:
    if isinstance(gpu.mem_used, Absent):
        return gpu.mem_used
    if isinstance(gpu.mem_total, Absent):
        return gpu.mem_total
    return gpu.mem_used / gpu.mem_total if gpu.mem_total else NOT_YET


def _roofline(frame: Frame) -> Reading[float]:
    if isinstance(frame.engine, Absent):
        return frame.engine
    if isinstance(frame.roofline_tok_s, Absent):
        return frame.roofline_tok_s
    if isinstance(frame.engine.gen_tok_s, Absent):
        return frame.engine.gen_tok_s
    return frame.engine.gen_tok_s / frame.roofline_tok_s if frame.roofline_tok_s > 0 else NOT_YET


def first_plot(frame: Frame) -> Plot:
    """What to show before anything was chosen: the GPU where there is one, else waiting for a CPU."""
    no_gpu = isinstance(frame.gpus, Absent) or not frame.gpus
    return BY_ID["wait"] if no_gpu else busy_plot(frame)


def busy_plot(frame: Frame) -> Plot:
    """The chart of the GPU panel: how full the SMs are where the GPU tells, else how often any kernel ran."""
    return BY_ID["sm"] if not isinstance(BY_ID["sm"].pick(frame), Absent) else BY_ID["util"]


PLOTS = (
    Plot("sm", "GPU", "SM busy", "SMs busy (GPM)", "%", _gpu(_sm), 1.0),
    Plot("tensor", "GPU", "tensor", "tensor cores busy (GPM)", "%", _gpu(lambda g: _gpm(g, "tensor_util")), 1.0),
    Plot("dram", "GPU", "DRAM", "memory bandwidth in use (GPM)", "%", _gpu(lambda g: _gpm(g, "dram_util")), 1.0),
    Plot("util", "GPU", "any kernel", "time with any kernel running", "%", _gpu(lambda g: g.util), 1.0),
    Plot("vram", "GPU", "VRAM", "GPU memory in use", "%", _gpu(_vram), 1.0),
    Plot("power", "GPU", "power", "power drawn", "W", _gpu(lambda g: g.power_w)),
    Plot("temp", "GPU", "heat", "GPU temperature", "°C", _gpu(lambda g: g.temp_c), 100.0),
    Plot("wait", "CPU", "waits", "waits for a CPU", "%", _critical("wait"), 1.0),
    Plot("run", "CPU", "runs", "critical thread runs on a CPU", "%", _critical("run"), 1.0),
    Plot("host", "CPU", "host busy", "all CPUs of the host busy", "%", _host(lambda h: h.busy), 1.0),
    Plot("psi", "CPU", "PSI", "some task on the host waits for a CPU", "%", _host(lambda h: h.psi_cpu), 1.0),
    Plot("steal", "CPU", "steal", "time taken by other guests of this machine", "%", _host(lambda h: h.steal), 1.0),
    Plot("wakeup", "CPU", "wake-up", "wake-up latency p95, last 10 s", "ms", _wakeup),
    Plot("output", "server", "output", "output tokens a second", "tok/s", _engine(lambda e: e.gen_tok_s)),
    Plot("prompt", "server", "prompt", "prompt tokens a second", "tok/s", _engine(lambda e: e.prompt_tok_s)),
    Plot("running", "server", "running", "requests running", "", _engine(lambda e: e.running)),
    Plot("waiting", "server", "waiting", "requests waiting", "", _engine(lambda e: e.waiting)),
    Plot("kv", "server", "KV cache", "KV cache in use", "%", _engine(lambda e: e.kv_use), 1.0),
    Plot("gap", "server", "token gap", "mean gap between tokens", "ms", _engine(lambda e: e.itl_ms)),
    Plot("ttft", "server", "TTFT", "mean TTFT, last 30 s", "ms", _fall(lambda w: w.ttft_ms)),
    Plot("roofline", "server", "roofline", "output as a share of the memory roofline", "%", _roofline, 1.0),
    Plot("own", "qtop", "qtop's CPU", "qtop's own share of one core", "%", _own_cpu),
)
BY_ID = {plot.id: plot for plot in PLOTS}
