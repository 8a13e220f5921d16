"""A real dockerd of its own in a folder: nothing of the machine's own Docker is touched, no registry is asked.
Containers have the host's network and, read-only, its programs and libraries: an image is some links and empty folders.

Needs root, Debian's package docker.io, and cgroups in which groups can be made.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from tests.fakes.spawned import ROOT, CannotStart, with_parent

from qtop.demo.server import answers, free_port

PATIENCE_S = 60.0
TRIES = 10
IMAGE = "qtop-lab:host"
SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "usr")
# fmt: off
WORDS = (
    "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none",
    # An image of links needs no layers, and this driver works on every file system.
    "--storage-driver=vfs",
)
# fmt: on


def why_not() -> str | None:
    """What is missing for a dockerd here, as a line for a person; None where nothing is."""
    if os.geteuid() != 0:
        return "a dockerd of its own needs root"
    if missing := [name for name in ("dockerd", "docker", "containerd", "runc") if shutil.which(name) is None]:
        return f"no {' and no '.join(missing)}: apt-get install --no-install-recommends docker.io"
    return None


class Docker:
    """The daemon, from ``with`` to its end; ``folder`` (short: it holds a socket) is all that it writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.log = folder, folder / "docker.sock", folder / "dockerd.log"
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if (missing := why_not()) is not None:
            raise CannotStart(missing)
        where = ("--data-root", self.folder / "data", "--exec-root", self.folder / "exec", "-p", self.folder / "pid")
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [*with_parent(), "dockerd", *where, "-H", f"unix://{self.socket}", *WORDS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _until(self._answers, f"dockerd did not answer within {PATIENCE_S:.0f} s", self._end_of_log)
            self._import()
        except BaseException:
            self.stop()
            raise
        return self

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise CannotStart(f"dockerd ended with status {self._child.returncode}:\n{self._end_of_log()}")
        return self.socket.exists() and self.call("version").returncode == 0

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def call(self, *words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run the client; whatever comes of it is the caller's matter."""
        command = ["docker", "-H", f"unix://{self.socket}", *words]
        return subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE_S, check=False)

    def __call__(self, *words: str, data: bytes | None = None) -> str:
        """What the client prints; CannotStart with what it says where it fails."""
        done = self.call(*words, data=data)
        if done.returncode:
            raise CannotStart(f"docker {words[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode().strip()

    def _import(self) -> None:
        """The image: what of the host's root is a link stays one, the rest are folders to mount on. /sbin is its own:
        there the daemon lays its init."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in (*SYSTEM, "sbin", "etc", "proc", "sys", "dev", "tmp", "run"):
                entry, here = tarfile.TarInfo(name), Path("/", name)
                entry.mode, entry.type = 0o755, tarfile.DIRTYPE
                if name in SYSTEM and not here.exists():
                    continue
                if here.is_symlink() and name in SYSTEM:
                    entry.type, entry.linkname = tarfile.SYMTYPE, str(here.readlink())
                tar.addfile(entry)
        self("import", "-", IMAGE, data=packed.getvalue())

    def run(
        self,
        name: str,
        command: Iterable[str],
        *options: str,
        shared: Iterable[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Container:
        """Start a container with the host's network; ``shared`` folders are there too, read-only, under their paths.

        Standard input stays open; ``docker stop`` ends it at once (``--init``).
        """
        words = ["run", "--detach", "--interactive", "--init", "--network", "host", "--name", name]
        for folder in dict.fromkeys((*_system_folders(), *shared)):
            words += ["--volume", f"{folder.resolve()}:{folder}:ro"]
        for key, value in (variables or {}).items():
            words += ["--env", f"{key}={value}"]
        container = Container(self, name)
        self(*words, *options, IMAGE, *command)
        return container

    def light(self, *options: str, name: str = "light", more: Iterable[str] = ()) -> LlamaInDocker:
        """What is like llama-server, in a container, started and ready; ``more``: flags of it."""
        server = LlamaInDocker(
            self.run(name, [*self.light_command(port := free_port()), *more], *options, shared=[self.folder / "share"]),
            port,
        )
        _until(server.answers, f"the server did not answer within {PATIENCE_S:.0f} s", server.container.said)
        return server

    def light_command(self, port: int) -> list[str]:
        """How what is like llama-server is started; its program lies in a folder of its own."""
        share = self.folder / "share"
        share.mkdir(exist_ok=True)
        program = share / "llama-server"
        shutil.copy(Path(__file__).with_name("llama_like.py"), program)
        return ["/usr/bin/python3", "-S", str(program), "--port", str(port)]

    def compose(self, folder: Path, services: Mapping[str, Iterable[str]], **more: object) -> None:
        """A project of these services (name: command), up; all see what the light server needs."""
        folder.mkdir()
        shared = [f"{one}:{one}:ro" for one in (*_system_folders(), self.folder / "share")]
        one = {"image": IMAGE, "network_mode": "host", "init": True, "volumes": shared, **more}
        told = {name: {**one, "command": list(command)} for name, command in services.items()}
        (folder / "docker-compose.yml").write_text(json.dumps({"version": "3.7", "services": told}))
        subprocess.run(
            ["docker-compose", "up", "--detach"], cwd=folder, env=self.environ(), capture_output=True, check=True
        )

    def environ(self) -> dict[str, str]:
        """For programs that are to talk to this daemon."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}

    def llamacpp(
        self, model: Path, *options: str, name: str = "llama", threads: int = 1, **sizes: int
    ) -> LlamaInDocker:
        """A real llama.cpp server in a container, started and ready; ``sizes``: parallel, context (as the demo's)."""
        port = free_port()
        command = [sys.executable, "-P", "-m", "qtop.demo.serve", "--model", str(model), "--port", str(port)]
        command += ["--threads", str(threads), "--parallel", str(sizes.get("parallel", 4))]
        command += ["--ctx-size", str(sizes.get("context", 8192)), "--cache-ram", "0", "--log", "-"]
        # The interpreter, its packages, qtop and the model: the least that is needed, wherever they lie.
        shared = [Path(sys.base_prefix), Path(sys.prefix), ROOT / "tui", model.parent]
        outside = [one for one in shared if not one.is_relative_to("/usr")]
        container = self.run(name, command, *options, shared=outside, variables={"PYTHONPATH": str(ROOT / "tui")})
        server = LlamaInDocker(container, port)
        _until(server.answers, f"llama.cpp did not answer within {PATIENCE_S:.0f} s", container.said)
        return server

    def stop(self) -> None:
        """End the containers, then the daemon; what it mounted is unmounted."""
        child, self._child = self._child, None
        if child is None:
            return
        for left in self("ps", "--all", "--quiet").split():  # also those that a test's subject made
            self.call("rm", "--force", left)
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (point := line.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", point], check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Container:
    """One container of a ``Docker``."""

    def __init__(self, docker: Docker, name: str) -> None:
        self.docker, self.name = docker, name

    def inspect(self) -> dict[str, Any]:
        """What the daemon knows of it."""
        (found,) = json.loads(self.docker("inspect", self.name))
        assert isinstance(found, dict)
        return found

    @property
    def pid(self) -> int:
        """Of its first process, as the host numbers it; CannotStart once it has ended."""
        number = int(self.inspect()["State"]["Pid"])
        if not number:
            raise CannotStart(f"the container {self.name} has ended:\n{self.said()}")
        return number

    def update(self, *words: str) -> None:
        """``docker update``; a memory limit below what is used takes several goes, each takes some pages back."""
        for _ in range(TRIES - 1):
            done = self.docker.call("update", *words, self.name)
            if not done.returncode or b"unable to set memory limit" not in done.stderr:
                break
        if done.returncode:
            self.docker("update", *words, self.name)

    def said(self) -> str:
        """The end of what it printed."""
        done = self.docker.call("logs", self.name)
        return (done.stdout + done.stderr).decode(errors="replace")[-2000:]

    def remove(self) -> None:
        """End it at once, and forget it; nothing happens where it never was."""
        self.docker.call("rm", "--force", self.name)


class LlamaInDocker:
    """A llama.cpp server in a container."""

    def __init__(self, container: Container, port: int) -> None:
        self.container, self.port = container, port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        """Of the server itself (the container's first process is its init)."""
        first = self.container.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return int(children[0]) if children else first

    def answers(self) -> bool:
        """Whether it is ready; CannotStart once it has ended."""
        assert self.container.pid
        return answers(self.port, 2.0)


def _system_folders() -> list[Path]:
    """What of the host's root holds programs and libraries, links left out."""
    return [Path("/", one) for one in SYSTEM if Path("/", one).is_dir() and not Path("/", one).is_symlink()]


def _until(true: Callable[[], bool], message: str, more: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise CannotStart(f"{message}:\n{more()}")
        time.sleep(0.1)


@contextmanager
def docker_here() -> Iterator[Docker]:
    """A daemon for a test, which is skipped where there can be none."""
    if (missing := why_not()) is not None:
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="qtop-docker-", dir="/var/tmp") as folder, Docker(Path(folder)) as running:
        yield running
