#!/usr/bin/env python3
"""Makes the README's screenshots: a real vLLM on a real H100, replayed through the dashboard, and the probe and
tuning screens on the demo's real llama.cpp server, which it starts (the tuning screen takes two CPUs).

screenshots.py [OUT_DIR]      (default docs/)  → SVG files, made by Textual itself
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from textual.pilot import Pilot

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tui")]

from tests.fakes.crash import pin  # noqa: E402
from tests.fakes.load import busy_loops  # noqa: E402

from qtop.config import Settings  # noqa: E402
from qtop.demo.server import DemoServer  # noqa: E402
from qtop.record.convert import import_trace  # noqa: E402
from qtop.session import Session  # noqa: E402
from qtop.source.replay import ReplaySource  # noqa: E402
from qtop.ui.app import QtopApp  # noqa: E402
from qtop.ui.look import choose  # noqa: E402
from qtop.verbs.live import make_session  # noqa: E402

SHOTS = (
    ("dashboard", "recordings/h100-affinity.qtop", (120, 40), 20, ()),
    ("dashboard-80x24", "recordings/h100-affinity.qtop", (80, 24), 20, ()),
    ("fixed", "recordings/h100-affinity.qtop", (120, 40), 47, ()),
    ("gpus", "recordings/h100-side-loads.qtop", (120, 24), 50, ("g",)),
    ("threads", "recordings/h100-affinity.qtop", (120, 40), 24, ("t",)),
    ("server", "recordings/h100-steady16.qtop", (120, 60), 45, ("v",)),
    ("findings", "recordings/h100-affinity.qtop", (120, 40), 24, ("F",)),
    ("guide", "recordings/h100-steady16.qtop", (120, 48), 45, ("G",)),
    ("plan", "recordings/h100-steady16.qtop", (120, 40), 45, ("L", "left")),
    ("plots", "recordings/h100-side-loads.qtop", (120, 40), 60, ("P", "minus")),
)
"""Name, data under tests/data, terminal size, sample at which to stop, keys pressed then."""


async def shoot(name: str, data: str, size: tuple[int, int], stop: int, keys: tuple[str, ...], folder: Path) -> None:
    """Replay a recording to a sample and export the screen."""
    with tempfile.TemporaryDirectory() as temporary:
        recording = ROOT / "tests/data" / data
        if recording.suffix == ".xz":
            recording = Path(temporary) / "trace.qtop"
            import_trace(ROOT / "tests/data" / data, recording)
        source = ReplaySource(recording, speed=25.0)
        session = Session(source)
        app = QtopApp(session, choose("truecolor", {"LANG": "C.UTF-8"}))
        async with app.run_test(size=size) as pilot:
            for _ in range(2000):
                await pilot.pause(0.005)
                if source.ended or source.position >= stop:
                    break
            source.pause(True)
            await pilot.press(*keys)
            await pilot.pause(0.3)
            (folder / f"{name}.svg").write_text(app.export_screenshot(title="qtop"))
        session.close()
    print(folder / f"{name}.svg")


async def shoot_probe(folder: Path) -> None:
    """Two tests on a real server, side by side."""
    with DemoServer() as server:
        session, _ = make_session(argparse.Namespace(url=server.url), Settings())
        app = QtopApp(session, choose("truecolor", {"LANG": "C.UTF-8"}), max_tokens=48)
        async with app.run_test(size=(120, 44)) as pilot:
            await _shows(pilot, app, "running 0 of 4")
            await pilot.press("p", "down", "down", "down", "down", *"20", "enter")
            await _shows(pilot, app, "Test 1 ")
            await pilot.press("up", "right", "right", "enter")
            await _shows(pilot, app, "Test 2 ")
            await pilot.pause(2.0)
            (folder / "probe.svg").write_text(app.export_screenshot(title="qtop"))
        session.close()
    print(folder / "probe.svg")


async def shoot_tuning(folder: Path) -> None:
    """The tuning screen after a change that helped: a real server that shared its CPU with two busy loops."""
    cpu = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as state, DemoServer().start(threads=1) as server, busy_loops(cpu, 2):
        os.environ["XDG_STATE_HOME"] = state
        pin(server.pid, {cpu})
        session, _ = make_session(argparse.Namespace(url=server.url), Settings())
        app = QtopApp(session, choose("truecolor", {"LANG": "C.UTF-8"}))
        async with app.run_test(size=(120, 40)) as pilot:
            await _shows(pilot, app, "running 0 of 4")
            await pilot.press("T")
            await _shows(pilot, app, "▸ ")
            await pilot.press("enter")
            await _shows(pilot, app, "Enter apply")
            await pilot.press("enter")
            await _shows(pilot, app, "▸ check")
            await _shows(pilot, app, "in force")
            await pilot.press("pageup", "pageup", "pageup")
            await pilot.pause(8.0)
            (folder / "tuning.svg").write_text(app.export_screenshot(title="qtop"))
        session.close()
    print(folder / "tuning.svg")


async def _shows(pilot: Pilot[None], app: QtopApp, text: str) -> None:
    for _ in range(3600):
        await pilot.pause(0.05)
        if any(text in strip.text for strip in app.screen._compositor.render_strips(app.size)):
            return
    screen = "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))
    raise SystemExit(f"{text!r} did not come about:\n{screen}")


def main() -> None:
    """All of them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data, size, stop, keys in SHOTS:
        asyncio.run(shoot(name, data, size, stop, keys, folder))
    asyncio.run(shoot_probe(folder))
    asyncio.run(shoot_tuning(folder))


if __name__ == "__main__":
    main()
