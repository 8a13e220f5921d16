"""When a server has ended: all of its threads have, and the driver lists nothing of it as holding memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.fakes.crash import ThreadedProcess
from tests.fakes.nvml_fixture import FakeNvml, h100
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence

from qtop.act.change import Work
from qtop.act.launchers import ending
from qtop.act.launchers.bare import Bare
from qtop.act.launchers.capture import alive
from qtop.clock import boot_id
from qtop.collect.discover.procfs import start_ticks

WAIT = """
import sys
from qtop.act.launchers import ending
ending.MEMORY_EVERY_S = 0.05
ending.SAY_S = 0.0
ending.MEMORY_S = float(sys.argv[2])
from qtop.act.change import Work
ending._await_memory({int(sys.argv[1])}, lambda: print("waits", flush=True))
print("over", flush=True)
"""


def waiting(fake_nvml: FakeNvml, pid: int, seconds: float) -> subprocess.Popen[str]:
    """In a process of its own: the library is loaded once."""
    environ = {**fake_nvml.env(), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WAIT, str(pid), str(seconds)]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def test_memory_of_a_gpu_is_waited_for(fake_nvml: FakeNvml) -> None:
    fake_nvml.set("0.proc 4242 1073741824", count=1, **h100(0))
    child = waiting(fake_nvml, 4242, 60.0)
    assert child.stdout is not None
    assert child.stdout.readline() == "waits\n"
    fake_nvml.set("0.proc 4243 1073741824", count=1, **h100(0))
    lines = child.stdout.read().split()
    assert (lines[-1], child.wait(20)) == ("over", 0)


def test_a_driver_that_goes_on_listing_the_dead_is_not_waited_for_for_ever(fake_nvml: FakeNvml) -> None:
    fake_nvml.set("0.proc 4242 1073741824", count=1, **h100(0))
    child = waiting(fake_nvml, 4242, 0.3)
    assert child.stdout is not None
    assert child.stdout.read().split()[-1] == "over"
    assert child.wait(20) == 0


def test_without_a_driver_nothing_is_waited_for() -> None:
    ending._await_memory({os.getpid()}, lambda: pytest.fail("waits"))


def test_one_whose_main_thread_alone_has_ended_lives() -> None:
    with ThreadedProcess(2) as process:
        start = start_ticks(process.pid)
        assert alive(process.pid, start, boot_id())
        process.leave_main()
        assert alive(process.pid, start, boot_id())
        assert not alive(process.pid, start, "another boot")
        assert not alive(process.pid, (start or 0) + 1, boot_id())
        ending.end([[process.pid, start or 0]], {"argv": ["x"]}, Work())
        assert not alive(process.pid, start, boot_id())


def test_one_that_is_ending_has_no_words_that_could_be_somebody_elses() -> None:
    with ThreadedProcess(2) as process:
        launch = {"pid": process.pid, "start": start_ticks(process.pid), "boot": boot_id()}
        assert Bare().running(launch)
        process.leave_main()
        assert Bare().running(launch) is None


def test_nothing_to_end_is_no_error() -> None:
    ending.end([], {"argv": ["x"]}, Work())
    ending.end([[2**22 - 1, 1]], {"argv": ["x"]}, Work())
