"""The suite for a real vLLM on the CPU (the environment that scripts/test-vllm makes; QTOP_VLLM_VENV names another): a
tiny model, four requests at a time. Two cores are few for it: engine and clients share them, so what waits for a CPU is
named too, and truly."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
from disturb import Case, nothing
from disturb_tools import stopped, streams, tokenizing

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fakes.real_vllm import NAME, RealVllm  # noqa: E402

ENVIRONMENT = Path(os.environ.get("QTOP_VLLM_VENV") or Path.home() / ".cache/qtop/vllm-0.32.0")


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """A second vLLM, with words that its parser refuses: it ends by itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(ENVIRONMENT / "bin/vllm"), "serve", folder, "--port", "18000", *words]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            server.kill()
            server.wait()


def cases(stack: ExitStack, _args: argparse.Namespace) -> Iterator[Case]:
    """First what needs no server, then what needs one."""
    yield Case("refused --load-in-4bit", ("QT401",), nothing, lambda: refused("--load-in-4bit"), patience=90)
    yield Case("refused fp16 cache", ("QT401",), nothing, lambda: refused("--kv-cache-dtype", "fp16"), patience=90)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    words = ("--max-num-seqs", "4")
    server = RealVllm(ENVIRONMENT, folder, words=words)
    stack.callback(server.stop)
    server.await_answer()
    target = ("--url", server.url)
    children = psutil.Process(server.pid).children(recursive=True)
    engine = next(one.pid for one in children if "EngineCore" in " ".join(one.cmdline()))

    light, more = streams(server.url, 1, "en", 64), streams(server.url, 12, "en", 100, settle=1.0)
    yield Case("API server saturated", ("QT203",), light, lambda: tokenizing(server.url, NAME, 3), target)
    yield Case("sequence cap", ("QT303",), nothing, more, target)
    yield Case("engine stopped", ("QT305",), light, lambda: stopped(engine), target, 40.0)
