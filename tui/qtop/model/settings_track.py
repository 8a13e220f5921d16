"""The configuration in force from tick to tick."""

from __future__ import annotations

from qtop.model.frame import Frame
from qtop.model.settings import CONFIG_INFO, SettingsView, in_force, with_cap
from qtop.model.vllm_defaults import Gpu
from qtop.sample import NOT_YET, Absent, Sample, ServerInfo


class SettingsTrack:
    """The configuration in force, weighed anew only when something that it rests on has changed."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._held: tuple[ServerInfo | Absent, SettingsView | Absent] = (NOT_YET, NOT_YET)
        self._config_info = ""

    def push(self, frame: Frame, sample: Sample) -> tuple[ServerInfo | Absent, SettingsView | Absent]:
        """The server, with what its settings add, and the settings."""
        server = sample.server
        if isinstance(server, Absent):
            self._config_info = ""
            return server, server
        if not isinstance(sample.engine, Absent) and self._config_info not in sample.engine.series:
            self._config_info = next((key for key in sample.engine.series if key.startswith(CONFIG_INFO)), "")
        key = (server, self._config_info, _gpus(frame, sample))
        if key != self._key:
            view = in_force(*key)
            self._key, self._held = key, (with_cap(server, view), view)
        return self._held


def _gpus(frame: Frame, sample: Sample) -> tuple[Gpu, ...]:
    """The GPUs that the server's processes are on; all of them where that cannot be told."""
    if isinstance(frame.gpus, Absent):
        return ()
    pids = set() if isinstance(sample.procs, Absent) else {process.pid for process in sample.procs.processes}
    known: list[Gpu] = []
    own: list[Gpu] = []
    for view in frame.gpus:
        if isinstance(view.mem_total, Absent) or isinstance(view.name, Absent):
            continue
        gpu = Gpu(view.mem_total, view.name)
        known.append(gpu)
        if not isinstance(view.processes, Absent) and not pids.isdisjoint(one.pid for one in view.processes):
            own.append(gpu)
    return tuple(own or known)
