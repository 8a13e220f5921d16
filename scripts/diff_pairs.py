#!/usr/bin/env python3
"""How often `qtop diff` sees a change where there is none, and misses one that is there: on pairs cut from recordings.

diff_pairs.py [--slower PERCENT] [--seconds N] [--seeds N] [--all]

Without a change: consecutive parts of one state of a recording (halves, and all pairs of thirds), parts of different
recordings of one state, and the same state looped twice with other seeds (scripts/loop_recording.py, ±3 % a loop) and
a half of such a loop against its other. With a change: the same pairs, the second server slower (its counters of
tokens and requests grow by so much less a second, its times by as much as before, so that TTFT and gaps are longer by
PERCENT), and pairs of different states whose TTFT, gaps or tokens a second lie apart by as much and more. "Cannot tell"
(another load, too few windows, noise that would hide a change of a quarter) is counted on its own.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise, permutations, product
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))

from loop_recording import Carrier, is_counter, looped, read

from qtop.act.recordings import KINDS, Compared, Windows, compare_recordings, window_seconds
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Sample

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"
STATES: dict[str, Sequence[tuple[str, float, float]]] = {
    "H100, 1 stream": [("traces/steady1.jsonl.xz", 0, 99)],
    "H100, long prompts": [("traces/longctx.jsonl.xz", 0, 99)],
    "H100, pinned, hogs": [("traces/pinned1_hogs.jsonl.xz", 0, 99)],
    "H100, power by another": [("traces/power_side.jsonl.xz", 0, 99)],
    "H100, 16 streams": [("recordings/h100-steady16.qtop", 0, 99)],
    "H100, affinity narrow": [("recordings/h100-affinity.qtop", 1, 27)],
    "H100, affinity wide": [("recordings/h100-affinity.qtop", 29, 45)],
    "H200, 1 stream": [("recordings/healthy/h200-1-stream.qtop", 0, 99)],
    "H200, 8 streams": [("recordings/healthy/h200-8-streams.qtop", 0, 99)],
    "H200, 48 streams": [("recordings/healthy/h200-48-streams.qtop", 0, 99)],
    "H200, at random": [("recordings/healthy/h200-at-random.qtop", 0, 99)],
}
"""What was going on, and which seconds of which recordings show it."""
SHORTEST_S = 9.0
"""Of a part: three windows of three seconds."""
Frames = list[tuple[Sample, Frame]]


class Slower(Carrier):
    """A server that needs so many times as long, for as many requests at once."""

    def __init__(self, times: float) -> None:
        super().__init__(0, 0.0)
        self._times = times
        self.begin(0.0)

    def _keyed(self, key: str, value: Any, path: tuple[Any, ...], name: str) -> Any:
        scaled = name == "series" and is_counter(key) and "seconds" not in key.partition("{")[0].removesuffix("_count")
        scaled = scaled or (name == "series" and key.partition("{")[0].endswith(("_seconds_count", "_seconds_bucket")))
        self._factor = 1 / self._times if scaled else 1.0
        try:
            return super()._keyed(key, value, path, name)
        finally:
            self._factor = 1.0


@dataclass
class Pair:
    """Two stretches, what they are, and what a comparison says of them."""

    what: str
    kind: str
    before: list[Sample]
    after: list[Sample]
    said: Compared | None = field(default=None)


def frames(samples: Sequence[Sample]) -> Frames:
    """As the verb sees them."""
    deriver = Deriver()
    return [(sample, deriver.push(sample)) for sample in samples]


def compared(before: Sequence[Sample], after: Sequence[Sample]) -> Compared:
    """The verb's own comparison."""
    sides = [frames(before), frames(after)]
    durations = [side[-1][0].t - side[0][0].t for side in sides]
    seconds = window_seconds(durations, [median(b[0].t - a[0].t for a, b in pairwise(side)) for side in sides])
    windows = []
    for side in sides:
        one = Windows(seconds)
        for sample, frame in side:
            one.see(sample, frame)
        windows.append(one)
    return compare_recordings(*windows)


def cut(samples: Sequence[Sample], parts: int) -> list[list[Sample]]:
    """Consecutive parts of as many seconds; none where they would be too short."""
    begin, length = samples[0].t, (samples[-1].t - samples[0].t) / parts
    if length < SHORTEST_S:
        return []
    edges = [begin + length * at for at in range(parts)] + [samples[-1].t + 1]
    return [[one for one in samples if edges[at] <= one.t < edges[at + 1]] for at in range(parts)]


