"""Recordings: what is written comes back, whatever happens to the writer, the disk or the file."""

from __future__ import annotations

import gzip
import io
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import types
import typing
import zlib
from enum import Enum
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.errors import QtopError
from qtop.record.bundle import bundle
from qtop.record.inflate import read_lines
from qtop.record.members import MEMBER_RECORDS, MemberFile
from qtop.record.reader import Recording
from qtop.record.redact import Redactor
from qtop.record.writer import QUEUE, RecordingWriter
from qtop.sample import (
    Absent,
    EngineSample,
    Event,
    Gpm,
    GpuSample,
    GpuSection,
    HostSample,
    Sample,
    ServerInfo,
)
from qtop.sample.codec import (
    SCHEMA,
    Header,
    decode_event,
    decode_header,
    decode_sample,
    encode_event,
    encode_header,
    encode_sample,
)

HEADER = Header(created=1000.0, qtop_version="0", source="synthetic")
PLAIN = Redactor()


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


SAMPLES = st.deferred(lambda: strategy(Sample))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def small(t: float) -> Sample:
    """A sample of a few dozen bytes that differs from others."""
    return Sample(t=t, engine=EngineSample(at=t, scrape_ms=1.0, series={"vllm:x": t}))


def record(path: Path, count: int, start: float = 1000.0) -> Path:
    """A whole recording of ``count`` small samples, a second apart, without threads."""
    file = MemberFile(path, HEADER)
    for i in range(count):
        file.append(encode_sample(small(start + i)))
    file.close()
    return path


# Codec


@settings(max_examples=60, deadline=None)
@given(SAMPLES)
def test_sample_round_trip(sample: Sample) -> None:
    line = encode_sample(sample)
    assert b"\n" not in line
    assert decode_sample(line) == sample


