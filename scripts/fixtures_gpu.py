#!/usr/bin/env python3
"""Makes the recordings that hold the rules of the GPU (QT101 to QT131): tests/rules/ID/{fires,quiet}.qtop.

fixtures_gpu.py [ID…]      all, or only these

A stand-in for the driver (tests/fakes/nvml, compiled here) plays each scenario, read by the real collector in a real
qtop; a stand-in for a vLLM is the server, whose engine's process is the one on the GPU. Figures at rest are those of a
real H100 with 16 streams. As root the server's processes go before others, so that a busy machine does not show.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT), str(ROOT / "scripts")]

import fake_vllm  # noqa: E402
import fixture_record  # noqa: E402
from tests.fakes import nvml_fixture  # noqa: E402
from tests.fakes.nvml_fixture import FakeNvml, Value, hopper  # noqa: E402

from qtop.diagnose.rule import Severity, State  # noqa: E402
from qtop.diagnose.whole import diagnose_all  # noqa: E402
from qtop.record.reader import Recording  # noqa: E402

OUT = ROOT / "tests/rules"
AT_ONCE = 4
BEGIN = 14
"""Seconds of the scenario after which the fault is there; qtop has started by then."""
FIRES_S, QUIET_S = 36.0, 24.0
TOTAL, RESERVED, SERVER = 85520809984, 653262848, 73979133952
CALM: dict[str, object] = {"vllm:num_requests_waiting": 0.0, "vllm:num_preemptions_total": 0.0}
"""A server on which nothing waits."""
LEFT_OUT = (
    *("#", "http_", "python_", "process_", "vllm:estimated_", "vllm:prompt_tokens_by", "vllm:corrupted"),
    *(f"vllm:request_{name}" for name in ("params", "max_num", "prefill_kv", "time_per_output")),
    *(f"vllm:request_{name}_bucket" for name in ("generation_tokens", "prompt_tokens", "inference_time_seconds")),
    *(f"vllm:request_{name}_time_seconds_bucket" for name in ("queue", "prefill", "decode")),
    *("vllm:iteration_tokens_total_bucket", "vllm:e2e_request_latency_seconds_bucket"),
)
"""Series without which a recording is a third as large, and which no rule of the GPU needs."""
WORK: dict[str, Value] = {
    **{"util": 99, "mem_util": 50, "temp": 56, "power": 495000, "sm_mhz": 1980, "reasons": 0, "margin": 31},
    **{"mem_used": SERVER + (64 << 20), "gpm.1": 99.0, "gpm.2": 64.0, "gpm.3": 12.0, "gpm.5": 18.0, "gpm.10": 50.0},
}


def then(key: str, value: Value) -> str:
    """A line that counts once the fault is there."""
    return f"@{BEGIN}- 0.{key} {value}"


def grows(key: str, start: float, per_second: float) -> str:
    """A counter that grows from then on."""
    return then(key, f"ramp {start - BEGIN * per_second:.0f} {per_second:.0f}")


@dataclass(frozen=True)
class Scene:
    """One recording."""

    note: str
    lines: tuple[str, ...] = ()
    readings: dict[str, Value] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """More of the server's command line."""
    other: int = 0
    """Bytes that another process holds on the GPU, 0 for no such process."""
    other_sm: tuple[int, int] = (0, 0)
    """% of the SMs that the server and the other process take."""
    stops: bool = False
    """The server's requests make no progress any more once the fault is there."""


HOT = (grows("field.269", 5, 2.2e8), then("sm_mhz", 1410), then("temp", 88), then("margin", 0), then("reasons", 0x20))
OVER = (grows("field.270", 6, 4e8), then("sm_mhz", 600), then("temp", 93), then("margin", -4), then("reasons", 0x48))
BRAKE = (grows("field.271", 7, 5e8), then("sm_mhz", 990), then("power", 310000), then("reasons", 0x88))
FULL_POWER: dict[str, Value] = {"field.74": "ramp 1000000 980000000", "power": 698000, "sm_mhz": 1650, "reasons": 4}
NEARLY_FULL: dict[str, Value] = {"mem_used": TOTAL - RESERVED - (190 << 20)}

