#!/usr/bin/env python3
"""What holds the rows and blocks of a recording best: SQLite, with its log or its journal, or frames in a file of ours.

bench_containers.py [--seconds N] [TRACE]

The same rows (one line, compressed) and blocks (60 lines) go into each. Printed: CPU and bytes written for a sample,
the size at the end; then what can be read of the main file alone, copied in mid-minute from under a recorder that was
not closed; then what can be read after a cut or a flipped byte at random places. SQLite is read as kindly as its Python
module allows: row by row, by number, past every error.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sqlite3
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tui"), str(ROOT / "scripts")]

from loop_recording import looped, read  # noqa: E402

from qtop.errors import QtopError  # noqa: E402
from qtop.record.block import encode_block  # noqa: E402
from qtop.record.blockfile import BLOCK_RECORDS, BlockFile  # noqa: E402
from qtop.record.reader import Recording  # noqa: E402
from qtop.sample.codec import Header, encode_sample  # noqa: E402

TRIES = 100
HEADER = Header(created=0.0, qtop_version="0", source="synthetic")


class Container(Protocol):
    """What is compared."""

    def append(self, line: bytes) -> None: ...
    def close(self) -> None: ...


class Sqlite:
    """One table of rows, one of blocks; a transaction a sample, as little syncing as kill -9 allows."""

    def __init__(self, path: Path, journal: str) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.execute(f"PRAGMA journal_mode={journal}")
        self._base.execute("PRAGMA synchronous=OFF")
        self._base.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, data BLOB)")
        self._base.execute("CREATE TABLE block (id INTEGER PRIMARY KEY, n INTEGER, data BLOB)")
        self._lines: list[bytes] = []
        self._number = 0

    def append(self, line: bytes) -> None:
        """A row; with the sixtieth, a block in the place of the rows."""
        self._base.execute("BEGIN")
        self._lines.append(line)
        if len(self._lines) < BLOCK_RECORDS:
            self._base.execute("INSERT INTO row VALUES (?, ?)", (self._number, zlib.compress(line, 1)))
        else:
            content = zlib.compress(encode_block(self._lines) or b"", 6)
            first = self._number - len(self._lines) + 1
            self._base.execute("INSERT INTO block VALUES (?, ?, ?)", (first, len(self._lines), content))
            self._base.execute("DELETE FROM row")
            self._lines = []
        self._base.execute("COMMIT")
        self._number += 1

    def close(self) -> None:
        """End it in order."""
        self._base.close()


def sqlite_samples(path: Path, count: int) -> int:
    """How many samples of such a file can be read."""
    found = 0
    try:
        base = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    except sqlite3.Error:
        return 0
    with contextlib.closing(base):
        with contextlib.suppress(sqlite3.Error):
            base.execute("PRAGMA writable_schema=ON")  # else it refuses a file that is shorter than its header says
        for number in range(count):
            for table, columns in (("block", "n, data"), ("row", "1, data")):
                if table == "block" and number % BLOCK_RECORDS:
                    continue
                with contextlib.suppress(sqlite3.Error, zlib.error, TypeError):
                    one = base.execute(f"SELECT {columns} FROM {table} WHERE id = ?", (number,)).fetchone()
                    if one is not None and zlib.decompress(one[1]):
                        found += one[0]
    return found


def frame_samples(path: Path, count: int) -> int:
    """The same for ours."""
    try:
        return min(count, sum(1 for _ in Recording(path).samples()))
    except QtopError:
        return 0


def written() -> int:
    """Bytes that this process has written so far (source: /proc/PID/io, wchar)."""
    return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])


def compare(
    name: str, folder: Path, lines: list[bytes], make: Callable[[Path], Container], count: Callable[[Path, int], int]
) -> None:
    """All of it for one container."""
    path = folder / f"{name}.qtop".replace(" ", "-")
    file = make(path)
    copy = path.with_suffix(".copy")
    before, begun = written(), time.process_time()
    middle = len(lines) // 2 // BLOCK_RECORDS * BLOCK_RECORDS + BLOCK_RECORDS // 2
    paused = alone = 0.0
    for number, line in enumerate(lines):
        if number == middle:
            paused = time.process_time()
            at = written()
            shutil.copy(path, copy)
            alone = count(copy, middle) / middle
            paused, before = time.process_time() - paused, before + written() - at
        file.append(line)
    cpu, wrote = time.process_time() - begun - paused, written() - before
    file.close()
    whole = path.read_bytes()
    chance = random.Random(0)
    kept = []
    for cut in (True, False):
        share = 0.0
        for _ in range(TRIES):
            place = chance.randrange(len(whole))
            flipped = bytes((whole[place] ^ chance.randint(1, 255),))
            copy.write_bytes(whole[:place] if cut else whole[:place] + flipped + whole[place + 1 :])
            share += count(copy, len(lines)) / len(lines)
        kept.append(share / TRIES)
    each = len(lines)
    print(
        f"{name:<16}{cpu / each * 1e6:>8.0f}{wrote / each:>14.0f}{len(whole) / 1e6:>8.2f}{alone:>16.1%}"
        f"{kept[0]:>16.1%}{kept[1]:>16.1%}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare containers of recordings.")
    parser.add_argument("trace", type=Path, nargs="?", default=ROOT / "tests/data/traces/pinned1_hogs.jsonl.xz")
    parser.add_argument("--seconds", type=float, default=3629.0)
    options = parser.parse_args()
    lines = [encode_sample(sample) for sample in looped([read(options.trace)], options.seconds, 0, 0.03)]
    print(f"SQLite {sqlite3.sqlite_version}, {len(lines)} samples; then shares of them that can be read")
    print(
        f"{'':<16}{'µs each':>8}{'bytes written':>14}{'MB':>8}{'main file only':>16}{'cut':>16}{'a byte flipped':>16}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare("SQLite, WAL", folder, lines, lambda path: Sqlite(path, "WAL"), sqlite_samples)
        compare("SQLite, journal", folder, lines, lambda path: Sqlite(path, "DELETE"), sqlite_samples)
        compare("frames", folder, lines, lambda path: BlockFile(path, HEADER), frame_samples)


if __name__ == "__main__":
    main()
