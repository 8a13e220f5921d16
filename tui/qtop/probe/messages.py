"""What goes between qtop and the process that runs test prompts: one request in, events out, a JSON object a line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from qtop.probe.selfcheck import SelfCheck
from qtop.probe.timing import ProbeResult

MOST_REQUESTS = 100_000
MOST_AT_ONCE = 1024
"""Streams at a time: each has a thread of its own."""
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class ProbeRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test prompt to stream ``requests`` times after ``warmup`` requests that are discarded.

    Without a ``rate``, ``concurrency`` streams follow one another; with one, requests are due at the instants of a
    Poisson schedule fixed beforehand, and ``concurrency``, where it is not 0, is the most that run at a time.

    It travels over the child's stdin only: its key must not show in a process list or an environment.
    """

    url: str
    """The server's base, with or without a trailing ``/v1``."""
    model: str
    prompt: str
    max_tokens: Count = 48
    requests: Annotated[int, Meta(ge=1, le=MOST_REQUESTS)] = 1
    warmup: Annotated[int, Meta(ge=0, le=MOST_AT_ONCE)] = 0
    concurrency: Annotated[int, Meta(ge=0, le=MOST_AT_ONCE)] = 1
    rate: Annotated[float, Meta(ge=0, le=10_000)] = 0.0
    """Requests a second on the mean; 0: as fast as ``concurrency`` streams allow."""
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Send nothing new after so long; 0: no such limit."""
    pause_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """Between warming up and what counts, so that whoever watches the server can read it in between."""
    seed: int = 0
    """Of the schedule: the same seed gives the same instants."""
    fill: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    """Tokens that ``prompt`` is to be lengthened to with text to read; 0: as it is."""
    api: Literal["auto", "chat", "completions", "generate_stream", "generate"] = "auto"
    stamps: Literal["auto", "user"] = "auto"
    """"user": do not ask the kernel for stamps."""
    temperature: float = 0.0
    ignore_eos: bool = False
    """Ask for exactly max_tokens (vLLM, SGLang, llama.cpp); dropped where the server refuses it."""
    unique_prefix: bool = True
    timeout_s: Seconds = 120.0
    """For one request, from sending to the end."""
    stall_s: Seconds = 30.0
    """How long a stream that has begun may bring no token; until then it may wait its whole time, as in a queue."""
    api_key: str = ""
    verify: bool | str = True
    """Check the server's certificate; a string names a file of certificates to trust."""
    trust_env: bool = False
    """Take proxies from the environment; never for localhost and loopback addresses, whatever this says."""
    prompt_name: str = ""
    """What the prompt is called, "" for a text of the user's."""
    body: str = ""
    """A request of the user's, as JSON, sent as it is to ``path``. ``prompt`` then holds all of its texts and is not
    sent: what quotes them is not shown."""
    path: str = ""
    """The route of ``body``."""
    streaming: bool = True
    """Whether the answer was asked for as a stream."""
    limit: int = 0
    """Tokens that ``body`` limits its answer to under a name that the route knows; 0: none."""
    faults: tuple[str, ...] = ()
    """What is wrong with ``body``, by the codes of ``probe.lint``."""

    def __repr__(self) -> str:
        return f"ProbeRequest(url={self.url!r}, model={self.model!r}, requests={self.requests})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", self.url), ("model", self.model), ("requests", self.requests)]

    @property
    def asked_tokens(self) -> int:
        """What the answer is limited to by what is sent, 0: nothing."""
        return self.limit if self.body else self.max_tokens

    @property
    def one_by_one(self) -> bool:
        """Whether there is never more than one stream."""
        return self.rate == 0 and self.concurrency == 1


class ProbeEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened in a test; ``t`` is the monotonic second, as stamped in the child.

    - started: request ``i`` is being sent (``warmup`` says that it will be discarded; nothing more comes of it)
    - first: its first token is there, ``ms`` after it was sent
    - delta: text of it, in ``text``; of several streams only one at a time is followed
    - gaps: the gaps between tokens since the event before, in ``gaps`` (ms), of all streams; ``running`` are in flight.
      They are for looking at while they come: an event may hold several tokens, and what is true is in the results.
    - done: it ended, well or not; ``result`` has the figures
    - report: all have ended; ``check`` says how far the prober itself was in the way
    - error: the test as a whole failed, and ``error`` says how in one clause
    - end: nothing more comes (made by the runner, not sent by the child)
    """

    kind: Literal["started", "first", "delta", "gaps", "done", "report", "error", "end"]
    i: int = 0
    t: float = 0.0
    text: str = ""
    reasoning: bool = False
    warmup: bool = False
    result: ProbeResult | None = None
    error: str = ""
    ms: float = 0.0
    gaps: tuple[float, ...] = ()
    running: int = 0
    check: SelfCheck | None = None
