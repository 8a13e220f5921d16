"""The report: a page that asks nobody for anything, says the same each time, and gives nothing away."""

from __future__ import annotations

import json
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.samples import HEADER

from qtop.cli import main
from qtop.record.blockfile import BlockFile
from qtop.report.gathered import Chart, Span, _spans, gather, led
from qtop.report.markdown import page_markdown, plain_markdown
from qtop.report.page import page_html, rule_html
from qtop.report.page_style import STYLE
from qtop.report.plots import chart_svg, nice_top, segments, ticks
from qtop.sample import EngineSample, Event, Sample, ServerInfo, Setting
from qtop.sample.codec import encode_event, encode_sample

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
STARVED = RECORDINGS / "disturbed" / "h200-cpu-starved.qtop"
VOID = {"meta", "br", "hr", "img", "input", "link", "rect", "path"}
HOSTILE = '</title><script src="http://evil.example/x.js">alert(1)</script><img src=x onerror=a()>'
SECRET = "zQ9xhunter2x9Qz"


class Page(HTMLParser):
    """Holds every element to its end tag, and keeps names and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def asks_nobody(text: str) -> Page:
    """The page, parsed, after looking for all that would load something."""
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "audio", "video"}
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}
    assert not any(name.startswith("on") for name in names)
    assert not re.search(r"url\(|@import", text)
    return page


def written(path: Path, samples: list[Sample], events: list[Event] | None = None) -> Path:
    """A recording of these as they are, without the redaction of a writer."""
    file = BlockFile(path, HEADER)
    for sample in samples:
        file.append(encode_sample(sample))
    for event in events or []:
        file.append(encode_event(event))
    file.close()
    return path


def planted(path: Path) -> Path:
    """Markup and secrets in every place that a report shows."""
    server = ServerInfo(
        url=f"http://user:{SECRET}@127.0.0.1:8000/v1?key={SECRET}",
        engine="vllm",
        model=HOSTILE,
        argv=("vllm", "serve", "m", "--api-key", SECRET, HOSTILE),
        settings=(Setting("hf_token", SECRET, "command line"), Setting("served_model_name", HOSTILE, "command line")),
    )
    samples = [
        Sample(t=1000.0 + i, server=server, engine=EngineSample(at=i, scrape_ms=1.0, series={"vllm:x": i}))
        for i in range(5)
    ]
    events = [
        Event(1001.0, "note", {"text": f"{HOSTILE} Authorization: Bearer {SECRET}"}),
        Event(1002.0, "change", {"knob": HOSTILE, "kept": False, "text": f"password={SECRET}", "api_key": SECRET}),
        Event(1003.0, "probe", {"ok": "a result of another time"}),
    ]
    return written(path, samples, events)


@pytest.mark.parametrize("recording", [STARVED, RECORDINGS / "h100-affinity.qtop"], ids=lambda path: path.stem)
def test_a_page_is_whole_and_asks_nobody(recording: Path) -> None:
    report = gather(recording)
    text = page_html(report)
    page = asks_nobody(text)
    assert {"svg", "table", "details", "h1"} <= page.tags
    assert report.whole.verdict.headline in text
    for one in report.whole.findings:
        assert one.rule in text
    assert "Measured: healthy" in text  # the page of QT201 is in it
    assert report.firing["QT201"][0].begin >= report.whole.begin


def test_markup_in_a_recording_is_text(tmp_path: Path) -> None:
    report = gather(planted(tmp_path / "a.qtop"))
    text = page_html(report)
    asks_nobody(text)
    assert "&lt;script" in text
    markdown = page_markdown(report)
    assert "<script" not in markdown and "<img" not in markdown
    assert markdown.count("<details>") == markdown.count("</details>") > 2


def test_secrets_in_a_recording_are_not_in_a_report(tmp_path: Path) -> None:
    path = planted(tmp_path / "a.qtop")
    for flags, name in ((["--markdown"], "r.md"), ([], "r.html")):
        assert main(["report", str(path), "-o", str(tmp_path / name), *flags]) == 0
        assert SECRET.encode() not in (tmp_path / name).read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_the_same_recording_gives_the_same_bytes_in_any_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for i, zone in enumerate(("UTC", "Asia/Tokyo")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        copy = tmp_path / f"{i}.qtop"
        copy.write_bytes(STARVED.read_bytes())
        report = gather(copy)
        seen.append((page_html(report), page_markdown(report)))
    monkeypatch.undo()
    time.tzset()
    assert seen[0] == seen[1]


def test_what_cannot_be_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    text = tmp_path / "a.txt"
    text.write_text("no recording")
    for file in (text, tmp_path / "none.qtop"):
        assert main(["report", str(file), "-o", str(out)]) != 0
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not out.exists()
    out.write_text("mine")
    assert main(["report", str(STARVED), "-o", str(out)]) == 2
    assert "--force" in capsys.readouterr().err and out.read_text() == "mine"
    copy = tmp_path / "c.qtop"
    copy.write_bytes(STARVED.read_bytes())
    assert main(["report", str(copy), "-o", str(copy), "--force"]) == 2
    assert copy.read_bytes() == STARVED.read_bytes()
    assert main(["report", str(STARVED), "-o", str(out), "--force"]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_changes_and_marks_are_told(tmp_path: Path) -> None:
    events = [
        Event(1001.0, "change", {"knob": "cpu-affinity", "kept": True, "told": "cpu-affinity improved: TTFT -47 %"}),
        Event(1002.0, "undo", {"knob": "cpu-affinity", "restored": True}),
    ]
    text = page_html(gather(written(tmp_path / "a.qtop", [Sample(t=1000.0 + i) for i in range(4)], events)))
    assert "cpu-affinity improved: TTFT -47 %" in text and "cpu-affinity put back" in text and "2 actions" in text
    assert text.count('class="event"') == 2


def test_gaps_are_gaps() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 3.0), (60.0, 4.0), (61.0, 5.0)]
    assert [[t for t, *_ in run] for run in segments(points, 2.5)] == [[0, 1], [3], [60, 61]]
    assert segments([(0.0, None)], 2.5) == []


@given(st.lists(st.none() | st.floats(-1e6, 1e6), max_size=3000))
def test_a_long_line_is_thinned_within_its_bounds(values: list[float | None]) -> None:
    runs = segments([(float(i), value) for i, value in enumerate(values)], 2.5, columns=100)
    drawn = [point for run in runs for point in run]
    known = [value for value in values if value is not None]
    assert bool(drawn) == bool(known)
    if known:
        assert min(low for *_, low, _ in drawn) == min(known) and max(high for *_, high in drawn) == max(known)
        assert all(low - 1e-6 <= mean <= high + 1e-6 for _, mean, low, high in drawn)


def test_an_hour_of_a_line_is_a_few_hundred_points() -> None:
    points: list[tuple[float, float | None]] = [(float(i), float(i % 7)) for i in range(3600)]
    assert sum(map(len, segments(points, 2.5))) <= 365
    chart = Chart("T", "ms")
    for t, value in points:
        chart.add("x", t, value)
    assert len(chart_svg(chart, 0.0, 3600.0, 2.5)) < 30_000


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (1.1, 1.2), (33, 40), (81, 100), (0.3, 0.3), (1e9, 1e9)])
def test_axes_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


@given(st.floats(0, 4e9), st.floats(0.1, 1e8))
def test_marks_of_time_are_few_and_inside(begin: float, span: float) -> None:
    marks = ticks(begin, begin + span, 4)
    assert len(marks) <= 5
    assert all(begin - 1e-6 <= t <= begin + span + 1e-6 for t, _ in marks)


def test_the_verdicts_history_has_the_holes_of_the_recording() -> None:
    spans = list(_spans([(0.0, None), (1.0, "QT201"), (2.0, "QT201"), (90.0, "QT201"), (92.0, "QT201")], 2.5))
    assert spans == [Span(0.0, 1.0, None), Span(1.0, 2.0, "QT201"), Span(90.0, 92.0, "QT201")]
    assert led(spans)[0] == ("QT201", 3.0, 1.0, 92.0)


def test_a_rule_page_has_no_anchor() -> None:
    asks_nobody(rule_html("QT201"))
    assert "<table>" in rule_html("QT201") and rule_html("QT999") == ""


def test_markdown_calls_nobody_and_breaks_no_table() -> None:
    assert plain_markdown("a|b @user #12 <b> *x*\nnext") == "a\\|b &#64;user &#35;12 &lt;b&gt; \\*x\\* next"


def test_nothing_of_this_host_is_named() -> None:
    text = page_html(gather(STARVED))
    assert str(STARVED.parent) not in text and os.uname().nodename not in re.sub(r"\b(localhost)\b", "", text)


def test_test_prompts_of_a_recording_are_listed(tmp_path: Path) -> None:
    told = json.loads((RECORDINGS.parent / "probe" / "h100-16-streams.json").read_text())["results"][:3]
    events = [Event(one["started"], "probe", one) for one in told]
    start = told[0]["started"]
    report = gather(written(tmp_path / "a.qtop", [Sample(t=start + i) for i in range(4)], events))
    assert len(report.probes) == 3
    text = page_html(report)
    assert "TTFT" in text and f"{round(told[0]['e2e_ms']):,} ms".replace(",", " ") in text
    assert page_markdown(report).count("ok (") == 3


def test_on_paper_it_is_light_and_nothing_is_folded_or_cut() -> None:
    """Also where the reader's desktop is dark, or the page was open in the dark."""
    screen, _, paper = STYLE.partition("@media print{")
    dark = screen[screen.index("prefers-color-scheme:dark") :].split("}")[0]
    colours = re.findall(r"(--[a-z0-9]+):(#[0-9a-f]+)", dark)
    printed = dict(re.findall(r"(--[a-z0-9]+):(#[0-9a-f]+)", paper))
    assert len(colours) >= 10 and {name for name, _ in colours} == set(printed)
    assert printed["--bg"] == "#fff" and "color-scheme:light;" in paper
    assert "details::details-content{content-visibility:visible" in paper and ".wide,pre{overflow:visible}" in paper
    page = page_html(gather(STARVED))
    assert page.count("<thead>") == page.count("</thead>") == page.count("<tbody>") > 5
