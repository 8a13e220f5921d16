"""What goes between qtop and the process that runs a test prompt: one request in, events out, a JSON object a line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qtop.probe.timing import ProbeResult

Count = Annotated[int, Meta(ge=1, le=100_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ProbeRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test prompt to stream ``requests`` times, one after the other, after ``warmup`` requests that are discarded.

    It travels over the child's stdin only: its key must not show in a process list or an environment.
    """

    url: str
    """The server's base, with or without a trailing ``/v1``."""
    model: str
    prompt: str
    max_tokens: Count = 48
    requests: Annotated[int, Meta(ge=1, le=1000)] = 1
    warmup: Annotated[int, Meta(ge=0, le=100)] = 0
    temperature: float = 0.0
    ignore_eos: bool = False
    """Ask for exactly max_tokens (vLLM, SGLang, llama.cpp); dropped where the server refuses it."""
    unique_prefix: bool = True
    timeout_s: Seconds = 120.0
    """For one request, from sending to the end."""
    stall_s: Seconds = 30.0
    """How long a stream may bring no token."""
    api_key: str = ""
    verify: bool | str = True
    """Check the server's certificate; a string names a file of certificates to trust."""
    trust_env: bool = False
    """Take proxies from the environment; never for localhost and loopback addresses, whatever this says."""

    def __repr__(self) -> str:
        return f"ProbeRequest(url={self.url!r}, model={self.model!r}, requests={self.requests})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", self.url), ("model", self.model), ("requests", self.requests)]


class ProbeEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened in a test; ``t`` is the monotonic second, read in the child as the bytes came in.

    - started: request ``i`` is being sent (``warmup`` says that it will be discarded; nothing more comes of it)
    - first: its first token is there
    - delta: text of it, in ``text``
    - done: it ended, well or not; ``result`` has the figures
    - error: the test as a whole failed, and ``error`` says how in one clause
    - end: nothing follows; comes exactly once and last
    """

    kind: Literal["started", "first", "delta", "done", "error", "end"]
    i: int = 0
    t: float = 0.0
    text: str = ""
    reasoning: bool = False
    warmup: bool = False
    result: ProbeResult | None = None
    error: str = ""
