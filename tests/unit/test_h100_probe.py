"""Results of test prompts on a real H100 with vLLM: what the server said of each request, what its counters said of
their window, and what the client saw, have to agree."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import pytest

from qtop.model.presets import preset_decoder
from qtop.model.roofline import Hardware, shape
from qtop.plan.acceptance import accept
from qtop.probe.baseline import compare_all, load, overall
from qtop.probe.summary import Summary, summarise_all
from qtop.probe.timing import ProbeResult

DATA = Path(__file__).parents[1] / "data" / "probe"
CHECK, STREAMS = DATA / "h100-check.json", DATA / "h100-16-streams.json"


@cache
def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def results(path: Path) -> tuple[ProbeResult, ...]:
    return load(path).results


def stages(path: Path) -> dict[str, float]:
    return {stage["name"]: stage["ms"] for stage in document(path)["server"]["waterfall"]["stages"]}


@pytest.mark.parametrize("path", [CHECK, STREAMS])
def test_the_servers_word_on_each_request_is_what_its_counters_grew_by_in_their_window(path: Path) -> None:
    times = [one.server for one in results(path)]
    assert all(times)
    for name in ("queue", "prefill", "decode"):
        each = mean(getattr(one, f"{name}_ms") for one in times)
        # To the microsecond: the window holds exactly these requests, and no part of another.
        assert stages(path)[name] == pytest.approx(each, abs=0.002)
    assert document(path)["server"]["others"] == 0
    assert document(path)["server"]["waterfall"]["trusted"] is True


@pytest.mark.parametrize("path", [CHECK, STREAMS])
def test_the_stages_make_up_what_the_client_saw(path: Path) -> None:
    summary = summarise_all(results(path))
    assert summary.e2e_ms is not None and summary.ttft_ms is not None
    found = stages(path)
    until_first = sum(found[name] for name in ("network", "frontend", "queue", "prefill"))
    assert until_first == pytest.approx(summary.ttft_ms.mean, rel=0.001)
    assert until_first + found["decode"] == pytest.approx(summary.e2e_ms.mean, rel=0.01)


def test_the_engines_own_gap_is_that_of_the_stamps() -> None:
    for one in results(CHECK):
        assert one.server is not None and one.tpot_ms is not None
        assert one.tpot_ms == pytest.approx(one.server.mean_itl_ms, rel=0.005)
        assert one.stamps == "kernel" and one.merged == 0


def test_an_older_result_gives_the_same_summary_today() -> None:
    said = msgspec.convert(document(CHECK)["summary"], Summary)
    today = summarise_all(results(CHECK))
    # 255 events of 256 tokens were called chunks when this was recorded.
    assert msgspec.structs.replace(today, gap_kind="icl", server=None) == said
    assert today.server is not None
    assert today.server.decode_ms == pytest.approx(1102.113, abs=0.001)


def test_it_passes_by_the_rooflines_line_and_not_by_the_guides() -> None:
    card = Hardware(shape(preset_decoder("Qwen3-4B")), 3.352e12, 1, "NVIDIA H100 80GB HBM3")
    verdict = accept(summarise_all(results(CHECK)), card, "", 1, 256, 20)
    assert verdict.passed
    assert [line.passed for line in verdict.guide] == [True, False]  # 1 121 ms


def test_a_result_against_itself_is_within_noise() -> None:
    assert overall(compare_all(results(CHECK), results(CHECK))) == "within noise"
