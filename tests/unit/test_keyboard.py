"""The reader of the keyboard: it gets every key, tells Escape from a sequence, and ends when it is told to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
from textual import events

from qtop.ui.keyboard import PatientDriver, _Bell


class Reader:
    """The driver's reader on a pipe, without a terminal."""

    def __init__(self) -> None:
        there, self.keys = os.pipe()
        self.heard: Queue[Any] = Queue()
        kind: Any = PatientDriver
        self.driver: Any = kind.__new__(kind)
        self.driver.fileno, self.driver._debug, self.driver.exit_event = there, False, _Bell()
        self.driver.process_message = self.heard.put
        self.thread = threading.Thread(target=self.driver.run_input_thread, daemon=True)
        self.thread.start()

    def next_key(self) -> str:
        event = self.heard.get(timeout=10)
        assert isinstance(event, events.Key)
        return event.key


@pytest.fixture
def reader() -> Iterator[Reader]:
    one = Reader()
    yield one
    one.driver.exit_event.set()
    one.thread.join(10)
    assert not one.thread.is_alive()


def test_keys_arrive(reader: Reader) -> None:
    os.write(reader.keys, b"q\x1b[A")
    assert reader.next_key() == "q"
    assert reader.next_key() == "up"


def test_an_escape_alone_is_a_key_and_one_in_pieces_is_not(reader: Reader) -> None:
    os.write(reader.keys, b"\x1b")
    assert reader.next_key() == "escape"
    half, rest = "é".encode()[:1], "é".encode()[1:]
    os.write(reader.keys, half)
    os.write(reader.keys, rest)
    event = reader.heard.get(timeout=10)
    assert event.character == "é"


def test_it_ends_though_no_key_comes_and_begins_again(reader: Reader) -> None:
    bell = reader.driver.exit_event
    bell.set()
    bell.set()
    reader.thread.join(10)
    assert not reader.thread.is_alive()
    bell.clear()
    assert not bell.is_set()
    reader.thread = threading.Thread(target=reader.driver.run_input_thread, daemon=True)
    reader.thread.start()
    os.write(reader.keys, b"x")
    assert reader.next_key() == "x"


def test_the_end_of_input_is_not_read_for_ever(reader: Reader) -> None:
    os.write(reader.keys, b"a")
    assert reader.next_key() == "a"
    os.close(reader.keys)
    assert reader.heard.empty()
