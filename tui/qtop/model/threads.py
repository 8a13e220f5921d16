"""The threads of a server between two samples: shares of wall time.

Δrun_delay/Δwall, never Δdelay/(Δrun+Δdelay): the latter alarms on an idle thread beside a busy loop. The kernel books a
wait when the thread at last gets its CPU, so one second can show more wait than fits in it: shares are cut at 1.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import compress
from operator import attrgetter, is_, is_not

from qtop.model.frame import ThreadView
from qtop.model.roles import ENGINES
from qtop.sample import ProcessSample, ThreadSample

Views = tuple[list[ThreadView], list[ThreadView]]
"""Of threads that ran or waited, and of those that slept through."""


def thread_views(
    process: ProcessSample,
    old: tuple[ThreadSample, ...],
    new: tuple[ThreadSample, ...],
    naming: tuple[str, str],
    seconds: float,
) -> Views:
    """Those that are in both samples; ``naming`` is the process's role and rank.

    Nearly all threads of a server sleep, and those are the same objects in both samples: they are passed over without
    a look at each.
    """
    title = process.title or process.comm
    names = _names(process.pid, *naming, title)
    if len(old) == len(new):
        idle = _idle_row(old, new, names)
        moved = zip(compress(new, map(is_not, old, new)), compress(old, map(is_not, old, new)), strict=True)
        still = list(compress(idle, map(is_, old, new)))
    else:  # some have come or gone
        before = {one.tid: one for one in old}
        moved = ((one, before[one.tid]) for one in new if one.tid in before)  # type: ignore[assignment]
        still = []
    views: list[ThreadView] = []
    missing: dict[int, ThreadSample] | None = None
    for thread, same_place in moved:
        was: ThreadSample | None = same_place
        if same_place.tid != thread.tid:  # places tell nothing
            missing = missing or {one.tid: one for one in old}
            was = missing.get(thread.tid)
        if was is None or thread.run_ns < was.run_ns or thread.wait_ns < was.wait_ns:
            continue
        if thread.run_ns != was.run_ns or thread.wait_ns != was.wait_ns or thread.slices != was.slices:
            views.append(_moved(thread, was, names, seconds))
        else:
            still.append(_idle(thread, names))
    return views, still


Names = tuple[int, str, str, str]
"""Of a process: pid, role, rank, title."""
_ROWS = 64
_idle_rows: dict[Names, tuple[tuple[ThreadSample, ...], list[ThreadView]]] = {}
"""The threads of a process when last seen, and what to say of each if it sleeps."""


@lru_cache(maxsize=1024)
def _names(pid: int, role: str, rank: str, title: str) -> Names:
    """The same object for the same names."""
    return (pid, role, rank, title)


def _idle_row(old: tuple[ThreadSample, ...], new: tuple[ThreadSample, ...], names: Names) -> list[ThreadView]:
    """What to say of each thread of ``new`` if it sleeps: the same objects every tick. Frames are kept for a quarter
    of an hour: of a vLLM with 178 threads that is 14 MB less."""
    known = _idle_rows.get(names)
    if known is not None and known[0] is old:
        row = known[1].copy()
        for place in compress(range(len(new)), map(is_not, old, new)):
            was, now = old[place], new[place]
            if was.processor != now.processor or was.tid != now.tid or _settled(was) != _settled(now):
                row[place] = _idle(now, names)
    else:
        row = [_idle(thread, names) for thread in new]
    if len(_idle_rows) >= _ROWS:
        _idle_rows.clear()
    _idle_rows[names] = (new, row)
    return row


_settled = attrgetter("comm", "allowed")


def _idle(thread: ThreadSample, names: Names) -> ThreadView:
    return _idle_view(thread.tid, thread.comm, thread.allowed, thread.processor, names)


@lru_cache(maxsize=4096)
def _idle_view(tid: int, comm: str, allowed: str, processor: int, names: Names) -> ThreadView:
    pid, process_role, rank, title = names
    role = process_role if tid == pid else ""
    return ThreadView(pid, tid, comm, role, 0.0, 0.0, 0.0, 0.0, allowed, processor, process_role, rank, title)


def _moved(thread: ThreadSample, was: ThreadSample, names: Names, seconds: float) -> ThreadView:
    """A thread between two readings of it."""
    pid, process_role, rank, title = names
    span = seconds * 1e9
    return ThreadView(
        pid,
        thread.tid,
        thread.comm,
        process_role if thread.tid == pid else "",
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


def by_waiting(moved: list[ThreadView]) -> list[ThreadView]:
    """The longest-waiting first, then those that ran most."""
    return sorted(moved, key=_WAIT_RUN, reverse=True)


_WAIT_RUN = attrgetter("wait", "run")


def critical_threads(threads: list[ThreadView], engine: str) -> tuple[ThreadView, ...]:
    """Of a server with an engine process (vLLM, SGLang): its main thread and the API servers'. Else: the thread that
    ran and waited most. ``threads``: at least those that moved and the main ones, not empty."""
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
