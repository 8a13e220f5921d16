"""A look at this host for a plan: its GPUs and the server that runs here, watched until its rates are there."""

from __future__ import annotations

import argparse
import time

from msgspec.structs import replace

from qtop.collect.host import HostCollector
from qtop.collect.topology import TopologyReader
from qtop.config import Settings
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.sample import Absent, HostSample, Sample
from qtop.session import require_latest
from qtop.verbs.live import live_session

WATCH_S = 3.0
"""Seconds that a running server is watched: rates need two readings, and one tick of them is noisy."""


def look(args: argparse.Namespace, settings: Settings) -> Frame:
    """GPUs, host, and the server that runs here, watched until its rates are there."""
    with live_session(args, settings, need_server=False) as session:
        latest = require_latest(session)
        deadline = time.monotonic() + WATCH_S
        while not isinstance(latest.frame.server, Absent) and (left := deadline - time.monotonic()) > 0:
            latest = session.wait(latest.seq, min(left, 2.0)) or latest
    host = latest.frame.host
    if isinstance(host, Absent) or isinstance(host.cores, Absent):  # it is read in the background, and may be late
        return replace(latest.frame, host=host_alone().host)
    return latest.frame


def host_alone() -> Frame:
    """The host alone: no server is looked for."""
    host = HostCollector().read(())
    if isinstance(host, HostSample):
        host = replace(host, topology=TopologyReader().look()[0])
    return Deriver(kept=False).push(Sample(t=time.time(), host=host))
