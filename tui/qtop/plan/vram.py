"""What a GPU's memory is spent on, as vLLM's own start-up reckons it. Pure.

KV cache = ceil(memory × utilization) − weights − peak of the profile run − what lies outside of torch − an estimate for
CUDA graphs (source: v1/worker/gpu_worker.py determine_available_memory, utils/mem_utils.py). Graphs are in the sum
since 0.21, but not for dense models under 0.25, whose new model runner estimates them as 0 (vllm#49224). Other
processes do not shrink the cache: vLLM refuses to start where memory × utilization is more than is free.

The terms were measured on an H100 with vLLM 0.25.1 and its debug log (tests/data/starts): weights 7.64 GiB, 0.22
outside of torch; the peak 0.80 GiB for 8192 tokens and 256 requests, 0.92 for 2048 and 1024, 2.44 for 32 768 and 256 in
eager mode; graphs 0.24, 0.60 and 1.00 GiB for 64, 256 and 1024 requests.
"""

from __future__ import annotations

import math

import msgspec

from qtop.model.decoder import Decoder
from qtop.plan.serving import Card, Model, Serving, form_of, kv_element, weight_bytes

MIB = float(1 << 20)
GRAPHS_COUNTED = (0, 21, 0)
NEW_RUNNER, NEW_RUNNER_COUNTS = (0, 25, 0), (0, 26, 0)
"""Since when dense models have the new model runner, and since when it is taken to count graphs (in 0.25.1 it does not,
in 0.32 it does; between them taking them into account is the careful choice)."""
LARGEST_GRAPH = 512
SMALL_GRAPH, LARGE_GRAPH = 7.4 * MIB / 36, 25 * MIB / 36
"""Bytes of a graph for each layer, of up to 256 tokens and a whole one of more: fitted to the three sizes measured."""
MANY = 256
OUTSIDE = 229 * MIB
"""Outside of torch when the profile run is over: libraries and their workspaces. Measured 0.22 GiB in each start."""
WORKSPACE = 32 * MIB
"""cuBLAS's own, which torch counts (source: torch, 32 MiB on Hopper)."""
CONTEXT = 522 * MIB
"""The CUDA context, there before vLLM's sum begins: 78.66 of 79.18 GiB were free then."""
LINKED_OUTSIDE, LINKED_CONTEXT = 0.54 * 1024 * MIB, 2.0 * 1024 * MIB
"""The same where a model is spread over several GPUs: NCCL's and the all-reduce's buffers. Measured on two H200s that
NVLink joins, its multicast off: 0.54 GiB, and 137.80 of 139.80 GiB free."""
ROPE_BYTES = 4.0
"""Bytes of a sine or cosine in the table of rotary positions."""
ROUNDED = 0.5 * MIB
"""What torch's allocator rounds up in each layer (blocks of 2 MiB)."""
LOGIT_BYTES, OLD_LOGIT_BYTES = 6.0, 14.0
"""Of one logit in the profile run's sampling: in the model's dtype and in fp32; the old model runner has probabilities
and noise in fp32 beside them (source: v1/sample/ops/topk_topp_sampler.py)."""


class Reserve(msgspec.Struct, frozen=True):
    """Bytes on one GPU beside weights and cache."""

    buffers: float
    """Loaded with the weights: the table of rotary positions, what the allocator rounds up."""
    activations: float
    """Peak of the profile run over what stays."""
    other: float
    """Outside of torch."""
    graphs: float
    graphs_counted: bool
    """Whether vLLM takes them from the cache; otherwise they come on top of what it was given."""
    context: float = CONTEXT
    """The CUDA context, on top in any case."""

    @property
    def inside(self) -> float:
        """What is taken from memory × utilization."""
        return self.buffers + self.activations + self.other + (self.graphs if self.graphs_counted else 0.0)

    @property
    def total(self) -> float:
        """All together."""
        return self.buffers + self.activations + self.other + self.graphs + self.context


