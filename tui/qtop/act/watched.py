"""What a knob acts on, out of a frame: the server, and its threads."""

from __future__ import annotations

from qtop.errors import Unreachable
from qtop.model.frame import Frame, SchedView
from qtop.sample import Absent, ServerInfo


def server_of(frame: Frame) -> ServerInfo:
    """The server; Unreachable without one."""
    if isinstance(frame.server, Absent):
        raise Unreachable(frame.server.detail or "no server found", "Start one, or name it with --url or --pid.")
    return frame.server


def threads_of(frame: Frame) -> SchedView:
    """The server's threads; Unreachable where there is no server, or they cannot be seen."""
    server_of(frame)
    if isinstance(frame.sched, Absent):
        raise Unreachable(f"the server's threads cannot be read: {frame.sched}")
    return frame.sched
