"""The threads of a server between two samples: shares of wall time.

Δrun_delay/Δwall, never Δdelay/(Δrun+Δdelay): the latter alarms on an idle thread beside a busy loop. The kernel books a
wait when the thread at last gets its CPU, so one second can show more wait than fits in it: shares are cut at 1.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

from qtop.model.frame import ThreadView
from qtop.model.roles import ENGINES
from qtop.sample import ProcessSample, ThreadSample


def thread_views(
    process: ProcessSample,
    old: tuple[ThreadSample, ...],
    new: tuple[ThreadSample, ...],
    naming: tuple[str, str],
    seconds: float,
) -> list[ThreadView]:
    """Those that are in both samples; ``naming`` is the process's role and rank."""
    before: dict[int, ThreadSample] | None = None
    pid, title = process.pid, process.title or process.comm
    process_role, rank = naming
    names = _names(pid, process_role, rank, title)
    span = seconds * 1e9
    views = []
    places: tuple[ThreadSample | None, ...] = (*old[: len(new)], *(None,) * (len(new) - len(old)))
    for thread, was in zip(new, places, strict=True):
        if was is not None and was.tid != thread.tid:  # some have come or gone: places tell nothing
            was = None
        if was is None:
            before = before or {one.tid: one for one in old}
            was = before.get(thread.tid)
        if was is thread:  # as the reader gives those that slept: nearly all
            known = _idle_views.get(id(thread))
            if known is not None and known[1] is names:
                views.append(known[2])
                continue
        if was is None or thread.run_ns < was.run_ns or thread.wait_ns < was.wait_ns:
            continue
        if thread is was or (thread.run_ns, thread.wait_ns, thread.slices) == (was.run_ns, was.wait_ns, was.slices):
            views.append(_idle(thread, names))
            continue
        role = process_role if thread.tid == pid else ""
        views.append(
            ThreadView(
                pid,
                thread.tid,
                thread.comm,
                role,
                min(1.0, (thread.run_ns - was.run_ns) / span),
                min(1.0, (thread.wait_ns - was.wait_ns) / span),
                0.0,
                (thread.slices - was.slices) / seconds,
                thread.allowed,
                thread.processor,
                process_role,
                rank,
                title,
            )
        )
    return views


Names = tuple[int, str, str, str]
"""Of a process: pid, role, rank, title."""
_MOST_IDLE = 4096
_idle_views: dict[int, tuple[ThreadSample, Names, ThreadView]] = {}
"""By the identity of the sample, which is kept with it, so that the identity stays its own."""


@lru_cache(maxsize=1024)
def _names(pid: int, role: str, rank: str, title: str) -> Names:
    """The same object for the same names."""
    return (pid, role, rank, title)


def _idle(thread: ThreadSample, names: Names) -> ThreadView:
    """A thread that did nothing: the same object every tick. Most of a server's threads are idle, and frames are kept
    for a quarter of an hour: of a vLLM with 178 threads that is 14 MB less."""
    view = _idle_view(thread.tid, thread.comm, thread.allowed, thread.processor, names)
    if len(_idle_views) >= _MOST_IDLE:
        _idle_views.clear()
    _idle_views[id(thread)] = (thread, names, view)
    return view


@lru_cache(maxsize=_MOST_IDLE)
def _idle_view(tid: int, comm: str, allowed: str, processor: int, names: Names) -> ThreadView:
    """The same for a sample that is equal and not the same object, as a recording gives them."""
    pid, process_role, rank, title = names
    role = process_role if tid == pid else ""
    return ThreadView(pid, tid, comm, role, 0.0, 0.0, 0.0, 0.0, allowed, processor, process_role, rank, title)


def by_waiting(threads: list[ThreadView]) -> list[ThreadView]:
    """The longest-waiting first, then those that ran most; most are idle and keep their order."""
    moved = [thread for thread in threads if thread.wait or thread.run]
    moved.sort(key=_WAIT_RUN, reverse=True)
    return moved + [thread for thread in threads if not (thread.wait or thread.run)]


_WAIT_RUN = attrgetter("wait", "run")


def critical_threads(threads: list[ThreadView], engine: str) -> tuple[ThreadView, ...]:
    """Of a server with an engine process (vLLM, SGLang): its main thread and the API servers'. Else: the thread that
    ran and waited most."""
    busiest, most = threads[0], threads[0].run + threads[0].wait
    mains: tuple[ThreadView, ...] = ()
    named = False
    for thread in threads:
        used = thread.run + thread.wait
        if used > most:
            busiest, most = thread, used
        if thread.role and (thread.role in ENGINES or thread.role == "api"):
            mains += (thread,)
            named |= thread.role != "api"
    if engine != "vllm" and not named:
        return (busiest,)
    # Where the engine's process bears no title of its own, the busiest thread stands in for it.
    return mains if named or busiest in mains else tuple(sorted((*mains, busiest), key=_waited, reverse=True))


def _waited(thread: ThreadView) -> float:
    return thread.wait
