"""Recordings that older versions of qtop wrote open for ever and say what they said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qtop.record.reader import Recording
from qtop.sample import EngineSample, GpuSection, Sample, ServerInfo, ServerProcs
from qtop.sample.codec import CONTAINER

CORPUS = Path(__file__).parent.parent / "data/corpus"
TOLD: dict[str, dict[str, Any]] = json.loads((CORPUS / "told.json").read_text())


def said(path: Path) -> dict[str, Any]:
    """The figures of ``told.json``."""
    recording = Recording(path)
    samples = list(recording.samples())
    last = samples[-1]
    assert isinstance(last.server, ServerInfo) and isinstance(last.server.settings, tuple)
    assert isinstance(last.engine, EngineSample) and isinstance(last.gpu, GpuSection)
    assert isinstance(last.procs, ServerProcs)
    threads = [one.threads for one in last.procs.processes]
    return {
        "samples": len(samples),
        "events": len(list(recording.events())),
        "skipped": recording.skipped,
        "start": recording.start,
        "end": recording.end,
        "engine": last.server.engine,
        "settings": len(last.server.settings),
        "series": len(last.engine.series),
        "generated": next(v for k, v in last.engine.series.items() if k.startswith("vllm:generation_tokens_total")),
        "threads": sum(len(one) for one in threads if isinstance(one, tuple)),
        "power_mw": last.gpu.gpus[0].power_mw,
    }


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.qtop")), ids=lambda path: path.stem)
def test_it_says_what_it_said(path: Path) -> None:
    assert said(path) == TOLD[path.name]
    assert (
        list(Recording(path).seek(TOLD[path.name]["end"]))
        == [one for one in list(Recording(path).records()) if isinstance(one, Sample)][-1:]
    )


def test_every_container_is_there() -> None:
    assert {Recording(CORPUS / name).header.qtop for name in TOLD} == set(range(1, CONTAINER + 1))
