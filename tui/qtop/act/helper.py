"""The helper: a process that is root and makes known changes for a qtop that is not.

    sudo PYTHON -I …/qtop/act/helper.py

It reads a line of JSON for each wish, {"do": "apply" or "restore", "knob": NAME, "record": {…}}, and answers with
{"say": …} (progress; wants {"go": true or false} back), {"extended": record} (wants {"saved": true} once the record is
in the journal), and at the end {"done": true} or {"refused": …, "hint": …}. What to change is a record that a knob
itself checks: its kind of targets, its range of values; there is no way to give it a command or a file of one's own
choice. It ends when its input does. It keeps no journal: the one who asks wrote the old values down before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

LINE = 4 << 20
"""Bytes of one message at most."""


def _hear() -> dict[str, Any]:
    """One message; empty at the end of the input, or when it is none."""
    line = sys.stdin.buffer.readline(LINE)
    try:
        message = json.loads(line) if line else None
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


class _Asker:
    """The one who asks, while a wish is being done."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        self._going = True

    def save(self) -> None:
        """Have the record written to the journal."""
        from qtop.errors import Refused

        _tell({"extended": self.record})
        if _hear().get("saved") is not True:
            raise Refused("the journal could not be written")

    def say(self, text: str) -> None:
        """Progress."""
        _tell({"say": text})
        self._going = _hear().get("go") is True

    def cancelled(self) -> bool:
        """It was called off."""
        return not self._going


def _grant(wish: dict[str, Any]) -> dict[str, Any]:
    """Do one thing, if a knob vouches for it; the answer."""
    from qtop.act.change import Work
    from qtop.act.knobs import knob
    from qtop.errors import QtopError

    asker = _Asker(wish.get("record") or {})
    work = Work(asker.save, asker.say, asker.cancelled)
    try:
        target = knob(str(wish.get("knob")))
        target.check(asker.record)
        {"apply": target.apply, "restore": target.restore}[str(wish.get("do"))](asker.record, work)
    except QtopError as error:
        return {"refused": error.message, "hint": error.hint}
    except OSError as error:
        return {"refused": f"{error.filename or target.id}: {error.strerror}"}
    except Exception as error:  # a record of somebody's making: no traceback reaches a user
        return {"refused": f"this record means nothing to root's helper ({type(error).__name__})"}
    return {"done": True}


def main() -> int:
    """0 when nobody asks any more, 2 when it is not root."""
    # Run as a file and with -I: nothing but its own package may be found beside the standard places.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.umask(0o022)
    # Ctrl-C reaches all who share the terminal; when to stop, the one who asks decides.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.geteuid() != 0:
        print("qtop's helper is for root", file=sys.stderr)
        return 2
    _tell({"qtop": "helper"})
    while wish := _hear():
        _tell(_grant(wish))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