SCENES: dict[str, tuple[Scene, Scene]] = {
    "QT101": (
        Scene("an H100 at its operating limit: the driver slows it 22 % of the time", HOT),
        Scene("warm, and not slowed", readings={"temp": 79, "margin": 8}),
    ),
    "QT102": (
        Scene("an H100 whose cooling fails: its hardware slows it", OVER),
        Scene("warm, and not slowed", readings={"temp": 79, "margin": 8}),
    ),
    "QT103": (Scene("an H100 with a power brake from outside", BRAKE), Scene("an H100 under load")),
    "QT104": (
        Scene("an H100 that falls off the bus", (f"@{BEGIN - 2}- 0.xid 79", then("lost", 1)), stops=True),
        Scene("an H100 under load"),
    ),
    "QT110": (
        Scene("an H100 at its power limit", readings={**FULL_POWER, "gpm.2": 97.0, "gpm.5": 73.0}),
        Scene("an H100 now and then at its power limit", readings={"field.74": "ramp 1000000 120000000"}),
    ),
    "QT111": (Scene("an H100 with four of sixteen lanes", readings={"pcie_width": 4}), Scene("all lanes, full speed")),
    "QT112": (
        Scene(
            "a server that reads weights over the link",
            readings={"gpm.21": 48100.0, "gpm.10": 12.0},
            words=("--cpu-offload-gb", "20"),
        ),
        Scene("prompts and tokens over the link", readings={"gpm.21": 40.0}),
    ),
    "QT113": (
        Scene("a bad link: half a packet a second is sent again", (grows("field.94", 3, 1),)),
        Scene("a good link; three packets were sent again long ago"),
    ),
    "QT114": (
        Scene("the GPU's firmware does not answer, and requests stop", (then("xid", 119),), stops=True),
        Scene("no Xid"),
    ),
    "QT115": (
        Scene("uncorrected ECC errors", (then("ecc_uncorrected", 2), then("ecc_corrected", 41))),
        Scene("two errors corrected long ago"),
    ),
    "QT120": (
        Scene("another process beside the server leaves 190 MiB", readings=NEARLY_FULL, other=10 << 30),
        Scene("memory taken by the server at its start, 10 GiB free"),
    ),
    "QT121": (
        Scene(
            "another process multiplies matrices on the GPU",
            readings={"gpm.2": 72.0, "gpm.5": 46.0, "gpm.10": 36.0},
            other=1184890880,
            other_sm=(47, 53),
        ),
        Scene("another process holds a context and does nothing", other=1184890880, other_sm=(99, 0)),
    ),
    "QT130": (
        Scene("decoding that reads memory at 83 % of its speed", readings={"gpm.10": 83.0, "gpm.2": 60.0}),
        Scene("half of the memory's speed"),
    ),
    "QT131": (
        Scene("prefill at the power limit", readings={**FULL_POWER, "gpm.2": 97.0, "gpm.5": 74.0, "gpm.10": 26.0}),
        Scene("an H100 with 16 streams"),
    ),
}

_starting = threading.Lock()


@contextlib.contextmanager
def server(scene: Scene) -> Iterator[fake_vllm.Running]:
    """The stand-in for a vLLM; its facts go by its environment."""
    gauges = {**CALM, "vllm:num_requests_running": 8.0} if scene.stops else CALM
    with contextlib.ExitStack() as stack:
        with _starting:
            os.environ["QTOP_FAKE_VLLM"] = json.dumps({"gauges": gauges, "without": LEFT_OUT})
            running = stack.enter_context(fake_vllm.start(*scene.words))
            del os.environ["QTOP_FAKE_VLLM"]
        if os.geteuid() == 0:
            for pid in (running.pid, *running.children):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    os.setpriority(os.PRIO_PROCESS, int(task.name), -15)
        yield running


@contextlib.contextmanager
def neighbour(scene: Scene) -> Iterator[int]:
    """A process that stands for the other one on the GPU; its pid, 0 for none."""
    if not scene.other:
        yield 0
        return
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def play(out: Path, scene: Scene, seconds: float) -> None:
    """Record one scene."""
    with tempfile.TemporaryDirectory() as name, server(scene) as running, neighbour(scene) as other:
        folder = Path(name)
        library = nvml_fixture._built(folder / "built", ())
        if library is None:
            raise SystemExit("fixtures_gpu: no C compiler (cc, gcc, clang or the Python package ziglang)")
        nvml = FakeNvml(folder, library)
        engine = running.children[0]
        lines = [f"0.proc {engine} {SERVER}", *scene.lines]
        if other:
            lines.append(f"0.proc {other} {scene.other}")
            lines += [f"0.proc_sm.{pid} {sm}" for pid, sm in zip((engine, other), scene.other_sm, strict=True)]
        nvml.set(*lines, count=1, **hopper(0, **{**WORK, **scene.readings}))
        begun = time.monotonic()
        note = f"{scene.note}; stand-ins for the driver and for vLLM"
        arguments = (out, seconds, "stub", note, "--url", running.url)
        recorder = threading.Thread(target=fixture_record.record, args=arguments, kwargs={"env": nvml.env()})
        recorder.start()
        if scene.stops:
            time.sleep(max(0.0, BEGIN - (time.monotonic() - begun)))
            running.order("idle")  # counters stand, and eight requests are said to run
        recorder.join()


def check(rule: str) -> str:
    """What the two recordings say; "" where it is what they are for."""
    wrong = []
    for name, wanted in (("fires", State.FIRING), ("quiet", State.CLEAR)):
        result = diagnose_all(Recording(OUT / rule / f"{name}.qtop").samples())
        assert result is not None
        found = next(one for one in result.findings if one.rule == rule)
        if found.state is not wanted:
            wrong.append(f"{name}: {found.state} ({found.reason})")
        elif wanted is State.FIRING and found.severity is not Severity.INFO and result.verdict.rule != rule:
            wrong.append(f"{name}: the verdict is {result.verdict.headline}")
        faults = [one.headline for one in result.findings if one.state is State.FIRING and one.rule != rule]
        print(f"{rule} {name}: {result.verdict.headline}" + "".join(f"\n    also: {one}" for one in faults))
    return "; ".join(wrong)


def make(*only: str) -> None:
    """All of them, or those of these rules."""
    rules = [rule for rule in SCENES if not only or rule in only]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(play, OUT / rule / f"{name}.qtop", scene, seconds)
            for rule in rules
            for name, scene, seconds in zip(("fires", "quiet"), SCENES[rule], (FIRES_S, QUIET_S), strict=True)
        ]
        for job in jobs:
            job.result()
    wrong = {rule: told for rule in rules if (told := check(rule))}
    if wrong:
        raise SystemExit("".join(f"{rule}: {told}\n" for rule, told in wrong.items()))


if __name__ == "__main__":
    make(*sys.argv[1:])
