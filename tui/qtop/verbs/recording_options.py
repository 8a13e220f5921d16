"""Options of the verbs that read recordings for other eyes: dump, diff."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(verb: Callable[[str, str], argparse.ArgumentParser], seconds: Callable[[str], float]) -> None:
    """Add the verbs, ``seconds`` reading a positive number of them."""
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
