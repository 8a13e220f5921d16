"""Server-sent events, parsed as the bytes come in, whatever way they are cut (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re
from typing import NamedTuple

from qtop.errors import QtopError

MAX_PENDING = 8 * 2**20
"""Bytes that one unfinished event may hold; a stream beyond that is not an event stream."""

DOCUMENT = "document"
"""The type of an event that was no event of a stream but the whole answer, a JSON object."""

_EOL = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event: its data lines joined by "\\n", its type ("message" unless named) and the last id seen."""

    data: str
    event: str = "message"
    id: str = ""


class SseParser:
    """Turns chunks of bytes into events; the same bytes give the same events under any chunking.

    A line that ends in CR is complete at once: waiting for a possible LF would delay its event to the next chunk.
    """

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._data: list[str] = []
        self._pending = 0
        self._event = ""
        self._id = ""
        self._skip_lf = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that ``chunk`` completes, in order. Raises QtopError where one event exceeds MAX_PENDING bytes."""
        if not chunk:
            return []
        if self._skip_lf:
            self._skip_lf = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        self._skip_lf = chunk.endswith(b"\r")
        *lines, rest = _EOL.split(chunk)
        events: list[SseEvent] = []
        for line in lines:
            self._tail.append(line)
            self._line(b"".join(self._tail), events)
            self._tail.clear()
        if rest:
            self._tail.append(rest)
            self._pending += len(rest)
        if self._pending > MAX_PENDING:
            raise QtopError(f"one event of the stream is larger than {MAX_PENDING // 2**20} MiB")
        return events

    def end(self) -> list[SseEvent]:
        """The event left over where the stream ended without its blank line, if any.

        The standard drops it; some servers leave out the blank line after ``[DONE]``, so it is handed over here. It
        may be cut: data that does not parse is then no fault of the server.
        """
        events: list[SseEvent] = []
        if self._tail:
            self._line(b"".join(self._tail), events)
            self._tail.clear()
        self._dispatch(events)
        return events

    def _line(self, raw: bytes, events: list[SseEvent]) -> None:
        if self._at_start:
            self._at_start = False
            raw = raw.removeprefix(_BOM)
        if not raw:
            self._dispatch(events)
            return
        if raw.startswith(b":"):
            return
        # A line is decoded when it is whole, so a character split across chunks cannot be torn.
        name, _, value = raw.decode("utf-8", errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._pending += len(raw)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            events.append(SseEvent("\n".join(self._data), self._event or "message", self._id))
        self._data.clear()
        self._event = ""
        self._pending = 0


class AnswerFramer:
    """An event stream, or else one JSON object that is the whole answer: its first character says which it is."""

    def __init__(self) -> None:
        self._sse = SseParser()
        self._document: bytearray | None = None
        self._begun = False

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that ``chunk`` completes. Raises QtopError where one exceeds MAX_PENDING bytes."""
        if not self._begun and (head := chunk.lstrip()):
            self._begun = True
            if head[0] == 0x7B:  # "{" begins no line of an event stream that anybody sends
                self._document = bytearray()
        if self._document is None:
            return self._sse.feed(chunk)
        self._document += chunk
        if len(self._document) > MAX_PENDING:
            raise QtopError(f"the answer is larger than {MAX_PENDING // 2**20} MiB")
        return []

    def end(self) -> list[SseEvent]:
        """The document, or what a stream left over."""
        if self._document is None:
            return self._sse.end()
        text, self._document = self._document.decode("utf-8", errors="replace"), bytearray()
        return [SseEvent(text, DOCUMENT)] if text else []
