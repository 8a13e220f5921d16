"""The files that start a plan, read back by what reads them: YAML, Compose, systemd, a shell."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from qtop.act.launch_files import Installed, options, rendered
from qtop.act.launchers.unit_text import assignments, split
from qtop.collect.config_in_force.config_file import load

SPECULATIVE = '{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}'
LIKE_SOMETHING = [
    "on", "off", "yes", "No", "y", "true", "null", "~", "", "1e3", "1.5e3", "0123", "0o17", "0x1f", "0b1", "1_000",
    ".5", "5.", "0.10", "0.92", "-1", "-0", "+1", "inf", ".inf", "nan", "12:30:45", "2026-11-26", "=", "<<", "&a",
    "*a", "!x", "- a", "? a", "a: b", "a #b", "#b", "a:", "{", "[", "|", ">", "%a", "@a", "`a", '"', "'", "\\", "a\\nb",
    "\t", " a ", "a\nb", "\u00e9", "\u2028", "\ufeff", "\U0001f600", "\x7f", "$HOME", "${X}", "$$", "%n", "100%", ";",
    "9" * 40, SPECULATIVE, "x " * 200,
]  # fmt: skip
"""Texts that a reader could take for something else."""
TEXTS = st.sampled_from(LIKE_SOMETHING) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = TEXTS.filter(lambda text: not text.startswith("--"))
NAMES = st.from_regex(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", fullmatch=True).filter(lambda name: name != "model")
FLAGS = st.dictionaries(NAMES, st.none() | VALUES | st.lists(VALUES, min_size=2, max_size=4), max_size=8)
MODELS = st.sampled_from(["Qwen/Qwen3-4B", "/models/a b", "/m/a:b", "/m/#1", "/m/$x%d", "/m/x\\", '/m/"q"', "on"]) | (
    VALUES.map(lambda text: f"/m/{text}")
)


def words_of(model: str, flags: dict[str, str | list[str] | None]) -> list[str]:
    found = ["vllm", "serve", model]
    for name, value in flags.items():
        found += [f"--{name}", *([] if value is None else [value] if isinstance(value, str) else value)]
    return found


def as_words(value: object) -> object:
    """What vLLM's parser makes of a value of the file."""
    return [str(one) for one in value] if isinstance(value, list) else value if value is True else str(value)


@given(MODELS, FLAGS)
@example("/m/a: b #c", {"speculative-config": SPECULATIVE, "enforce-eager": None, "dtype": "0123"})
def test_vllms_file_says_exactly_the_flags(model: str, flags: dict[str, str | list[str] | None]) -> None:
    text = rendered("yaml", words_of(model, flags))
    held = yaml.safe_load(text)
    assert {name: as_words(value) for name, value in held.items()} == {
        "model": model, **{name: True if value is None else value for name, value in flags.items()}
    }  # fmt: skip
    assert list(held) == ["model", *flags], "in their order"
    assert text.startswith("# vllm serve --config FILE\n") and text.endswith("\n")
    shown = load(text.encode())
    assert isinstance(shown, dict) and list(shown) == list(held), "qtop's own reader of such a file takes it too"


def test_numbers_are_numbers_and_what_only_looks_like_one_is_text() -> None:
    flags: dict[str, str | list[str] | None] = {"a": "32768", "b": "0.92", "c": "0123", "d": "1e3", "e": "on"}
    text = rendered("yaml", words_of("m", flags))
    assert text.splitlines()[1:] == ['model: "m"', "a: 32768", "b: 0.92", 'c: "0123"', 'd: "1e3"', 'e: "on"']


@given(MODELS, FLAGS, st.integers(1, 8))
def test_a_compose_file_says_exactly_the_words(model: str, flags: dict[str, str | list[str] | None], gpus: int) -> None:
    words = words_of(model, flags)
    service = yaml.safe_load(rendered("compose", words, Installed((0, 25, 1), "0.25.1"), gpus))["services"]["vllm"]
    assert all("$" not in word.replace("$$", "") for word in service["command"]), "no variable of Compose"
    assert [word.replace("$$", "$") for word in service["command"]] == words[2:]
    assert service["image"] == "vllm/vllm-openai:v0.25.1"
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["count"] == gpus
    mounts = [one for one in service["volumes"] if isinstance(one, dict)]
    assert [one["source"].replace("$$", "$") for one in mounts] == ([model] if model.startswith("/") else [])
    assert all(one["source"] == one["target"] and one["read_only"] for one in mounts)


