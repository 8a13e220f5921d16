"""The settings that a server's own words give: the command line, and what a vLLM file puts before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qtop.collect.config_in_force.names import canonical
from qtop.collect.discover.servers import program
from qtop.collect.engine.argv import is_value
from qtop.sample.secrets import TEXTS, is_plain, is_secret_name, is_text_name, masked
from qtop.sample.settings import COMMAND_LINE, SET, Setting, shown

MOST = 200
"""Settings kept of one source."""

# fmt: off
_SWITCHES = frozenset({
    "enforce_eager", "trust_remote_code", "headless", "async_scheduling", "numa_bind", "calculate_kv_scales",
    "mlock", "no_mmap", "metrics", "slots", "props", "jinja", "verbose", "embedding", "embeddings", "rerank",
    "cont_batching", "no_kv_offload", "kv_unified", "cpu_moe", "swa_full", "log_requests", "skip_tokenizer_init",
})
# fmt: on
_SWITCH_PREFIXES = ("no_", "enable_", "disable_")
_VERBS = frozenset({"serve", "start", "runner"})


def settings(argv: Sequence[str], engine: str, source: str = COMMAND_LINE) -> tuple[Setting, ...]:
    """The settings of a whole command line, the last of a repeated flag; the words that start the server are skipped.

    A flag without a value is "on", "--no-x" makes x "off", several values are joined by spaces. Secrets are "set".
    """
    _how, _what, words = program(argv)
    model = ""
    if words and words[0] in _VERBS:
        words = words[1:]
        if words and is_value(words[0]):
            model, words = words[0], words[1:]
    found = {"model": Setting("model", shown(model), source)} if model else {}
    for flag, values in flags(words, engine):
        one = setting(flag, values, engine, source)
        found.pop(one.name, None)
        found[one.name] = one
    return tuple(found.values())[:MOST]


def flags(words: Sequence[str], engine: str) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the values that follow it; nothing after a bare "--" counts."""
    for _begin, _end, flag, values in spans(words, engine):
        yield flag, values


def spans(words: Sequence[str], engine: str) -> Iterator[tuple[int, int, str, list[str]]]:
    """As ``flags``, each with the place of its first word and the one behind its last."""
    at = 0
    while at < len(words) and words[at] != "--":
        word = words[at]
        begin = at
        at += 1
        if is_value(word) or word in ("-", ""):
            continue
        flag, equals, value = word.partition("=")
        values = [value] if equals else []
        if engine == "vllm" and (level := re.fullmatch(r"-O(.+)", flag)):  # -O3
            flag, values = "-O", [level[1]]
        if not values and not _is_switch(canonical(engine, flag)):
            if canonical(engine, flag) in TEXTS and at < len(words):
                values.append(words[at])  # a text may begin with a dash
                at += 1
            while at < len(words) and is_value(words[at]):
                values.append(words[at])
                at += 1
        yield begin, at, flag, values


def setting(flag: str, values: Sequence[str], engine: str, source: str) -> Setting:
    """One flag as a setting."""
    name = canonical(engine, flag)
    if is_secret_name(name) or (is_text_name(name) and not all(map(is_plain, values))):
        return Setting(name, SET, source)
    if not values and name.startswith("no_") and engine in ("vllm", "sglang"):
        return Setting(name.removeprefix("no_"), "off", source)
    return Setting(shown(name), shown(" ".join(map(masked, values))) if values else "on", source)


def _is_switch(name: str) -> bool:
    return name in _SWITCHES or name.startswith(_SWITCH_PREFIXES)
