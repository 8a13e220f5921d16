"""The fixture ``reader``: the real NVML collector over the fake library, in a process of its own."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.fakes.nvml_fixture import FakeNvml

from qtop.sample import Absent, GpuSection, Why

_READER = """
import sys
from pathlib import Path
import msgspec
from qtop.collect.nvml import NvmlCollector

now = 0.0
collector = NvmlCollector(sysfs=Path(sys.argv[1]), clock=lambda: now, proc=Path(sys.argv[1]).parent / "proc")
for line in sys.stdin:
    if line == "imported\\n":
        answer = "pynvml" in sys.modules
    elif line == "close\\n":
        answer = collector.close()
    else:
        now = float(line)
        answer = collector.read()
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\\n")
    sys.stdout.flush()
"""


class Reader:
    """A collector in a process of its own; its clock shows what each ``read`` says."""

    def __init__(self, env: dict[str, str], sysfs: Path) -> None:
        command = [sys.executable, "-c", _READER, str(sysfs)]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def ask(self, line: str) -> bytes:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{line}\n".encode())
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        assert ready, "the collector does not answer"
        answer = self.process.stdout.readline()
        assert answer, f"the collector's process died on {line!r}"
        return answer

    def read(self, now: float = 0.0) -> GpuSection | Absent:
        return msgspec.json.decode(self.ask(str(now)), type=GpuSection | Absent)

    def section(self, now: float = 0.0) -> GpuSection:
        section = self.read(now)
        assert isinstance(section, GpuSection), section
        return section


@pytest.fixture(name="reader")
def reader(fake_nvml: FakeNvml, tmp_path: Path) -> Iterator[Callable[[], Reader]]:
    """Starts a collector over the fake; its sysfs knows the CPUs of GPU 0 only."""
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "local_cpulist").write_text("0-7,16-23\n")
    started: list[Reader] = []

    def start() -> Reader:
        started.append(Reader(fake_nvml.env(), tmp_path / "sys"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdin, one.process.stdout):
            assert pipe is not None
            pipe.close()


def why(reading: object) -> Why:
    assert isinstance(reading, Absent), reading
    return reading.why
