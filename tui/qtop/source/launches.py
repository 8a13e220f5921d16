"""Servers that start: what can be told of them before they answer, and that one ended before it ever did."""

from __future__ import annotations

import threading

import httpx
import msgspec

from qtop.clock import mono, wall
from qtop.collect import discover
from qtop.collect.address import is_local, normalise_url
from qtop.collect.config_in_force import gather
from qtop.collect.engine import installed
from qtop.collect.engine.argv import integer, served_model
from qtop.collect.http import Access
from qtop.collect.kept import read_once
from qtop.collect.stat import parse_stat
from qtop.errors import QtopError
from qtop.sample import Absent, Launch, ServerInfo, Why

KEPT_S = 600.0
"""So long a server that ended before it answered stays in sight."""
NONE = Absent(Why.NOT_YET, "no server is starting")


class Launches:
    """The one start that is followed, the latest. ``look`` and ``has_ended`` on one thread; ``current`` from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: Launch | None = None
        self._one: discover.Starting | None = None
        self._until = 0.0

    @property
    def current(self) -> Launch | None:
        """The server that starts, or ended a while ago before it answered."""
        return self._now

    def forget(self) -> None:
        """A server answers: what was seen to start is over, or it is that one."""
        with self._lock:
            self._now = self._one = None

    def has_ended(self) -> bool:
        """Whether it is found to have ended, the first time; costs one read."""
        one, now = self._one, self._now
        if one is None or now is None:
            return False
        if now.ended:
            if mono() > self._until:
                self.forget()
            return False
        if runs(one.pid, one.start_ticks):
            return False
        self._until = mono() + KEPT_S
        with self._lock:
            if self._now is not None:  # with the settings that may have come meanwhile
                self._now = msgspec.structs.replace(self._now, ended=wall())
        return True

    def look(self, url: str | None = None, pid: int | None = None) -> Launch | None:
        """Search for one that starts, at this address or as this process where the user named them."""
        port = None
        if url is not None and (port := _local_port(url)) is None:
            return None
        pid = discover.server_root(pid) if url is None and pid is not None else None
        now, one = self._now, self._one
        for found in discover.starting():
            if (port is not None and found.port != port) or (pid is not None and found.pid != pid):
                continue
            if one is None or now is None or now.ended or (found.pid, found.start_ticks) != (one.pid, one.start_ticks):
                self._follow(found)
            break
        return self._now

    def _follow(self, found: discover.Starting) -> None:
        info = ServerInfo(
            url=found.url,
            engine=found.engine,
            version=installed.version(found.pid, found.argv) if found.engine == "vllm" else installed.UNKNOWN,
            model=served_model(found.argv) or Absent(Why.NOT_YET, "its command line names no model"),
            max_model_len=_length(found.argv),
            pid=found.pid,
            argv=found.argv,
            started=discover.started(found.pid),
            in_container=discover.in_container(found.pid),
            settings=gather.READING,
        )
        with self._lock:
            self._one, self._now = found, Launch(info)
        subject = gather.Subject(Access(found.url), found.engine, found.pid, found.start_ticks, found.argv, False)

        # A config file may lie on a disk that hangs.
        threading.Thread(target=self._settle, args=(found, subject), name="qtop-launch", daemon=True).start()

    def _settle(self, found: discover.Starting, subject: gather.Subject) -> None:
        told = gather.nearby(subject)
        with self._lock:
            if self._one is found and self._now is not None:
                info = msgspec.structs.replace(self._now.info, settings=told.settings, settings_missing=told.missing)
                self._now = msgspec.structs.replace(self._now, info=info)


def told(launch: Launch) -> Absent:
    """In place of a server: that it starts, or how it ended."""
    info = launch.info
    version = f" {info.version}" if isinstance(info.version, str) else ""
    who = f"{discover.NAMES.get(info.engine, info.engine)}{version} (pid {info.pid})"
    if not launch.ended:
        return Absent(Why.NOT_YET, f"{who} is starting: nothing answers at {info.url} yet")
    lived = (
        "" if isinstance(info.started, Absent) else f" {max(0.0, launch.ended - info.started):.0f} s after its start"
    )
    return Absent(Why.LOST, f"{who} ended{lived}, before it answered at {info.url}")


def runs(pid: int, start_ticks: int | None) -> bool:
    """Whether this very process is there; one that ended and was not waited for (a zombie) is not."""
    text = read_once(f"/proc/{pid}/stat", 1024)
    stat = None if isinstance(text, Absent) else parse_stat(text)
    return stat is not None and stat.start_ticks == start_ticks and stat.state not in "ZX"


def port_of(url: str) -> int:
    """The port of a URL, or its scheme's."""
    place = httpx.URL(url)
    return place.port or (443 if place.scheme == "https" else 80)


def _local_port(url: str) -> int | None:
    """The port of an address of this host, None for another's."""
    try:
        plain = normalise_url(url)
        return port_of(plain) if is_local(httpx.URL(plain).host) else None
    except (QtopError, httpx.InvalidURL):
        return None


def _length(argv: tuple[str, ...]) -> int | Absent:
    length = integer(argv, "--max-model-len")
    return length if length is not None and length > 0 else Absent(Why.NOT_YET, "its command line does not say")
