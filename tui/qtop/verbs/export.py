"""A recording's screen written to files: as a picture, as a cast."""

from __future__ import annotations

import argparse
from pathlib import Path

from qtop.errors import EXIT_OK, QtopError
from qtop.record.files import check_new, write_new
from qtop.record.reader import Recording
from qtop.units import size
from qtop.verbs.moment import moment
from qtop.verbs.terminal import say


def export(args: argparse.Namespace) -> int:
    """Write ``--svg`` and ``--cast``; nothing is written where the recording cannot be read."""
    path = Path(args.file)
    outs = [Path(out) for out in (args.svg, args.cast) if out]
    for out in outs:  # not only after drawing a day
        check_new(out, args.force, path)
    if len(outs) == 2 and outs[0].absolute() == outs[1].absolute():
        raise QtopError("--svg and --cast name the same file", "Give each its own.")
    recording = Recording(path)
    at = moment(args.at, "--at", recording.start) if args.at is not None else None
    if at is not None and not recording.start - 1e-3 <= at <= recording.end + 1.0:
        raise QtopError(f"--at {args.at} lies outside of the recording", f"It is {recording.duration:.0f} s long.")
    from qtop.ui.look import choose
    from qtop.ui.tape import cast, screen_svg

    # Whoever looks at it later has another terminal, or none: truecolor and Unicode, whatever this one is.
    look = choose("truecolor", {"LANG": "C.UTF-8"}, getattr(args, "theme", "auto"))
    if args.svg:
        _write(Path(args.svg), screen_svg(path, at, look, args.size), args.force)
    if args.cast:
        _write(Path(args.cast), cast(path, look, args.size, args.speed), args.force)
    return EXIT_OK


def _write(out: Path, text: str, overwrite: bool) -> None:
    content = text.encode("utf-8", "replace")
    write_new(out, content, overwrite)
    say(f"{out}: {size(len(content))}")
