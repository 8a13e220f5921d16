"""server-flags on units of a real systemd: changed, put back, killed at each step; words that systemd reads back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.ordinary_user import RUNS_ALL, UID, OrdinaryUser
from tests.fakes.ordinary_user import why_not as no_user
from tests.fakes.real_systemd import LlamaInUnit, SystemdLab, systemd_here
from tests.fakes.spawned import ROOT

from qtop.act.launch_files import Installed, rendered
from qtop.act.launchers.unit_text import quoted

pytestmark = [pytest.mark.integration, pytest.mark.root]

NASTY = ["", "a b", "$HOME", "${X}", "$$", "%n", "100%", ";", "a;b", "it's", '"q"', "\\n", "t\tb", "é–", "#no", "~"]


@pytest.fixture(scope="module")
def lab() -> Iterator[SystemdLab]:
    with systemd_here() as (running, _):
        yield running


@pytest.fixture
def light(lab: SystemdLab) -> Iterator[LlamaInUnit]:
    yield lab.light(more="Restart=on-failure")
    lab("systemctl", "stop", "light.service")


def environ(state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QTOP_", "XDG_"))}
    return {**kept, "XDG_STATE_HOME": str(state), "PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}"}


def qtop(lab: SystemdLab, state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = lab.call(sys.executable, "-m", "qtop", *words, environ=environ(state))
    assert "Traceback" not in done.stderr, done.stderr
    return done


def apply(lab: SystemdLab, state: Path, url: str, flags: str) -> subprocess.CompletedProcess[str]:
    return qtop(lab, state, "apply", f"server-flags={flags}", "--no-measure", "--yes", "--url", url)


def drop_ins(lab: SystemdLab) -> list[str]:
    return sorted(path.name for path in lab.etc.rglob("*") if path.is_file() and path.parent != lab.etc)


def test_a_real_server_in_a_unit(lab: SystemdLab, llama_model: Path, tmp_path: Path) -> None:
    """Specifier, variables and quotes stay as they are written; the log's reason is told; undo leaves nothing."""
    server = lab.llamacpp(llama_model, more="Restart=always")
    before = server.words
    done = apply(lab, tmp_path, server.url, "--parallel=2")
    assert done.returncode == 0 and "checked with" in done.stdout, done.stderr
    assert server.words == [
        word if at == 0 or before[at - 1] != "--parallel" else "2" for at, word in enumerate(before)
    ]
    written = (lab.etc / "llama.service.d/90-qtop.conf").read_text()
    assert '--port ${PORT} --alias "a %N $$1" --threads 1 --parallel 2' in written
    done = apply(lab, tmp_path, server.url, "--parallel=2 --model=/nowhere.gguf")
    assert done.returncode == 1 and "/nowhere.gguf" in done.stderr.splitlines()[-1]
    assert (lab.etc / "llama.service.d/90-qtop.conf").read_text() == written
    assert "2" in server.words
    assert qtop(lab, tmp_path, "undo").returncode == 0
    assert server.words == before and drop_ins(lab) == []
    lab("systemctl", "stop", server.unit)


