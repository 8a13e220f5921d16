"""Section 3: what the CPU does, and how much of it there should be. G17 to G25."""

from __future__ import annotations

import math

from qtop.guide.claim import Checked, Claim, Known, elsewhere, holds, untold, wrong
from qtop.guide.seen import PATIENT, Seen, State, Stop
from qtop.model.cpu import QuotaView
from qtop.plan.budget import LONGEST
from qtop.sample import Absent
from qtop.units import GIB, milliseconds, number, percent, size

TASKS, CORES, MEMORY, NUMA = (
    "3 What the CPU has to do",
    "3.1 Cores and threads",
    "3.2 Memory bandwidth",
    "3.3 NUMA balancing",
)
GUIDES_TOK_S = 31_200
"""Tokens a second of the tokenizer with the guide's 16 cores."""
GUIDES_CORES = 12
CROWD = 6
"""Requests from which the guide's scheduler is late."""
WAITS = 0.10
"""Share of wall time that the engine's thread waits for a CPU from which it is late (rule QT201)."""
MIGRATES = 500.0
"""Pages a second that NUMA balancing moves from which it matters (rule QT604)."""


def _g17(seen: Seen) -> Checked:
    engine = seen.engine
    prompts = seen.told(engine.prompt_tok_s, "how many prompt tokens come")
    cpu = seen.told(engine.api_cpu, "the CPU time of the API server")
    fall = seen.frame.waterfall
    stage = {} if isinstance(fall, Absent) else {one.name: one.ms for one in fall.stages}
    frontend = stage.get("frontend")
    note = (
        ""
        if frontend is None or isinstance(frontend, Absent)
        else (f"a request spends {milliseconds(frontend)} in the frontend, tokenising included")
    )
    if prompts <= 0 or cpu <= 0.01:
        return untold(f"{number(round(prompts))} prompt tokens a second", note or "no prompts come", action="")
    each = prompts / cpu
    measured = f"≥ {number(round(each, -2))} tokens a CPU second"
    note = f"{number(round(prompts))} prompt tokens a second, {cpu:.2f} CPUs of the API server for all it does; {note}"
    if each > GUIDES_TOK_S:
        return wrong(measured, f"if the prompts came as text; {note}".rstrip("; "), action="")
    return untold(measured, f"too few prompt tokens to show what it could do; {note}".rstrip("; "), action="")


def _g18(seen: Seen) -> Checked:
    wait = seen.wait
    worst = seen.sched.critical[0]
    late = worst.wait_ms
    measured = f"engine waits {percent(wait)} of the time"
    if not isinstance(late, Absent) and late >= 0.05:
        measured += f", {milliseconds(late)} each"
    running = seen.engine.running
    if isinstance(running, Absent):
        return untold(measured, "how many requests run is not told")
    note = f"{number(running)} running; {worst.comm} may use the CPUs {worst.allowed or '?'}"
    if wait >= WAITS:
        late_for = f"it is late for want of a CPU that others use; {note}"
        return (holds if running > CROWD else wrong)(measured, late_for)
    if running <= CROWD:
        return untold(measured, f"{number(running)} run, the claim begins above {CROWD}", action="")
    return wrong(measured, note, action="")


def _g19(seen: Seen) -> Checked:
    loras = seen.engine.loras
    if isinstance(loras, Absent):
        return elsewhere("no LoRA adapter", str(loras), action="")
    parts = []
    if not isinstance(loras.running, Absent):
        parts.append(f"{len(loras.running)} running")
    if not isinstance(loras.waiting, Absent):
        parts.append(f"{len(loras.waiting)} waiting")
    if not isinstance(loras.max, Absent):
        parts.append(f"{number(loras.max)} fit a batch")
    note = "how long a load takes, no metric tells"
    waits = not isinstance(loras.waiting, Absent) and len(loras.waiting) > 0
    return untold(", ".join(parts), note, action=None if waits else "")


def _g20(seen: Seen) -> Checked:
    host = seen.host
    smt = seen.told(host.smt, "whether SMT is on")
    cores = seen.told(host.cores, "how many cores there are")
    measured = f"{cores} cores, {host.cpus} threads, SMT {'on' if smt else 'off'}"
    if smt is (host.cpus > cores):
        more = "more threads than cores only because SMT is on" if smt else "off means as many threads as cores"
        return wrong(measured, more, action="")
    return untold(measured, "what the kernel says does not agree with itself", action="")


