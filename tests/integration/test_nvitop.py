"""Another monitor over the same fake NVML: what it shows is what the scenario says, so the fake has the real ABI.

Runs where QTOP_TEST_NVITOP names the Python interpreter of an environment with nvitop (pip install nvitop).
"""

from __future__ import annotations

import os
import subprocess

import pytest
from tests.fakes.nvml_fixture import FakeNvml, a100, hopper, rtx4090d
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence

pytestmark = pytest.mark.integration

PYTHON = os.environ.get("QTOP_TEST_NVITOP", "")


@pytest.fixture
def nvitop() -> list[str]:
    """The command that runs it once."""
    if not PYTHON:
        pytest.skip("QTOP_TEST_NVITOP does not name a Python with nvitop")
    try:
        found = subprocess.run([PYTHON, "-c", "import nvitop"], capture_output=True, timeout=60, check=False)
    except OSError as error:
        pytest.skip(f"QTOP_TEST_NVITOP: {error}")
    if found.returncode != 0:
        pytest.skip(f"{PYTHON} cannot import nvitop")
    return [PYTHON, "-m", "nvitop", "--once", "--ascii"]


def test_nvitop_shows_what_the_scenario_says(fake_nvml: FakeNvml, nvitop: list[str]) -> None:
    # a process that lives: nvitop asks psutil about it
    sleeper = subprocess.Popen(["sleep", "300"])
    try:
        fake_nvml.set(
            f"2.proc {sleeper.pid} 1073741824",
            count=4,
            **rtx4090d(0),
            **a100(1, util=63),
            **hopper(2, power=691500),
            **hopper(3, mig=1),
        )
        done = subprocess.run(nvitop, env=fake_nvml.env(), capture_output=True, text=True, timeout=60, check=False)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert done.returncode == 0, done.stderr
    assert "FunctionNotFound" not in done.stderr, done.stderr
    shown = done.stdout
    for text in ("580.159.03", "RTX 4090 D", "A100-SXM4-40GB", "H100 80GB HBM3", "Enabled", "63%", "1024MiB"):
        assert text in shown, shown
    assert str(sleeper.pid) in shown
