"""The acceptance test's pass line, and the guide's beside it."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.test_probe_summary import result

from qtop.model.presets import preset_decoder
from qtop.model.roofline import Hardware, shape
from qtop.plan.acceptance import Acceptance, Line, accept, guide_why
from qtop.probe.summary import summarise_all
from qtop.probe.timing import ProbeResult
from qtop.verbs.check import verdict_lines

H100 = Hardware(shape(preset_decoder("Qwen3-4B")), 3.35e12, 1, "NVIDIA H100 80GB HBM3")
RTX_4090D = Hardware(shape(preset_decoder("Qwen3-4B")), 1.008e12, 1, "NVIDIA GeForce RTX 4090 D")


def answers(ttft_ms: float, gap_ms: float, n: int = 20, failed: int = 0, late: int = 0) -> list[ProbeResult]:
    good = [result(ttft_ms=ttft_ms, gap_ms=gap_ms, tokens=256, i=k) for k in range(n - failed - late)]
    return good + [result(error="cut")] * failed + [result(error="no token for 30 s")] * late


def judge(results: list[ProbeResult], hardware: Hardware | None = H100, streams: int = 1) -> Acceptance:
    return accept(summarise_all(results), hardware, "no roofline for this model and GPU", streams, 256, 20)


def line(verdict: Acceptance, name: str) -> Line:
    return next(one for one in verdict.lines if one.name == name)


def test_a_healthy_h100_passes_and_the_line_is_the_rooflines() -> None:
    verdict = judge(answers(20.0, 4.3))  # 232 tok/s of 416
    assert verdict.passed
    limit = line(verdict, "E2E p90").limit
    # 416 tok/s for weights alone, a little less with the answer's own cache; 60 % of it.
    assert limit == pytest.approx(240 + 256 / (0.6 * 415.5) * 1000, rel=0.002)
    assert "3350 GB/s" in line(verdict, "E2E p90").source


def test_a_4090d_passes_by_its_own_roofline_and_never_by_the_guides_line() -> None:
    verdict = judge(answers(30.0, 1000 / 105), RTX_4090D)
    assert verdict.passed
    assert [one.passed for one in verdict.guide] == [True, False]
    assert guide_why() == verdict.guide_why
    assert "125 times a second" in verdict.guide_why and "2.04 s" in verdict.guide_why


def test_decoding_below_the_line_fails() -> None:
    verdict = judge(answers(20.0, 24.7))
    assert not verdict.passed and line(verdict, "E2E p90").passed is False
    assert line(verdict, "TTFT p50").passed is True


def test_streams_share_the_bandwidth() -> None:
    alone, many = (line(judge(answers(20.0, 5.0), streams=n), "E2E p90").limit for n in (1, 64))
    assert alone is not None and many is not None
    assert alone < many < alone * 1.5  # a batch reads the weights once for all of its streams


@pytest.mark.parametrize(("failed", "late", "name"), [(1, 0, "errors"), (0, 1, "time-outs")])
def test_one_error_or_time_out_fails(failed: int, late: int, name: str) -> None:
    for hardware in (H100, None):
        verdict = judge(answers(20.0, 4.3, failed=failed, late=late), hardware)
        assert not verdict.passed
        assert [one.name for one in verdict.lines if one.passed is False] == [name]


def test_without_a_roofline_only_what_went_wrong_is_judged() -> None:
    verdict = judge(answers(900.0, 90.0), None)
    assert verdict.passed
    assert [one.name for one in verdict.lines if one.passed is None] == ["TTFT p50", "E2E p90"]
    text = "\n".join(verdict_lines(verdict, (), True))
    assert "not judged: no roofline for this model and GPU" in text
    assert text.endswith("PASSED (TTFT p50, E2E p90 not judged)")
    assert "FAIL E2E p90" in text  # by the guide's line


def test_too_few_requests_fail() -> None:
    assert not judge(answers(20.0, 4.3, n=19)).passed
    assert not judge([]).passed


def test_a_long_prompts_prefill_is_not_held_against_it() -> None:
    long = [msgspec.structs.replace(one, prompt_tokens=8192) for one in answers(900.0, 4.3)]
    verdict = judge(long)
    assert line(verdict, "TTFT p50").passed is None and "8192 tokens" in line(verdict, "TTFT p50").why
    assert verdict.passed
