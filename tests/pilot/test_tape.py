"""The screen of a recording in files: a picture, and a cast that a terminal plays."""

from __future__ import annotations

import json
import re
from html import unescape
from itertools import pairwise
from pathlib import Path

import pyte
import pytest
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import GOLDEN

from qtop.cli import main
from qtop.errors import EXIT_OK, EXIT_USAGE
from qtop.record.reader import Recording
from qtop.source.replay import LONGEST_WAIT

ROW = re.compile(
    r'<text class="[^"]*" x="([\d.]+)" y="[\d.]+" textLength="[\d.]+" clip-path="url\(#[^)]*-line-(\d+)\)">'
)
CELL = 12.2
"""Width of a cell in Rich's pictures."""


def played(cast: str) -> list[str]:
    """What a terminal shows once a cast is over."""
    head, *events = cast.splitlines()
    header = json.loads(head)
    screen = pyte.Screen(header["width"], header["height"])
    stream = pyte.Stream(screen)
    for line in events:
        stream.feed(json.loads(line)[2])
    cells = [[screen.buffer[y][x].data for x in range(screen.columns)] for y in range(screen.lines)]
    return ["".join(row).rstrip() for row in cells]


def pictured(svg: str, size: tuple[int, int]) -> list[str]:
    """The text of a picture, row by row."""
    found = [[" "] * size[0] for _ in range(size[1])]
    for one in ROW.finditer(svg):
        text = unescape(svg[one.end() : svg.index("</text>", one.end())]).replace("\xa0", " ")
        at = round(float(one[1]) / CELL)
        found[int(one[2])][at : at + len(text)] = text
    return ["".join(row).rstrip() for row in found]


def export(recording: Path, tmp_path: Path, *words: str) -> tuple[str, str]:
    """The cast and the picture of the whole of it."""
    cast, svg = tmp_path / "a.cast", tmp_path / "a.svg"
    assert main(["replay", str(recording), "--cast", str(cast), "--svg", str(svg), *words]) == EXIT_OK
    assert cast.stat().st_mode & 0o777 == svg.stat().st_mode & 0o777 == 0o600
    return cast.read_text(encoding="utf-8"), svg.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_cast_and_a_picture_show_what_the_dashboard_shows(
    recording: MakeRecording, tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1"), ("LANG", "C")):  # of where it is made, not looked at
        monkeypatch.setenv(name, value)
    cast, svg = export(recording("pinned1_hogs"), tmp_path, "--size", f"{size[0]}x{size[1]}")
    golden = (GOLDEN / f"pinned1_hogs-{size[0]}x{size[1]}.txt").read_text(encoding="utf-8").splitlines()
    screen = played(cast)
    assert screen[1:] == golden[1:]  # the first row says how fast it plays
    assert pictured(svg, size)[1:] == golden[1:]
    assert screen[0] == pictured(svg, size)[0] and " end" in screen[0] and ";38;2;" in cast


def test_a_cast_is_one_by_its_specification(recording: MakeRecording, tmp_path: Path) -> None:
    path = recording("pinned1_hogs")
    fast, _ = export(path, tmp_path, "--speed", "10")
    head, *lines = fast.splitlines()
    header, events = json.loads(head), [json.loads(line) for line in lines]
    assert header["version"] == 2 and (header["width"], header["height"]) == (120, 40)
    assert header["timestamp"] == int(Recording(path).start)
    assert all(len(one) == 3 and isinstance(one[0], float) and one[1] == "o" and one[2] for one in events)
    times = [one[0] for one in events]
    assert times == sorted(times) and times[0] == 0.0
    held = [sample.t for sample in Recording(path).samples()]
    told = sum(min(LONGEST_WAIT, b - a) for a, b in pairwise(held))
    assert times[-1] == pytest.approx(told / 10, abs=1e-3)
    assert events[0][2].startswith("\x1b[?25l") and "1049" not in fast  # a player has no other screen
    frames = sorted(len(one[2]) for one in events[1:-1])
    assert frames[len(frames) // 2] < len(events[0][2]) / 3  # changes, not screens


def test_both_are_the_same_each_time(recording: MakeRecording, tmp_path: Path) -> None:
    path = recording("idle")
    first = export(path, tmp_path)
    for one, other in zip(export(path, tmp_path, "--force"), first, strict=True):
        assert one.splitlines() == other.splitlines()


def test_a_picture_loads_nothing(recording: MakeRecording, tmp_path: Path) -> None:
    _, svg = export(recording("idle"), tmp_path)
    assert "@font-face" not in svg and "url(http" not in svg and "<script" not in svg
    assert set(re.findall(r"https?://[^\"' ]+", svg.replace("www.textualize.io", ""))) <= {
        "http://www.w3.org/2000/svg",
        "https://",
    }


def test_the_moment_is_on_the_picture(recording: MakeRecording, tmp_path: Path) -> None:
    path, svg = recording("pinned1_hogs"), tmp_path / "a.svg"
    assert main(["replay", str(path), "--svg", str(svg), "--at", "5"]) == EXIT_OK
    head = pictured(svg.read_text(encoding="utf-8"), (120, 40))[0]
    assert re.search(r"▶ 00:0[45] / 00:17 ×1  ", head)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--at", "5"], "--at is of --svg"),
        (["--svg", "OUT", "--at", "9d"], "lies outside of the recording"),
        (["--svg", "OUT", "--at", "noon"], "--at is no time: noon"),
        (["--svg", "OUT", "--cast", "OUT"], "name the same file"),
        (["--svg", "SELF", "--force"], "is the recording itself"),
        (["--svg", "SELF"], "exists: choose another name"),
        (["--svg", "OUT", "--size", "3x3"], "must be 40x12 to 500x200"),
    ],
)
def test_bad_input_is_one_line(
    recording: MakeRecording, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    path = recording("idle")
    places = {"OUT": str(tmp_path / "out"), "SELF": str(path)}
    assert main(["replay", str(path), *(places.get(word, word) for word in words)]) == EXIT_USAGE
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and not (tmp_path / "out").exists()
    assert list(Recording(path).samples())
