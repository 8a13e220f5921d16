"""Where running ``qtop serve`` are found, and how they are asked: a state file and a socket each, in a folder of the
user's own.

A question is one line of JSON, {"do": "state"}, {"do": "stop"} or {"do": "start", "argv": […]}; the answer one line,
the state. It is answered at once: who stops a server asks for the state until it has stopped.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

from qtop.act.journal import state_dir
from qtop.act.launchers.capture import alive
from qtop.errors import QtopError, Refused

State = dict[str, Any]
"""{"name", "serve": [pid, start], "child": [pid, start] or null, "boot", "argv", "log", "phase", "url", …}"""

RUNNING, STOPPING, STOPPED, WAITING, FAILED = "running", "stopping", "stopped", "waiting", "failed"
LINE = 4 << 20
ANSWER_S = 10.0


def folder() -> Path:
    """Where they are; made, and the user's own. QtopError where somebody else could have put something there."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    found = Path(base) / "qtop" if base and os.access(base, os.W_OK) else state_dir()
    place = found / "serve"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = place.lstat()
    except OSError as error:
        raise QtopError(f"{place} cannot be made: {error.strerror}", "Set XDG_STATE_HOME.") from None
    if held.st_uid != os.geteuid() or not stat.S_ISDIR(held.st_mode):
        raise QtopError(f"{place} belongs to somebody else", "Set XDG_RUNTIME_DIR or XDG_STATE_HOME.")
    if held.st_mode & 0o077:
        place.chmod(0o700)
    return place


def states() -> list[State]:
    """Every one that left a state file, alive or not."""
    found = []
    try:
        files = sorted(folder().glob("*.json"))
    except QtopError:
        return []
    for file in files:
        one = read_state(file)
        if one is not None:
            found.append(one)
    return found


def read_state(file: Path) -> State | None:
    """One state file; None where there is none, or it is none."""
    try:
        one = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return one if isinstance(one, dict) and isinstance(one.get("serve"), list) else None


def is_alive(state: State) -> bool:
    """Whether its ``qtop serve`` runs."""
    try:
        return alive(int(state["serve"][0]), int(state["serve"][1]), str(state["boot"]))
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def child_alive(state: State) -> bool:
    """Whether its server runs."""
    try:
        return alive(int(state["child"][0]), int(state["child"][1]), str(state["boot"]))
    except (KeyError, TypeError, ValueError, IndexError):
        return False


def ask(path: str, question: dict[str, Any]) -> State:
    """One question; Refused with its reason where it refuses, or does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(ANSWER_S)
            link.connect(path)
            link.sendall(json.dumps(question).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n") and len(data) < LINE and (more := link.recv(65536)):
                data += more
        answer = json.loads(data)
    except (OSError, ValueError) as error:
        raise Refused(f"`qtop serve` does not answer ({error})", "Look at its terminal.") from None
    if not isinstance(answer, dict) or "refused" in answer:
        raise Refused(f"`qtop serve`: {answer.get('refused') if isinstance(answer, dict) else 'not understood'}")
    return answer
