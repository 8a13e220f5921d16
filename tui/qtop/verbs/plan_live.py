"""What is here, for a plan: the GPU and the host as they are, a running server's own settings and figures."""

from __future__ import annotations

import argparse
import time

from msgspec.structs import replace

from qtop.collect.host import HostCollector
from qtop.collect.topology import TopologyReader
from qtop.config import Settings
from qtop.diagnose.rules.configured import cpu_build
from qtop.errors import QtopError
from qtop.model.derive import Deriver
from qtop.model.frame import Frame, GpuView
from qtop.model.gpus import named
from qtop.model.roofline import bandwidth_of, gpus_of_server
from qtop.plan.compare import Seen
from qtop.plan.host import HostFacts
from qtop.plan.serving import Card
from qtop.sample import Absent, HostSample, Sample, ServerInfo
from qtop.session import require_latest
from qtop.verbs.live import live_session

WATCH_S = 3.0
"""Seconds that a running server is watched: rates need two readings, and one tick of them is noisy."""


def look(args: argparse.Namespace, settings: Settings) -> Frame:
    """GPUs, host, and the server that runs here, watched until its rates are there."""
    with live_session(args, settings, need_server=False) as session:
        latest = require_latest(session)
        deadline = time.monotonic() + WATCH_S
        while not isinstance(latest.frame.server, Absent) and (left := deadline - time.monotonic()) > 0:
            latest = session.wait(latest.seq, min(left, 2.0)) or latest
    host = latest.frame.host
    if isinstance(host, Absent) or isinstance(host.cores, Absent):  # it is read in the background, and may be late
        return replace(latest.frame, host=host_alone().host)
    return latest.frame


def host_alone() -> Frame:
    """The host alone: no server is looked for."""
    host = HostCollector().read(())
    if isinstance(host, HostSample):
        host = replace(host, topology=TopologyReader().look()[0])
    return Deriver(kept=False).push(Sample(t=time.time(), host=host))


def gpu_here(frame: Frame) -> tuple[Card, int]:
    """(the server's card, or the first here, and how many of the kind). Errors: QtopError where there is none."""
    if isinstance(frame.gpus, Absent) or not frame.gpus:
        why = str(frame.gpus) if isinstance(frame.gpus, Absent) else "none"
        raise QtopError(f"no GPU can be read here ({why})", "Name one with --gpu; `qtop plan --list` says which.")
    views = gpus_of_server(frame.gpus) or frame.gpus[:1]
    return _card(views[0], not isinstance(frame.server, Absent)), len(views)


def on_cpu(frame: Frame) -> bool:
    """Whether the server that runs here is vLLM's CPU build."""
    return isinstance(frame.server, ServerInfo) and cpu_build(frame.server, frame.settings)


def cpu_here(frame: Frame) -> Card:
    """This host's RAM in place of a GPU's. Errors: QtopError where it cannot be read."""
    host = frame.host
    if isinstance(host, Absent) or isinstance(host.mem_total, Absent):
        raise QtopError("the memory of this host cannot be read")
    free = host.mem_total if isinstance(host.mem_available, Absent) else host.mem_available
    peak = (
        0.0
        if isinstance(host.memory, Absent) or isinstance(host.memory.peak_bytes_s, Absent)
        else (host.memory.peak_bytes_s)
    )
    running = isinstance(frame.server, ServerInfo) and cpu_build(frame.server, frame.settings)
    return Card(
        name="the CPU",
        total=float(host.mem_total),
        bandwidth=peak,
        bf16=None,
        fp8=None,
        pcie="",
        source="RAM of this host" + ("; bandwidth by its modules" if peak else "; its bandwidth is not told"),
        others=0.0 if running else float(host.mem_total - free),
        is_cpu=True,
    )