@settings(max_examples=60, deadline=None)
@given(t=st.floats(0, 1e10), kind=st.text(max_size=5), data=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_event_round_trip(t: float, kind: str, data: dict[str, object]) -> None:
    event = Event(t, kind, data)
    assert decode_event(encode_event(event)) == event


def test_numbers_that_json_cannot_hold_become_absent() -> None:
    sample = Sample(
        t=1.0,
        engine=EngineSample(at=1.0, scrape_ms=1.0, series={"a": math.nan, "b": math.inf, "c": 3.0}),
        gpu=GpuSection(at=1.0, gpus=(GpuSample(at=1.0, index=0, gpm=Gpm(sm_util=math.nan, dram_util=5.0)),)),
    )
    back = decode_sample(encode_sample(sample))
    assert isinstance(back.engine, EngineSample) and back.engine.series == {"c": 3.0}
    assert isinstance(back.gpu, GpuSection)
    gpm = back.gpu.gpus[0].gpm
    assert isinstance(gpm, Gpm) and isinstance(gpm.sm_util, Absent) and gpm.dram_util == 5.0


def test_a_sample_without_a_time_is_refused() -> None:
    with pytest.raises(QtopError, match="cannot be recorded"):
        encode_sample(Sample(t=math.nan))


def test_names_that_are_not_unicode_are_mended() -> None:
    back = decode_sample(encode_sample(Sample(t=1.0, server=ServerInfo(model="m\udcff"))))
    assert isinstance(back.server, ServerInfo) and back.server.model == "m?"


def test_the_word_null_in_a_text_changes_nothing() -> None:
    sample = Sample(t=1.0, server=ServerInfo(model="null"), host=HostSample(at=1.0, cpus={}))
    assert decode_sample(encode_sample(sample)) == sample


def test_unknown_fields_are_ignored() -> None:
    line = encode_sample(small(5.0))
    assert decode_sample(line[:-1] + b',"from_the_future":{"x":[1]}}') == small(5.0)


def test_event_that_is_not_json_is_refused() -> None:
    with pytest.raises(QtopError, match="cannot be recorded"):
        encode_event(Event(1.0, "x", {"a": object()}))


@given(st.binary(max_size=40))
def test_decoding_garbage_is_a_clear_error(garbage: bytes) -> None:
    for decode in (decode_sample, decode_event):
        with pytest.raises(QtopError, match="damaged record"):
            decode(b"[" + garbage)
    assert decode_header(garbage) is None


def test_header_round_trip_and_strange_source() -> None:
    header = Header.here(interval=0.5, source="stub", note="n")
    assert decode_header(encode_header(header)) == header
    assert os.uname().nodename.encode() not in encode_header(msgspec.structs.replace(header, kernel="", note=""))
    strange = encode_header(header).replace(b'"stub"', b'"dreamt"')
    found = decode_header(strange)
    assert found is not None and found.source == "unknown"


# Writing


def test_writer_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    writer = RecordingWriter(path, HEADER, redactor=PLAIN)
    for i in range(10):
        writer.sample(small(1000.0 + i))
    writer.event(Event(1004.5, "note", {"a": 1}))
    writer.close()
    assert writer.error is None
    assert writer.stats.samples == 10 and writer.stats.events == 1 and writer.stats.dropped == 0
    assert writer.stats.bytes == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    recording = Recording(path)
    assert recording.header == HEADER
    assert [sample.t for sample in recording.samples()] == [1000.0 + i for i in range(10)]
    assert list(recording.events()) == [Event(1004.5, "note", {"a": 1})]
    assert len(list(recording.records())) == 11
    assert recording.duration == 9.0 and recording.skipped == 0


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


def test_plain_gzip_reads_it(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 2 * MEMBER_RECORDS + 5)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert len(lines) == 2 * MEMBER_RECORDS + 6
    assert msgspec.json.decode(lines[0])["kind"] == "header"
    assert len(Recording(path).index) == 3


def test_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    path.write_text("precious")
    with pytest.raises(QtopError, match=r"a\.qtop exists: choose another name or pass --force"):
        RecordingWriter(path, HEADER)
    assert path.read_text() == "precious"
    path.chmod(0o666)
    held = path.open()
    writer = RecordingWriter(path, HEADER, overwrite=True)
    writer.sample(small(1.0))
    writer.close()
    assert len(list(Recording(path).samples())) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert held.read() == "precious"
    held.close()


def test_force_does_not_follow_links_or_replace_folders(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(QtopError, match="not a plain file"):
        RecordingWriter(link, HEADER, overwrite=True)
    with pytest.raises(QtopError, match="is a folder"):
        RecordingWriter(tmp_path, HEADER, overwrite=True)
    with pytest.raises(QtopError, match="cannot create"):
        RecordingWriter(tmp_path / "none" / "a.qtop", HEADER)
    assert target.read_text() == "precious"


def test_a_slow_disk_drops_the_latest_and_never_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    append = MemberFile.append
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    monkeypatch.setattr(MemberFile, "append", lambda self, line: (release.wait(30), append(self, line))[1])
    for i in range(QUEUE + 50):
        writer.sample(small(float(i)))
    assert writer.stats.dropped >= 49  # one may be in the writer's hands
    release.set()
    writer.close(30)
    kept = [sample.t for sample in Recording(tmp_path / "a.qtop").samples()]
    assert kept == [float(i) for i in range(len(kept))]  # the earliest stay: no hole before the end
    assert len(kept) + writer.stats.dropped == QUEUE + 50


def test_a_sample_that_cannot_be_encoded_is_counted(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    writer.sample(Sample(t=math.nan))
    writer.event(Event(1.0, "x", {"a": object()}))
    writer.sample(small(2.0))
    writer.close()
    assert writer.error is None and writer.stats.dropped == 2 and writer.stats.samples == 1
    writer.sample(small(3.0))
    assert writer.stats.dropped == 3
    writer.close()


def test_an_event_changed_after_it_was_handed_over_is_recorded_as_it_was(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    data: dict[str, object] = {"list": [1]}
    writer.event(Event(1.0, "x", data))
    data["list"] = "changed"
    writer.sample(small(1.0))
    writer.close()
    assert next(Recording(tmp_path / "a.qtop").events()).data == {"list": [1]}


@pytest.mark.parametrize(
    ("code", "words"), [("ENOSPC", "disk full"), ("EIO", "disk error"), ("EROFS", "read-only"), ("EDQUOT", "quota")]
)
def test_a_failing_write_stops_visibly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    import errno

    path = tmp_path / "a.qtop"
    writer = RecordingWriter(path, HEADER, redactor=PLAIN)
    real, state = os.write, {"left": 3}

    def write(fd: int, data: typing.Any) -> int:
        if len(data) == 1:  # not ours
            return real(fd, data)
        if state["left"] == 0:
            real(fd, bytes(data)[:7])  # a full disk takes a part first
            raise OSError(getattr(errno, code), "x")
        state["left"] -= 1
        return real(fd, data)

    monkeypatch.setattr("qtop.record.members.os.write", write)
    for i in range(10):
        writer.sample(small(float(i)))
    writer.close()
    monkeypatch.undo()
    assert writer.error is not None
    assert words in writer.error and f"3 samples kept in {path}" in writer.error and "\n" not in writer.error
    assert writer.stats.samples == 3 and writer.stats.dropped + 1 >= 7
    recording = Recording(path)
    assert [sample.t for sample in recording.samples()] == [0.0, 1.0, 2.0]
    assert recording.skipped == 0


def test_a_full_disk_at_the_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: typing.Any) -> int:
        raise OSError(28, "x")

    monkeypatch.setattr("qtop.record.members.os.write", write)
    with pytest.raises(QtopError, match=r"cannot write .*No space left"):
        RecordingWriter(tmp_path / "a.qtop", HEADER)
    monkeypatch.undo()
    assert not (tmp_path / "a.qtop").exists()


def test_a_file_that_was_removed_stops_visibly(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    writer = RecordingWriter(path, HEADER, redactor=PLAIN)
    path.unlink()
    for i in range(MEMBER_RECORDS):
        writer.sample(small(float(i)))
    writer.close()
    assert writer.error is not None and "removed" in writer.error and "is gone" in writer.error


FILL = """
import os, resource, sys
from pathlib import Path
from qtop.record.writer import RecordingWriter
from qtop.record.redact import Redactor
from qtop.sample import Sample, ServerInfo
from qtop.sample.codec import Header
import threading
import time
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
writer = RecordingWriter(Path(sys.argv[1]), Header(created=0.0, qtop_version="0"), redactor=Redactor())
i = 0
while writer.error is None and i < 5000:
    writer.sample(Sample(t=float(i), server=ServerInfo(model=os.urandom(300).hex())))
    i += 1
    if i % 20 == 0:
        time.sleep(0.01)
writer.close()
print(writer.stats.samples)
print(writer.error)
"""


def check_filled(path: Path, printed: str, words: str) -> None:
    kept, error = printed.splitlines()
    assert error.startswith(words) and f"{kept} samples kept in" in error
    recording = Recording(path)
    assert [sample.t for sample in recording.samples()] == [float(i) for i in range(int(kept))]
    assert int(kept) > 0 and recording.skipped == 0


def test_file_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path), "50000"], capture_output=True, text=True, timeout=60, check=True
    )
    check_filled(path, done.stdout, "file size limit reached: recording stopped at ")


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare (util-linux)")
def test_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=64k none "$1" || exit 77'
    run = '"$2" -c "$3" "$1/a.qtop" && cp "$1/a.qtop" "$4"'
    arguments = ["sh", str(disk), sys.executable, FILL, str(tmp_path / "copy.qtop")]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount}; {run}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no permission to mount a tmpfs")
    check_filled(tmp_path / "copy.qtop", done.stdout, "disk full: recording stopped at ")


