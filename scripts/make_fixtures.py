#!/usr/bin/env python3
"""Makes the recordings that tests hold rules to: tests/rules/ID/{fires,quiet}.qtop, each saying where it comes from.

make_fixtures.py            all that this machine can make; the groups of fixtures_*.py one by one
QT201 comes from traces of a real vLLM on an H100. QT202 is recorded here: a real llama.cpp in a cgroup with a CPU quota
(needs root, a writable v1 or v2 cpu controller, and the demo's wheel). QT205 and QT604 are recorded in an emulated
guest (fixtures_cpu.py says how).
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tui"))

from qtop.demo.server import DemoServer  # noqa: E402
from qtop.record.convert import import_trace  # noqa: E402

OUT = ROOT / "tests/rules"
PERIOD_US = 100_000


def quota_group(cpus: float) -> tuple[Path, int]:
    """A fresh cgroup that may use ``cpus`` CPUs, on v1 or v2; its folder and version."""
    v1 = Path("/sys/fs/cgroup/cpu")
    if v1.is_dir():
        group = v1 / f"qtop-fixture-{os.getpid()}"
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(cpus * PERIOD_US)))
        return group, 1
    group = Path(f"/sys/fs/cgroup/qtop-fixture-{os.getpid()}")
    group.mkdir()
    (group / "cpu.max").write_text(f"{int(cpus * PERIOD_US)} {PERIOD_US}")
    return group, 2


def under_quota(cpus: float, out: Path, load: bool, seconds: int) -> None:
    """Record a real llama.cpp in a cgroup of so many CPUs, streaming prompts or idle."""
    group, version = quota_group(cpus)
    parent = group.parent
    try:
        with DemoServer().start(threads=1) as server:
            (group / "cgroup.procs").write_text(str(server.pid))
            qtop = [sys.executable, "-m", "qtop"]
            streams: subprocess.Popen[bytes] | None = None
            if load:
                streams = subprocess.Popen(
                    [*qtop, "probe", "--json", "--url", server.url, "--requests", "50", "--max-tokens", "200"],
                    stdout=subprocess.DEVNULL,
                )
                time.sleep(3)
            record = [*qtop, "record", "-o", str(out), "--force", "--url", server.url, "--seconds", str(seconds)]
            subprocess.run(record, check=True)
            if streams is not None:
                streams.terminate()
                streams.wait()
    finally:
        time.sleep(0.5)
        for pid in (group / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        group.rmdir()
    print(f"{out} (real, cgroup v{version}, quota of {cpus:g} CPUs)")


def main() -> None:
    """All of them."""
    for rule in ("QT201", "QT202"):
        (OUT / rule).mkdir(parents=True, exist_ok=True)
    for name, trace in (("fires", "pinned1_hogs"), ("quiet", "steady1")):
        import_trace(ROOT / f"tests/data/traces/{trace}.jsonl.xz", OUT / f"QT201/{name}.qtop", overwrite=True)
    if os.geteuid() == 0:
        under_quota(0.2, OUT / "QT202/fires.qtop", load=True, seconds=20)
        under_quota(1.5, OUT / "QT202/quiet.qtop", load=True, seconds=16)
    for group in ("gpu", "cpu", "engine", "config", "requests"):
        importlib.import_module(f"fixtures_{group}").make()


if __name__ == "__main__":
    main()
