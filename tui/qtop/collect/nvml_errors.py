"""What an nvmlReturn_t means for a reading. NVML is passed in, never imported."""

from __future__ import annotations

from typing import Any

from qtop.sample import Absent, Why

# nvmlReturn_t, as nvml.h fixes it; older bindings lack names for the newer ones.
UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE = 1, 2, 3, 4, 6, 7
DRIVER_NOT_LOADED, TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED = 9, 10, 13, 15, 16
DRIVER_MISMATCH, VERSION_MISMATCH, DEPRECATED, GPU_NOT_FOUND = 18, 25, 26, 28
GPU_GONE = frozenset({GPU_IS_LOST, RESET_REQUIRED})
ALL_GONE = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, DRIVER_MISMATCH})

NOT_OFFERED = Absent(Why.UNSUPPORTED, "this GPU or driver does not offer it")
_WHY = {
    **dict.fromkeys((NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH, DEPRECATED), NOT_OFFERED),
    NO_PERMISSION: Absent(Why.DENIED, "the NVIDIA driver denies it to this user"),
    GPU_IS_LOST: Absent(Why.LOST, "the GPU fell off the bus; the kernel log (Xid) says why"),
    RESET_REQUIRED: Absent(Why.LOST, "the GPU needs a reset (nvidia-smi --gpu-reset)"),
    **dict.fromkeys((NOT_FOUND, GPU_NOT_FOUND), Absent(Why.LOST, "the NVIDIA driver does not find it")),
    UNINITIALIZED: Absent(Why.LOST, "the connection to the NVIDIA driver was lost"),
    DRIVER_NOT_LOADED: Absent(Why.LOST, "the NVIDIA driver is not loaded (modprobe nvidia)"),
    DRIVER_MISMATCH: Absent(Why.FAILED, "the NVIDIA driver was updated: reload it or reboot, then restart qtop"),
}


class GpuLost(Exception):
    """This GPU answers nothing any more; the others may."""

    def __init__(self, why: Absent) -> None:
        super().__init__(why.detail)
        self.why = why


class DriverGone(Exception):
    """NVML as a whole has to be opened again."""

    def __init__(self, why: Absent) -> None:
        super().__init__(why.detail)
        self.why = why


def text_of(value: bytes | str) -> str:
    """NVML's text; pynvml hands out bytes from some functions and str from others."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def meaning(nvml: Any, code: int) -> Absent:
    """What an nvmlReturn_t means for a reading; a code without a meaning here comes with NVML's own words."""
    known = _WHY.get(code)
    if known is not None:
        return known
    try:
        return Absent(Why.FAILED, f"NVML: {text_of(nvml.nvmlErrorString(code))}")
    except Exception:
        return Absent(Why.FAILED, f"NVML error {code}")


def refused(nvml: Any, code: int) -> Absent:
    """What an nvmlReturn_t other than 0 means for a reading. Raises GpuLost or DriverGone where none can follow."""
    why = meaning(nvml, code)
    if code in GPU_GONE:
        raise GpuLost(why)
    if code in ALL_GONE:
        raise DriverGone(why)
    return why


def code_why(nvml: Any, error: Exception) -> tuple[int, Absent]:
    """The nvmlReturn_t of a failed call (0 if it has none) and why it failed.

    pynvml raises more than NVMLError: a mismatch error for a missing function, AttributeError for one that it does not
    know itself, UnicodeDecodeError for text that is none.
    """
    if isinstance(error, nvml.NVMLError):
        code = int(getattr(error, "value", 0))
        return code, meaning(nvml, code)
    if isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError":
        return 0, NOT_OFFERED
    return 0, Absent(Why.FAILED, f"NVML answered what cannot be read ({type(error).__name__})")