def compose_command() -> list[str]:
    """The Compose that is here; skips where there is none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False).returncode == 0:
            return command
    pytest.skip("no Compose is installed")


ODD = {f"x{at}": value for at, value in enumerate(LIKE_SOMETHING)}


@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "/models/a b:c #d $e"])
def test_compose_itself_reads_it_so(model: str, tmp_path: Path) -> None:
    words = words_of(model, {"dtype": "on", **ODD})
    (tmp_path / "compose.yaml").write_text(rendered("compose", words, None, 2))
    command = compose_command()
    done = subprocess.run(
        [*command, "-f", str(tmp_path / "compose.yaml"), "config"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["vllm"]
    assert [word.replace("$$", "$") for word in service["command"]] == words[2:]
    mounts = [
        one["source"] for one in service["volumes"] if isinstance(one, dict) and one["target"].startswith("/models")
    ]
    assert [one.replace("$$", "$") for one in mounts] == ([model] if model.startswith("/") else [])


@given(MODELS, FLAGS)
def test_a_shell_reads_its_line_so(model: str, flags: dict[str, str | list[str] | None]) -> None:
    words = words_of(model, flags)
    line = rendered("shell", words)
    assert shlex.split(line) == words
    here = Installed((0, 25, 1), "0.25.1", ("/opt/v/bin/python", "/opt/v/bin/vllm"))
    assert shlex.split(rendered("shell", words, here)) == ["/opt/v/bin/vllm", *words[1:]]


def test_a_real_shell_reads_its_line_so() -> None:
    words = words_of("/models/a b:c #d $e", {"dtype": "on", **ODD})
    line = rendered("shell", words)
    done = subprocess.run(["sh", "-c", f"vllm() {{ printf '%s\\0' \"$@\"; }}; {line}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words[1:]


def unit_words(unit: str) -> list[str]:
    (command,) = assignments(unit, "Service", "ExecStart")
    found = [word.replace("%%", "%") for _, word in split(command)]
    return [found[0], *(word.replace("$$", "$") for word in found[1:])]


@given(MODELS, FLAGS, st.sampled_from(["/opt/v/bin/vllm", "/opt/a b/$v/bin/vllm", "/opt/100%/vllm"]))
def test_a_unit_says_exactly_the_words(model: str, flags: dict[str, str | list[str] | None], program: str) -> None:
    words = words_of(model, flags)
    unit = rendered("systemd", words, Installed((0, 25, 1), "0.25.1", ("/opt/v/bin/python", program)))
    begin = ["/usr/bin/env", program] if "$" in program else [program]
    assert unit_words(unit) == [*begin, *words[1:]]
    assert assignments(unit, "Unit", "After") == ["network-online.target"], "the name's end joins no line"
    assert assignments(unit, "Service", "Restart") == ["on-failure"]


def verified(unit: Path) -> tuple[int, str]:
    """What systemd says of a unit."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd is installed")
@pytest.mark.parametrize("folder", ["plain", "a b", "100%n", "a$b", 'q"t', "b\\n"])
def test_systemd_itself_takes_the_unit(folder: str, tmp_path: Path) -> None:
    """It looks for the program at its path, so it reads that as it was meant; and complains about nothing else."""
    program = tmp_path / folder / "vllm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    words = words_of("/models/a b:c #d $e %n\\", {"dtype": "on", **ODD})
    unit = tmp_path / "vllm.service"
    unit.write_text(rendered("systemd", words, Installed((0, 25, 1), "0.25.1", ("/x/python", str(program)))))
    code, said = verified(unit)
    assert code == 0 and "vllm.service" not in said, said
    if unit_words(unit.read_text())[0] == str(program):
        program.unlink()
        code, said = verified(unit)
        assert code != 0 and "is not executable" in said, "it does look"


def test_flags_given_again_or_with_several_values() -> None:
    words = [
        "vllm",
        "serve",
        "m",
        "--dtype",
        "auto",
        "--a=b=c",
        "--lora-modules",
        "x=1",
        "y=2",
        "--dtype",
        "half",
        "--e",
    ]
    assert options(words) == [("dtype", "half"), ("a", "b=c"), ("lora-modules", ["x=1", "y=2"]), ("e", True)]
    assert json.loads(json.dumps(yaml.safe_load(rendered("yaml", words)))) == {
        "model": "m", "dtype": "half", "a": "b=c", "lora-modules": ["x=1", "y=2"], "e": True
    }  # fmt: skip


def test_a_folder_that_was_named_from_here_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own model").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["vllm", "serve", "./own model"]
    whole = str(tmp_path / "own model")
    assert shlex.split(rendered("shell", words)) == words
    assert yaml.safe_load(rendered("yaml", words)) == {"model": whole}
    assert unit_words(rendered("systemd", words))[1:] == ["serve", whole]
    service = yaml.safe_load(rendered("compose", words))["services"]["vllm"]
    assert service["command"] == [whole] and service["volumes"][1]["source"] == whole
