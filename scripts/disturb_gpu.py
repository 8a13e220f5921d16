"""The suite for a GPU host: a real vLLM that runs already (--url), disturbed from outside. Nothing of the card's own
settings is touched.

Needs PyTorch beside this Python for the GPU cases. The server should have --max-num-seqs 64, so that its cap can be
reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import httpx
import psutil
from disturb import Case, nothing
from disturb_tools import pinned, processes, stopped, streams, tokenizing, verbose

MATMUL = """
import torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
torch.cuda.synchronize()
print("ready", flush=True)
while True:
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
"""
COPY = """
import torch
host = torch.empty(1 << 28, dtype=torch.uint8).pin_memory()
device = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
print("ready", flush=True)
while True:
    device.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
"""
HOLD = """
import sys, time, torch
torch.zeros(1, device="cuda")
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
print(torch.cuda.mem_get_info()[0] >> 20, flush=True)
time.sleep(600)
"""


def cases(_stack: ExitStack, args: argparse.Namespace) -> list[Case]:
    """All of them."""
    url = args.url or "http://127.0.0.1:8000"
    server = next(
        one
        for one in psutil.process_iter(["cmdline"])
        if "vllm.entrypoints.openai.api_server" in (one.info["cmdline"] or [])
    )
    model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
    children = server.children(recursive=True)
    engine = next(one.pid for one in children if "EngineCore" in " ".join(one.cmdline()) or "EngineCor" in one.name())
    pids = [server.pid, *(one.pid for one in children)]
    light, short = streams(url, 8, "en", 256), streams(url, 32, "1k", 128)

    def beside(code: str, *words: str) -> Callable[[], AbstractContextManager[object]]:
        return lambda: processes([[sys.executable, "-c", code, *words]], ready=True)

    def more(concurrency: int, prompt: str, tokens: int) -> Callable[[], AbstractContextManager[object]]:
        return streams(url, concurrency, prompt, tokens, settle=1.0)

    return [
        Case("healthy 1 stream", ("none",), streams(url, 1, "en", 256), nothing, patience=20),
        Case("healthy 8 streams", ("none",), light, nothing, patience=30),
        Case("healthy 48 streams", ("none",), streams(url, 48, "1k", 128), nothing, patience=40),
        Case("healthy at random", ("none",), streams(url, 60, "en", 128, rate=6.0), nothing, patience=40),
        Case("cpu starved", ("QT201",), short, lambda: pinned(pids, [3], 4)),
        Case("narrow affinity", ("QT201", "QT204", "QT203"), short, lambda: pinned(pids, [3], 0)),
        Case("API server tokenizes", ("QT309", "QT203"), light, lambda: tokenizing(url, model, 6)),
        Case("API server saturated", ("QT203",), light, lambda: verbose(url, model, 6, 8)),
        Case("another process computes", ("QT121",), light, beside(MATMUL)),
        Case("pcie saturated", ("QT112", "QT121"), light, beside(COPY)),
        Case("sequence cap", ("QT303",), light, more(160, "en", 512)),
        Case("kv full", ("QT301",), nothing, more(48, "max", 3000), patience=120),
        Case("prefill bound", ("QT304",), light, more(32, "8k", 2)),
        Case("engine stopped", ("QT305", "QT310"), light, lambda: stopped(engine), patience=40),
        Case("vram nearly full", ("QT120",), light, beside(HOLD, "220"), patience=40),
    ]
