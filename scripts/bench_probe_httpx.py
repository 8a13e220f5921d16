#!/usr/bin/env python3
"""The plain client that many write first: httpx and asyncio, a task for each stream, a stamp for each event read.

bench_probe_httpx.py URL REQUESTS STREAMS TOKENS prints one JSON document; bench_probe measures it beside the load
tools.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import pairwise
from typing import Any

import httpx


async def ask(client: httpx.AsyncClient, url: str, tokens: int, text: str) -> dict[str, Any]:
    """One request; seconds of the monotonic clock become ms."""
    body = {
        "model": "known/instants",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    stamps: list[float] = []
    number: int | None = None
    sent, begin = time.time(), time.monotonic()
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            now = time.monotonic()
            chunk = json.loads(line[6:])
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                stamps.append(now)
            if usage := chunk.get("usage"):
                number = usage["prompt_tokens"]
    return {
        "number": number,
        "sent": sent,
        "ttft_ms": (stamps[0] - begin) * 1e3,
        "gaps_ms": [(b - a) * 1e3 for a, b in pairwise(stamps)],
    }


async def load(url: str, requests: int, streams: int, tokens: int) -> list[dict[str, Any]]:
    """``requests`` of them, ``streams`` at a time."""
    results: list[dict[str, Any]] = []
    left = iter(range(requests))

    async def stream() -> None:
        for number in left:
            results.append(await ask(client, url, tokens, f"{number} say something"))

    limits = httpx.Limits(max_connections=streams, max_keepalive_connections=streams)
    async with httpx.AsyncClient(timeout=60.0, limits=limits, trust_env=False) as client:
        await asyncio.gather(*(stream() for _ in range(streams)))
    return results


if __name__ == "__main__":
    print(json.dumps({"requests": asyncio.run(load(sys.argv[1], *map(int, sys.argv[2:5])))}))
