"""Critical errors (Xid) as the driver reports them: a thread that waits for NVML events."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from qtop.clock import wall
from qtop.collect.nvml_errors import NOT_SUPPORTED, TIMEOUT, code_why, meaning
from qtop.sample import NOT_YET, Absent, Why, Xid

_XID_CRITICAL = 0x8
"""nvmlEventTypeXidCriticalError."""
WAIT_MS = 500
"""One wait; what ``stop`` may have to wait for."""
_KEPT = 256
"""Events kept while nobody takes them."""

NO_EVENTS = Absent(Why.UNSUPPORTED, "this GPU or driver reports no Xid events")
_HANGS = Absent(Why.FAILED, "the driver does not come back from waiting for events")


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value


class XidWatcher:
    """At most one thread, a daemon, that waits in the driver; what it hears is fetched with ``take``."""

    def __init__(self, clock: Callable[[], float] = wall) -> None:
        self._clock = clock
        self._heard: deque[Xid] = deque(maxlen=_KEPT)
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._state: Absent | None = NOT_YET
        """Why nothing can be heard, None while it listens."""

    def start(self, nvml: Any, gpus: Mapping[int, Any]) -> None:
        """Listen to these GPUs, handles by index. While an earlier thread hangs in the driver, no other is started."""
        if self._thread is not None and self._thread.is_alive():
            self._state = _HANGS
            return
        self._stop = threading.Event()
        self._state = NOT_YET
        arguments = (nvml, dict(gpus), self._stop)
        self._thread = threading.Thread(target=self._run, args=arguments, name="qtop-xid", daemon=True)
        self._thread.start()

    def take(self) -> tuple[Xid, ...] | Absent:
        """What was heard since the last call; absent where nothing can be heard."""
        heard = []
        while self._heard:
            heard.append(self._heard.popleft())
        return tuple(heard) if heard or self._state is None else self._state

    def stop(self) -> bool:
        """End the thread; False if the driver holds it."""
        thread = self._thread
        if thread is None:
            return True
        self._stop.set()
        thread.join(4 * WAIT_MS / 1000)
        return not thread.is_alive()

    def _run(self, nvml: Any, gpus: dict[int, Any], stop: threading.Event) -> None:
        events: Any = None
        try:
            events = nvml.nvmlEventSetCreate()
            indexes = self._register(nvml, gpus, events)
            if not indexes:
                self._state = NO_EVENTS
                return
            self._state = None
            self._listen(nvml, events, indexes, stop)
        except Exception as error:
            why = code_why(nvml, error)[1]
            self._state = NO_EVENTS if why.why is Why.UNSUPPORTED else why
        finally:
            if events is not None:
                try:
                    nvml.nvmlEventSetFree(events)
                except Exception:
                    pass  # the driver that made it is gone

    def _register(self, nvml: Any, gpus: dict[int, Any], events: Any) -> dict[int | None, int]:
        """Index by address of the handle, of those GPUs that report Xid errors."""
        indexes: dict[int | None, int] = {}
        for index, handle in gpus.items():
            try:
                nvml.nvmlDeviceRegisterEvents(handle, _XID_CRITICAL, events)
            except nvml.NVMLError as error:
                if error.value == NOT_SUPPORTED:
                    continue
                self._state = code_why(nvml, error)[1]
            else:
                indexes[_address(handle)] = index
        return indexes

    def _listen(self, nvml: Any, events: Any, indexes: dict[int | None, int], stop: threading.Event) -> None:
        data = nvml.c_nvmlEventData_t()
        wait = nvml.nvmlLib.nvmlEventSetWait_v2
        there, milliseconds = ctypes.byref(data), ctypes.c_uint(WAIT_MS)
        while not stop.is_set():
            code = wait(events, there, milliseconds)
            if code == TIMEOUT:
                continue
            if code:
                self._state = meaning(nvml, code)
                return
            index = indexes.get(_address(data.device))
            if index is not None and data.eventType & _XID_CRITICAL:
                self._heard.append(Xid(self._clock(), index, int(data.eventData)))
