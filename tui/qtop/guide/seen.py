"""What a frame tells the checks: each thing asked for is there, or the check ends with why it is not."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import TypeVar

import msgspec

from qtop.diagnose.engine import Finding
from qtop.diagnose.rule import State as RuleState
from qtop.model.cpu import SchedView
from qtop.model.engines import TABLES
from qtop.model.frame import EngineView, Frame, GpuView, HostView
from qtop.model.presets import preset, preset_decoder
from qtop.model.quantised import by_setting, marked
from qtop.model.roofline import Shape, gpus_of_server, shape_of
from qtop.model.vllm_defaults import NEWEST, Version, version_of
from qtop.plan.budget import Budget, guides, serving_on
from qtop.plan.cards import card_here
from qtop.plan.serving import Card, Model, Serving
from qtop.plan.vram import Reserve, shown_reserve
from qtop.sample import Absent, Reading, ServerInfo, Setting, Why
from qtop.units import GIB

T = TypeVar("T")
PATIENT = 0.05
"""Share of wall time that a thread waits for a CPU, below which it does not wait (healthy servers: 0.06 at most)."""
LIKELY_RESERVE = (0.2 * GIB, 8 * GIB)
"""Bytes on a GPU beside weights and cache; eleven starts on an H100 took 0.7 to 2.8 GiB."""


class State(StrEnum):
    """Whether a claim holds on this machine."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does_not_hold"
    NOT_APPLICABLE = "not_applicable"
    CANNOT_TELL = "cannot_tell"


class Stop(Exception):
    """The check ends here: what it needs is not there."""

    def __init__(self, state: State, why: str, measured: str = "") -> None:
        super().__init__(why)
        self.state, self.why, self.measured = state, why, measured


