"""A real process that passes for a server: chosen command line, environment and working directory; it only waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

SCRIPT = "print(flush=True)\nimport time\ntime.sleep(600)\n"


class Posing:
    """``folder/program words…`` run by Python, as an installed ``vllm`` is; ended by ``close``."""

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        program: str = "vllm",
    ) -> None:
        script = folder / program
        script.write_text(SCRIPT)
        self.argv = (os.path.realpath(sys.executable), "-S", str(script), *words)
        environment = {"PYTHONHOME": sys.base_prefix, **(environ or {})}
        self._child = subprocess.Popen(self.argv, stdout=subprocess.PIPE, env=environment, cwd=cwd or folder, text=True)
        self.pid = self._child.pid
        assert self._child.stdout is not None
        self._child.stdout.readline()

    def close(self) -> None:
        """End it and take its exit status."""
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def __enter__(self) -> Posing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
