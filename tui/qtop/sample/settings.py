"""Settings of a server as they were read: one entry for each name and each source that gives it a value."""

from __future__ import annotations

import re

import msgspec

COMMAND_LINE = "command line"
CONFIG_FILE = "config file"
ENVIRONMENT = "environment"
SERVER_INFO = "/server_info"
PROPS = "/props"
INFO = "/info"
MODELS = "/v1/models"
METRICS = "/metrics"

SET = "set"
"""Stands in place of a value that is secret or is text: it was given, and nothing more is told."""
LONGEST_VALUE = 2_000
"""Characters of a value. Of a longer one the length is told: half a secret would not be recognised as one."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# fmt: off
_SECRET_WORDS = frozenset({
    "KEY", "KEYS", "APIKEY", "APIKEYS", "TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSWD",
    "PASSPHRASE", "AUTH", "AUTHORIZATION", "BEARER", "CREDENTIAL", "CREDENTIALS", "COOKIE", "COOKIES",
})
# fmt: on
_COUNTS = frozenset({"THRESHOLD", "BUDGET", "LIMIT", "COUNT", "SIZE", "ID", "IDS"})
"""Behind TOKEN they make it a token of text."""
_PATHS = frozenset({"FILE", "PATH"})
"""Behind KEY they make it the place where one lies: --ssl-key-file."""
_SECRET_PARTS = ("SECRET", "PASSW", "PASSPHRASE", "CREDENTIAL", "APIKEY", "API_KEY", "API-KEY", "COOKIE")


class Setting(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One name with the value that one source gives it. ``value`` is text as the source writes it, without secrets."""

    name: str
    """As the engine's own configuration calls it ("max_num_seqs"); an environment variable under its own name."""
    value: str
    source: str
    """One of the constants of this module, or "default of …" where a version's default fills in."""
    note: str = ""


def is_secret_name(name: str) -> bool:
    """Whether a flag, a key or a variable of this name holds a secret. "max_tokens" and "TOKENIZERS_…" do not.

    Names are cut into words, so that TOKEN is told from TOKENS; some parts count wherever they stand.
    """
    upper = name.upper()
    if any(part in upper for part in _SECRET_PARTS):
        return True
    words = [word.upper() for word in _WORDS.findall(name)]
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word == "TOKEN" and (before == "PER" or after in _COUNTS):
            continue
        if word == "KEY" and after in _PATHS:
            continue
        if word in _SECRET_WORDS:
            return True
    return False


def shown(value: str) -> str:
    """A value on one line and of bounded length."""
    line = " ".join(value.split())
    return line if len(line) <= LONGEST_VALUE else f"({len(line)} characters)"
