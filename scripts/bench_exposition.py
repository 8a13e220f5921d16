#!/usr/bin/env python3
"""What one vLLM scrape costs qtop's reader, and how many times as long prometheus_client's takes if it is installed."""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tui"))

from qtop.collect.engine.exposition import parse  # noqa: E402


def milliseconds(work: Callable[[], object], number: int) -> float:
    """The best of seven runs, per call."""
    return min(timeit.repeat(work, number=number, repeat=7)) / number * 1000


def main() -> int:
    """Print both times and their ratio."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/captures/vllm-0.25.1-h100.metrics.txt"
    text = path.read_text()
    series = parse(text, ("vllm:",))
    own = milliseconds(lambda: parse(text, ("vllm:",)), 100)
    print(f"{path.name}: {len(text) / 1024:.0f} KiB, {len(series)} series kept")
    print(f"qtop               {own:7.3f} ms")
    try:
        families = import_module("prometheus_client.parser").text_string_to_metric_families
    except ImportError:
        print("prometheus_client  not installed (pip install prometheus-client), no ratio")
        return 0
    theirs = milliseconds(lambda: [x.samples for x in families(text)], 5)
    print(f"prometheus_client  {theirs:7.3f} ms, {theirs / own:.0f} times as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
