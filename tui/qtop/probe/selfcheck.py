"""How far the prober itself was in the way of what it measured.

Four signs: how late requests left, how long arrived bytes lay unread (or, without the kernel's stamps, how late a
sleeper in the same process woke: the loop lag), how long its threads waited for a CPU, and how much CPU it took. A
delay that is in a figure and exceeds 1 % of it is a mark against that figure.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from qtop.probe.timing import OWN_SHARE, ProbeResult, quantile

BEAT_S = 0.02
"""Between two looks at the clock: more often would cost what it measures."""


class SelfCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one test. Milliseconds; shares are of one CPU's time. None where it could not be had."""

    stamps: Literal["kernel", "user", "mixed"]
    seconds: float
    """How long the test took."""
    cpu_share: float
    """CPU time of the prober's process."""
    wait_share: float | None = None
    """Time that its threads together were ready and waited for a CPU."""
    loop_lag_p50_ms: float | None = None
    """How late a sleeper in the prober's process woke: what the system's scheduler and the interpreter add."""
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float | None = None
    send_lag_p50_ms: float | None = None
    """From being due to leaving, without opening the connection or waiting for a place."""
    send_lag_max_ms: float | None = None
    read_lag_p50_ms: float | None = None
    """Of the requests' longest times between arrival and reading; not in the figures where the kernel stamps."""
    read_lag_max_ms: float | None = None
    merged: int = 0
    """Gaps that are in no figure because several tokens were read at once, late."""
    marks: tuple[str, ...] = ()
    """What exceeds 1 % of what was measured, one clause each; () is the good case."""


class Heart:
    """Beats in the prober's process and notes how late each beat is."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._over = threading.Event()
        self._cpu = time.process_time()
        self._wait = _waited_ns()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="probe-heart", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            time.sleep(BEAT_S)
            self._late.append(max(0.0, time.monotonic() - before - BEAT_S) * 1000)

    def stop(self, results: Sequence[ProbeResult], send_lag_ms: Sequence[float], scheduled: bool) -> SelfCheck:
        """What was seen since the beginning; ``scheduled``: requests had an instant at which they were due."""
        self._over.set()
        seconds = time.monotonic() - self._began
        cpu = time.process_time() - self._cpu
        waited = _waited_ns()
        wait = None if waited is None or self._wait is None else (waited - self._wait) / 1e9
        return judge(results, send_lag_ms, tuple(self._late), seconds, cpu, wait, scheduled)


def judge(
    results: Sequence[ProbeResult],
    send_lag_ms: Sequence[float],
    late_ms: Sequence[float],
    seconds: float,
    cpu_s: float,
    wait_s: float | None,
    scheduled: bool = False,
) -> SelfCheck:
    """The check, from what was noted. Pure."""
    late, lags = sorted(late_ms), sorted(send_lag_ms)
    reads = sorted(result.read_lag_ms for result in results if result.read_lag_ms is not None)
    kinds = {result.stamps for result in results if result.events}
    stamps: Literal["kernel", "user", "mixed"] = "user" if not kinds else "mixed" if len(kinds) > 1 else kinds.pop()
    return SelfCheck(
        stamps=stamps,
        seconds=round(seconds, 3),
        cpu_share=round(cpu_s / seconds, 4) if seconds > 0 else 0.0,
        wait_share=None if wait_s is None or seconds <= 0 else round(max(0.0, wait_s) / seconds, 4),
        loop_lag_p50_ms=_at(late, 0.5),
        loop_lag_p99_ms=_at(late, 0.99),
        loop_lag_max_ms=_at(late, 1.0),
        send_lag_p50_ms=_at(lags, 0.5),
        send_lag_max_ms=_at(lags, 1.0),
        read_lag_p50_ms=_at(reads, 0.5),
        read_lag_max_ms=_at(reads, 1.0),
        merged=sum(result.merged for result in results),
        marks=tuple(_marks(results, lags, late, stamps, scheduled)),
    )


def _marks(
    results: Sequence[ProbeResult], lags: Sequence[float], late: Sequence[float], stamps: str, scheduled: bool
) -> list[str]:
    """What is in a figure and exceeds 1 % of it."""
    ttft = sorted(result.ttft_ms for result in results if result.ttft_ms is not None)
    e2e = sorted(result.e2e_ms for result in results if result.e2e_ms is not None)
    gaps = sorted(result.itl_ms.p50 for result in results if result.itl_ms is not None)
    marks = []
    # A late request adds to what a user waits from the instant due; without one, it only leaves its stream idle.
    whole, name = (ttft, "TTFT") if scheduled else (e2e, "E2E")
    if whole and lags and quantile(lags, 0.5) > OWN_SHARE * quantile(whole, 0.5):
        median, of = quantile(lags, 0.5), quantile(whole, 0.5)
        marks.append(f"requests left {median:.1f} ms late on the median, more than 1 % of {name} ({of:.0f} ms)")
    if stamps != "kernel" and late:
        lag = quantile(late, 0.5)
        for name, values in (("TTFT", ttft), ("ITL", gaps)):
            if values and lag > OWN_SHARE * quantile(values, 0.5):
                marks.append(
                    f"the prober's own loop lags {lag:.2f} ms, more than 1 % of {name}, and its stamps hold that"
                )
                break
    merged, seen = sum(result.merged for result in results), sum(len(result.gaps_ms) for result in results)
    if merged > OWN_SHARE * (merged + seen):
        marks.append(
            f"{merged} of {merged + seen} gaps were not seen: reading fell behind, fewer streams would be truer"
        )
    return marks


def _at(ordered: Sequence[float], q: float) -> float | None:
    return round(quantile(ordered, q), 3) if ordered else None


def _waited_ns() -> int | None:
    """Nanoseconds that this process's threads have waited for a CPU, of those alive (/proc/self/task/*/schedstat)."""
    total = 0
    try:
        for tid in os.listdir("/proc/self/task"):
            try:
                total += int(Path(f"/proc/self/task/{tid}/schedstat").read_text().split()[1])
            except (OSError, IndexError, ValueError):
                continue
    except OSError:
        return None
    return total
