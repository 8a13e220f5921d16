#!/usr/bin/env python3
"""Makes the recordings of the rules about configuration, tests/rules/QT401 to QT410.

fixtures_config.py [real] [stub] [QT4xx …]     all that this machine can make

real: a vLLM that refuses a flag and ends (QT401, QT409), and one that starts and then idles: the CPU build that
scripts/test-vllm installs, with a tiny model of random weights. stub: a stand-in with vLLM's arguments, routes and
processes beside a fake NVML library, read by the real collectors.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tui")]

from fake_vllm import CAPTURE  # noqa: E402
from fixture_record import record  # noqa: E402
from tests.fakes.nvml_fixture import FakeNvml, _built, rtx4090d  # noqa: E402

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
        command = ["nice", str(VENV / "bin/vllm"), "serve", str(model), *TINY, *words]
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
        record(outs[0], 10, "real", "vLLM 0.32.0 (CPU build), idle, development mode on loopback", "--url", url)
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


# ---- stand-ins

GIB = 1 << 30
GPU_TOTAL = 25_757_220_864
LABELS = {"gpu_memory_utilization": "0.85", "num_gpu_blocks": "5000", "kv_cache_size_tokens": "80000"}
"""What a GPU of 24 GB leaves Qwen3-4B in bf16 (the guide: 76 000 to 84 000 tokens)."""
CALM = {"vllm:kv_cache_usage_perc": 0.2, "vllm:num_requests_running": 16.0, "vllm:num_requests_waiting{": 0.0}
FULL = {
    "vllm:kv_cache_usage_perc": 0.97,
    "vllm:num_requests_running": 40.0,
    "vllm:num_requests_waiting{": 20.0,
    "vllm:num_requests_waiting_by_reason{": 0.0,
}


@contextlib.contextmanager
def stand_in(
    words: Sequence[str] = (), version: str = "0.32.0", env: Mapping[str, str] | None = None, **facts: object
) -> Iterator[tuple[int, int]]:
    """A process with vLLM's command line and routes, beside a package of this version; its pid and its port."""
    with tempfile.TemporaryDirectory(prefix="qtop-fake-vllm-") as name:
        folder, port = Path(name), free_port()
        (folder / "bin").mkdir()
        (folder / f"lib/python3.11/site-packages/vllm-{version}.dist-info").mkdir(parents=True)
        script = folder / "bin/vllm"
        script.symlink_to(HERE / "fake_vllm.py")
        command = [sys.executable, "-S", str(script), "serve", MODEL, *words, "--port", str(port)]
        told = json.dumps({"version": version, **facts})
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={**os.environ, **(env or {}), "QTOP_FAKE_VLLM": told},
        )
        try:
            time.sleep(1.5)
            yield process.pid, port
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.terminate()
            process.wait(10)


def _short(folder: Path) -> Path:
    """The recorded exposition without what these rules have no use for: a recording of it takes a third."""
    kept = ("vllm:time_to_first_token", "vllm:inter_token_latency", "vllm:request_queue_time")
    lines = CAPTURE.read_text().splitlines()
    lines = [one for one in lines if "_created" not in one and ("_bucket{" not in one or one.startswith(kept))]
    out = folder / "metrics.txt"
    out.write_text("\n".join(one for one in lines if one.startswith(("vllm:", "process_cpu"))) + "\n")
    return out


def on_gpu(
    out: Path,
    seconds: float,
    note: str,
    *words: str,
    own: float = 20.5,
    others: float = 0.0,
    util: int = 97,
    env: Mapping[str, str] | None = None,
    version: str = "0.32.0",
    **facts: object,
) -> None:
    """Record a stand-in on a fake RTX 4090 D; ``own`` and ``others``: GiB of its memory by the driver's count."""
    with tempfile.TemporaryDirectory(prefix="qtop-nvml-") as name:
        library = _built(Path(name), ())
        assert library is not None, "no C compiler"
        fake = FakeNvml(Path(name), library)
        words = (*words, "--metrics", str(_short(Path(name))))
        with stand_in(words, version, env, **facts) as (pid, port):
            held = [f"0.proc {pid} {int(own * GIB)}"] if own else []
            held += [f"0.proc 1 {int(others * GIB)}"] if others else []
            used = int((own + others) * GIB) + 400_000_000
            gpu = rtx4090d(0, mem_used=used, mem_reserved=300_000_000, util=util, reasons=0, temp=60)
            fake.set(*held, count=1, **gpu)
            url = f"http://127.0.0.1:{port}"
            record(
                out, seconds, "stub", f"stand-in for vLLM on a fake RTX 4090 D: {note}", "--url", url, env=fake.env()
            )


def stub(only: Sequence[str] = ()) -> None:
    """Those of stand-ins."""
    for rule, make_one in STUBS.items():
        if not only or rule in only:
            (OUT / rule).mkdir(parents=True, exist_ok=True)
            make_one(OUT / rule / "fires.qtop")
    if not only or "quiet" in only:
        first = OUT / "QT403/quiet.qtop"
        on_gpu(first, 20, "16 requests, nothing amiss", *CAP, labels=LABELS, gauges=CALM)
        for number in range(404, 409):
            shutil.copyfile(first, OUT / f"QT{number}/quiet.qtop")


CAP = ("--max-num-seqs", "256")
_LONG = ("--gpu-memory-utilization", "0.85", "--max-model-len", "262144")
_CAPACITY = f'vllm:num_requests_waiting_by_reason{{engine="0",model_name="{MODEL}",reason="capacity"'


def _share(value: str) -> dict[str, str]:
    return {**LABELS, "gpu_memory_utilization": value}


STUBS: Mapping[str, Callable[[Path], None]] = {
    "QT402": lambda out: on_gpu(out, 24, "a context of 256K", *_LONG, own=0, starting=12),
    "QT403": lambda out: on_gpu(
        out, 20, "eager, GPU 55 % busy", "--enforce-eager", *CAP, util=55, labels=LABELS, gauges=CALM
    ),
    "QT404": lambda out: on_gpu(
        out, 12, "no chunked prefill", "--no-enable-chunked-prefill", *CAP, labels=LABELS, gauges=CALM
    ),
    "QT405": lambda out: on_gpu(
        out, 20, "no async scheduling, GPU 60 %", "--no-async-scheduling", *CAP, util=60, labels=LABELS, gauges=CALM
    ),
    "QT406": lambda out: on_gpu(
        out, 20, "others hold 2 GiB", *CAP, own=21.3, others=2.0, labels=_share("0.92"), gauges=CALM
    ),
    "QT407": lambda out: on_gpu(
        out, 20, "utilization 0.6", *CAP, own=14.5, labels=_share("0.6"), gauges={**FULL, _CAPACITY: 20.0}
    ),
    "QT408": lambda out: on_gpu(
        out, 20, "a cap of 512, preemption", "--max-num-seqs", "512", own=22.3, labels=LABELS,
        gauges={**FULL, "vllm:num_requests_waiting{": 1.0, _CAPACITY: 1.0},
        rates={"vllm:num_preemptions_total": 3.0},
    ),
    "QT410": lambda out: on_gpu(
        out, 10, "development mode on every address", "--host", "0.0.0.0", *CAP,
        env={"VLLM_SERVER_DEV_MODE": "1"}, host="0.0.0.0", labels=LABELS, gauges=CALM,
    ),
}  # fmt: skip


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
