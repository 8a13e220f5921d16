"""Blocks give back every byte of the lines they were made of, and the very Samples; damaged ones, one clear error."""

from __future__ import annotations

import random
import tracemalloc
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.samples import SAMPLES, small

from qtop.errors import QtopError
from qtop.record.block import decode_block, decode_events, decode_lines, encode_block
from qtop.record.blockfile import BLOCK_RECORDS
from qtop.record.columns import Packed, Unfit, pack, read, write
from qtop.record.reader import Recording
from qtop.record.tree import MAX_VALUES
from qtop.sample import EngineSample, Event, HostSample, Sample, ServerProcs
from qtop.sample.codec import decode_event, decode_sample, encode_event, encode_sample

DATA = Path(__file__).parent.parent / "data"
FOLDERS = [*(DATA / "recordings").rglob("."), *sorted((DATA.parent / "rules").iterdir())]
INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-300, 300)
FLOATS = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 2.0**53, 2.0**53 + 2, 1e300])
    | st.integers(-(10**6), 10**6).map(lambda number: number / 100)
)


def back(lines: list[bytes]) -> list[bytes]:
    """The lines after a block, by way of Samples; the block itself gives them back too."""
    block = encode_block(lines)
    assert block is not None
    assert decode_lines(block) == lines
    found = decode_block(block, {})
    assert decode_events(block) == [one for one in found if isinstance(one, Event)]
    return [encode_sample(one) if isinstance(one, Sample) else encode_event(one) for one in found]


def exact(values: list[Any]) -> list[tuple[type, str]]:
    """So that 1, 1.0 and True, and 0.0 and -0.0, are not the same."""
    return [(type(value), repr(value)) for value in values]


# Numbers


@settings(deadline=None)
@given(st.lists(st.lists(INTEGERS, min_size=1, max_size=9) | st.lists(FLOATS, min_size=1, max_size=9), max_size=5))
def test_numbers_come_back_bit_for_bit(columns: list[list[Any]]) -> None:
    packed: list[Packed] = []
    kept: list[list[Any]] = []
    for column in columns:
        try:
            packed.append(pack(column))
        except Unfit:  # some have no place in 64 bits: their block stays rows
            assert isinstance(column[0], int) and max(map(abs, column)) > 2**62
            continue
        kept.append(column)
    found = read(memoryview(write(packed)), 1000)
    assert [exact(column) for column in found.columns] == [exact(column) for column in kept]
    if any(exact([value]) == exact([-0.0]) for column in kept for value in column):
        assert found.signed_zero


def test_counters_take_a_byte_a_value() -> None:
    counters = [[10**15 + 1_000_000 * i + i % 7 for i in range(60)] for _ in range(50)]
    assert len(write([pack(column) for column in counters])) < 50 * (60 + 24) + 64


# Samples


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SAMPLES, min_size=1, max_size=6))
def test_any_samples_come_back(samples: list[Sample]) -> None:
    lines = [encode_sample(sample) for sample in samples]
    assert back(lines) == lines


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_real_samples_with_sections_of_others_come_back(data: st.DataObject) -> None:
    path = DATA / "recordings/healthy/h200-8-streams.qtop"
    samples = list(islice(Recording(path).samples(), 12))
    for at in data.draw(st.lists(st.integers(0, 11), max_size=4)):
        other = data.draw(SAMPLES)
        name = data.draw(st.sampled_from(Sample.__struct_fields__))
        samples[at] = msgspec.structs.replace(samples[at], **{name: getattr(other, name)})
    lines = [encode_sample(sample) for sample in samples]
    for at in data.draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        lines.insert(at, encode_event(Event(float(at), "note", {"at": at, "text": "ä\n"})))
    assert back(lines) == lines


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_recording_comes_back(folder: Path) -> None:
    for path in folder.glob("*.qtop"):
        records = list(Recording(path).records())
        lines = [encode_sample(one) if isinstance(one, Sample) else encode_event(one) for one in records]
        for at in range(0, len(lines), BLOCK_RECORDS):
            some = lines[at : at + BLOCK_RECORDS]
            assert back(some) == some
            block = encode_block(some)
            assert block is not None
            assert decode_block(block, {}) == records[at : at + BLOCK_RECORDS]


def test_zeros_of_either_sign_stay_what_they_are() -> None:
    lines = [
        encode_sample(Sample(t=1.0, engine=EngineSample(at=at, scrape_ms=1.0, series={"a": 0.5, "b": -at})))
        for at in (0.0, -0.0, -0.0, 0.0)
    ]
    assert back(lines) == lines


