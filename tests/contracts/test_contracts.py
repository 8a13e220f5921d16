"""What holds of the whole tree: imports point one way, files fit in the head, every rule is complete."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from qtop.act.knobs import KNOBS
from qtop.diagnose.registry import RULES

ROOT = Path(__file__).parent.parent.parent
MODULES = sorted((ROOT / "tui/qtop").rglob("*.py"))


def test_imports_point_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "tui")))
def test_a_module_fits_in_the_head_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "no docstring"


def test_rule_ids_are_unique_and_complete() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert rule.enter
        assert all(enter.at >= rule.clear.below for enter in rule.enter), "it would clear where it enters"
        assert all(0 < enter.seconds <= enter.of for enter in rule.enter)
        assert {path.suffix for path in (ROOT / "tui/qtop/diagnose/rules").glob(f"{rule.id}_*")} == {".py", ".md"}
        for name in ("fires", "quiet"):
            assert (ROOT / f"tests/rules/{rule.id}/{name}.qtop").is_file()


def test_every_knob_that_a_rule_names_exists() -> None:
    for path in (ROOT / "tui/qtop/diagnose/rules").glob("QT*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Remedy":
                assert isinstance(node.args[0], ast.Constant)
                assert node.args[0].value in KNOBS
