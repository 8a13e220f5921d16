"""Section 2.2: three ways to spend the memory, each reckoned for the GPU that is here. G8 to G11."""

from __future__ import annotations

import math

from qtop.guide.claim import Checked, Claim, Known, elsewhere, untold, wrong
from qtop.guide.seen import Seen, Stop
from qtop.plan.budget import BF16, FORMS, FP8, FP8_FP8, INT4_FP8, LONGEST, Form
from qtop.units import GIB, number

SECTION = "2.2 Three ways to spend the VRAM"
LIGHT_TOKENS, LIGHT_STREAMS = 32_768, 4
"""Of tier 1: tokens in all that its requests may hold, requests at once."""
ANSWER, PROMPT = 1_024, 1_024
"""Of tier 2: the guide's tokens of an answer, and a prompt as long."""
GUIDE_BATCH, GUIDE_RATE = 4, 8.2
GUIDE_GIB, GUIDE_SECONDS = 14.3, 4.7
"""Of tier 1 and tier 3."""
MOST = 0.92
"""Of the memory that a server may be given where nothing else needs any."""


def _for(seen: Seen) -> str:
    """What the arithmetic is of."""
    here = seen.budget
    shape = "Qwen3-4B" if seen.is_guides_model else "Qwen3-4B (not the model here)"
    told = "as this server has it" if here.own is not None else "reckoned"
    return f"{shape} on {here.name}, {here.total / GIB:.1f} GiB; beside weights and cache {_gib(here.reserve)}, {told}"


def _gib(value: float) -> str:
    return f"{value / GIB:.1f} GiB"


def _answer(seen: Seen, measured: str, note: str, worked: list[str], action: str, proven: bool = False) -> Checked:
    """A running vLLM of known version shows that the flags are none of its; ``proven``: the arithmetic of the card that
    is here alone shows the claim to be wrong."""
    here = seen.budget
    lines, measured = (_for(seen), *worked), seen.on_card(measured)
    reckoned = "" if here.real else f"; no GPU here: reckoned for the guide's {here.name}"
    try:
        server = seen.vllm
    except Stop as stop:
        return Checked(stop.state, measured, f"{stop.why}{reckoned}", lines, action)
    if seen.version is None:
        told = f"this vLLM does not tell its version; {note.format(version='any vLLM')}{reckoned}"
        return (wrong if proven else untold)(measured, told, lines, action)
    return wrong(measured, note.format(version=f"vLLM {server.version}") + reckoned, lines, action)


def _flags(form: Form, *more: str) -> str:
    """A configuration as a person would type it."""
    text = "`" + " ".join(part for part in (form.flags, *more) if part) + "`"
    if form.checkpoint:
        return f"At a restart, with {form.checkpoint}: {text}"
    return f"At a restart, on the bf16 checkpoint: {text}" if form is not BF16 else f"At a restart: {text}"


def _g8(seen: Seen) -> Checked:
    here = seen.budget
    form = next(
        (one for one in (FP8, FP8_FP8, INT4_FP8) if here.footprint(one, LIGHT_TOKENS) <= MOST * here.total), INT4_FP8
    )
    whole, each = here.footprint(form, LIGHT_TOKENS), here.cache_each(form, LIGHT_TOKENS)
    worked = [
        f"{form.name}: weights {_gib(form.weight_bytes)} + {LIGHT_TOKENS // 1024}K tokens of cache "
        f"{_gib(each * here.cards)} + the rest = {_gib(whole)}",
    ]
    slow, plain = (here.tok_s(one, 1, 8_192) for one in (form, BF16))
    if slow is not None and plain is not None:
        worked.append(
            f"one request with 8K of context: at most {slow:.0f} tokens a second, {plain:.0f} with bf16 weights"
        )
    limit = (
        f"--kv-cache-memory-bytes {each:.0f}"
        if seen.since(0, 11)
        else f"--gpu-memory-utilization {min(0.95, math.ceil(whole / here.total * 100) / 100):g}"
    )
    action = _flags(form, f"--max-model-len {LIGHT_TOKENS}", f"--max-num-seqs {LIGHT_STREAMS}", limit)
    if whole > MOST * here.total:
        action = f"This tier does not fit into {_gib(here.total)}: shorten `--max-model-len`."
    return _answer(
        seen,
        f"{_gib(whole)} do for it, not {GUIDE_GIB} GB",
        "neither is a flag of {version}, and no offload is needed for this",
        worked,
        action,
    )


