"""Recordings of qtop before blocks, gzip members of JSON lines: they open for ever, whatever happened to the file."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.members import MEMBER_RECORDS, MemberFile
from tests.fakes.samples import HEADER, SAMPLES, hurt, small

from qtop.errors import QtopError
from qtop.record.inflate import read_lines
from qtop.record.reader import Recording
from qtop.sample import Event, Sample
from qtop.sample.codec import SCHEMA, encode_sample


def record(path: Path, count: int, start: float = 1000.0) -> Path:
    """A whole recording of ``count`` small samples, a second apart."""
    file = MemberFile(path, HEADER)
    for i in range(count):
        file.append(encode_sample(small(start + i)))
    file.close()
    return path


def test_plain_gzip_reads_it(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 2 * MEMBER_RECORDS + 5)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert len(lines) == 2 * MEMBER_RECORDS + 6
    assert msgspec.json.decode(lines[0])["kind"] == "header"
    assert len(Recording(path).index) == 3


def test_cut_at_every_byte(tmp_path: Path) -> None:
    data = record(tmp_path / "a.qtop", MEMBER_RECORDS + 4).read_bytes()
    cut = tmp_path / "cut.qtop"
    last = 0
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        try:
            recording = Recording(cut, allow_empty=True)
        except QtopError as error:
            assert "is empty" in str(error) or "cut off" in str(error), size
            assert last == 0
            continue
        times = [sample.t for sample in recording.samples()]
        assert times == [1000.0 + i for i in range(len(times))]
        assert len(times) >= last, "more bytes never give fewer samples"
        assert recording.skipped <= 1
        assert list(recording.events()) == []
        assert recording.end == (times[-1] if times else 0.0)
        last = len(times)
    assert last == MEMBER_RECORDS + 4


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_anywhere_never_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("d")
    raw = bytearray(record(folder / "a.qtop", 2 * MEMBER_RECORDS).read_bytes())
    hurt(data, raw)
    (folder / "b.qtop").write_bytes(raw)
    try:
        recording = Recording(folder / "b.qtop", allow_empty=True)
        list(recording.records())
        list(recording.seek(1030.0))
        assert recording.duration >= 0.0
    except QtopError as error:
        assert "\n" not in str(error)


def test_a_damaged_member_costs_only_itself(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 3 * MEMBER_RECORDS)
    marks = Recording(path).index
    assert len(marks) == 4  # the header is the first record of the first member
    raw = bytearray(path.read_bytes())
    middle = (marks[1].offset + marks[2].offset) // 2
    raw[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(raw)
    recording = Recording(path)
    times = [sample.t for sample in recording.samples()]
    assert times[-1] == 1000.0 + 3 * MEMBER_RECORDS - 1
    assert set(times) >= {1000.0 + i for i in range(MEMBER_RECORDS - 1)}
    assert set(times) >= {marks[2].t, marks[3].t}
    assert 1 <= recording.skipped <= 3


def test_an_unreadable_record_is_skipped_and_counted(tmp_path: Path) -> None:
    file = MemberFile(tmp_path / "a.qtop", HEADER)
    for line in (
        encode_sample(small(1.0)),
        b'{"k":"s","t":"soon"}',
        b"\xff\xfe",
        b'{"k":"z"}',
        encode_sample(small(2.0)),
    ):
        file.append(line)
    file.close()
    recording = Recording(tmp_path / "a.qtop")
    assert [sample.t for sample in recording.samples()] == [1.0, 2.0]
    assert recording.skipped == 2  # an unknown kind is not damage
    assert [sample.t for sample in recording.samples()] == [1.0, 2.0]
    assert recording.skipped == 2  # counted once


def test_lines_of_another_writer(tmp_path: Path) -> None:
    file = MemberFile(tmp_path / "a.qtop", HEADER)
    file.append(b'{ "t": 3.0, "k": "s" }')
    file.append(b'{"data": {}, "k": "e", "t": 4, "kind": "x"}')
    file.close()
    recording = Recording(tmp_path / "a.qtop")
    assert list(recording.samples()) == [Sample(t=3.0)]
    assert list(recording.events()) == [Event(4.0, "x", {})]


def test_recompressed_and_concatenated_files(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 80)
    again = tmp_path / "again.qtop"
    with gzip.open(again, "wb") as out:  # has a name and a time in its header
        out.write(gzip.decompress(path.read_bytes()))
    assert [sample.t for sample in Recording(again).seek(1079.0)] == [1079.0]
    both = tmp_path / "both.qtop"
    torn = path.read_bytes()[:-20]
    both.write_bytes(torn + record(tmp_path / "b.qtop", 3, start=2000.0).read_bytes())
    recording = Recording(both)
    assert [sample.t for sample in recording.samples()][-3:] == [2000.0, 2001.0, 2002.0]
    assert len(list(recording.samples())) == 82 and recording.skipped >= 1


def test_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = MemberFile(path, msgspec.structs.replace(HEADER, schema=SCHEMA + 6))
    file.append(encode_sample(small(1.0)))
    file.close()
    with pytest.raises(QtopError) as caught:
        Recording(path)
    assert str(caught.value) == f"recorded by a newer qtop (schema {SCHEMA + 6}): update qtop"


@settings(max_examples=30, deadline=None)
@given(t=st.floats(900, 1400))
def test_seek_begins_at_the_last_sample_before(tmp_path_factory: pytest.TempPathFactory, t: float) -> None:
    path = tmp_path_factory.getbasetemp() / "seek.qtop"
    if not path.exists():
        record(path, 250)
    times = [sample.t for sample in Recording(path).seek(t)]
    begin = min(max(math.floor(t), 1000), 1249)
    assert times == [float(i) for i in range(begin, 1250)]


def test_seek_reads_only_from_its_member_on(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 4 * MEMBER_RECORDS)
    recording = Recording(path)
    mark = recording.index[3]
    raw = bytearray(path.read_bytes())
    second = recording.index[1].offset
    raw[second + 30 : second + 60] = bytes(30)
    path.write_bytes(raw)
    times = [sample.t for sample in recording.seek(mark.t + 5)]
    assert times[0] == mark.t + 5 and recording.skipped == 0


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = MemberFile(path, HEADER)
    file.append(encode_sample(small(1000.0)))
    recording = Recording(path)
    for i in range(1, 3 * MEMBER_RECORDS):
        file.append(encode_sample(small(1000.0 + i)))
        if i % 17 == 0:
            assert sum(1 for _ in recording.samples()) == i + 1
            assert recording.end == 1000.0 + i
            assert [sample.t for sample in recording.seek(1e9)] == [1000.0 + i]
    assert recording.skipped == 0
    assert len(recording.index) == 4
    file.close()


def test_a_record_seen_half_written_is_not_held_against_the_file(tmp_path: Path) -> None:
    data = record(tmp_path / "a.qtop", 5).read_bytes()
    path = tmp_path / "b.qtop"
    path.write_bytes(data[:-30])
    recording = Recording(path)
    assert len(list(recording.samples())) < 5 and recording.skipped == 1
    path.write_bytes(data)
    assert len(list(recording.samples())) == 5 and recording.skipped == 0


def test_a_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 1)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.compress(b"\n") + packer.flush()
    data = path.read_bytes() + bomb
    largest = max(len(line.data or b"") for line in read_lines(io.BytesIO(data)))
    assert largest < 1 << 20
    path.write_bytes(data)
    recording = Recording(path)
    assert len(list(recording.samples())) == 1 and recording.skipped == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=5))
def test_file_round_trip(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> None:
    path = tmp_path_factory.mktemp("r") / "a.qtop"
    file = MemberFile(path, HEADER)
    for sample in samples:
        file.append(encode_sample(sample))
    file.close()
    recording = Recording(path)
    assert list(recording.samples()) == samples
    assert recording.skipped == 0
