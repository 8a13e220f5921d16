"""The report on paper, as a real browser prints it: nothing that is folded on the screen is lost."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qtop.diagnose.rule import State
from qtop.report.gathered import gather
from qtop.report.page import page_html, rule_html

pytestmark = pytest.mark.integration
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext: apt-get install poppler-utils")
def test_what_is_folded_on_the_screen_is_printed(tmp_path: Path) -> None:
    report = gather(RECORDINGS / "disturbed" / "h200-cpu-starved.qtop")
    page, paper = tmp_path / "a.html", tmp_path / "a.pdf"
    page.write_text(page_html(report), encoding="utf-8")
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    ]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--no-pdf-header-footer", f"--print-to-pdf={paper}"]
    assert CHROMIUM is not None
    subprocess.run([CHROMIUM, *words, page.as_uri()], capture_output=True, timeout=120, check=True)
    done = subprocess.run(["pdftotext", "-raw", paper, "-"], capture_output=True, text=True, timeout=60, check=True)
    printed = bare(done.stdout)
    firing = [one for one in report.whole.findings if one.state is State.FIRING]
    assert len(firing) >= 3
    for one in firing:
        wanted = [one.headline, *(evidence.signal for evidence in one.evidence)]
        wanted += re.findall(r"<p>(.*?)</p>", rule_html(one.rule), re.DOTALL)
        assert [text for text in wanted if bare(html.unescape(re.sub("<[^>]*>", "", text))) not in printed] == []
    for other in report.whole.findings:
        assert bare(other.rule) in printed


def bare(text: str) -> str:
    """Letters and digits: lines and pages break anywhere, and take spaces and hyphens with them."""
    return re.sub(r"[^0-9A-Za-z]", "", text)
