"""New words, tried on the server's own parser in its own environment, while the old server still runs.

vLLM: the interpreter that runs the server builds ``vllm serve``'s parser, reads the words (and the config file) with it
and validates them. Others: the same program is asked for its ``--help`` behind the flags that change, which its parser
then reads, and whose text has to name them. Nothing is started by either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtop.act.launchers.engine_api import Engine
from qtop.act.launchers.launcher import Launch
from qtop.act.log_reason import reason
from qtop.act.words import Edit, words_begin
from qtop.collect.config_in_force.config_file import named
from qtop.collect.discover.servers import program, recognise
from qtop.errors import Refused
from qtop.units import size

LIMIT_S = 120.0
"""Importing vLLM takes 5 to 40 s."""
SAID = "QTOP-PARSER:"
CHECKER = Path(__file__).with_name("vllm_parser.py")
INPUT = "import io, sys; sys.stdin = io.StringIO(sys.argv[1]); exec(sys.argv[2])"
MEMORY, MEMORY_HELP = 3 << 30, 256 << 20
"""Bytes that a vLLM's parser takes at most, and another server's --help."""
NOTHING = "Nothing was stopped."

_done: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
"""What passed: a plan is made twice, for the preview and for the change."""


def check_words(
    engine: str, launch: Launch, argv: Sequence[str], edits: Sequence[Edit], file: dict[str, Any] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what was checked, what could not be), a line each. Errors: Refused with the parser's own reason."""
    key = json.dumps(
        [engine, argv, file and file["new"], launch.get("environ"), launch.get("cwd"), launch.get("container")]
    )
    if key not in _done:
        _done[key] = _checked(engine, launch, list(argv), edits, file)
    return _done[key]


