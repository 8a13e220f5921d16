"""A vLLM's ``--config`` file, turned into words as vLLM's own parser does (load_config_file of
vllm/utils/argparse_utils.py, 0.9 to 0.32): flat keys or nested maps, true is the flag alone, false ``--no-key``, a list
several values, a map JSON. The command line outweighs it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtop.collect.config_in_force import command_line
from qtop.collect.config_in_force.inside import read_file
from qtop.collect.discover.procfs import PROC
from qtop.sample import Absent, Why
from qtop.sample.secrets import is_secret_name
from qtop.sample.settings import CONFIG_FILE, SET, Setting

LIMIT = 256 * 1024
"""Bytes of a file."""
EVENTS = 5_000
DEPTH = 20
NODES = 5_000
"""Places visited, each alias anew: a file whose aliases multiply ends here."""


class _TooMuch(Exception):
    pass


def named(argv: Sequence[str]) -> str | None:
    """The file that the command line names. Only ``--config FILE`` counts: vLLM passes over ``--config=FILE``."""
    words = list(argv)
    at = words.index("--config") if "--config" in words else len(words)
    return words[at + 1] if at + 1 < len(words) else None


def settings(pid: int, argv: Sequence[str], root: Path = PROC) -> tuple[Setting, ...] | Absent | None:
    """What the file says, None if the command line names none, Absent where it cannot be read or understood."""
    path = named(argv)
    if path is None:
        return None
    if path.rpartition(".")[2] not in ("yaml", "yml"):
        return Absent(Why.FAILED, f"{path}: vLLM takes a .yaml or .yml file")
    data = read_file(pid, path, LIMIT, root)
    if isinstance(data, Absent):
        return data
    try:
        content = load(data)
    except _TooMuch:
        return Absent(Why.FAILED, f"{path} has too many values or is nested too deeply")
    except ValueError as error:
        return Absent(Why.FAILED, f"{path} is not YAML: {error}")
    if not isinstance(content, dict):
        return Absent(Why.FAILED, f"{path} holds no settings")
    found: dict[str, Setting] = {}
    for key, value in content.items():
        one = _setting(str(key), value)
        if one is not None:
            found[one.name] = one
    return tuple(found.values())[: command_line.MOST]


def _setting(key: str, value: object) -> Setting | None:
    if isinstance(value, bool):
        flag = f"--{key}" if value else f"--no-{key}"
        return command_line.setting(flag, (), "vllm", CONFIG_FILE)
    if isinstance(value, list):
        return command_line.setting(f"--{key}", [str(item) for item in value], "vllm", CONFIG_FILE) if value else None
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return command_line.setting(f"--{key}", [text], "vllm", CONFIG_FILE)


def load(data: bytes) -> object:
    """The plain values of a YAML document, secrets inside maps as "set"; ValueError, one line, if it is not YAML.

    Aliases are walked within a budget rather than built, so that one that contains itself, or doubles at each step,
    ends in a refusal.
    """
    import yaml  # here, because only a server with a file needs it: importing it takes 20 ms

    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = data.decode("utf-8-sig")
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=fast)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > EVENTS or depth > DEPTH:
                raise _TooMuch
        # The scalars' types are those of the pure loader; its composing is not used.
        return _Plain(yaml.SafeLoader("")).value(yaml.compose(text, Loader=fast))
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        if "nesting depth" in str(getattr(error, "problem", "")):  # libyaml's own limit, which its scanner meets first
            raise _TooMuch from None
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else type(error).__name__
        raise ValueError(where) from None


class _Plain:
    """Nodes to plain values, counted."""

    def __init__(self, scalars: Any) -> None:
        self._scalars = scalars
        self._left = NODES

    def value(self, node: Any, depth: int = 0) -> object:
        self._left -= 1
        if self._left < 0 or depth > DEPTH:
            raise _TooMuch
        if node is None:
            return None
        if node.id == "sequence":
            return [self.value(item, depth + 1) for item in node.value]
        if node.id == "mapping":
            return self._map(node, depth)
        plain = self._scalars.construct_object(node)
        return plain if isinstance(plain, str | bool | int | float) or plain is None else str(plain)

    def _map(self, node: Any, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, item in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                self._merge(merged, item, depth)
                continue
            name = str(self.value(key, depth + 1))
            told = self.value(item, depth + 1)
            own[name] = SET if is_secret_name(name) and told is not None else told
        return {**merged, **own}

    def _merge(self, merged: dict[str, object], node: Any, depth: int) -> None:
        """``<<: *base`` or a list of them, the first of which wins (source: yaml.org/type/merge)."""
        for one in node.value if node.id == "sequence" else [node]:
            base = self.value(one, depth + 1)
            if isinstance(base, dict):
                for key, item in base.items():
                    merged.setdefault(key, item)
