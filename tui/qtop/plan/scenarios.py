"""The guide's three scenarios (its section 2.2), each reckoned anew for a card and a model. Pure."""

from __future__ import annotations

import msgspec

from qtop.plan.making import Plan, Wish, make

GUIDES_MODEL, GUIDES_CARD = "Qwen3-4B-Instruct-2507", "RTX 4090 D"


class Scenario(msgspec.Struct, frozen=True):
    """What the guide claims for a purpose, and what is wrong with it."""

    name: str
    title: str
    claims: str
    holds: str
    contexts: tuple[int, ...]
    """Tokens of a request, the wished for first."""
    seqs: int
    forms: tuple[tuple[str, str], ...]
    """(weights, cache) to try, the most exact first."""
    goal: str


SCENARIOS = {
    one.name: one
    for one in (
        Scenario(
            "single",
            "one user now and then",
            "4-bit weights by --load-in-4bit --quantize bitsandbytes, the cache offloaded to the CPU: 14.3 GB, first "
            "token within 220 ms",
            "neither flag is one of vLLM's, and nothing needs to be offloaded: a cache for one user is small",
            (32_768, 16_384, 8_192, 4_096),
            1,
            (("auto", "auto"), ("fp8", "auto"), ("fp8", "fp8"), ("int4", "fp8")),
            "latency",
        ),
        Scenario(
            "multi",
            "several users at once",
            "8-bit weights by --load-in-8bit, PagedAttention switched on, batch 4, 1024 new tokens: 19.6 GB, P95 "
            "310 ms, 8.2 requests a second",
            "paging is no switch, and four requests at once of 1024 tokens each cannot be 8.2 a second: that is 2100 "
            "tokens a second for each of them",
            (8_192, 4_096, 2_048),
            16,
            (("auto", "auto"), ("fp8", "auto"), ("fp8", "fp8"), ("int4", "fp8")),
            "throughput",
        ),
        Scenario(
            "long",
            "long documents",
            "4-bit weights, 256K of context, sliding_window=8K: 17.8 GB at most, 32 pages in 4.7 s",
            "vLLM has no such flag and Qwen3 no sliding window; 256K tokens of Qwen3-4B are 36.0 GiB of cache in bf16, "
            "18.0 in fp8, and reading them takes 151 s of arithmetic or more on a 4090 D",
            (262_144, 131_072, 65_536, 32_768, 16_384, 8_192),
            1,
            (("auto", "auto"), ("auto", "fp8"), ("fp8", "auto"), ("fp8", "fp8"), ("int4", "fp8")),
            "long-context",
        ),
    )
}


class Recomputed(msgspec.Struct, frozen=True):
    """A scenario on a card."""

    scenario: Scenario
    wished: Plan
    """As it is wished for: its longest context in the most exact form."""
    reached: Plan | None
    """What comes nearest to its purpose and fits; None where nothing of it does."""


def recompute(scenario: Scenario, wish: Wish) -> Recomputed:
    """The scenario for the model and card of a wish."""
    positions = wish.model.shape.positions
    contexts = sorted({min(one, positions) for one in scenario.contexts}, reverse=True)
    seqs = wish.seqs or scenario.seqs
    base = msgspec.structs.replace(wish, goal=scenario.goal, seqs=seqs)
    wished = make(msgspec.structs.replace(base, context=contexts[0]))
    quantised = wish.model.shape.quantisation is not None
    forms = [form for form in scenario.forms if form[0] == "auto"] if quantised else list(scenario.forms)
    if wish.weights != "auto" or wish.kv != "auto":
        forms = [(wish.weights, wish.kv)]
    for context in contexts:
        for weights, kv in forms:
            plan = make(msgspec.structs.replace(base, context=context, weights=weights, kv=kv))
            if plan.fits and plan.at_once >= seqs:
                return Recomputed(scenario, wished, plan)
    return Recomputed(scenario, wished, None)
