"""The keys of raw metric series: an exposition name with its labels, as the server wrote it."""

from __future__ import annotations

import re
from functools import lru_cache

_PAIR = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


@lru_cache(maxsize=8192)
def split_series(key: str) -> tuple[str, dict[str, str]]:
    """A series key as name and labels, escapes undone (Prometheus text format 0.0.4). The dict is shared between
    callers: it must not be changed."""
    name, _, labels = key.partition("{")
    return name, {k: _ESCAPE.sub(_unescaped, v) for k, v in _PAIR.findall(labels)}


def count(text: str) -> float | None:
    """A label that is a whole number, None for anything else: str.isdigit takes "²" for one, and a number of a thousand
    digits for one that can be counted with."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", '"': '"', "\\": "\\"}.get(match[1], match[0])
