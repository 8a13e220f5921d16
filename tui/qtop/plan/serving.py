"""What a plan is about: a model in a form, the cards it is spread over, and how vLLM is to be started. Pure."""

from __future__ import annotations

import msgspec

from qtop.errors import QtopError
from qtop.model.decoder import Decoder
from qtop.model.gpus import GpuSpec
from qtop.model.model_config import BITS
from qtop.model.vllm_defaults import NEWEST, Gpu, Version, batch, defaults

WEIGHTS = ("auto", "bf16", "fp8", "int8", "int4")
"""How weights may be held; auto: as the checkpoint holds them."""
KV_BYTES = {"auto": 0.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Bytes of a cached value by the name that vLLM takes; auto: the model's own."""


class Model(msgspec.Struct, frozen=True):
    """A model that is to be served."""

    name: str
    """What the command calls it: a repository's name or a folder."""
    shape: Decoder
    source: str
    """Where the shape was read."""
    checkpoint_bytes: int | None = None
    """Bytes of its weight files, where they are there."""
    tokenizer: str = ""
    """Its tokenizer.json, "" where it is not there."""


class Card(msgspec.Struct, frozen=True):
    """One GPU; several of a plan are alike."""

    name: str
    total: float
    """Bytes that CUDA sees."""
    bandwidth: float
    """Bytes a second."""
    bf16: float | None
    """Dense operations a second; None where it is not known."""
    fp8: float | None
    pcie: str
    source: str
    """Where memory and bandwidth come from."""
    others: float = 0.0
    """Bytes that other processes hold."""
    numa_node: int | None = None
    local_cpus: str = ""
    is_cpu: bool = False
    """No GPU: vLLM's CPU build, whose cache lies in RAM."""


DTYPES = {"auto": 0, "bfloat16": 2, "float16": 2, "float32": 4}
"""Bytes by the name that vLLM takes; auto: what the configuration says."""
CPU_BLOCK = 128
"""Block size of the CPU build (platforms/cpu.py)."""


def in_dtype(model: Model, dtype: str) -> Model:
    """The model, held in this dtype."""
    size = DTYPES[dtype]
    if not size or size == model.shape.dtype_bytes:
        return model
    return msgspec.structs.replace(model, shape=msgspec.structs.replace(model.shape, dtype_bytes=size))


def card(spec: GpuSpec) -> Card:
    """A card of the table."""
    return Card(
        spec.name, spec.memory, spec.bandwidth, spec.bf16, spec.fp8, spec.pcie, f"table; memory: {spec.memory_source}"
    )


class Serving(msgspec.Struct, frozen=True):
    """How vLLM is to be started; all that its memory depends on."""

    context: int
    """max_model_len, tokens."""
    seqs: int
    """max_num_seqs."""
    budget: int
    """max_num_batched_tokens."""
    utilization: float
    weights: str = "auto"
    kv: str = "auto"
    spread: int = 1
    """tensor_parallel_size."""
    block: int = 16
    eager: bool = False
    version: Version = NEWEST
    pool_bytes: float | None = None
    """kv_cache_memory_bytes: given, the pool is that, whatever the utilization."""
    dtype: str = "auto"
    """Of the model; auto: as its config.json says."""


def check(model: Model, gpu: Card, one: Serving) -> None:
    """Raise for what vLLM would not take. Errors: QtopError, one line."""
    if one.context < 1:
        raise QtopError(f"--context must be 1 token or more, not {one.context}")
    if one.seqs < 1:
        raise QtopError(f"--seqs must be 1 or more, not {one.seqs}")
    if not 0 < one.utilization <= 1:
        raise QtopError(f"--utilization is a share of the GPU's memory, above 0 and at most 1, not {one.utilization:g}")
    if one.weights not in WEIGHTS:
        raise QtopError(f"--weights {one.weights} is not known", f"One of {', '.join(WEIGHTS)}.")
    if one.kv not in KV_BYTES:
        raise QtopError(f"--kv {one.kv} is not known", f"One of {', '.join(KV_BYTES)}.")
    if model.shape.heads % one.spread:
        raise QtopError(f"{model.shape.heads} heads cannot be spread over {one.spread} GPUs")
    if gpu.is_cpu and one.pool_bytes is None:
        raise QtopError(
            "how much RAM the cache may have is not told", "Give --kv-memory, what VLLM_CPU_KVCACHE_SPACE is to be."
        )
    if gpu.total <= 0:
        raise QtopError(f"{gpu.name} tells no memory")


def default_serving(gpu: Card, version: Version, throughput: bool = False) -> tuple[int, int, float]:
    """(max_num_seqs, max_num_batched_tokens, utilization) that this version takes on such a card."""
    seqs, budget = batch(version, Gpu(0 if gpu.is_cpu else int(gpu.total), gpu.name), throughput=throughput)
    known = defaults(version).get("gpu_memory_utilization")
    return seqs, budget, float(known.value) if known is not None else 0.92


def kv_element(model: Model, kv: str) -> float:
    """Bytes of a cached value."""
    return KV_BYTES[kv] or float(model.shape.dtype_bytes)


def form_of(model: Model, weights: str) -> str:
    """How the weights are held: "bf16", "fp8", …; for auto what the checkpoint has."""
    if weights != "auto":
        return weights
    held = model.shape.quantisation
    if held is None:
        return {2: "bf16", 4: "fp32"}.get(model.shape.dtype_bytes, "bf16")
    return held.method


def _bits(model: Model, weights: str) -> tuple[float, bool]:
    """(bits of a quantised weight, whether only experts are)."""
    held = model.shape.quantisation
    if weights == "auto":
        return (held.bits, held.experts_only) if held is not None else (8.0 * model.shape.dtype_bytes, False)
    return BITS[weights], False


def _bytes(model: Model, weights: str, parameters: float, plain: float) -> float:
    """Bytes of so many parameters, ``plain`` of which are not quantised."""
    bits, experts_only = _bits(model, weights)
    full = float(model.shape.dtype_bytes)
    if experts_only:
        quantised = max(0.0, model.shape.in_experts - (model.shape.parameters - parameters))
        return quantised * bits / 8 + (parameters - quantised) * full
    return (parameters - plain) * bits / 8 + plain * (full if bits < 16 else bits / 8)


def weight_bytes(model: Model, weights: str) -> float:
    """Bytes of all weights: the checkpoint's own files where they are there and are not converted."""
    if weights == "auto" and model.checkpoint_bytes:
        return float(model.checkpoint_bytes)
    return _bytes(model, weights, model.shape.parameters, model.shape.unquantised)


def read_bytes(model: Model, weights: str, tokens: float) -> float:
    """Bytes of weights that a step of ``tokens`` tokens reads at least."""
    one = model.shape
    return _bytes(model, weights, one.read(tokens), one.embedding)
