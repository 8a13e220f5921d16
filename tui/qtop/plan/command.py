"""The command that starts a plan: words for ``vllm serve``, only those that differ from its defaults. Pure."""

from __future__ import annotations

from qtop.plan.making import Plan
from qtop.plan.serving import Serving, default_serving, form_of


def unnamed(plan: Plan) -> bool:
    """Whether the plan is of a checkpoint that nobody has named: vLLM makes fp8 of bf16 weights while it loads, but not
    4 or 8 bits of integers."""
    return plan.serving.weights in ("int4", "int8") and plan.wish.model.shape.quantisation is None


def words(plan: Plan) -> list[str]:
    """The command line, a word each; where ``unnamed`` the model is in capitals, to be filled in."""
    name = plan.wish.model.name
    if unnamed(plan):
        name = f"{plan.serving.weights.upper()}-CHECKPOINT-OF-{name.rstrip('/').rpartition('/')[2]}"
    return ["vllm", "serve", name, *flags(plan, plan.serving)]


def flags(plan: Plan, one: Serving) -> list[str]:
    """The flags of a serving of this plan's model and card."""
    wish = plan.wish
    seqs, budget, utilization = default_serving(wish.gpu, wish.version)
    found: list[str] = []
    if one.spread > 1:
        found += ["--tensor-parallel-size", str(one.spread)]
    if one.context != wish.model.shape.positions:
        found += ["--max-model-len", str(one.context)]
    if one.seqs != min(seqs, budget):
        found += ["--max-num-seqs", str(one.seqs)]
    if one.budget != budget:
        found += ["--max-num-batched-tokens", str(one.budget)]
    if one.dtype != "auto":
        found += ["--dtype", one.dtype]
    if one.pool_bytes is not None:
        found += ["--kv-cache-memory-bytes", str(int(one.pool_bytes))]
    elif one.utilization != utilization:
        found += ["--gpu-memory-utilization", f"{one.utilization:g}"]
    if one.kv != "auto":
        found += ["--kv-cache-dtype", one.kv]
    if one.weights == "fp8" and form_of(wish.model, "auto") == "bf16":
        found += ["--quantization", "fp8"]
    if one.eager:
        found += ["--enforce-eager"]
    return found
