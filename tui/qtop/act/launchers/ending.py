"""Ending a server's processes: in order, and by force where it has to be; each known by its number and its birth."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from qtop.act.change import Work
from qtop.act.launchers.capture import alive
from qtop.act.launchers.launcher import Launch, sayer
from qtop.clock import boot_id
from qtop.collect.discover.procfs import start_ticks
from qtop.collect.discover.tree import server_tree
from qtop.collect.engine.argv import integer
from qtop.collect.nvml import NvmlCollector
from qtop.errors import Refused
from qtop.sample import Absent

Known = list[list[int]]
"""[process number, start in clock ticks] each."""

GRACE_S = 30.0
"""From SIGTERM to the second, beside what the server takes to drain; some linger with a connection that is open."""
AGAIN_S = 5.0
"""From the second SIGTERM to SIGKILL."""
LEFT_S = 10.0
"""For children whose server has ended."""
MEMORY_S, MEMORY_EVERY_S = 20.0, 0.5
"""For the driver to forget them."""
EVERY_S = 0.05


def tree_of(pid: int) -> Known:
    """A server's processes, root first."""
    return [[one, start] for one in server_tree(pid) if (start := start_ticks(one)) is not None]


def living(known: Sequence[Sequence[int]], boot: str) -> Known:
    """Those that still run."""
    return [[pid, start] for pid, start in known if alive(pid, start, boot)]


def end(known: Known, launch: Launch, work: Work) -> None:
    """End the first and wait for all; the known ones are in the journal already. Refused where one cannot be ended."""
    boot = boot_id()
    if not known:
        return
    drain_s = float(integer(launch["argv"], "--shutdown-timeout") or 0)
    root, rest = known[:1], known[1:]
    say = sayer(work, "draining: requests in flight end" if drain_s else "stopping")
    if living(root, boot):
        _signal(root[0], signal.SIGTERM, boot)
        if not _gone(root, boot, drain_s + GRACE_S, say):
            _signal(root[0], signal.SIGTERM, boot)
            if not _gone(root, boot, AGAIN_S, say):
                work.say("it does not end by itself: killed")
                _kill(known, boot)
    if not _gone(rest, boot, LEFT_S, say):
        work.say("processes of it were left: killed")
        _kill(rest, boot)
    if not _gone(known, boot, LEFT_S, say):
        left = ", ".join(str(pid) for pid, _ in living(known, boot))
        raise Refused(f"the server's process {left} cannot be ended", "It hangs in the kernel: look at dmesg.")
    _await_memory({pid for pid, _ in known}, say)


def _await_memory(pids: set[int], say: Callable[[], None]) -> None:
    """Until the driver lists none of them as holding memory of a GPU: a vLLM that starts before reckons with less.
    A driver that goes on listing the dead is not waited for any longer than ``MEMORY_S``."""
    gpus = NvmlCollector()
    try:
        deadline = time.monotonic() + MEMORY_S
        while time.monotonic() < deadline:
            section = gpus.read()
            if isinstance(section, Absent):
                return
            held = (one.processes for one in section.gpus)
            if not any(one.pid in pids for listed in held if not isinstance(listed, Absent) for one in listed):
                return
            say()
            time.sleep(MEMORY_EVERY_S)
    finally:
        gpus.close()


def _gone(known: Known, boot: str, seconds: float, say: Callable[[], None]) -> bool:
    deadline = time.monotonic() + seconds
    while living(known, boot):
        if time.monotonic() > deadline:
            return False
        say()
        time.sleep(EVERY_S)
    return True


def _signal(one: Sequence[int], number: signal.Signals, boot: str) -> None:
    """To this process and no other that got its number since: the handle is opened before its birth is compared."""
    pid, start = one
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError as error:
        raise Refused(f"process {pid} cannot be signalled: {error.strerror}") from None
    try:
        if alive(pid, start, boot):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise Refused(f"process {pid} belongs to another user", "Run qtop as its user, or as root.") from None
    finally:
        os.close(handle)


def _kill(known: Known, boot: str) -> None:
    """Each of them, with those that they started meanwhile."""
    for one in living(known, boot):
        for more in reversed(tree_of(one[0])):
            _signal(more, signal.SIGKILL, boot)