class Seen:
    """One frame with its findings. What is asked for and absent ends the check with a ``Stop``."""

    def __init__(self, frame: Frame, findings: tuple[Finding, ...] = ()) -> None:
        self.frame, self.findings = frame, findings

    @cached_property
    def server(self) -> ServerInfo:
        """The server."""
        server = self.frame.server
        if isinstance(server, Absent):
            raise Stop(State.CANNOT_TELL, f"no server to look at ({server})")
        return server

    @cached_property
    def vllm(self) -> ServerInfo:
        """The server, which is a vLLM."""
        if self.server.engine != "vllm":
            raise Stop(State.NOT_APPLICABLE, f"about vLLM; this is {self.engine_name}")
        return self.server

    @property
    def engine_name(self) -> str:
        """The engine as people call it, with its version."""
        server = self.server
        table = TABLES.get(server.engine)
        name = table.title if table is not None else "a server of unknown kind"
        return name if isinstance(server.version, Absent) else f"{name} {server.version}"

    @property
    def version(self) -> Version | None:
        """Of the vLLM; None where it does not tell."""
        server = self.frame.server
        if isinstance(server, Absent) or server.engine != "vllm" or isinstance(server.version, Absent):
            return None
        return version_of(server.version)

    def since(self, *wanted: int) -> bool:
        """Whether the vLLM is of this version or newer; without a vLLM that tells its version: the newest."""
        version = self.version
        return version is None or version >= (*wanted, 0, 0)[:3]

    @cached_property
    def engine(self) -> EngineView:
        """The server's own numbers."""
        if isinstance(self.frame.engine, Absent):
            self.server  # noqa: B018 - without a server that is why
            raise Stop(State.CANNOT_TELL, f"the server tells no numbers ({self.frame.engine})")
        return self.frame.engine

    @cached_property
    def running(self) -> float:
        """Requests that run, at least one."""
        running = self.told(self.engine.running, "how many requests run")
        if running <= 0:
            raise Stop(State.CANNOT_TELL, "no request runs: this shows under load only", "idle")
        return running

    @cached_property
    def gpus(self) -> tuple[GpuView, ...]:
        """The GPUs of the server, else all; at least one."""
        gpus = self.frame.gpus
        if isinstance(gpus, Absent):
            if gpus.why is Why.UNSUPPORTED:
                raise Stop(State.NOT_APPLICABLE, "no GPU that NVML knows", "no GPU")
            raise Stop(State.CANNOT_TELL, f"the GPU could not be read ({gpus})")
        if not gpus:
            raise Stop(State.NOT_APPLICABLE, "no GPU", "no GPU")
        return gpus_of_server(gpus) or gpus

    @property
    def gpu(self) -> GpuView:
        """The first of them."""
        return self.gpus[0]

    @cached_property
    def gpu_name(self) -> str:
        """Its name."""
        return self.told(self.gpu.name, "the GPU's name")

    @property
    def is_guides_card(self) -> bool:
        """Whether it is the guide's, an RTX 4090 D."""
        return "4090 D" in self.gpu_name or "4090D" in self.gpu_name

    @cached_property
    def host(self) -> HostView:
        """The host's CPUs and memory."""
        if isinstance(self.frame.host, Absent):
            raise Stop(State.CANNOT_TELL, f"the host could not be read ({self.frame.host})")
        return self.frame.host

    @cached_property
    def sched(self) -> SchedView:
        """The server's threads."""
        if isinstance(self.frame.sched, Absent):
            self.server  # noqa: B018 - without a server that is why
            raise Stop(State.CANNOT_TELL, f"the server's threads could not be read ({self.frame.sched})")
        return self.frame.sched

    @cached_property
    def wait(self) -> float:
        """Share of wall time that the longest-waiting critical thread waits for a CPU, throttling left out."""
        critical = self.sched.critical
        if not critical:
            raise Stop(State.CANNOT_TELL, "none of the server's threads is known to be critical")
        return max(thread.contended for thread in critical)

    def setting(self, name: str) -> Setting | None:
        """A setting in force; None where nothing tells it."""
        settings = self.frame.settings
        return None if isinstance(settings, Absent) else settings.get(name)

    def value(self, name: str) -> str:
        """Its value, "" where nothing tells it."""
        one = self.setting(name)
        return one.value if one is not None else ""

    def number(self, name: str) -> float | None:
        """Its value as a number."""
        settings = self.frame.settings
        return None if isinstance(settings, Absent) else settings.number(name)

    def told(self, reading: Reading[T], what: str) -> T:
        """A reading that is there."""
        if isinstance(reading, Absent):
            raise Stop(State.CANNOT_TELL, f"{what} is not told ({reading})")
        return reading

    @cached_property
    def shape(self) -> Shape | None:
        """Bytes of the model's weights and of its cache a token; None for a model whose shape is not known."""
        server = self.frame.server
        if isinstance(server, Absent) or isinstance(server.model, Absent):
            return None
        shape = shape_of(server.model)
        if shape is None or not self.value("kv_cache_dtype").lower().startswith("fp8"):
            return shape
        return Shape(shape.weights, shape.kv_token / 2, shape.held)

    @property
    def is_guides_model(self) -> bool:
        """Whether the server's model is a Qwen3-4B."""
        server = self.frame.server
        found = None if isinstance(server, Absent) or isinstance(server.model, Absent) else preset(server.model)
        return found is not None and found.name.startswith("Qwen3-4B")

    @property
    def is_quantised(self) -> bool:
        """Whether the weights are known not to be in 16 bits."""
        server = self.frame.server
        named = not isinstance(server, Absent) and not isinstance(server.model, Absent) and marked(server.model)
        return named or by_setting(self.value("quantization"))

    @cached_property
    def budget(self) -> Budget:
        """The guide's model on the GPUs that one copy of the server's is spread over; on the guide's own card where
        there is none whose memory is told."""
        try:
            gpus = self.gpus
        except Stop:
            return guides()
        spread = int((self.number("tensor_parallel_size") or 1) * (self.number("pipeline_parallel_size") or 1))
        cards: list[Card] = []
        for gpu in gpus[: max(1, spread)]:
            card = card_here(gpu, serves=True)
            if isinstance(card, Absent):
                return guides()
            cards.append(card)
        least = min(cards, key=lambda card: card.total)  # the smallest decides how large the cache is on each
        return Budget(least, self._serving(least, len(cards)), own=self._own(least, len(cards)))

    def _serving(self, card: Card, spread: int) -> Serving:
        """As the server was started, where it is a vLLM that tells it; else by the defaults."""
        one = serving_on(card, spread, self.version or NEWEST)
        if isinstance(self.frame.server, Absent) or self.frame.server.engine != "vllm":
            return one
        seqs, tokens = self.number("max_num_seqs"), self.number("max_num_batched_tokens")
        return msgspec.structs.replace(
            one,
            seqs=int(seqs) if seqs else one.seqs,
            budget=int(tokens) if tokens else one.budget,
            eager=self.value("enforce_eager").lower() == "on",
        )

    def _own(self, card: Card, spread: int) -> Reserve | None:
        """What the server took beside weights and cache: its memory × utilization, less both. None where that cannot be
        told, or is no likely figure."""
        server, tokens, utilization = self.frame.server, self.frame.kv_tokens, self.number("gpu_memory_utilization")
        if (
            self.version is None
            or self.shape is None
            or utilization is None
            or self.is_quantised
            or isinstance(server, Absent)
            or isinstance(server.model, Absent)
            or isinstance(tokens, Absent)
            or self.number("kv_cache_memory_bytes") is not None
            or self.number("num_gpu_blocks_override") is not None
            or (not isinstance(self.frame.engine, Absent) and len(self.frame.engine.engines) > 1)
        ):
            return None
        known = preset(server.model)
        assert known is not None  # its shape is known by it
        kv = "fp8" if self.value("kv_cache_dtype").lower().startswith("fp8") else "auto"
        one = msgspec.structs.replace(self._serving(card, spread), utilization=utilization, kv=kv)
        found = shown_reserve(Model(known.name, preset_decoder(known.name), "preset"), card, one, tokens)
        return found if LIKELY_RESERVE[0] <= found.inside <= LIKELY_RESERVE[1] else None

    def on_card(self, text: str) -> str:
        """A figure that was reckoned, with a word where it is for the guide's card and not for one that is here."""
        return text if self.budget.real else f"guide's card: {text}"

    def firing(self, *rules: str) -> Finding | None:
        """The first of these rules that fires."""
        firing = {one.rule: one for one in self.findings if one.state is RuleState.FIRING}
        return next((firing[rule] for rule in rules if rule in firing), None)