def _g21(seen: Seen) -> Checked:
    usable = seen.sched.usable
    if isinstance(usable, Absent):
        raise Stop(State.CANNOT_TELL, f"the CPUs that the server may use are not known ({usable})")
    try:
        count = len(seen.gpus)
    except Stop:
        count = 0
    cores = usable.cores if not isinstance(usable.cores, Absent) else usable.logical
    least = 2 + max(1, count)
    used = seen.sched.cpu
    measured = f"{cores:g} cores usable" + ("" if isinstance(used, Absent) else f", {used:.1f} CPUs used")
    note = f"vLLM's own rule for {max(1, count)} GPU{'s' if count > 1 else ''}: {least} cores or {2 * least} threads"
    note += f"; here limited by the {usable.limit}" if usable.limit != "host" else ""
    if count and (cores < least or usable.logical < 2 * least):
        return untold(measured, f"{note}: fewer than that are usable", action=None)
    if isinstance(used, Absent) or isinstance(seen.frame.engine, Absent):
        return untold(measured, note, action="")
    running = seen.engine.running
    if isinstance(running, Absent) or running <= 0:
        return untold(measured, f"no request runs; {note}", action="")
    if used < GUIDES_CORES / 2 and seen.wait < PATIENT:
        return wrong(measured, f"nothing waits for a CPU; {note}", action="")
    return untold(measured, note, action="")


def _g22(seen: Seen) -> Checked:
    shape = seen.shape
    if shape is None:
        server = seen.server
        return untold("", f"the shape of {server.model} is not known" if isinstance(server.model, str) else "no model")
    tokens = seen.told(seen.frame.kv_tokens, "how many tokens the cache holds")
    whole = LONGEST * shape.kv_token / GIB
    measured = f"256K take {whole:.1f} GiB"
    split = seen.gpu.vram
    where = (
        ""
        if isinstance(split, Absent) or isinstance(split.server, Absent)
        else (f"; the server holds {size(split.server)} of VRAM and {size(seen.sched.rss_bytes)} of RAM")
    )
    note = (
        f"{number(tokens)} tokens of {shape.kv_token / 1024:.0f} KiB are {tokens * shape.kv_token / GIB:.1f} GiB{where}"
    )
    return wrong(measured, note)


def _g23(seen: Seen) -> Checked:
    memory = seen.host.memory
    action: str | None = ""
    if isinstance(memory, Absent):
        measured, note = "memory modules not told", str(memory)
    else:
        speed, rated, channels = memory.configured_mts, memory.rated_mts, memory.channels
        parts = [f"{memory.modules} × {memory.kind or 'memory'}"]
        parts += [f"{speed} MT/s"] if not isinstance(speed, Absent) else []
        parts += [f"{channels} channels"] if not isinstance(channels, Absent) else []
        measured, notes = ", ".join(parts), []
        if not isinstance(memory.peak_bytes_s, Absent):
            notes.append(f"{memory.peak_bytes_s / 1e9:.0f} GB/s at most")
        if not isinstance(speed, Absent) and not isinstance(rated, Absent) and speed < rated:
            action = None
            notes.append(f"rated {rated} MT/s")
        if not isinstance(channels, Absent) and channels == 1:
            action = None
        note = "; ".join(notes)
    try:
        here = seen.budget if seen.gpus else None
    except Stop:
        here = None
    least = here.prefill_s(131_072) if here is not None and here.real else None
    if least is None:
        return untold(measured, note, action=action)
    told = f"reading 128K tokens takes this GPU {least:.1f} s of arithmetic or more, whatever the RAM; {note}"
    if least > 1.82:
        return wrong(f"128K take {least:.1f} s or more to read", f"{measured}; {told}".rstrip("; "), action=action)
    return untold(measured, told.rstrip("; "), action=action)


def _nodes(seen: Seen) -> int:
    """NUMA nodes, more than one; with one the check ends."""
    nodes = seen.told(seen.host.nodes, "how many NUMA nodes there are")
    if nodes < 2:
        raise Stop(State.NOT_APPLICABLE, "nothing can move between nodes", "1 NUMA node")
    return nodes


