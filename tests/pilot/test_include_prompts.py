"""``--include prompts``: what a test asks and what comes back is in the recording then, and only then; all say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.sse_server import SseServer
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.helpers import make_app, row, rows, running, tap, until

from qtop.cli import build_parser, main
from qtop.collect.http import Access
from qtop.errors import EXIT_OK
from qtop.record.reader import Recording
from qtop.verbs.recording_options import keeps_prompts

ASKED = "Why is the sky zQ9x"
ANSWERED = "The sky is red at dusk"


@pytest.mark.parametrize("kept", [True, False])
async def test_prompts_are_kept_where_asked_for(kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SseServer() as server:
        url = server.url("ok")
        source = StubSource(Machine(url=url).samples(0, 5))
        app = make_app(source, access=Access(url), prompt=ASKED, record_dir=tmp_path, keep_prompts=kept)
        async with running(app) as pilot:
            await until(pilot, lambda: app.session.latest is not None)
            await tap(pilot, "r")
            await until(pilot, lambda: "● REC" in row(app, 1))
            assert ("with prompts" in row(app, 1)) is kept
            assert ("what is answered" in rows(app)[-1]) is kept
            source.play(*Machine(url=url).samples(5, 9))
            await tap(pilot, "p", "p")
            await until(pilot, lambda: len(app.probing.trials) == 1 and not app.session.probing, 20.0)
            await tap(pilot, "r")
            await until(pilot, lambda: app.session.recording is None)
    (path,) = tmp_path.glob("*.qtop")
    recording = Recording(path)
    assert recording.header.prompts is kept
    (probe,) = [event.data for event in recording.events() if event.kind == "probe"]
    assert probe["ok"] is True and (probe.get("prompt"), probe.get("answer")) == (
        (ASKED, ANSWERED) if kept else (None, None)
    )
    page, out = tmp_path / "a.html", tmp_path / "a.tar.gz"
    assert main(["report", str(path), "-o", str(page)]) == EXIT_OK
    text = page.read_text(encoding="utf-8")
    assert ("holds prompts (1 test prompt with what was asked and answered)" in text) is kept and "zQ9x" not in text
    assert main(["bundle", str(path), "-o", str(out), "--yes", "--no-log"]) == EXIT_OK
    said = capsys.readouterr().err
    assert ("It holds prompts: whoever gets the file can read" in said) is kept


def test_the_option_is_one_of_what_begins_recordings() -> None:
    parse = build_parser().parse_args
    assert keeps_prompts(parse(["--include", "prompts"])) and not keeps_prompts(parse([]))
    assert keeps_prompts(parse(["record", "-o", "x", "--include", "prompts"]))
    assert not keeps_prompts(parse(["record", "-o", "x"]))
    with pytest.raises(SystemExit):
        parse(["--include", "everything"])
