"""Who makes a change: this process, or the helper, which is root.

The helper is started once for a transaction, through sudo or pkexec; who wants a password asks for it on the terminal.
It gets a knob's name and a record, a line of JSON each, never a command; see ``helper.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self

from qtop.act.change import Knob, Record, Work
from qtop.errors import QtopError, Refused

HELPER = Path(__file__).with_name("helper.py")
GREETING_S = 300.0
"""For a person to type a password; sudo itself gives up after five minutes."""
ANSWER_S = 60.0
"""Without a word from the helper; each word of progress begins it anew."""
LINE = 4 << 20
"""Bytes of one answer at most."""


class Hands:
    """Applies and restores: by itself what takes no root, through the helper what does."""

    def __init__(self, interactive: bool = True) -> None:
        """``interactive``: there is a terminal on which a password may be asked for."""
        self._interactive = interactive
        self._helper: subprocess.Popen[bytes] | None = None

    def ready(self) -> None:
        """Have the helper, asking for a password where one is wanted. Refused, in one line, when there is none to be
        had. Nothing to do for root."""
        if os.geteuid() == 0 or self._helper is not None:
            return
        command = elevation(self._interactive)
        try:
            helper = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if self._interactive else subprocess.DEVNULL,
            )
        except OSError as error:
            raise Refused(f"{command[0]} cannot be started: {error.strerror}", NOTHING) from None
        self._helper = helper
        try:
            hello = self._hear(GREETING_S)
        except QtopError:
            self.close()
            raise Refused(
                f"{Path(command[0]).name} did not let qtop become root",
                "Nothing was changed; `sudo qtop …` does it too.",
            ) from None
        if hello.get("qtop") != "helper":
            self.close()
            raise Refused("the helper does not speak as qtop's does", NOTHING)

    def apply(self, knob: Knob, record: Record, root: bool, work: Work) -> None:
        """As ``knob.apply``; with ``root`` through the helper, unless this process is root."""
        if root and os.geteuid() != 0:
            self._ask("apply", knob, record, work)
        else:
            knob.apply(record, work)

    def restore(self, knob: Knob, record: Record, root: bool, work: Work) -> None:
        """As ``knob.restore``."""
        if root and os.geteuid() != 0:
            self._ask("restore", knob, record, work)
        else:
            knob.restore(record, work)

    def _ask(self, do: str, knob: Knob, record: Record, work: Work) -> None:
        self.ready()
        self._tell({"do": do, "knob": knob.id, "record": record})
        while True:
            answer = self._hear(ANSWER_S)
            if "say" in answer:
                work.say(str(answer["say"]))
                self._tell({"go": not work.cancelled()})
            elif isinstance(answer.get("extended"), dict):
                record.clear()
                record.update(answer["extended"])
                work.save()
                self._tell({"saved": True})
            elif "refused" in answer:
                raise Refused(str(answer["refused"]), str(answer.get("hint", "")))
            elif answer.get("done"):
                return

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._helper is not None
        assert self._helper.stdin is not None
        try:
            self._helper.stdin.write(json.dumps(message).encode() + b"\n")
            self._helper.stdin.flush()
        except OSError:
            raise Refused("the helper has ended", "`qtop undo` puts back what it did.") from None

    def _hear(self, seconds: float) -> dict[str, Any]:
        """One answer; Refused when none comes in time, or what comes is none."""
        helper = self._helper
        assert helper is not None
        assert helper.stdout is not None
        line = _line(helper.stdout, seconds)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Refused("the helper has ended" if not line else "the helper cannot be understood", "Run `qtop undo`.")
        return answer

    def close(self) -> None:
        """Let the helper end: it does so by itself when nobody talks to it any more."""
        helper, self._helper = self._helper, None
        if helper is None:
            return
        for pipe in (helper.stdin, helper.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            helper.wait(5)
        except subprocess.TimeoutExpired:
            with suppress(OSError):  # it is root's: the kernel may not let us
                helper.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def using(hands: Hands | None) -> AbstractContextManager[Hands]:
    """These, which their owner closes, or some of one's own that ask nobody for a password."""
    return nullcontext(hands) if hands is not None else Hands(interactive=False)


NOTHING = "Nothing was changed."


def elevation(interactive: bool) -> list[str]:
    """The command that starts the helper as root; Refused where nothing here can, or not without a terminal."""
    # -I: neither the environment nor the working directory chooses what a root process imports.
    helper = [sys.executable, "-I", str(HELPER)]
    if sudo := shutil.which("sudo"):
        if not interactive and not _without_password(sudo):
            raise Refused(
                "this change takes root, and sudo wants a password for which there is no terminal",
                "Nothing was changed. Run it in a terminal, or as `sudo qtop …`.",
            )
        return [sudo, "--", *helper] if interactive else [sudo, "-n", "--", *helper]
    if pkexec := shutil.which("pkexec"):
        return [pkexec, *helper]
    raise Refused("this change takes root, and there is neither sudo nor pkexec here", "Run qtop as root.")


def asks_nothing() -> bool:
    """True if the helper can be had without a word to anybody."""
    sudo = shutil.which("sudo")
    return os.geteuid() == 0 or (sudo is not None and _without_password(sudo))


def _without_password(sudo: str) -> bool:
    words: Sequence[str] = (sudo, "-n", "-l", "--", sys.executable, "-I", str(HELPER))
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _line(pipe: IO[bytes], seconds: float) -> bytes:
    """One line of a pipe, "" at its end or when none comes in time."""
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.readline(LINE)), daemon=True)
    reader.start()
    reader.join(seconds)
    return got[0] if got else b""
