"""A vLLM's ``--config`` file, edited: one value where it stands, every other byte as it was.

A part of a record: {"path": absolute, "old": its text, "new": the text wanted}. An edit is checked by reading the new
text as vLLM does: it must differ in the wanted setting and in nothing else. Libraries that keep comments write anew
what they did not change (indents, quotes, line ends), which this does not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtop.act.change import Reading
from qtop.act.launchers.launcher import Launch
from qtop.act.whole_file import replace_whole
from qtop.act.words import Edit, name_of, values_now
from qtop.collect.config_in_force.config_file import LIMIT, load, named
from qtop.errors import QtopError, Refused

File = dict[str, Any]
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*|-?(?:0|[1-9]\d*)(?:\.\d+)?")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def share(
    argv: Sequence[str], launch: Launch, engine: str, edits: Sequence[Edit]
) -> tuple[File | None, list[Edit], list[Edit]]:
    """The file with those edits that belong there (set there, and not on the command line, which outweighs it), those
    edits, and the rest. No file where there is none, or where an edit of it is not possible: the command line then says
    what is wanted."""
    name = named(argv) if engine == "vllm" else None
    if name is None or launch.get("container"):
        return None, [], list(edits)
    path = Path(str(launch.get("cwd") or "/"), name)
    try:
        data = path.read_bytes()
        told = load(data)
    except (OSError, ValueError):
        return None, [], list(edits)
    if len(data) > LIMIT or not isinstance(told, dict) or not os.access(path.parent, os.W_OK):
        return None, [], list(edits)
    there = {_name(key) for key in told}
    inside = [one for one in edits if _name(one.flag) in there and not values_now(argv, engine, _name(one.flag))]
    text, done = data.decode("utf-8"), []
    for one in inside:
        if (new := with_edit(text, one)) is not None:
            text = new
            done.append(one)
    if not done or text == data.decode("utf-8"):
        return None, [], [one for one in edits if one not in done]
    return (
        {"path": str(path), "old": data.decode("utf-8"), "new": text},
        done,
        [one for one in edits if one not in done],
    )


def _name(flag: str) -> str:
    return name_of("vllm", flag)


def with_edit(text: str, edit: Edit) -> str | None:
    """The text with one setting changed, or None where that cannot be done without touching anything else."""
    import yaml

    if edit.drop or len(edit.values) > 1:
        return None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    if not isinstance(root, yaml.MappingNode):
        return None
    found = [(key, value) for key, value in root.value if _name(str(key.value)) == _name(edit.flag)]
    if len(found) != 1:
        return None
    key, node = found[0]
    if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
        return None
    value = _scalar(edit, str(key.value))
    begin, end = node.start_mark.index, node.end_mark.index
    if begin == end:  # "key:" with nothing behind it
        value = f" {value}"
    new = text[:begin] + value + text[end:]
    return new if _only(text, new, str(key.value), value.strip()) else None


def _scalar(edit: Edit, key: str) -> str:
    """The value as YAML; a switch is true or false, seen from the side from which the file names it."""
    if not edit.values:
        off = edit.flag.lstrip("-").replace("_", "-").startswith("no-")
        return "false" if off != key.replace("_", "-").startswith("no-") else "true"
    value = edit.values[0]
    return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else json.dumps(value)


def _only(old: str, new: str, key: str, value: str) -> bool:
    """Whether the new text says what the old one does but for this key."""
    import yaml

    try:
        before, after, wanted = load(old.encode()), load(new.encode()), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        return False
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    return after.get(key) == wanted and {**before, key: None} == {**after, key: None} and list(before) == list(after)


def lines(file: File | None, edits: Sequence[Edit]) -> list[str]:
    """For the preview: each line that changes."""
    if file is None:
        return []
    pairs = zip(file["old"].splitlines(), file["new"].splitlines(), strict=False)
    changed = [f"{old.strip()} → {new.strip()}" for old, new in pairs if old != new]
    return [f"{file['path']}: {line}" for line in changed] + ["the file is put back by undo, byte by byte"]


def put(file: File, which: str) -> None:
    """Give the file this text where it holds the other one; nothing where somebody else has written to it.

    Errors: Refused where it cannot be written.
    """
    other = "old" if which == "new" else "new"
    path = Path(file["path"])
    try:
        if path.read_bytes() == file[other].encode():
            replace_text(path, file[which])
        elif which == "new" and path.read_bytes() != file["new"].encode():
            raise Refused(f"{path} was changed meanwhile", "Look again.")
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from None


def replace_text(path: Path, text: str) -> None:
    """All of it or nothing, on disk when this returns; mode and owner stay, and a link stays one."""
    real = path.resolve()
    was = real.stat()
    owner = (was.st_uid, was.st_gid)
    replace_whole(real, text, was.st_mode & 0o7777, owner if owner != (os.geteuid(), os.getegid()) else None)


def read(file: File, reading: Reading) -> None:
    """Which text the file holds."""
    try:
        now: str | None = Path(file["path"]).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        now = None
    except OSError as error:
        raise QtopError(f"{file['path']} cannot be read: {error.strerror}") from None
    old, new = "as it was", "as qtop wrote it"
    what = {file["old"]: old, file["new"]: new}
    reading.put(file["path"], old, new, None if now is None else what.get(now, "changed by somebody else"))
