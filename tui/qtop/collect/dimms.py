"""The memory modules, without root, from what udev wrote down at boot (source: systemd's dmi_memory_id, which turns
DMI type 17 into MEMORY_DEVICE_<n>_* properties of /sys/devices/virtual/dmi/id)."""

from __future__ import annotations

import re

from qtop.sample import Absent, Dimm, Reading, Why

_PROPERTY = re.compile(r"^E:MEMORY_DEVICE_(\d+)_(\w+)=(.*)$", re.MULTILINE)
_PLAIN = re.compile(r"[^\w .:/#-]+")
_TEXT_CHARS = 32


def parse_dimms(text: str | Absent) -> tuple[tuple[Dimm, ...] | Absent, Reading[int]]:
    """The populated slots of a udev database file, and how many slots there are."""
    if isinstance(text, Absent):
        why = Absent(text.why, "the memory modules are not in udev's database (containers, VMs, systemd before 248)")
        return why, why
    slots: dict[int, dict[str, str]] = {}
    for number, name, value in _PROPERTY.findall(text):
        slots.setdefault(int(number), {})[name] = value
    if not slots:
        none = Absent(Why.UNSUPPORTED, "the firmware does not list its memory modules")
        return none, none
    found = []
    for _, fields in sorted(slots.items()):
        size = fields.get("SIZE", "")
        if fields.get("PRESENT") == "0" or not size.isdecimal() or int(size) == 0:
            continue
        found.append(
            Dimm(
                locator=_text(fields.get("LOCATOR", "")),
                bank=_text(fields.get("BANK_LOCATOR", "")),
                bytes=int(size),
                kind=_text(fields.get("TYPE", "")),
                rated_mts=_number(fields, "SPEED_MTS"),
                configured_mts=_number(fields, "CONFIGURED_SPEED_MTS"),
                width_bits=_number(fields, "DATA_WIDTH"),
            )
        )
    return tuple(found), len(slots)


def _text(value: str) -> str:
    return _PLAIN.sub("", value).strip()[:_TEXT_CHARS]


def _number(fields: dict[str, str], name: str) -> Reading[int]:
    value = fields.get(name, "")
    if value.isdecimal() and int(value) > 0:
        return int(value)
    return Absent(Why.UNSUPPORTED, "the firmware does not say")
