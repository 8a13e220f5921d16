"""A real systemd as the manager of its own little system: namespaces of its own, a cgroup of its own, a few units.

It sees the host's files but for /run, the unit folders and one user more, and the host's network. Its journal and,
where dbus-daemon is installed, its bus are real too, so that a user may ask it. Needs root and a cgroup v2 tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from tests.fakes.ordinary_user import NAME, UID
from tests.fakes.spawned import ROOT, CannotStart, with_parent

from qtop.demo.server import answers, free_port

PATIENCE_S = 60.0
SYSTEMD = Path("/lib/systemd/systemd")
LIKE = Path(__file__).with_name("llama_like.py")
UNITS = Path("/usr/lib/systemd/system")
LENT = (
    "sysinit.target", "basic.target", "sockets.target", "shutdown.target", "umount.target", "final.target",
    "multi-user.target", "systemd-journald.service", "systemd-journald.socket", "dbus.service", "dbus.socket",
)  # fmt: skip
"""Units of the host's that it may have; all others are not there."""
TARGET = """[Unit]
Requires=basic.target
Wants=systemd-journald.socket systemd-journald.service dbus.socket
AllowIsolate=yes
"""
BEGIN = """
set -e
mount -t tmpfs tmpfs /run
mount --bind "$1/units" /usr/lib/systemd/system
mount --bind "$1/etc" /etc/systemd/system
mount -t cgroup2 none /sys/fs/cgroup
cp /etc/passwd "$1/passwd"; echo "$2:x:$3:$3::/:/bin/sh" >> "$1/passwd"; mount --bind "$1/passwd" /etc/passwd
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --system --unit=default.target --log-target=console
"""


def _tree() -> Path | None:
    """Where the cgroup v2 tree is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return Path(words[1])
    return None


def why_not() -> str | None:
    """What is missing for a systemd here, as a line for a person; None where nothing is."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not SYSTEMD.exists():
        return "no systemd: apt-get install --no-install-recommends systemd"
    if missing := [name for name in ("unshare", "nsenter", "systemctl", "journalctl") if shutil.which(name) is None]:
        return f"no {' and no '.join(missing)}"
    if _tree() is None:
        return "no cgroup v2 tree is mounted"
    return None


