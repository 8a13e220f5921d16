"""Samples and events to JSON lines and back.

A line is one JSON object whose first key says what it is: ``{"k":"s",…}`` a Sample, ``{"k":"e",…}`` an Event. The key
is spliced in front of the struct's own encoding and ignored like any unknown field on the way back, so neither way
builds a wrapper. The first line of a file is the Header.
"""

from __future__ import annotations

import math
import os
from typing import Literal, get_args

import msgspec

from qtop import __version__
from qtop.clock import wall
from qtop.errors import QtopError
from qtop.sample.absent import Absent, Why
from qtop.sample.types import Event, Sample

SCHEMA = 1
"""Raised when an older qtop would misread a file; fields that it may ignore do not raise it."""

CONTAINER = 2
"""How a recording is kept: 1 gzip members of JSON lines, 2 frames of rows and blocks."""

Source = Literal["real", "stub", "synthetic", "unknown"]

SAMPLE_PREFIX = b'{"k":"s",'
EVENT_PREFIX = b'{"k":"e",'
_INT_MAX = 2**63


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a recording: what it is and where it comes from, without naming the host or its user."""

    qtop: int = CONTAINER
    """Version of the container."""
    schema: int = SCHEMA
    kind: str = "header"
    created: float
    """Unix time."""
    qtop_version: str
    source: Source = "unknown"
    """"real" hardware and server, a "stub" server, "synthetic" numbers, or "unknown"."""
    note: str = ""
    interval: float = 1.0
    """Seconds between samples, as intended."""
    kernel: str = ""
    """Release of the kernel (uname -r); "" if not known."""
    cpus: int = 0
    """CPUs of the host; 0 if not known."""
    truncated: bool = False
    """True when the file holds only part of what was observed, and that was known when it was made."""
    prompts: bool = False
    """True when the texts of test prompts and their answers were kept (``--include prompts``)."""

    @classmethod
    def here(
        cls,
        interval: float,
        source: Source = "unknown",
        note: str = "",
        truncated: bool = False,
        prompts: bool = False,
    ) -> Header:
        """A header for a recording that begins now on this host; ``interval`` in seconds."""
        return cls(
            created=wall(),
            qtop_version=__version__,
            source=source,
            note=note,
            interval=interval,
            kernel=os.uname().release,
            cpus=os.cpu_count() or 0,
            truncated=truncated,
            prompts=prompts,
        )


class Stamp(msgspec.Struct, frozen=True):
    """The two fields that tell a line's kind and time without decoding the rest."""

    k: str = ""
    t: float = math.nan


class _Version(msgspec.Struct, frozen=True):
    qtop: int
    schema: int
    kind: str


_encoder = msgspec.json.Encoder()
_sample_decoder = msgspec.json.Decoder(Sample)
_event_decoder = msgspec.json.Decoder(Event)
_stamp_decoder = msgspec.json.Decoder(Stamp)


def encode_sample(sample: Sample) -> bytes:
    """One line without its newline. A number that JSON cannot hold is dropped (series) or becomes Absent(FAILED).

    QtopError if it stands where the Sample must have a number.
    """
    return SAMPLE_PREFIX + _encode(sample, _sample_decoder)[1:]


def encode_event(event: Event) -> bytes:
    """One line without its newline; QtopError if ``data`` holds what is not JSON."""
    return EVENT_PREFIX + _encode(event, _event_decoder)[1:]


def decode_sample(line: bytes) -> Sample:
    """The Sample of a line; unknown fields are ignored. QtopError if it is not one."""
    try:
        return _sample_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QtopError(f"damaged record: {error}") from None


def decode_event(line: bytes) -> Event:
    """The Event of a line; unknown fields are ignored. QtopError if it is not one."""
    try:
        return _event_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QtopError(f"damaged record: {error}") from None


def decode_stamp(line: bytes) -> Stamp:
    """Kind ("s", "e", or "" for a header) and time of a line, without decoding the rest; QtopError if damaged."""
    try:
        return _stamp_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise QtopError(f"damaged record: {error}") from None


def encode_header(header: Header) -> bytes:
    """The first line of a recording, without its newline."""
    return _encoder.encode(_mend(msgspec.to_builtins(header)))


def decode_header(line: bytes) -> Header | None:
    """The Header, or None if the line is not one; QtopError if its schema is newer than this qtop knows."""
    try:
        version = msgspec.json.decode(line, type=_Version)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if version.kind != "header":
        return None
    if version.qtop > CONTAINER:
        raise QtopError(f"recorded by a newer qtop (container {version.qtop}): update qtop")
    if version.schema > SCHEMA:
        raise QtopError(f"recorded by a newer qtop (schema {version.schema}): update qtop")
    try:
        fields = msgspec.json.decode(line, type=dict[str, object])
        if fields.get("source") not in get_args(Source):
            fields["source"] = "unknown"
        return msgspec.convert(fields, Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _encode(item: Sample | Event, decoder: msgspec.json.Decoder[Sample] | msgspec.json.Decoder[Event]) -> bytes:
    try:
        raw = _encoder.encode(item)
        # No field of a Sample is None, so a null is a number that is not finite (or a word in some text, harmless).
        if isinstance(item, Event) or b"null" not in raw:
            return raw
    except (ValueError, OverflowError):
        pass  # a lone surrogate in a name from the kernel, or an integer beyond 64 bits: mended below
    except TypeError as error:
        raise QtopError(f"cannot be recorded: {error}") from None
    try:
        raw = _encoder.encode(_mend(msgspec.to_builtins(item)))
        decoder.decode(raw)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise QtopError(f"cannot be recorded: {error}") from None
    return raw


def _mend(value: object) -> object:
    """Plain JSON values with what JSON or UTF-8 cannot hold replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mend(key): _drop_unfit(item) if key == "series" else _mend(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mend(item) for item in value]
    if _unfit(value):
        return msgspec.to_builtins(Absent(Why.FAILED, "not a finite number"))
    return value


def _drop_unfit(series: object) -> object:
    if not isinstance(series, dict):
        return _mend(series)
    return {_mend(name): value for name, value in series.items() if not _unfit(value)}


def _unfit(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, int) and not -_INT_MAX <= value < 2 * _INT_MAX
