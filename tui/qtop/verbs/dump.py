"""The verb dump: a recording's figures for other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qtop.config import Settings
from qtop.errors import EXIT_OK, QtopError
from qtop.model.derive import Deriver
from qtop.model.fields import Field, chosen, registry
from qtop.record.reader import Recording
from qtop.report.export import Point, write_csv, write_json, write_openmetrics
from qtop.sample import Absent
from qtop.verbs.moment import moment
from qtop.verbs.terminal import say

WARM_S = 60.0
"""Read before ``--from``, so that windows of half a minute are full there."""
LOOKS = 64
"""Places of a recording at which it is looked which GPUs there are."""
HALF_MS = 5e-4
"""A time that dump wrote, to the millisecond, names the sample that it stands beside."""


def dump(args: argparse.Namespace, settings: Settings) -> int:
    """Write the figures to standard output, or list the fields."""
    if args.file is None and not args.list:
        raise QtopError("dump needs a FILE", "`qtop dump --list` lists the fields.")
    if args.list and args.file is None:
        return _list(registry())
    recording = Recording(Path(args.file))
    known = registry(_gpus(recording))
    fields = _fields(args.fields, known)
    if args.list:
        return _list(known if args.fields is None else fields)
    begin = moment(args.begin, "--from", recording.start) if args.begin is not None else None
    end = moment(args.end, "--to", recording.start) if args.end is not None else None
    if begin is not None and end is not None and begin > end:
        raise QtopError("--from is after --to")
    points = _points(recording, fields, begin, end, args.every)
    left = 0
    if args.prometheus:
        count, left = write_openmetrics(fields, points, sys.stdout)
    else:
        count = (write_json if args.json else write_csv)(fields, points, sys.stdout)
    sys.stdout.flush()
    if recording.skipped:
        say(f"qtop: {args.file}: {recording.skipped} damaged records skipped")
    if left:
        say(f"qtop: {left} samples left out, whose clock was set back: OpenMetrics takes no time twice")
    if not count:
        raise QtopError("no sample lies between --from and --to")
    return EXIT_OK


def _list(fields: Sequence[Field]) -> int:
    wide = max(len(one.name) for one in fields)
    for one in fields:
        print(f"{'*' if one.usual else ' '} {one.name:<{wide}}  {one.unit:<10}  {one.what}")
    print("\n* given where --fields does not say which. share: 0 to 1. gpu.N: of each GPU by its number.")
    return EXIT_OK


def _fields(asked: str | None, known: Sequence[Field]) -> Sequence[Field]:
    if asked is None:
        return tuple(one for one in known if one.usual)
    names = [name.strip() for name in asked.split(",") if name.strip()]
    found, unknown = chosen(names, known)
    if unknown:
        raise QtopError(
            f"this recording has no field {', '.join(unknown)}", "`qtop dump FILE --list` lists those it has."
        )
    if not found:
        raise QtopError("--fields names none", "`qtop dump --list` lists the fields.")
    return found


def _gpus(recording: Recording) -> list[int]:
    """The GPUs that are there at some time, as far as a look at some places tells."""
    marks = recording.index
    found: set[int] = set()
    for mark in marks[:: max(1, len(marks) // LOOKS)]:
        for sample in recording.seek(mark.t):
            if not isinstance(sample.gpu, Absent):
                found.update(one.index for one in sample.gpu.gpus)
            break
    return sorted(found)


def _points(
    recording: Recording, fields: Sequence[Field], begin: float | None, end: float | None, every: float | None
) -> Iterator[Point]:
    deriver = Deriver(kept=False)
    due = float("-inf")
    for sample in recording.samples() if begin is None else recording.seek(begin - WARM_S):
        frame = deriver.push(sample)
        if begin is not None and sample.t < begin - HALF_MS:
            continue
        if end is not None and sample.t > end + HALF_MS:
            continue  # not the end: a clock may be set back
        if every is not None:
            if due - every <= sample.t < due - every * 0.01:
                continue
            due = sample.t + every
        yield Point(sample.t, [field.read(frame) for field in fields])
