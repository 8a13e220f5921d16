"""NVIDIA's Xid errors in words (source: docs.nvidia.com/deploy/xid-errors, the catalog for Ampere and newer, and the
older table): how bad, what it means, what to do."""

from __future__ import annotations

import msgspec

from qtop.diagnose.rule import Severity


class Meaning(msgspec.Struct, frozen=True):
    """One code."""

    severity: Severity
    words: str
    action: str


_RESTART = "restart the application that caused it"
_RESET = "reset it or reboot, then restart the server"
_WATCH = "if it comes again, have it checked"
_SUPPORT = "have the GPU exchanged"


def _rows(severity: Severity, action: str, **words: str) -> dict[int, Meaning]:
    return {int(code[1:]): Meaning(severity, text, action) for code, text in words.items()}


MEANINGS: dict[int, Meaning] = {
    # An application's own errors: the process ends, the GPU goes on.
    **_rows(
        Severity.WARNING,
        _RESTART,
        x8="the GPU stopped processing a command",
        x11="an invalid command stream",
        x13="a kernel failed (an exception in the compute engine)",
        x31="a kernel used memory that is not its own (page fault)",
        x32="an invalid command stream",
        x43="an application's work failed and was stopped",
        x68="an exception in the video engine",
        x69="an exception in the graphics engine",
        x109="a context switch timed out",
    ),
    # Left behind by a process that was ended, a crash included: on its own it is no fault.
    **_rows(Severity.INFO, "nothing, if somebody ended a process", x45="work of a process that ended was removed"),
    **_rows(Severity.INFO, _WATCH, x121="an error on the CPU–GPU link was corrected"),
    # The memory mends itself, and wants to be watched.
    **_rows(
        Severity.WARNING,
        "reset it when convenient",
        x63="a bad row of memory is marked for replacement",
        x156="a bad part is marked for replacement",
    ),
    **_rows(Severity.WARNING, _WATCH, x92="many memory errors were corrected"),
    **_rows(Severity.WARNING, _RESTART, x94="an uncorrectable memory error of one process"),
    **_rows(Severity.WARNING, "see nvidia-smi -q: GPU Recovery Action", x154="the driver asks for an action"),
    # The GPU, or what is on it, cannot be trusted any more.
    **_rows(
        Severity.CRITICAL,
        _RESET,
        x46="the GPU stopped processing",
        x48="an uncorrectable memory error (double bit ECC)",
        x61="its power controller stopped",
        x62="its power controller halted",
        x95="a memory error that may have hit every process",
        x110="a security fault",
        x119="its firmware (GSP) does not answer",
        x120="its firmware (GSP) failed",
        x140="unrecovered ECC errors",
        x143="the GPU could not be initialised",
        x158="a fatal time-out",
    ),
    **_rows(
        Severity.CRITICAL,
        _SUPPORT,
        x64="a bad row of memory could not be replaced",
        x157="a bad part could not be replaced",
    ),
    **_rows(
        Severity.CRITICAL,
        "check the bridges (nvidia-smi nvlink -e)",
        x74="an NVLink error",
        **{f"x{code}": "an NVLink error" for code in (137, *range(144, 151), 155)},
    ),
    **_rows(Severity.CRITICAL, "reboot; check its seat, power and temperature", x79="the GPU fell off the PCIe bus"),
}
UNKNOWN = Meaning(Severity.WARNING, "not in qtop's table", "see NVIDIA's Xid catalog")


def meaning(code: int) -> Meaning:
    """What a code means."""
    return MEANINGS.get(code, UNKNOWN)
