"""The rules, by permanent id, and their pages: what lies in the folder ``rules`` is registered.

Importing this imports them all, a tenth of the time to a first paint, which needs none: the dashboard does so with the
first sample, on that sample's thread.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module, resources
from typing import cast

from qtop.diagnose import rules
from qtop.diagnose.rule import Rule

_MODULES = {
    name.partition("_")[0]: import_module(f"{rules.__name__}.{name}")
    for name in sorted(one.name for one in pkgutil.iter_modules(rules.__path__))
    if name.startswith("QT")
}

RULES: tuple[Rule, ...] = tuple(cast(Rule, module.RULE) for module in _MODULES.values())
BY_ID: dict[str, Rule] = {rule.id: rule for rule in RULES}

FAMILIES = {
    "1": "GPU",
    "2": "CPU and scheduling",
    "3": "engine",
    "4": "configuration",
    "5": "requests",
    "6": "host",
}
"""By the first digit of an id."""


def page(rule: str) -> str:
    """The page of a rule, in Markdown; KeyError for an id that is not there."""
    name = _MODULES[rule].__name__.rpartition(".")[2]
    return resources.files(rules).joinpath(f"{name}.md").read_text(encoding="utf-8")
