"""A file of blocks while it grows: seeking and reading in it, and letting the oldest go."""

from __future__ import annotations

import math
import shutil
import tarfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.samples import HEADER, record, rows, small, times

from qtop.record import blockfile
from qtop.record.blockfile import BLOCK_RECORDS
from qtop.record.bundle import bundle
from qtop.record.frames import HEAD
from qtop.record.reader import Recording
from qtop.record.redact import Redactor
from qtop.record.writer import RecordingWriter
from qtop.sample.codec import encode_sample

# Seeking, and reading while it is written


@settings(max_examples=30, deadline=None)
@given(t=st.floats(900, 1400))
def test_seek_begins_at_the_last_sample_before(tmp_path_factory: pytest.TempPathFactory, t: float) -> None:
    path = tmp_path_factory.getbasetemp() / "seek.qtop"
    if not path.exists():
        record(path, 250)
    begin = min(max(math.floor(t), 1000), 1249)
    assert [one.t for one in Recording(path).seek(t)] == [float(i) for i in range(begin, 1250)]


def test_seek_reads_only_from_its_block_on(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 4 * BLOCK_RECORDS)
    recording = Recording(path)
    mark, second = recording.index[3], recording.index[1].offset
    raw = bytearray(path.read_bytes())
    raw[second + HEAD + 5 : second + HEAD + 15] = bytes(10)
    path.write_bytes(raw)
    assert next(one.t for one in recording.seek(mark.t + 5)) == mark.t + 5 and recording.skipped == 0


def test_a_file_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, 1)
    recording = Recording(path)
    slow = recording.samples()
    assert next(slow).t == 1000.0
    for i in range(1, 3 * BLOCK_RECORDS + 7):
        file.append(encode_sample(small(1000.0 + i)))
        if i % 17 == 0:
            assert times(recording) == [1000.0 + k for k in range(i + 1)]
            assert recording.end == 1000.0 + i
            assert [sample.t for sample in recording.seek(1e9)] == [1000.0 + i]
        if i % 40 == 30:  # rows that it has been told of are blocks by now
            assert [one.t for one in islice(slow, 25)] == [
                1000.0 + i for i in range(i // 40 * 25 + 1, i // 40 * 25 + 26)
            ]
    rest = [one.t for one in slow]
    assert rest[-1] == 1000.0 + 3 * BLOCK_RECORDS + 6 and rest == sorted(set(rest))
    assert recording.skipped == 0
    file.close()


# Letting the oldest go


def test_the_oldest_blocks_go(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, 10 * BLOCK_RECORDS + 30)
    held = Recording(path)
    before = held.samples()
    assert next(before).t == 1000.0
    assert not file.drop_before(1000.0 + 2 * BLOCK_RECORDS)  # a fifth: not worth a copy
    assert file.drop_before(1000.0 + 5 * BLOCK_RECORDS + 20)
    kept = [1000.0 + i for i in range(5 * BLOCK_RECORDS, 10 * BLOCK_RECORDS + 30)]
    recording = Recording(path)
    assert times(recording) == kept and recording.skipped == 0 and recording.header == HEADER
    assert [one.t for one in before][-1] == kept[-1]
    assert file.bytes == path.stat().st_size and path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.qtop"]
    for i in range(10 * BLOCK_RECORDS + 30, 11 * BLOCK_RECORDS + 5):
        file.append(encode_sample(small(1000.0 + i)))
        kept.append(1000.0 + i)
    assert file.drop_before(1e12) and times(Recording(path)) == kept[-5:]
    file.close()
    assert times(Recording(path)) == kept[-5:] and times(recording) == kept[-5:]


def test_the_oldest_blocks_go_until_the_file_is_small_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, 10 * BLOCK_RECORDS + 30)
    size = file.bytes
    assert not file.drop_to(size)
    assert file.drop_to(size - 1)
    assert file.bytes == path.stat().st_size <= 0.75 * size
    kept = times(Recording(path))
    assert kept[-1] == 1000.0 + 10 * BLOCK_RECORDS + 29 and len(kept) >= 2 * BLOCK_RECORDS
    assert kept == [kept[0] + i for i in range(len(kept))] and (kept[0] - 1000.0) % BLOCK_RECORDS == 0
    assert file.drop_to(1), "all that is in blocks"
    assert times(Recording(path)) == kept[-30:]
    file.close()


def test_a_ring_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    writer = RecordingWriter(path, HEADER, redactor=Redactor())
    largest = 0
    for i in range(40 * BLOCK_RECORDS):
        writer.sample(small(float(i)))
        if i % BLOCK_RECORDS == 0:
            writer.drop_before(i - 600.0)
        while writer.stats.samples + 30 < i:
            pass
        largest = max(largest, writer.stats.bytes)
    writer.close()
    found = times(Recording(path))
    assert found[-1] == 40 * BLOCK_RECORDS - 1 and 600 <= len(found) <= 900 and writer.stats.dropped == 0
    assert found == [float(i) for i in range(int(found[0]), 40 * BLOCK_RECORDS)]
    assert largest < 3 * record(tmp_path / "b.qtop", 900).stat().st_size + 60 * 200


def test_a_file_that_is_no_longer_under_its_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, 4 * BLOCK_RECORDS)
    path.rename(tmp_path / "moved.qtop")
    path.write_text("precious")
    assert not file.drop_before(1e12)
    file.append(encode_sample(small(5000.0)))
    file.close()
    assert path.read_text() == "precious"
    assert times(Recording(tmp_path / "moved.qtop"))[-1] == 5000.0


def test_no_room_to_let_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, 4 * BLOCK_RECORDS)

    def full(fd: int, data: Any, offset: int) -> None:
        raise OSError(28, "x")

    monkeypatch.setattr(blockfile, "write_at", full)
    with pytest.raises(OSError, match="x"):
        file.drop_before(1e12)
    monkeypatch.undo()
    file.append(encode_sample(small(5000.0)))
    file.close()
    assert len(times(Recording(path))) == 4 * BLOCK_RECORDS + 1
    assert [one.name for one in tmp_path.iterdir()] == ["a.qtop"]


def test_a_bundle_of_a_file_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block takes the place of its rows, and the file becomes shorter, while it is copied."""
    path = tmp_path / "a.qtop"
    file = rows(path, BLOCK_RECORDS - 1)
    before = path.stat().st_size
    copy = shutil.copyfileobj
    copied: list[int] = []

    def slow(source: Any, target: Any) -> None:
        copy(source, target)
        if not copied:
            file.append(encode_sample(small(2000.0)))
        copied.append(source.seek(0, 2))

    monkeypatch.setattr("qtop.record.bundle.shutil.copyfileobj", slow)
    bundle(path, tmp_path / "b.tar.gz", {})
    file.abandon()
    assert len(copied) == 2 and copied[-1] < before
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        inner = tar.extractfile("b/a.qtop")
        assert inner is not None and inner.read() == path.read_bytes()
