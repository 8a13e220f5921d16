"""What the rules about configuration share: whose configuration it is, and answers that change only with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from qtop.diagnose.rule import CannotTell, NotApplicable
from qtop.diagnose.rules.common import gpus_of
from qtop.model.frame import Frame, GpuView
from qtop.model.settings import SettingsView
from qtop.model.vllm_defaults import Version, version_of
from qtop.sample import Absent, ServerInfo, Setting
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE

T = TypeVar("T")
K = TypeVar("K")
NOT_VLLM = NotApplicable("vLLM only")
OTHER_ENGINE = {
    engine: NotApplicable(f"vLLM only, and this is {name}")
    for engine, name in (("llamacpp", "llama.cpp"), ("sglang", "SGLang"), ("ollama", "Ollama"), ("tgi", "TGI"))
}


class Memo(Generic[K, T]):
    """The last result for the last argument, by its identity: arguments never change."""

    def __init__(self, make: Callable[[K], T]) -> None:
        self._make = make
        self._held: tuple[K, T] | None = None

    def __call__(self, key: K) -> T:
        held = self._held
        if held is not None and held[0] is key:
            return held[1]
        made = self._make(key)
        self._held = (key, made)
        return made


class Held:
    """The settings of a view by name, with their numbers, found once."""

    def __init__(self, view: SettingsView) -> None:
        self._view = view
        self._numbers: dict[str, float | None] = {}
        self.by_name = {one.name: one for group in view.groups.values() for one in group}
        self.of_cpu_build = any(name.startswith("VLLM_CPU_") for name in self.by_name)

    def number(self, name: str) -> float | None:
        """Its value as a number, None where it is none or nothing tells it."""
        if name not in self._numbers:
            self._numbers[name] = self._view.number(name)
        return self._numbers[name]


held: Memo[SettingsView, Held] = Memo(Held)
"""Asked by every rule of every frame: the view is the same for hours."""


class Subject(msgspec.Struct, frozen=True):
    """A vLLM server and how it stands."""

    info: ServerInfo
    settings: SettingsView | Absent
    starting: bool
    """It does not answer yet, or has ended before it did."""
    ended: bool


def subject_of(frame: Frame) -> Subject | CannotTell | NotApplicable:
    """The vLLM in hand, else the one that starts."""
    server, launch = frame.server, frame.launch
    if not isinstance(server, Absent):
        if server.engine == "vllm":
            return Subject(server, frame.settings, False, False)
        return OTHER_ENGINE.get(server.engine, NOT_VLLM)
    if launch is None:
        return CannotTell(server.detail or "no server")
    if launch.info.engine != "vllm":
        return OTHER_ENGINE.get(launch.info.engine, NOT_VLLM)
    return Subject(launch.info, launch.settings, True, launch.ended)


def running_vllm(frame: Frame) -> ServerInfo | CannotTell | NotApplicable:
    """The vLLM that answers."""
    server = frame.server
    if isinstance(server, Absent):
        return CannotTell(server.detail or "no server")
    return server if server.engine == "vllm" else OTHER_ENGINE.get(server.engine, NOT_VLLM)


def settings_of(frame: Frame) -> SettingsView | CannotTell | NotApplicable:
    """The configuration in force of the vLLM that answers."""
    server = running_vllm(frame)
    if not isinstance(server, ServerInfo):
        return server
    view = frame.settings
    return CannotTell(f"its configuration: {view}") if isinstance(view, Absent) else view


def argv_of(info: ServerInfo) -> tuple[str, ...] | CannotTell:
    """The command line, or why not."""
    return CannotTell(f"its command line: {info.argv}") if isinstance(info.argv, Absent) else info.argv


def version_text(info: ServerInfo) -> str | None:
    """The version, None where it is not known."""
    return None if isinstance(info.version, Absent) else info.version


def version_in(info: ServerInfo) -> Version | None:
    """The version as numbers."""
    return None if isinstance(info.version, Absent) else version_of(info.version)


def unreadable(frame: Frame, view: SettingsView) -> CannotTell | None:
    """That a flag may stand where nobody could read it, or that nobody has looked."""
    if isinstance(frame.server, ServerInfo) and isinstance(frame.server.settings, Absent):
        return CannotTell(f"its command line and files: {frame.server.settings}")
    for source in (COMMAND_LINE, CONFIG_FILE):
        if source in view.missing:
            return CannotTell(f"its {source}: {view.missing[source]}")
    return None


def is_chosen(one: Setting) -> bool:
    """Whether somebody set it, rather than a default."""
    return not one.source.startswith("default")


UNSATURATED = 0.75
"""A GPU that has a kernel running for less of the time, while requests run, is not fed as it could be."""


def host_gap(frame: Frame) -> float:
    """Share of the last ten seconds, 0–1, in which requests ran and the server's GPU had nothing to do, less what its
    threads waited for a CPU (that is another finding); 0 where nothing of the kind is seen."""
    util = frame.util
    if isinstance(util, Absent) or isinstance(util.running, Absent) or util.running < 1 or util.mean >= UNSATURATED:
        return 0.0
    return max(0.0, 1.0 - util.mean - (0.0 if isinstance(util.wait, Absent) else util.wait))


def gpus_in_use(frame: Frame) -> tuple[GpuView, ...] | CannotTell | NotApplicable:
    """The GPUs of the server in hand, or why a rule about GPUs does not apply or cannot tell."""
    if isinstance(frame.server, ServerInfo) and cpu_build(frame.server, frame.settings):
        return CPU_BUILD
    return gpus_of(frame)


CPU_BUILD = NotApplicable("the CPU build has no use for it")


def cpu_build(info: ServerInfo, view: SettingsView | Absent) -> bool:
    """Whether this vLLM computes on the CPU."""
    if isinstance(info.version, str) and info.version.endswith("cpu"):
        return True
    return not isinstance(view, Absent) and held(view).of_cpu_build
