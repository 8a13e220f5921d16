"""An ordinary user and root's helper: with sudo, with a password, refused, without sudo, through polkit; Ctrl-C and
kill -9 while it writes; and what it does with messages of somebody's making."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.crash import as_nobody, calls
from tests.fakes.ordinary_user import (
    NAME,
    PASSWORD,
    POLKIT_LETS_HIM,
    PROMPT,
    RUNS_ALL,
    RUNS_ALL_WITH_PASSWORD,
    Done,
    OrdinaryUser,
    why_not,
)

from qtop.act.hands import HELPER, helper_command
from qtop.act.knobs import OFFERED

pytestmark = pytest.mark.root

QTOP = [sys.executable, "-m", "qtop"]
APPLY = [*QTOP, "apply", "swappiness=33", "--yes", "--no-measure", "--interval", "0.1"]
UNDO = [*QTOP, "undo"]
RIGHT = (PROMPT, f"{PASSWORD}\n".encode())
WRONG = (PROMPT, b"guess\n")
needs_polkit = pytest.mark.skipif(
    not (shutil.which("pkexec") and shutil.which("dbus-daemon") and Path("/usr/lib/polkit-1/polkitd").exists()),
    reason="needs pkexec, polkitd and dbus-daemon",
)


@pytest.fixture(scope="module")
def users() -> None:
    if why := why_not():
        pytest.skip(why)


@pytest.fixture
def user(users: None) -> Iterator[OrdinaryUser]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="qtop-user-") as folder:
        yield OrdinaryUser(Path(folder))


def kept(user: OrdinaryUser, done: Done) -> None:
    assert (done.returncode, user.swappiness.read_text()) == (0, "33\n"), done
    (change,) = user.journal.in_force()
    assert (change.knob, change.state, change.parts[0].root) == ("swappiness", "kept", True)
    assert "Traceback" not in done.stderr


def refused(user: OrdinaryUser, done: Done, *told: str) -> None:
    """One line on standard error, exit 1, nothing changed, no change in the journal."""
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("qtop: this change takes root, and ")
    for words in (*told, "Nothing was changed."):
        assert words in done.stderr, done
    assert user.swappiness.read_text() == "60\n"
    assert user.journal.in_force() == []


def test_sudo_that_asks_nothing_changes_and_puts_back(user: OrdinaryUser) -> None:
    user.sudoers = RUNS_ALL
    done = user.run(APPLY)
    kept(user, done)
    undone = user.run(UNDO)
    assert (undone.returncode, undone.stdout) == (0, "undone: swappiness, 1 value put back\n"), undone
    assert user.swappiness.read_text() == "60\n"


def test_a_rule_for_the_helper_alone_is_enough(user: OrdinaryUser) -> None:
    """As the README has it: the very words, whatever name this Python was started by."""
    user.sudoers = f"{NAME} ALL=(root) NOPASSWD: {' '.join(helper_command())}"
    named = Path(sys.executable).with_name(f"python3.{sys.version_info.minor}")
    kept(user, user.run([str(named) if named.exists() else sys.executable, *APPLY[1:]]))
    other = user.run(["sudo", "-n", "--", sys.executable, "-c", "print('root')"])
    assert (other.returncode, other.stdout) == (1, "")


def test_a_password_is_asked_for_at_the_terminal(user: OrdinaryUser) -> None:
    user.sudoers = RUNS_ALL_WITH_PASSWORD
    done = user.at_terminal(APPLY, WRONG, RIGHT)
    assert done.terminal.count("password for") == 2
    assert PASSWORD not in done.terminal + done.stdout + done.stderr
    kept(user, done)


def test_three_wrong_passwords(user: OrdinaryUser) -> None:
    user.sudoers = RUNS_ALL_WITH_PASSWORD
    refused(user, user.at_terminal(APPLY, WRONG, WRONG, WRONG), "sudo did not let", "3 incorrect password attempts")


def test_a_user_whom_sudo_does_not_know(user: OrdinaryUser) -> None:
    refused(user, user.at_terminal(APPLY, RIGHT), "sudo did not let", "is not in the sudoers file")


def test_a_password_without_a_terminal_to_ask_on(user: OrdinaryUser) -> None:
    """Another command without a password is no sign: what sudo lists does not tell what it will ask for."""
    user.sudoers = f"{RUNS_ALL_WITH_PASSWORD}, NOPASSWD: /bin/true"
    refused(user, user.run(APPLY), "sudo wants a password for which there is no terminal", "sudo qtop")


def test_ctrl_c_at_the_password_changes_nothing(user: OrdinaryUser) -> None:
    user.sudoers = RUNS_ALL_WITH_PASSWORD
    done = user.at_terminal(APPLY, (PROMPT, b"\x03"))
    assert (done.returncode, done.stderr) == (130, "qtop: interrupted\n")
    assert user.swappiness.read_text() == "60\n"
    assert user.journal.in_force() == []


def test_neither_sudo_nor_pkexec(user: OrdinaryUser) -> None:
    user.path = str(user.home / "bin")
    refused(user, user.run(APPLY), "there is neither sudo nor pkexec here", "Run qtop as root.")


@needs_polkit
@pytest.mark.parametrize("polkit", [POLKIT_LETS_HIM, "// nobody", ""], ids=["lets him", "does not", "is not there"])
def test_pkexec_where_there_is_no_sudo(polkit: str, user: OrdinaryUser) -> None:
    (user.home / "bin/pkexec").symlink_to(shutil.which("pkexec") or "")
    user.path, user.polkit = str(user.home / "bin"), polkit
    done = user.run(APPLY)
    if polkit == POLKIT_LETS_HIM:
        kept(user, done)
    else:
        refused(
            user, done, "pkexec did not let", "no terminal on which to ask" if polkit else "polkit does not run here"
        )


@needs_polkit
def test_a_wrong_password_for_pkexec(user: OrdinaryUser) -> None:
    (user.home / "bin/pkexec").symlink_to(shutil.which("pkexec") or "")
    user.path, user.polkit = str(user.home / "bin"), "// nobody"
    refused(
        user, user.at_terminal(APPLY, (b"Password:", b"guess\n")), "pkexec did not let qtop become it: not authorized"
    )


@pytest.fixture
def deadly_sudo(user: OrdinaryUser, shim: Path) -> Iterator[Path]:
    """The real sudo, in whose helper killat.c does what ``home/bin/what`` says; gives the log of its calls."""
    bin_folder = user.home / "bin"
    shutil.copy(shim, bin_folder / "killat.so")
    (bin_folder / "killat.so").chmod(0o755)
    log = user.home.parent / "calls.log"
    (bin_folder / "sudo").write_text(
        f"""#!/bin/sh
