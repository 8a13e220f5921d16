"""Where a local LLM server may be: every URL worth one harmless request, the likeliest first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qtop.collect.discover.containers import Forward, in_container
from qtop.collect.discover.procfs import PROC, read
from qtop.collect.discover.reach import ways
from qtop.collect.discover.servers import COMMON_PORTS, FORWARDERS
from qtop.collect.discover.snapshot import Snapshot
from qtop.collect.discover.sockets import Listener, one_each, url
from qtop.sample import Absent, Why

_ENGINES = frozenset({"vllm", "llamacpp", "sglang", "tgi", "trtllm", "triton", "ollama"})
_LIBRARIES = (
    (re.compile(rb"/(?:xllamacpp|llama_cpp)[./-]|/libllama[.-]"), "llamacpp"),
    (re.compile(rb"/site-packages/vllm/"), "vllm"),
    (re.compile(rb"/site-packages/sgl(?:ang|_kernel)/"), "sglang"),
    (re.compile(rb"/(?:site|dist)-packages/tensorrt_llm/"), "trtllm"),
)
_UNSEEN = Absent(Why.NOT_HERE, "its process cannot be seen from here")


@dataclass(frozen=True)
class Candidate:
    """A URL that may be a server's, with the root process of that server where it is known."""

    url: str
    pid: int | None
    start_ticks: int | None
    """Clock ticks after boot; with the pid, the identity of the process."""
    argv: tuple[str, ...] | Absent
    """As read: it may hold secrets."""
    engine_hint: str
    """"vllm", "llamacpp", "sglang", "tgi", "trtllm", "triton", "ollama", or "" where nothing tells."""
    why: str
    in_container: bool


def candidates(root: Path = PROC) -> tuple[Candidate, ...]:
    """Local servers to ask who they are: recognised ones first, then published and common ports.

    Nothing is sent anywhere. A server that is still loading may not listen yet, and is then not among them.
    """
    return gather(Snapshot(root))


def gather(snapshot: Snapshot) -> tuple[Candidate, ...]:
    """The candidates of one look at the machine."""
    found: dict[str, Candidate] = {}
    for candidate in (*_servers(snapshot), *_published(snapshot), *_others(snapshot)):
        found.setdefault(candidate.url, candidate)
    return tuple(found.values())


def _candidate(
    snapshot: Snapshot, address: str, pid: int | None, why: str, *, hint: str = "", inside: bool = False
) -> Candidate:
    process = snapshot.processes.get(pid) if pid is not None else None
    if pid is None or process is None:
        return Candidate(address, None, None, _UNSEEN, hint, why, inside)
    what = snapshot.engine(pid)
    hint = hint or (what.engine if what is not None and what.engine in _ENGINES else "")
    inside = inside or in_container(pid, snapshot.root)
    return Candidate(address, pid, process.start_ticks, process.argv, hint, why, inside)


def _servers(snapshot: Snapshot) -> Iterator[Candidate]:
    """Processes that are servers by their arguments, those in this network namespace first."""
    for pid in sorted(snapshot.roots, key=lambda pid: (snapshot.net(pid) != snapshot.own_net, pid)):
        beside = snapshot.net(pid) != snapshot.own_net
        for way in ways(snapshot, pid):
            yield _candidate(snapshot, way.url, pid, way.why, inside=beside)


def behind(snapshot: Snapshot, forward: Forward) -> int | None:
    """The root process in a container to which a published port leads, or None if it cannot be told."""
    for net, inside in snapshot.addresses.items():
        if forward.container not in inside:
            continue
        for item in snapshot.listeners(net) or ():
            if item.port == forward.container_port and item.accepts(forward.container):
                return snapshot.owner(item, net)
    return None


def _published(snapshot: Snapshot) -> Iterator[Candidate]:
    """Container ports that docker-proxy carries here, where either end is a common one."""
    for forward in snapshot.forwards:
        if not COMMON_PORTS.isdisjoint((forward.host_port, forward.container_port)):
            pid = behind(snapshot, forward)
            if pid is None or pid not in snapshot.roots:
                why = f"container port {forward.container_port} published here"
                yield _candidate(
                    snapshot, url(snapshot.reached(forward.host), forward.host_port), pid, why, inside=True
                )


def _others(snapshot: Snapshot) -> Iterator[Candidate]:
    """Sockets of this namespace that no server above accounts for: an inference library loaded, then a common port."""
    net = snapshot.own_net
    taken = {number for pid in snapshot.roots for number in snapshot.tree(pid)}
    published = {forward.host_port for forward in snapshot.forwards}
    loaded, known, unknown = [], [], []

    def is_open(item: Listener) -> bool:
        holders = {*snapshot.holders(item), snapshot.owner(item, net)}
        return item.port not in published and snapshot.own_pid not in holders and taken.isdisjoint(holders)

    for item in one_each(filter(is_open, snapshot.listeners(net) or ())):
        owner = snapshot.owner(item, net)
        address, why = url(snapshot.reached(item.address), item.port), f"listens on port {item.port}"
        comm = snapshot.processes[owner].comm if owner is not None else ""
        if owner is not None and comm not in FORWARDERS and (hint := _library(snapshot, owner)):
            loaded.append(_candidate(snapshot, address, owner, f"{why} with an inference library", hint=hint))
        elif item.port not in COMMON_PORTS:
            continue
        elif comm in FORWARDERS:
            unknown.append(_candidate(snapshot, address, None, f"port {item.port}, forwarded by {comm}"))
        elif owner is not None:
            known.append(_candidate(snapshot, address, owner, why))
        else:
            unknown.append(_candidate(snapshot, address, None, f"port {item.port}; its process cannot be seen"))
    yield from (*loaded, *known, *unknown)


def _library(snapshot: Snapshot, pid: int) -> str:
    """The engine whose library a process has mapped, or "" (also where its mappings may not be read)."""
    maps = read(f"{snapshot.root}/{pid}/maps")
    if isinstance(maps, OSError):
        return ""
    return next((engine for pattern, engine in _LIBRARIES if pattern.search(maps)), "")
