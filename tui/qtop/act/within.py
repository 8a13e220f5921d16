"""Work that may never end (a file on a network that hangs, a driver that does not answer), waited for so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooLong(Exception):
    """It has not ended; its thread is left to itself."""


def within(seconds: float, work: Callable[[], T], name: str) -> T:
    """What ``work`` gives, on a thread of this name; what it raises is raised here. Errors: TooLong."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TooLong
    return results[0]
