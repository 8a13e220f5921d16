"""Which server qtop watches: finding it, holding on to it, noticing that it ended or was replaced.

A small state machine, run on one thread, because each of its questions may block for seconds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from time import thread_time

import httpx
import msgspec

from qtop.clock import mono
from qtop.collect import discover
from qtop.collect.address import is_local, normalise_url
from qtop.collect.config_in_force import gather
from qtop.collect.engine.base import EngineAdapter
from qtop.collect.engine.identify import identify
from qtop.collect.http import Access, open_client
from qtop.errors import QtopError
from qtop.sample import Absent, Launch, ServerInfo, Why
from qtop.source.launches import Launches, port_of, runs, told

SEARCH_S = 2.0
"""Between two looks for a server while there is none; more on a host with many processes (see ``SEARCH_SHARE``)."""
SEARCH_SHARE = 0.01
"""Of one core's time that searching may take: a look costs 5 ms with 80 processes and grows with their number."""
LONGEST_PAUSE_S = 15.0
CHECK_S = 5.0
"""Between two looks whether the server is still the one attached to."""
FAILURES = 3
"""Scrapes in a row that must fail before the server is asked anew who it is."""
REFRESH_S = 30.0
"""A server whose process cannot be seen is asked so often who it is: nothing else would tell that it was replaced."""


@dataclass(frozen=True)
class Target:
    """What the user asked for; all empty: find a server."""

    url: str | None = None
    pid: int | None = None
    api_key: str | None = None
    verify: bool | str = True
    ask_server_info: bool = True
    """Ask a vLLM in development mode for its configuration, once (about 3 s of a core on the server)."""

    def __repr__(self) -> str:
        return f"Target(url={self.url!r}, pid={self.pid!r})"


@dataclass(frozen=True)
class Attached:
    """The server in hand. ``generation`` grows with every attachment, so that others notice a replacement."""

    access: Access
    engine: str
    info: ServerInfo
    pid: int | None
    start_ticks: int | None
    generation: int


@dataclass(frozen=True)
class Choice:
    """One of several servers found."""

    url: str
    pid: int | None
    engine: str
    model: str
    why: str


