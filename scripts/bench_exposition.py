#!/usr/bin/env python3
"""What one vLLM scrape costs qtop's reader and what deriving a tick from it costs, for one engine and for four; and how
many times as long prometheus_client's reader takes if it is installed."""

from __future__ import annotations

import re
import sys
import timeit
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tui"))

from qtop.collect.engine import exposition  # noqa: E402
from qtop.collect.engine.vllm import Vllm  # noqa: E402
from qtop.model.derive import Deriver  # noqa: E402
from qtop.sample import EngineSample, Sample, ServerInfo  # noqa: E402

PREFIXES = Vllm.prefixes
TICKS = 80
WARM = 40
"""Ticks before the measured ones: the window of 30 s is full."""
_COUNTER = re.compile(r"(vllm:\w+_(?:total|count|sum|bucket)\{.*\}) (\S+)")


def milliseconds(work: Callable[[], object], number: int) -> float:
    """The best of seven runs, per call."""
    return min(timeit.repeat(work, number=number, repeat=7)) / number * 1000


def engines(text: str, count: int) -> str:
    """The exposition of a server with so many data-parallel engines."""
    lines = []
    for line in text.split("\n"):
        ranks = range(count) if 'engine="0"' in line else range(1)
        lines += [line.replace('engine="0"', f'engine="{rank}"') for rank in ranks]
    return "\n".join(lines)


def grown(text: str, factor: float) -> str:
    """Every counter that is not 0 moved: the worst case, as a busy server's are."""
    return "\n".join(
        _COUNTER.sub(lambda found: f"{found[1]} {float(found[2]) * factor!r}", line) for line in text.split("\n")
    )


def ticks(text: str) -> tuple[float, float]:
    """Median ms of reading and of deriving, a tick a second."""
    deriver, read, derived = Deriver(), [], []
    server = ServerInfo(engine="vllm")
    for second in range(TICKS):
        scrape = grown(text, 1 + second / 50)
        begun = perf_counter()
        series = exposition.parse(scrape, PREFIXES)
        parsed = perf_counter()
        deriver.push(Sample(t=1e9 + second, server=server, engine=EngineSample(float(second), 1.0, series)))
        if second >= WARM:
            read.append(parsed - begun)
            derived.append(perf_counter() - parsed)
    return median(read) * 1000, median(derived) * 1000


def main() -> int:
    """Print the times and their ratios."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/captures/vllm-0.25.1-h100.metrics.txt"
    text = path.read_text()
    for count in (1, 4):
        several = engines(text, count)
        read, derived = ticks(several)
        kept = len(exposition.parse(several, PREFIXES))
        print(
            f"{path.name}, {count} engine(s): {len(several) / 1024:.0f} KiB, {kept} series kept; "
            f"read {read:.3f} ms + derive {derived:.3f} ms = {read + derived:.3f} ms a tick"
        )

    def anew() -> None:
        exposition._last = None
        exposition.parse(text, PREFIXES)

    own = milliseconds(anew, 100)
    print(f"qtop, nothing known of the last scrape  {own:7.3f} ms")
    try:
        families = import_module("prometheus_client.parser").text_string_to_metric_families
    except ImportError:
        print("prometheus_client  not installed (pip install prometheus-client), no ratio")
        return 0
    theirs = milliseconds(lambda: [x.samples for x in families(text)], 5)
    print(f"prometheus_client                       {theirs:7.3f} ms, {theirs / own:.0f} times as long")
    return 0


if __name__ == "__main__":
    sys.exit(main())
