"""What a goal makes of the settings that nobody gave. Pure."""

from __future__ import annotations

GOALS = {
    "latency": (
        "goal latency: few requests at once and small steps, so that a long prompt does not hold up those that decode; "
        "fewer bytes of weights (fp8, 4 bits) make each token faster still"
    ),
    "throughput": ("goal throughput: many requests at once and large steps; each of them is slower than alone"),
    "long-context": "goal long context: one request may have all of the cache; steps are large, as reading is long",
}
LATENCY_SEQS, LATENCY_BUDGET = 16, 2_048
LONG_SEQS, LONG_BUDGET = 4, 8_192


def settled(goal: str, seqs: int | None, budget: int | None, default_seqs: int, default_budget: int) -> tuple[int, int]:
    """(max_num_seqs, max_num_batched_tokens): what was given, else what the goal wants, else the default."""
    wanted = {
        "latency": (LATENCY_SEQS, LATENCY_BUDGET),
        "long-context": (LONG_SEQS, LONG_BUDGET),
    }.get(goal, (default_seqs, default_budget))
    return (wanted[0] if seqs is None else seqs), (wanted[1] if budget is None else budget)
