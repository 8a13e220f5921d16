"""The helper: a process that is root and makes known changes for a qtop that is not.

    sudo PYTHON -I -B …/qtop/act/helper.py

It reads a line of JSON for each wish, {"do": "apply" or "restore", "knob": NAME, "record": {…}, "id": …}, and answers
with {"say": …} (progress; wants {"go": true or false} back), {"extended": record} (wants {"saved": true} once the
record is in the journal), and at the end {"done": true} or {"refused": …, "hint": …}, each with the wish's id. What to
change is a record that a knob itself checks: its kind of targets, its range of values; there is no way to give it a
command or a file of one's own choice. It ends when its input does, and begins nothing more then. It keeps no journal:
the one who asks wrote the old values down before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

LINE = 4 << 20
"""Bytes of one message at most."""
MOST_SAID = 400
"""Characters of a refusal: some of it may be the asker's own."""


class _Gone(Exception):
    """The one who asks is no longer there."""


def _hear() -> dict[str, Any]:
    """One message; empty at the end of the input, or when it is none."""
    line = sys.stdin.buffer.readline(LINE)
    try:
        message = json.loads(line) if line else None
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _tell(message: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except OSError:
        raise _Gone from None


def _nobody_there() -> bool:
    """Whether the one who asks has closed his end, as his death does."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


class _Asker:
    """The one who asks, while a wish is being done."""

    def __init__(self, record: dict[str, Any], number: object) -> None:
        self.record = record
        self._number = number
        self._going = True

    def tell(self, message: dict[str, Any]) -> None:
        """One message, of this wish."""
        _tell({**message, "id": self._number})

    def save(self) -> None:
        """Have the record written to the journal."""
        from qtop.errors import Refused

        self.tell({"extended": self.record})
        if _hear().get("saved") is not True:
            raise Refused("the journal could not be written")

    def say(self, text: str) -> None:
        """Progress."""
        self.tell({"say": text})
        self._going = _hear().get("go") is True

    def cancelled(self) -> bool:
        """It was called off, or nobody is left who would put it back."""
        return not self._going or _nobody_there()


def _grant(wish: dict[str, Any]) -> None:
    """Do one thing, if a knob vouches for it, and answer."""
    from qtop.act.change import Work
    from qtop.act.knobs import knob
    from qtop.errors import QtopError

    record = wish.get("record")
    asker = _Asker(record if isinstance(record, dict) else {}, wish.get("id"))
    work = Work(asker.save, asker.say, asker.cancelled)
    answer: dict[str, Any] = {"done": True}
    try:
        target = knob(str(wish.get("knob")))
        target.check(asker.record)
        {"apply": target.apply, "restore": target.restore}[str(wish.get("do"))](asker.record, work)
    except QtopError as error:
        answer = {"refused": error.message[:MOST_SAID], "hint": error.hint[:MOST_SAID]}
    except OSError as error:
        answer = {"refused": f"{error.filename or 'it'}: {error.strerror}"[:MOST_SAID]}
    except _Gone:
        raise
    except Exception as error:  # a record of somebody's making: no traceback reaches a user
        answer = {"refused": f"this record means nothing to root's helper ({type(error).__name__})"}
    asker.tell(answer)


def _own_package() -> None:
    """Make ``import qtop`` mean the package that this file is a part of, and no other name findable beside it."""
    folder = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(
        "qtop", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["qtop"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def main() -> int:
    """0 when nobody asks any more, 2 when it is not root."""
    # Ctrl-C reaches all who share the terminal; when to stop, the one who asks decides.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    if os.geteuid() != 0:
        print("qtop's helper: it is for root", file=sys.stderr)
        return 2
    os.umask(0o022)
    _own_package()
    try:
        _tell({"qtop": "helper"})
        while wish := _hear():
            _grant(wish)
    except _Gone:
        # What is buffered for him cannot be delivered, and an attempt to at the exit would be an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
