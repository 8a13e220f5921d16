"""Single flags of a server as knobs of their own: ``max-num-seqs=128`` is ``server-flags='--max-num-seqs=128'``.

A table says which flag it is on which server, and how a value is proposed: by arithmetic on what is seen, or
not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from qtop.act.change import Plan
from qtop.act.knobs import proposals
from qtop.act.knobs.server_flags import ServerFlags
from qtop.act.words import LEAVE_OUT, Edit, values_now
from qtop.collect.discover import NAMES
from qtop.collect.engine.argv import integer
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

ON, OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


@dataclass(frozen=True)
class Flag:
    """One row: a knob's name, what it is, the flag by engine, a value as a user would write it."""

    id: str
    title: str
    flags: Mapping[str, str]
    example: str
    switch: bool = False
    """It is on or off and has no value."""
    propose: Callable[[Frame], str] | None = None
    """The value that is worth a try now; Refused, with why, where there is none."""
    warn: str = ""
    """What qtop's measurement does not show."""


_SPEED = "it may change answers: qtop measures speed, not quality"
_VLLM, _LLAMA, _SGLANG = "vllm", "llamacpp", "sglang"

TABLE = (
    Flag(
        "max-num-seqs",
        "requests that run at once",
        {_VLLM: "--max-num-seqs", _SGLANG: "--max-running-requests"},
        "128",
        propose=proposals.max_num_seqs,
    ),
    Flag(
        "gpu-memory-utilization",
        "share of each GPU's memory that the server takes",
        {_VLLM: "--gpu-memory-utilization", _SGLANG: "--mem-fraction-static"},
        "0.92",
        propose=proposals.gpu_memory_utilization,
    ),
    Flag(
        "max-model-len",
        "longest request in tokens, prompt and output",
        {_VLLM: "--max-model-len", _SGLANG: "--context-length"},
        "auto",
        propose=proposals.max_model_len,
    ),
    Flag(
        "max-num-batched-tokens",
        "tokens of one engine step",
        {_VLLM: "--max-num-batched-tokens", _SGLANG: "--chunked-prefill-size"},
        "4096",
    ),
    Flag(
        "kv-cache-dtype",
        "type of the KV cache",
        {_VLLM: "--kv-cache-dtype", _SGLANG: "--kv-cache-dtype"},
        "fp8",
        propose=proposals.kv_cache_dtype,
        warn=_SPEED,
    ),
    Flag("block-size", "tokens of a KV block", {_VLLM: "--block-size", _SGLANG: "--page-size"}, "32"),
    Flag(
        "enable-chunked-prefill",
        "long prompts in pieces between decoding",
        {_VLLM: "--enable-chunked-prefill"},
        "on",
        switch=True,
        propose=proposals.chunked_prefill,
    ),
    Flag(
        "api-server-count",
        "processes that read and answer HTTP",
        {_VLLM: "--api-server-count"},
        "2",
        propose=proposals.api_server_count,
    ),
    Flag(
        "enforce-eager",
        "no CUDA graphs",
        {_VLLM: "--enforce-eager"},
        "off",
        switch=True,
        propose=proposals.enforce_eager,
    ),
    Flag(
        "async-scheduling",
        "the next step is planned while one runs",
        {_VLLM: "--async-scheduling"},
        "on",
        switch=True,
        propose=proposals.async_scheduling,
    ),
    Flag(
        "quantization",
        "method that the weights are quantised with",
        {_VLLM: "--quantization", _SGLANG: "--quantization"},
        "fp8",
        warn=_SPEED,
    ),
    Flag("parallel", "slots: requests that run at once", {_LLAMA: "--parallel"}, "8", propose=proposals.parallel),
    Flag("ctx-size", "tokens of all slots together", {_LLAMA: "--ctx-size"}, "8192"),
    Flag("threads", "compute threads", {_LLAMA: "--threads"}, "4"),
    Flag("threads-batch", "compute threads for prompts", {_LLAMA: "--threads-batch"}, "8"),
    Flag("batch-size", "tokens of one step at most", {_LLAMA: "--batch-size"}, "2048"),
    Flag("ubatch-size", "tokens that are computed at once", {_LLAMA: "--ubatch-size"}, "512"),
    Flag("cache-type-k", "type of the cache's keys", {_LLAMA: "--cache-type-k"}, "q8_0", warn=_SPEED),
    Flag("cache-type-v", "type of the cache's values", {_LLAMA: "--cache-type-v"}, "q8_0", warn=_SPEED),
    Flag("flash-attn", "fused attention: on, off or auto", {_LLAMA: "--flash-attn"}, "on"),
    Flag("n-gpu-layers", "layers that lie on the GPU", {_LLAMA: "--n-gpu-layers"}, "99"),
)


class FlagKnob(ServerFlags):
    """One row of the table."""

    def __init__(self, flag: Flag) -> None:
        self.flag = flag
        self.id = flag.id  # type: ignore[misc]
        self.title = f"{flag.title} (the server is started anew)"  # type: ignore[misc]
        self.example = flag.example  # type: ignore[misc]

    def fits(self, frame: Frame) -> bool:
        """By its engine."""
        return not isinstance(frame.server, ServerInfo) or frame.server.engine in self.flag.flags

    def asked(self, frame: Frame, server: ServerInfo, value: str | None) -> tuple[str, tuple[Edit, ...]]:
        """One flag of this server."""
        name = self.flag.flags.get(server.engine)
        if name is None:
            those = " and ".join(NAMES.get(engine, engine) for engine in self.flag.flags)
            raise Refused(f"{self.id} is for {those}, and this is {NAMES.get(server.engine, server.engine)}")
        if value is None:
            if self.flag.propose is None:
                raise Refused(f"{self.id} takes a value", f"For example {self.id}={self.example}.")
            value = self.flag.propose(frame)
        value = value.strip()
        if not value or any(char.isspace() for char in value) or (value.startswith("-") and not value[1:].isdigit()):
            raise QtopError(f"{self.id} cannot be {value!r}", f"It takes one value, for example {self.example}.")
        return value, (self._edit(name, value), *self._beside(server, value))

    def _edit(self, name: str, value: str) -> Edit:
        if value == LEAVE_OUT:
            return Edit(name, (value,), drop=True)
        if not self.flag.switch:
            return Edit(name, (value,))
        if value.lower() in ON:
            return Edit(name)
        if value.lower() in OFF:
            return Edit(f"--no-{name.removeprefix('--')}")
        raise QtopError(f"{self.id} cannot be {value!r}", "It is on, off, or default.")

    def _beside(self, server: ServerInfo, value: str) -> tuple[Edit, ...]:
        """llama.cpp shares its context among the slots: with more of them as much more, so that each keeps its own."""
        argv = server.argv
        if self.id != "parallel" or not isinstance(argv, tuple) or not value.isdigit() or int(value) < 1:
            return ()
        slots, context = integer(argv, "--parallel", "-np"), integer(argv, "--ctx-size", "-c")
        if not slots or not context or not values_now(argv, _LLAMA, "ctx_size"):
            return ()
        return (Edit("--ctx-size", (str(context // slots * int(value)),)),)

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """With what the measurement does not show."""
        plan = super().plan(frame, value)
        return replace(plan, warnings=(self.flag.warn, *plan.warnings)) if self.flag.warn else plan


FLAG_KNOBS = tuple(map(FlagKnob, TABLE))
