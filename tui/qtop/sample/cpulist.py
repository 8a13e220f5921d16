"""Kernel CPU lists ("0-3,8") to sets and back."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=1024)  # the same few masks, asked for every tick
def parse(text: str) -> frozenset[int]:
    """The CPUs of a kernel list; ValueError on anything else. The empty list is the empty set."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if not part:
            continue
        low, _, high = part.partition("-")
        first, last = int(low), int(high or low)
        if first < 0 or last < first:
            raise ValueError(f"not a CPU list: {text!r}")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def parse_or_empty(text: str) -> frozenset[int]:
    """The CPUs of a kernel list, none where the text is no such list ("" for a mask that was not read)."""
    try:
        return parse(text)
    except ValueError:
        return frozenset()


def show(cpus: Iterable[int]) -> str:
    """The shortest kernel list of these CPUs."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