options=
while [ "$1" != -- ]; do options="$options $1"; shift; done
shift
echo $$ >> {user.home}/sudo.pid
exec {shutil.which("sudo")} $options -- env LD_PRELOAD={bin_folder}/killat.so QTOP_KILL_LOG={log} \
  QTOP_KILL_FILES=/proc/sys/vm/swappiness $(sed "s/ASKER/$PPID/" {bin_folder}/what) "$@"
"""
    )
    (bin_folder / "sudo").chmod(0o755)
    (bin_folder / "what").write_text("")
    user.sudoers = RUNS_ALL
    yield log


def ended(user: OrdinaryUser) -> None:
    """Every sudo that was started ends by itself, and its helper with it."""
    deadline = time.monotonic() + 20.0
    for pid in (user.home / "sudo.pid").read_text().split():
        while Path("/proc", pid).exists():
            assert time.monotonic() < deadline, "the helper outlived the one who asked"
            time.sleep(0.05)


def test_ctrl_c_while_the_helper_writes_puts_the_value_back(user: OrdinaryUser, deadly_sudo: Path) -> None:
    (user.home / "bin/what").write_text("QTOP_KILL_AT=1 QTOP_KILL_SLEEP=1.5")
    done = user.at_terminal(APPLY, (deadly_sudo, b"\x03"))
    assert done.returncode == 130, done
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("qtop: interrupted\n")
    # It was not cut short: it wrote, and then wrote the old value.
    assert calls(deadly_sudo) == ["open", "write"] * 2
    assert user.swappiness.read_text() == "60\n"
    assert user.journal.in_force() == []
    ended(user)


def test_qtop_killed_while_the_helper_writes_is_undone(user: OrdinaryUser, deadly_sudo: Path) -> None:
    (user.home / "bin/what").write_text("QTOP_KILL_AT=2 QTOP_KILL_PID=ASKER")
    done = user.run(APPLY)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    ended(user)
    assert user.swappiness.read_text() == "33\n"
    assert [change.state for change in user.journal.in_force()] == ["open"]
    (user.home / "bin/what").write_text("")
    undone = user.run(UNDO)
    assert undone.returncode == 0, undone
    assert user.swappiness.read_text() == "60\n"
    ended(user)


# What it does with messages of somebody's making


class Spoken:
    """A helper of one's own, and what it says."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            helper_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        )
        assert self.hear() == {"qtop": "helper"}

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def ask(self, wish: object) -> Any:
        self.say(json.dumps(wish).encode())
        return self.hear()

    def end(self) -> tuple[int, str]:
        """Its status, and what it wrote to standard error; it is alive until nobody asks any more."""
        assert self.process.poll() is None
        _, noise = self.process.communicate(timeout=20)
        return self.process.returncode, noise.decode()


@pytest.fixture
def spoken() -> Iterator[Spoken]:
    helper = Spoken()
    yield helper
    helper.process.kill()
    helper.process.communicate()


JUNK: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**70, 1e300, "", "\0", "../" * 40, "/etc/shadow", "/proc/self/mem", "x" * 5000, "\ud800"),
    *([], {}, [[]], [{}], {"": 1}, [None], "0-99999999999", "|sh", "/proc/sys/vm/swappiness", "10\n20"),
)
FIELDS = (
    *("boot", "new", "old", "files", "path", "text", "beside", "processes", "pid", "start", "threads", "others", "id"),
    *("mixed", "comm", "mounts", "launch", "argv", "kind"),
)


