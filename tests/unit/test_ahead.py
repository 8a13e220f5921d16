"""Reading ahead: the same items in the same order, no more of them than asked for, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from qtop.record.ahead import BATCH, DEPTH, ahead


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, BATCH * DEPTH * 3 + 1])
def test_the_same_items_in_the_same_order(count: int) -> None:
    assert list(ahead(range(count))) == list(range(count))


def test_what_is_raised_comes_after_the_items_before_it() -> None:
    def torn() -> Iterator[int]:
        yield from range(BATCH + 3)
        raise OSError("gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="gone"):
        for item in ahead(torn()):
            seen.append(item)
    assert seen == list(range(BATCH + 3))


def test_it_reads_no_further_than_it_may_and_stops_when_nobody_wants_more() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    items = ahead(endless())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()  # type: ignore[attr-defined]
    assert len(taken) <= BATCH * (DEPTH + 4)
    assert "ahead" not in {thread.name for thread in threading.enumerate()}