def _g24(seen: Seen) -> Checked:
    balancing = seen.host.numa_balancing
    told = "" if isinstance(balancing, Absent) else f", kernel.numa_balancing {balancing}"
    nodes = seen.told(seen.host.nodes, "how many NUMA nodes there are")
    if nodes < 2:
        return elsewhere(f"1 NUMA node{told}", "on one node it has no effect", action="")
    value = seen.told(balancing, "kernel.numa_balancing")
    return holds(f"{nodes} nodes, on ({value})") if value else wrong(f"{nodes} nodes, off (0)", action="")


def _g24b(seen: Seen) -> Checked:
    nodes = _nodes(seen)
    value = seen.told(seen.host.numa_balancing, "kernel.numa_balancing")
    rate = seen.host.migrations_mean_s
    measured = f"{value} now" + ("" if isinstance(rate, Absent) else f", {number(round(rate))} pages/s moved")
    busy = not isinstance(rate, Absent) and rate > MIGRATES
    note = f"{nodes} nodes; what it is after the next boot does not show"
    return untold(measured, note, action=None if value and busy else "")


def _g24c(seen: Seen) -> Checked:
    nodes = _nodes(seen)
    near = seen.told(seen.gpu.numa_node, "the GPU's NUMA node")
    on = seen.sched.nodes
    measured = f"GPU on node {near}"
    wrongly = False
    if not isinstance(on, Absent) and on:
        measured += f", server on {', '.join(str(node) for node in on)}"
        wrongly = set(on) != {near}
    cpus = "" if isinstance(seen.gpu.local_cpus, Absent) else f"; CPUs near the GPU: {seen.gpu.local_cpus}"
    note = f"{nodes} nodes{cpus}"
    return (holds if near == 0 else wrong)(measured, note, action=None if wrongly else "")


def _g25(seen: Seen) -> Checked:
    nodes = _nodes(seen)
    rate = seen.host.migrations_mean_s
    measured = "" if isinstance(rate, Absent) else f"{number(round(rate))} pages/s moved"
    return untold(measured, f"{nodes} nodes; needs latencies from before and after")


def quota_text(quota: QuotaView | Absent | None) -> str:
    """A CPU quota in a few words, "" where there is none or it is not known."""
    if quota is None or isinstance(quota, Absent):
        return ""
    throttled = quota.periods_throttled
    share = "" if isinstance(throttled, Absent) else f", throttled in {percent(throttled)} of the periods"
    return f"quota {math.floor(quota.cores * 100) / 100:g} CPUs{share}"


