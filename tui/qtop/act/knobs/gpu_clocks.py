"""The knob ``gpu-clocks``: SM clocks locked between two values, or let go. Live, root.

NVML sets and lifts such a lock but cannot tell which one is in force. So the old state is what qtop itself locked
before, where it did, and else no lock: undoing lifts the lock, and one that somebody else had made is lost; the preview
says so. That a lock no longer holds shows only where the clock runs above it.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import replace

from qtop.act.change import Drift, Plan, Reading, Record, Work
from qtop.act.journal import Journal
from qtop.act.knobs.gpu import Entry, GpuKnob
from qtop.act.knobs.nvml_hand import SM_CLOCK, Card, Driver, GpuGone, visit
from qtop.clock import boot_id
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, GpuView

RANGE = re.compile(r"(\d{1,5}),(\d{1,5})", re.ASCII)
RESET = "reset"
"""No lock."""
OLD, ASKED, NEW = "old", "asked", "new"
"""Phases: ASKED is written before the driver is asked for either, the other when it has done so."""
STEP_MHZ = 30
"""A card rounds to steps of its own, 15 MHz on those seen."""
TAKES_S = 3.0
"""Until the clock must have come down."""


class GpuClocks(GpuKnob):
    """nvmlDeviceSetGpuLockedClocks and nvmlDeviceResetGpuLockedClocks."""

    id = "gpu-clocks"
    title = "SM clocks of the server's GPUs, locked between two values in MHz"
    example = "1200,1800 or reset"
    word = "SM clocks"

    def asked(self, card: Card, value: str | None) -> str:
        """Within what the card can do."""
        most = int(card.get("MaxClockInfo", SM_CLOCK))
        if value is None:
            raise Refused(
                "whether the clocks are locked cannot be read, so nothing is proposed",
                f"Say gpu-clocks=MIN,MAX (MHz, up to {most}), or gpu-clocks=reset.",
            )
        if value != RESET and not _within(value, most):
            raise QtopError(f"gpu-clocks cannot be {value!r}", f"It takes MIN,MAX in MHz up to {most}, or reset.")
        return value

    def entry(self, gpu: GpuView, card: Card, value: str | None) -> Entry:
        """The old lock is the one that qtop made, if any; ``phase``: what is known to have been done."""
        what = f"GPU {gpu.index} ({card.name})"
        old = _locked_by_qtop(str(gpu.uuid)) or RESET
        return {"uuid": gpu.uuid, "what": what, "old": old, "new": self.asked(card, value), "phase": OLD}

    def differs(self, entry: Entry) -> bool:
        """A reset is worth asking for where no lock is known."""
        return entry["new"] == RESET or super().differs(entry)

    def shown_as(self, value: str) -> str:
        """ "1200–1800 MHz"."""
        return "not locked" if value == RESET else f"{value.replace(',', '–')} MHz"

    def command(self, gpu: GpuView, value: str) -> str:
        """nvidia-smi's."""
        return f"nvidia-smi -i {gpu.uuid} " + ("-rgc" if value == RESET else f"-lgc {value}")

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """What is not known is said."""
        plan = super().plan(frame, value)
        known = all(one["old"] != RESET for one in plan.record["gpus"])
        if known:
            return plan
        lock = plan.value != RESET
        unknown = "not known" if not lock else "not known (none that qtop made)"
        return replace(
            plan,
            summary=f"{self.word}: {'lock to ' if lock else ''}{self.shown_as(plan.value)}",
            preview=tuple(f"{one['what']}: {unknown} → {self.shown_as(one['new'])}" for one in plan.record["gpus"]),
            warnings=(
                "no driver tells which lock is in force: "
                + ("one that somebody else made is replaced, and undo does not bring it back" if lock else UNTOLD),
            ),
            undone="`qtop undo` lifts the lock: clocks are then the driver's to choose"
            if lock
            else "nothing undoes it",
            keep="" if lock else "always",
        )

    def put(self, card: Card, value: str) -> None:
        """Lock, or lift."""
        if value == RESET:
            card.call("ResetGpuLockedClocks")
        else:
            card.call("SetGpuLockedClocks", *(int(one) for one in value.split(",")))

    def valid(self, card: Card, value: str) -> bool:
        """Within what the card can do."""
        return value == RESET or _within(value, int(card.get("MaxClockInfo", SM_CLOCK)))

    def apply(self, record: Record, work: Work) -> None:
        """Each GPU is in the journal as asked before it is asked."""
        for one in record["gpus"]:
            if one["phase"] == OLD:
                one["phase"] = ASKED
                work.save()
                self._ask(one, "new")
                one["phase"] = NEW
                work.save()

    def restore(self, record: Record, work: Work) -> None:
        """The lock from before, or none. What nobody can know is left alone: a lock that was lifted."""
        for one in record["gpus"] if record["boot"] == boot_id() else ():
            if one["phase"] != OLD and not _untold(one):
                one["phase"] = ASKED
                work.save()
                self._ask(one, "old")
                one["phase"] = OLD
                work.save()

    def _ask(self, one: Entry, which: str) -> None:
        """Set a GPU to this state of its entry; returns once its clock is within it, or after ``TAKES_S``: then whoever
        reads back finds that it is not."""

        def work(driver: Driver) -> None:
            card = driver.card(one["uuid"])
            self.put(card, one[which])
            deadline = time.monotonic() + TAKES_S
            while _above(card, one[which]) is not None and time.monotonic() < deadline:
                time.sleep(0.1)

        with suppress(GpuGone):
            visit(work, self.word)

    def _read(self, driver: Driver, record: Record, reading: Reading) -> None:
        """By what was asked, and by the clock that runs now. A lock that was lifted without knowing it is no target."""
        for one in record["gpus"]:
            if one["phase"] != OLD and _untold(one):
                continue
            what = f"{self.word} of {one['what']}"
            try:
                card = driver.card(one["uuid"])
                above = _above(card, one["new"]) if one["phase"] == NEW else None
            except GpuGone:
                reading.put(what, one["old"], one["new"], None)
                continue
            if above is not None:
                reading.targets += 1
                old, new = self.shown_as(one["old"]), self.shown_as(one["new"])
                reading.drifted.append(Drift(what, old, new, f"{above} MHz: the lock is not in force"))
            else:
                reading.put(what, one["old"], one["new"], one["old"] if one["phase"] == OLD else one["new"])

    def check(self, record: Record) -> None:
        """Also the phases."""
        super().check(record)
        if not all(one["phase"] in (OLD, ASKED, NEW) for one in record["gpus"]):
            raise Refused("this is no record of a change")


UNTOLD = "the one that is lifted cannot be brought back"


def _untold(one: Entry) -> bool:
    """Whether a lock was lifted, or not, that nobody knows."""
    return bool(one["old"] == RESET and one["new"] == RESET)


def _within(value: str, most: int) -> bool:
    found = RANGE.fullmatch(value)
    return found is not None and 0 < int(found[1]) <= int(found[2]) <= most


def _above(card: Card, lock: str) -> int | None:
    """The clock where it runs above a lock, in MHz; else None."""
    if lock == RESET:
        return None
    mhz = int(card.get("ClockInfo", SM_CLOCK))
    return mhz if mhz > int(lock.split(",")[1]) + STEP_MHZ else None


def _locked_by_qtop(uuid: str) -> str | None:
    """The latest lock of this boot that this user's journal has in force on a GPU."""
    try:
        changes = Journal().in_force()
    except QtopError:
        return None
    for change in changes:
        for part in change.parts:
            if part.knob == GpuClocks.id and part.record.get("boot") == boot_id():
                for one in part.record.get("gpus", ()):
                    if one.get("uuid") == uuid and one.get("phase") != OLD:
                        return str(one["new"])
    return None