class SystemdLab:
    """The manager, from ``with`` to its end; all that it writes to is in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.etc, self.log = folder, folder / "etc", folder / "systemd.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._cgroup: Path | None = None
        self._stdin = -1
        self.pid = 0

    def __enter__(self) -> Self:
        if (missing := why_not()) is not None:
            raise CannotStart(missing)
        tree = _tree()
        assert tree is not None
        self._cgroup = tree / f"qtop-lab-{os.getpid()}-{self.folder.name}"
        self._cgroup.mkdir()
        units = self.folder / "units"
        units.mkdir()
        self.etc.mkdir()
        for name in LENT:
            if (UNITS / name).exists():
                shutil.copy(UNITS / name, units / name)
        (units / "default.target").write_text(TARGET)
        # A pipe that never ends: the demo server ends with its standard input.
        os.mkfifo(self.folder / "stdin")
        self._stdin = os.open(self.folder / "stdin", os.O_RDWR | os.O_CLOEXEC)
        enter = 'echo $$ > "$0/cgroup.procs"; exec "$@"'
        apart = ("setsid", "unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--uts", "--ipc", "--cgroup")
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [
                    *with_parent(),
                    "sh",
                    "-c",
                    enter,
                    self._cgroup,
                    *apart,
                    "sh",
                    "-c",
                    BEGIN,
                    "sh",
                    self.folder,
                    NAME,
                    str(UID),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _until(self._answers, f"systemd did not answer within {PATIENCE_S:.0f} s", self.said)
        except BaseException:
            self.stop()
            raise
        return self

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise CannotStart(f"systemd ended with status {self._child.returncode}:\n{self.said()}")
        if not self.pid:
            children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
            if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
                return False
            self.pid = int(children[0])
        return self.call("systemctl", "is-active", "--quiet", "default.target").returncode == 0

    def said(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2000:]

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "--wd=/", "--")

    def call(self, *words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command there; whatever comes of it is the caller's matter."""
        return subprocess.run(
            [*self.inside, *words], capture_output=True, text=True, timeout=180, check=False, env=environ
        )

    def __call__(self, *words: str) -> str:
        """What a command there prints; CannotStart with what it says where it fails."""
        done = self.call(*words)
        if done.returncode:
            raise CannotStart(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self("systemctl", "show", "--value", "-p", name, unit)

    def llamacpp(self, model: Path, name: str = "llama.service", more: str = "", **sizes: int) -> LlamaInUnit:
        """A real llama.cpp server as a unit, started and ready; ``more``: lines of [Service]; ``sizes`` as its flags.

        Its words are written as people write them: a specifier, variables, quotes.
        """
        port = free_port()
        given = {"threads": 1, "parallel": 4, "ctx_size": 512} | sizes
        flags = " ".join(f"--{flag.replace('_', '-')} {value}" for flag, value in given.items())
        (self.etc / name).write_text(
            "[Service]\n"
            f"Environment=PYTHONPATH={ROOT / 'tui'} PORT={port} MORE='{flags}'\n"
            f"StandardInput=file:{self.folder / 'stdin'}\nStandardOutput=journal\nStandardError=journal\n"
            f"ExecStart=-{sys.executable} -P -m qtop.demo.serve --model '{model}' \\\n"
            '  --port ${PORT} --alias "a %N $$1" $MORE --log -\n'
            f"{more}\n"
        )
        return self._started(name, port)

    def light(self, name: str = "light.service", more: str = "", flags: str = "") -> LlamaInUnit:
        """What is like llama-server, as a unit, started and ready; ``more``: lines of [Service]."""
        port = free_port()
        command = " ".join([*self.light_command(port), "--model 'one %N'", flags])
        (self.etc / name).write_text(f"[Service]\nExecStart={command}\n{more}\n")
        return self._started(name, port)

    def light_command(self, port: int) -> list[str]:
        """How what is like llama-server is started."""
        program = self.folder / "llama-server"
        shutil.copy(LIKE, program)
        return ["/usr/bin/python3", "-S", str(program), "--port", str(port)]

    def user_manager(self, uid: int = UID) -> tuple[str, ...]:
        """A user's own manager, started and ready; what a command begins with to run as that user."""
        unit = f"user@{uid}.service"
        (self.etc / unit).write_text(
            f"[Service]\nUser={uid}\nSlice=user-{uid}.slice\nType=notify\nDelegate=yes\n"
            f"RuntimeDirectory=user/{uid}\nEnvironment=XDG_RUNTIME_DIR=/run/user/{uid} HOME=/\n"
            f"ExecStart={SYSTEMD} --user --unit=basic.target\n"
        )
        self("systemctl", "daemon-reload")
        self("systemctl", "start", unit)
        own = f"XDG_RUNTIME_DIR=/run/user/{uid}"
        return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "env", own)

    def _started(self, name: str, port: int) -> LlamaInUnit:
        self("systemctl", "daemon-reload")
        self("systemctl", "start", name)
        server = LlamaInUnit(self, name, port)
        _until(server.answers, f"{name} did not answer within {PATIENCE_S:.0f} s", self.said)
        return server

    def stop(self) -> None:
        """End it with all that runs below it."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()  # unshare takes its first process with it, and that one the namespace
            child.wait()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
        if self._cgroup is not None:
            deadline = time.monotonic() + 10
            while self._cgroup.exists() and time.monotonic() < deadline:
                for one in sorted(self._cgroup.rglob("*"), key=lambda path: -len(path.parts)):
                    if one.is_dir():
                        _gone(one)
                _gone(self._cgroup)
                time.sleep(0.05)
            self._cgroup = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class LlamaInUnit:
    """A llama.cpp server in a unit."""

    def __init__(self, lab: SystemdLab, unit: str, port: int) -> None:
        self.lab, self.unit, self.port = lab, unit, port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        """Of the server, as the manager numbers it."""
        return int(self.lab.show(self.unit, "MainPID"))

    @property
    def words(self) -> list[str]:
        """Its command line."""
        return self.lab("cat", f"/proc/{self.pid}/cmdline").rstrip("\0").split("\0")

    def answers(self) -> bool:
        """Whether it is ready; CannotStart once it has ended."""
        if self.lab.show(self.unit, "ActiveState") == "failed":
            raise CannotStart(f"{self.unit} failed:\n{self.lab.call('journalctl', '-n', '20').stdout}")
        return answers(self.port)


def _gone(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass  # a process in it is about to end


def _until(true: Callable[[], bool], message: str, more: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise CannotStart(f"{message}:\n{more()}")
        time.sleep(0.05)


@contextmanager
def systemd_here() -> Iterator[tuple[SystemdLab, Path]]:
    """A manager for a test and its folder; the test is skipped where there can be none."""
    if (missing := why_not()) is not None:
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="qtop-systemd-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        with SystemdLab(Path(folder)) as running:
            yield running, Path(folder)
