"""The dashboard in a real pseudo-terminal: signals, dropped lines, terminals nobody reads, servers that go away."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from tests.fakes.spawned import Spawned
from tests.pilot.terminal import QTOP, Terminal, all_gone, children, environment, terminal

from qtop.demo.server import free_port
from qtop.record.reader import Recording

ROOT = Path(__file__).parent.parent.parent
NOWHERE = ("--url", "127.0.0.1:9")
GONE_S = 3.0
SLOW_S = 0.4
"""Between two events of a server whose answer takes long enough to be interrupted."""


@contextlib.contextmanager
def fake_server(mode: str = "vllm", port: int = 0, gap: float | None = None) -> Iterator[int]:
    """A fake server in a process of its own; gives its port."""
    command = [sys.executable, "-m", "tests.fakes.hostile", "--mode", mode, "--port", str(port)]
    command += ["--gap", str(gap)] if gap is not None else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline())
        finally:
            child.kill()


def qtop(port: int | None = None, *more: str) -> list[str]:
    """The command line for a server on this port, or for one that is not there."""
    return [*QTOP, *(("--url", f"127.0.0.1:{port}") if port is not None else NOWHERE), *more]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose settings send recordings to tmp_path/recordings."""
    (tmp_path / "recordings").mkdir()
    folder = tmp_path / "config" / "qtop"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'record_dir = "{tmp_path}/recordings"\nmax_tokens = 256\n')
    return environment(tmp_path)


def started(one: Terminal) -> list[psutil.Process]:
    """Wait until it samples; its children."""
    one.until_shows("wake-up p50")
    family = children(one.pid)
    assert any("wakeup_child" in " ".join(process.cmdline()) for process in family)
    return family


def probing(one: Terminal) -> list[psutil.Process]:
    """Press p and wait until the answer streams; the children now."""
    one.until_shows("vLLM")
    one.press("p")
    one.until_shows("Enter sends 1 request")
    one.press("p")
    one.until_shows("tokens so far")
    family = children(one.pid)
    assert any("qtop.probe.child" in " ".join(process.cmdline()) for process in family)
    return family


def recorded(folder: Path) -> int:
    """Samples in the only recording there."""
    (made,) = (folder / "recordings").iterdir()
    return len(list(Recording(made).samples()))


def no_traceback(one: Terminal) -> None:
    assert "Traceback" not in one.output()
    assert "internal error" not in one.output()


