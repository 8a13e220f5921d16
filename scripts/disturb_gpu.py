"""The suite for a GPU host: a real vLLM that runs already (--url), disturbed from outside. Nothing of the card's own
settings is touched.

Needs PyTorch beside this Python for the GPU cases. The server should have --max-num-seqs 64, so that its cap can be
reached.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

import psutil
from disturb import Case, nothing
from disturb_tools import pinned, processes, stopped, streams

MATMUL = """
import torch
a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
while True:
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
"""
COPY = """
import torch
host = torch.empty(1 << 28, dtype=torch.uint8).pin_memory()
device = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
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
    children = server.children(recursive=True)
    engine = next(one.pid for one in children if "EngineCore" in " ".join(one.cmdline()) or "EngineCor" in one.name())
    pids = [server.pid, *(one.pid for one in children)]
    python = sys.executable
    light, short = streams(url, 8, "en", 256), streams(url, 32, "1k", 128)
    return [
        Case("healthy 8 streams", ("none",), light, nothing, patience=30),
        Case("healthy 1 stream", ("none",), streams(url, 1, "en", 256), nothing, patience=20),
        Case("cpu starved", ("QT201",), short, lambda: pinned(pids, [3], 4)),
        Case("narrow affinity", ("QT201", "QT204", "QT203"), short, lambda: pinned(pids, [3], 0)),
        Case("another process computes", ("QT121",), light, lambda: processes([[python, "-c", MATMUL]], 8.0)),
        Case("pcie saturated", ("QT112", "QT121"), light, lambda: processes([[python, "-c", COPY]], 8.0)),
        Case("vram nearly full", ("QT120",), light, lambda: processes([[python, "-c", HOLD, "200"]], 8.0)),
        Case("sequence cap", ("QT303",), light, lambda: streams(url, 160, "en", 512)()),
        Case("kv full", ("QT301",), nothing, lambda: streams(url, 40, "max", 64)(), patience=90),
        Case("prefill bound", ("QT304",), light, lambda: streams(url, 48, "8k", 2)(), patience=60),
        Case("engine stopped", ("QT305", "QT310"), light, lambda: stopped(engine), patience=40),
    ]