class Memory(msgspec.Struct, frozen=True):
    """One GPU's memory under a plan; the parts add up to ``total``."""

    total: float
    requested: float
    """memory × utilization, which vLLM may take."""
    weights: float
    reserve: Reserve
    pool: float
    """Of KV cache, whole blocks; 0 where nothing is left."""
    tokens: int
    """That the pool holds, as vLLM logs it."""
    missing: float
    """By how much weights and reserve alone exceed what was requested."""
    others: float
    """Held by other processes."""

    @property
    def free(self) -> float:
        """What nobody is given; negative where other processes hold some of what was requested."""
        return self.total - self.others - self.weights - self.reserve.total - self.pool

    @property
    def refused(self) -> float:
        """Bytes by which what was requested exceeds what is free: above 0 vLLM does not start."""
        return max(0.0, self.requested - (self.total - self.others - self.reserve.context))


def graph_sizes(seqs: int, budget: int) -> tuple[int, int]:
    """(graphs in pieces, whole ones for decoding) that are captured by default: 1, 2, 4, then steps of 8 up to 256 and
    of 16 up to the smaller of 512 and twice max_num_seqs (source: config/vllm.py, cudagraph_dispatcher.py)."""
    largest = min(LARGEST_GRAPH, 2 * seqs, budget)
    sizes = [size for size in (1, 2, 4) if size <= largest]
    sizes += range(8, min(largest + 1, 256), 8)
    sizes += range(256, largest + 1, 16)
    return len(sizes), sum(1 for size in sizes if size <= seqs)


def forward_bytes(shape: Decoder, tokens: int, spread: int = 1) -> float:
    """Peak of one forward pass of so many tokens: the doubled intermediate and its product, and four hidden states.
    Measured: 39 500 values a token with 32 768 tokens, 39 900 with 16 384; this says 39 424."""
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inner = 3.0 * shape.intermediate / spread
    one = shape.experts
    if one is not None and one.layers:
        routed = one.active * (3.0 * one.intermediate / spread + shape.hidden)
        inner = routed if one.layers == shape.layers else max(inner, routed)
    return tokens * (4.0 * shape.hidden + max(inner, (2.0 * wide + 2.0 * narrow) / spread)) * float(shape.dtype_bytes)


def compile_bytes(shape: Decoder, tokens: int, spread: int = 1) -> float:
    """Peak while torch compiles: as much as the embedding beside the hidden states. Inferred: without eager mode 8192
    tokens peaked at 0.80 GiB with 64 and with 256 requests, where the pass itself takes 0.63; with a warm cache of
    compiled graphs it may be less."""
    return (shape.embedding / spread + tokens * shape.hidden) * float(shape.dtype_bytes)


def sampler_bytes(shape: Decoder, tokens: int, seqs: int, old: bool, spread: int = 1) -> float:
    """Peak of the profile run's sampling of max_num_seqs requests: their logits, the hidden states beside them. Each
    GPU gathers all of the logits."""
    logits = seqs * shape.vocab * ((OLD_LOGIT_BYTES if old else LOGIT_BYTES) + (2.0 / spread if spread > 1 else 0.0))
    return logits + (tokens + seqs) * shape.hidden * float(shape.dtype_bytes)


def reserve(model: Model, one: Serving, cpu: bool = False) -> Reserve:
    """What vLLM sets aside on each GPU beside weights and cache."""
    shape = model.shape
    rotary = shape.latent.rope if shape.latent is not None else shape.head_dim
    old = one.version < NEW_RUNNER or shape.experts is not None
    activations = WORKSPACE + max(
        forward_bytes(shape, one.budget, one.spread),
        0.0 if one.eager else compile_bytes(shape, one.budget, one.spread),
        sampler_bytes(shape, one.budget, min(one.seqs, one.budget), old, one.spread),
    )
    counted = one.version >= GRAPHS_COUNTED and (old or one.version >= NEW_RUNNER_COUNTS)
    if cpu:
        return Reserve(shape.positions * rotary * ROPE_BYTES, activations - WORKSPACE, 0.0, 0.0, False, 0.0)
    buffers = shape.positions * rotary * ROPE_BYTES + shape.layers * ROUNDED
    graphs = 0.0 if one.eager else graph_bytes(shape, one)
    outside = OUTSIDE if one.spread == 1 else LINKED_OUTSIDE
    return Reserve(buffers, activations, outside, graphs, counted, context(one.spread))


