"""The whole screen as text, at the end of a recording: compared with tests/pilot/golden/NAME-WIDTHxHEIGHT.txt.

QTOP_GOLDEN=write makes the files anew; look at what changed before it is committed.
"""

from __future__ import annotations

import pytest
from tests.pilot.conftest import MakeRecording
from tests.pilot.helpers import at_end, compare, make_app, rows, running

from qtop.source.replay import ReplaySource

CASES = (
    ("pinned1_hogs", (80, 24)),
    ("pinned1_hogs", (120, 40)),
    ("pinned1_hogs", (160, 48)),
    ("idle", (80, 24)),
    ("longctx", (160, 48)),
)


@pytest.mark.parametrize(
    ("trace", "size"), CASES, ids=lambda case: case if isinstance(case, str) else f"{case[0]}x{case[1]}"
)
async def test_the_screen_at_the_end_of_a_recording(
    recording: MakeRecording, trace: str, size: tuple[int, int]
) -> None:
    source = ReplaySource(recording(trace), speed=500.0)
    app = make_app(source)
    async with running(app, size) as pilot:
        await at_end(pilot, source)
        assert not (wrong := compare(f"{trace}-{size[0]}x{size[1]}", rows(app))), wrong
