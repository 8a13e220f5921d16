"""A plan: what was asked for, what becomes of it, and the nearest that fits where it does not. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from qtop.model.vllm_defaults import NEWEST, Version
from qtop.plan.goals import GOALS, settled
from qtop.plan.serving import (
    CPU_BLOCK,
    Card,
    Model,
    Serving,
    check,
    default_serving,
    form_of,
    in_dtype,
    kv_element,
)
from qtop.plan.speed import Decode, Prefill, decode, prefill
from qtop.plan.vram import Memory, at_once, form_text, longest, memory, most_utilization, sequence_bytes
from qtop.units import number, size

CONTEXTS = (1_024, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
BATCHES = (1, 8, 64)
MOST = 0.95
"""Utilization that the nearest plan may go up to: the rest is the CUDA context and what start-up needs for moments."""
MOST_GPUS = 16
CLOSE = 1.02
"""Requests of full length below which it only just fits: the sum itself is no more exact than that."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; None where vLLM's own default, or the goal, decides."""

    model: Model
    gpu: Card
    gpus: int = 1
    context: int | None = None
    """Tokens; 0: as many as fit; None: what the model was made for."""
    seqs: int | None = None
    budget: int | None = None
    utilization: float | None = None
    weights: str = "auto"
    kv: str = "auto"
    goal: str = ""
    """One of ``GOALS``, "" for none."""
    eager: bool = False
    version: Version = NEWEST
    pool_bytes: float | None = None
    """Given for the cache, whatever the utilization."""
    dtype: str = "auto"
    prompt: int | None = None
    """Tokens of the prompt whose TTFT is asked for; None: half of the context."""


class Row(msgspec.Struct, frozen=True):
    """How many requests of ``context`` tokens fit at once."""

    context: int
    at_once: float


class Nearest(msgspec.Struct, frozen=True):
    """One change by which it fits."""

    what: str
    serving: Serving
    tokens: int
    """That its pool holds."""
    at_once: float
    """Requests of its full length."""


class Plan(msgspec.Struct, frozen=True):
    """What becomes of a wish."""

    wish: Wish
    serving: Serving
    memory: Memory
    fits: bool
    """vLLM starts: weights, reserve and one request of full length find room."""
    at_once: float
    """Requests of full length."""
    verdict: str
    nearest: tuple[Nearest, ...]
    rows: tuple[Row, ...]
    decodes: tuple[Decode, ...]
    prefills: tuple[Prefill, ...]
    notes: tuple[str, ...]


def make(wish: Wish) -> Plan:
    """The plan. Errors: QtopError for a wish that vLLM would not take."""
    wish = msgspec.structs.replace(wish, model=in_dtype(wish.model, wish.dtype))
    one = settle(wish)
    check(wish.model, wish.gpu, one)
    spent = memory(wish.model, wish.gpu, one)
    if wish.context == 0 or (wish.context is None and wish.goal == "long-context"):
        most = longest(wish.model, one, spent.pool)
        one = msgspec.structs.replace(one, context=max(one.block, most))
        spent = memory(wish.model, wish.gpu, one)
    each = at_once(wish.model, one, spent.pool, one.context)
    fits = spent.pool > 0 and each >= 1.0 and spent.refused == 0 and one.context <= wish.model.shape.positions
    rows = tuple(
        Row(context, at_once(wish.model, one, spent.pool, context)) for context in _contexts(wish.model, one.context)
    )
    return Plan(
        wish=wish,
        serving=one,
        memory=spent,
        fits=fits,
        at_once=each,
        verdict=_verdict(wish, one, spent, each, fits),
        nearest=() if fits else tuple(_nearest(wish, one)),
        rows=rows,
        decodes=tuple(_decodes(wish, one, spent)),
        prefills=tuple(_prefills(wish, one)),
        notes=tuple(_notes(wish, one, spent, each)),
    )