def junk(chance: random.Random, depth: int = 0) -> Any:
    """Something of the shape of a record, and wrong."""
    if depth > 2 or chance.random() < 0.3:
        return chance.choice(JUNK)
    if chance.random() < 0.3:
        return [junk(chance, depth + 1) for _ in range(chance.randrange(3))]
    return {name: junk(chance, depth + 1) for name in chance.sample(FIELDS, chance.randrange(1, 8))}


def test_a_thousand_records_of_junk_are_refused_one_by_one(spoken: Spoken) -> None:
    before = Path("/proc/sys/vm/overcommit_memory").read_text()
    chance = random.Random(6)
    names = [*(one.id for one in OFFERED), "lasting", "no-such-knob", "", None, 7, ["swappiness"]]
    for number in range(1000):
        knob, do = chance.choice(names), chance.choice(["apply", "restore", "check", "", None])
        answer = spoken.ask({"do": do, "knob": knob, "record": junk(chance), "id": number})
        assert answer is not None, (knob, number)
        assert ("refused" in answer, answer["id"]) == (True, number), answer
        assert len(json.dumps(answer)) < 2000
    assert spoken.end() == (0, "")
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == before


@pytest.mark.parametrize(
    "line",
    [b"", b"no JSON", b"[1, 2]", b"7", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000, b"{}"],
    ids=["empty", "words", "a list", "a number", "not UTF-8", "deep", "deeper", "a huge number", "no wish"],
)
def test_what_is_no_wish_ends_it_quietly(line: bytes, spoken: Spoken) -> None:
    spoken.say(line)
    assert spoken.hear() is None
    assert spoken.process.wait(20) == 0
    assert spoken.process.stderr is not None
    assert spoken.process.stderr.read() == b""


def test_a_line_without_an_end_fills_no_memory(spoken: Spoken) -> None:
    stdin = spoken.process.stdin
    assert stdin is not None
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            stdin.write(b"x" * (1 << 20))
            stdin.flush()
    assert spoken.process.wait(20) == 0


def test_signals_of_the_terminal_do_not_end_it(spoken: Spoken) -> None:
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP):
        spoken.process.send_signal(number)
    assert "refused" in spoken.ask({"do": "apply", "knob": "no"})
    assert spoken.end() == (0, "")


def test_nobody_left_to_hear_the_answer_is_no_error(spoken: Spoken) -> None:
    assert spoken.process.stdout is not None
    spoken.process.stdout.close()
    spoken.say(b'{"do": "apply", "knob": "no"}')
    spoken.process.wait(20)
    assert spoken.process.stderr is not None
    assert (spoken.process.returncode, spoken.process.stderr.read()) == (0, b"")


def test_a_file_that_is_a_link_by_now_is_not_written(spoken: Spoken, tmp_path: Path) -> None:
    for path in (
        tmp_path / "cpu.shares",
        Path("/sys/fs/cgroup/cpu/../cpu/x/cpu.shares"),
        Path("/proc/sys/vm/swappiness/"),
    ):
        files = [{"path": str(path), "old": "60", "new": "70", "id": 0}]
        for knob in ("cpu-weight", "cpuset", "cpu-governor", "transparent-hugepages"):
            answer = spoken.ask(
                {"do": "apply", "knob": knob, "record": {"boot": "", "new": "", "mounts": "", "files": files}}
            )
            assert "is no file of" in answer["refused"], answer


def test_it_is_for_root_alone() -> None:
    def run() -> str:
        done = subprocess.run(
            [shutil.which("python3") or "", "-I", "-B", "-S", str(HELPER)], capture_output=True, text=True, check=False
        )
        return f"{done.returncode} {done.stdout}{done.stderr}"

    if not os.access(HELPER, os.R_OK) or "Permission" in as_nobody(lambda: HELPER.read_text()[:1]):
        pytest.skip("nobody cannot read this checkout")
    told = as_nobody(run)
    if "Permission denied" in told:
        pytest.skip("nobody cannot run this Python")
    assert told == "2 qtop's helper: it is for root\n"


def test_it_leaves_no_file_of_roots_and_imports_nothing_beside_it(tmp_path: Path) -> None:
    """A copy of the package in a folder with a module that stands in the standard library's way."""
    package = tmp_path / "qtop"
    shutil.copytree(HELPER.parents[1], package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("json.py", "msgspec.py", "dataclasses.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from beside the package')\n")
    command = [*helper_command()[:-1], str(package / "act/helper.py")]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")}
    done = subprocess.run(
        command, input=b'{"do": "apply", "knob": "no"}\n', env=environ, cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b""), done
    assert b"no knob is called" in done.stdout
    assert list(tmp_path.rglob("__pycache__")) == []
