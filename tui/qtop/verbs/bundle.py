"""The verb bundle: a recording, its report and diagnosis, the versions around it and the end of the server's log in one
file for a bug report. What is inside is listed, and asked about, before anything is written."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

from qtop import __version__
from qtop.act.server_log import ServerLog, log_of_server, named
from qtop.config import Settings
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError, Refused
from qtop.record.bundle import bundle as write_bundle
from qtop.record.files import check_new
from qtop.record.names import local_names, local_users
from qtop.record.redact import Redactor
from qtop.record.redact_log import redact_log
from qtop.report.changes import table
from qtop.report.documents import SCHEMA, whole_document
from qtop.report.gathered import Gathered, gather
from qtop.report.markdown import page_markdown
from qtop.report.page import page_html
from qtop.report.text import findings_text
from qtop.units import duration, plural, size
from qtop.verbs.terminal import asked, must_answer, say

LOG = "server.log"
TO_WRITE = "Pass --yes to write it."


def bundle(args: argparse.Namespace, settings: Settings) -> int:
    """Write FILE.tar.gz (or ``-o``), once it has been said what is in it and somebody has agreed."""
    if args.file is None:
        raise QtopError("name a recording", "`qtop record -o FILE --seconds 60` makes one of the server now.")
    path = Path(args.file)
    out = Path(args.output) if args.output else path.with_name(path.name + ".tar.gz")
    check_new(out, args.force, path)
    if not args.yes:
        must_answer(TO_WRITE)
    log = named(Path(args.log)) if args.log else None  # not only after reading a day's recording
    gathered = gather(path)
    files = {
        "report.html": (page_html(gathered), "the report, a page that loads nothing from anywhere"),
        "report.md": (page_markdown(gathered), "the same as Markdown, for an issue"),
        "doctor.json": (_json(whole_document(gathered.whole)), "findings and the last reading"),
        "doctor.txt": (_doctor(gathered), "the same as text"),
        "environment.json": (_json(_environment(gathered)), "versions of qtop, Python and the kernel"),
    }
    left_out = ""
    if args.no_log:
        left_out = "as you asked"
    else:
        try:
            log = log or log_of_server(gathered.server)
        except Refused as error:
            left_out = str(error).rstrip(".") if error.hint else f"{error.message} (--log LOG names it)"
    if log is not None:
        files[LOG] = _log(log)
    extra = {name: text.encode("utf-8", "replace") for name, (text, _) in files.items()}
    rows = [(path.name, _size(path.stat().st_size), _recording(gathered))]
    rows += [(name, _size(len(extra[name])), what) for name, (_, what) in files.items()]
    say(f"{out} will hold:")
    say("\n".join(table(rows)))
    for line in _remarks(gathered, left_out):
        say(line)
    if not args.yes and not asked("write it?", TO_WRITE):
        say("nothing was written")
        return EXIT_USAGE
    write_bundle(path, out, extra, overwrite=args.force)
    say(f"{out}: {size(out.stat().st_size)}")
    return EXIT_OK


def _size(count: int) -> str:
    return size(count) if count >= 1024 else f"{count} B"


def _recording(gathered: Gathered) -> str:
    whole = gathered.whole
    told = f"the recording: {plural(whole.samples, 'sample')}, {duration(whole.seconds)}, redacted when it was written"
    return f"{told}; {gathered.holds_prompts}" if gathered.holds_prompts else told


def _remarks(gathered: Gathered, left_out: str) -> Iterable[str]:
    """What is worth knowing before it leaves the machine."""
    if gathered.texts:
        yield "It holds prompts: whoever gets the file can read what was asked and answered."
    if gathered.unredacted:
        yield "It was recorded by a qtop that left names or addresses in. One recorded now holds none."
    if gathered.skipped:
        yield f"{plural(gathered.skipped, 'damaged record')} of it could not be read."
    if left_out:
        yield f"It is without the server's log: {left_out}."


def _log(log: ServerLog) -> tuple[str, str]:
    """The log as it may leave, and what it is."""
    redactor = Redactor((*local_names(), *log.hosts), users=(*local_users(), *log.users), container=log.container)
    lines, taken = redact_log(log.lines, redactor)
    what = f"the last {plural(len(lines), 'line')} of {log.where}; taken out: {taken}"
    return "".join(f"{line}\n" for line in lines), what


def _doctor(gathered: Gathered) -> str:
    whole = gathered.whole
    scope = f"{whole.samples} samples, {whole.seconds:.0f} s"
    return findings_text(whole.verdict, whole.findings, whole.end, scope) + "\n"


def _environment(gathered: Gathered) -> dict[str, object]:
    header = gathered.header
    return {
        "schema": SCHEMA,
        "qtop": __version__,
        "python": platform.python_version(),
        "platform": sys.platform,
        "recorded_by": header.qtop_version,
        "kernel": header.kernel,
        "cpus": header.cpus,
        "source": header.source,
        "holds_prompts": bool(gathered.holds_prompts),
    }


def _json(document: dict[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"
