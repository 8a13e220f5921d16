"""The configuration in force from tick to tick."""

from __future__ import annotations

from qtop.model.frame import Frame, LaunchView
from qtop.model.settings import CONFIG_INFO, SettingsView, in_force, with_cap
from qtop.model.vllm_defaults import Gpu
from qtop.sample import NOT_YET, Absent, Launch, Sample, ServerInfo


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


class LaunchTrack:
    """The server that starts, its settings weighed anew only when they or the GPUs have changed."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._view: SettingsView | Absent = NOT_YET

    def push(self, frame: Frame, sample: Sample) -> LaunchView | None:
        """The view of this tick, None where the sample has none."""
        launch = sample.launch
        if not isinstance(launch, Launch):
            return None
        key = (launch.info, _gpus(frame, sample))
        if key != self._key:
            self._key, self._view = key, in_force(launch.info, "", key[1])
        started = launch.info.started
        until = launch.ended or sample.t
        lived = started if isinstance(started, Absent) else max(0.0, until - started)
        return LaunchView(launch.info, self._view, launch.ended > 0, lived)


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
