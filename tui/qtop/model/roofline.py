"""The decode bound: what memory bandwidth allows, for models whose shape is known.

A step reads the weights once and the KV cache of every running sequence: step ≥ (W + tokens held · kv) / bandwidth, and
each running sequence gets one token of it. The shapes are those of ``model.presets``: 36 layers, 8 KV heads of 128 and
2 bytes make 147 456 B a token for Qwen3-4B, 4 022 468 096 parameters its weights.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from qtop.model.decoder import Decoder
from qtop.model.frame import EngineView, Frame, GpuView
from qtop.model.gpus import named
from qtop.model.presets import preset, preset_decoder
from qtop.model.quantised import by_setting, marked
from qtop.sample import Absent, Reading, Why


class Shape(msgspec.Struct, frozen=True):
    """Bytes of weights read a step and bytes of KV cache a token, in bf16."""

    weights: float
    """What a step of one token reads: of a mixture of experts those that are chosen, and no embedding but its row."""
    kv_token: float
    held: float = 0.0
    """Bytes of weights in memory; 0: the same."""

    @property
    def resident(self) -> float:
        """Bytes of weights in memory."""
        return self.held or self.weights


def shape(one: Decoder) -> Shape:
    """The shape for the bound, in bf16."""
    return Shape(2.0 * one.read(1), one.kv_token(2), 2.0 * one.parameters)


UNKNOWN = Absent(Why.UNSUPPORTED, "no roofline for this model and GPU")
SLACK = 1.2
"""How far a tick may lie above the bound: running requests are counted at its end, tokens all through it."""
IDLE = Absent(Why.NOT_YET, "no request is running")
QUANTISED = Absent(Why.UNSUPPORTED, "the weights are quantised: how many bytes a step reads is not known here")
FASTER = Absent(Why.UNSUPPORTED, "faster than bf16 weights allow: they are quantised, or drafts are accepted")


class Roofline(msgspec.Struct, frozen=True):
    """For the present batch."""

    tok_s: Reading[float]
    """The most output tokens a second that memory bandwidth allows."""
    dram: Reading[float]
    """Share of the memory's bandwidth, 0–1, that the steps taken must have used at least; inferred, not measured:
    reading prompts and activations comes on top (0.40 where GPM measured 0.50, with 16 streams on an H100)."""


@lru_cache(maxsize=64)
def shape_of(model: str) -> Shape | None:
    """The shape of a model by its name; None if it is not known, or its cache a token or its weights are not one
    figure."""
    found = preset(model)
    if found is None:
        return None
    one = preset_decoder(found.name)
    return None if one.quantisation is not None or one.windows else shape(one)


def bandwidth_of(gpu: GpuView) -> float | None:
    """Peak memory bandwidth of a GPU, bytes a second: by its clock and bus width, else by its name (recordings from
    before they were read)."""
    if not isinstance(gpu.bandwidth, Absent):
        return gpu.bandwidth
    name = gpu.name if isinstance(gpu.name, str) else ""
    known = named(name)
    return known.bandwidth if known is not None else None


def bound(one: Shape, bandwidth: float, batch: float, context_tokens: float, copies: int = 1) -> float:
    """Upper bound in tokens a second for ``batch`` sequences that hold ``context_tokens`` tokens together, over all
    ``copies`` of the weights (data-parallel engines each read their own)."""
    return batch * bandwidth / (copies * one.weights + context_tokens * one.kv_token)


def present(frame: Frame) -> Roofline:
    """The bound for the batch that runs now. Tokens held are counted where the KV pool's size is known."""
    found = _known(frame)
    if isinstance(found, Absent):
        return Roofline(found, found)
    own, peak, engine, copies = found
    if isinstance(engine.running, Absent):
        return Roofline(engine.running, engine.running)
    if engine.running <= 0:
        return Roofline(IDLE, IDLE)
    use, pool = engine.kv_use, engine.kv_capacity_tokens
    # The pool is that of all engines, its use the fullest one's: together they are an upper bound.
    held = 0.0 if isinstance(use, Absent) or isinstance(pool, Absent) else use * pool
    tok_s = bound(own, peak, engine.running, held, copies)
    if not isinstance(engine.gen_tok_s, Absent) and engine.gen_tok_s > tok_s * SLACK:
        return Roofline(FASTER, FASTER)
    if isinstance(engine.steps_s, Absent):
        return Roofline(tok_s, engine.steps_s)
    # Steps are counted over all engines, and each engine's step reads its own weights and its own part of the cache.
    read = engine.steps_s * (own.weights + held / copies * own.kv_token)
    return Roofline(tok_s, min(1.0, read / peak))


