"""Recordings: what is written comes back, whatever happens to the writer, the disk or the file."""

from __future__ import annotations

import gzip
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
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.samples import HEADER, SAMPLES, record, small

from qtop.errors import QtopError
from qtop.record.blockfile import BLOCK_RECORDS, BlockFile
from qtop.record.bundle import bundle
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
    Header,
    decode_event,
    decode_header,
    decode_sample,
    encode_event,
    encode_header,
    encode_sample,
)

PLAIN = Redactor()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


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
    append = BlockFile.append
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    monkeypatch.setattr(BlockFile, "append", lambda self, line: (release.wait(30), append(self, line))[1])
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
    real, state = os.pwrite, {"left": 3}

    def write(fd: int, data: typing.Any, offset: int) -> int:
        if state["left"] == 0:
            real(fd, bytes(data)[:7], offset)  # a full disk takes a part first
            raise OSError(getattr(errno, code), "x")
        state["left"] -= 1
        return real(fd, data, offset)

    monkeypatch.setattr("qtop.record.files.os.pwrite", write)
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
    def write(fd: int, data: typing.Any, offset: int) -> int:
        raise OSError(28, "x")

    monkeypatch.setattr("qtop.record.files.os.pwrite", write)
    with pytest.raises(QtopError, match=r"cannot write .*No space left"):
        RecordingWriter(tmp_path / "a.qtop", HEADER)
    monkeypatch.undo()
    assert not (tmp_path / "a.qtop").exists()


def test_a_file_that_was_removed_stops_visibly(tmp_path: Path) -> None:
    path = tmp_path / "a.qtop"
    writer = RecordingWriter(path, HEADER, redactor=PLAIN)
    path.unlink()
    for i in range(BLOCK_RECORDS):
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


# Reading what is torn


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
    append = BlockFile.append
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER, redactor=PLAIN)
    monkeypatch.setattr(BlockFile, "append", lambda self, line: (release.wait(30), append(self, line))[1])
    writer.sample(small(1.0))
    time.sleep(0.05)
    writer.close(timeout=0.1)
    assert writer.error is not None and "does not answer" in writer.error
    release.set()
