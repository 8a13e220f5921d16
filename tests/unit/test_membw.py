"""The measurement of memory bandwidth: what it would do, what it does, and that it is done on request only."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from qtop.cli import main
from qtop.collect import membw
from qtop.collect.host import HostCollector
from qtop.collect.membw import LEAST_BYTES, MOST_BYTES, Bandwidth, Plan, measure, plan
from qtop.collect.topology import TopologyReader
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_USAGE
from qtop.sample import Absent, HostSample, Topology, Why

SMALL = Plan(2, 16 << 20, Absent(Why.UNSUPPORTED))


def test_a_short_one_gives_a_figure_a_round() -> None:
    found = measure(SMALL, seconds=0.02, rounds=2)
    assert isinstance(found, Bandwidth), found
    assert len(found.rounds) == 2 and found.bytes_s == max(found.rounds) > 1e8
    assert found.threads == 2 and 0.04 <= found.seconds < 2.0
    assert found.bytes == 16 << 20


def fake(monkeypatch: pytest.MonkeyPatch, llc: int | Absent, available: int, cores: tuple[str, ...] | Absent) -> None:
    topology = Topology(at=1.0, llc_bytes=llc, cores=cores)
    host = HostSample(at=1.0, cpus={}, mem_available=available)
    monkeypatch.setattr(TopologyReader, "look", lambda _self: (topology, Absent(Why.NOT_YET)))
    monkeypatch.setattr(HostCollector, "read", lambda _self, _tasks: host)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 4, 5})


def test_buffers_are_four_times_the_caches_and_a_thread_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 256 << 20, 64 << 30, ("0,4", "1,5", "2,6"))
    found = plan()
    assert found == Plan(2, 1 << 30, 256 << 20) and not found.in_cache


def test_never_more_than_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, 256 << 20, 1 << 30, Absent(Why.UNSUPPORTED))
    found = plan()
    assert isinstance(found, Plan)
    assert (found.threads, found.bytes) == (4, 256 << 20) and found.in_cache
    fake(monkeypatch, 64 << 30, 1 << 40, Absent(Why.UNSUPPORTED))
    assert isinstance(large := plan(), Plan) and large.bytes == MOST_BYTES
    fake(monkeypatch, Absent(Why.UNSUPPORTED), 1 << 40, Absent(Why.UNSUPPORTED))
    assert isinstance(unknown := plan(), Plan) and unknown.bytes == LEAST_BYTES
    fake(monkeypatch, 1 << 20, 1 << 20, Absent(Why.UNSUPPORTED))
    assert isinstance(plan(), Absent)


def test_a_child_that_fails_or_never_was_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(measure(SMALL, python=str(tmp_path / "none")), Absent)
    failed = measure(Plan(2, 1 << 60, 1), seconds=0.01)
    assert isinstance(failed, Absent) and failed.why is Why.FAILED and "rror" in failed.detail
    slow = tmp_path / "slow"
    slow.write_text(f"#!{sys.executable}\nimport time; time.sleep(60)\n")
    slow.chmod(0o755)
    monkeypatch.setattr(membw, "TIMEOUT_S", 0.2)
    late = measure(SMALL, python=str(slow))
    assert isinstance(late, Absent) and "did not end" in late.detail


def test_the_verb_does_nothing_unasked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtop.verbs.membw.measure", lambda _planned: pytest.fail("it was not asked to"))
    assert main(["membw"]) == EXIT_OK
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "--yes" in out and "bandwidth" in out and err == ""
    assert main(["membw", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1 and document["measured"] is None and document["planned"]["bytes"] > 0


def test_the_verb_measures_when_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtop.verbs.membw.plan", lambda: SMALL)
    monkeypatch.setattr("qtop.verbs.membw.measure", lambda planned: measure(planned, 0.02, 2))
    assert main(["membw", "--yes"]) == EXIT_OK
    out, err = capsys.readouterr()
    assert "GB/s" in out and out.count("\n") == 1 and "16 MiB" in err
    assert main(["membw", "--yes", "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["measured"]["bytes_s"] > 1e8 and document["planned"]["threads"] == 2


def test_the_verb_says_in_one_line_what_went_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qtop.verbs.membw.plan", lambda: Absent(Why.UNSUPPORTED, "too little memory is available"))
    assert main(["membw", "--yes"]) == EXIT_FINDING
    out, err = capsys.readouterr()
    assert out == "" and err == "qtop: memory bandwidth cannot be measured: too little memory is available\n"
    monkeypatch.setattr("qtop.verbs.membw.plan", lambda: SMALL)
    monkeypatch.setattr("qtop.verbs.membw.measure", lambda _planned: Absent(Why.FAILED, "no"))
    assert main(["membw", "--yes"]) == EXIT_USAGE
    assert capsys.readouterr().err.splitlines()[-1] == "qtop: no"
