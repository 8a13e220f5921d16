"""An ordinary user of this host who is on no other: he exists in a mount namespace only, with a password and a sudoers
file of his own there. Nothing of the host's is changed, and nothing is left behind.

In there /proc shows him his own processes only, so that qtop finds no server that it was not given, and vm.swappiness
is a file of root's, so that the host's stays what it is.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.crash import ROOT

from qtop.act.journal import Journal

NAME, UID, PASSWORD = "qtop-ordinary", 61_234, "open sesame"
HASH = "$6$qtopqtop$icFr0O8v1Hyi.PbB/QepNuze5qOED8z60mUbeCQzkn4SvCZnood7XR.Z7p0JXabcNWRWidrXSK./M.OiCH4T20"
"""Of that password, by crypt(3)."""
PROMPT = b"password for qtop-ordinary:"
RUNS_ALL = f"{NAME} ALL=(ALL) NOPASSWD: ALL"
RUNS_ALL_WITH_PASSWORD = f"{NAME} ALL=(ALL) ALL"
POLKIT_LETS_HIM = (
    'polkit.addRule(function(action, subject) { if (action.id == "org.freedesktop.policykit.exec" && '
    f'subject.user == "{NAME}") return polkit.Result.YES; }});'
)

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
# polkitd, which is no more than a user either, has to see whom it is asked for; there a PID namespace hides the others.
if [ -n "$QT_POLKIT" ]; then mount -t proc proc /proc; else mount -t proc -o hidepid=2 proc /proc; fi
mount --bind "$QT_SWAPPINESS" /proc/sys/vm/swappiness
if [ -n "$QT_POLKIT" ]; then
  mount -t tmpfs none /run; mkdir /run/dbus
  mount -t tmpfs none /etc/polkit-1/rules.d
  echo "$QT_POLKIT" > /etc/polkit-1/rules.d/50-qtop.rules; chmod 755 /etc/polkit-1/rules.d
  dbus-daemon --system --fork --nopidfile
  /usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 &
  tries=0
  until dbus-send --system --print-reply --dest=org.freedesktop.DBus /org/freedesktop/DBus \
    org.freedesktop.DBus.GetNameOwner string:org.freedesktop.PolicyKit1 >/dev/null 2>&1
  do tries=$((tries + 1)); [ $tries -lt 100 ]; sleep 0.1; done
fi
case "$QT_PYTHON" in /root/*)
  mkdir -p /mnt/python; mount --bind "$QT_PYTHON" /mnt/python
  mount -t tmpfs -o mode=755 none /root; mkdir -p "$QT_PYTHON"; mount --bind /mnt/python "$QT_PYTHON" ;;
esac
cd /
# pkexec serves no child of a namespace's first process, so that one stays.
[ -n "$QT_POLKIT" ] || exec=exec
$exec setpriv --reuid "$QT_UID" --regid "$QT_UID" --init-groups env -i HOME="$QT_HOME" LANG=C.UTF-8 TERM=xterm \
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
    """Runs commands as him. ``folder`` holds his home, with qtop's journal in it, and what stands for vm.swappiness."""

    def __init__(self, folder: Path, sudoers: str = "", polkit: str = "") -> None:
        """``sudoers``: his line of sudoers(5). ``polkit``: a rule of polkit, which runs then."""
        self.sudoers, self.polkit = sudoers, polkit
        self.home, self.swappiness = folder / "home", folder / "swappiness"
        folder.chmod(0o755)
        for one in (self.home, self.home / "state", self.home / "bin"):
            one.mkdir(exist_ok=True)
            os.chown(one, UID, UID)
        self.swappiness.write_text("60\n")
        self.path = f"{self.home / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    @property
    def journal(self) -> Journal:
        return Journal(self.home / "state/qtop/journal.jsonl")

    def command(self, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """What runs it, and the environment that this takes."""
        told = {
            "NAME": NAME,
            "UID": str(UID),
            "HASH": HASH,
            "HOME": str(self.home),
            "SUDOERS": self.sudoers,
            "POLKIT": self.polkit,
            "PYTHON": sys.base_prefix,
            "IMPORT": f"{ROOT / 'tui'}{os.pathsep}{ROOT}",
            "PATH": self.path,
            "SWAPPINESS": str(self.swappiness),
        }
        # What polkit takes to run ends with the command: it is the first process of a namespace then.
        apart = ["-p", "--fork", "--kill-child"] if self.polkit else []
        return (
            ["unshare", "-m", "--propagation", "private", *apart, "sh", "-c", _ENTER, "sh", *words],
            {**os.environ, **{f"QT_{name}": value for name, value in told.items()}},
        )

    def run(self, words: Sequence[str]) -> Done:
        """Without a terminal."""
        command, environ = self.command(words)
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

    def at_terminal(self, words: Sequence[str], *answers: tuple[bytes | Path, bytes]) -> Done:
        """At a terminal, typing each answer once its question has been seen there or in the output, or once its file is
        there. Standard output and error are no terminals, so that they can be told from what is shown on it."""
        command, environ = self.command(words)
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            ["setsid", "--ctty", *command], env=environ, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
            for fd in select.select(list(open_fds), [], [], 0.1)[0]:
                try:
                    data = os.read(fd, 4096)
                except OSError:  # nobody has the terminal open any more
                    data = b""
                if not data:
                    open_fds.discard(fd)
                shown[names[fd]] += data
                seen += data
            if waiting and _come(waiting[0][0], seen):
                seen = b""
                time.sleep(0.3)  # no person is quicker; sudo misses a Ctrl-C just before it begins to read
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


def _come(question: bytes | Path, seen: bytes) -> bool:
    return question in seen if isinstance(question, bytes) else question.exists()


def why_not() -> str:
    """Why there can be no such user here, "" where there can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("sudo", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        done = OrdinaryUser(Path(folder)).run([sys.executable, "-c", "import qtop, os; print(os.getuid())"])
    if done.stdout.strip() != str(UID):
        told = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        return f"cannot make an ordinary user here: {told}"
    return ""
