"""A model's folder, its config.json or its place in the Hugging Face cache: what lies there, read and not fetched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtop.errors import QtopError

LARGEST = 16 << 20
"""Bytes of a JSON file of a model: an index of a thousand shards has two million."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What lies in a model's folder."""

    config: Any
    """Its config.json."""
    source: str
    """Where that is, for a person."""
    weight_bytes: int | None
    """Bytes of its weights; None where they are not there, or only in part."""
    tokenizer: str
    """Path of its tokenizer.json, "" without one."""


def find(model: str, environ: Mapping[str, str] | None = None) -> ModelFiles | None:
    """The files of a folder, a config.json or a repository that is in the cache; None where none is there.

    Errors: QtopError for a path that is there and cannot be read."""
    path = Path(model).expanduser()
    if path.is_file():
        return _of(path.parent, path, str(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise QtopError(f"{model} holds no config.json: it is no model's folder")
        return _of(path, path / "config.json", str(path / "config.json"))
    if not _REPOSITORY.fullmatch(model):
        if model.startswith((".", "/", "~")) or model.endswith(".json"):
            raise QtopError(f"no such file or folder: {model}")
        return None
    folder = _cached(model, os.environ if environ is None else environ)
    return None if folder is None else _of(folder, folder / "config.json", "config.json in the Hugging Face cache")


def _cached(model: str, environ: Mapping[str, str]) -> Path | None:
    """The snapshot of a repository (source: huggingface_hub's cache layout): that of main, else the newest."""
    home = environ.get("HF_HOME") or os.path.join(  # noqa: PTH118 - joined as huggingface_hub does
        environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),  # noqa: PTH111
        "huggingface",
    )
    hub = Path(environ.get("HF_HUB_CACHE") or Path(home, "hub"))
    folder = hub / f"models--{model.replace('/', '--')}"
    try:
        main = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
        found = [folder / "snapshots" / main]
    except (OSError, ValueError):
        found = []
    try:
        found += sorted((folder / "snapshots").iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    except OSError:
        pass
    return next((one for one in found if (one / "config.json").is_file()), None)


def _of(folder: Path, config: Path, source: str) -> ModelFiles:
    tokenizer = folder / "tokenizer.json"
    return ModelFiles(
        config=_json(config),
        source=source,
        weight_bytes=_weights(folder),
        tokenizer=str(tokenizer) if tokenizer.is_file() else "",
    )


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise QtopError(f"{path} is too large for a model's configuration")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise QtopError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise QtopError(f"{path} is no JSON") from None


def _weights(folder: Path) -> int | None:
    """Bytes of the safetensors files: what their index says, else their sizes (a header of some kB is no weight)."""
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    try:
        if index.is_file():
            told = _json(index)
            metadata = told.get("metadata") if isinstance(told, Mapping) else None
            total = metadata.get("total_size") if isinstance(metadata, Mapping) else None
            if isinstance(total, int) and total > 0:
                return total
            shards = told.get("weight_map") if isinstance(told, Mapping) else None
            wanted = set(shards.values()) if isinstance(shards, Mapping) else set()
            if wanted - {one.name for one in files}:
                return None
        return sum(one.stat().st_size for one in files if not one.name.startswith("consolidated")) or None
    except OSError:
        return None
