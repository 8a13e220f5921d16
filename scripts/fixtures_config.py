#!/usr/bin/env python3
"""Makes the recordings of the rules about configuration, tests/rules/QT401 to QT410.

fixtures_config.py [real] [stub] [QT4xx …]     all that this machine can make

real: a vLLM that refuses a flag and ends (QT401, QT409), and one that starts and then idles: the CPU build that
scripts/test-vllm installs, with a tiny model of random weights. stub: a stand-in with vLLM's arguments, routes and
processes beside a fake NVML library, read by the real collectors.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tui")]

from fixture_record import record  # noqa: E402

from qtop.demo.server import free_port  # noqa: E402

OUT = ROOT / "tests/rules"
MODEL = "Qwen/Qwen3-4B-Instruct-2507"
VENV = Path(os.environ.get("QTOP_VLLM_VENV", Path.home() / ".cache/qtop/vllm-0.32.0"))
# fmt: off
TINY = (
    "--served-model-name", "tiny-qwen3", "--load-format", "dummy", "--dtype", "float32", "--enforce-eager",
    "--max-model-len", "2048", "--max-num-seqs", "16", "--max-num-batched-tokens", "1024",
    "--generation-config", "vllm",
)
# fmt: on
START_S = 280.0


@contextlib.contextmanager
def real_vllm(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real vLLM with these arguments beside the usual ones, in development mode, on 127.0.0.1; its address."""
    with tempfile.TemporaryDirectory(prefix="qtop-vllm-") as name:
        folder = Path(name)
        model, port = folder / "model", free_port()
        model.mkdir()
        subprocess.run([VENV / "bin/python", ROOT / "tests/fakes/tiny_qwen.py", model], check=True)
        env = {
            **{"PATH": os.environ["PATH"], "HOME": name, "TMPDIR": name, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
            **{"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_HOST_IP": "127.0.0.1"},
            **{"VLLM_SERVER_DEV_MODE": "1"},
        }
        command = ["nice", VENV / "bin/vllm", "serve", model, *TINY, *words]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
            env=env,
            start_new_session=True,
        )
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)


def refused(out: Path, *words: str) -> None:
    """Record a vLLM from its start to its end at these words."""
    with real_vllm(*words) as (process, url):
        time.sleep(1.0)
        # Past its end, if that comes soon; so long as it takes on two cores else.
        record(out, 45, "real", f"vLLM 0.32.0 (CPU build) started with {' '.join(words)}", "--url", url)
        print("ended with", process.poll())


def idle(outs: Sequence[Path]) -> None:
    """Record a vLLM that has started, and idles."""
    with real_vllm() as (process, url):
        deadline = time.monotonic() + START_S
        while not _answers(url) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(1.0)
        record(outs[0], 20, "real", "vLLM 0.32.0 (CPU build), idle, development mode on loopback", "--url", url)
    for out in outs[1:]:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(outs[0].read_bytes())


def _answers(url: str) -> bool:
    done = subprocess.run(["curl", "-sf", "-o", "/dev/null", "-m", "2", f"{url}/health"], check=False)
    return done.returncode == 0


def real(only: Sequence[str] = ()) -> None:
    """Those of a real vLLM."""
    if not only or "QT401" in only:
        refused(OUT / "QT401/fires.qtop", "--load-in-4bit")
    if not only or "QT409" in only:
        refused(OUT / "QT409/fires.qtop", "--quantization", "bitsandbytes")
    if not only or "quiet" in only:
        idle([OUT / f"{rule}/quiet.qtop" for rule in ("QT401", "QT402", "QT409", "QT410")])


def stub(only: Sequence[str] = ()) -> None:
    """Those of stand-ins."""


def make() -> None:
    """All of them."""
    if (VENV / "bin/vllm").exists():
        real()
    stub()


def main() -> None:
    """Those that the arguments name."""
    words = sys.argv[1:]
    only = [word for word in words if re.fullmatch(r"QT4\d\d|quiet", word)]
    if not words:
        make()
    if "real" in words:
        real(only)
    if "stub" in words:
        stub(only)


if __name__ == "__main__":
    main()
