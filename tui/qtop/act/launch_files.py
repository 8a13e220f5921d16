"""The command of a plan as what starts servers reads it: a shell's line, vLLM's --config file, a systemd unit, a
Compose file; and whether the vLLM that is installed takes its words."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qtop.act.launchers.unit_text import quoted
from qtop.act.parser_check import check_words
from qtop.errors import QtopError, Refused
from qtop.model.vllm_defaults import Version, version_of

KINDS = ("shell", "yaml", "systemd", "compose")
ASK_VERSION = "import importlib.metadata as m; print(m.version('vllm'))"
LIMIT_S = 20.0
IMAGE = "vllm/vllm-openai"


@dataclass(frozen=True, slots=True)
class Installed:
    """A vLLM: one that lies here, or only a version that was named."""

    version: Version
    text: str
    """The version as it says it."""
    argv: tuple[str, ...] = ()
    """Interpreter and script that begin its command; empty where it is not here."""


def installed(named: str | None) -> Installed | None:
    """The vLLM that is meant: a version ("0.25.1"), a program, its interpreter or environment; without a name the one
    on the PATH, None where there is none. Errors: QtopError for one that is not there or is no vLLM."""
    if named is not None and re.fullmatch(r"v?\d+\.\d+(\.\d+)?(\S*)?", named):
        version = version_of(named)
        assert version is not None
        return Installed(version, named.removeprefix("v"))
    place = named if named is not None else shutil.which("vllm")
    if place is None:
        return None
    path = Path(place).expanduser()
    if path.is_dir():
        path = path / "bin" / "vllm"
    if not path.is_file():
        raise QtopError(f"no vLLM at {place}", "Give --vllm a version (0.25.1), a vllm program or its environment.")
    python, script = (path, None) if path.name.startswith("python") else (_interpreter(path), path)
    begin = (str(python), str(script)) if script is not None else (str(python), "-m", "vllm.entrypoints.cli.main")
    try:
        done = subprocess.run(
            [str(python), "-c", ASK_VERSION], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        raise QtopError(
            f"{python} cannot be run", "Give --vllm a version, a vllm program or its environment."
        ) from None
    version = version_of(done.stdout.strip())
    if done.returncode or version is None:
        raise QtopError(f"{place} has no vLLM", "Give --vllm a version (0.25.1), a vllm program or its environment.")
    return Installed(version, done.stdout.strip(), begin)


def _interpreter(script: Path) -> Path:
    """The Python of a console script: what its first line names, else the one beside it."""
    try:
        with script.open("rb") as file:
            first = file.readline(512).decode(errors="replace").strip()
    except OSError as error:
        raise QtopError(f"{script} cannot be read: {error.strerror}") from None
    word = first[2:].split() if first.startswith("#!") else []
    if word and "python" in word[0] and os.access(word[0], os.X_OK):
        return Path(word[0])
    return script.with_name("python")


def checked(words: Sequence[str], vllm: Installed | None) -> tuple[bool | None, str]:
    """(whether its own parser takes the words, what it says); None where it could not be asked."""
    if vllm is None:
        return None, "not checked: no vLLM is installed here (name one with --vllm PATH)"
    if not vllm.argv:
        return None, f"not checked: vLLM {vllm.text} is not installed here (name its program with --vllm PATH)"
    launch = {"cwd": "/", "environ": [f"{name}={value}" for name, value in os.environ.items()]}
    try:
        passed, open_ = check_words("vllm", launch, [*vllm.argv, *words[1:]], ())
    except Refused as refused:
        return False, refused.message
    return (True, "; ".join(passed)) if passed else (None, "; ".join(open_))


def options(words: Sequence[str]) -> list[tuple[str, str | bool]]:
    """(flag's name, value) of what follows "vllm serve MODEL"; True for a switch."""
    found: list[tuple[str, str | bool]] = []
    rest = list(words[3:])
    for at, word in enumerate(rest):
        if word.startswith("--"):
            after = rest[at + 1] if at + 1 < len(rest) else "--"
            found.append((word[2:], True if after.startswith("--") else after))
    return found


def rendered(kind: str, words: Sequence[str], vllm: Installed | None = None, gpus: int = 1) -> str:
    """The command ("vllm serve MODEL …") in one of ``KINDS``; ends with a line feed.

    Errors: KeyError for another kind."""
    return {"shell": _shell, "yaml": _yaml, "systemd": _systemd, "compose": _compose}[kind](words, vllm, gpus)


def _program(words: Sequence[str], vllm: Installed | None) -> list[str]:
    """The words with the program that was named in place of "vllm"."""
    if vllm is None or not vllm.argv:
        return list(words)
    begin = list(vllm.argv) if "-m" in vllm.argv else [vllm.argv[1]]
    return [*begin, *words[1:]]


def _shell(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    return f"{shlex.join(_program(words, vllm))}\n"


def _value(text: str | bool) -> str:
    """A YAML scalar: numbers as they are, the rest as JSON, which YAML reads."""
    if isinstance(text, bool):
        return "true" if text else "false"
    return text if re.fullmatch(r"\d+(\.\d+)?", text) else json.dumps(text, ensure_ascii=False)


def _yaml(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    lines = ["# vllm serve --config FILE", f"model: {json.dumps(words[2], ensure_ascii=False)}"]
    lines += [f"{name}: {_value(value)}" for name, value in options(words)]
    return "\n".join(lines) + "\n"


def _systemd(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    named = _program(words, vllm)
    # systemd wants the whole path; where it is not here, where pip puts it as root.
    program = named[0] if "/" in named[0] else shutil.which(named[0]) or f"/usr/local/bin/{named[0]}"
    command = " ".join(quoted(word) for word in (program, *named[1:]))
    return (
        f"[Unit]\nDescription=vLLM serving {words[2].replace('%', '%%')}\nAfter=network-online.target\n"
        "Wants=network-online.target\n\n"
        f"[Service]\nExecStart={command}\nRestart=on-failure\nRestartSec=10\nTimeoutStopSec=60\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _compose(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    """The image's entrypoint is ``vllm serve``; a dollar begins a variable of Compose."""
    version = vllm.text if vllm is not None else ""
    tag = f"v{version}" if re.fullmatch(r"\d+\.\d+\.\d+", version) else "latest"
    command = json.dumps([word.replace("$", "$$") for word in words[2:]], ensure_ascii=False)
    volumes = ["~/.cache/huggingface:/root/.cache/huggingface"]
    if words[2].startswith("/"):
        volumes.append(f"{words[2]}:{words[2]}:ro")
    mounts = "".join(f"      - {json.dumps(one.replace('$', '$$'), ensure_ascii=False)}\n" for one in volumes)
    return (
        f"services:\n  vllm:\n    image: {IMAGE}:{tag}\n    command: {command}\n    ipc: host\n"
        f'    ports:\n      - "8000:8000"\n    volumes:\n{mounts}'
        "    deploy:\n      resources:\n        reservations:\n          devices:\n"
        f"            - driver: nvidia\n              count: {gpus}\n              capabilities: [gpu]\n"
    )
