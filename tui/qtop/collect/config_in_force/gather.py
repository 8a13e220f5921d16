"""All sources of one server's settings, read once after attaching, on a thread that nobody waits for.

A config file may lie on a disk that hangs, and a route may take seconds: what is at hand is told first, the rest when
it comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtop.collect.config_in_force import command_line, config_file, environment, routes, server_info
from qtop.collect.discover.procfs import PROC, start_ticks
from qtop.collect.discover.servers import recognise
from qtop.collect.http import Access
from qtop.sample import NOT_YET, Absent, Setting, Why
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE, ENVIRONMENT, OPENAPI, SERVER_INFO

Told = Callable[["Gathered"], None]
READING = Absent(NOT_YET.why, "being read")
_ENGINES = frozenset({"vllm", "llamacpp", "sglang", "tgi", "ollama"})


@dataclass(frozen=True)
class Subject:
    """Whose settings: the address, the engine as the adapter calls it, the process where it can be seen."""

    access: Access
    engine: str
    pid: int | None
    start_ticks: int | None
    argv: tuple[str, ...] | Absent
    ask_server_info: bool = True


@dataclass(frozen=True)
class Gathered:
    """What was read: the sources in order of authority; ``missing`` by source."""

    settings: tuple[Setting, ...]
    missing: dict[str, Absent]


def kind_of(subject: Subject) -> str:
    """The engine; by the command line where the adapter knows no more than that it speaks OpenAI's API."""
    if subject.engine in _ENGINES or isinstance(subject.argv, Absent):
        return subject.engine
    found = recognise(subject.argv)
    return found.engine if found is not None else subject.engine


def start(subject: Subject, told: Told) -> None:
    """Gather on a daemon thread; ``told`` is called from it once or twice."""
    threading.Thread(target=gather, args=(subject, told), name="qtop-settings", daemon=True).start()


def gather(subject: Subject, told: Told, root: Path = PROC) -> None:
    """Tell what the process says, and then that with what the server says. Never raises."""
    engine = kind_of(subject)
    near, missing = _guarded(lambda: _of_process(subject, engine, root))
    if engine == "vllm" and ENVIRONMENT in missing:
        listed, hidden = _guarded(lambda: _split({OPENAPI: server_info.dev_mode(subject.access)}))
        near, missing = (*near, *listed), {**missing, **hidden}
    route, ask = _route(subject, engine, near)
    if route == SERVER_INFO and engine == "vllm" and ask is None:
        missing = {**missing, SERVER_INFO: server_info.CLOSED if subject.ask_server_info else server_info.TURNED_OFF}
    if ask is None:
        told(Gathered(near, missing))
        return
    told(Gathered(near, {**missing, route: READING}))
    answers, failed = _guarded(lambda: _split({route: ask()}))
    told(Gathered((*answers, *near), {**missing, **failed}))


def nearby(subject: Subject, root: Path = PROC) -> Gathered:
    """What the process alone says: for one that does not answer yet. Never raises."""
    return Gathered(*_guarded(lambda: _of_process(subject, kind_of(subject), root)))


def _route(
    subject: Subject, engine: str, near: Sequence[Setting]
) -> tuple[str, Callable[[], tuple[Setting, ...] | Absent | None] | None]:
    if engine == "vllm":
        wanted = subject.ask_server_info and server_info.is_open([x for x in near if x.source == ENVIRONMENT])
        return SERVER_INFO, (lambda: server_info.settings(subject.access)) if wanted else None
    route = routes.ROUTES.get(engine)
    return (route or ""), (lambda: routes.settings(subject.access, engine)) if route else None


Read = dict[str, tuple[Setting, ...] | Absent | None]


def _of_process(subject: Subject, engine: str, root: Path) -> tuple[tuple[Setting, ...], dict[str, Absent]]:
    pid, argv = subject.pid, subject.argv
    if pid is None or isinstance(argv, Absent):
        unseen = argv if isinstance(argv, Absent) else Absent(Why.NOT_HERE, "its process cannot be seen from here")
        return (), {COMMAND_LINE: unseen, ENVIRONMENT: unseen}
    read: Read = {
        COMMAND_LINE: command_line.settings(argv, engine),
        CONFIG_FILE: config_file.settings(pid, argv, root) if engine == "vllm" else None,
        ENVIRONMENT: environment.settings(pid, engine, root),
    }
    if start_ticks(pid, root) != subject.start_ticks:  # another process may have its number by now
        gone = Absent(Why.LOST, "the process has ended")
        return _split({COMMAND_LINE: read[COMMAND_LINE], ENVIRONMENT: gone})
    return _split(read)


def _split(read: Read) -> tuple[tuple[Setting, ...], dict[str, Absent]]:
    settings = tuple(one for found in read.values() if isinstance(found, tuple) for one in found)
    return settings, {source: found for source, found in read.items() if isinstance(found, Absent)}


def _guarded(
    read: Callable[[], tuple[tuple[Setting, ...], dict[str, Absent]]],
) -> tuple[tuple[Setting, ...], dict[str, Absent]]:
    try:
        return read()
    except Exception as error:
        return (), {"settings": Absent(Why.FAILED, f"reading them failed ({type(error).__name__})")}
