"""Recordings for the Pilot tests, made from the traces of a real vLLM on a real H100."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qtop.record.convert import import_trace

TRACES = Path(__file__).parent.parent / "data" / "traces"
MakeRecording = Callable[[str], Path]


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> MakeRecording:
    """A function that gives the recording of a trace, imported once."""
    folder = tmp_path_factory.mktemp("recordings")

    def make(name: str) -> Path:
        out = folder / f"{name}.qtop"
        if not out.exists():
            import_trace(TRACES / f"{name}.jsonl.xz", out)
        return out

    return make
