"""The command of a plan as what starts servers reads it: a shell's line, vLLM's --config file, a systemd unit, a
Compose file; and whether the vLLM that is installed takes its words."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qtop.act.launchers.unit_text import quoted
from qtop.act.parser_check import check_words
from qtop.errors import QtopError, Refused
from qtop.model.vllm_defaults import Version, version_of

KINDS = ("shell", "yaml", "systemd", "compose")
ASK_VERSION = "import importlib.metadata as m; print(m.version('vllm'))"
LIMIT_S = 20.0
MOST_DIGITS = 30
"""Of a whole number that stays one: longer ones are no value of any flag, and slow to read."""
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


def options(words: Sequence[str]) -> list[tuple[str, str | list[str] | Literal[True]]]:
    """(flag's name, value) of what follows "vllm serve MODEL": a list for several values, True for a switch. Those of a
    flag that comes again take the place of the ones before, as they do for vLLM."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words[3:]:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            values = found[name] = [value] if equals else []
        else:
            values.append(word)
    return [(name, (held if len(held) > 1 else held[0]) if held else True) for name, held in found.items()]


def rendered(kind: str, words: Sequence[str], vllm: Installed | None = None, gpus: int = 1) -> str:
    """The command ("vllm serve MODEL …") in one of ``KINDS``; ends with a line feed. A file may be read anywhere, so a
    model's folder has its whole path there.

    Errors: KeyError for another kind."""
    if kind != "shell" and (folder := Path(words[2]).expanduser()).is_dir():
        words = [*words[:2], str(folder.absolute()), *words[3:]]
    return {"shell": _shell, "yaml": _yaml, "systemd": _systemd, "compose": _compose}[kind](words, vllm, gpus)


def _program(words: Sequence[str], vllm: Installed | None) -> list[str]:
    """The words with the program that was named in place of "vllm"."""
    if vllm is None or not vllm.argv:
        return list(words)
    begin = list(vllm.argv) if "-m" in vllm.argv else [vllm.argv[1]]
    return [*begin, *words[1:]]


def _shell(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    return f"{shlex.join(_program(words, vllm))}\n"


class _Quoted(str):
    """Text that is in quotes whatever it looks like: YAML 1.1 and 1.2, and their readers, take different words for
    numbers (1e3, 0o17) and truth values (on)."""

    __slots__ = ()


def _number(text: str) -> int | float | None:
    """The number that is written exactly like this, None for other texts ("0123", "1e3", "0.10")."""
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return None
    value = float(text) if "." in text else int(text[:MOST_DIGITS])
    return value if str(value) == text else None


def _scalar(text: str) -> int | float | str:
    """A value of vLLM's file: numbers as such, the rest quoted; vLLM makes the same word of both."""
    value = _number(text)
    return _Quoted(text) if value is None else value


def _dumped(content: dict[str, Any]) -> str:
    """A YAML document, its keys in their order."""
    import yaml  # here, because only who writes such a file needs it: importing it takes 20 ms

    class Dumper(yaml.SafeDumper):
        """Lists are set in beneath their key, as people write them."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    Dumper.add_representer(
        _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
    )
    # No line is folded: a word with a blank stays on one.
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)


def _yaml(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    content: dict[str, Any] = {"model": _Quoted(words[2])}
    for name, value in options(words):
        content[name] = (
            value if value is True else [_scalar(one) for one in value] if isinstance(value, list) else _scalar(value)
        )
    return f"# vllm serve --config FILE\n{_dumped(content)}"


def _systemd(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    named = _program(words, vllm)
    # systemd wants the whole path; where it is not here, where pip puts it as root.
    program = named[0] if "/" in named[0] else shutil.which(named[0]) or f"/usr/local/bin/{named[0]}"
    # In a program's path systemd takes no quotes or backslashes, and leaves "$$" as it is; env has it as a word.
    runner = ("/usr/bin/env",) if re.search(r"[\"'\\$\x00-\x1f\x7f]", program) else ()
    command = " ".join(quoted(word) for word in (*runner, program, *named[1:]))
    # What follows the name keeps a backslash at its end from joining the next line.
    shown = " ".join(words[2].replace("%", "%%").encode(errors="replace").decode().split())
    return (
        f"[Unit]\nDescription=vLLM serving {shown} (planned by qtop)\nAfter=network-online.target\n"
        "Wants=network-online.target\n\n"
        f"[Service]\nExecStart={command}\nRestart=on-failure\nRestartSec=10\nTimeoutStopSec=60\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _compose(words: Sequence[str], vllm: Installed | None, gpus: int) -> str:
    """The image's entrypoint is ``vllm serve``; a dollar begins a variable of Compose."""
    version = vllm.text if vllm is not None else ""
    tag = f"v{version}" if re.fullmatch(r"\d+\.\d+\.\d+", version) else "latest"
    volumes: list[Any] = [_Quoted("~/.cache/huggingface:/root/.cache/huggingface")]
    if words[2].startswith("/"):
        folder = _Quoted(words[2].replace("$", "$$"))
        # The short form cannot name a folder with a colon.
        volumes.append({"type": "bind", "source": folder, "target": folder, "read_only": True})
    device = {"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}
    service = {
        "image": f"{IMAGE}:{tag}",
        "command": [_Quoted(word.replace("$", "$$")) for word in words[2:]],
        "ipc": "host",
        "ports": [_Quoted("8000:8000")],
        "volumes": volumes,
        "deploy": {"resources": {"reservations": {"devices": [device]}}},
    }
    return _dumped({"services": {"vllm": service}})