class Hardware(msgspec.Struct, frozen=True):
    """What the bound of a test rests on."""

    shape: Shape
    bandwidth: float
    """Bytes a second of the server's GPUs together."""
    copies: int
    gpu: str
    """The first GPU's name."""


def hardware(frame: Frame) -> Hardware | Absent:
    """Model and memory bandwidth of the server, where both are known."""
    found = _known(frame)
    if isinstance(found, Absent):
        return found
    own, peak, _, copies = found
    cards = gpus_of_server(frame.gpus) if not isinstance(frame.gpus, Absent) else ()
    name = cards[0].name if cards and isinstance(cards[0].name, str) else "GPU"
    return Hardware(own, peak, copies, name)


def _known(frame: Frame) -> tuple[Shape, float, EngineView, int] | Absent:
    """Shape, bytes a second of the server's GPUs together, the engine, and copies of the weights."""
    server, engine = frame.server, frame.engine
    if isinstance(server, Absent) or isinstance(server.model, Absent) or isinstance(engine, Absent):
        return UNKNOWN
    own = shape_of(server.model)
    if own is None or isinstance(frame.gpus, Absent) or not frame.gpus:
        return UNKNOWN
    if not isinstance(frame.settings, Absent):
        quantised = frame.settings.get("quantization")
        if quantised is not None and by_setting(quantised.value):
            return QUANTISED
    if marked(server.model):
        return QUANTISED
    own = Shape(own.weights, _kv_token(frame, own), own.held)
    peaks = [bandwidth_of(gpu) for gpu in gpus_of_server(frame.gpus)]
    if not peaks or any(peak is None for peak in peaks):
        return UNKNOWN
    return own, sum(peak for peak in peaks if peak is not None), engine, max(1, len(engine.engines))


def kv_pool_bytes(frame: Frame) -> Reading[float]:
    """What the KV pools of all engines take together, bytes; absent where the model's shape is not known."""
    server = frame.server
    if isinstance(frame.kv_tokens, Absent):
        return frame.kv_tokens
    own = None if isinstance(server, Absent) or isinstance(server.model, Absent) else shape_of(server.model)
    return UNKNOWN if own is None else frame.kv_tokens * _kv_token(frame, own)


def _kv_token(frame: Frame, one: Shape) -> float:
    """Bytes of KV cache a token, half of the bf16 figure for an fp8 cache."""
    cache = None if isinstance(frame.settings, Absent) else frame.settings.get("kv_cache_dtype")
    return one.kv_token / 2 if cache is not None and cache.value.lower().startswith("fp8") else one.kv_token


def gpus_of_server(gpus: tuple[GpuView, ...]) -> tuple[GpuView, ...]:
    """The GPUs that hold memory of the server. Where the driver does not say it is the only one, of several none."""
    global _latest
    known, found = _latest
    if known is not gpus:
        own = tuple(gpu for gpu in gpus if not isinstance(gpu.vram, Absent) and _holds(gpu.vram.server))
        found = own or (gpus if len(gpus) == 1 else ())
        _latest = (gpus, found)
    return found


_latest: tuple[tuple[GpuView, ...], tuple[GpuView, ...]] = ((), ())
"""The GPUs last asked about and the answer: the model and twenty rules ask about the same ones each tick."""


def _holds(part: Reading[int]) -> bool:
    return not isinstance(part, Absent) and part > 0