@pytest.mark.parametrize(("what", "steps"), [("apply", "run|rename|mkdir"), ("undo", "remove|daemon-reload|start")])
def test_killed_at_each_step(lab: SystemdLab, light: LlamaInUnit, tmp_path: Path, what: str, steps: str) -> None:
    """Journal, drop-in, systemctl: before it or into it, the old words and nothing else are there after undo."""
    before = light.words
    command = (sys.executable, "-m", "tests.fakes.die_at", light.url, "--ctx-size=64", what, steps)
    done = lab.call(*command, environ=environ(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len([one for one in rounds if one["killed"]]) >= (5 if what == "apply" else 2)
    assert {" ".join(one["words"]) for one in rounds} == {" ".join(before)}
    assert drop_ins(lab) == []


def test_a_unit_that_somebody_stopped_stays_so_and_is_tidied(
    lab: SystemdLab, light: LlamaInUnit, tmp_path: Path
) -> None:
    assert apply(lab, tmp_path, light.url, "--ctx-size=64").returncode == 0
    lab("systemctl", "stop", light.unit)
    done = qtop(lab, tmp_path, "undo")
    assert done.returncode == 0, done.stderr
    assert drop_ins(lab) == [] and lab.show(light.unit, "ActiveState") == "inactive"
    lab("systemctl", "start", light.unit)
    assert "64" not in light.words


def test_somebody_elses_edit_is_not_touched(lab: SystemdLab, light: LlamaInUnit, tmp_path: Path) -> None:
    """Another drop-in with a command of its own has come since: all three are shown."""
    assert apply(lab, tmp_path, light.url, "--ctx-size=64").returncode == 0
    other = lab.etc / "light.service.d/99-other.conf"
    command = f"/usr/bin/python3 -S {lab.folder / 'llama-server'} --port {light.port} --ctx-size 32"
    other.write_text(f"[Service]\nExecStart=\nExecStart={command}\n")
    lab("systemctl", "daemon-reload")
    lab("systemctl", "restart", light.unit)
    done = qtop(lab, tmp_path, "undo")
    assert done.returncode == 1 and "--ctx-size 64" in done.stderr and "--ctx-size 32" in done.stderr, done.stderr
    # And a change of that one has the last word all the same.
    done = apply(lab, tmp_path / "another", light.url, "--ctx-size=16")
    assert done.returncode == 0, done.stderr
    assert "16" in light.words and "zz-qtop.conf" in drop_ins(lab)
    assert qtop(lab, tmp_path / "another", "undo").returncode == 0
    assert "32" in light.words
    shutil.rmtree(other.parent)
    lab("systemctl", "daemon-reload")


def test_as_a_user_with_sudo(lab: SystemdLab, tmp_path: Path) -> None:
    """Root's helper makes the change, the user's journal has it; the log's reason reaches him."""
    if why := no_user():
        pytest.skip(why)
    folder = lab.folder / "user"
    folder.mkdir()
    user, server = OrdinaryUser(folder, RUNS_ALL), lab.light(more=f"User={UID}")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command, environment = user.command([sys.executable, "-m", "qtop", *words])
        return lab.call(*command, environ=environment)

    ask = ("apply", "--no-measure", "--yes", "--url", server.url)
    done = run(*ask, "server-flags=--ctx-size=64")
    assert done.returncode == 0 and "right: root" in done.stdout and "checked with" in done.stdout, done.stderr
    assert "64" in server.words
    done = run(*ask, "server-flags=--fail-with=nomemory")
    assert done.returncode == 1 and "nomemory" in done.stderr
    assert run("undo").returncode == 0
    assert "64" not in server.words and drop_ins(lab) == []
    user.sudoers = ""
    done = run(*ask, "server-flags=--ctx-size=64")
    assert done.returncode == 1 and "takes root" in done.stderr and "64" not in server.words
    lab("systemctl", "stop", server.unit)


def test_what_is_quoted_is_what_systemd_gives_to_the_program(lab: SystemdLab) -> None:
    words = " ".join(map(quoted, NASTY))
    out = lab.folder / "words"
    (lab.etc / "words.service").write_text(
        f"[Service]\nType=oneshot\nStandardOutput=truncate:{out}\nExecStart=/usr/bin/printf %%s\\\\0 {words}\n"
    )
    lab("systemctl", "daemon-reload")
    lab("systemctl", "start", "words.service")
    assert out.read_text().split("\0")[:-1] == NASTY


@pytest.mark.parametrize("folder", ["plain", "a b", "100%n", "a$b", 'q"t', "b\\n"])
def test_a_plans_unit_gives_the_program_its_words(lab: SystemdLab, folder: str) -> None:
    """Wherever the program lies: what it is given is the command line of the plan."""
    program, out = lab.folder / folder / "vllm", lab.folder / "given"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" > {shlex.quote(str(out))}.new && mv {out}.new {out}\n")
    program.chmod(0o755)
    words = ["vllm", "serve", "/models/a b:c #d $e %n\\"]
    words += [part for at, value in enumerate(NASTY) for part in (f"--flag-{at}", value)]
    unit = rendered("systemd", words, Installed((0, 25, 1), "0.25.1", ("/x/python", str(program))))
    (lab.etc / "planned.service").write_text(
        unit.replace("[Service]\n", "[Service]\nType=oneshot\n").replace("Restart=on-failure\n", "")
    )
    lab("systemctl", "daemon-reload")
    lab("systemctl", "start", "planned.service")
    assert out.read_text().split("\0")[:-1] == words[1:]
    assert lab.show("planned.service", "Description") == "vLLM serving /models/a b:c #d $e %n\\ (planned by qtop)"
    out.unlink()
