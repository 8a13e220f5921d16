"""The tables that scripts/bench_probe prints, and whether qtop reached what it aims at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench_probe_run import Run
from bench_probe_schedule import Mode
from bench_probe_truth import Errors
from bench_run import columns

AIMS: Mapping[int, float] = {16: 1.0, 64: 2.0}
"""Streams, and the largest p99 error in ms of TTFT and of ITL that qtop may have while a dashboard draws."""
NOT_PEERS = ("qtop", "floor")


@dataclass(frozen=True)
class Aim:
    """One figure at one load; None for what was not measured."""

    figure: str
    streams: int
    mode: Mode
    limit: float
    reached: float | None
    best_peer: float | None
    """The smallest p99 error of any other tool."""
    peer: str

    @property
    def met(self) -> bool:
        """Within the limit, and smaller than every peer's."""
        return (
            self.reached is not None
            and self.reached <= self.limit
            and (self.best_peer is None or self.reached < self.best_peer)
        )

    def cells(self) -> tuple[str, ...]:
        """A row for people."""
        return (
            f"{self.figure}, {self.streams} streams, {self.mode}",
            f"{self.limit:g} ms",
            "not measured" if self.reached is None else f"{self.reached:.3f} ms",
            "" if self.best_peer is None else f"{self.best_peer:.3f} ms ({self.peer})",
            "met" if self.met else "MISSED",
        )


def aims(runs: Sequence[Run], streams: Sequence[int], modes: Sequence[Mode]) -> list[Aim]:
    """Every aim for the loads that were asked for; qtop's figure is the one beside its dashboard where there is one."""
    found = []
    for many in (one for one in streams if one in AIMS):
        for mode in modes:
            here = [run for run in runs if (run.streams, run.mode) == (many, mode)]
            own = sorted((run for run in here if run.tool == "qtop"), key=lambda run: run.drawing)[-1:]
            for figure in ("ttft", "itl"):
                reached = [errors.p99 for run in own if (errors := _errors(run, figure))]
                peers = [
                    (errors.p99, run.tool)
                    for run in here
                    if run.tool not in NOT_PEERS and (errors := _errors(run, figure))
                ]
                best, peer = min(peers, default=(None, ""))
                found.append(Aim(figure.upper(), many, mode, AIMS[many], reached[0] if reached else None, best, peer))
    return found


def _errors(run: Run, figure: str) -> Errors | None:
    return run.errors.ttft if figure == "ttft" else run.errors.itl


def table(runs: Sequence[Run]) -> list[str]:
    """For people: one block for each load, and how true the truth was in it."""
    heads = ("stamps", "streams", "TTFT p50", "p99", "max", "ITL p50", "p99", "max", "of", "matched", "CPU %", "wall")
    lines: list[str] = []
    rows: list[tuple[str, ...]] = [("error, ms", *heads)]
    group: tuple[int, Mode] | None = None
    for run in runs:
        # A tool that can send only one stream stands in the block of the load that was asked for.
        if group is None or run.mode != group[1] or (run.streams != 1 and run.streams != group[0]):
            group = (run.streams, run.mode)
            rows.append((f"{run.mode}", *[""] * len(heads)))
        rows.append(
            (
                f"  {run.tool} {run.version}{' + dashboard' if run.drawing else ''}",
                run.stamps,
                str(run.streams),
                *_three(run.errors.ttft),
                *_three(run.errors.itl),
                run.errors.itl_of,
                f"{run.errors.matched}" + (f" (-{run.errors.unmatched})" if run.errors.unmatched else ""),
                f"{run.cpu_percent:.0f}",
                f"{run.wall_s:.0f} s",
            )
        )
    lines += columns(rows)
    servers = [run.server for run in runs]
    if servers:
        sends, late, instants = (
            " ".join(f"{max(values):.0f}" for values in zip(*three, strict=True))
            for three in zip(*((one.send_us, one.late_us, one.instant_us) for one in servers), strict=True)
        )
        lines += [
            "",
            "the truth (p50, p99 and max of the worst run, µs)",
            f"  a send() takes {sends}: the true instant of an event lies in it",
            f"  behind its timetable {late}: no error, as what is true is when it was sent",
            f"  from the first stream's send to the last one's in an instant that they share {instants}",
            f"  stamps of requests: {_all(one.stamps for one in servers)}; priority: "
            f"{_all(one.priority for one in servers)}; "
            f"sends that a client held up: {sum(one.blocked for one in servers)}",
        ]
    return lines


def _all(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _three(errors: Errors | None) -> tuple[str, str, str]:
    if errors is None:
        return ("", "", "")
    return (f"{errors.p50:.3f}", f"{errors.p99:.3f}", f"{errors.largest:.3f}" if errors.count else "")