def settle(wish: Wish) -> Serving:
    """With the defaults of that vLLM and of the goal."""
    seqs, budget, utilization = default_serving(wish.gpu, wish.version, wish.goal == "throughput")
    chosen = settled(wish.goal, wish.seqs, wish.budget, seqs, budget)
    context = wish.context or wish.model.shape.positions
    if wish.utilization is None:
        # Others' memory is theirs: vLLM refuses to start where it is asked for.
        utilization = min(utilization, most_utilization(wish.gpu, wish.gpus))
    return Serving(
        context=context,
        seqs=min(chosen[0], chosen[1]),
        budget=chosen[1],
        utilization=utilization if wish.utilization is None else wish.utilization,
        weights=wish.weights,
        kv=wish.kv,
        spread=wish.gpus,
        block=CPU_BLOCK if wish.gpu.is_cpu else 16,
        eager=wish.eager,
        version=wish.version,
        pool_bytes=wish.pool_bytes,
        dtype=wish.dtype,
    )


def _contexts(model: Model, context: int) -> list[int]:
    found = {one for one in CONTEXTS if one <= model.shape.positions} | {context}
    return sorted(found)


def tokens_text(tokens: int) -> str:
    """ "32K" for whole multiples of 1024, else the number."""
    return f"{tokens // 1024}K" if tokens and tokens % 1024 == 0 else number(tokens)


def _verdict(wish: Wish, one: Serving, spent: Memory, each: float, fits: bool) -> str:
    """One line."""
    model, cards = wish.model, f"{wish.gpus} × {wish.gpu.name}" if wish.gpus > 1 else wish.gpu.name
    subject = f"{model.name}, {form_text(model, one)}, {tokens_text(one.context)} of context on {cards}"
    if one.context > model.shape.positions:
        return f"DOES NOT FIT: {subject} — the model was made for {number(model.shape.positions)} tokens"
    if spent.refused:
        return (
            f"DOES NOT START: {subject} — other processes hold {size(spent.others)}, so {one.utilization:g} of the "
            f"memory is {size(spent.refused)} more than is free"
        )
    if spent.missing or not spent.pool:
        short = spent.missing + sequence_bytes(model, one, one.context)
        return f"DOES NOT FIT: {subject} — {size(short)} too much; the weights alone leave no room for a cache"
    if not fits:
        need = sequence_bytes(model, one, one.context)
        return (
            f"DOES NOT FIT: {subject} — one request takes {size(need)} of cache, there are {size(spent.pool)}: "
            f"{size(need - spent.pool)} short"
        )
    held = f"{number(spent.tokens)} tokens of cache, {each:.1f} requests of full length at once"
    if wish.seqs is not None and each < wish.seqs:
        held += f" (max-num-seqs is {wish.seqs})"
    return f"FITS: {subject} — {held}"


def _forms(wish: Wish) -> Iterator[tuple[str, str]]:
    """(weights, cache) from the most exact to the smallest; a checkpoint that is quantised stays as it is."""
    held = form_of(wish.model, wish.weights)
    weights = [wish.weights]
    if held in ("bf16", "fp32"):
        weights += ["fp8", "int4"]
    elif wish.weights == "fp8":
        weights += ["int4"]
    smaller = kv_element(wish.model, wish.kv) > 1
    for one in weights:
        yield one, wish.kv
        if smaller:
            yield one, "fp8"


