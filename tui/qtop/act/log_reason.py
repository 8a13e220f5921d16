"""Why a server did not start, out of its log: the line that says it, without clock, module and traceback. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from qtop.sample.secrets import mask_text

LONGEST = 240
"""Characters of a reason."""

_PREFIXES = (
    re.compile(r"^\((?:APIServer|EngineCore|Worker|ApiServer)[^)]*\)\s*"),
    re.compile(r"^(?:ERROR|INFO|WARNING|CRITICAL|DEBUG)\s+\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?\s+(?:\[[^\]]*\]\s*)?"),
    re.compile(r"^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\s\]]*\]?\s*"),
    # llama.cpp: its clock and a level, then a module and a function, or the function alone
    re.compile(r"^\d+(?:\.\d+)+ [A-Z] (?:\w+\s+)?(?:\w+:\s+)?"),
    re.compile(r"^(?:srv|slot|main|cmn|common_\w+|llama_\w+|gguf_\w+)\s*(?:\w+)?:\s+"),
)
_RAISED = re.compile(r"(?:[\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failed))(?::\s*(.+))?$")
_FOLLOWS = frozenset({"RuntimeError", "EngineDeadError", "SystemExit", "ChildProcessError", "EngineGenerationError"})
"""What is raised because something else was: told only where nothing better is."""
_EMPTY = re.compile(
    r"Engine core initialization failed|See root cause|failed to start|died unexpectedly|cancelled", re.I
)
_SAYS = re.compile(
    r"\berror\b|failed|cannot|can't|couldn't|unable|invalid|unrecognized|not found|no such file|out of memory|"
    r"unknown (?:argument|option|model)|refused|in use|exceeds|does not exist",
    re.IGNORECASE,
)
_USAGE = re.compile(r"^(?:[\w./ -]+): error: (.+)$")
_INVALID = re.compile(r"^\d+ validation errors? for ")
_DETAIL = re.compile(r"^(?:Value error, |Assertion failed, )?(.+?) \[type=\w+, .*")
"""pydantic says how many values are wrong, and in the lines below which and why."""
_LAST = re.compile(r"failed to load model|exiting due to|main: exit", re.IGNORECASE)
"""What llama.cpp says last, after it has said why."""


def reason(lines: Sequence[str]) -> str:
    """The reason in one line, "" where the log does not say."""
    bare = [text for line in lines if (text := _bare(line))]
    raised = [found for text in bare if (found := _RAISED.match(text)) is not None and found[2]]
    for at, text in enumerate(bare):
        if (found := _RAISED.match(text)) is not None and found[2] and _INVALID.match(found[2]):
            for below in bare[at + 1 : at + 5]:
                if (detail := _DETAIL.match(below)) is not None:
                    return _told(f"{found[1]}: {detail[1]}")
    for first in (True, False):
        for found in raised:
            if found[1] in _FOLLOWS and (first or _EMPTY.search(found[2])):
                continue
            if not _EMPTY.search(found[2]):
                return _told(f"{found[1]}: {found[2]}")
    for text in reversed(bare):
        if (usage := _USAGE.match(text)) is not None:
            return _told(usage[1])
    says = [text for text in bare if _SAYS.search(text) and not text.startswith("Traceback")]
    better = [text for text in says if not _LAST.search(text)]
    for said in (better[:1], says[-1:], bare[-1:]):
        if said:
            return _told(said[0])
    return ""


def how_ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"it ended with status {status}"
    return ended_by(-status) + (", as the kernel does when memory runs out" if -status == signal.SIGKILL else "")


def ended_by(number: int) -> str:
    """The signal that ended a server, in words."""
    try:
        return f"it was ended by {signal.Signals(number).name}"
    except ValueError:
        return f"it was ended by signal {number}"


def _bare(line: str) -> str:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip()
    before = ""
    while text != before:
        before = text
        for prefix in _PREFIXES:
            text = prefix.sub("", text, count=1).strip()
    return text


def _told(text: str) -> str:
    text = " ".join(mask_text(text).split()).lstrip(": ")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
