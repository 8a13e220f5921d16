"""The reasons of absent readings, wherever in a sample they stand: an error may name a file, a host, a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from qtop.sample import Absent, CpuTimes, Setting, TaskSample, ThreadSample

_T = TypeVar("_T")
_FLAT = frozenset({int, float, str, bool, type(None), ThreadSample, TaskSample, CpuTimes, Setting})
"""What holds no reason; there are hundreds of them in a sample."""


def with_reasons(value: _T, text: Callable[[str], str]) -> _T:
    """The same, every reason passed through ``text``; the very object where that changes none."""
    new: object = value
    if isinstance(value, Absent):
        told = text(value.detail) if value.detail else ""
        new = value if told == value.detail else msgspec.structs.replace(value, detail=told)
    elif isinstance(value, msgspec.Struct):
        changed = {}
        for name in value.__struct_fields__:
            old = getattr(value, name)
            if type(old) not in _FLAT and (one := with_reasons(old, text)) is not old:
                changed[name] = one
        new = msgspec.structs.replace(value, **changed) if changed else value
    elif isinstance(value, tuple) and value and type(value[0]) not in _FLAT:
        items = tuple(with_reasons(item, text) for item in value)
        new = value if all(map(_same, items, value)) else items
    elif isinstance(value, dict) and value and type(next(iter(value.values()))) not in _FLAT:
        pairs = {key: with_reasons(item, text) for key, item in value.items()}
        new = value if all(map(_same, pairs.values(), value.values())) else pairs
    return new  # type: ignore[return-value]


def _same(one: object, other: object) -> bool:
    return one is other
