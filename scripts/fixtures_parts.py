"""What the makers of fixtures share: real servers and prompts, busy loops, stand-ins for a GPU, for /proc and /sys."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT), str(ROOT / "scripts")]

import fake_vllm  # noqa: E402
from fixture_record import record  # noqa: E402
from tests.fakes.build import compile_shared  # noqa: E402
from tests.fakes.kernel import Kernel  # noqa: E402
from tests.fakes.nvml_fixture import SONAME, FakeNvml, Value, hopper  # noqa: E402

from qtop.demo.model import ensure_model  # noqa: E402
from qtop.demo.server import DemoServer  # noqa: E402

OUT = ROOT / "tests/rules"
QTOP = (sys.executable, "-m", "qtop")
ENV = {**os.environ, "PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}"}
GIB = 1 << 30


@contextmanager
def streams(url: str) -> Iterator[None]:
    """Real prompts, one after the other."""
    words = [*QTOP, "probe", "--json", "--url", url, "--requests", "100", "--max-tokens", "200"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, env=ENV) as prober:
        try:
            time.sleep(2.0)
            yield
        finally:
            prober.terminate()


def model_file() -> Path:
    """The demo's model, fetched if it is not here yet."""
    return ensure_model(None, print)


def ahead(pid: int) -> None:
    """Let a server have its CPUs whatever else runs on this machine (root): that is not what is recorded."""
    if os.geteuid() == 0:
        subprocess.run(["chrt", "--all-tasks", "--rr", "--pid", "1", str(pid)], check=True)


@contextmanager
def stand_in(folder: Path, *options: str) -> Iterator[fake_vllm.Running]:
    """A stand-in for vLLM over HTTP; of its histograms only two have buckets, so that recordings are small."""
    told = [line for line in fake_vllm.CAPTURE.read_text().splitlines() if line.startswith("vllm:") and _wanted(line)]
    metrics = folder / "metrics.txt"
    metrics.write_text("\n".join(told) + "\n")
    with fake_vllm.start("--threads", "2", "--metrics", str(metrics), *options) as server:
        yield server


def _wanted(line: str) -> bool:
    kept = ("vllm:time_to_first_token", "vllm:inter_token_latency")
    return line.startswith(kept) or not ("_bucket{" in line or "_created{" in line)


@contextmanager
def llamacpp(cpus: str = "") -> Iterator[DemoServer]:
    """A real llama.cpp that computes with one thread, under prompts."""
    with DemoServer(patience=120.0).start(threads=1) as server, streams(server.url):
        if cpus:
            subprocess.run(["taskset", "-acp", cpus, str(server.pid)], check=True, stdout=subprocess.DEVNULL)
        yield server


@contextmanager
def loops(count: int, cpu: int) -> Iterator[None]:
    """Busy loops on one CPU."""
    many = [subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in many:
            one.kill()
            one.wait()


def gpu(folder: Path, pids: tuple[int, ...], **changes: Value) -> FakeNvml:
    """One H100 on which these processes run, by the C stand-in for NVML."""
    (folder / "built").mkdir()
    library = compile_shared(ROOT / "tests/fakes/nvml/nvml_fake.c", folder / "built" / SONAME)
    if library is None:
        raise SystemExit("no C compiler for the tests' NVML")
    fake = FakeNvml(folder, library)
    fake.set(*(f"0.proc {pid} {60 * GIB}" for pid in pids), count=1, **hopper(0, **changes))
    return fake


def record_stub(
    kernel: Kernel, out: Path, note: str, url: str, seconds: float, origin: str = "stub", fake: FakeNvml | None = None
) -> None:
    """Record with these files in the place of /proc, /sys and /run."""
    with kernel.running():
        time.sleep(0.5)
        roots = ("--roots", str(kernel.root))
        record(out, seconds, origin, note, "--url", url, *roots, env=fake.env() if fake is not None else None)


@contextmanager
def vllm(folder: Path, cpus: int, nodes: int, engine: tuple[float, float, int]) -> Iterator[tuple[Kernel, str, int]]:
    """A stand-in for vLLM over HTTP, whose two processes are files: (run, wait, CPU) of the engine's thread."""
    with stand_in(folder) as server:
        core = server.children[0]
        kernel = Kernel(folder / "tree")
        kernel.topology(cpus, nodes)
        kernel.cpu_times(cpus, busy=0.2)
        allowed = f"0-{cpus - 1}"
        argv = ("python3", "/usr/bin/vllm", "serve", fake_vllm.MODEL)
        run, wait, cpu = engine
        kernel.process(server.pid, 1, "vllm", argv, 0.2, 0.004, (cpu + 1) % cpus, allowed)
        kernel.process(core, server.pid, "VLLM::EngineCor", ("VLLM::EngineCore",), run, wait, cpu, allowed)
        kernel.family({server.pid: (core,), core: ()})
        yield kernel, server.url, core
