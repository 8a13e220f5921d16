"""The built-in test prompts, and the tag that keeps a prefix cache from answering them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

ENGLISH = "Explain to a curious neighbour, in a few plain sentences, why bread dough rises before it is baked."
"""99 characters."""

CHINESE = "用日常的话向没学过物理的人讲讲什么是量子纠缠，再打个比方。"
"""29 characters."""

CODE = (
    "Write a Python function that takes a list of (start, end) intervals and merges those that overlap. "
    "Then explain its running time in one sentence."
)

REASONING = (
    "Three boxes hold apples, oranges, and a mix of both, and every label is wrong. You may take one fruit from one "
    "box. Which box do you choose, and how do you then know what is in all three? Think step by step."
)

READING = "Whom do the entries above name last, and what was found there? Then retell the entries in your own words."


@dataclass(frozen=True)
class Preset:
    """A built-in prompt."""

    name: str
    what: str
    """In a few words."""
    text: str
    fill: int = 0
    """Tokens it is lengthened to."""
    fits: bool = False
    """It is lengthened to as much as the server takes."""


PRESETS = (
    Preset("en", "a short English question", ENGLISH),
    Preset("zh", "a short Chinese question", CHINESE),
    Preset("code", "a small programming task", CODE),
    Preset("reasoning", "a puzzle to think about", REASONING),
    Preset("1k", "1 024 tokens to read", READING, 1024),
    Preset("8k", "8 192 tokens to read", READING, 8192),
    Preset("32k", "32 768 tokens to read", READING, 32768),
    Preset("max", "as much to read as fits", READING, fits=True),
)
BY_NAME = {preset.name: preset for preset in PRESETS}
PROMPTS = {preset.name: preset.text for preset in PRESETS if not preset.fill and not preset.fits}
"""Those that need no lengthening, by name."""


def tagged(prompt: str) -> str:
    """The prompt behind a line of random hex.

    Prefix caches match from the first token on, so a tag at the front makes every request a miss; without it the second
    request's TTFT shows the cache and not the prefill.
    """
    return f"[{secrets.token_hex(8)}]\n{prompt}"