ENDLESS = """
import os, sys, time
from pathlib import Path
from qtop.record.writer import RecordingWriter
from qtop.record.redact import Redactor
from qtop.sample import Sample, ServerInfo
from qtop.sample.codec import Header
writer = RecordingWriter(Path(sys.argv[1]), Header(created=0.0, qtop_version="0"), redactor=Redactor())
for i in range(20000):
    writer.sample(Sample(t=float(i), server=ServerInfo(model=os.urandom(600).hex())))
    while i + 1 - writer.stats.samples > 8:
        time.sleep(0.0005)
    print(writer.stats.samples, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_loses_at_most_the_torn_record(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.qtop"
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    wanted = random.Random(seed).randint(1, 150)
    for line in child.stdout:
        if int(line) >= wanted:
            break
    child.send_signal(signal.SIGKILL)
    written = max([wanted, *(int(line) for line in child.stdout if line.strip())])
    child.wait()
    child.stdout.close()
    recording = Recording(path)
    times = [sample.t for sample in recording.samples()]
    assert times == [float(i) for i in range(len(times))]
    assert len(times) >= written
    assert recording.skipped <= 1
    zcat = subprocess.run(["gzip", "-dc", str(path)], capture_output=True, check=False).stdout
    assert len(zcat.splitlines()) >= len(times) + 1


# Reading what is torn


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
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
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


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"\x1f\x8b garbage",
        gzip.compress(b"hello\n", mtime=0),
        gzip.compress(b'{"a":1}\n', mtime=0),
        b"PK\x03\x04",
        bytes(5000),
    ],
)
def test_what_is_not_a_recording(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.qtop"
    path.write_bytes(content)
    with pytest.raises(QtopError, match=r"a\.qtop is not a qtop recording"):
        Recording(path)


def test_empty_missing_and_odd_files(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    path.write_bytes(b"")
    with pytest.raises(QtopError, match="is empty"):
        Recording(path)
    path.unlink()
    with pytest.raises(QtopError, match="No such file"):
        Recording(path)
    os.mkfifo(path)
    with pytest.raises(QtopError, match="not a plain file"):
        Recording(path)
    with pytest.raises(QtopError, match="not a plain file"):
        Recording(tmp_path)
    bare = record(tmp_path / "bare.qtop", 0)
    with pytest.raises(QtopError, match="is empty: it holds no sample"):
        Recording(bare)
    recording = Recording(bare, allow_empty=True)
    assert list(recording.samples()) == [] and recording.duration == 0.0 and recording.skipped == 0
    assert list(recording.seek(5.0)) == []


# Seeking, and reading while it is written


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


# Bundles


def test_bundle(tmp_path: Path) -> None:
    path = record(tmp_path / "a.qtop", 3)
    out = tmp_path / "report.tar.gz"
    bundle(path, out, {"doctor.json": b"{}", "environment.txt": b"x"})
    assert out.stat().st_mode & 0o777 == 0o600
    with tarfile.open(out) as tar:
        names = tar.getnames()
        assert names == ["report/a.qtop", "report/doctor.json", "report/environment.txt"]
        assert all((one.uname, one.gname, one.uid) == ("", "", 0) for one in tar.getmembers())
        inner = tar.extractfile("report/a.qtop")
        assert inner is not None and inner.read() == path.read_bytes()
    with pytest.raises(QtopError, match="exists"):
        bundle(path, out, {})
    bundle(path, out, {}, overwrite=True)
    with pytest.raises(QtopError, match="is the recording itself"):
        bundle(path, path, {}, overwrite=True)
    for name in ("../x", "a/b", "", "a.qtop", ".hidden"):
        with pytest.raises(QtopError, match="cannot be a file in a bundle"):
            bundle(path, tmp_path / "b.tar.gz", {name: b""})
    assert not (tmp_path / "b.tar.gz").exists()
    (tmp_path / "not.qtop").write_text("x")
    with pytest.raises(QtopError, match="not a qtop recording"):
        bundle(tmp_path / "not.qtop", tmp_path / "c.tar.gz", {})


def test_closing_while_the_disk_hangs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    append = MemberFile.append
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    monkeypatch.setattr(MemberFile, "append", lambda self, line: (release.wait(30), append(self, line))[1])
    writer.sample(small(1.0))
    time.sleep(0.05)
    writer.close(timeout=0.1)
    assert writer.error is not None and "does not answer" in writer.error
    release.set()