def _card(view: GpuView, serves: bool) -> Card:
    name = view.name if isinstance(view.name, str) else "this GPU"
    if isinstance(view.mem_total, Absent):
        raise QtopError(f"the memory of {name} cannot be read ({view.mem_total})", "Name a card with --gpu.")
    # On an H100 total less reserved is exactly what CUDA sees: 85 520 809 984 − 503 316 480 = 85 017 493 504 bytes.
    split = view.vram
    reserved = 0 if isinstance(split, Absent) else split.reserved
    others = 0.0
    if not isinstance(split, Absent):
        if not isinstance(split.others, Absent):
            others = float(split.others)
        elif not serves:  # whoever holds it, it is no server that the plan would take the place of
            others = float(view.mem_total - reserved - split.free)
    known = named(name)
    bandwidth = bandwidth_of(view)
    if bandwidth is None:
        raise QtopError(f"how fast {name} reads its memory is not known", "Name a card that is like it with --gpu.")
    how = "NVML: memory less what the driver reserves"
    how += "; bandwidth by clock and bus" if not isinstance(view.bandwidth, Absent) else "; bandwidth by its name"
    return Card(
        name=name,
        total=float(view.mem_total - reserved),
        bandwidth=bandwidth,
        bf16=known.bf16 if known is not None else None,
        fp8=known.fp8 if known is not None else None,
        pcie=view.pcie_max if isinstance(view.pcie_max, str) else "",
        source=how,
        others=others,
        numa_node=None if isinstance(view.numa_node, Absent) else view.numa_node,
        local_cpus=view.local_cpus if isinstance(view.local_cpus, str) else "",
    )


def host_facts(frame: Frame, gpu: Card) -> HostFacts:
    """The host as it was read."""
    host = frame.host
    if isinstance(host, Absent):
        return HostFacts(gpu_node=gpu.numa_node, gpu_cpus=gpu.local_cpus)
    logical: float | None = float(host.cpus)
    cores: float | None = None if isinstance(host.cores, Absent) else float(host.cores)
    if not isinstance(frame.sched, Absent) and not isinstance(frame.sched.usable, Absent):
        logical = frame.sched.usable.logical
        cores = cores if isinstance(frame.sched.usable.cores, Absent) else frame.sched.usable.cores
    modules, peak = "", None
    if not isinstance(host.memory, Absent):
        view = host.memory
        told = [f"{view.modules} × {view.kind or 'memory'}"]
        told += [f"{view.configured_mts} MT/s"] if not isinstance(view.configured_mts, Absent) else []
        told += [f"{view.channels} channels"] if not isinstance(view.channels, Absent) else []
        if not isinstance(view.peak_bytes_s, Absent):
            peak = view.peak_bytes_s
            told.append(f"{peak / 1e9:.0f} GB/s at most")
        modules = ", ".join(told)
    return HostFacts(
        logical=logical,
        cores=cores,
        smt=None if isinstance(host.smt, Absent) else host.smt,
        nodes=None if isinstance(host.nodes, Absent) else host.nodes,
        memory=None if isinstance(host.mem_total, Absent) else host.mem_total,
        available=None if isinstance(host.mem_available, Absent) else host.mem_available,
        gpu_node=gpu.numa_node,
        gpu_cpus=gpu.local_cpus,
        modules=modules,
        peak_bytes_s=peak,
    )


def seen(frame: Frame) -> Seen | None:
    """What the server that runs here tells; None without one."""
    server, engine = frame.server, frame.engine
    if isinstance(server, Absent):
        return None
    version = "" if isinstance(server.version, Absent) else f" {server.version}"
    model = "" if isinstance(server.model, Absent) else f", {server.model}"
    title = f"{server.engine}{version}{model}"
    settings = frame.settings
    given = False
    if not isinstance(settings, Absent):
        given = any(settings.number(name) is not None for name in ("kv_cache_memory_bytes", "num_gpu_blocks_override"))
    tokens = None if isinstance(frame.kv_tokens, Absent) else frame.kv_tokens
    if isinstance(engine, Absent):
        return Seen(title, kv_tokens=tokens, blocks_given=given)

    def told(reading: float | int | Absent) -> float | None:
        return None if isinstance(reading, Absent) else float(reading)

    use = told(engine.kv_use)
    wait = None
    if not isinstance(frame.sched, Absent) and frame.sched.critical:
        wait = max(thread.contended for thread in frame.sched.critical)
    used = None
    if not isinstance(frame.gpus, Absent):
        parts = [view.vram.server for view in gpus_of_server(frame.gpus) if not isinstance(view.vram, Absent)]
        known = [float(part) for part in parts if not isinstance(part, Absent)]
        used = sum(known) / len(known) if known else None
    return Seen(
        server=title,
        kv_tokens=tokens,
        tok_s=told(engine.gen_tok_s),
        running=told(engine.running),
        held=use * tokens if use is not None and tokens is not None else None,
        prompt_tok_s=told(engine.prompt_tok_s),
        used=used,
        cpu_wait=wait,
        blocks_given=given,
    )
