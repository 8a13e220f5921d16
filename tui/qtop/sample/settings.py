"""Settings of a server as they were read: one entry for each name and each source that gives it a value."""

from __future__ import annotations

import msgspec

from qtop.sample.secrets import masked

COMMAND_LINE = "command line"
CONFIG_FILE = "config file"
ENVIRONMENT = "environment"
SERVER_INFO = "/server_info"
PROPS = "/props"
INFO = "/info"
MODELS = "/v1/models"
METRICS = "/metrics"
OPENAPI = "/openapi.json"

SET = "set"
"""Stands in place of a value that is secret or is text: it was given, and nothing more is told."""
LONGEST_VALUE = 2_000
"""Characters of a value. Of a longer one the length is told: half a secret would not be recognised as one."""


class Setting(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One name with the value that one source gives it. ``value`` is text as the source writes it, without secrets."""

    name: str
    """As the engine's own configuration calls it ("max_num_seqs"); an environment variable under its own name."""
    value: str
    source: str
    """One of the constants of this module, or "default of …" where a version's default fills in."""
    note: str = ""


def shown(value: str) -> str:
    """A value on one line and of bounded length, without the secrets in it."""
    line = masked(" ".join(value.split()))
    return line if len(line) <= LONGEST_VALUE else f"({len(line)} characters)"
