"""Who makes a change: this process, or the helper, which is root.

The helper is started once for a transaction, through sudo or pkexec; who wants a password asks for it on the terminal.
It gets a knob's name and a record, a line of JSON each, never a command; see ``helper.py``.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Self

from qtop.act.change import Knob, Record, Work
from qtop.act.helper_process import HelperProcess, Lost
from qtop.errors import QtopError, Refused

HELPER = Path(__file__).with_name("helper.py")
ASKED_S = 1000.0
"""For a person to type a password. sudo gives up by itself after five minutes, three times over."""
UNASKED_S = 60.0
"""For a start that asks nobody."""
ANSWER_S = 60.0
"""Without a word from the helper; each word of progress begins it anew."""
NOTHING = "Nothing was changed."


class Hands:
    """Applies and restores: by itself what takes no root, through the helper what does."""

    def __init__(self, interactive: bool = True) -> None:
        """``interactive``: there is a terminal on which a password may be asked for."""
        self._interactive = interactive
        self._helper: HelperProcess | None = None
        self._wishes = 0

    def ready(self) -> None:
        """Have the helper, asking for a password where one is wanted. Refused, in one line, when there is none to be
        had. Nothing to do for root."""
        if os.geteuid() == 0 or self._helper is not None:
            return
        command = elevation(self._interactive)
        try:
            helper = HelperProcess(command)
        except OSError as error:
            raise Refused(f"{command[0]} cannot be started: {error.strerror}", NOTHING) from None
        try:
            hello = helper.hear(ASKED_S if self._interactive or _is_pkexec(command) else UNASKED_S)
        except QtopError:
            raise self._refused(Path(command[0]).name, helper.close()) from None
        except BaseException:
            helper.close()
            raise
        if hello.get("qtop") != "helper":
            helper.close()
            raise Refused("the helper does not speak as qtop's does", NOTHING)
        self._helper = helper

    def _refused(self, name: str, reason: str) -> Refused:
        told = f": {reason}" if reason else ""
        if name == "sudo" and not self._interactive and "password" in reason:
            return Refused(
                "this change takes root, and sudo wants a password for which there is no terminal",
                f"{NOTHING} Run it in a terminal, or as `sudo qtop …`.",
            )
        return Refused(
            f"this change takes root, and {name} did not let qtop become it{told}", f"{NOTHING} Run qtop as root."
        )

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
        helper = self._helper
        assert helper is not None
        self._wishes += 1
        try:
            self._converse(helper, {"do": do, "knob": knob.id, "record": record, "id": self._wishes}, record, work)
        except Lost:
            # What it says from now on, if anything, would be taken for the answer to something else.
            self._helper = None
            helper.close(0.0)
            raise

    def _converse(self, helper: HelperProcess, wish: dict[str, Any], record: Record, work: Work) -> None:
        """Send a wish and do what is asked meanwhile. A wish before it may have been interrupted on this side, by
        Ctrl-C: what is still said of that one is told to stop, and otherwise stepped over."""
        helper.tell(wish)
        while True:
            answer = helper.hear(ANSWER_S)
            ours = answer.get("id") == wish["id"]
            if "say" in answer:
                if ours:
                    work.say(str(answer["say"]))
                helper.tell({"go": ours and not work.cancelled()})
            elif isinstance(answer.get("extended"), dict):
                if not ours:
                    helper.tell({"saved": False})
                    continue
                record.clear()
                record.update(answer["extended"])
                try:
                    work.save()
                except BaseException:
                    helper.tell({"saved": False})
                    raise
                helper.tell({"saved": True})
            elif ours and "refused" in answer:
                raise Refused(str(answer["refused"]), str(answer.get("hint", "")))
            elif ours and answer.get("done"):
                return

    def close(self) -> None:
        """Let the helper end: it does so by itself when nobody talks to it any more."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def using(hands: Hands | None) -> AbstractContextManager[Hands]:
    """These, which their owner closes, or some of one's own that ask nobody for a password."""
    return nullcontext(hands) if hands is not None else Hands(interactive=False)


def helper_command() -> list[str]:
    """The helper as root starts it: what a sudoers file would have to allow.

    -I: neither the environment nor the working directory chooses what a root process imports. -B: it leaves no files
    of root's in somebody else's folders.
    """
    return [_python(), "-I", "-B", str(HELPER)]


def elevation(interactive: bool) -> list[str]:
    """The command that starts the helper as root; Refused where nothing here can."""
    if sudo := shutil.which("sudo"):
        # sudo asks on the terminal only where it wants a password. What it would say without asking is found out by
        # asking it so: its list of what is allowed (-l) does not tell whether that takes a password.
        return [sudo, *([] if interactive else ["-n"]), "--", *helper_command()]
    if pkexec := shutil.which("pkexec"):
        return [pkexec, *helper_command()]
    raise Refused("this change takes root, and there is neither sudo nor pkexec here", f"{NOTHING} Run qtop as root.")


def _is_pkexec(command: list[str]) -> bool:
    """It may have a window of its own in which it asks."""
    return Path(command[0]).name == "pkexec"


def _python() -> str:
    """This interpreter by the name that does not depend on how qtop was started."""
    plain = Path(sys.prefix, "bin", "python3")
    try:
        return str(plain) if plain.samefile(sys.executable) else sys.executable
    except OSError:
        return sys.executable
