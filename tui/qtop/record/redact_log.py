"""A server's log without what people wrote and what models answered, and without secrets and names. Pure.

Servers print requests when asked to (vLLM's --enable-log-requests, SGLang's --log-requests, llama.cpp's -v), and quote
them in errors. A text there is a quoted string, a list or an object behind a key; it is masked as a whole, over
several lines where the quotes are open at the end of one. Sources: vllm/entrypoints/logger.py ("Received request ID:
prompt: %r, params: SamplingParams(…)", "Request ID details: …", "Generated response ID: output: %r"), SGLang's
tokenizer_manager.py ("Receive: obj=GenerateReqInput(text=…)"), llama.cpp's server (JSON, "next token: 7 'x'").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qtop.record.names import ADDRESS, CONTAINER, HOST, USER
from qtop.record.redact import Redactor
from qtop.sample.secrets import MASK, is_plain

_KEYS = (
    *("prompt", "prompts", "text", "texts", "input", "inputs", "input_text", "output", "outputs", "output_text"),
    *("content", "contents", "messages", "completion", "completions", "answer", "answers", "generated_text"),
    *("reasoning", "reasoning_content", "query", "queries", "question", "documents", "response", "input_value"),
    *("stop", "stop_strings", "bad_words", "json", "regex", "choice", "grammar", "json_schema", "structural_tag"),
    *("arguments", "suffix", "tools", "delta", "system_prompt", "template", "example_format", "image_data"),
    *("prompt_token_ids", "output_token_ids", "token_ids", "stop_token_ids", "input_ids", "output_ids"),
    *("origin_input_text", "origin_input_ids", "input_embeds"),
)
_KEY = re.compile(rf"(?<![\w-])(?P<key>{'|'.join(sorted(_KEYS, key=len, reverse=True))})(?:\\?[\"'])?\s*[:=]\s*")
_TOKEN = re.compile(r"\btokens?:?\s+-?\d+\s+(?=['\"`])")
_BARE = frozenset({"prompt", "content", "completion", "answer", "input_text", "output_text", "messages"})
"""Keys behind which a text may stand without quotes, up to the end of the line."""
_OPENS = {"(": ")", "[": "]", "{": "}"}
_QUOTES = frozenset("'\"`")
_CALL = re.compile(r"[A-Za-z_][\w.]*(?=[(\[{])")
_SKIPPED = re.compile(r"(?:None|null|True|False|true|false|-?\d[\d.e+-]*|\[\]|\{\}|\(\)|''|\"\")(?=[\s,;)\]}.]|$)")
_COLOUR = re.compile(r"\x1b(?:\[[\d;?]*[A-Za-z]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""What a server writes for a terminal, also into a file: vLLM colours the name of its process."""
_BEGINS = re.compile(
    r"(?:\([A-Za-z]+[^)]*\)\s*)?(?:\[?\d{4}-\d\d-\d\d[T ]|\[?\d\d:\d\d:\d\d"
    r"|(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL)\b"
    r"|\d+(?:\.\d+)+ [A-Z] |(?:srv|slot|main|que|res|llama_\w+|common_\w+|print_info|load_\w+|system_info)\b.*?:"
    r"|\{\"|Traceback |error: )"
)
"""How a line of a log begins, as against one that goes on with a text: level or clock, llama.cpp's functions, JSON."""


@dataclass
class Redacted:
    """What was taken out of a log, by kind."""

    texts: int = 0
    secrets: int = 0
    hosts: int = 0
    users: int = 0
    addresses: int = 0
    containers: int = 0

    def __str__(self) -> str:
        told = (
            (self.texts, "texts of requests or answers"),
            (self.secrets, "secrets"),
            (self.hosts, "names of this host"),
            (self.users, "names of users"),
            (self.addresses, "addresses"),
            (self.containers, "names of the container"),
        )
        return ", ".join(f"{count} {what}" for count, what in told if count) or "nothing"


def redact_log(lines: Sequence[str], redactor: Redactor) -> tuple[list[str], Redacted]:
    """The lines as a bundle may hold them, and what is missing in them. A log that begins in the middle of a text loses
    what comes before its first line with a clock or a level."""
    done: list[str] = []
    count = Redacted()
    lines = [_COLOUR.sub("", line) for line in lines]
    held = any(_BEGINS.match(line) for line in lines)
    going_on = held and bool(lines) and not _BEGINS.match(lines[0])
    for line in lines:
        if going_on and not _BEGINS.match(line):
            if not done or done[-1] != MASK:
                count.texts += 1
                done.append(MASK)
            continue
        bare, texts, open_ = without_texts(line)
        going_on = open_ and held
        told = redactor.text(bare)
        _count(count, bare, told, texts)
        done.append(told)
    return done, count


def _count(count: Redacted, before: str, after: str, texts: int) -> None:
    count.texts += texts
    count.secrets += max(0, after.count(MASK) - before.count(MASK))
    count.hosts += max(0, after.count(HOST) - before.count(HOST))
    count.users += max(0, after.count(USER) - before.count(USER))
    count.addresses += max(0, after.count(f"{ADDRESS}-") - before.count(f"{ADDRESS}-"))
    count.containers += max(0, after.count(f"{CONTAINER}-") - before.count(f"{CONTAINER}-"))


def without_texts(line: str) -> tuple[str, int, bool]:
    """The line with its texts masked, how many those were, and whether the last goes on in the next line."""
    parts: list[str] = []
    at = texts = 0
    for begin, key in _places(line):
        if begin < at or _SKIPPED.match(line, begin):
            continue
        call = _CALL.match(line, begin)
        opens = call.end() if call else begin
        if opens < len(line) and (line[opens] in _OPENS or line[opens] in _QUOTES):
            end = _end(line, opens)
        elif key in _BARE and begin < len(line) and not is_plain(line[begin:]):
            end = len(line)
        else:
            continue
        parts += [line[at:begin], MASK]
        texts += 1
        at = len(line) if end is None else end
        if end is None:
            return "".join(parts), texts, True
    return "".join([*parts, line[at:]]), texts, False


def _places(line: str) -> Iterable[tuple[int, str]]:
    found = [(one.end(), one["key"]) for one in _KEY.finditer(line)]
    return sorted(found + [(one.end(), "token") for one in _TOKEN.finditer(line)])


def _end(text: str, at: int) -> int | None:
    """Where a quoted string, list or object that begins here has ended; None where it does not end in this line."""
    open_: list[str] = []
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif open_ and open_[-1] in _QUOTES:
            if char == open_[-1]:
                open_.pop()
        elif char in _QUOTES:
            open_.append(char)
        elif char in _OPENS:
            open_.append(_OPENS[char])
        elif open_ and char == open_[-1]:
            open_.pop()
        at += 1
        if not open_:
            return at
    return None
