"""QT410: vLLM's development routes can be reached from other machines."""

from __future__ import annotations

from ipaddress import ip_address

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Memo, running_vllm, version_text
from qtop.model.frame import Frame
from qtop.model.settings import SettingsView
from qtop.sample import Absent, ServerInfo, Setting
from qtop.sample.settings import ENVIRONMENT, OPENAPI

OPEN = 1.0
ROUTES = "/collective_rpc, /sleep, /pause, /reset_prefix_cache"


class DevModeReachable(Rule):
    """1: development mode is on and the port is bound to an address that is not loopback."""

    id = "QT410"
    title = "dev mode reachable from outside"
    enter = (Enter(Severity.WARNING, at=OPEN, seconds=2.0, of=2.0),)
    clear = Clear(below=OPEN / 2, seconds=2.0)

    def __init__(self) -> None:
        self._mode: Memo[SettingsView, Setting | CannotTell | None] = Memo(_mode)

    def look(self, frame: Frame) -> Answer:
        """The mode by its environment or its routes, and where it listens."""
        server = running_vllm(frame)
        if not isinstance(server, ServerInfo):
            return server
        view = frame.settings
        if isinstance(view, Absent):
            return CannotTell(f"its configuration: {view}")
        mode = self._mode(view)
        if isinstance(mode, CannotTell):
            return mode
        if mode is None:
            if isinstance(server.settings, Absent):
                return CannotTell(f"its environment: {server.settings}")
            return Observed(0.0, _off, figure="")
        if isinstance(server.bound, Absent):
            return CannotTell(f"it is in development mode; where it listens: {server.bound}")
        value = 0.0 if _is_loopback(server.bound) else OPEN
        bound = server.bound
        return Observed(value, lambda: _told(server, view, mode, bound, value), figure="")


def _mode(view: SettingsView) -> Setting | CannotTell | None:
    """The setting that turns it on; None where it is off."""
    one = view.get("VLLM_SERVER_DEV_MODE")
    if one is not None:
        value = one.value.strip().lstrip("+-")  # bool(int(…)), as vLLM's envs.py reads it
        return one if (value.isdigit() and int(value) != 0) or value == "on" else None
    for source in (ENVIRONMENT, OPENAPI):
        if source in view.missing:
            return CannotTell(f"its {source}: {view.missing[source]}")
    return None


def _is_loopback(bound: str) -> bool:
    try:
        return all(ip_address(one.strip()).is_loopback for one in bound.split(","))
    except ValueError:
        return False


def _told(server: ServerInfo, view: SettingsView, mode: Setting, bound: str, value: float) -> Told:
    key = view.get("VLLM_API_KEY") or view.get("api_key")
    lines = (
        Evidence(mode.name, mode.value, "", None, mode.source),
        Evidence("open to whoever reaches its port", ROUTES, "", None, mode.note or "routers.py: in development mode"),
        Evidence("it listens on", bound, "", None, "/proc/net/tcp"),
        Evidence("API key", "set, but it guards only /v1 and the like" if key is not None else "none seen", ""),
        Evidence("version", version_text(server) or "not known", ""),
    )
    if value < OPEN:
        return Told("development mode, on loopback only", lines)
    where = "every address" if {"0.0.0.0", "::"} & {one.strip() for one in bound.split(",")} else bound
    return Told(
        f"DEV MODE IS REACHABLE on {where}: anyone may command its workers; "
        "unset VLLM_SERVER_DEV_MODE or use --host 127.0.0.1",
        lines,
    )


def _off() -> Told:
    return Told("development mode is off", ())


RULE = DevModeReachable()
