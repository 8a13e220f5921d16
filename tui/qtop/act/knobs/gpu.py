"""What the knobs on GPUs share: one value for each GPU of the server, through NVML. Live, root.

A record: {"boot", "new": the value as a user writes it, "gpus": [{"uuid", "what", "old", "new"}, …]}. The values are
gone with the next load of the driver. A GPU is its UUID: its number may change.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.act.knobs.nvml_hand import UUID, Card, Driver, GpuGone, visit
from qtop.clock import boot_id
from qtop.errors import Refused
from qtop.model.frame import Frame, GpuView
from qtop.model.roofline import gpus_of_server
from qtop.sample import Absent

Entry = dict[str, Any]
"""One GPU of a record."""


class GpuKnob(Knob):
    """One value of each of the server's GPUs."""

    needs = "root"
    word: ClassVar[str]
    """What the value is."""
    settle_s: ClassVar[float] = 2.0

    def now(self, card: Card) -> str:
        """The GPU's value."""
        raise NotImplementedError

    def put(self, card: Card, value: str) -> None:
        """Set it."""
        raise NotImplementedError

    def asked(self, card: Card, value: str | None) -> str:
        """The value for this GPU that the user's word, or qtop's proposal, means.

        Errors: Refused where there is nothing to gain, QtopError for what this GPU cannot be set to.
        """
        raise NotImplementedError

    def valid(self, card: Card, value: str) -> bool:
        """For the helper: whether this GPU can be set to it."""
        raise NotImplementedError

    def shown_as(self, value: str) -> str:
        """A value for a person."""
        return value

    def command(self, gpu: GpuView, value: str) -> str:
        """What sets it by hand."""
        raise NotImplementedError

    def entry(self, gpu: GpuView, card: Card, value: str | None) -> Entry:
        """What a record says of one GPU."""
        old = self.now(card)
        return {"uuid": gpu.uuid, "what": f"GPU {gpu.index} ({card.name})", "old": old, "new": self.asked(card, value)}

    def differs(self, entry: Entry) -> bool:
        """Whether there is anything to change."""
        return bool(entry["old"] != entry["new"])

    def entries(self, frame: Frame, value: str | None) -> list[tuple[GpuView, Entry]]:
        """Those of the server's GPUs that hold another value now."""
        gpus = servers_gpus(frame)

        def look(driver: Driver) -> list[tuple[GpuView, Entry]]:
            return [(gpu, self.entry(gpu, driver.card(str(gpu.uuid)), value)) for gpu in gpus]

        try:
            found = visit(look, self.word)
        except GpuGone:
            raise Refused("a GPU of the server is gone", "See the kernel log (Xid).") from None
        changing = [(gpu, entry) for gpu, entry in found if self.differs(entry)]
        if not changing:
            raise Refused(f"{self.word} is {self.shown_as(found[0][1]['new'])} already")
        return changing

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """One value for all GPUs of the server."""
        entries = self.entries(frame, value)
        new = self.shown_as(entries[0][1]["new"])
        many = f" of {len(entries)} GPUs" if len(entries) > 1 else ""
        return Plan(
            knob=self.id,
            value=value if value is not None else self.spelled(entries[0][1]["new"]),
            summary=f"{self.word}{many}: {self.shown_as(entries[0][1]['old'])} → {new}",
            preview=tuple(
                f"{one['what']}: {self.shown_as(one['old'])} → {self.shown_as(one['new'])}" for _, one in entries
            ),
            record={"boot": boot_id(), "new": new, "gpus": [one for _, one in entries]},
            command="; ".join(self.command(gpu, one["new"]) for gpu, one in entries[:2]),
            root=os.geteuid() != 0,
            right="root",
            undone="`qtop undo`, or the next load of the driver",
            settle_s=self.settle_s,
        )

    def spelled(self, value: str) -> str:
        """A GPU's value as a user would write it."""
        return value

    def apply(self, record: Record, work: Work) -> None:
        """Set each GPU that still holds its old value."""
        self._turn(record["gpus"], "old", "new")

    def restore(self, record: Record, work: Work) -> None:
        """Set back each that holds qtop's."""
        if record["boot"] == boot_id():
            self._turn(list(reversed(record["gpus"])), "new", "old")

    def _turn(self, entries: list[Entry], before: str, after: str) -> None:
        def work(driver: Driver) -> None:
            for one in entries:
                try:
                    card = driver.card(one["uuid"])
                except GpuGone:
                    continue
                if self.now(card) == one[before]:
                    self.put(card, one[after])

        visit(work, self.word)

    def read(self, record: Record) -> Reading:
        """What each GPU holds; gone after a new start of the host, which set them anew."""
        reading = Reading()
        if record["boot"] != boot_id():
            reading.targets = reading.gone = len(record["gpus"])
            return reading
        try:
            visit(lambda driver: self._read(driver, record, reading), self.word)
        except Refused as error:
            reading = Reading(elsewhere=error.message)
        return reading

    def _read(self, driver: Driver, record: Record, reading: Reading) -> None:
        for one in record["gpus"]:
            try:
                now = self.shown_as(self.now(driver.card(one["uuid"])))
            except GpuGone:
                reading.put(one["what"], one["old"], one["new"], None)
                continue
            reading.put(f"{self.word} of {one['what']}", self.shown_as(one["old"]), self.shown_as(one["new"]), now)

    def check(self, record: Record) -> None:
        """UUIDs of GPUs that are there, and values that they can be set to."""
        if not isinstance(record["boot"], str):
            raise Refused("this is no record of a change")

        def work(driver: Driver) -> None:
            for one in record["gpus"]:
                if not (isinstance(one["uuid"], str) and UUID.fullmatch(one["uuid"])):
                    raise Refused(f"no GPU: {one['uuid']!r}")
                card = driver.card(one["uuid"])
                for value in (one["old"], one["new"]):
                    if not (isinstance(value, str) and self.valid(card, value)):
                        raise Refused(f"{self.id} cannot be {value!r}")

        try:
            visit(work, self.word)
        except GpuGone:
            raise Refused("no GPU has this UUID") from None


def servers_gpus(frame: Frame) -> tuple[GpuView, ...]:
    """The GPUs that the server uses (where the driver does not say: the only one); Refused where none is known."""
    if isinstance(frame.gpus, Absent):
        raise Refused(str(frame.gpus.detail or frame.gpus))
    gpus = gpus_of_server(frame.gpus)
    if not gpus:
        raise Refused("which GPUs the server uses is not known", "Run qtop where its processes can be seen.")
    if any(isinstance(gpu.uuid, Absent) for gpu in gpus):
        raise Refused("a GPU of the server does not say who it is (UUID)")
    return gpus
