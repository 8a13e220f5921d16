"""Sections 5 and 6: known problems and their cures, and what the guide is about in all. G32 to G35."""

from __future__ import annotations

from qtop.guide.claim import Checked, Claim, Known, elsewhere, holds, untold, wrong
from qtop.guide.seen import Seen
from qtop.model.several import cap_of
from qtop.plan.budget import KV_TOKEN
from qtop.sample import Absent
from qtop.units import milliseconds, number, percent, size

SECTION, WHOLE = "5 Problems and ways round them", "6 In all"
STALL_MS = 1_000.0
FULL = 0.85
"""Use of the KV cache from which more requests at once only push each other out."""


def _g32(seen: Seen) -> Checked:
    server = seen.vllm
    block = seen.number("block_size")
    if block is None:
        return untold("", "the size of a block is not told")
    kv = seen.shape.kv_token if seen.shape is not None else KV_TOKEN
    lost, twice = (block - 1) * kv, (2 * block - 1) * kv
    measured = f"blocks of {block:g}: ≤ {size(lost)} lost a request"
    use = None if isinstance(seen.frame.engine, Absent) else seen.frame.engine.kv_use
    note = f"blocks of {2 * block:g} would lose up to {size(twice)}"
    note += "" if use is None or isinstance(use, Absent) else f"; cache {percent(use)} in use"
    return wrong(measured, f"vLLM {server.version}; {note}" if isinstance(server.version, str) else note, action="")


def _g33(seen: Seen) -> Checked:
    latency = seen.frame.latency
    fall = seen.frame.waterfall
    stages = {} if isinstance(fall, Absent) else {one.name: one.ms for one in fall.stages}
    frontend = stages.get("frontend")
    note = ""
    if frontend is not None and not isinstance(frontend, Absent):
        note = f"a request spends {milliseconds(frontend)} in the frontend, tokenising included"
    if isinstance(latency, Absent) or isinstance(latency.itl, Absent) or isinstance(latency.itl.p99, Absent):
        return untold(note and f"frontend {milliseconds(frontend)}", "too few tokens came while qtop looked", action="")
    p99 = latency.itl.p99
    bound = p99.high_ms if p99.relation == "=" else p99.value_ms
    measured = f"99 % of gaps ≤ {milliseconds(bound)}"
    if p99.relation != ">" and bound < STALL_MS:
        told = f"no answer stood still for seconds in the last {latency.seconds:.0f} s; {note}".rstrip("; ")
        return untold(measured, f"{told}; what your prompts hold, qtop does not read", action="")
    return untold(
        f"1 % of gaps > {milliseconds(p99.low_ms)}", f"answers do stand still; look for why; {note}".rstrip("; ")
    )


def _g34(seen: Seen) -> Checked:
    cap = seen.told(cap_of(seen.frame), "how many requests may run at once")
    engine = seen.engine
    running = seen.told(engine.running, "how many requests run")
    waiting = seen.told(engine.waiting, "how many requests wait")
    measured = f"{number(running)} of {number(cap)} run, {number(waiting)} wait"
    use = engine.kv_use
    one = seen.setting("max_num_seqs")
    note = f"cap: {one.source}" if one is not None else ""
    if not isinstance(use, Absent):
        measured += f", KV {percent(use)}"
    if waiting <= 0:
        return wrong(measured, f"the cap holds nobody back now; {note}".rstrip("; "), action="")
    if running < cap:
        return wrong(measured, f"they wait for something else than the cap; {note}".rstrip("; "), action="")
    if isinstance(use, Absent):
        return untold(measured, f"the cap is reached; whether the cache has room is not told; {note}".rstrip("; "))
    if use < FULL:
        return holds(measured, f"the cap is reached and the cache has room; {note}".rstrip("; "))
    return wrong(measured, f"the cache is full: more at once would only push each other out; {note}".rstrip("; "))


def _g35(seen: Seen) -> Checked:
    server = seen.server
    measured = seen.engine_name
    if not isinstance(seen.frame.sched, Absent):
        count = seen.frame.sched.processes
        measured += f", {count} process{'' if count == 1 else 'es'}"
    if server.engine != "vllm":
        return elsewhere(measured, "another engine than the guide's two", action="")
    return wrong(measured, "one engine serves here", action="")


CLAIMS = (
    Claim(
        "G32",
        SECTION,
        "OOM: fragments, block-size 32",
        "CUDA out of memory with 16 GB in use is fragmentation; `--block-size 32` ends it and makes 12 % better use of "
        "the memory.",
        "The other way round. The cache is one pool of equal blocks and cannot fragment; what is lost is the unused "
        "end of each request's last block, and that grows with the block. OOM at run time is activations, or another "
        "process.",
        (Known.SOURCE, Known.COMPUTED),
        _g32,
        "Find other processes (screen `g`); lower `--gpu-memory-utilization`, `--max-num-batched-tokens` or "
        "`--max-num-seqs`.",
        ("QT120", "QT121", "QT406"),
    ),
    Claim(
        "G33",
        SECTION,
        "strip punctuation",
        "Answers that stall for seconds: the tokenizer chokes on full-width punctuation; strip it by a regular "
        "expression.",
        "1000 full-width characters take 1.0 ms, 0.7 ms without. The expression turns `if (a[i] <= b) { x += 1; }` "
        "into `if  a i     b    x    1;`: it destroys code and formulas. Answers stall from preemption, a long prompt "
        "in the batch, a throttled GPU or CPU, or in the client.",
        (Known.MEASURED,),
        _g33,
        "Do not strip anything; look at preemption, prefill and throttling in the findings.",
        ("QT302", "QT304", "QT309"),
    ),
    Claim(
        "G34",
        SECTION,
        "max-num-seqs 256 to 512",
        "Requests that take over 5 s with many users: `--max-num-seqs` from 256 to 512 and 12 cores bring P99 from 5.2 "
        "to 0.9 s.",
        "256 is the default below 70 GiB of memory, 1024 from there (not on an A100). More helps where as many run as "
        "may, others wait and the cache has room. With a full cache it adds preemption.",
        (Known.SOURCE,),
        _g34,
        "Restart with a higher `--max-num-seqs`; where the cache is full, with fp8 cache or shorter contexts instead.",
        ("QT301", "QT303", "QT408"),
    ),
    Claim(
        "G35",
        WHOLE,
        "Transformers and vLLM mixed",
        "All this is for a mixed deployment of Hugging Face Transformers and vLLM.",
        "They are two programs. `load_in_4bit` and its like are arguments of Transformers' Python interface; vLLM's "
        "command line knows none of them, and what works for one says nothing of the other.",
        (Known.SOURCE,),
        _g35,
        rules=("QT401",),
    ),
)
