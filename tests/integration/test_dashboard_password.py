"""A change that takes root, from the dashboard in a real pseudo-terminal: the password is asked for on it.

``sudo`` is a script of the test's that asks as sudo does; root's helper, the knob and the change are the real ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.test_dashboard_pty import fake_server
from tests.pilot.terminal import Terminal, environment, terminal

SWAPPINESS = Path("/proc/sys/vm/swappiness")
PROMPT = "[sudo] password for tester:"
SUDO = """#!/bin/sh
for word in "$@"; do [ "$word" = -n ] && exit 1; done
[ "$1" = -- ] && shift
stty -echo </dev/tty; trap 'stty echo </dev/tty; exit 1' INT
printf '[sudo] password for tester: ' >/dev/tty
IFS= read -r given </dev/tty; stty echo </dev/tty; echo >/dev/tty
[ "$given" = open-sesame ] || { echo 'sudo: 1 incorrect password attempt' >&2; exit 1; }
exec "$@"
"""

pytestmark = pytest.mark.root


@pytest.fixture
def swappiness() -> Iterator[str]:
    """The value before, which is put back however the test ends."""
    if not os.access(SWAPPINESS, os.W_OK):
        pytest.skip("vm.swappiness cannot be written here")
    before = SWAPPINESS.read_text()
    yield before.strip()
    SWAPPINESS.write_text(before)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A PATH with that sudo first."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sudo").write_text(SUDO)
    (tmp_path / "bin/sudo").chmod(0o755)
    found = environment(tmp_path)
    return found | {"PATH": f"{tmp_path / 'bin'}:{found['PATH']}"}


def to_the_prompt(one: Terminal, value: str) -> None:
    """By keys to a preview of vm.swappiness with this value, and on to the change."""
    one.until_shows("vLLM")
    one.press("T")
    one.until_shows("possible now")
    while "swappiness" not in (here := _chosen(one)):
        one.press("\x1b[B")
        one.until(lambda here=here: _chosen(one) not in ("", here))  # type: ignore[misc]
    one.press("\r")
    one.until_shows("Change swappiness")
    if "Enter shows what that would do" not in one.text():  # it had a proposal: another value
        one.press("e")
        one.until_shows("Enter shows what that would do")
        one.press("\x08" * 4)
    one.press(value)
    one.until_shows(f"value      {value}")
    one.press("\r")
    one.until_shows(f"→ {value}")
    one.until_shows("Enter apply")
    one.press("\r")
    one.until_shows(PROMPT)


def _chosen(one: Terminal) -> str:
    """The row with the mark."""
    return next((line for line in one.rows() if "▸" in line), "")


def drawn_again(one: Terminal) -> None:
    """The whole screen is there, and nothing of the prompt."""
    one.until_shows("Tuning")
    one.until(lambda: PROMPT not in one.text() and " qtop " in one.rows()[0])


def test_the_password_is_asked_for_once_for_the_change_and_its_undo(environ: dict[str, str], swappiness: str) -> None:
    value = str(int(swappiness) + 1)
    command = (sys.executable, "-m", "tests.fakes.unprivileged")
    with fake_server() as port, terminal([*command, "--url", f"127.0.0.1:{port}"], environ) as one:
        to_the_prompt(one, value)
        assert SWAPPINESS.read_text().strip() == swappiness
        one.press("open-sesame\r")
        drawn_again(one)
        one.until(lambda: "keep it" in one.text() or "swappiness kept" in one.text(), 60.0)
        if "keep it" in one.text():
            one.press("k")
        one.until_shows("u undoes it")
        assert SWAPPINESS.read_text().strip() == value
        one.press("u")
        one.until_shows("undone: swappiness")
        assert SWAPPINESS.read_text().strip() == swappiness
        assert one.output().count(PROMPT) == 1
        assert "open-sesame" not in one.output()
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()


@pytest.mark.parametrize("typed", ["wrong\r", "\x03"], ids=["wrong", "ctrl-c"])
def test_no_password_no_change_and_the_dashboard_goes_on(environ: dict[str, str], swappiness: str, typed: str) -> None:
    command = (sys.executable, "-m", "tests.fakes.unprivileged")
    with fake_server() as port, terminal([*command, "--url", f"127.0.0.1:{port}"], environ) as one:
        to_the_prompt(one, str(int(swappiness) + 1))
        one.press(typed)
        one.until_shows("did not let qtop become it")
        drawn_again(one)
        assert SWAPPINESS.read_text().strip() == swappiness
        one.press("o")
        one.until_shows("Where a request's time goes")
        assert "Traceback" not in one.output()
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()
