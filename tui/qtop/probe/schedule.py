"""When requests are due. Pure: fixed before the first is sent, so that a slow server cannot slow the clock down.

A client that sends the next request when the last one ended asks a slow server less often, and so measures it in its
better moments (coordinated omission). Poisson arrivals are what many independent users look like.
"""

from __future__ import annotations

import random
from itertools import accumulate


def arrivals(requests: int, rate: float, seed: int = 0) -> tuple[float, ...]:
    """Seconds after the start at which each of ``requests`` is due: gaps are exponential with mean 1/rate, the first
    request is due at once. The same seed gives the same instants on every machine."""
    if requests < 1 or rate <= 0:
        raise ValueError("a schedule needs at least one request and a rate above 0")
    draw = random.Random(seed)
    return tuple(accumulate((draw.expovariate(rate) for _ in range(requests - 1)), initial=0.0))
