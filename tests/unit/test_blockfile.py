"""The container: whole after every step of writing, read past cuts and damage, while it grows, and after the oldest
blocks went."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.samples import HEADER, SAMPLES, hurt, record, rows, small, times

from qtop.errors import QtopError
from qtop.record import blockfile
from qtop.record.blockfile import BLOCK_RECORDS, BlockFile
from qtop.record.files import write_at
from qtop.record.frames import BLOCK, HEAD, MAGIC, MAX_SIZE, ROW, Frame, make_frame, scan
from qtop.record.reader import DAMAGED_HEADER, Recording
from qtop.sample import Event, Sample, ServerInfo
from qtop.sample.codec import CONTAINER, Header, encode_event, encode_header, encode_sample


def frames(path: Path) -> list[Frame]:
    with path.open("rb") as file:
        return [one for one in scan(file, 0, path.stat().st_size) if isinstance(one, Frame)]


@settings(max_examples=15, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=5))
def test_file_round_trip(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> None:
    path = tmp_path_factory.mktemp("r") / "a.qtop"
    file = BlockFile(path, HEADER)
    for sample in samples:
        file.append(encode_sample(sample))
    for _ in ("rows", "a block"):
        recording = Recording(path)
        assert [encode_sample(sample) for sample in recording.samples()] == [encode_sample(one) for one in samples]
        assert recording.skipped == 0
        file.close()


def test_minutes_are_blocks_and_one_file_is_all(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 2 * BLOCK_RECORDS + 5)
    assert [(one.kind, one.records) for one in frames(path)] == [(BLOCK, 60), (BLOCK, 60), (BLOCK, 5)]
    assert [one.name for one in tmp_path.iterdir()] == ["a.qtop"]
    gzip.decompress(path.read_bytes())  # with the checksums of gzip
    recording = Recording(path)
    assert len(recording.index) == 3
    assert (recording.start, recording.end, recording.duration) == (1000.0, 1124.0, 124.0)


def test_events_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = BlockFile(path, HEADER)
    records: list[Sample | Event] = []
    for i in range(150):
        records.append(Event(float(i), "note", {"i": i}) if i % 7 == 3 or 70 < i < 132 else small(float(i)))
        last = records[-1]
        file.append(encode_sample(last) if isinstance(last, Sample) else encode_event(last))
    for _ in ("rows at the end", "blocks"):
        recording = Recording(path)
        assert list(recording.records()) == records
        assert list(recording.samples()) == [one for one in records if isinstance(one, Sample)]
        assert list(recording.events()) == [one for one in records if isinstance(one, Event)]
        file.close()


def test_an_older_qtop_says_that_the_file_is_newer(tmp_path: Path) -> None:
    """It reads the first line of a gzip member, and refuses a container above its own."""
    member = zlib.decompressobj(31)
    header = msgspec.json.decode(member.decompress(record(tmp_path / "a.qtop", 1).read_bytes()))
    assert (header["kind"], header["qtop"], header["schema"]) == ("header", 2, 1)


def test_a_newer_container_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    path.write_bytes(gzip.compress(encode_header(msgspec.structs.replace(HEADER, qtop=CONTAINER + 1)) + b"\n", mtime=0))
    with pytest.raises(QtopError) as caught:
        Recording(path)
    assert str(caught.value) == f"recorded by a newer qtop (container {CONTAINER + 1}): update qtop"


# Writing, cut short


def test_a_death_at_any_step_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at after every piece of every write, as kill -9 may leave it."""
    path, left = tmp_path / "a.qtop", tmp_path / "left.qtop"
    real, cut = write_at, os.ftruncate
    appended, seen = [0], [0]

    def look() -> None:
        left.write_bytes(path.read_bytes())
        if appended[0]:
            recording = Recording(left)
            found = times(recording)
            assert found == [1000.0 + i for i in range(len(found))] and len(found) >= appended[0]
            assert recording.skipped <= 1
            seen[0] += 1

    def write(fd: int, data: bytes, offset: int) -> None:
        for at in range(0, len(data), 41):
            look()
            real(fd, data[at : at + 41], offset + at)
        look()

    def truncate(fd: int, size: int) -> None:
        look()
        cut(fd, size)
        look()

    monkeypatch.setattr(blockfile, "write_at", write)
    monkeypatch.setattr(blockfile, "BLOCK_RECORDS", 7)
    monkeypatch.setattr("qtop.record.blockfile.os.ftruncate", truncate)
    file = BlockFile(path, HEADER)
    for i in range(24):
        file.append(encode_sample(small(1000.0 + i)))
        appended[0] = i + 1
    file.close()
    monkeypatch.undo()
    assert seen[0] > 150 and [one.kind for one in frames(path)] == [BLOCK] * 4
    assert times(Recording(path)) == [1000.0 + i for i in range(24)]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_disk_that_fails_while_a_block_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The rows stay, or the block behind them; what follows is written on."""
    path = tmp_path / "a.qtop"
    file = rows(path, BLOCK_RECORDS - 1)
    real, calls = write_at, [0]

    def write(fd: int, data: bytes, offset: int) -> None:
        if calls[0] == step + 1 or step == 2:  # the first is the row
            real(fd, data[: len(data) // 2], offset)
            if step < 2:
                raise OSError(28, "x")
        calls[0] += 1
        real(fd, data, offset)

    def truncate(fd: int, size: int) -> None:
        raise OSError(5, "x")

    monkeypatch.setattr(blockfile, "write_at", write)
    if step == 2:
        monkeypatch.setattr("qtop.record.blockfile.os.ftruncate", truncate)
    file.append(encode_sample(small(1000.0 + BLOCK_RECORDS - 1)))
    monkeypatch.undo()
    for i in range(BLOCK_RECORDS, 2 * BLOCK_RECORDS + 3):
        file.append(encode_sample(small(1000.0 + i)))
    file.close()
    recording = Recording(path)
    assert times(recording) == [1000.0 + i for i in range(2 * BLOCK_RECORDS + 3)]
    assert recording.skipped == 0


def test_rows_stay_where_a_block_would_not_be_smaller(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = BlockFile(path, HEADER)
    noise = [Sample(t=float(i), server=ServerInfo(model=os.urandom(30).hex())) for i in range(2)]
    file.append(encode_sample(noise[0]))
    file.close()
    assert [one.kind for one in frames(path)] == [ROW]
    assert list(Recording(path).samples()) == noise[:1]


# Cuts and damage


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = rows(path, BLOCK_RECORDS + 4)
    data = path.read_bytes()
    file.abandon()
    whole = [one.offset + one.size for one in frames(path)]
    first = frames(path)[0].offset
    cut = tmp_path / "cut.qtop"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        try:
            recording = Recording(cut, allow_empty=True)
        except QtopError as error:
            assert ("is empty" in str(error) or "cut off" in str(error)) and size < first, size
            continue
        ends = sum(end <= size for end in whole)
        count = 0 if not ends else BLOCK_RECORDS + ends - 1
        assert times(recording) == [1000.0 + i for i in range(count)], size
        assert recording.skipped == (size not in (first, *whole))
        assert list(recording.events()) == []
        assert recording.end == (1000.0 + count - 1 if count else 0.0)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_anywhere_never_gives_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("d")
    raw = bytearray(record(folder / "a.qtop", 3 * BLOCK_RECORDS).read_bytes())
    hurt(data, raw)
    (folder / "b.qtop").write_bytes(raw)
    try:
        recording = Recording(folder / "b.qtop", allow_empty=True)
        found = times(recording)
        assert found == sorted(found) and len(found) == len(set(found))
        list(recording.seek(1030.0))
        assert recording.duration >= 0.0
    except QtopError as error:
        assert "\n" not in str(error)


def test_what_is_lost_is_counted(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 4 * BLOCK_RECORDS)
    raw = bytearray(path.read_bytes())
    second, third = frames(path)[1:3]
    every = [1000.0 + i for i in range(4 * BLOCK_RECORDS)]
    for at in (second.offset + 3, second.offset + HEAD - 5, second.offset + HEAD + 40, third.offset - 2):
        hurt = bytearray(raw)
        hurt[at] ^= 0x55
        path.write_bytes(hurt)
        recording = Recording(path)
        assert times(recording) == every[:60] + every[120:], at
        assert recording.skipped == 60
        assert times(recording) == every[:60] + every[120:]
        assert recording.skipped == 60  # counted once
    for begin, end, kept in ((0, 20, every), (0, second.offset + 20, every[120:]), (third.offset, 10**9, every[:120])):
        hurt = bytearray(raw)
        hurt[begin:end] = bytes(min(end, len(raw)) - begin)
        path.write_bytes(hurt)
        recording = Recording(path)
        assert times(recording) == kept
        assert recording.skipped == (1 if end > 10**6 else len(every) - len(kept))  # at least one at the end
        if begin == 0:
            assert recording.header.note == DAMAGED_HEADER and recording.header.source == "unknown"


def test_only_what_is_no_sample_in_a_block_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    file = BlockFile(path, HEADER)
    for i in range(50):
        file.append(b'{"k":"s","t":%d.0,"own":5}' % i if i % 10 == 3 else encode_sample(small(float(i))))
    with pytest.raises(QtopError):
        file.append(b"\xff")
    file.close()
    assert [one.kind for one in frames(path)] == [BLOCK]
    recording = Recording(path)
    assert len(times(recording)) == 45 and recording.skipped == 5
    assert len(times(recording)) == 45 and recording.skipped == 5


def test_recordings_put_one_after_another(tmp_path: Path) -> None:
    both = tmp_path / "both.qtop"
    first, second = record(tmp_path / "a.qtop", 80), record(tmp_path / "b.qtop", 70, 2000.0)
    wanted = [1000.0 + i for i in range(80)] + [2000.0 + i for i in range(70)]
    both.write_bytes(first.read_bytes() + second.read_bytes())
    recording = Recording(both)
    assert times(recording) == wanted and recording.skipped == 0
    assert next(iter(recording.seek(2065.5))).t == 2065.0
    both.write_bytes(first.read_bytes()[:-20] + second.read_bytes())
    recording = Recording(both)
    assert times(recording) == wanted[:60] + wanted[80:]


def forged(kind: int, content: bytes, records: int = 1) -> bytes:
    return make_frame(kind, content, 0, records, 0, [1.0])


def test_bombs_do_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    start = path.with_suffix(".0")
    rows(start, 0).close()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    bomb = bytearray(forged(BLOCK, b"")[:HEAD] + packed + bytes(8))
    fields = bytearray(bomb[len(MAGIC) : HEAD - 4])
    struct.pack_into("<I", fields, 6, len(bomb))
    bomb[len(MAGIC) : HEAD] = bytes(fields) + struct.pack("<I", zlib.crc32(fields))
    tiny = b"".join(make_frame(ROW, encode_sample(small(1.0)), i, 1, 0, [1.0]) for i in range(5))
    path.write_bytes(start.read_bytes() + bytes(bomb) + tiny)
    tracemalloc.start()
    recording = Recording(path)
    assert times(recording) == [1.0] * 4 and recording.skipped >= 1
    assert tracemalloc.get_traced_memory()[1] < 3 * MAX_SIZE
    tracemalloc.stop()


def test_random_damage_of_a_growing_file(tmp_path: Path) -> None:
    """Rows and blocks, hit at random: what is untouched is read, and nothing is read that was not written."""
    path = tmp_path / "a.qtop"
    rows(path, 2 * BLOCK_RECORDS + 20).abandon()
    whole, found = path.read_bytes(), frames(path)
    chance = random.Random(3)
    for _ in range(150):
        raw = bytearray(whole)
        at = chance.randrange(found[0].offset, len(raw))
        raw[at] ^= chance.randint(1, 255)
        path.write_bytes(raw)
        recording = Recording(path)
        hit = next(one for one in found if one.offset <= at < one.offset + one.size)
        wanted = [1000.0 + i for i in range(140) if not hit.number <= i < hit.end]
        assert times(recording) == wanted or (at - hit.offset in (4, 5, 6, 7, 8, 9) and len(times(recording)) == 140)
        assert recording.skipped in (hit.records, 0)


def test_the_header_is_as_it_was_given(tmp_path: Path) -> None:
    header = Header.here(interval=0.5, source="stub", note="x")
    BlockFile(tmp_path / "a.qtop", header).close()
    assert Recording(tmp_path / "a.qtop", allow_empty=True).header == header


def test_kill_9_at_200_instants(tmp_path: Path) -> None:
    """Every file opens, from itself alone, with every sample that was written: not even two seconds are lost."""
    command = [sys.executable, "-m", "tests.fakes.killed_recorder", str(tmp_path), "200", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=True)
    told: dict[str, int] = json.loads(done.stdout)
    assert len(told) == len(list(tmp_path.iterdir())) == 200
    for path, written in told.items():
        recording = Recording(Path(path))
        found = times(recording)
        assert found == [float(i) for i in range(len(found))] and len(found) >= written > 0, path
        assert recording.skipped <= 1
    assert sum(told.values()) > 2000
