"""A Linux guest in QEMU, emulated (no KVM is needed): two NUMA nodes, cgroup v2 alone, root with every capability. Its
root is this host's file system, read-only, so programs and the checkout are where they are here; a shared folder can be
written.

Needs Debian's packages qemu-system-x86 and busybox-static, and apt for the kernel (70 MB, once, into the cache folder).
Emulation is slow: what takes a second here takes ten to fifty there.
"""

from __future__ import annotations

import contextlib
import itertools
import platform
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from platformdirs import user_cache_dir
from tests.fakes.spawned import ROOT, CannotStart, with_parent

PATIENCE_S = 240.0
QEMU = "qemu-system-x86_64"
MODULES = (
    *("drivers/virtio/virtio_ring", "drivers/virtio/virtio"),
    *("drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci"),
    *("fs/netfs/netfs", "fs/fscache/fscache", "net/9p/9pnet", "net/9p/9pnet_virtio", "fs/9p/9p"),
)
"""In the order in which they need each other; 9p only in Debian's full kernel, not in the cloud's."""
# fmt: off
INIT = """#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
for one in $(cat /modules/order); do insmod "/modules/$one"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /new
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,access=any share "/new{share}"
mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mount -t tmpfs tmpfs /new/run
mkdir -p /new/dev/shm && mount -t tmpfs tmpfs /new/dev/shm
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mount -t debugfs debugfs /new/sys/kernel/debug
echo "+cpu +cpuset +memory" > /new/sys/fs/cgroup/cgroup.subtree_control
ifconfig lo 127.0.0.1 up
exec switch_root /new /bin/sh "{share}/agent.sh"
"""
AGENT = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="{share}" TMPDIR="{share}" LANG=C.UTF-8
exec 3<>/dev/ttyS1
stty -F /dev/ttyS1 raw -echo
echo ready >&3
while read -r job <&3; do
  ( sh "{share}/$job.sh" >"{share}/$job.out" 2>&1 </dev/null; echo "done $job $?" >&3 ) &
done
"""
# fmt: on


def why_not() -> str | None:
    """What is missing for a guest here, as a line for a person; None where nothing is."""
    if platform.machine() != "x86_64":
        return "the guest is an x86-64 one"
    for program, package in ((QEMU, "qemu-system-x86"), ("busybox", "busybox-static"), ("dpkg", "dpkg")):
        if shutil.which(program) is None:
            return f"no {program}: apt-get install --no-install-recommends {package}"
    return None


def kernel() -> tuple[Path, Path]:
    """Debian's kernel and the folder of its modules, fetched by apt the first time."""
    home = Path(user_cache_dir("qtop")) / "guest-kernel"
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as name:
            folder = Path(name)
            depends = _output("apt-cache", "depends", "linux-image-amd64", cwd=folder)
            found = re.search(r"Depends: (linux-image-[\w.+-]+)", depends)
            if found is None:
                raise CannotStart("apt knows no linux-image-amd64: apt-get update")
            _output("apt-get", "download", found[1], cwd=folder)
            (package,) = folder.glob("*.deb")
            _output("dpkg", "-x", str(package), "unpacked", cwd=folder)
            kept = folder / "kept"
            (kept / "modules").mkdir(parents=True)
            for image in (folder / "unpacked/boot").glob("vmlinuz-*"):
                image.rename(kept / "vmlinuz")
            (modules,) = (folder / "unpacked/lib/modules").iterdir()
            for one in MODULES:
                (modules / f"kernel/{one}.ko").rename(kept / "modules" / f"{Path(one).name}.ko")
            kept.rename(home)
    return home / "vmlinuz", home / "modules"