def test_what_does_not_change_is_one_object() -> None:
    samples = list(islice(Recording(DATA / "recordings/h100-steady16.qtop").samples(), 5, 45))
    seen: dict[tuple[int, bytes], Any] = {}
    found: list[Any] = []
    for some in (samples[:20], samples[20:]):
        block = encode_block([encode_sample(sample) for sample in some])
        assert block is not None
        found += decode_block(block, seen)
    kept = asleep = 0
    for before, after in pairwise(found):
        assert isinstance(before.procs, ServerProcs) and isinstance(after.procs, ServerProcs)
        for old, new in zip(before.procs.processes, after.procs.processes, strict=True):
            assert isinstance(old.threads, tuple) and isinstance(new.threads, tuple)
            for was, now in zip(old.threads, new.threads, strict=True):
                asleep += was == now
                kept += was is now
        assert isinstance(after.host, HostSample)
    assert len({id(sample.server) for sample in found}) == len({encode_sample(Sample(1, one.server)) for one in found})
    assert asleep > 1000 and kept >= 0.95 * asleep


def test_a_block_of_another_version_of_the_types() -> None:
    """Fields that are not known are passed over; one line that is no Sample costs itself."""
    lines = [encode_sample(small(float(at))) for at in range(5)]
    newer = [line[:-1] + b',"from_the_future":{"x":[1,%d]}}' % at for at, line in enumerate(lines)]
    block = encode_block(newer)
    assert block is not None
    assert decode_block(block, {}) == [decode_sample(line) for line in lines]
    odd = [b'{"k":"s","t":"soon"}' if at == 2 else line for at, line in enumerate(lines)]
    block = encode_block(odd)
    assert block is not None
    assert decode_lines(block) == odd
    with pytest.raises(QtopError, match="damaged block"):
        decode_block(block, {})


def test_whole_numbers_where_a_type_has_floats() -> None:
    lines = [
        b'{"k":"s","t":%d,"engine":{"type":"engine","at":1,"scrape_ms":2,"series":{"a":%d}}}' % (t, t) for t in (3, 4)
    ]
    block = encode_block(lines)
    assert block is not None
    assert decode_lines(block) == lines
    assert decode_block(block, {}) == [decode_sample(line) for line in lines]
    assert [type(one.t) for one in decode_block(block, {})] == [float, float]


def test_a_line_that_is_not_as_qtop_writes_it_is_not_put_into_a_block() -> None:
    assert encode_block([b'{"k":"s","t": 3.0}']) is None  # a space: it would not come back
    assert encode_block([b'{"k":"s",']) is None


# Damage


def test_damage_is_one_clear_error_or_samples() -> None:
    samples = list(islice(Recording(DATA / "recordings/healthy/h200-8-streams.qtop").samples(), 8))
    lines = [encode_sample(sample) for sample in samples]
    lines.insert(3, encode_event(Event(1.0, "x", {})))
    block = encode_block(lines)
    assert block is not None
    chance = random.Random(7)
    refused = 0
    for _ in range(400):
        raw = bytearray(block)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 4))
        for decode in (decode_lines, decode_events, lambda data: decode_block(data, {})):
            try:
                found = decode(bytes(raw))
            except QtopError as error:
                refused += 1
                assert str(error).startswith("damaged ")
                continue
            for one in found:
                assert isinstance(one, (bytes, Sample, Event))
                if isinstance(one, Sample):  # of the right types throughout: the line codec takes it
                    assert decode_sample(encode_sample(one)) == one
    assert refused > 100


@given(st.binary(max_size=200))
def test_garbage_is_one_clear_error(garbage: bytes) -> None:
    for decode in (decode_lines, decode_events, lambda data: decode_block(data, {})):
        with pytest.raises(QtopError, match="damaged block"):
            decode(garbage)


@pytest.mark.parametrize(
    "node",
    [
        {"a": ["x"] * 300_000},
        {"o": {"t": 1.0, "engine": {"o": {"series": {"o": {str(i): 1.0 for i in range(100_000)}}}}}},
        {"f": 1, "n": 4_000_000},
        {"o": {"procs": {"a": [1] * 100_000, "n": 100_000}}},
        {"v": [1.0] * 100_000, "i": 0},
        {"o": {"t": [0]}},
        {"o": {"t": [-1]}},
        {"w": [1.0], "i": 5},
        [7],
        [],
        {},
    ],
    ids=lambda node: str(node)[:20],
)
def test_a_block_made_to_fill_the_memory(node: Any) -> None:
    tree = msgspec.json.encode({"n": 240, "sample": node, "events": []})
    block = len(tree).to_bytes(4, "little") + tree + write([pack([1, 2])])
    tracemalloc.start()
    for decode in (decode_lines, lambda data: decode_block(data, {})):
        with pytest.raises(QtopError, match="damaged block"):
            decode(block)
    assert tracemalloc.get_traced_memory()[1] < 16 * MAX_VALUES + (1 << 25)
    tracemalloc.stop()


def test_events_alone() -> None:
    lines = [encode_event(Event(1.0, "a", {})), encode_event(Event(2.0, "b", {"x": None}))]
    assert back(lines) == lines
    block = encode_block(lines)
    assert block is not None
    assert decode_events(block) == [decode_event(line) for line in lines]
