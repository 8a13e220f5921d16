"""JSON answers to settings: named fields of an answer, and no others, so that no key or text in it is ever kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from qtop.collect.http import DEADLINE_S, decode, fetch
from qtop.sample import Absent, Why
from qtop.sample.secrets import is_secret_name
from qtop.sample.settings import SET, Setting, shown

LIMIT = 2 * 1024 * 1024
"""Bytes of an answer; a vLLM's /server_info has 25 KB."""


def ask(client: httpx.Client, path: str, patience_s: float = DEADLINE_S) -> dict[str, Any] | Absent:
    """The object that a route answers with, or why there is none; ``patience_s`` seconds for the whole answer."""
    body = fetch(client, path, LIMIT, patience_s)
    return body if isinstance(body, Absent) else decode(body, path, dict[str, Any])


def pick(answer: Mapping[str, Any], names: Iterable[str | tuple[str, str]], source: str) -> list[Setting]:
    """Those of the names that are there, as settings; a pair is (name in the answer, name of the setting)."""
    found = []
    for name in names:
        theirs, ours = (name, name) if isinstance(name, str) else name
        if theirs in answer and (text := plain(answer[theirs])) is not None:
            found.append(Setting(ours, SET if is_secret_name(ours) else text, source))
    return found


def plain(value: object) -> str | None:
    """A plain value as text ("on", "off", "none"); None for a list or an object."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "":
        return "none"
    if isinstance(value, int | float):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    return shown(value.removeprefix("torch.")) if isinstance(value, str) else None


def cut_short(found: list[Setting], path: str) -> tuple[Setting, ...] | Absent:
    """The settings, or Absent when the answer held none of those that were looked for."""
    return tuple(found) if found else Absent(Why.FAILED, f"{path} holds no setting that qtop knows")
