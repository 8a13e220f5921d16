"""systemd asked and told, by ``systemctl`` and ``journalctl``: they know how to reach a system's and a user's manager.

The bus would say the same; it is not there in every container, and a user's manager hides it elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from qtop.act.change import Work
from qtop.act.launchers.launcher import sayer
from qtop.errors import Refused

ANSWER_S = 20.0
NAME = re.compile(r"[A-Za-z0-9:_.@\\-]{1,250}\.service")
LINES = 300
SPANS = {
    "us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "month": 2629800, "y": 31557600,
}  # fmt: skip


@dataclass(frozen=True)
class Manager:
    """The system's manager, or that of the user whom qtop runs as."""

    user: bool = False

    def _environ(self) -> dict[str, str]:
        runtime = f"/run/user/{os.geteuid()}"
        own = {} if "XDG_RUNTIME_DIR" in os.environ or not Path(runtime).is_dir() else {"XDG_RUNTIME_DIR": runtime}
        return {**os.environ, **own, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}

    def _words(self, *words: str) -> list[str]:
        return ["systemctl", *(["--user"] if self.user else []), "--no-ask-password", *words]

    def _run(self, command: list[str], patience: float | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=self._environ(),
                timeout=ANSWER_S if patience is None else patience,
                check=False,
            )
        except FileNotFoundError:
            raise Refused(f"{command[0]} is not installed here") from None
        except (OSError, subprocess.TimeoutExpired):
            raise Refused(f"systemd did not answer {' '.join(command[:3])}") from None

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit, "" for one that it has not. Errors: Refused where systemd does not answer."""
        done = self._run(self._words("show", "-p", ",".join(names), "--", unit))
        if done.returncode:
            raise Refused(f"systemd says nothing of {unit}: {_said(done.stderr)}")
        pairs = (line.partition("=") for line in done.stdout.splitlines())
        found = {name: value for name, equals, value in pairs if equals and name in names}
        return {name: found.get(name, "") for name in names}

    def do(self, *words: str) -> None:
        """A command that is quick. Errors: Refused with what systemd says."""
        done = self._run(self._words(*words))
        if done.returncode:
            raise Refused(f"systemctl {words[0]}: {_said(done.stderr)}")

    def wait(self, words: list[str], seconds: float, work: Work, text: str) -> bool:
        """A command that takes its time, with progress; False when it has not ended after ``seconds``.

        Errors: Refused with what systemd says.
        """
        begun, say = time.monotonic(), sayer(work, text)
        try:
            child = subprocess.Popen(
                self._words(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environ(),
            )
        except OSError as error:
            raise Refused(f"systemctl cannot be started: {error.strerror}") from None
        with child:
            while child.poll() is None:
                if time.monotonic() - begun > seconds:
                    child.kill()
                    return False
                say()
                time.sleep(0.05)
            said = child.stderr.read() if child.stderr is not None else ""
        if child.returncode:
            raise Refused(f"systemctl {words[0]}: {_said(said)}")
        return True

    def journal(self, unit: str, since: float) -> list[str]:
        """What a unit wrote, and systemd about it, since then (Unix seconds); none where the journal may not be
        read, or there is none."""
        try:
            return self.read_journal(unit, since)
        except Refused:
            return []

    def read_journal(self, unit: str, since: float, uid: int | None = None, patience: float = ANSWER_S) -> list[str]:
        """As ``journal``; of the user ``uid``'s unit, None: of one's own. Errors: Refused where journalctl is not there
        or says nothing within ``patience`` seconds."""
        which = ["-u", unit]
        if self.user:
            # Not --user: that reads the caller's own journal alone, which root's is not, and a volatile one has none.
            owner = f"_UID={os.geteuid() if uid is None else uid}"
            which = [f"_SYSTEMD_USER_UNIT={unit}", owner, "+", f"USER_UNIT={unit}", owner]
        command = ["journalctl", "--quiet", "--no-pager", "-o", "cat", "-n", str(LINES), f"--since=@{since:.3f}"]
        return self._run([*command, *which], patience).stdout.splitlines()


def seconds(span: str) -> float | None:
    """A time span as ``systemctl show`` prints it ("1min 30s"), in seconds; None for "infinity"."""
    parts = re.findall(r"([\d.]+)(us|ms|s|min|h|d|w|month|y)\b", span)
    return sum(float(number) * SPANS[unit] for number, unit in parts) if parts else None


def _said(stderr: str) -> str:
    """The first line of what it says."""
    return next((line.strip() for line in stderr.splitlines() if line.strip()), "it says not why")
