"""Options of the verbs that make recordings, and of those that read them for other eyes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from qtop.units import span_seconds

Between = Callable[[str, float, float, str], float]


def add(verb: Callable[[str, str], argparse.ArgumentParser], seconds: Callable[[str], float], between: Between) -> None:
    """Add the verbs, ``seconds`` reading a positive number of them, ``between`` a number from one to another."""
    _add_record(verb, seconds)
    _add_replay(verb, between)
    _add_bundle(verb)
    one = verb("dump", "a recording's figures for other tools: CSV, JSON lines or OpenMetrics")
    one.add_argument("file", nargs="?", metavar="FILE")
    one.add_argument(
        "--fields", metavar="A,B,…", help="these, or patterns as 'gpu.*.util', or all (default: the ones that matter)"
    )
    form = one.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="one row a sample, empty where absent (default)")
    form.add_argument("--json", action="store_true", help="one JSON object a line, with why what is absent is")
    form.add_argument("--prometheus", action="store_true", help="OpenMetrics text with timestamps, for promtool")
    one.add_argument("--every", type=seconds, metavar="S", help="one sample of every S seconds (default: all)")
    # --from is a file for other verbs; here and only here the file has a place of its own.
    one.add_argument("--from", dest="begin", metavar="T", help="from here: 90 or 5m after the start, Unix or ISO time")
    one.add_argument("--to", dest="end", metavar="T", help="up to here")
    one.add_argument("--list", action="store_true", help="list the fields, with unit and what each is")
    one = verb("diff", "compare two recordings, before and after a change")
    one.add_argument("before", metavar="A")
    one.add_argument("after", metavar="B")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("report", "one page to read, keep or send: verdict, plots, findings, configuration")
    one.add_argument("file", nargs="?", metavar="FILE", help="a recording (default: watch the server now)")
    one.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write")
    one.add_argument("--markdown", action="store_true", help="Markdown for an issue instead of a page of HTML")
    one.add_argument("--seconds", type=seconds, default=12.0, metavar="N", help="how long to watch (default 12)")
    one.add_argument("--force", action="store_true", help="overwrite OUT")


def add_include(one: argparse.ArgumentParser) -> None:
    """The option of what begins recordings: what else is to be in them."""
    one.add_argument(
        "--include",
        choices=("prompts",),
        default=argparse.SUPPRESS,
        metavar="prompts",
        help="keep in recordings what test prompts ask and what is answered (otherwise left out)",
    )


def keeps_prompts(args: argparse.Namespace) -> bool:
    """Whether ``--include prompts`` was given."""
    return getattr(args, "include", None) == "prompts"


def _add_record(verb: Callable[[str, str], argparse.ArgumentParser], seconds: Callable[[str], float]) -> None:
    one = verb("record", "record without a terminal")
    one.add_argument("-o", "--output", required=True, metavar="FILE", help="the recording to write (.qtop)")
    one.add_argument("--seconds", type=seconds, metavar="N", help="stop after so long (default: until Ctrl-C)")
    one.add_argument("--every", type=seconds, metavar="S", help="a sample every S seconds (default: each)")
    one.add_argument(
        "--ring", type=_span, metavar="2h", help="keep about the last 2h; an older FILE becomes NAME.before.qtop"
    )
    one.add_argument("--max-size", type=byte_count, metavar="200MB", help="stop there; with --ring let the oldest go")
    add_include(one)
    one.add_argument("--force", action="store_true", help="overwrite FILE")


def _add_replay(verb: Callable[[str, str], argparse.ArgumentParser], between: Between) -> None:
    one = verb("replay", "the dashboard on a recording, or its screen as a picture or a cast")
    one.add_argument("file", metavar="FILE")
    one.add_argument(
        "--speed",
        type=lambda text: between(text, 0.01, 1000.0, "0.01 to 1000"),
        default=1.0,
        metavar="X",
        help="times real time (default 1)",
    )
    one.add_argument("--svg", metavar="OUT", help="write the screen as a picture instead (no terminal needed)")
    one.add_argument("--cast", metavar="OUT", help="write the replay as an asciinema cast instead")
    one.add_argument("--at", metavar="T", help="of --svg: 90 or 5m after the start, or a time (default: the end)")
    one.add_argument(
        "--size", type=_size, default=(120, 40), metavar="120x40", help="of --svg and --cast: columns x rows"
    )
    one.add_argument("--force", action="store_true", help="overwrite OUT")


def _add_bundle(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    one = verb("bundle", "a recording, its report and the end of the server's log in one file, for a bug report")
    one.add_argument("file", nargs="?", metavar="FILE")
    one.add_argument("-o", "--output", metavar="OUT", help="the file to write (default FILE.tar.gz)")
    log = one.add_mutually_exclusive_group()
    log.add_argument("--log", metavar="LOG", help="this is the server's log (default: found by the server that runs)")
    log.add_argument("--no-log", action="store_true", help="leave the log out")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.add_argument("--force", action="store_true", help="overwrite OUT")


def _span(text: str) -> float:
    """Seconds out of 90, 90s, 15m, 2h or 1d."""
    seconds = span_seconds(text.strip())
    if seconds is None or not 60.0 <= seconds <= 86_400.0 * 366:
        raise argparse.ArgumentTypeError(f"must be a minute or more, as 90s, 15m, 2h or 1d, not {text}")
    return seconds


def byte_count(text: str) -> int:
    """Bytes out of 200MB, 1.5GiB or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", text.strip().lower())
    size = float(found[1]) * (1024 if found[3] else 1000) ** " kmg".index(found[2] or " ") if found else 0.0
    if not 1e5 <= size <= 1e15:
        raise argparse.ArgumentTypeError(f"must be 100 kB or more, as 200MB or 1GiB, not {text}")
    return int(size)


def _size(text: str) -> tuple[int, int]:
    """Columns and rows out of 120x40; as large as a screen can be and not smaller than qtop's smallest."""
    found = re.fullmatch(r"(\d{1,4})[x×](\d{1,4})", text.strip().lower())
    columns, rows = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (40 <= columns <= 500 and 12 <= rows <= 200):
        raise argparse.ArgumentTypeError(f"must be 40x12 to 500x200, as 120x40, not {text}")
    return columns, rows
