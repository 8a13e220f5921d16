"""The threads of a server between two samples: shares of wall time.

Δrun_delay/Δwall, never Δdelay/(Δrun+Δdelay): the latter alarms on an idle thread beside a busy loop. The kernel books a
wait when the thread at last gets its CPU, so one second can show more wait than fits in it: shares are cut at 1.
"""

from __future__ import annotations

from functools import lru_cache

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
    before = {thread.tid: thread for thread in old}
    pid, title = process.pid, process.title or process.comm
    process_role, rank = naming
    span = seconds * 1e9
    views = []
    for thread in new:
        was = before.get(thread.tid)
        if was is None or thread.run_ns < was.run_ns or thread.wait_ns < was.wait_ns:
            continue
        role = process_role if thread.tid == pid else ""
        if thread is was or (thread.run_ns, thread.wait_ns, thread.slices) == (was.run_ns, was.wait_ns, was.slices):
            views.append(
                _idle(pid, thread.tid, thread.comm, role, thread.allowed, thread.processor, process_role, rank, title)
            )
            continue
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


@lru_cache(maxsize=4096)
def _idle(
    pid: int,
    tid: int,
    comm: str,
    role: str,
    allowed: str,
    processor: int,
    process_role: str,
    rank: str,
    process: str,
) -> ThreadView:
    """A thread that did nothing: the same object every tick. Most of a server's threads are idle, and frames are kept
    for a quarter of an hour: of a vLLM with 178 threads that is 14 MB less."""
    return ThreadView(pid, tid, comm, role, 0.0, 0.0, 0.0, 0.0, allowed, processor, process_role, rank, process)


def critical_threads(threads: list[ThreadView], engine: str) -> tuple[ThreadView, ...]:
    """Of a server with an engine process (vLLM, SGLang): its main thread and the API servers'. Else: the thread that
    ran and waited most."""
    busiest = max(threads, key=lambda thread: thread.run + thread.wait)
    named = any(thread.role in ENGINES for thread in threads)
    if engine != "vllm" and not named:
        return (busiest,)
    mains = tuple(thread for thread in threads if thread.role in ENGINES or thread.role == "api")
    # Where the engine's process bears no title of its own, the busiest thread stands in for it.
    return mains if named or busiest in mains else tuple(sorted((*mains, busiest), key=_waited, reverse=True))


def _waited(thread: ThreadView) -> float:
    return thread.wait