def _checked(
    engine: str, launch: Launch, argv: list[str], edits: Sequence[Edit], file: dict[str, Any] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    how = program(argv)[0]
    if "container" not in launch and ("environ" not in launch or "cwd" not in launch):
        return (), ("the new words could not be checked: its environment is not known",)
    if recognise(argv) is None or how == "code":
        return (), ("the new words could not be checked: how its program reads them is not known",)
    if engine == "vllm":
        return _vllm(launch, argv, file)
    return _by_help(launch, argv, edits)


def executable(launch: Launch, word: str) -> str:
    """The program that a first word means there; "" where there is none. In a container, it tells when it is run."""
    if "container" in launch:
        return word
    cwd, path = str(launch.get("cwd", "/")), environment(launch).get("PATH", os.defpath)
    if "/" in word:
        found = os.path.join(cwd, word)  # noqa: PTH118 - not normalised: a venv's python is known by its link
        return found if os.access(found, os.X_OK) else ""
    return shutil.which(word, path=path) or ""


def environment(launch: Launch) -> dict[str, str]:
    """As a mapping."""
    pairs = (entry.partition("=") for entry in launch.get("environ", ()))
    return {name: value for name, _, value in pairs if name}


def _run(
    launch: Launch, command: list[str], stdin: str = "", extra: dict[str, str] | None = None
) -> tuple[int, str, str] | str:
    """(exit status, stdout, stderr), or why it could not be run."""
    if "container" in launch:
        return _run_inside(launch, command, stdin, extra or {})
    owner: dict[str, Any] = {}
    if os.geteuid() == 0 and launch.get("uid"):
        owner = {"user": launch["uid"], "group": launch["gid"], "extra_groups": launch.get("groups", [])}
    try:
        done = subprocess.run(
            command,
            input=stdin.encode(errors="surrogateescape"),
            capture_output=True,
            cwd=launch["cwd"],
            env={**environment(launch), **(extra or {})},
            timeout=LIMIT_S,
            start_new_session=True,
            check=False,
            **owner,
        )
    except subprocess.TimeoutExpired:
        return f"its parser did not answer within {LIMIT_S:.0f} s"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"its parser cannot be run: {getattr(error, 'strerror', None) or type(error).__name__}"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def _run_inside(launch: Launch, command: list[str], stdin: str, extra: dict[str, str]) -> tuple[int, str, str] | str:
    """As ``_run``, in the server's own container. Not where that could take the memory that the server needs."""
    engine, container = Engine(launch["socket"]), str(launch["container"])
    need = MEMORY if stdin else MEMORY_HELP
    if stdin:  # only output comes over a plain HTTP connection
        command = [command[0], "-c", INPUT, stdin, command[2]]
    try:
        room = engine.memory_left(container)
        if room is not None and room < need:
            return f"the container has {size(room)} of memory left, and its parser may take {size(need)}"
        environ = [f"{name}={value}" for name, value in extra.items()]
        status, said = engine.execute(container, {"Cmd": command, "Env": environ}, LIMIT_S)
    except Refused as error:
        return f"its parser cannot be run in the container: {error.message}"
    return f"{command[0]} cannot be run in the container" if status in (126, 127) else (status, said, said)


def _vllm(launch: Launch, argv: list[str], file: dict[str, Any] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    how, what, words = program(argv)
    python = executable(launch, argv[0])
    if how == "exe" or not python:
        return (), ("the new words could not be checked: it is not run by a Python that can be seen",)
    with tempfile.TemporaryDirectory(prefix="qtop-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - the server's user reads it
        if file is not None:
            spare = Path(folder, "config.yaml")
            spare.touch(0o600)
            if os.geteuid() == 0 and launch.get("uid"):
                os.chown(spare, launch["uid"], launch["gid"])
            spare.write_text(file["new"], encoding="utf-8", newline="")
            words = [str(spare) if word == named(argv) else word for word in words]
        ask = json.dumps({"how": how, "what": what, "words": words})
        answer = _run(launch, [python, "-c", CHECKER.read_text()], ask, {"VLLM_LOGGING_LEVEL": "ERROR"})
    if isinstance(answer, str):
        return (), (f"the new words could not be checked: {answer}",)
    status, out, err = answer
    told = next((line.removeprefix(SAID) for line in out.splitlines() if line.startswith(SAID)), "")
    try:
        said = json.loads(told)
    except ValueError:
        why = reason(err.splitlines()) or f"it ended with status {status}"
        return (), (f"the new words could not be checked: its parser failed: {why}",)
    if said.get("refused"):
        raise Refused(f"vLLM does not take these words: {reason([said['refused']]) or said['refused']}", NOTHING)
    if said.get("unknown"):
        return (), (f"the new words could not be checked: {said['unknown']}",)
    return (f"checked with its own parser (vLLM {said.get('version', '?')})",), ()


def _by_help(launch: Launch, argv: list[str], edits: Sequence[Edit]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    begin = words_begin(argv)
    head = argv[:begin]
    first = executable(launch, head[0])
    if not first:
        return (), ("the new words could not be checked: its program cannot be seen",)
    verb = argv[begin : begin + 1] if argv[begin : begin + 1] in (["serve"], ["start"]) else []
    wanted = [edit for edit in edits if not edit.drop]
    flags = [word for edit in wanted for word in (edit.flag, *edit.values)]
    answer = _run(launch, [first, *head[1:], *verb, *flags, "--help"], extra={"COLUMNS": "200"})
    if isinstance(answer, str):
        return (), (f"the new words could not be checked: {answer}",)
    status, out, err = answer
    name = Path(head[0] if program(argv)[0] == "exe" else program(argv)[1]).name
    if status != 0:
        raise Refused(
            f"{name} does not take these words: {reason((out + err).splitlines()) or 'it says not why'}", NOTHING
        )
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", out + err))
    if not known:
        return (), ("the new words could not be checked: its --help names no flags",)
    for edit in wanted:
        if edit.flag not in known:
            raise Refused(f"{name} has no flag {edit.flag}", NOTHING)
    return (f"checked with {name}'s own parser",), ()