def test_q_leaves_the_terminal_as_it_was(environ: dict[str, str]) -> None:
    with fake_server(gap=SLOW_S) as port, terminal(qtop(port), environ) as one:
        family = [*started(one), *probing(one)]
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()
        no_traceback(one)
        assert all_gone(family, GONE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_as_q_does(environ: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    with terminal(qtop(), environ) as one:
        family = started(one)
        one.press("r")
        one.until_shows("● REC 00:02")
        one.child.send_signal(number)
        assert one.ended() != 0
        one.left_as_it_was()
        no_traceback(one)
        assert all_gone(family, GONE_S)
    assert recorded(tmp_path) >= 2


def test_kill_9_leaves_no_child(environ: dict[str, str]) -> None:
    with fake_server(gap=SLOW_S) as port, terminal(qtop(port), environ) as one:
        family = [*started(one), *probing(one)]
        one.child.kill()
        one.ended()
        assert all_gone(family, GONE_S)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_dropped_line_closes_the_recording_and_ends_everything(
    environ: dict[str, str], tmp_path: Path, stopped: bool
) -> None:
    with fake_server(gap=SLOW_S) as port, terminal(qtop(port), environ) as one:
        family = [*started(one), *probing(one)]
        one.press("r")
        one.until_shows("● REC 00:03")
        if stopped:
            one.press("\x1a")
            one.until(lambda: psutil.Process(one.pid).status() == psutil.STATUS_STOPPED)
        one.hang_up()
        if stopped:  # what the kernel does for a stopped group that nobody is left to wake
            os.kill(one.pid, signal.SIGHUP)
            os.kill(one.pid, signal.SIGCONT)
        one.ended(10.0)
        assert all_gone(family, GONE_S)
        no_traceback(one)
    assert recorded(tmp_path) >= 3


def test_a_terminal_that_is_not_read_holds_up_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    unread_s = float(os.environ.get("QTOP_UNREAD_S", "20"))
    recorded_s = 11 + unread_s  # a block of the recording is made before: that takes memory, once
    with fake_server(gap=0.0) as port, terminal(qtop(port, "--interval", "0.2"), environ) as one:
        started(one)
        one.press("r")
        one.until_shows("● REC 00:14")
        process = psutil.Process(one.pid)
        one.reading.clear()
        one.press("ppo")
        for step in range(40):  # full repaints, until the terminal takes no more
            one.announce(160 if step % 2 else 120, 48 if step % 2 else 40)
            time.sleep(0.05)
        one.announce(*one.size)
        one.until(lambda: _full(one))
        rss, until = process.memory_info().rss, time.monotonic() + unread_s
        while time.monotonic() < until:
            time.sleep(1.0)
            if time.monotonic() < until - unread_s / 2:
                one.press("x")  # a key without a meaning, typed while nothing is drawn
        grown = process.memory_info().rss - rss
        one.reading.set()
        one.until(lambda: "● REC" in one.rows()[0] and re.search(r"REC (\d\d):(\d\d)", one.rows()[0]))
        one.until(lambda: _seconds(one) >= recorded_s)
        assert " ▌ " in one.verdict()
        assert one.text().count("Findings ─") == one.text().count("CPU & scheduling ─") == 1
        assert grown < 8 << 20, f"{grown >> 20} MiB more"
        one.press("r")
        one.until_shows("recorded ")
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()
        no_traceback(one)
    (made,) = (tmp_path / "recordings").iterdir()
    times = [sample.t for sample in Recording(made).samples()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[-1] - times[0] >= recorded_s + 2
    assert max(gaps) < 2.0  # the samplers went on while nobody read
    assert len(times) > recorded_s / 0.2 / 2


def _full(one: Terminal) -> bool:
    """True when the dashboard draws every 0.2 s, and nothing more arrives."""
    before = one.waiting()
    time.sleep(2.0)
    return before == one.waiting() > 0


def _seconds(one: Terminal) -> int:
    found = re.search(r"REC (\d\d):(\d\d)", one.rows()[0])
    return int(found[1]) * 60 + int(found[2]) if found else -1


@pytest.mark.parametrize("how", ["key", "SIGTSTP", "SIGSTOP"])
def test_stopped_and_continued(environ: dict[str, str], tmp_path: Path, how: str) -> None:
    with terminal(qtop(), environ) as one:
        started(one)
        one.press("r")
        one.until_shows("● REC 00:02")
        process = psutil.Process(one.pid)
        threads = process.num_threads()
        for _ in range(2):
            if how == "key":
                one.press("\x1a")
            else:
                one.child.send_signal(signal.Signals[how])
            one.until(lambda: process.status() == psutil.STATUS_STOPPED)
            if how != "SIGSTOP":
                one.until(lambda: one.attributes() == one.before)
                # What it wrote last may still be on its way through the terminal: waited for, not looked at once.
                one.until(lambda: one.output().rfind("\x1b[?1049l") > one.output().rfind("\x1b[?1049h"))
            time.sleep(2.5)
            one.forget()
            one.child.send_signal(signal.SIGCONT)
            one.until_shows("waits for a CPU")
            one.until(lambda: " ▌ nothing listens on 127.0.0.1:9" in one.verdict())
            assert one.attributes() != one.before
        one.until(lambda: process.num_threads() <= threads)  # one reader of the keyboard, one writer
        one.press("r")
        one.until_shows("recorded ")
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()
        no_traceback(one)
    (made,) = (tmp_path / "recordings").iterdir()
    times = [sample.t for sample in Recording(made).samples()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sum(gap > 2.0 for gap in gaps) == 2
    assert min(gaps) > 0.3  # what was missed is not made up for in a burst


def test_ctrl_z_and_fg_in_a_shell(environ: dict[str, str]) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("needs bash")
    with terminal([shell, "--norc", "--noprofile", "-i"], {**environ, "PS1": "prompt> "}) as one:
        one.until_shows("prompt>")
        one.press(" ".join(qtop()) + "\n")
        one.until_shows("wake-up p50")
        for _ in range(2):
            one.press("\x1a")
            one.until_shows("Stopped")
            one.press("echo still $((40 + 2))\n")
            one.until_shows("still 42")
            one.forget()
            one.press("fg\n")
            one.until(lambda: " ▌ nothing listens on 127.0.0.1:9" in one.verdict())
            one.until_shows("wake-up p50")
        one.press("q")
        one.until(lambda: one.output().rfind("\x1b[?1049l") > one.output().rfind("\x1b[?1049h"))
        one.press("echo left with $?\n")
        one.until_shows("left with 0")
        no_traceback(one)


def test_a_resized_terminal_is_drawn_anew(environ: dict[str, str]) -> None:
    with terminal(qtop(), environ, size=(80, 24)) as one:
        started(one)
        for size in ((160, 48), (60, 18), (200, 60), (80, 24)):
            one.resize(*size)
            one.until(lambda size=size: "p test prompt" in one.rows()[size[1] - 1])  # type: ignore[misc]
            one.until(lambda: " ▌ nothing listens" in one.verdict())
            one.until(lambda: "help" in one.rows()[0])
        one.press("q")
        assert one.ended() == 0
        no_traceback(one)


@pytest.mark.parametrize("locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LANG": "", "LC_ALL": "POSIX"}])
def test_lang_c_gets_ascii_alone(environ: dict[str, str], locale: dict[str, str]) -> None:
    with terminal(qtop(), {**environ, **locale}, size=(80, 24)) as one:
        started(one)
        for key, shows in (("?", "stream a test prompt"), ("\x1b", "waits"), ("\x10", "Cancel"), ("\x1b", "Findings")):
            one.press(key)
            one.until_shows(shows)
            assert one.text().isascii()
        one.press("q")
        assert one.ended() == 0
        assert one.output().isascii()
        no_traceback(one)


def test_a_dumb_terminal_gets_one_line(environ: dict[str, str]) -> None:
    with terminal(qtop(), {**environ, "TERM": "dumb"}) as one:
        assert one.ended() == 2
        one.until_shows("TERM=dumb")
        assert len([line for line in one.output().splitlines() if line.strip()]) == 1
        assert "\x1b" not in one.output()


@pytest.mark.parametrize("verb", [[], ["replay", "no-such-file.qtop"]])
def test_no_terminal_gets_one_line(environ: dict[str, str], verb: list[str]) -> None:
    done = subprocess.run(
        [*QTOP, *verb], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("qtop: ")


def test_stderr_in_a_file_still_draws_on_the_terminal(environ: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "errors"
    with terminal(["sh", "-c", f"exec {' '.join(qtop())} 2>{log}"], environ) as one:
        one.until_shows("wake-up p50")
        one.press("q")
        assert one.ended() == 0
        one.left_as_it_was()
    assert log.read_text() == ""


def test_a_server_that_ends_comes_back_and_is_replaced(environ: dict[str, str]) -> None:
    port = free_port()
    with terminal(qtop(port), environ) as one:
        with fake_server("vllm", port):
            one.until(lambda: "vLLM 0.32.0" in one.rows()[0])
        one.until(lambda: "ended; waiting for it" in one.verdict(), 8.0)
        assert "no server" in one.rows()[0]
        with fake_server("vllm", port):
            one.until(lambda: "vLLM 0.32.0" in one.rows()[0], 8.0)
            one.until(lambda: "ended" not in one.verdict(), 8.0)
        one.until(lambda: "ended; waiting for it" in one.verdict(), 8.0)
        with fake_server("llamacpp", port):
            one.until(lambda: "llama.cpp" in one.rows()[0], 8.0)
            assert "vLLM" not in one.rows()[0]
        one.press("q")
        assert one.ended() == 0
        no_traceback(one)


def test_another_engine_takes_the_port_at_once(environ: dict[str, str]) -> None:
    port = free_port()
    with terminal(qtop(port), environ) as one:
        with fake_server("vllm", port):
            one.until(lambda: "vLLM 0.32.0" in one.rows()[0])
        with fake_server("llamacpp", port):
            one.until(lambda: "llama.cpp" in one.rows()[0], 12.0)
            one.until(lambda: "Server llama.cpp" in one.text())
            one.until(lambda: "vLLM" not in one.text())
        no_traceback(one)


def test_a_server_that_accepts_and_never_answers_is_one_clear_line(environ: dict[str, str]) -> None:
    with fake_server("silent") as port, terminal(qtop(port), environ) as one:
        family = started(one)
        one.until(lambda: re.search(r"no answer|did not answer|does not answer", one.verdict()), 15.0)
        assert f"127.0.0.1:{port}" in one.verdict()
        one.press("pp")
        one.until(lambda: "answer" in one.rows()[-1])
        one.press("q")
        assert one.ended(10.0) == 0
        assert all_gone(family, GONE_S)
        no_traceback(one)


def test_several_servers_are_offered(environ: dict[str, str]) -> None:
    name = "llama-server"  # an argv by which servers are known; others on this machine may be found as well
    with Spawned("vllm", name=name) as first, Spawned("llamacpp", name=name) as second, terminal(QTOP, environ) as one:
        one.until_shows("Several servers found")
        one.until(lambda: f":{first.port} " in one.text() and f":{second.port} " in one.text())
        one.press("\x1b")
        one.until(lambda: "servers found: choose one" in one.verdict())
        one.until(lambda: "Several servers found" not in one.text())
        time.sleep(2.5)
        assert "Several servers found" not in one.text()
        one.press("s")
        one.until_shows("Several servers found")
        one.until(lambda: f":{second.port} " in one.text())
        lines = [line for line in one.rows() if "http://" in line]
        down = next(number for number, line in enumerate(lines) if f":{second.port} " in line)
        for _ in range(down):
            one.press("\x1b[B")
            time.sleep(0.1)
        one.press("\r")
        one.until(lambda: re.search(rf"llama\.cpp \S+ :{second.port}", one.rows()[0]))
        one.press("q")
        assert one.ended() == 0
        no_traceback(one)


@pytest.mark.parametrize("end", ["q", "kill", "hang up"])
def test_the_demo_server_ends_with_the_demo(environ: dict[str, str], llama_model: Path, end: str) -> None:
    with terminal([*QTOP, "demo", "--threads", "1"], environ) as one:
        one.until_shows("llama.cpp", 60.0)
        one.until_shows("TTFT", 30.0)
        family = children(one.pid)
        assert any("qtop.demo.serve" in " ".join(process.cmdline()) for process in family)
        if end == "q":
            one.press("q")
            assert one.ended(10.0) == 0
            one.left_as_it_was()
        elif end == "kill":
            one.child.kill()
            one.ended()
        else:
            one.hang_up()
            one.ended(10.0)
        assert all_gone(family, GONE_S)
        no_traceback(one)