def _nearest(wish: Wish, asked: Serving) -> Iterator[Nearest]:
    """The changes by which it fits, the smallest first: a shorter context, another form, more memory, more GPUs."""
    model = wish.model
    positions = model.shape.positions
    context = min(asked.context, positions)
    cap = most_utilization(wish.gpu, wish.gpus)
    base = msgspec.structs.replace(asked, context=context, utilization=min(asked.utilization, cap))
    if base.utilization <= 0:
        return
    plain = memory(model, wish.gpu, base)
    most = longest(model, base, plain.pool) if plain.pool else 0
    if most >= context and base != asked:
        yield _told(wish, base, _smaller(asked, base))
        return
    if most >= 1024 or (most > 0 and not plain.missing):
        short = msgspec.structs.replace(base, context=most // 1024 * 1024 or most)
        yield _told(wish, short, f"a context of {tokens_text(short.context)}")
    formed = next(
        (
            one
            for weights, kv in _forms(wish)
            for one in (msgspec.structs.replace(base, weights=weights, kv=kv),)
            if one != base and _holds(wish, one)
        ),
        None,
    )
    if formed is not None:
        yield _told(wish, formed, _formed(model, formed))
    more = msgspec.structs.replace(base, utilization=min(MOST, cap))
    if more.utilization > base.utilization:
        if _holds(wish, more):
            yield _told(wish, more, f"utilization {more.utilization:g}")
        elif formed is None:
            tight = [msgspec.structs.replace(more, weights=weights, kv=kv) for weights, kv in _forms(wish)]
            found = next((one for one in tight if _holds(wish, one)), None)
            if found is not None:
                yield _told(wish, found, f"{_formed(model, found)}, utilization {found.utilization:g}")
    spread = asked.spread * 2
    while spread <= MOST_GPUS and model.shape.heads % spread == 0:
        wider = msgspec.structs.replace(base, spread=spread)
        if _holds(wish, wider):
            yield _told(wish, wider, f"{spread} × {wish.gpu.name}")
            break
        spread *= 2


def _formed(model: Model, one: Serving) -> str:
    fetched = " of an AWQ or GPTQ checkpoint" if one.weights == "int4" and model.shape.quantisation is None else ""
    return form_text(model, one).replace(" weights", f" weights{fetched}")


def _smaller(asked: Serving, base: Serving) -> str:
    """In what a plan within the model's and the card's limits differs from what was asked for."""
    parts = [f"a context of {tokens_text(base.context)}"] if base.context != asked.context else []
    parts += [f"utilization {base.utilization:g}"] if base.utilization != asked.utilization else []
    return " and ".join(parts)


def _holds(wish: Wish, one: Serving) -> bool:
    spent = memory(wish.model, wish.gpu, one)
    return spent.pool > 0 and at_once(wish.model, one, spent.pool, one.context) >= 1.0


def _told(wish: Wish, one: Serving, what: str) -> Nearest:
    spent = memory(wish.model, wish.gpu, one)
    return Nearest(what, one, spent.tokens, at_once(wish.model, one, spent.pool, one.context))


def _decodes(wish: Wish, one: Serving, spent: Memory) -> Iterator[Decode]:
    """Batches and contexts that the pool holds; none where the memory's bandwidth is not known."""
    if wish.gpu.bandwidth <= 0:
        return
    batches = sorted({*BATCHES, *([wish.seqs] if wish.seqs is not None else [])})
    for batch in batches:
        if batch > one.seqs:
            continue
        for context in (1_024, 8_192, 32_768, 131_072):
            if context <= one.context and at_once(wish.model, one, spent.pool, context) >= batch:
                yield decode(wish.model, wish.gpu, one, batch, context)


def _prefills(wish: Wish, one: Serving) -> Iterator[Prefill]:
    lengths = {1_024, 8_192, 32_768, 131_072, wish.prompt or max(1, one.context // 2)}
    for tokens in sorted(lengths):
        if tokens <= one.context:
            found = prefill(wish.model, wish.gpu, one, tokens)
            if found is not None:
                yield found


def _notes(wish: Wish, one: Serving, spent: Memory, each: float) -> Iterator[str]:
    yield from wish.model.shape.notes
    if wish.goal:
        yield GOALS[wish.goal]
    if one.seqs > each >= 1:
        mean = int(spent.pool / one.seqs / max(1.0, sequence_bytes(wish.model, one, 1024) / 1024))
        yield (
            f"max-num-seqs is {one.seqs}: so many run at once while they hold {number(mean)} tokens each at the mean; "
            "beyond that requests wait, then are computed anew"
        )
    if 1.0 <= each < CLOSE:
        yield "it only just fits: the figures here are good to 2 %, so vLLM may refuse it; leave it some room"
    if one.kv.startswith("fp8"):
        yield "an fp8 cache costs some accuracy: compare answers before it is relied on"
    if one.weights in ("fp8", "int4", "int8") and wish.model.shape.quantisation is None:
        made = "vLLM quantises them while it loads" if one.weights == "fp8" else "needs such a checkpoint of the model"
        yield f"{one.weights} weights: {made}; they cost some accuracy"
    if one.weights == "fp8" and wish.gpu.fp8 is None:
        yield f"{wish.gpu.name} does not multiply in fp8: weights are widened, which saves memory and bandwidth only"
    if one.spread > 1 and wish.model.shape.kv_heads < one.spread and wish.model.shape.latent is None:
        yield f"{wish.model.shape.kv_heads} KV heads over {one.spread} GPUs: some are held twice"
    if spent.total - spent.others - spent.requested < 0.02 * spent.total:
        yield "hardly anything is left beside it: start-up takes more for moments than it keeps, and may run out"
