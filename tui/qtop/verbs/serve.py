"""``qtop serve``: run a server, so that qtop can start it anew with other flags."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from pathlib import Path

from qtop.act.journal import state_dir
from qtop.act.launchers.capture import own_log
from qtop.act.serve.supervisor import Supervisor
from qtop.collect.discover.servers import basename, endpoint, program, recognise
from qtop.config import Settings
from qtop.errors import QtopError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


def serve(args: argparse.Namespace, settings: Settings) -> int:
    """Until Ctrl-C, or until the server ends too often."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise QtopError("no command to run", "Write it behind --: qtop serve -- vllm serve MODEL")
    if getattr(args, "read_only", False):
        raise QtopError("qtop runs with --read-only: it starts no server")
    name = args.name or _name(command)
    if not _NAME.fullmatch(name):
        raise QtopError(f"not a name: {name!r}", "Letters, digits, dots and dashes.")
    log = Path(args.log).absolute() if args.log else own_log(state_dir(), name)

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(f"qtop serve: {text}", file=sys.stderr, flush=True)

    def show(data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    one = Supervisor(command, name, log, say, show)
    heard: list[int] = []

    def end(number: int, frame: object) -> None:
        if not heard:
            say("ending the server; once more ends it by force")
        heard.append(number)
        one.leave(by_force=len(heard) > 1)

    olds = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    # A terminal that closes is no wish to end: the server goes on, and so does this.
    olds[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return one.run()
    finally:
        for number, old in olds.items():
            signal.signal(number, old)


def _name(command: list[str]) -> str:
    """After the program and its port: "vllm-8000"."""
    what = recognise(command)
    port = endpoint(command, dict(os.environ), what.engine if what else "").port or (what.port if what else 0)
    how, program_, _ = program(command)
    title = what.engine if what else basename(program_) if how != "code" else "server"
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{title}-{port}" if port else title)[:60].lstrip(".-_") or "server"
