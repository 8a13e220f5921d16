"""A real vLLM (its CPU build) with a tiny model of random weights, as a process tree of its own on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fakes.spawned import ROOT, CannotStart, with_parent

from qtop.demo.server import answers, free_port

NAME = "tiny-qwen3"
PATIENCE_S = 280.0
"""From nothing to the first answer it takes 45 to 170 s on two cores."""
CONFIG = "max-num-seqs: 16\nmax-num-batched-tokens: 1024\nenable-per-request-metrics: true\n"
# fmt: off
WORDS = (
    "--served-model-name", NAME, "--load-format", "dummy", "--dtype", "float32", "--enforce-eager",
    "--max-model-len", "2048", "--generation-config", "vllm",
)
# fmt: on


class RealVllm:
    """Started at once, in development mode so that it tells its configuration; ``folder`` is all that it writes to.

    ``words`` are more of its command line (a flag that is given twice has its last value), ``variables`` of its
    environment; ``before``: a command that starts it (``qtop serve --``).
    """

    def __init__(
        self,
        environment: Path,
        folder: Path,
        words: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.model, self.config, self.log = folder / "model", folder / "server.yaml", folder / "server.log"
        self.model.mkdir()
        python = environment / "bin" / "python"
        subprocess.run([python, ROOT / "tests/fakes/tiny_qwen.py", self.model], check=True, timeout=60)
        self.config.write_text(CONFIG)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--config", str(self.config))
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [*with_parent(), *before, environment / "bin" / "vllm", "serve", self.model, *WORDS, *where, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**self._environ(folder), **(variables or {})},
                start_new_session=True,
            )
        self.pid = self._child.pid

    def _environ(self, folder: Path) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_SERVER_DEV_MODE": "1",
        }

    def await_answer(self) -> None:
        """Returns when it is ready; raises CannotStart."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise CannotStart(f"vLLM ended with status {self._child.returncode}:\n{self.said()}")
            if answers(self.port, 2.0):
                return
            time.sleep(0.5)
        raise CannotStart(f"vLLM did not answer within {PATIENCE_S:.0f} s:\n{self.said()}")

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End all its processes at once, as a machine out of memory would."""
        self._signal(signal.SIGKILL)
        self._child.wait()

    def stop(self) -> None:
        """End it in order, or else by force; nothing of it is left."""
        self._signal(signal.SIGTERM)
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass
