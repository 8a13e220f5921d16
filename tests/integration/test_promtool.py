"""``qtop dump --prometheus`` and Prometheus' own tool: it takes every sample, and has nothing to say of names."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qtop.cli import main
from qtop.errors import EXIT_OK

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus"),
]
RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
FILES = ["disturbed/h200-cpu-starved.qtop", "h100-affinity.qtop"]


@pytest.fixture(params=[(name, fields) for name in FILES for fields in ((), ("--fields", "all"))])
def text(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> str:
    name, fields = request.param
    assert main(["dump", str(RECORDINGS / name), "--prometheus", *fields]) == EXIT_OK
    return capsys.readouterr().out


def promtool(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], input=given, capture_output=True, text=True, timeout=60, check=False)


def test_blocks_are_made_of_every_sample(text: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.txt"
    figures.write_text(text, encoding="utf-8")
    done = promtool("tsdb", "create-blocks-from", "openmetrics", str(figures), str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"[0-9A-Z]{26} ", line)]
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert sum(int(row[4]) for row in rows) == len(samples) > 500


def test_its_linter_has_nothing_to_say(text: str) -> None:
    """It reads the older text format: a sample a series, no units, no end; so of each series the last."""
    told: dict[str, list[str]] = {}
    last: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if words[0] == "#" and words[1] in ("TYPE", "HELP"):
            told.setdefault(words[2], []).append(line)
        elif words[0] != "#":
            series, value, _ = line.rsplit(" ", 2)
            last[series] = value
    lines = []
    for name, about in told.items():
        lines += [*about, *(f"{one} {value}" for one, value in last.items() if one.partition("{")[0] == name)]
    done = promtool("check", "metrics", given="\n".join(lines) + "\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and len(last) > 20
    worse = promtool("check", "metrics", given="# TYPE a_milliseconds gauge\na_milliseconds 1\n")
    assert worse.returncode and "a_milliseconds" in worse.stderr + worse.stdout  # it does look
