#!/usr/bin/env python3
"""Changes that need cgroup v2 alone and two NUMA nodes, made and undone by ``qtop apply`` and ``qtop undo`` in the
guest of tests/fakes/guest.py, on a real llama.cpp: scripts/guest.py scripts/guest_changes.py

Each is made and undone, then made again by a qtop that is killed with -9 once the value is written, and undone. Prints
a line for each: the file, its text before, as changed, after undo, after kill -9 and undo. Exit code 1 where one is
wrong.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from disturb_guest import BALANCING, Group, prompts, server, why_not  # noqa: E402

PATIENCE_S = 240.0


def qtop(*words: str) -> subprocess.CompletedProcess[str]:
    """A qtop process, to its end."""
    command = [sys.executable, "-m", "qtop", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def killed(file: Path, before: str, *words: str) -> bool:
    """Whether a change could be killed while its value stood."""
    command = [sys.executable, "-m", "qtop", *words]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while file.read_text().strip() == before and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def row(file: Path, change: str, wanted: str, url: str) -> bool:
    """One change, both ways; whether all was as it should be."""
    before = file.read_text().strip()
    where = ("--url", url, "--yes")
    made = qtop("apply", change, *where, "--no-measure")
    changed = file.read_text().strip()
    undone = qtop("undo")
    after = file.read_text().strip()
    dead = killed(file, before, "apply", change, *where)
    left = file.read_text().strip()
    qtop("undo")
    last = file.read_text().strip()
    good = (changed, after, left, last, dead) == (wanted, before, wanted, before, True)
    told = f"{before!r} → {changed!r}, undo {after!r}; killed at {left!r}, undo {last!r}"
    print(f"{'ok ' if good else 'BAD'} {change}: {file}: {told}", flush=True)
    for done in (made, undone):
        if done.returncode or not good:
            print(f"    {done.returncode} {(done.stderr or done.stdout).strip()[-400:]}", flush=True)
    return good


def main() -> int:
    """See above."""
    if (missing := why_not()) is not None:
        sys.exit(f"guest_changes: {missing}")
    os.environ["XDG_STATE_HOME"] = "/run/state"
    with ExitStack() as stack:
        group = Group()
        _, port = server(stack, group, "0")
        stack.enter_context(prompts(port))
        url = f"http://127.0.0.1:{port}"
        BALANCING.write_text("1")
        rows = [
            row(group.folder / "cpuset.cpus", "cpuset=0-3", "0-3", url),
            row(group.folder / "cpu.weight", "cpu-weight=1000", "1000", url),
            row(BALANCING, "numa-balancing=0", "0", url),
        ]
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
