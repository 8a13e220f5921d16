"""QT404: chunked prefill is off, so that a long prompt stops every stream for as long as it takes."""

from __future__ import annotations

from qtop.diagnose.rule import Evidence, Told
from qtop.diagnose.rules.common import running_of, stage_share
from qtop.diagnose.rules.remedies import CHUNKED_PREFILL
from qtop.diagnose.rules.switched import TurnedOff
from qtop.model.frame import Frame
from qtop.model.serving import Latency
from qtop.model.settings import SettingsView
from qtop.sample import Absent, Setting
from qtop.units import percent

LEAST = 0.3
"""Share of the mean gap between tokens that lies above the median gap: with chunks it is a few percent."""


class ChunkedPrefillOff(TurnedOff):
    """2: it is off and the mean gap between tokens is well above the median; 1: it is off."""

    id = "QT404"
    title = "chunked prefill off"
    least = LEAST
    on = "chunked prefill is not turned off"

    def find(self, view: SettingsView) -> Setting | None:
        """The flag."""
        one = view.get("enable_chunked_prefill")
        return one if one is not None and one.value == "off" else None

    def cost(self, frame: Frame) -> float:
        """How far streams stall."""
        return _stall(frame)

    def impact(self, frame: Frame, cost: float) -> float:
        """The stalls are of the time of decoding."""
        return cost * (stage_share(frame, "decode") or 0.0)

    def told(self, one: Setting, cost: float, shown: bool) -> Told:
        """What stalls are seen."""
        seen = f"stalls are {percent(cost)} of the time between tokens" if shown else "a long prompt stops every stream"
        lines = (
            Evidence("enable_chunked_prefill", "off", "", None, one.source),
            Evidence("mean gap between tokens above the median gap", cost, "of the mean gap", LEAST, "proposal"),
        )
        return Told(
            f"CHUNKED PREFILL IS OFF: {seen}; restart without --no-enable-chunked-prefill", lines, (CHUNKED_PREFILL,)
        )


def _stall(frame: Frame) -> float:
    """Share of the mean gap between tokens above the median gap, 0–1; 0 with fewer than two streams, or while requests
    are preempted, which stalls them too."""
    engine, latency = frame.engine, frame.latency
    if isinstance(engine, Absent) or isinstance(latency, Absent) or running_of(engine) < 2:
        return 0.0
    if not isinstance(engine.preempt_s, Absent) and engine.preempt_s > 0:
        return 0.0
    itl = latency.itl
    if not isinstance(itl, Latency) or isinstance(itl.mean_ms, Absent) or isinstance(itl.p50, Absent):
        return 0.0
    if itl.p50.relation == ">" or itl.mean_ms <= 0:
        return 0.0
    return max(0.0, 1.0 - itl.p50.value_ms / itl.mean_ms)


RULE = ChunkedPrefillOff()
