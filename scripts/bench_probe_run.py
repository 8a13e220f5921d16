"""One run of one load tool: the server with the known instants, perhaps a dashboard beside it, then the tool."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_probe_schedule import Mode
from bench_probe_tools import Load, Tool
from bench_probe_truth import Comparison, NoMatch, Server, compare, read
from bench_pty import Terminal
from bench_run import SCRIPTS, CannotMeasure, qtop_command

LIMIT_S = 240.0
"""For one run of one tool, besides the time that the load takes."""
DRAWS_S = 6.0
"""How long a dashboard has for its start before the load begins."""


@dataclass
class Run:
    """One tool under one load."""

    tool: str
    version: str
    stamps: str
    streams: int
    mode: Mode
    drawing: bool
    """Beside a dashboard of qtop's."""
    errors: Comparison
    server: Server
    cpu_percent: float
    wall_s: float
    drawn_bytes_s: float | None
    """What that dashboard wrote to its terminal during the run."""
    load_average: float
    """Of the machine over a minute, at the end."""


@dataclass
class Started:
    """A server that runs; ``log`` is there once the block has ended."""

    url: str
    pid: int
    log: Path


@contextlib.contextmanager
def known_server(folder: Path, *options: str) -> Iterator[Started]:
    """In a process of its own, for the length of the block."""
    log = folder / "truth.json"
    command = [sys.executable, "-S", str(SCRIPTS / "known_sse_server.py"), "--log", str(log), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("{"):
                raise CannotMeasure("the server with the known instants did not start")
            told = json.loads(line)
            yield Started(told["url"], told["pid"], log)
        finally:
            process.stdin.close()
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def dashboard(url: str, env: Mapping[str, str], wanted: bool, nice: int) -> Iterator[Terminal | None]:
    """qtop's dashboard on that server, drawing, for the length of the block."""
    if not wanted:
        yield None
        return
    command, colours = [*niceness(nice), *qtop_command(), "--url", url], {**env, "COLORTERM": "truecolor"}
    with Terminal(command, (120, 40), colours, sync=True) as terminal:
        time.sleep(DRAWS_S)
        if not terminal.running or not terminal.received:
            raise CannotMeasure("the dashboard does not draw")
        yield terminal


def niceness(nice: int) -> list[str]:
    """The words before a command that give it that niceness."""
    return ["nice", "-n", str(nice)] if nice else []


def measure(tool: Tool, load: Load, env: Mapping[str, str], home: Path, drawing: bool, rate: float, nice: int) -> Run:
    """Run it and lay its results beside the truth. CannotMeasure says why that cannot be done."""
    load = tool.fitted(load)
    with tempfile.TemporaryDirectory(prefix="run-", dir=home) as name:
        folder = Path(name)
        limit = LIMIT_S + load.requests / load.streams * (1.0 + 2.0 * load.tokens / rate)
        with (
            known_server(folder, "--mode", load.mode, "--rate", str(rate)) as server,
            dashboard(server.url, env, drawing, nice) as terminal,
        ):
            command = [*niceness(nice), *tool.command(server.url, load, folder)]
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            output = execute(command, {**env, **tool.environment()}, folder, limit)
            end, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
            drawn = terminal.since(begin, end)[0] / (end - begin) if terminal else None
        truths, told = read(server.log)
        try:
            results = tool.read(folder, output)
            errors = compare(truths, results.requests, results.said, first=load.streams)
        except (NoMatch, OSError, ValueError, KeyError, TypeError) as error:
            raise CannotMeasure(f"its results cannot be read: {type(error).__name__}: {error}"[:200]) from error
    if not errors.matched:
        raise CannotMeasure(f"none of its {len(results.requests)} results is of a request that the server had")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(
        tool=tool.name,
        version=tool.version,
        stamps=results.stamps,
        streams=load.streams,
        mode=load.mode,
        drawing=drawing,
        errors=errors,
        server=told,
        cpu_percent=round(100.0 * spent / (end - begin), 1),
        wall_s=round(end - begin, 1),
        drawn_bytes_s=None if drawn is None else round(drawn, 1),
        load_average=round(os.getloadavg()[0], 2),
    )


def execute(command: Sequence[str], env: Mapping[str, str], folder: Path, limit: float) -> str:
    """What a command writes to its standard output. CannotMeasure where it fails or takes longer than ``limit`` s."""
    said, complained = folder / "stdout", folder / "stderr"
    with (
        said.open("wb") as out,
        complained.open("wb") as err,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(env),
            cwd=folder,
            start_new_session=True,
        ) as process,
    ):
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"it does not end in {limit:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if status != 0:
        lines = (complained.read_text(errors="replace") or said.read_text(errors="replace")).strip().splitlines()
        raise CannotMeasure(f"it ends with status {status}: {' '.join(lines[-1:]).strip()[:160] or 'it says nothing'}")
    return said.read_text(errors="replace")