def _g9(seen: Seen) -> Checked:
    here = seen.budget
    need = GUIDE_RATE * ANSWER
    mean = PROMPT + ANSWER / 2
    util = seen.number("gpu_memory_utilization") if here.real else None
    util = util if util is not None and 0 < util <= 1 else (0.92 if seen.since(0, 20) else 0.9)
    tokens = here.pool(FP8, util) / FP8.kv_token
    fit = int(tokens // (PROMPT + ANSWER))
    worked = [
        f"{FP8.name} at utilization {util:g}: {number(round(tokens, -3))} tokens of cache, so {fit} "
        f"requests of {PROMPT + ANSWER} tokens at once",
        f"{GUIDE_RATE} requests a second of {ANSWER} tokens are {number(round(need))} tokens a second",
    ]
    proven = False
    measured = f"room for {fit} requests of {PROMPT + ANSWER} tokens at once"
    bound = here.tok_s(FP8, GUIDE_BATCH, mean)
    if bound is not None:
        batch = here.batch_for(FP8, need, mean)
        enough = "no number of requests at once" if batch is None else f"{batch} requests at once or more"
        worked.append(
            f"{GUIDE_BATCH} at once: at most {number(round(bound))} tokens a second, {bound / ANSWER:.1f} requests; "
            f"for {GUIDE_RATE}, {enough} by the memory's bandwidth"
        )
        proven = here.real and bound < need
        measured = f"at batch {GUIDE_BATCH} at most {bound / ANSWER:.1f} req/s"
        measured += f", not {GUIDE_RATE}" if bound < need else ""
    streams = max(1, min(256, fit))
    action = _flags(FP8, f"--gpu-memory-utilization {util:g}", f"--max-num-seqs {streams}")
    if fit < 1:
        action = "Not one such request fits: take 4-bit weights or shorter contexts."
    return _answer(
        seen,
        measured,
        "--load-in-8bit is no flag of {version}, and paging no switch: the cache is always paged, and on the GPU",
        worked,
        f"{action}; the cache stays on the GPU and prefix caching on, as they are by default.",
        proven,
    )


def _g10(seen: Seen) -> Checked:
    here = seen.budget
    worked, chosen, largest = [], None, (0.0, BF16)
    for form in FORMS:
        room = here.pool(form, MOST)
        fits = here.fits(form, MOST)
        worked.append(
            f"{form.name}: 256K take {_gib(LONGEST * form.kv_token)}, there are {_gib(room)} at {MOST:g}: {fits}"
        )
        chosen = form if chosen is None and fits == "fits" else chosen
        largest = max(largest, (here.sure(form, MOST), form), key=lambda one: one[0])
    seconds = here.prefill_s(LONGEST)
    if seconds is not None:
        worked.append(f"reading 256K tokens takes {seconds:.0f} s of arithmetic or more; 4.7 s are about 30K tokens")
    if chosen is not None:
        length = f"--max-model-len {LONGEST}"
        measured = f"256K fits ({chosen.short})"
    else:
        length = "--max-model-len " + ("auto" if seen.since(0, 14) else str(int(largest[0] * 0.95) // 1024 * 1024))
        chosen = largest[1]
        measured = f"256K may not fit; {int(largest[0] / 1024)}K does ({chosen.short})"
    action = _flags(chosen, length, f"--gpu-memory-utilization {MOST:g}", "--max-num-seqs 1")
    return _answer(
        seen,
        measured,
        "no flag of {version} sets a sliding window, and the model's configuration has none",
        worked,
        action,
        here.real and seconds is not None and seconds > GUIDE_SECONDS,
    )


def _g11(seen: Seen) -> Checked:
    server = seen.vllm
    held = seen.value("quantization")
    measured = f"quantization {held}" if held else ""
    if seen.version is not None and seen.since(0, 28):
        return elsewhere(measured or "no bitsandbytes", f"vLLM {server.version} has no bitsandbytes", action="")
    if held and held.lower() != "bitsandbytes":
        return elsewhere(measured, "no bitsandbytes here", action="")
    if not held:
        return untold("", "how the weights are quantised is not told")
    return untold(measured, "only answers would show it, and qtop reads none of your requests'")


CLAIMS = (
    Claim(
        "G8",
        SECTION,
        "tier 1: one user, 4-bit",
        "One user now and then: 4-bit weights by `--load-in-4bit --quantize bitsandbytes`, the KV cache offloaded to "
        "the CPU; 14.3 GB, first token within 220 ms.",
        "Neither flag ever existed in vLLM: it ends with `unrecognized arguments`. bitsandbytes left it at 0.28, GGUF "
        "at 0.24. What there is: checkpoints in AWQ, GPTQ or compressed-tensors, and `--quantization fp8` at the "
        "start. Offloading (`--kv-offloading-size`) keeps old prefixes; it does not make running requests smaller.",
        (Known.TESTED, Known.SOURCE, Known.COMPUTED),
        _g8,
        rules=("QT401", "QT409", "QT407"),
    ),
    Claim(
        "G9",
        SECTION,
        "tier 2: several users, 8-bit",
        "Several users: 8-bit weights by `--load-in-8bit`, PagedAttention switched on, the cache on the GPU; batch 4, "
        "1024 new tokens, 19.6 GB, P95 310 ms, 8.2 requests a second.",
        "Paging cannot be switched off or on. 8.2 requests a second at batch 4 leave each 0.49 s: with 1024 tokens "
        "that is some 2100 tokens a second for one request, nine times what the memory of a 4090 allows with 8-bit "
        "weights. More requests at once reach more tokens a second, not faster ones.",
        (Known.SOURCE, Known.COMPUTED),
        _g9,
        rules=("QT301", "QT408"),
    ),
    Claim(
        "G10",
        SECTION,
        "tier 3: 256K, sliding window",
        "Long documents: 4-bit weights, 256K of context with `sliding_window=8K`, parts cut by hand, states kept by "
        "the CPU; at most 17.8 GB, 32 pages in 4.7 s.",
        "There is no such flag, and Qwen3 has no sliding window. 256K of cache are 36.0 GiB in bf16, 18.0 in fp8, "
        "whatever the weights. On a 4090 D the arithmetic of reading 256K takes 151 s; 4.7 s are enough for about 30K.",
        (Known.SOURCE, Known.COMPUTED),
        _g10,
        rules=("QT402",),
    ),
    Claim(
        "G11",
        SECTION,
        "4-bit spoils math symbols",
        "bitsandbytes in 4 bits makes Qwen3 garble symbols such as ∑ and ∫; 8 bits do not.",
        "No report of it was found, and each of these symbols is one token of Qwen's vocabulary, so nothing is pieced "
        "together from bytes. 4-bit weights cost some quality in general.",
        (Known.MEASURED, Known.UNSOURCED),
        _g11,
        "`qtop probe --prompt 'Repeat exactly: ∑∫√≤∞'` shows its answer; where two of three differ, take fp8 or bf16.",
    ),
)
