"""The knobs ``gpu-persistence`` and ``gpu-power-limit``: what NVML sets and tells."""

from __future__ import annotations

from dataclasses import replace

from qtop.act.change import Plan
from qtop.act.knobs.gpu import GpuKnob
from qtop.act.knobs.nvml_hand import Card
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, GpuView

MODES = ("off", "on")


class GpuPersistence(GpuKnob):
    """nvmlDeviceSetPersistenceMode: whether the driver keeps a GPU awake that nobody uses."""

    id = "gpu-persistence"
    title = "persistence mode of the server's GPUs"
    example = "on"
    word = "persistence mode"

    def now(self, card: Card) -> str:
        """On or off."""
        return MODES[1 if card.get("PersistenceMode") else 0]

    def put(self, card: Card, value: str) -> None:
        """On or off."""
        card.call("SetPersistenceMode", MODES.index(value))

    def asked(self, card: Card, value: str | None) -> str:
        """On, unless asked otherwise."""
        if value not in (None, *MODES):
            raise QtopError(f"gpu-persistence cannot be {value!r}", "It takes on or off.")
        return value or "on"

    def valid(self, card: Card, value: str) -> bool:
        """One of the two."""
        return value in MODES

    def command(self, gpu: GpuView, value: str) -> str:
        """nvidia-smi's."""
        return f"nvidia-smi -i {gpu.uuid} -pm {MODES.index(value)}"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """It shows once nobody uses the GPU: no measurement can tell it."""
        plan = super().plan(frame, value)
        note = "it counts while no process uses the GPU: the next start of a server is quicker, a running one unchanged"
        return replace(plan, preview=(*plan.preview, note), keep="unless worse")


class GpuPowerLimit(GpuKnob):
    """nvmlDeviceSetPowerManagementLimit, in whole watts; records hold mW."""

    id = "gpu-power-limit"
    title = "power limit of the server's GPUs, in watts"
    example = "450 or default"
    word = "power limit"

    def now(self, card: Card) -> str:
        """mW."""
        return str(card.get("PowerManagementLimit"))

    def put(self, card: Card, value: str) -> None:
        """mW."""
        card.call("SetPowerManagementLimit", int(value))

    def asked(self, card: Card, value: str | None) -> str:
        """Within what the card takes; without a value its default, where somebody has lowered it."""
        low, high = card.get("PowerManagementLimitConstraints")
        default = int(card.get("PowerManagementDefaultLimit"))
        if value is None:
            now = int(self.now(card))
            if now >= default:
                raise Refused(
                    f"the power limit is {now / 1000:.0f} W, no lower than the card's default: nothing to gain",
                    f"Name one from {low / 1000:.0f} to {high / 1000:.0f} W.",
                )
            return str(default)
        if value == "default":
            return str(default)
        if not (value.isascii() and value.isdigit() and len(value) <= 5 and low <= int(value) * 1000 <= high):
            raise QtopError(
                f"gpu-power-limit cannot be {value!r}",
                f"This card takes {-(-low // 1000)} to {high // 1000} W, or default.",
            )
        return str(int(value) * 1000)

    def valid(self, card: Card, value: str) -> bool:
        """Within what the card takes."""
        low, high = card.get("PowerManagementLimitConstraints")
        return value.isascii() and value.isdigit() and len(value) <= 9 and low <= int(value) <= high

    def shown_as(self, value: str) -> str:
        """In W."""
        return f"{int(value) / 1000:g} W"

    def spelled(self, value: str) -> str:
        """As asked for: whole watts, or the default, which need not be."""
        return "default" if int(value) % 1000 else str(int(value) // 1000)

    def command(self, gpu: GpuView, value: str) -> str:
        """nvidia-smi's."""
        return f"nvidia-smi -i {gpu.uuid} -pl {int(value) / 1000:g}"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """What more or less power means."""
        plan = super().plan(frame, value)
        raised = any(int(one["new"]) > int(one["old"]) for one in plan.record["gpus"])
        lowered = any(int(one["new"]) < int(one["old"]) for one in plan.record["gpus"])
        warnings = (
            *(("more power is more heat: somebody may have lowered the limit for a reason",) if raised else ()),
            *(("a lower limit lowers the clock under load: prompts get slower first",) if lowered else ()),
        )
        # One value for all is what the user wrote; where it is the default, each card has its own.
        differ = len({one["new"] for one in plan.record["gpus"]}) > 1
        return replace(plan, warnings=warnings, value="default" if differ else plan.value)