class Attachment:
    """Finds and keeps the server. ``read`` is called again and again on one thread; the rest is safe from any."""

    def __init__(self, target: Target, take_first: bool = False) -> None:
        self._target = target
        self._take_first = take_first
        self._lock = threading.Lock()
        self._attached: Attached | None = None
        self._choices: tuple[Choice, ...] = ()
        self._status: Absent = Absent(Why.NOT_YET, "looking for a server")
        self._next = 0.0
        self._generation = 0
        self._failures = 0
        self._doubt = False
        self._asked = 0.0
        self._reset = False
        self._home: str | None = None
        self._searched = threading.Event()
        self._launches = Launches()

    @property
    def attached(self) -> Attached | None:
        """The server in hand, or None."""
        return self._attached

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Several servers among which the user has to choose; empty otherwise."""
        return self._choices

    @property
    def target(self) -> Target:
        """What is looked for now."""
        return self._target

    @property
    def launch(self) -> Launch | None:
        """A server that starts, or that ended before it answered; None while one is in hand."""
        return self._launches.current

    def searched(self, timeout: float) -> bool:
        """Wait until a first search has ended, at most ``timeout`` seconds."""
        return self._searched.wait(timeout)

    def choose(self, url: str | None, pid: int | None = None) -> None:
        """Attach to this server from now on."""
        with self._lock:
            self._target = replace(self._target, url=url, pid=pid)
            self._reset = True
            self._choices = ()
            self._next = 0.0

    def scraped(self, ok: bool) -> None:
        """Hear from the scraper whether the server answered, and like the one attached to."""
        self._failures = 0 if ok else self._failures + 1
        if not ok:
            self._doubt = True  # whoever answers next may be another
        if self._failures == FAILURES:
            self._next = 0.0

    def suspect(self) -> None:
        """Hear that another server answers: it is asked who it is at once."""
        self._failures, self._doubt, self._next = FAILURES, True, 0.0

    def current(self) -> ServerInfo | Absent:
        """Who the server is now, or why there is none."""
        attached = self._attached
        return attached.info if attached is not None else self._status

    def read(self) -> ServerInfo | Absent:
        """Take the next step of searching or checking, if one is due."""
        with self._lock:
            if self._reset:
                self._reset, self._attached, self._home = False, None, None
                self._status = Absent(Why.NOT_YET, "looking for the server")
                self._launches.forget()
        if self._launches.has_ended() and (launch := self.launch) is not None and self._attached is None:
            self._status = told(launch)
        if mono() < self._next and not self._ended():
            return self.current()
        begun = thread_time()
        try:
            if self._attached is not None:
                self._check(self._attached)
            if self._attached is None:
                self._search()
                self._look_for_launch()
        except Exception as error:
            if self._attached is None:
                self._status = Absent(Why.FAILED, f"the search for a server failed ({type(error).__name__})")
        finally:
            least = CHECK_S if self._attached is not None else SEARCH_S
            pause = min(max(least, (thread_time() - begun) / SEARCH_SHARE), LONGEST_PAUSE_S)
            with self._lock:
                self._next = 0.0 if self._reset else mono() + pause
            self._searched.set()
        return self.current()

    def _look_for_launch(self) -> None:
        """Where nothing answers: one that starts says more than that there is none."""
        if self._attached is not None or self._choices:
            return
        named = self._target.url is not None or self._target.pid is not None or self._home is not None
        if self._status is not _NONE and (not named or self._status.why is not Why.LOST):
            return  # one that listens says more
        found = self._launches.look(self._target.url, self._target.pid)
        if found is not None:
            self._status = told(found)

    def _ended(self) -> bool:
        attached = self._attached
        return attached is not None and attached.pid is not None and not runs(attached.pid, attached.start_ticks)

    def _check(self, attached: Attached) -> None:
        """Is it still there, and still the same? A server on the same URL may be another after a restart."""
        if self._ended():
            self._lose(
                Absent(Why.LOST, f"the server (pid {attached.pid}) ended; waiting for it at {attached.access.url}")
            )
            return
        if attached.pid is None and attached.info.on_host and discover.pid_for_url(attached.access.url) is not None:
            self._lose(self._status)  # its process could not be seen before
            return
        recovered = self._doubt and self._failures == 0
        unseen = attached.pid is None and mono() - self._asked >= REFRESH_S
        if self._failures < FAILURES and not recovered and not unseen:
            return
        self._asked = mono()
        with open_client(attached.access) as client:
            found = identify(client)
            if isinstance(found, Absent):
                return  # it is there and does not answer well: the engine section says how
            argv = attached.info.argv
            now = found.info(client, () if isinstance(argv, Absent) else argv)
        if found.name != attached.engine or _differ(now, attached.info):
            self._lose(Absent(Why.LOST, "another server took its place"))
        self._doubt = False

    def _lose(self, status: Absent) -> None:
        with self._lock:
            if self._attached is not None:
                self._home = self._attached.access.url  # that is where it comes back
            self._attached, self._status, self._failures, self._doubt = None, status, 0, False

    def _search(self) -> None:
        target = self._target
        if self._home is not None and target.url is None:
            lost = self._status
            self._try_url(self._home, self._is_recognised(self._home))
            if self._attached is not None or target.pid is not None:
                return
            self._try_any()
            if self._attached is None and not self._choices and self._status.why is Why.LOST:
                self._status = lost
            return
        if target.url is not None:
            self._try_url(target.url, True)
        elif target.pid is not None:
            self._try_pid(target.pid)
        else:
            self._try_any()

    def _try_url(self, url: str, trusted: bool) -> None:
        found = self._ask(url, trusted)
        if isinstance(found, Absent):
            waiting = self._status.why is Why.LOST and found.why in (Why.LOST, Why.NOT_YET)
            if not waiting or found.why is Why.NOT_YET:
                self._status = found
            return
        self._attach(found, discover.pid_for_url(url))

    def _try_pid(self, pid: int) -> None:
        if discover.start_ticks(pid) is None:
            self._status = Absent(Why.LOST, f"no process {pid}")
            return
        urls = discover.urls_for_pid(pid)
        if not urls:
            self._status = Absent(
                Why.LOST, f"process {pid} listens nowhere that qtop can see; name its address with --url"
            )
            return
        for url in urls:
            found = self._ask(url, True)
            if not isinstance(found, Absent):
                self._attach(found, discover.server_root(pid))
                return
            self._status = found

    def _try_any(self) -> None:
        found: list[tuple[discover.Candidate, _Found]] = []
        pids: set[int] = set()
        trouble: Absent | None = None
        for candidate in discover.candidates():
            if candidate.pid is not None and candidate.pid in pids:
                continue
            answer = self._ask(candidate.url, bool(candidate.engine_hint))
            if isinstance(answer, Absent):
                withheld = answer.why is Why.DENIED and self._target.api_key is not None
                if candidate.engine_hint or withheld:
                    said = (
                        answer if candidate.url in answer.detail else Absent(answer.why, f"{candidate.url}: {answer}")
                    )
                    # A server that is loading or locked says more than one that is silent.
                    if trouble is None or (said.why in _SPEAKING and trouble.why not in _SPEAKING):
                        trouble = said
                continue
            if candidate.pid is not None:
                pids.add(candidate.pid)
            found.append((candidate, answer))
        if not found:
            self._choices = ()
            self._status = _NONE if trouble is None else trouble
            return
        if len(found) > 1 and not self._take_first:
            self._choices = tuple(
                Choice(
                    one.url, one.pid, it.info.engine, it.info.model if isinstance(it.info.model, str) else "?", one.why
                )
                for one, it in found
            )
            self._status = Absent(Why.NOT_YET, f"{len(found)} servers found: choose one")
            return
        candidate, first = found[0]
        self._attach(first, candidate.pid)

    def _is_recognised(self, url: str) -> bool:
        """Whether the listener there now is a known kind of server by its process, so that the API key may go to it."""
        if self._target.api_key is None:
            return False
        return any(one.engine_hint and normalise_url(one.url) == normalise_url(url) for one in discover.candidates())

    def _ask(self, url: str, trusted: bool) -> _Found | Absent:
        """Who answers there. The API key goes along only where the user named the place or the process is recognised:
        anybody may listen on a common port."""
        withheld = self._target.api_key is not None and not trusted
        try:
            near = not is_local(httpx.URL(url).host) and discover.pid_for_url(url) is not None
            access = Access(url, self._target.api_key if trusted else None, self._target.verify, near)
            with open_client(access) as client:
                adapter = identify(client)
                if isinstance(adapter, Absent):
                    return _withheld(url) if withheld and adapter.why is Why.DENIED else adapter
                return _Found(access, adapter, adapter.info(client), withheld)
        except QtopError as error:
            return Absent(Why.FAILED, str(error))
        except (httpx.HTTPError, OSError) as error:
            return Absent(Why.FAILED, f"{url}: {type(error).__name__}")

    def _attach(self, found: _Found, pid: int | None) -> None:
        access, adapter, info = found.access, found.adapter, found.info
        unseen = Absent(Why.NOT_HERE, "its process cannot be seen from here")
        argv = discover.argv(pid) if pid is not None else unseen
        if not isinstance(argv, Absent):
            with open_client(access) as client:
                info = adapter.info(client, argv)
        if found.withheld:
            info = _explain(info, access.url)
        info = msgspec.structs.replace(
            info,
            url=access.url,
            pid=pid if pid is not None else unseen,
            argv=argv,
            started=discover.started(pid) if pid is not None else Absent(Why.NOT_HERE, ""),
            on_host=pid is not None or discover.is_local(httpx.URL(access.url).host),
            in_container=pid is not None and discover.in_container(pid),
            bound=discover.bound(pid, port_of(access.url)) if pid is not None else unseen,
            settings=gather.READING,
        )
        ticks = discover.start_ticks(pid) if pid is not None else None
        with self._lock:
            if self._reset:  # the user chose another meanwhile
                return
            self._generation += 1
            self._choices = ()
            self._failures, self._doubt, self._asked = 0, False, mono()
            generation = self._generation
            self._attached = Attached(access, adapter.name, info, pid, ticks, generation)
        self._launches.forget()
        subject = gather.Subject(access, adapter.name, pid, ticks, argv, self._target.ask_server_info)
        gather.start(subject, lambda told: self._settle(generation, told))

    def _settle(self, generation: int, told: gather.Gathered) -> None:
        """Take the settings of the server in hand, unless it is another by now."""
        with self._lock:
            attached = self._attached
            if attached is None or attached.generation != generation:
                return
            info = msgspec.structs.replace(attached.info, settings=told.settings, settings_missing=told.missing)
            self._attached = replace(attached, info=info)


_NONE = Absent(Why.LOST, "No LLM server found on this host")
_SPEAKING = (Why.NOT_YET, Why.DENIED)


@dataclass(frozen=True)
class _Found:
    """An answer: from where, read by what, saying what; ``withheld``: without the API key that qtop has."""

    access: Access
    adapter: EngineAdapter
    info: ServerInfo
    withheld: bool


def _differ(now: ServerInfo, before: ServerInfo) -> bool:
    """Whether two answers come from different servers: another model or version, where both are known."""
    # Ollama changes its model as it is asked to.
    models = () if now.engine == before.engine == "ollama" else ((now.model, before.model),)
    pairs = (*models, (now.version, before.version))
    return any(isinstance(new, str) and isinstance(old, str) and new != old for new, old in pairs)


def _withheld(url: str) -> Absent:
    return Absent(Why.DENIED, f"{url} wants an API key; qtop sends yours only where you name it: --url {url}")


def _explain(info: ServerInfo, url: str) -> ServerInfo:
    """What the server would not tell without the key, with how to send it."""
    names = ("version", "model", "max_model_len", "max_running")
    locked = [name for name in names if isinstance(one := getattr(info, name), Absent) and one.why is Why.DENIED]
    return msgspec.structs.replace(info, **dict.fromkeys(locked, _withheld(url)))