CLAIMS = (
    Claim(
        "G17",
        TASKS,
        "tokenizer slower than BPE",
        "Qwen's byte-level tokenizer is 40 % slower than BPE on long texts; too few cores hold everything up (18 to 31 "
        "thousand tokens a second).",
        "It is byte-level BPE, written in Rust: 230 to 570 thousand tokens a second on one weak core. One text is "
        "encoded by one thread, so cores do not speed up one prompt. 260K tokens take 0.5 to 2.5 s, which matters for "
        "huge prompts alone.",
        (Known.MEASURED,),
        _g17,
        "At a restart: `--renderer-num-workers 2` (since 0.19) or `--api-server-count 2`; now: more CPUs for the API "
        "server, `qtop apply cpu-affinity`.",
        ("QT203", "QT309"),
    ),
    Claim(
        "G18",
        TASKS,
        "over 6 users: scheduler 90 ms",
        "With more than 6 requests at once, scheduling on a single core takes up to 90 ms.",
        "The scheduler is one thread in EngineCore, whatever the cores, and overlaps with the GPU by default (async "
        "scheduling). What makes it late is waiting for a CPU that others use: 0.01 of the time or less on a healthy "
        "server, 0.25 in the smallest real case.",
        (Known.SOURCE, Known.MEASURED),
        _g18,
        "Give it CPUs of its own: `qtop apply cpu-affinity`.",
        ("QT201", "QT202", "QT206"),
    ),
    Claim(
        "G19",
        TASKS,
        "LoRA swaps in ms, on the CPU",
        "Adapters are swapped within milliseconds, and the CPU has to keep up with it.",
        "Loading at run time needs `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, and one API server. "
        "`--max-loras` is 1 by default: requests for another adapter wait for the next batch. `--max-cpu-loras` keeps "
        "more of them in RAM.",
        (Known.SOURCE,),
        _g19,
        "At a restart: raise `--max-loras` and `--max-cpu-loras`.",
        ("QT307",),
    ),
    Claim(
        "G20",
        CORES,
        "8 cores, 16 threads, SMT off",
        "A table of 8 cores/16 threads, 12/24 and 16/32, with hyper-threading off each time.",
        "With SMT off 8 cores are 8 threads: the table contradicts itself. `/sys/devices/system/cpu/smt/control` says "
        "which; turning it off halves the CPUs of the whole host.",
        (Known.DOCUMENTED,),
        _g20,
    ),
    Claim(
        "G21",
        CORES,
        "12 cores needed, 16 better",
        "12 cores are the least, 16 the recommendation.",
        "vLLM's own rule is 2 + N physical cores for N GPUs, twice that in threads. With one GPU there are two "
        "processes that count: the API server, and EngineCore with the worker in it.",
        (Known.DOCUMENTED, Known.SOURCE),
        _g21,
        "Let the server use more of the CPUs: `qtop apply cpu-affinity`, a larger cpuset or quota.",
        ("QT204", "QT209"),
    ),
    Claim(
        "G22",
        MEMORY,
        "256K of KV = 12 GB of RAM",
        "The KV cache of a 256K context takes about 12 GB of RAM in fp16.",
        "Three times as much, and elsewhere: 36 layers × 8 KV heads × 128 × 2 (keys and values) × 2 bytes are 144 KiB "
        "a token, 36.0 GiB at 256K, in VRAM. fp8 halves it. RAM holds the page cache, pinned buffers and what is "
        "offloaded.",
        (Known.COMPUTED, Known.MEASURED),
        _g22,
    ),
    Claim(
        "G23",
        MEMORY,
        "RAM speed beats RAM size",
        "DDR5-6000 instead of 4800 makes scheduling 27 % faster and 128K of context 1.35 s instead of 1.82.",
        "Not to be believed: reading 128K tokens takes a 4090 D 41 s of arithmetic alone; one or two seconds come from "
        "the prefix cache. What is worth a look: one channel populated, or modules below their rated speed.",
        (Known.COMPUTED,),
        _g23,
        "Fill every channel, switch XMP or EXPO on in the firmware; `qtop membw` measures what there is.",
        ("QT605",),
    ),
    Claim(
        "G24",
        NUMA,
        "NUMA balancing is on",
        "On hosts with several sockets Linux moves pages by default (NUMA balancing), and that hurts.",
        "It is on where the kernel was built so and found more than one node at boot. A desktop with one node: no "
        "effect.",
        (Known.SOURCE,),
        _g24,
        "See G24b for switching it off.",
        ("QT604",),
    ),
    Claim(
        "G24b",
        NUMA,
        "off with echo 0, for good",
        "Writing 0 into /proc/sys/kernel/numa_balancing switches it off for good.",
        "Until the next boot only. It matters from about 100 pages a second. /proc/sys cannot be written in a "
        "container.",
        (Known.DOCUMENTED,),
        _g24b,
        "As root: `sysctl kernel.numa_balancing=0`; to keep it, the line `kernel.numa_balancing=0` in "
        "/etc/sysctl.d/90-numa.conf. The old value undoes it.",
        ("QT604",),
    ),
    Claim(
        "G24c",
        NUMA,
        "bind to NUMA node 0",
        "Start it under `numactl --cpunodebind=0 --membind=0`.",
        "It has to be the node of the GPU, not always 0. `--membind` can run out of memory where `--preferred` would "
        "not. vLLM has `--numa-bind` since 0.20.",
        (Known.DOCUMENTED, Known.SOURCE),
        _g24c,
        "`qtop apply cpu-affinity` takes the CPUs near the GPU first; `migratepages PID FROM TO` moves the memory.",
        ("QT205",),
    ),
    Claim(
        "G25",
        NUMA,
        "latency spread falls by 63 %",
        "Without NUMA balancing the spread of latencies falls by 63 %, and P99 becomes steady.",
        "Cannot be repeated: no numbers of a run are given.",
        (Known.UNSOURCED,),
        _g25,
        "Measure: `qtop check --json > before`, change it, `qtop check --baseline before`.",
    ),
)
