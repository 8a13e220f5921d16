"""What the benchmarks share: how qtop is started, in which environment, and one window of measuring."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
try:
    import qtop  # noqa: F401 - only to learn whether it is installed

    INSTALLED = True
except ModuleNotFoundError:
    INSTALLED = False
    sys.path.insert(0, str(ROOT / "tui"))

from bench_pty import Terminal, cpu_seconds, memory, run_quietly  # noqa: E402

FLOOR = [sys.executable, str(SCRIPTS / "bench_floor.py")]
"""An empty Textual app."""


class CannotMeasure(Exception):
    """Why there are no figures."""


@dataclass(frozen=True)
class Window:
    """What a program cost over ``seconds``, all its processes together."""

    cpu_percent: float
    """User and system time, in percent of one core."""
    bytes_s: float
    """To the terminal."""
    writes_s: float
    pss_mb: float
    """The largest of a look a second."""
    rss_mb: float
    processes: int
    seconds: float


def window(terminal: Terminal, seconds: float, settle: float, tick: Callable[[], None] = lambda: None) -> Window:
    """Measure from ``settle`` seconds after the start on; ``tick`` is called about once a second."""
    time.sleep(max(0.0, terminal.started + settle - time.monotonic()))
    start_cpu = cpu_seconds(terminal.pid)
    begin = time.monotonic()
    used = memory(terminal.pid)
    while (left := begin + seconds - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, 1.0))
        used = max(used, memory(terminal.pid), key=lambda one: one.pss)
    if not terminal.running:
        raise CannotMeasure("it ended while it was measured:\n" + "\n".join(terminal.text()))
    spent, end = cpu_seconds(terminal.pid) - start_cpu, time.monotonic()
    sent, writes = terminal.since(begin, end)
    took = end - begin
    return Window(
        cpu_percent=round(100.0 * spent / took, 2),
        bytes_s=round(sent / took, 1),
        writes_s=round(writes / took, 2),
        pss_mb=round(used.pss / 1e6, 1),
        rss_mb=round(used.rss / 1e6, 1),
        processes=used.processes,
        seconds=round(took, 1),
    )


def qtop_command() -> list[str]:
    """The installed command of this interpreter, or the module."""
    installed = Path(sys.executable).with_name("qtop")
    return [str(installed)] if INSTALLED and installed.exists() else [sys.executable, "-m", "qtop"]


def environment(home: Path) -> dict[str, str]:
    """A clean one for a terminal of 16 colours that is not reached over SSH, with settings and state in ``home``."""
    unwanted = ("QTOP_", "SSH_", "LC_", "XDG_", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "TERM_PROGRAM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    kept |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "HOME": str(home)}
    kept |= {"XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state")}
    if not INSTALLED:
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "tui"), os.environ.get("PYTHONPATH")]))
    return kept


def help_seconds(command: Sequence[str], env: Mapping[str, str], times: int = 5) -> float:
    """The median wall time of a command whose output nobody reads."""
    run_quietly(command, env)  # once, so that what it reads is in memory
    return round(statistics.median(run_quietly(command, env) for _ in range(times)), 3)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column flush left, the others flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]


def terminal_size(text: str) -> tuple[int, int]:
    """ "120x40" as (120, 40); ValueError for anything else."""
    wide, _, high = text.partition("x")
    if not (wide.isdigit() and high.isdigit() and 20 <= int(wide) <= 500 and 5 <= int(high) <= 200):
        raise ValueError(f"COLUMNSxROWS, not {text}")
    return int(wide), int(high)
