"""A trace file (JSON lines, plain, .xz or .gz) to a recording, in flat memory: a pass to know it, one to convert."""

from __future__ import annotations

import json
import os
import statistics
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from qtop import __version__
from qtop.errors import QtopError
from qtop.record.blockfile import BlockFile
from qtop.record.trace import cpu_times, is_trace_line, samples
from qtop.record.trace_values import number
from qtop.sample.codec import Header, encode_sample

_DAMAGED: tuple[type[Exception], ...] = (EOFError, ValueError, zlib.error)
"""What reading a cut or damaged compressed file raises."""
try:
    from lzma import LZMAError
except ImportError:  # Python was built without liblzma: then no .xz file is read
    pass
else:
    _DAMAGED = (*_DAMAGED, LZMAError)

ORIGIN = "vLLM 0.25.1 on an H100"
MAX_LINE = 1 << 26
"""Bytes; a longer line is no line of a trace."""
_GAPS = 10_000
"""Differences of time that are looked at to tell the interval."""


class Imported(NamedTuple):
    """What came out of a trace."""

    samples: int
    seconds: float
    """From the first to the last."""
    skipped: int
    """Lines that are not lines of a trace: cut, damaged, something else."""


class _Survey(NamedTuple):
    first: float
    last: float
    interval: float
    cpus: int
    lines: int
    skipped: int
    cut: bool


def import_trace(trace: Path, out: Path, overwrite: bool = False) -> Imported:
    """Write the recording ``out`` from a trace; QtopError when it is not a trace or ``out`` cannot be written."""
    survey = _survey(trace)
    if out.exists() and out.samefile(trace):
        raise QtopError(f"{out} is the trace itself: choose another name")
    header = Header(
        created=survey.first,
        qtop_version=__version__,
        source="real",
        note=f"{ORIGIN}, imported from the trace {_stem(trace)}",
        interval=survey.interval,
        cpus=survey.cpus,
        truncated=survey.cut,
    )
    file = BlockFile(out, header, overwrite)
    try:
        for sample in samples(line for line in _lines(trace) if line is not None):
            file.append(encode_sample(sample))
        file.close()
    except OSError as error:
        out.unlink(missing_ok=True)
        raise QtopError(f"cannot write {out}: {os.strerror(error.errno or 0)}") from None
    except QtopError:
        out.unlink(missing_ok=True)
        raise
    finally:
        file.abandon()
    return Imported(survey.lines, survey.last - survey.first, survey.skipped)


def _survey(trace: Path) -> _Survey:
    first: float | None = None
    last = 0.0
    gaps: list[float] = []
    cpus = lines = skipped = 0
    cut = False
    for line in _lines(trace):
        cut = line is None
        if line is None:
            skipped += 1
            continue
        t = number(line.get("t")) or 0.0
        if first is None:
            first = t
        elif t > last and len(gaps) < _GAPS:
            gaps.append(t - last)
        last = max(last, t)
        lines += 1
        if not cpus:
            cpus = sum(1 for name in cpu_times(line.get("stat")) if name != "all")
    if first is None:
        raise QtopError(f"{trace} is not a trace: no line of it is a JSON object with a time and readings")
    interval = round(statistics.median(gaps), 2) if gaps else 1.0
    return _Survey(first, last, interval or 1.0, cpus, lines, skipped, cut)


def _lines(trace: Path) -> Iterator[dict[str, object] | None]:
    """The objects of a trace, None for each line that is not one; blank lines are passed over."""
    try:
        if not trace.is_file():
            reason = "not a plain file" if trace.exists() else "no such file"
            raise QtopError(f"cannot read {trace}: {reason}")
        with trace.open("rb") as plain:
            magic = plain.read(6)
            plain.seek(0)
            yield from _parsed(_unpacked(plain, magic))
    except OSError as error:
        raise QtopError(f"cannot read {trace}: {os.strerror(error.errno) if error.errno else error}") from None


def _unpacked(plain: BinaryIO, magic: bytes) -> BinaryIO:
    if magic == b"\xfd7zXZ\x00":
        try:
            import lzma
        except ImportError:
            raise QtopError("this Python cannot read .xz files", "Unpack the trace with xz -d first.") from None
        return cast(BinaryIO, lzma.open(plain))
    if magic.startswith(b"\x1f\x8b"):
        import gzip

        return cast(BinaryIO, gzip.open(plain))
    return plain


def _parsed(file: BinaryIO) -> Iterator[dict[str, object] | None]:
    while True:
        try:
            raw = file.readline(MAX_LINE)
        except _DAMAGED:
            yield None  # the compressed file is cut or damaged here
            return
        except OSError as error:
            if error.errno:
                raise
            yield None  # gzip's BadGzipFile
            return
        if not raw:
            return
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)  # the standard reader takes the bare NaN that NVML gives
        except (ValueError, RecursionError):
            yield None
            continue
        yield line if is_trace_line(line) else None


def _stem(trace: Path) -> str:
    name = trace.name
    for suffix in (".xz", ".gz", ".jsonl", ".json"):
        name = name.removesuffix(suffix)
    return name
