"""The timeline as a row of cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from rich.cells import cell_len

from qtop.diagnose.rule import Severity
from qtop.diagnose.stretches import Stretch
from qtop.model.breaks import Break
from qtop.sample import Event
from qtop.timeline.kinds import Kind, Point
from qtop.ui.look import choose
from qtop.ui.panels.timeline import Strip, cells_of, place, time_at


@dataclass
class Known:
    """What has been found of a recording of a thousand seconds."""

    begin: float = 0.0
    end: float = 1000.0
    reached: float = 1000.0
    done: bool = True
    failure: str = ""
    points: list[Point] = field(default_factory=list)
    breaks: list[Break] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    version: tuple[int, ...] = ()


def text(known: Known, width: int = 10) -> str:
    return "".join(char for char, _ in cells_of(known, width))  # type: ignore[arg-type]


def point(t: float, kind: Kind) -> Point:
    return Point(t, kind, Event(t, "x", {}))


def test_findings_by_how_much_they_matter() -> None:
    known = Known(
        stretches=[
            Stretch("A", Severity.INFO, 50.0, 450.0),
            Stretch("B", Severity.WARNING, 210.0, 390.0),
            Stretch("C", Severity.CRITICAL, 310.0, 310.0),
            Stretch("D", Severity.WARNING, 1000.0, 1000.0),
        ]
    )
    assert text(known) == "▂▂▅█▂────▅"


def test_what_was_not_looked_through_yet() -> None:
    known = Known(reached=430.0, done=False, points=[point(850.0, Kind.MARKER)])
    assert text(known) == "────····◆·"
    known.done, known.failure = True, "damaged"
    assert text(known) == "────····◆·"
    known.failure = ""
    assert text(known) == "────────◆─"


def test_holes() -> None:
    known = Known(breaks=[Break(150.0, 650.0, "gap")], stretches=[Stretch("A", Severity.WARNING, 0.0, 700.0)])
    assert text(known) == "▅▅    ▅▅──"
    known = Known(breaks=[Break(310.0, 312.0, "restart"), Break(699.0, 701.0, "gap"), Break(950.0, 940.0, "clock")])
    assert text(known) == "─── ─── ─ "
    known.stretches = [Stretch("A", Severity.INFO, 300.0, 399.0), Stretch("B", Severity.CRITICAL, 700.0, 750.0)]
    assert text(known) == "─── ───█─ "


def test_of_several_in_a_cell_the_marker_is_seen() -> None:
    kinds = (Kind.MARKER, Kind.PROBE, Kind.CHANGED, Kind.BACK)
    known = Known(points=[point(410.0 + at, kind) for at, kind in enumerate(kinds)])
    assert text(known) == "────◆─────"
    known.points = [point(100.0 * at + 50, kind) for at, kind in enumerate(kinds)]
    assert text(known) == "◆p▲▼──────"


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
@pytest.mark.parametrize("width", [3, 20, 80, 200])
def test_a_row_fits_and_shows_where_the_screen_stands(locale: str, width: int) -> None:
    known = Known(stretches=[Stretch("A", Severity.CRITICAL, 0.0, 500.0)], points=[point(700.0, Kind.MARKER)])
    strip, look = Strip(known), choose("truecolor", {"LANG": locale})  # type: ignore[arg-type]
    for t in (0.0, 333.0, 1000.0, 5000.0, -5000.0):
        row = "".join(segment.text for segment in strip.line(look, t, width))
        assert cell_len(row) <= width
        assert row.isascii() is (locale == "C")
        here = "|" if locale == "C" else "┃"
        assert row.index(here) == 1 + place(known, t, width - 2)  # type: ignore[arg-type]


def test_a_row_is_drawn_anew_when_something_was_found() -> None:
    known = Known()
    strip, look = Strip(known), choose("truecolor", {"LANG": "C.UTF-8"})  # type: ignore[arg-type]

    def row() -> str:
        return "".join(segment.text for segment in strip.line(look, 0.0, 12))

    before = row()
    known.points = [point(500.0, Kind.MARKER)]
    assert row() == before  # it is told by the version that something is new
    known.version = (1,)
    assert row() == " ┃────◆────"


@pytest.mark.parametrize("width", [10, 80, 121])
def test_a_click_means_the_cell_under_it(width: int) -> None:
    known = Known()
    for column in range(-2, width + 2):
        t = time_at(known, column, width)  # type: ignore[arg-type]
        assert 0.0 <= t <= 1000.0
        assert place(known, t, width - 2) == max(0, min(width - 3, column - 1))  # type: ignore[arg-type]


def test_a_recording_of_one_sample_has_one_place() -> None:
    known = Known(end=0.0, reached=0.0, points=[point(0.0, Kind.MARKER)])
    assert text(known) == "◆─────────"
    assert time_at(known, 5, 12) == 0.0  # type: ignore[arg-type]
