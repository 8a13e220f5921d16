#!/usr/bin/env python3
"""What one step of a control of the plan's screen takes, by terminal size: every control, both directions.

bench_plan.py [RECORDING] [--rounds N] [--sizes 80x24,160x48] [--profile]

Beside a recording that has ended, so that nothing but the steps is drawn: the plan of what ran, and plan against
measured. A step is the key, from its arrival until the frame is handed to the terminal: CPU time of the thread that
draws (other programs do not count in it), and the wall time next to it. Each size has an app of its own; the first
round is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tui"))

from textual.drivers.headless_driver import HeadlessDriver
from textual.events import Key
from textual.pilot import Pilot

from qtop.act.plan_here import Asked
from qtop.session import Session
from qtop.source.replay import ReplaySource
from qtop.startup import hurry
from qtop.ui.app import QtopApp
from qtop.ui.look import choose
from qtop.ui.plan_form import FIELDS, NAMES
from qtop.ui.screens.plan import PlanScreen

RECORDING = Path(__file__).resolve().parent.parent / "tests/data/recordings/h100-steady16.qtop"
SIZES = "80x24,120x40,160x48,200x60"
AIM_MS = 50.0
"""Of a step at most."""
PATIENCE_S = 60.0


class Sink(HeadlessDriver):
    """A terminal that takes all that is written, and says when it came."""

    last = 0.0
    """When the last of it came, by the clock of ``time.perf_counter``."""

    @property
    def is_headless(self) -> bool:
        """No: the app is to draw as it does for a person."""
        return False

    def write(self, data: str) -> None:
        """Take it."""
        Sink.last = time.perf_counter()


class Spent:
    """Milliseconds of each step, by control and direction."""

    def __init__(self) -> None:
        self.cpu: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.wall: dict[tuple[str, int], list[float]] = defaultdict(list)

    def lines(self) -> Iterator[str]:
        """A line a control and direction, the worst last."""
        yield f"  {'control':<10} {'':<2} {'CPU median':>10} {'worst':>7}   {'wall median':>11} {'worst':>7}"
        for key in sorted(self.cpu, key=lambda key: max(self.cpu[key])):
            cpu, wall = self.cpu[key], self.wall[key] or [0.0]
            arrow = "→" if key[1] > 0 else "←"
            yield (
                f"  {NAMES[key[0]]:<10} {arrow:<2} {statistics.median(cpu):>10.1f} {max(cpu):>7.1f}"
                f"   {statistics.median(wall):>11.1f} {max(wall):>7.1f}"
            )


async def settled(pilot: Pilot[object]) -> None:
    """Until the app has handed its messages to the screen, that has dealt with them, and what it did is drawn."""
    for _ in range(3):
        await pilot._wait_for_screen()


async def tap(pilot: Pilot[object], key: str) -> None:
    """A key as the terminal's driver hands it over."""
    pilot.app.post_message(Key(key, key if len(key) == 1 else None))
    await settled(pilot)


async def opened(pilot: Pilot[object], app: QtopApp, source: ReplaySource) -> None:
    """The plan's screen, with the recording's end below it and its timeline looked through."""
    deadline = time.monotonic() + PATIENCE_S
    while not (
        source.ended
        and app.playback.shown is app.session.latest
        and app.playback.shown is not None
        and app.timeline is not None
        and app.timeline.done
    ):
        if time.monotonic() > deadline:
            raise TimeoutError("the recording has not been played")
        await pilot.pause(0.05)
    await tap(pilot, "L")
    while not isinstance(app.screen, PlanScreen) or app.planning.made is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the plan's screen is not there: {app.planning.failed}")
        await pilot.pause(0.05)


async def to(pilot: Pilot[object], app: QtopApp, field: str) -> None:
    """The cursor to a control."""
    for _ in FIELDS:
        if app.planning.form is not None and app.planning.form.name == field:
            return
        await tap(pilot, "down")
    raise LookupError(field)


async def steps(
    pilot: Pilot[object], app: QtopApp, spent: Spent, rounds: int, profile: cProfile.Profile | None
) -> None:
    """Each control, there and back."""
    for field in FIELDS:
        await to(pilot, app, field)
        await tap(pilot, "l")  # each begins at what ran here
        for number in range(-1, rounds):
            # To the right and back again, one step further each time: every value is come to from both sides.
            for by in [1] * (max(0, number) % 6 + 1) + [-1] * (max(0, number) % 6 + 1):
                if profile is not None and number >= 0:
                    profile.enable()
                cpu, wall = time.thread_time(), time.perf_counter()
                await tap(pilot, "right" if by > 0 else "left")
                spent_cpu = time.thread_time() - cpu
                if profile is not None:
                    profile.disable()
                if number >= 0:
                    spent.cpu[field, by].append(spent_cpu * 1e3)
                    if Sink.last > wall:  # a step beyond the last value draws nothing
                        spent.wall[field, by].append((Sink.last - wall) * 1e3)


def measure(recording: Path, size: tuple[int, int], rounds: int, profile: cProfile.Profile | None) -> Spent:
    """An app of that size."""
    gc.unfreeze()  # what the app of the size before left
    gc.collect()
    hurry()  # as the command does
    spent = Spent()
    source = ReplaySource(recording, speed=500.0)
    session = Session(source, None)
    app = QtopApp(session, choose("truecolor", {"LANG": "C.UTF-8"}))
    app.driver_class = Sink
    app.planning.ask(Asked(), "0.25.1")  # no vLLM is looked for
    failed: list[BaseException] = []

    async def drive(pilot: Pilot[object]) -> None:
        try:
            await opened(pilot, app, source)
            await steps(pilot, app, spent, rounds, profile)
        except Exception as error:
            failed.append(error)
        finally:
            app.exit()

    try:
        asyncio.run(app.run_async(size=size, auto_pilot=drive))
    finally:
        session.close()
    if failed:
        raise failed[0]
    return spent


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("recording", type=Path, nargs="?", default=RECORDING)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--sizes", default=SIZES, help=f"of the terminal, columns × rows ({SIZES})")
    parser.add_argument("--profile", action="store_true", help="what the time goes to, by function (steps take longer)")
    args = parser.parse_args()
    os.environ.setdefault("COLORTERM", "truecolor")
    worst = 0.0
    for text in args.sizes.split(","):
        width, _, height = text.partition("x")
        profile = cProfile.Profile() if args.profile else None
        spent = measure(args.recording, (int(width), int(height)), args.rounds, profile)
        every = [one for values in spent.cpu.values() for one in values]
        print(f"{text}: {len(every)} steps, CPU median {statistics.median(every):.1f} ms, worst {max(every):.1f} ms")
        print("\n".join(spent.lines()), flush=True)
        worst = max(worst, *every)
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    print(f"worst of all {worst:.1f} ms; the aim is {AIM_MS:.0f}")


if __name__ == "__main__":
    main()
