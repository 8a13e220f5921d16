"""Reading ahead of whoever takes: inflating needs no GIL, so a second core does it meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

BATCH = 8
"""Items handed over at once, because a hand-over costs too."""
DEPTH = 4
"""Batches that wait at most, so that memory stays flat."""


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, taken by a thread of its own; what that raises is raised here, after what came before."""
    ready: Queue[list[T]] = Queue(DEPTH)
    left = Event()
    failed: list[BaseException] = []

    def take() -> None:
        batch: list[T] = []
        try:
            for item in items:
                batch.append(item)
                if len(batch) == BATCH:
                    ready.put(batch)
                    batch = []
                if left.is_set():
                    return
        except BaseException as error:  # raised again where the items are wanted
            failed.append(error)
        if batch:
            ready.put(batch)
        ready.put([])

    taker = Thread(target=take, name="ahead", daemon=True)
    taker.start()
    try:
        while batch := ready.get():
            yield from batch
        if failed:
            raise failed[0]
    finally:
        left.set()
        while taker.is_alive():
            with suppress(Empty):  # it may wait for room
                ready.get_nowait()
            taker.join(0.01)
