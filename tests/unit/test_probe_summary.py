"""Many requests together: what their number supports; an earlier test against a later one; the documents."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from pathlib import Path
from statistics import median

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.errors import QtopError
from qtop.probe.baseline import against, compare_all, load, overall, require_same
from qtop.probe.messages import ProbeRequest
from qtop.probe.summary import Objective, interval_rank, median_interval, stat, summarise_all
from qtop.probe.timing import ProbeResult, Stamps, Usage, measure
from qtop.report.probe_documents import COLUMNS, asked_document, probe_csv, probe_document
from qtop.report.probe_text import summary_lines

REQUEST = ProbeRequest(url="http://127.0.0.1:1", model="m", prompt="Why?", prompt_name="en", requests=20)


def result(
    ttft_ms: float = 100.0, gap_ms: float = 10.0, tokens: int = 11, started: float = 0.0, error: str = "", i: int = 0
) -> ProbeResult:
    times = tuple(5 + (ttft_ms + gap_ms * k) / 1000 for k in range(tokens))
    stamps = Stamps(t_due=4.99, t_send=5.0, t_end=times[-1], events=times, t_first_output=times[0])
    return measure(
        stamps,
        usage=Usage(7, tokens),
        error=error,
        finish_reason="length",
        started=1e9 + started,
        timed_out="no token" in error,
        i=i,
    )


# Figures


def test_a_summary_adds_up() -> None:
    results = [result(started=k * 0.5, i=k) for k in range(8)] + [result(error="no token for 30 s", started=4.0)]
    summary = summarise_all(results)
    assert (summary.requests, summary.ok, summary.failed, summary.timed_out) == (9, 8, 1, 1)
    assert summary.errors == {"no token for 30 s": 1}
    assert summary.seconds == pytest.approx(4.2)
    assert (summary.input_tokens, summary.output_tokens) == (56, 88)
    assert summary.output_tok_s == pytest.approx(88 / 4.2, rel=1e-3)
    assert summary.total_tok_s == pytest.approx(144 / 4.2, rel=1e-3)
    assert summary.ttft_ms is not None and summary.ttft_ms.p50 == pytest.approx(100)
    assert summary.ttft_due_ms is not None and summary.ttft_due_ms.p50 == pytest.approx(110)
    assert summary.itl_ms is not None and summary.itl_ms.n == 80 and summary.itl_ms.p50_low is None
    assert summary.stall_ms == pytest.approx(10)
    assert summary.goodput_s is None


def test_a_failed_request_is_in_no_latency() -> None:
    summary = summarise_all([result(), result(ttft_ms=9000, error="cut")])
    assert summary.ttft_ms is not None and summary.ttft_ms.max == pytest.approx(100)


def test_the_stall_of_one_request_is_not_lost_in_means() -> None:
    stalled = result()
    stalled = msgspec.structs.replace(stalled, gaps_ms=(*stalled.gaps_ms, 900.0))
    assert summarise_all([result()] * 50 + [stalled]).stall_ms == 900.0


def test_tokens_that_are_not_all_counted_are_not_summed() -> None:
    uncounted = msgspec.structs.replace(result(), completion_tokens=None)
    assert summarise_all([result(), uncounted]).output_tok_s is None


@pytest.mark.parametrize(("n", "has"), [(1, ""), (9, ""), (10, "90"), (19, "90"), (20, "90 95"), (100, "90 95 99")])
def test_percentiles_need_their_numbers(n: int, has: str) -> None:
    found = stat([float(k) for k in range(n)])
    assert found is not None
    there = [name for name in ("90", "95", "99") if getattr(found, f"p{name}") is not None]
    assert " ".join(there) == has
    assert (found.p50_low is not None) == (n >= 6)
    assert (found.std is None) == (n == 1)


def test_no_values_no_figures() -> None:
    assert stat([]) is None and stat([None]) is None
    empty = summarise_all([])
    assert (empty.requests, empty.seconds, empty.requests_s, empty.stall_ms) == (0, 0.0, None, None)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (6, 1), (8, 1), (9, 2), (20, 6), (100, 40), (1000, 469)])
def test_ranks_of_the_intervals_are_those_of_the_tables(n: int, k: int) -> None:
    assert interval_rank(n) == k


@given(st.integers(6, 200))
def test_the_interval_misses_in_at_most_five_percent(n: int) -> None:
    k = interval_rank(n)
    missed = 2 * sum(math.comb(n, j) for j in range(k)) / 2**n
    assert missed <= 0.05
    low, high = median_interval(sorted(float(x) for x in range(n)))
    assert low is not None and high is not None and low <= (n - 1) / 2 <= high


def test_goodput_counts_from_the_instant_due() -> None:
    results = [result(ttft_ms=95), result(ttft_ms=85), result(error="cut")]
    summary = summarise_all(results, Objective(ttft_ms=100))
    assert summary.good == 1  # 95 ms after being sent is 105 ms after being due
    assert Objective(tpot_ms=11).met(results[0]) and not Objective(tpot_ms=9).met(results[0])
    assert not Objective().met(results[2])
    one = msgspec.structs.replace(results[0], tpot_ms=None)
    assert not Objective(tpot_ms=9).met(one)


# Against an earlier test


def noisy(mean: float, n: int, seed: int, spread: float = 0.05) -> list[float]:
    draw = random.Random(seed)
    return [mean * (1 + draw.gauss(0, spread)) for _ in range(n)]


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "within noise"), (1.3, "worse"), (0.7, "better")])
def test_a_change_beyond_noise_is_told(factor: float, verdict: str) -> None:
    part = against("TTFT", noisy(100, 20, 1), noisy(100 * factor, 20, 2))
    assert part.verdict == verdict
    assert part.low_pct is not None and part.high_pct is not None and part.change_pct is not None
    assert part.low_pct <= part.change_pct <= part.high_pct
    assert part == against("TTFT", noisy(100, 20, 1), noisy(100 * factor, 20, 2))  # seeded


def test_a_change_that_is_sure_and_small_is_noise() -> None:
    assert against("E2E", noisy(100, 200, 1, 0.001), noisy(103, 200, 2, 0.001)).verdict == "within noise"


def test_wide_noise_hides_a_change() -> None:
    assert against("E2E", noisy(100, 6, 1, 0.6), noisy(115, 6, 2, 0.6)).verdict == "within noise"


def test_false_alarms_are_rare() -> None:
    alarms = sum(
        against("E2E", noisy(100, 20, 2 * k), noisy(100, 20, 2 * k + 1)).verdict != "within noise" for k in range(60)
    )
    assert alarms <= 5


def test_too_few_cannot_be_compared() -> None:
    part = against("TTFT", [1.0] * 4, [2.0] * 20)
    assert part.verdict == "cannot tell" and "needs 5" in part.why
    assert against("TTFT", [0.0] * 5, [1.0] * 5).verdict == "cannot tell"
    assert against("TTFT", [], []).before_ms is None


def test_all_metrics_together() -> None:
    fast, slow = [result(i=k) for k in range(10)], [result(gap_ms=15.0, i=k) for k in range(10)]
    parts = compare_all(fast, slow)
    assert [part.metric for part in parts] == ["TTFT", "TPOT", "E2E"]
    assert [part.verdict for part in parts] == ["within noise", "worse", "worse"]
    assert overall(parts) == "worse" and overall(compare_all(slow, fast)) == "better"
    assert overall(compare_all(fast, fast)) == "within noise" and overall([]) == "cannot tell"


def test_a_baseline_is_read_back_from_a_document(tmp_path: Path) -> None:
    results = [result(i=k) for k in range(6)]
    document = probe_document(REQUEST, results, summarise_all(results), None, None)
    path = tmp_path / "before.json"
    path.write_text(json.dumps(document))
    baseline = load(path)
    assert baseline.results == tuple(results)
    require_same(baseline, "m", asked_document(REQUEST))
    other = msgspec.structs.replace(REQUEST, max_tokens=9)
    with pytest.raises(QtopError, match="max_tokens 48, here 9"):
        require_same(baseline, "m", asked_document(other))
    with pytest.raises(QtopError, match="model m, here n"):
        require_same(baseline, "n", asked_document(REQUEST))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"test": {}, "results": [{}]}', b"[" * 100_000])
def test_a_file_that_is_no_baseline_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(QtopError, match="no result of"):
        load(tmp_path / "x.json")
    with pytest.raises(QtopError, match="cannot read"):
        load(tmp_path / "missing.json")


# Documents


def test_the_document_reads_as_a_result_of_vllm_bench_serve() -> None:
    results = [result(started=k * 0.1, i=k) for k in range(100)] + [result(error="cut", i=100)]
    document = probe_document(REQUEST, results, summarise_all(results), None, None)
    assert document["schema"] == 1
    assert (document["completed"], document["failed"], document["num_prompts"]) == (100, 1, 101)
    assert document["request_rate"] == "inf" and document["max_concurrency"] == 1
    good = [ttft for ttft, error in zip(document["ttfts"], document["errors"], strict=True) if not error]
    assert document["median_ttft_ms"] == pytest.approx(median(good) * 1000)
    assert document["p99_ttft_ms"] == pytest.approx(100) and document["p99_itl_ms"] == pytest.approx(10)
    assert sum(map(len, document["itls"])) == 1000
    assert document["output_throughput"] == pytest.approx(
        document["total_output_tokens"] / document["duration"], rel=1e-3
    )
    json.dumps(document)
    few = probe_document(REQUEST, results[:20], summarise_all(results[:20]), None, None)
    assert "p99_ttft_ms" not in few  # not made up


def test_no_prompt_of_the_users_in_a_document() -> None:
    secret = msgspec.structs.replace(REQUEST, prompt="my secret plan", prompt_name="", api_key="sk-key")
    text = json.dumps(probe_document(secret, [result()], summarise_all([result()]), None, None))
    assert "secret plan" not in text and "sk-key" not in text
    assert '"prompt": "own"' in text


def test_csv_has_a_line_a_request() -> None:
    results = [result(i=0), result(error='cut, "early"', i=1)]
    rows = list(csv.DictReader(io.StringIO(probe_csv(results))))
    assert len(rows) == 2 and set(COLUMNS) <= set(rows[0])
    assert float(rows[0]["ttft_ms"]) == pytest.approx(100) and rows[0]["gap_n"] == "10"
    assert rows[1]["error"] == 'cut, "early"' and rows[1]["e2e_ms"] == ""


def test_the_table_shows_no_percentile_that_is_not_there() -> None:
    lines = summary_lines(REQUEST, summarise_all([result(i=k) for k in range(7)]), None)
    (ttft,) = [line for line in lines if line.startswith("TTFT")]
    assert ttft.split()[1:] == ["100.0", "100.0", "(100.0–100.0)", "–", "–", "–", "100.0"]
    assert len({len(line) for line in lines if line.startswith(("TTFT", "ITL", "E2E", "ms"))}) == 1
