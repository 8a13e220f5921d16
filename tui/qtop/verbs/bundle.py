"""The verb bundle: a recording, its diagnosis and the versions around it in one file for a bug report."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from qtop import __version__
from qtop.config import Settings
from qtop.diagnose.whole import diagnose_all
from qtop.errors import EXIT_OK, QtopError
from qtop.record.bundle import bundle as write_bundle
from qtop.record.reader import Recording
from qtop.report.documents import SCHEMA, whole_document
from qtop.report.text import findings_text


def bundle(args: argparse.Namespace, settings: Settings) -> int:
    """Write FILE.tar.gz (or ``-o``) and say what is in it."""
    path = Path(args.file)
    recording = Recording(path)
    whole = diagnose_all(recording.samples())
    if whole is None:
        raise QtopError(f"{path} holds no samples")
    out = Path(args.output) if args.output else path.with_name(path.name + ".tar.gz")
    environment = {
        "schema": SCHEMA,
        "qtop": __version__,
        "python": platform.python_version(),
        "recorded_by": recording.header.qtop_version,
        "kernel": recording.header.kernel,
        "cpus": recording.header.cpus,
        "source": recording.header.source,
    }
    scope = f"{whole.samples} samples, {whole.seconds:.0f} s"
    extra = {
        "doctor.json": json.dumps(whole_document(whole), ensure_ascii=False, indent=1).encode(),
        "doctor.txt": findings_text(whole.verdict, whole.findings, whole.end, scope).encode(),
        "environment.json": json.dumps(environment, indent=1).encode(),
    }
    write_bundle(path, out, extra, overwrite=args.force)
    print(f"{out}: {path.name}, {', '.join(extra)}", file=sys.stderr)
    return EXIT_OK
