"""``qtop dump``: what other tools are given of a recording, read back by what they would read it with."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from qtop.cli import main
from qtop.errors import EXIT_OK, EXIT_USAGE
from qtop.model.derive import Deriver
from qtop.model.fields import LATENCIES, UNITS, Field, registry, walk
from qtop.model.frame import Frame
from qtop.record.reader import Recording
from qtop.report.export import Point, iso, metric_name, write_openmetrics
from qtop.sample import Absent, Why

FILE = Path(__file__).parent.parent / "data/recordings/h100-affinity.qtop"
RATE = "engine.gen_tok_s"


def dumped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["dump", str(FILE), *words]) == EXIT_OK
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_csv_is_what_the_frames_say_and_empty_where_absent(capsys: pytest.CaptureFixture[str]) -> None:
    text = dumped(capsys, "--fields", f"gpu.0.util,{RATE},latency.queue.p50")
    assert text.count("\r\n") == text.count("\n")
    header, *rows = list(csv.reader(io.StringIO(text, newline="")))
    assert header == ["time", "time_iso", "gpu.0.util", RATE, "latency.queue.p50"]
    deriver = Deriver()
    frames = [deriver.push(sample) for sample in Recording(FILE).samples()]
    assert len(rows) == len(frames)
    for row, frame in zip(rows, frames, strict=True):
        assert not isinstance(frame.engine, Absent) and not isinstance(frame.gpus, Absent)
        assert float(row[0]) == pytest.approx(frame.t, abs=1e-3) and row[1] == iso(frame.t)
        assert float(row[2]) == pytest.approx(frame.gpus[0].util)
        rate = frame.engine.gen_tok_s
        assert row[3] == "" if isinstance(rate, Absent) else float(row[3]) == pytest.approx(rate)
    assert rows[0][3] == ""  # a rate needs two readings
    assert {row[4] for row in rows} == {""}  # all of them in the first bucket: a bound, no percentile


def test_json_says_why_what_is_absent_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        json.loads(line) for line in dumped(capsys, "--json", "--fields", f"{RATE},latency.queue.p50").splitlines()
    ]
    assert lines[0]["absent"][RATE]["why"] == "not_yet" and RATE not in lines[0]["values"]
    assert lines[-1]["values"][RATE] > 0
    assert "not above 300 ms" in lines[-1]["absent"]["latency.queue.p50"]["detail"]


def test_openmetrics_is_read_by_prometheus_and_holds_the_same_figures_in_base_units(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = dumped(capsys, "--prometheus", "--fields", "all")
    assert text.endswith("\n# EOF\n")
    parse: Any = text_string_to_metric_families  # without types
    families = {family.name: family for family in parse(text)}
    assert all(name.startswith("qtop_") and family.documentation for name, family in families.items())
    rows = list(csv.DictReader(io.StringIO(dumped(capsys, "--fields", "gpu.0.sm_mhz,latency.ttft.mean,gpu.0.util"))))
    for name, labels, column, scale in (
        ("qtop_gpu_sm_clock_hertz", {"gpu": "0"}, "gpu.0.sm_mhz", 1e6),
        ("qtop_latency_seconds", {"stage": "ttft", "stat": "mean"}, "latency.ttft.mean", 1e-3),
        ("qtop_gpu_utilization_ratio", {"gpu": "0"}, "gpu.0.util", 1.0),
    ):
        got = [(float(one.timestamp), one.value) for one in families[name].samples if one.labels == labels]
        told = [(float(row["time"]), float(row[column]) * scale) for row in rows if row[column]]
        assert len(got) == len(told) > 40
        assert [t for t, _ in got] == [t for t, _ in told]
        assert [value for _, value in got] == pytest.approx([value for _, value in told])


def test_a_part_and_one_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    every = list(csv.DictReader(io.StringIO(dumped(capsys, "--fields", RATE))))
    part = list(csv.DictReader(io.StringIO(dumped(capsys, "--fields", RATE, "--from", "30", "--to", "40"))))
    assert part == [row for row in every if 30 <= float(row["time"]) - float(every[0]["time"]) <= 40.001]
    assert part[0][RATE]  # what was before is known
    thin = list(csv.DictReader(io.StringIO(dumped(capsys, "--fields", RATE, "--every", "5"))))
    gaps = [float(b["time"]) - float(a["time"]) for a, b in pairwise(thin)]
    assert 12 <= len(thin) <= 16 and min(gaps) > 4.8 and all(row in every for row in thin)
    same = dumped(capsys, "--from", part[0]["time_iso"], "--to", part[-1]["time_iso"], "--fields", RATE)
    assert list(csv.DictReader(io.StringIO(same))) == part


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fields", "gpu.7.util"], "this recording has no field gpu.7.util"),
        (["--from", "soon"], "--from is no time: soon"),
        (["--from", "20", "--to", "10"], "--from is after --to"),
        (["--csv", "--json"], "not allowed with"),
        (["--fields", ","], "--fields names none"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", str(FILE), *words]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and told in err


def test_the_list_names_every_field_once_with_its_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", "--list"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()[:-2]
    names = [line[2:].split()[0] for line in lines]
    assert len(names) == len(set(names)) == len(registry()) and f"latency.{LATENCIES[3]}.p50" in names
    assert {field.unit for field in registry()} <= set(UNITS)


def test_no_two_fields_share_a_series_and_a_metric_has_one_unit() -> None:
    fields = registry([0, 1])
    assert len({(metric_name(one), one.labels) for one in fields}) == len(fields)
    assert len({metric_name(one) for one in fields}) == len({(one.metric, one.unit) for one in fields})


def test_every_field_can_be_read_from_a_frame_with_nothing_in_it() -> None:
    for field in registry([0]):
        assert isinstance(field.read(Frame(0.0, 0.0)), Absent), field.name
    assert walk({"a": float("nan")}, ["a"]) == Absent(Why.FAILED, "not a number")


def test_many_samples_are_not_held_in_memory_and_a_time_that_goes_back_is_left_out(tmp_path: Path) -> None:
    field = Field("x", "share", "x", lambda frame: 0.0, "x")
    count = 200_000
    tracemalloc.start()
    with (tmp_path / "out").open("w") as out:
        got = write_openmetrics([field], (Point(float(n if n != 7 else 3), [n / 8]) for n in range(count)), out)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert got == (count - 1, 1)
    assert peak < 1_000_000  # the pairs alone are 3.2 MB
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines[-1] == "# EOF" and lines[-2] == f"qtop_x_ratio {(count - 1) / 8:.9g} {count - 1}.000"
    assert len(lines) == count - 1 + 4
