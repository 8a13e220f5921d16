"""QT605: the board's memory could be faster: channels without a module, modules below their rated speed."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.common import host_of, said
from qtop.model.frame import Frame, HostView, MemoryView
from qtop.sample import Absent

HOW = "`dmidecode -t 17` as root tells (rated and configured speed, slots)"
SLACK = 0.98
"""Rated and configured speed are rounded differently by firmware (5 600 and 5 598)."""


class MemoryModules(Rule):
    """A plain fact about the memory: its value is what part of its possible bandwidth is given away."""

    id = "QT605"
    title = "memory modules below what the board has"
    enter = (Enter(Severity.INFO, at=0.02, seconds=3.0, of=3.0),)
    clear = Clear(below=0.02, seconds=3.0)

    def look(self, frame: Frame) -> Answer:
        """Half where one channel is populated although there are several slots, and what the speed lacks."""
        host = host_of(frame)
        if not isinstance(host, HostView):
            return host
        memory = host.memory
        if isinstance(memory, Absent):
            return CannotTell(f"{said(memory)}; {HOW}")
        single = _single(memory)
        slow = _slower(memory)
        if single is None and slow is None:
            return CannotTell(f"the firmware tells neither channels nor speeds; {HOW}")
        value = 1.0 - (0.5 if single else 1.0) * (1.0 - (slow or 0.0))
        return Observed(value, lambda: _told(memory, bool(single), slow or 0.0), figure=f"{value:.0%} given away")


RULE = MemoryModules()


def _single(memory: MemoryView) -> bool | None:
    """Whether all modules are on one channel of a board with room for more; None where the names do not tell."""
    if isinstance(memory.channels, Absent):
        # One module is on one channel, whatever its slot is called.
        return None if memory.modules > 1 or isinstance(memory.slots, Absent) else memory.slots > 1
    if isinstance(memory.slots, Absent):
        return False
    return memory.channels == 1 and memory.slots > memory.modules


def _slower(memory: MemoryView) -> float | None:
    """The part of the rated speed that is missing, 0–1; None where it is not known."""
    rated, configured = memory.rated_mts, memory.configured_mts
    if isinstance(rated, Absent) or isinstance(configured, Absent) or rated <= 0:
        return None
    return 0.0 if configured >= rated * SLACK else 1.0 - configured / rated


def _told(memory: MemoryView, single: bool, slow: float) -> Told:
    slots = "?" if isinstance(memory.slots, Absent) else str(memory.slots)
    lines = [Evidence("modules", f"{memory.modules} in {slots} slots {memory.kind}".rstrip(), "")]
    if not isinstance(memory.channels, Absent):
        lines.append(Evidence("channels with a module", memory.channels, "", 2.0))
    for name, speed in (("runs at", memory.configured_mts), ("is made for", memory.rated_mts)):
        if not isinstance(speed, Absent):
            lines.append(Evidence(f"the slowest {name}", speed, "MT/s"))
    if not isinstance(memory.peak_bytes_s, Absent):
        lines.append(Evidence("they could carry", memory.peak_bytes_s / 1e9, "GB/s", None, "MT/s × 8 bytes × channels"))
    said_so = []
    if single:
        said_so.append("one channel has all modules")
    if slow > 0:
        said_so.append(f"{memory.configured_mts} of {memory.rated_mts} MT/s")
    if not said_so:
        return Told("the memory runs as it is made to", tuple(lines))
    cure = "spread the modules over the channels" if single else "XMP or EXPO in the firmware's setup"
    return Told(
        f"MEMORY BELOW ITS SPEED: {' and '.join(said_so)} — {cure}",
        tuple(lines),
        reason="it matters where weights or KV cache are in main memory (llama.cpp on CPUs, offloading); less else",
    )
