"""``qtop diff``: two recordings, before and after a change."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from qtop.act.load import Load
from qtop.act.recordings import KINDS, Windows, compare_recordings, window_seconds
from qtop.cli import main
from qtop.errors import EXIT_OK, EXIT_USAGE
from qtop.model.derive import Deriver
from qtop.probe.compare import band_of
from qtop.record.convert import import_trace
from qtop.record.reader import Recording

DATA = Path(__file__).parent.parent / "data/recordings"
AFFINITY = DATA / "h100-affinity.qtop"


def seen(path: Path, begin: float, end: float, seconds: float = 3.0) -> Windows:
    """The windows of a part of a recording, seconds after its start."""
    recording, windows, deriver = Recording(path), Windows(seconds), Deriver()
    for sample in recording.samples():
        if begin <= sample.t - recording.start < end:
            windows.see(sample, deriver.push(sample))
    return windows


def made(load: Load, **figures: list[float]) -> Windows:
    """Windows with these figures, under this load."""
    windows = Windows()
    for name, values in figures.items():
        windows.figures[name] = values
    windows._flying, windows._rates = [load.in_flight], [load.tok_s or 0.0]
    return windows


def test_a_recording_and_itself_are_within_noise(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(DATA / "healthy/h200-48-streams.qtop")
    assert main(["diff", path, path, "--json"]) == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "within noise" and told["configuration"] == []
    assert {one["verdict"] for one in told["figures"]} == {"within noise"}
    assert {one["name"] for one in told["figures"]} == {kind.name for kind in KINDS}
    assert {one["fired"] for one in told["findings"]} <= {"both"}


def test_an_affinity_that_is_widened_is_seen_in_the_wait_for_a_cpu() -> None:
    compared = compare_recordings(seen(AFFINITY, 1, 27), seen(AFFINITY, 29, 45))
    found = {one.name: one for one in compared.differences}
    wait, gap, util = (found[name] for name in ("CPU wait", "gap", "GPU utilisation"))
    assert wait.verdict == gap.verdict == "better"
    assert wait.before == pytest.approx(0.82, abs=0.05) and wait.after == pytest.approx(0.0, abs=0.02)
    assert util.before is not None and util.after is not None and util.after > util.before


def test_what_the_load_explains_cannot_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (str(DATA / f"healthy/h200-{n}-streams.qtop") for n in (8, 48))
    for one, other in ((few, many), (many, few)):
        assert main(["diff", one, other, "--json"]) == EXIT_OK
        told = json.loads(capsys.readouterr().out)
        assert told["verdict"] == "cannot tell" and "another load" in told["why"]


def test_slower_under_less_load_is_slower_and_more_tokens_under_more_load_are_nothing() -> None:
    light, heavy = Load(4.0, 400.0), Load(16.0, 1600.0)
    slow, quick = [200.0, 201, 202, 203, 204, 205], [100.0, 101, 102, 103, 104, 105]

    def words(before: Windows, after: Windows) -> dict[str, str]:
        return {one.name: one.verdict for one in compare_recordings(before, after).differences}

    assert words(made(heavy, TTFT=quick), made(light, TTFT=slow))["TTFT"] == "worse"
    assert words(made(light, TTFT=quick), made(heavy, TTFT=slow))["TTFT"] == "cannot tell"
    assert words(made(light, TTFT=slow), made(heavy, TTFT=quick))["TTFT"] == "better"
    assert words(made(light, tokens=quick), made(heavy, tokens=slow))["tokens"] == "cannot tell"
    assert words(made(heavy, tokens=quick), made(heavy, tokens=slow))["tokens"] == "better"


def test_a_drift_within_a_recording_is_noise() -> None:
    load = Load(8.0, 800.0)
    drifting, later = [100.0, 110, 120, 130, 140, 150], [150.0, 151, 152, 153, 154, 155]
    (ttft, *_) = compare_recordings(made(load, TTFT=drifting), made(load, TTFT=later)).differences
    assert ttft.verdict == "cannot tell" and ttft.change_pct == pytest.approx(22, abs=1)
    assert ttft.why.startswith("noise of ±")


def parts(path: Path, begin: float, end: float, count: int) -> list[Windows]:
    """Consecutive parts of a recording, as long as each other, in windows as the verb takes them."""
    length = (end - begin) / count
    seconds = window_seconds([length - 1.0], [1.0])
    return [seen(path, begin + length * at, begin + length * (at + 1), seconds) for at in range(count)]


@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 2), (1, 2)])
def test_parts_of_one_state_are_not_told_apart(before: int, after: int, tmp_path: Path) -> None:
    """Three windows of a server that warms up, or works through a queue, are all in one wave of it: the worst pairs of
    scripts/diff_pairs.py."""
    trace = tmp_path / "longctx.qtop"
    import_trace(DATA.parent / "traces/longctx.jsonl.xz", trace)
    for path, seconds in ((DATA / "healthy/h200-8-streams.qtop", 41.2), (trace, 29.2)):
        three = parts(path, 0.0, seconds, 3)
        assert min(len(one.figures["TTFT"]) for one in three) >= 3
        found = compare_recordings(three[before], three[after])
        assert found.verdict in ("within noise", "cannot tell"), found


def test_noise_that_would_hide_a_change_of_a_quarter_is_told() -> None:
    load = Load(8.0, 800.0)
    quiet = {"gap": [10.0] * 6, "tokens": [800.0] * 6}
    waves = [100.0, 180.0, 90.0, 170.0, 110.0, 160.0]
    found = compare_recordings(made(load, TTFT=waves, **quiet), made(load, TTFT=waves[::-1], **quiet))
    ttft = found.differences[0]
    assert found.verdict == ttft.verdict == "cannot tell" and ttft.band is not None and ttft.before is not None
    assert found.why == f"TTFT: noise of ±{ttft.band / ttft.before * 100:.0f} % would hide a change of 25 %"
    tripled = made(load, TTFT=[3 * one for one in waves], **quiet)
    assert compare_recordings(made(load, TTFT=waves, **quiet), tripled).verdict == "worse"


def test_a_quarter_is_found_where_windows_are_of_two_kinds() -> None:
    """A server that takes its requests in rounds: the interval of the median reaches from one kind to the other."""
    load, rounds = Load(8.0, 800.0), [158.0, 157.0, 199.0, 160.0, 157.5, 201.0] * 3
    (_, gap, *_) = compare_recordings(
        made(load, gap=rounds), made(load, gap=[1.25 * one for one in rounds])
    ).differences
    assert gap.verdict == "worse" and gap.change_pct == pytest.approx(25, abs=1)
    assert compare_recordings(made(load, gap=rounds), made(load, gap=rounds[::-1])).differences[1].verdict == (
        "within noise"
    )


@pytest.mark.parametrize("count", [3, 4, 5, 6, 10, 18])
def test_where_nothing_changed_few_are_told_apart(count: int) -> None:
    chance = random.Random(count)
    alarms = 0
    for _ in range(1000):
        before, after = ([chance.gauss(100.0, 10.0) for _ in range(count)] for _ in range(2))
        band = band_of(before, after)
        assert band is not None
        alarms += abs(median(after) - median(before)) > max(band, 5.0)
    assert alarms <= 80  # 6.5 % at 10 windows and noise of a tenth, of which the sample of 1000 may wander by 1.5


def test_windows_that_are_like_the_one_before_are_worth_fewer() -> None:
    """The same figures, once shuffled and once in waves."""
    waves = [90.0, 92, 95, 99, 103, 106, 108, 107, 104, 100, 96, 93] * 2
    shuffled = random.Random(1).sample(waves, len(waves))
    loose, tight = band_of(waves, waves), band_of(shuffled, shuffled)
    assert loose is not None and tight is not None and loose > 1.8 * tight


def test_from_nothing_there_is_no_percentage() -> None:
    load = Load(8.0, 800.0)
    found = compare_recordings(made(load, waiting=[0.0] * 6), made(load, waiting=[5.0] * 6)).differences
    waiting = next(one for one in found if one.name == "waiting")
    assert waiting.verdict == "worse" and waiting.change_pct is None


def test_windows_abut_and_suit_the_shorter_recording() -> None:
    assert window_seconds([600.0, 900.0], [1.0, 1.0]) == 10
    assert window_seconds([600.0, 21.0], [1.0, 1.0]) == 3
    assert window_seconds([6000.0, 6000.0], [5.0, 1.0]) == 20
    windows = seen(DATA / "healthy/h200-8-streams.qtop", 0, 100, 6.0)
    assert len(windows.figures["tokens"]) == 6  # of 41 s


def test_configuration_and_findings_that_differ_are_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["diff", str(DATA / "healthy/h200-48-streams.qtop"), str(DATA / "disturbed/h200-cpu-starved.qtop")]) == 0
    )
    out = capsys.readouterr().out
    assert "CPUs of the critical thread: 0-15 → 3" in out
    assert "only after  QT201 engine waits for CPU" in out
    assert all(a or b for a, b in pairwise(out.splitlines()))


def test_a_file_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(AFFINITY), str(tmp_path / "none.qtop")]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "none.qtop" in err
