"""NVML for the GPU knobs: a few calls on GPUs named by UUID, in a thread of their own: a sick GPU may hang them.

NVML counts its users within a process: opening and closing it here takes nothing from whoever reads GPUs meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from qtop.act.within import TooLong, within
from qtop.collect.nvml_errors import NO_PERMISSION, NOT_FOUND, code_why, text_of
from qtop.errors import Refused

T = TypeVar("T")
LIMIT_S = 20.0
"""A driver without persistence wakes each GPU first, which takes seconds."""
UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
SM_CLOCK = 1
"""NVML_CLOCK_SM."""


class GpuGone(Exception):
    """The driver does not list this GPU."""


class Card:
    """One GPU while the driver is open."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        self._nvml = nvml
        try:
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        except nvml.NVMLError as error:
            if code_why(nvml, error)[0] == NOT_FOUND:
                raise GpuGone from None
            raise

    def get(self, name: str, *arguments: Any) -> Any:
        """What nvmlDeviceGet``name`` gives."""
        return getattr(self._nvml, f"nvmlDeviceGet{name}")(self._handle, *arguments)

    def call(self, name: str, *arguments: Any) -> None:
        """nvmlDevice``name``, for what it does."""
        getattr(self._nvml, f"nvmlDevice{name}")(self._handle, *arguments)

    @property
    def name(self) -> str:
        """The product's."""
        return text_of(self.get("Name"))


class Driver:
    """The open driver."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def card(self, uuid: str) -> Card:
        """The GPU of this UUID; GpuGone where there is none."""
        return Card(self._nvml, uuid)


def _visited(work: Callable[[Driver], T], what: str) -> T:
    try:
        import pynvml
    except ImportError:
        raise Refused("the Python package nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except Exception as error:
        raise Refused(f"no NVIDIA driver answers here: {code_why(pynvml, error)[1].detail}") from None
    try:
        return work(Driver(pynvml))
    except (pynvml.NVMLError, AttributeError) as error:
        code, why = code_why(pynvml, error)
        if code == NO_PERMISSION:
            raise Refused(f"{what}: the NVIDIA driver denies it to this user", "It takes root.") from None
        raise Refused(f"{what}: {why.detail}") from None
    finally:
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            pass


def visit(work: Callable[[Driver], T], what: str) -> T:
    """What ``work`` gives with the driver open. Errors: Refused in one line that begins with ``what``, also when the
    driver does not answer within LIMIT_S; GpuGone."""
    try:
        return within(LIMIT_S, lambda: _visited(work, what), "qtop-nvml")
    except TooLong:
        raise Refused(
            f"{what}: the NVIDIA driver did not answer within {LIMIT_S:.0f} s", "See the kernel log (Xid)."
        ) from None
