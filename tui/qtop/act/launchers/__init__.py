"""Launchers: how a server was started, and how to start it anew with other words. One file each; ``find`` chooses."""

from __future__ import annotations

from qtop.act.launchers.bare import Bare
from qtop.act.launchers.compose import Compose
from qtop.act.launchers.docker import Docker
from qtop.act.launchers.launcher import Launch, Launcher
from qtop.act.launchers.serve import Serve
from qtop.act.launchers.systemd import Systemd
from qtop.errors import Refused

LAUNCHERS: tuple[Launcher, ...] = (Serve(), Compose(), Docker(), Systemd(), Bare())
"""The more special first; a bare process is what is left."""


def find(pid: int) -> tuple[Launcher, Launch]:
    """Who started this server, and all that it takes to start it again; Refused where nobody here knows."""
    for one in LAUNCHERS:
        launch = one.capture(pid)
        if launch is not None:
            return one, launch
    raise Refused("how this server was started is not known", "Restart it by hand.")


def named(kind: str) -> Launcher:
    """The launcher of this kind; Refused where this qtop has none."""
    for one in LAUNCHERS:
        if one.kind == kind:
            return one
    raise Refused(f"this qtop knows no launcher {kind!r}", "Use the qtop that made the change.")
