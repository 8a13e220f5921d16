"""An ordinary user of this host who is on no other: he exists in a mount namespace only, with a password and a sudoers
file of his own there. Nothing of the host's is changed, and nothing is left behind.

In there /proc shows him his own processes only, so that qtop finds no server that it was not given.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.crash import ROOT

NAME, UID, PASSWORD = "qtop-ordinary", 61_234, "open sesame"
HASH = "$6$qtopqtop$icFr0O8v1Hyi.PbB/QepNuze5qOED8z60mUbeCQzkn4SvCZnood7XR.Z7p0JXabcNWRWidrXSK./M.OiCH4T20"
"""Of that password, by crypt(3)."""
PROMPT = b"password for qtop-ordinary:"
RUNS_ALL = f"{NAME} ALL=(ALL) NOPASSWD: ALL"
RUNS_ALL_WITH_PASSWORD = f"{NAME} ALL=(ALL) ALL"

_ENTER = r"""
set -e
mount -t tmpfs none /mnt
cp /etc/passwd /etc/shadow /etc/group /mnt/
echo "$QT_NAME:x:$QT_UID:$QT_UID::$QT_HOME:/bin/sh" >> /mnt/passwd
echo "$QT_NAME:$QT_HASH:19000:0:99999:7:::" >> /mnt/shadow
echo "$QT_NAME:x:$QT_UID:" >> /mnt/group
for name in passwd shadow group; do mount --bind /mnt/$name /etc/$name; done
mount -t tmpfs -o mode=750 none /etc/sudoers.d
[ -z "$QT_SUDOERS" ] || (umask 337; echo "$QT_SUDOERS" > /etc/sudoers.d/qtop)
mkdir -p /run/sudo; mount -t tmpfs none /run/sudo
mount -t proc -o hidepid=2 proc /proc
case "$QT_PYTHON" in /root/*)
  mkdir -p /mnt/python; mount --bind "$QT_PYTHON" /mnt/python
  mount -t tmpfs -o mode=755 none /root; mkdir -p "$QT_PYTHON"; mount --bind /mnt/python "$QT_PYTHON" ;;
esac
cd /
exec setpriv --reuid "$QT_UID" --regid "$QT_UID" --init-groups env -i HOME="$QT_HOME" LANG=C.UTF-8 TERM=xterm \
  PYTHONPATH="$QT_IMPORT" PYTHONDONTWRITEBYTECODE=1 XDG_STATE_HOME="$QT_HOME/state" \
  XDG_CONFIG_HOME="$QT_HOME/config" PATH="$QT_PATH" "$@"
"""


@dataclass
class Done:
    """How it ended: its status, its terminal, and what it wrote to standard output and error."""

    returncode: int
    terminal: str
    stdout: str
    stderr: str


class OrdinaryUser:
    """Runs commands as him; ``home`` is his, with qtop's journal in it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for folder in (home, home / "state", home / "bin"):
            folder.mkdir(exist_ok=True)
            os.chown(folder, UID, UID)

    @property
    def journal(self) -> Path:
        return self.home / "state/qtop/journal.jsonl"

    def command(self, words: Sequence[str], sudoers: str, path: str = "") -> tuple[list[str], dict[str, str]]:
        """What runs it, and the environment that this takes. ``path`` replaces the usual one."""
        environ = {
            **os.environ,
            "QT_NAME": NAME,
            "QT_UID": str(UID),
            "QT_HASH": HASH,
            "QT_HOME": str(self.home),
            "QT_SUDOERS": sudoers,
            "QT_PYTHON": sys.base_prefix,
            "QT_IMPORT": f"{ROOT / 'tui'}{os.pathsep}{ROOT}",
            "QT_PATH": path or f"{self.home / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", _ENTER, "sh", *words], environ

    def run(self, words: Sequence[str], sudoers: str = "", path: str = "") -> Done:
        """Without a terminal."""
        command, environ = self.command(words, sudoers, path)
        done = subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            start_new_session=True,
        )
        return Done(done.returncode, "", done.stdout, done.stderr)

    def at_terminal(
        self, words: Sequence[str], answers: Sequence[tuple[bytes, bytes]], sudoers: str = "", path: str = ""
    ) -> Done:
        """At a terminal, typing each answer once its question has been seen there or in the output. Standard output and
        error are no terminals, so that they can be told from what is shown on it."""
        command, environ = self.command(words, sudoers, path)
        ours, theirs = pty.openpty()

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)

        child = subprocess.Popen(
            command, env=environ, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=take_terminal
        )
        os.close(theirs)
        assert child.stdout is not None
        assert child.stderr is not None
        names = {ours: "terminal", child.stdout.fileno(): "stdout", child.stderr.fileno(): "stderr"}
        shown = dict.fromkeys(names.values(), b"")
        seen, waiting = b"", list(answers)
        deadline = time.monotonic() + 90.0
        open_fds = set(names)
        while open_fds - {ours} and time.monotonic() < deadline:
            for fd in select.select(list(open_fds), [], [], 0.5)[0]:
                try:
                    data = os.read(fd, 4096)
                except OSError:  # nobody has the terminal open any more
                    data = b""
                if not data:
                    open_fds.discard(fd)
                shown[names[fd]] += data
                seen += data
                if waiting and waiting[0][0] in seen:
                    seen = b""
                    os.write(ours, waiting.pop(0)[1])
        os.close(ours)
        if time.monotonic() >= deadline:
            child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            pipe.close()
        return Done(
            child.returncode, *(shown[name].decode(errors="replace") for name in ("terminal", "stdout", "stderr"))
        )


def why_not() -> str:
    """Why there can be no such user here, "" where there can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("sudo", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder, "home")
        home.mkdir()
        done = OrdinaryUser(home).run([sys.executable, "-c", "import qtop, os; print(os.getuid())"])
    if done.stdout.strip() != str(UID):
        told = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        return f"cannot make an ordinary user here: {told}"
    return ""
