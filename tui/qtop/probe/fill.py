"""Long prompts: text to read behind the question, as many tokens of it as were asked for.

How many tokens a text is only the server knows: ``/tokenize`` says so (vLLM, SGLang, llama.cpp). Without it a token is
taken for as many characters of English as none of the usual vocabularies exceeds, so that a prompt may come out shorter
than asked for and never longer; the server's ``usage`` tells in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import msgspec

from qtop.probe.client import ProbeClient
from qtop.probe.messages import ProbeRequest

CHARS_A_TOKEN = 3.3
"""Without ``/tokenize``; Qwen, Llama and Mistral need 4.2 to 4.6 for text like this."""
_FRAME = 24
"""Tokens that the tag and the chat template may take."""
_SAMPLE = 2000

_PLACES = ("the mill", "the harbour", "the old bridge", "the school", "the bakery", "the station", "the orchard")
_PEOPLE = ("Ada", "Bruno", "Chen", "Dilek", "Emil", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kofi")
_THINGS = (
    "a lantern",
    "two letters",
    "a sack of rye",
    "a broken clock",
    "some nails",
    "a blue cup",
    "a map",
    "wet boots",
)


def lengthened(request: ProbeRequest) -> ProbeRequest:
    """The request with its prompt filled up to ``fill`` tokens. Raises QtopError as ProbeClient does."""
    if not request.fill:
        return request
    with ProbeClient(request) as client:
        return msgspec.structs.replace(
            request, prompt=filled(request.prompt, request.fill, client.count_tokens), fill=0
        )


def filled(question: str, tokens: int, tokens_of: Callable[[str], int | None]) -> str:
    """``question`` behind as much text as makes ``tokens`` with it; ``tokens_of`` counts, or says None."""
    tokens = max(1, tokens - _FRAME)
    sample = _text(_SAMPLE)
    counted = tokens_of(sample)
    each = _SAMPLE / counted if counted else CHARS_A_TOKEN
    length = max(0, int(tokens * each) - len(question))
    for _ in range(4):  # the first guess is within a percent; each further one halves what is left
        text = f"{_text(length)}\n\n{question}"
        counted = tokens_of(text) if counted else None
        if counted is None or 0 <= tokens - counted <= max(2, tokens // 500):
            return text
        length = max(0, length + int((tokens - counted) * each) - (counted > tokens) * 8)
    return text


def _text(length: int) -> str:
    """Exactly so many characters of plain sentences, no two alike and the same at every call."""
    parts: list[str] = []
    size = 0
    for n in count(1):
        if size >= length:
            break
        who, where, what = _PEOPLE[n % 11], _PLACES[(n * 3) % 7], _THINGS[(n * 5) % 8]
        part = (
            f"Entry {n}: in the morning {who} walked past {where}, found {what} there, and wrote down number {n * 37}. "
        )
        parts.append(part)
        size += len(part)
    return "".join(parts)[:length]
