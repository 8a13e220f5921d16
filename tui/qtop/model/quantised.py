"""Whether weights are quantised, and how, by what is said of them: a model's name, a server's setting. Pure."""

from __future__ import annotations

import re

from qtop.model.decoder import Quantisation
from qtop.model.model_config import BITS

_MARKS = tuple(
    (re.compile(pattern), method, bits)
    for pattern, method, bits in (
        (r"w4a", "awq", "int4"),
        (r"fp8|float8", "fp8", "fp8"),
        (r"gptq.*(int8|8bit)", "gptq", "int8"),
        (r"bnb.*8bit", "bitsandbytes", "int8"),
        (r"int8|w8a|8bit", "compressed-tensors", "int8"),
        (r"mxfp4", "mxfp4", "mxfp4"),
        (r"fp4", "nvfp4", "nvfp4"),
        (r"awq", "awq", "int4"),
        (r"gptq", "gptq", "int4"),
        (r"bnb|nf4", "bitsandbytes", "int4"),
        (r"int4|4bit", "awq", "int4"),
        (r"gguf|(?<![a-z0-9])i?q[2-8](?![a-z0-9])", "gguf", ""),
    )
)
"""What a name may hold (lower case), the most telling first ("w8a8-fp8" is fp8); method and name
of ``BITS``, "" where the mark alone does not say how many."""
_PLAIN = frozenset({"", "none", "auto", "off"})


def marked(name: str) -> bool:
    """Whether a name says that its checkpoint holds quantised weights, whatever the command line says."""
    return _mark(name) is not None


def by_name(name: str) -> Quantisation | None:
    """How a name says that its weights are held; None where it does not, or not with how many bits."""
    found = _mark(name)
    return None if found is None or not found[1] else Quantisation(found[0], BITS[found[1]])


def by_setting(value: str) -> bool:
    """Whether a server's ``quantization`` says that it holds quantised weights; "" where it does not tell."""
    return value.lower() not in _PLAIN


def _mark(name: str) -> tuple[str, str] | None:
    # "_" is part of a word for a regular expression, but not in a name.
    lowered = name.lower().replace("_", "-")
    return next(((method, bits) for pattern, method, bits in _MARKS if pattern.search(lowered)), None)