def _output(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"{' '.join(command[:2])}: {(done.stderr.strip() or done.stdout.strip())[-300:]}")
    return done.stdout


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in the "newc" format of (name, mode, data), as the kernel unpacks it at its start."""
    packed = bytearray()
    for number, (name, mode, data) in enumerate((*entries, ("TRAILER!!!", 0, b"")), 1):
        label = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(label), 0)
        packed += b"070701" + b"".join(b"%08X" % field for field in fields) + label
        packed += b"\0" * (-len(packed) % 4) + data
        packed += b"\0" * (-len(packed) % 4)
    return bytes(packed)


@dataclass
class Job:
    """A command that runs in the guest."""

    guest: Guest
    number: str

    @property
    def said(self) -> str:
        """What it printed so far, both streams."""
        file = self.guest.share / f"{self.number}.out"
        return file.read_text(errors="replace") if file.exists() else ""

    def wait(self, seconds: float) -> int:
        """Its exit status; TimeoutError if it has not ended by then."""
        return self.guest.await_end(self.number, seconds)


class Guest:
    """The guest, from ``with`` to its end; ``folder`` (short: it holds sockets) is all of this host that it writes to.

    ``cpus`` are shared out evenly among ``nodes``, each with ``memory_mib``. ``device_node`` is the node of one PCI
    device, at the address ``device``.
    """

    device = "0000:65:00.0"

    def __init__(
        self, folder: Path, cpus: int = 4, nodes: int = 2, memory_mib: int = 1024, device_node: int = 1
    ) -> None:
        self.folder, self.share, self.log = folder, folder / "share", folder / "console.log"
        self.cpus, self.nodes, self.memory_mib, self.device_node = cpus, nodes, memory_mib, device_node
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._heard = b""
        self._ended: dict[str, int] = {}
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        if (missing := why_not()) is not None:
            raise CannotStart(missing)
        image, modules = kernel()
        self.share.mkdir()
        (self.share / "agent.sh").write_text(AGENT.format(share=self.share))
        initrd = self.folder / "initrd"
        initrd.write_bytes(self._initrd(modules))
        at = self.folder / "line.sock"
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [*with_parent(), QEMU, *self._hardware(), "-kernel", image, "-initrd", initrd, *self._lines(at)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._connect(at)
            self._until(lambda: b"ready\n" in self._heard, PATIENCE_S, "the guest did not start")
        except BaseException:
            self.stop()
            raise
        return self

    def _initrd(self, modules: Path) -> bytes:
        found = shutil.which("busybox")
        assert found is not None
        folders = ("bin", "proc", "new", "modules", "dev")
        order = [f"{Path(one).name}.ko" for one in MODULES]
        return cpio(
            [
                *((name, 0o040755, b"") for name in folders),
                ("init", 0o100755, INIT.format(share=self.share).encode()),
                ("bin/busybox", 0o100755, Path(found).resolve().read_bytes()),
                ("modules/order", 0o100644, "\n".join(order).encode()),
                *((f"modules/{name}", 0o100644, (modules / name).read_bytes()) for name in order),
            ]
        )

    def _hardware(self) -> list[str]:
        each = self.cpus // self.nodes
        words = [
            "-machine",
            "q35",
            "-accel",
            "tcg,thread=multi,tb-size=512",
            "-cpu",
            "max",
            "-nodefaults",
            "-no-reboot",
        ]
        words += ["-smp", f"{self.cpus},sockets={self.nodes},cores={each}", "-m", f"{self.nodes * self.memory_mib}M"]
        for node in range(self.nodes):
            words += ["-object", f"memory-backend-ram,id=m{node},size={self.memory_mib}M"]
            words += ["-numa", f"node,nodeid={node},cpus={node * each}-{node * each + each - 1},memdev=m{node}"]
        # A host bridge of that node, and behind it something that nobody drives.
        words += ["-device", f"pxb-pcie,id=far,bus_nr=100,numa_node={self.device_node},bus=pcie.0"]
        words += ["-device", "pcie-root-port,id=behind,bus=far,chassis=9", "-device", "pci-testdev,bus=behind"]
        return words

    def _lines(self, at: Path) -> list[str]:
        words = [
            "-display",
            "none",
            "-serial",
            "stdio",
            "-chardev",
            f"socket,id=line,path={at},server=on,wait=off",
            "-serial",
            "chardev:line",
        ]
        for tag, path, how in (("root", Path("/"), ",readonly=on"), ("share", self.share, "")):
            words += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{how}"]
            words += ["-device", f"virtio-9p-pci,bus=pcie.0,fsdev={tag},mount_tag={tag}"]
        kernel_words = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable psi=1 rdinit=/init"
        return [*words, "-append", kernel_words]

    def _connect(self, at: Path) -> None:
        line = socket.socket(socket.AF_UNIX)
        self._until(lambda: line.connect_ex(str(at)) == 0, 20.0, "QEMU did not start")
        line.settimeout(0.2)
        self._line = line

    def _until(self, true: Callable[[], bool], seconds: float, message: str) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if self._child is not None and self._child.poll() is not None:
                raise CannotStart(f"the guest ended:\n{self.said()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{message} within {seconds:.0f} s:\n{self.said()}")
            self._listen()

    def _listen(self) -> None:
        if self._line is None:
            time.sleep(0.1)
            return
        with contextlib.suppress(TimeoutError):
            self._heard += self._line.recv(4096)
        for job, status in re.findall(rb"done (\d+) (\d+)\n", self._heard):
            self._ended[job.decode()] = int(status)

    def said(self) -> str:
        """The end of its console."""
        return self.log.read_text(errors="replace")[-3000:]

    def start(self, command: Iterable[str], variables: Mapping[str, str] | None = None) -> Job:
        """Run a command in the guest, from the checkout's folder."""
        job = Job(self, str(next(self._numbers)))
        lines = [f"export {key}={shlex.quote(value)}" for key, value in (variables or {}).items()]
        script = self.share / f"{job.number}.sh"
        script.write_text("\n".join([*lines, f"cd {shlex.quote(str(ROOT))}", f"exec {shlex.join(command)}", ""]))
        assert self._line is not None
        self._line.sendall(f"{job.number}\n".encode())
        return job

    def run(
        self, command: Iterable[str], seconds: float = 120.0, variables: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a command to its end: exit status, and what it printed on both streams."""
        job = self.start(command, variables)
        return job.wait(seconds), job.said

    def await_end(self, number: str, seconds: float) -> int:
        """The exit status of a job."""
        self._until(lambda: number in self._ended, seconds, f"job {number} did not end")
        return self._ended[number]

    def stop(self) -> None:
        """Switch it off."""
        child, self._child = self._child, None
        if self._line is not None:
            self._line.close()
        if child is not None:
            child.kill()
            child.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
