"""The rules, by permanent id, and their pages."""

from __future__ import annotations

from importlib import resources

from qtop.diagnose.rule import Rule
from qtop.diagnose.rules import QT201_engine_waits_for_cpu, QT202_quota_throttles_server

_MODULES = (QT201_engine_waits_for_cpu, QT202_quota_throttles_server)

RULES: tuple[Rule, ...] = tuple(module.RULE for module in _MODULES)


def page(rule: str) -> str:
    """The page of a rule, in Markdown; KeyError for an id that is not there."""
    for module in _MODULES:
        if module.RULE.id == rule:
            name = module.__name__.rpartition(".")[2]
            return resources.files("qtop.diagnose.rules").joinpath(f"{name}.md").read_text(encoding="utf-8")
    raise KeyError(rule)
