"""Lines of a minute as one block of bytes, and back.

Layout: length of the tree (4 bytes, little-endian), the tree (JSON: ``n`` samples, their ``sample`` node, ``events`` as
[place among all records, event]), then the columns of numbers one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qtop.errors import QtopError
from qtop.record.columns import Numbers, read, write
from qtop.record.tree import MAX_VALUES, Decoder, Encoder
from qtop.record.typed import Typed
from qtop.sample.codec import SAMPLE_PREFIX, decode_event
from qtop.sample.types import Event, Sample

MAX_RECORDS = 240
"""Of a block."""
Seen = dict[tuple[int, bytes], Any]
"""Constant parts of earlier blocks; begin with an empty one."""


class _Tree(msgspec.Struct):
    n: int
    sample: Any
    events: list[tuple[int, msgspec.Raw]]


_tree_decoder = msgspec.json.Decoder(_Tree)
_json = msgspec.json.Encoder()


def encode_block(lines: Sequence[bytes]) -> bytes | None:
    """The block of these lines, at least one and at most MAX_RECORDS; None where it would not give back every byte of
    them, which is checked."""
    samples = [line for line in lines if line.startswith(SAMPLE_PREFIX)]
    events = [(at, msgspec.Raw(line)) for at, line in enumerate(lines) if not line.startswith(SAMPLE_PREFIX)]
    encoder = Encoder()
    try:
        node = encoder.node([msgspec.json.decode(line) for line in samples]) if samples else None
        tree = _json.encode(_Tree(len(samples), node, events))
        data = b"".join((len(tree).to_bytes(4, "little"), tree, write(encoder.columns)))
        return data if decode_lines(data) == list(lines) else None
    except (QtopError, ValueError, RecursionError):
        return None


def decode_lines(data: bytes) -> list[bytes]:
    """The lines that were encoded, byte for byte. QtopError if it is no block."""
    try:
        tree, columns, _ = _parts(data)
        rows = Decoder(columns).rows(tree.sample, tree.n) if tree.n else []
        return _woven(tree, [_json.encode(row) for row in rows], bytes)
    except Exception as error:  # of damaged bytes anything may be raised
        raise QtopError(f"damaged block: {error}") from None


def decode_block(data: bytes, seen: Seen) -> list[Sample | Event]:
    """Samples and events in the order in which they were recorded. QtopError if it is no block, or holds what is none
    of them."""
    try:
        tree, columns, signed_zero = _parts(data)
        samples = Typed(columns, signed_zero, seen).typed(Sample, tree.sample, tree.n) if tree.n else []
        return _woven(tree, samples, decode_event)
    except Exception as error:  # of damaged bytes anything may be raised
        raise QtopError(f"damaged block: {error}") from None


def decode_events(data: bytes) -> list[Event]:
    """The events alone. QtopError if it is no block."""
    try:
        end = 4 + int.from_bytes(data[:4], "little")
        return [decode_event(event) for _, event in _tree_decoder.decode(memoryview(data)[4:end]).events]
    except Exception as error:  # of damaged bytes anything may be raised
        raise QtopError(f"damaged block: {error}") from None


def _parts(data: bytes) -> tuple[_Tree, list[Numbers], bool]:
    view = memoryview(data)
    at = 4 + int.from_bytes(view[:4], "little")
    tree = _tree_decoder.decode(view[4:at])
    if not 0 <= tree.n <= MAX_RECORDS or len(tree.events) > MAX_RECORDS:
        raise ValueError("too many records")
    columns, signed_zero = read(view[at:], MAX_VALUES)
    return tree, columns, signed_zero


def _woven(tree: _Tree, samples: list[Any], event: Any) -> list[Any]:
    out = list(samples)
    for place, line in tree.events:
        out.insert(place, event(line))
    return out
