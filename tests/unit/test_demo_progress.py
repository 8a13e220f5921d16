"""How a download shows on a terminal and in a log."""

from __future__ import annotations

import io

from qtop.demo.progress import TextProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_a_quarter() -> None:
    out = io.StringIO()
    with TextProgress(out) as progress:
        for done in range(0, 101):
            progress(done * 1_000_000, 100_000_000)
    assert out.getvalue().splitlines() == [f"  {percent} % of 100 MB" for percent in (25, 50, 75, 100)]


def test_a_terminal_gets_one_line_that_is_redrawn_and_ended() -> None:
    out = Terminal()
    with TextProgress(out) as progress:
        for done in range(0, 101):
            progress(done * 1_000_000, 100_000_000)
        progress.say("done")
    assert out.getvalue().count("\n") == 2
    assert out.getvalue().endswith("100 % of 100 MB\ndone\n")


def test_a_terminal_shows_bytes_where_the_total_is_unknown() -> None:
    out = Terminal()
    with TextProgress(out) as progress:
        progress(12_000_000, None)
    assert out.getvalue() == "\r\x1b[K  12 MB\n"


def test_a_log_shows_nothing_where_the_total_is_unknown() -> None:
    out = io.StringIO()
    with TextProgress(out) as progress:
        progress(12_000_000, None)
    assert out.getvalue() == ""
