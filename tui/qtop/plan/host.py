"""Whether the host's CPUs and memory carry a plan. Pure.

Cores: vLLM's own rule, 2 + N physical cores (twice as many threads) for N GPUs (docs/configuration/optimization.md).
Memory: the weights pass through the page cache once while they load and need not stay; the processes themselves held
3.6 and 3.8 GiB in recordings of vLLM 0.25.1 on an H200 and an H100.
"""

from __future__ import annotations

import msgspec

from qtop.units import GIB, number, size

PROCESSES = 4 * GIB
"""Memory of the API server and one engine."""
EACH_GPU = 3 * GIB
"""Of each further worker: assumed."""


class HostFacts(msgspec.Struct, frozen=True):
    """What the host has; None where it could not be read."""

    logical: float | None = None
    """CPUs that may be used."""
    cores: float | None = None
    """Physical cores' worth of them."""
    smt: bool | None = None
    nodes: int | None = None
    memory: int | None = None
    available: int | None = None
    gpu_node: int | None = None
    gpu_cpus: str = ""
    modules: str = ""
    """Memory modules, in words."""
    peak_bytes_s: float | None = None


class Line(msgspec.Struct, frozen=True):
    """One judgement; ``enough`` is None where it cannot be told."""

    what: str
    told: str
    enough: bool | None


class Measured(msgspec.Struct, frozen=True):
    """What was measured on request."""

    bandwidth: float | None = None
    """Bytes a second, read and written."""
    tokens_s: float | None = None
    """Of the model's tokenizer on one CPU."""
    missing: tuple[str, ...] = ()
    """What could not be measured, and why."""


def judge(host: HostFacts, gpus: int, weights: float) -> tuple[Line, ...]:
    """The host against a plan of so many GPUs and bytes of weights."""
    need = 2 + gpus
    lines = []
    if host.cores is None and host.logical is None:
        lines.append(
            Line("CPU cores", f"{need} or more are needed (vLLM: 2 + {gpus}); those here could not be read", None)
        )
    else:
        cores, logical = host.cores, host.logical
        have = [f"{number(cores)} cores"] if cores is not None else []
        have += [f"{number(logical)} CPUs"] if logical is not None else []
        enough = (cores is None or cores >= need) and (logical is None or logical >= 2 * need)
        smt = {True: ", SMT on", False: ", SMT off", None: ""}[host.smt]
        if not enough and cores is not None and cores >= need and host.smt is False:
            enough = True  # without SMT each CPU is a core
        rule = f"vLLM wants 2 + {gpus} cores, {2 * need} threads"
        lines.append(Line("CPU cores", f"{' and '.join(have)}{smt}; {rule}", enough))
    if host.nodes is not None and host.nodes > 1:
        where = f"the GPU is on node {host.gpu_node}" if host.gpu_node not in (None, -1) else "the GPU's is not told"
        cpus = f", CPUs {host.gpu_cpus}: keep the server there (--numa-bind)" if host.gpu_cpus else ""
        lines.append(Line("NUMA", f"{host.nodes} nodes; {where}{cpus}", None))
    wanted = PROCESSES + EACH_GPU * (gpus - 1)
    if host.memory is None:
        lines.append(Line("RAM", f"{size(wanted)} for its processes; what is here could not be read", None))
    else:
        spare = host.memory - wanted
        rests = (
            f"the weights ({size(weights)}) stay in the page cache, so a restart reads no disk"
            if spare > weights
            else f"the weights ({size(weights)}) do not stay in the page cache: each start reads them from the disk"
        )
        free = f", {size(host.available)} available now" if host.available is not None else ""
        lines.append(
            Line("RAM", f"{size(host.memory)}{free}; {size(wanted)} for its processes; {rests}", host.memory >= wanted)
        )
    if host.modules:
        lines.append(Line("memory", host.modules, None))
    return tuple(lines)


def meant(found: Measured, prompt: int) -> tuple[str, ...]:
    """What was measured, and what it means for a prompt of so many tokens."""
    told = []
    if found.tokens_s is not None:
        cost = prompt / found.tokens_s
        told.append(
            f"tokenizer: {number(round(found.tokens_s, -3))} tokens a second on one CPU; {number(prompt)} tokens take "
            f"{cost * 1000:.0f} ms of TTFT, and more cores do not shorten that"
        )
    if found.bandwidth is not None:
        told.append(
            f"memory: {found.bandwidth / 1e9:.1f} GB/s read and written; a prompt of {number(prompt)} tokens is "
            f"{size(4 * prompt)}, so TTFT does not depend on it; loading weights and an offloaded cache do"
        )
    return (*told, *found.missing)