def context(spread: int) -> float:
    """Bytes that are gone on each of so many GPUs before vLLM's sum begins."""
    return CONTEXT if spread == 1 else LINKED_CONTEXT


def graph_bytes(shape: Decoder, one: Serving) -> float:
    """Bytes of the CUDA graphs that are captured."""
    pieces, whole = graph_sizes(one.seqs, one.budget)
    small = graph_sizes(min(one.seqs, MANY), one.budget)[1]
    return shape.layers * ((pieces + min(whole, small)) * SMALL_GRAPH + max(0, whole - small) * LARGE_GRAPH)


def most_utilization(gpu: Card, spread: int = 1) -> float:
    """The most that vLLM may be given beside other processes, in hundredths: more than is free, and it does not
    start."""
    return math.floor((gpu.total - gpu.others - context(spread)) / gpu.total * 100) / 100


def spread_weights(model: Model, one: Serving) -> float:
    """Bytes of weights on each GPU: norms and routers are held by all, too small to count."""
    return weight_bytes(model, one.weights) / one.spread


def block_bytes(model: Model, one: Serving) -> float:
    """Bytes of one block of cache of all layers on each GPU."""
    return one.block * model.shape.kv_token(kv_element(model, one.kv), one.spread)


def shown_reserve(model: Model, gpu: Card, one: Serving, tokens: float) -> Reserve:
    """What a server whose cache holds so many tokens took from memory × utilization beside weights and cache."""
    cache = tokens * model.shape.kv_token(kv_element(model, one.kv), one.spread)
    return Reserve(0.0, math.ceil(gpu.total * one.utilization) - spread_weights(model, one) - cache, 0.0, 0.0, True)


def memory(model: Model, gpu: Card, one: Serving, shown: Reserve | None = None) -> Memory:
    """Where the memory of each GPU goes; ``shown``: what is set aside, where a server has shown it."""
    weights, rest = spread_weights(model, one), shown or reserve(model, one, gpu.is_cpu)
    requested = float(math.ceil(gpu.total * one.utilization))
    if one.pool_bytes is not None:
        requested = weights + rest.inside + one.pool_bytes
    left = requested - weights - rest.inside if one.pool_bytes is None else one.pool_bytes
    block = block_bytes(model, one)
    blocks = max(0, int(left // block))
    return Memory(
        total=gpu.total,
        requested=requested,
        weights=weights,
        reserve=rest,
        pool=blocks * block,
        tokens=int(_capacity(model, one, blocks * block)),
        missing=max(0.0, -left),
        others=gpu.others,
    )


def _capacity(model: Model, one: Serving, pool: float) -> float:
    """Tokens that vLLM says the pool holds: requests of full length times that length (source: kv_cache_utils.py)."""
    if not model.shape.windows:
        return pool / model.shape.kv_token(kv_element(model, one.kv), one.spread)
    return pool / sequence_bytes(model, one, one.context) * one.context


def sequence_bytes(model: Model, one: Serving, tokens: int) -> float:
    """Bytes of cache of one request of so many tokens on each GPU, whole blocks."""
    rounded = math.ceil(tokens / one.block) * one.block
    return model.shape.kv_sequence(rounded, kv_element(model, one.kv), one.budget, one.spread, one.block)


def at_once(model: Model, one: Serving, pool: float, tokens: int) -> float:
    """How many requests of so many tokens the pool holds at once: vLLM's "maximum concurrency"."""
    return pool / sequence_bytes(model, one, tokens)


def longest(model: Model, one: Serving, pool: float, seqs: int = 1) -> int:
    """The most tokens that each of ``seqs`` requests may have, whole blocks; 0 where not one block fits."""
    low, high = 0, max(1, model.shape.positions // one.block)
    while low < high:
        middle = (low + high + 1) // 2
        if seqs * sequence_bytes(model, one, middle * one.block) <= pool:
            low = middle
        else:
            high = middle - 1
    return low * one.block


def form_text(model: Model, one: Serving) -> str:
    """ "bf16 weights, fp8 cache"."""
    kv = {"auto": {2: "bf16", 4: "fp32"}.get(model.shape.dtype_bytes, "bf16")}.get(one.kv, one.kv)
    return f"{form_of(model, one.weights)} weights, {kv} cache"
