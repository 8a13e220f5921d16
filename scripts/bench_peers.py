"""The programs that are measured side by side: how each is installed, started and asked for its help."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench_run import FLOOR, CannotMeasure, qtop_command

INSTALL_S = 900.0
ASK_S = 120.0


@dataclass(frozen=True)
class Program:
    """One that shows a server or its GPUs in a terminal."""

    name: str
    command: tuple[str, ...]
    version: str = ""
    drawn_rows: int = 5
    """Rows with something on them from which its first screen counts as painted."""
    help: tuple[str, ...] = ()
    """Its help, if it has one."""


PEERS: Mapping[str, tuple[str, Callable[[str], tuple[str, ...]]]] = {
    "vllmstat": ("vllmstat", lambda url: ("-u", url, "-i", "1")),
    "vllmpytop": ("vllmpytop", lambda url: ("--url", url, "--interval", "1")),
    "vllm-htop": ("vllm-htop", lambda url: ("--url", url, "--interval", "1")),
    "nvitop": ("nvitop", lambda _url: ("--interval", "1")),
}
"""Distribution and command, and the options for one reading a second."""


def ours(url: str) -> list[Program]:
    """An empty Textual app as the floor, and qtop."""
    qtop = qtop_command()
    return [
        Program("floor", tuple(FLOOR), drawn_rows=2),
        Program("qtop", (*qtop, "--url", url), help=(*qtop, "--help")),
    ]


def cache_folder() -> Path:
    """Where peers are installed; may be removed at any time."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "qtop-bench"


def peer(name: str, url: str, cache: Path) -> Program:
    """A peer, installed if it is not there; CannotMeasure says why it is not."""
    command, options = PEERS[name]
    script, version = installed(name, cache, command)
    return Program(name, (str(script), *options(url)), version, help=(str(script), "--help"))


def installed(name: str, cache: Path, command: str = "") -> tuple[Path, str]:
    """The command of a peer (its distribution's name unless given) and its version, from a virtual environment of its
    own that is made if it is not there; CannotMeasure says why it is not to be had."""
    folder = cache / name
    script = folder / "bin" / (command or name)
    if not script.exists():
        print(f"installing {name} in {folder}", file=sys.stderr)
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotMeasure(f"no virtual environment for it: {error}") from error
        install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", name]
        try:
            done = subprocess.run(
                install, capture_output=True, text=True, timeout=INSTALL_S, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise CannotMeasure("its installation takes too long") from error
        if done.returncode != 0 or not script.exists():
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it installs no command"]
            raise CannotMeasure(f"not installed: {last[0].strip()[:160]}")
    return script, version_of(folder / "bin/python", name)


def version_of(python: Path, name: str) -> str:
    """Of a distribution; "" if that Python does not know it."""
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    try:
        done = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