def alike(states: dict[str, list[list[Sample]]], seconds: float, seeds: int) -> Iterator[Pair]:
    """Pairs without a change."""
    for name, recordings in states.items():
        for one in recordings:
            for number, what in ((2, "halves"), (3, "thirds")):
                for before, after in combinations(cut(one, number), 2):
                    yield Pair(name, what, before, after)
        for before, after in permutations(recordings, 2):
            yield Pair(name, "recordings", before, after)
        loops = [list(looped(recordings, seconds, 100 * seed, 0.03)) for seed in range(seeds)]
        for before, after in zip(loops[::2], loops[1::2], strict=False):
            yield Pair(name, "loops", before, after)
        for loop in loops[:1]:
            before, after = cut(loop, 2)
            yield Pair(name, "halves of a loop", before, after)


def changed(states: dict[str, list[list[Sample]]], without: Sequence[Pair], percent: float) -> Iterator[Pair]:
    """Pairs with one."""
    for pair in without:
        slower = Slower(1 + percent / 100)
        yield Pair(pair.what, f"{pair.kind}, slower", pair.before, [slower.carry(one) for one in pair.after])
    for (old, befores), (new, afters) in permutations(states.items(), 2):
        for before, after in product(befores, afters):
            yield Pair(f"{old} → {new}", "states", before, after)


def apart(said: Compared, percent: float) -> bool:
    """Whether a figure that decides differs by so much."""
    kinds = {kind.name for kind in KINDS if kind.decides}
    return any(one.name in kinds and abs(one.change_pct or 0.0) >= percent for one in said.differences)


def told(said: Compared) -> str:
    """ "difference", "none" or "cannot tell"."""
    return {"within noise": "none", "cannot tell": "cannot tell"}.get(said.verdict, "difference")


def line(pair: Pair) -> str:
    """One pair, with what each figure that decides did."""
    assert pair.said is not None
    rows = []
    for one, kind in zip(pair.said.differences, KINDS, strict=True):
        if kind.decides and one.before is not None and one.after is not None:
            band = "?" if one.band is None else f"±{one.band:.3g}"
            rows.append(f"{one.name} {one.before:.4g} → {one.after:.4g} {band} {one.windows}")
    return f"  {pair.said.verdict}: {pair.what}, {pair.kind}: {'; '.join(rows)} {pair.said.why}"


def table(title: str, pairs: Sequence[Pair], wrong: str, show: bool) -> None:
    """Counts by kind of pair, then those that say what is wrong."""
    print(f"{title}\n  {'':24} {'pairs':>6} {'difference':>11} {'none':>6} {'cannot tell':>12}")
    counts: dict[str, Counter[str]] = {}
    for pair in pairs:
        assert pair.said is not None
        for kind in (pair.kind, "all"):
            counts.setdefault(kind, Counter())[told(pair.said)] += 1
    for kind in (*(kind for kind in counts if kind != "all"), "all"):
        row = counts[kind]
        print(f"  {kind:24} {row.total():6} {row['difference']:11} {row['none']:6} {row['cannot tell']:12}")
    for pair in pairs:
        assert pair.said is not None
        if show or told(pair.said) == wrong:
            print(line(pair))


def main() -> None:
    """Compare, count and print."""
    parser = argparse.ArgumentParser(description="False alarms and misses of qtop diff.")
    parser.add_argument("--slower", type=float, default=25.0, metavar="PERCENT")
    parser.add_argument("--seconds", type=float, default=180.0, help="of a loop")
    parser.add_argument("--seeds", type=int, default=4, help="of loops, two a pair")
    parser.add_argument("--all", action="store_true", help="print every pair")
    options = parser.parse_args()
    states: dict[str, list[list[Sample]]] = {}
    for name, spans in STATES.items():
        for place, begin, end in spans:
            samples = read(DATA / place)
            start = samples[0].t
            states.setdefault(name, []).append([one for one in samples if begin <= one.t - start < end])
    without = list(alike(states, options.seconds, options.seeds))
    with_one = list(changed(states, without, options.slower))
    for pair in (*without, *with_one):
        pair.said = compared(pair.before, pair.after)
    table("without a change", without, "difference", options.all)
    # A second half that was faster by itself makes up for some of what was taken from it.
    true = [one for one in with_one if one.said and apart(one.said, options.slower - 0.5)]
    table(f"with a change of {options.slower:.0f} % or more", true, "none", options.all)


if __name__ == "__main__":
    main()
