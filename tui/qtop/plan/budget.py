"""The guide's model on the cards that are here, in the forms that it may be held in: what the guide's claims ask of the
plan's arithmetic (``vram``, ``speed``). Pure."""

from __future__ import annotations

import msgspec

from qtop.model.gpus import exactly
from qtop.model.presets import preset_decoder
from qtop.model.vllm_defaults import NEWEST, Version
from qtop.plan.making import CLOSE
from qtop.plan.scenarios import GUIDES_CARD, GUIDES_MODEL
from qtop.plan.serving import Card, Model, Serving, card, default_serving, kv_element, weight_bytes
from qtop.plan.speed import decode_step_s, prefill
from qtop.plan.vram import Reserve, memory, reserve, sequence_bytes

MODEL = Model(GUIDES_MODEL, preset_decoder(GUIDES_MODEL), "preset")
KV_TOKEN = MODEL.shape.kv_token(kv_element(MODEL, "auto"))
"""Bytes of KV cache a token in bf16 or fp16; half of it in fp8."""
LONGEST = MODEL.shape.positions
"""Tokens that the model was made for."""
MOST_AT_ONCE = 1 << 16
"""Requests at once beyond which nobody looks."""


class Form(msgspec.Struct, frozen=True):
    """How weights and cache are held (names of ``Serving``), and the flags of vLLM for it."""

    short: str
    """Weights/cache."""
    weights: str
    kv: str
    flags: str
    checkpoint: str = ""
    """What has to be fetched for it, "" if nothing."""

    @property
    def name(self) -> str:
        """ "fp8 weights, bf16 cache"."""
        weights, _, kv = self.short.partition("/")
        return f"{weights} weights, {kv} cache"

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        return weight_bytes(MODEL, self.weights)

    @property
    def kv_token(self) -> float:
        """Bytes of KV cache a token."""
        return MODEL.shape.kv_token(kv_element(MODEL, self.kv))


BF16 = Form("bf16/bf16", "auto", "auto", "")
FP8 = Form("fp8/bf16", "fp8", "auto", "--quantization fp8")
FP8_FP8 = Form("fp8/fp8", "fp8", "fp8", "--quantization fp8 --kv-cache-dtype fp8")
INT4_FP8 = Form("4-bit/fp8", "int4", "fp8", "--kv-cache-dtype fp8", "an AWQ or GPTQ checkpoint of the model")
FORMS = (BF16, FP8, FP8_FP8, INT4_FP8)
"""From the most exact to the smallest."""


class Budget(msgspec.Struct, frozen=True):
    """The model on ``serving.spread`` cards of a kind; bytes are those of all of them together."""

    card: Card
    serving: Serving
    """As it is started, but for form and utilization."""
    real: bool = True
    """False: no card is here, this is the guide's own."""
    own: Reserve | None = None
    """What the server that runs sets aside; None: what the plan reckons."""

    @property
    def cards(self) -> int:
        """How many."""
        return self.serving.spread

    @property
    def name(self) -> str:
        """ "2 × NVIDIA H100 80GB HBM3"."""
        return f"{self.cards} × {self.card.name}" if self.cards > 1 else self.card.name

    @property
    def total(self) -> float:
        """Bytes that CUDA sees."""
        return self.card.total * self.cards

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second; None where it is not known."""
        return self.card.bandwidth * self.cards or None

    @property
    def reserve(self) -> float:
        """Bytes beside weights and cache."""
        return (self.own or reserve(MODEL, self.serving)).inside * self.cards

    def _as(self, form: Form, **more: float) -> Serving:
        return msgspec.structs.replace(self.serving, weights=form.weights, kv=form.kv, **more)

    def pool(self, form: Form, utilization: float) -> float:
        """Bytes of KV cache, 0 where the rest leaves none."""
        return memory(MODEL, self.card, self._as(form, utilization=utilization), self.own).pool * self.cards

    def sure(self, form: Form, utilization: float) -> float:
        """Tokens that the cache holds at least: what is reckoned is no more exact than ``CLOSE``, what the server has
        shown is."""
        return self.pool(form, utilization) / form.kv_token / (CLOSE if self.own is None else 1.0)

    def fits(self, form: Form, utilization: float, not_so: str = "does not fit") -> str:
        """Whether a request of the longest context does: "fits", "may fit", ``not_so``."""
        if self.sure(form, utilization) >= LONGEST:
            return "fits"
        likely = self.own is None and self.sure(form, utilization) * CLOSE * CLOSE >= LONGEST
        return "may fit" if likely else not_so

    def cache_each(self, form: Form, tokens: int) -> float:
        """Bytes of cache of so many tokens on each card, whole blocks."""
        return sequence_bytes(MODEL, self._as(form), tokens)

    def footprint(self, form: Form, tokens: int) -> float:
        """Bytes that a server may take (memory × utilization) for a cache of so many tokens."""
        one = self._as(form, pool_bytes=self.cache_each(form, tokens))
        return memory(MODEL, self.card, one, self.own).requested * self.cards

    def tok_s(self, form: Form, batch: int, context: float) -> float | None:
        """Most output tokens a second of ``batch`` sequences of ``context`` tokens each; None where the memory's
        bandwidth is not known."""
        if self.bandwidth is None:
            return None
        return batch / decode_step_s(MODEL, self.card, self._as(form), batch, context)[0]

    def batch_for(self, form: Form, wanted: float, context: float) -> int | None:
        """Sequences at once from which the cards allow ``wanted`` tokens a second; None where no number of them does,
        or the bandwidth is not known."""
        low, high = 1, MOST_AT_ONCE
        while low < high:  # more at once never decode fewer tokens a second
            middle = (low + high) // 2
            if (self.tok_s(form, middle, context) or 0.0) >= wanted:
                high = middle
            else:
                low = middle + 1
        return low if (self.tok_s(form, low, context) or 0.0) >= wanted else None

    def prefill_s(self, tokens: int) -> float | None:
        """Seconds that reading a prompt takes at least, with bf16 weights; None where the cards' speed is not known."""
        found = prefill(MODEL, self.card, self._as(BF16), tokens)
        return None if found is None else found.floor


def serving_on(gpu: Card, spread: int = 1, version: Version = NEWEST) -> Serving:
    """As this vLLM starts the model by its defaults."""
    seqs, tokens, utilization = default_serving(gpu, version)
    return Serving(LONGEST, seqs, tokens, utilization, spread=spread, version=version)


def guides() -> Budget:
    """On the guide's own card: 24 GB, of which CUDA sees 23.64 GiB."""
    gpu = card(exactly(GUIDES_CARD))
    return Budget(gpu, serving_on(gpu), real=False)
