"""Samples for tests of recordings: any that the types allow, and small ones; recordings of them."""

from __future__ import annotations

import types
import typing
from enum import Enum
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from qtop.record.blockfile import BlockFile
from qtop.record.reader import Recording
from qtop.sample import EngineSample, Sample
from qtop.sample.codec import Header, encode_sample

HEADER = Header(created=1000.0, qtop_version="0", source="synthetic")


def strategy(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Values of an annotated type, so that a field added to a Sample is tested the day it is added."""
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([strategy(one) for one in arguments])
    if origin is tuple:
        return st.lists(strategy(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=2)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.builds(kind, **{name: strategy(one) for name, one in typing.get_type_hints(kind).items()})
    return {
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        bool: st.booleans(),
        type(None): st.none(),
    }[kind]


SAMPLES: st.SearchStrategy[Sample] = st.deferred(lambda: strategy(Sample))


def small(t: float) -> Sample:
    """A sample of a few dozen bytes that differs from others."""
    return Sample(t=t, engine=EngineSample(at=t, scrape_ms=1.0, series={"vllm:x": t}))


def record(path: Path, count: int, start: float = 1000.0) -> Path:
    """A whole recording of ``count`` small samples, a second apart, without threads."""
    rows(path, count, start).close()
    return path


def times(recording: Recording) -> list[float]:
    """Of all its samples."""
    return [sample.t for sample in recording.samples()]


def rows(path: Path, count: int, start: float = 1000.0) -> BlockFile:
    """A file with so many small samples, still open."""
    file = BlockFile(path, HEADER)
    for i in range(count):
        file.append(encode_sample(small(start + i)))
    return file


def hurt(data: st.DataObject, raw: bytearray) -> None:
    """Damage a file's bytes in one to three places: some written over, lost or added."""
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
