"""Row 1: who is watched, since when, and what qtop itself does and costs; and the key line at the bottom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qtop.model.frame import Frame, LaunchView, OwnView
from qtop.sample import NOT_RECORDED, Absent, Reading, ServerInfo
from qtop.ui.cells import clean, fit, fit_middle, width_of
from qtop.ui.look import Line, Look
from qtop.ui.panels.server import ENGINES
from qtop.units import NONE, clock, duration, percent


@dataclass(frozen=True)
class Status:
    """What the screen itself is doing."""

    interval: float
    replay: str = ""
    """Where a replay stands, as "0:12 / 0:18 ×1"."""
    paused: str = ""
    """How far back a paused screen shows, as "12 s back"; "now" when at the latest."""
    recording_s: float | None = None
    with_prompts: bool = False
    """The recording keeps what test prompts ask and what is answered."""
    busy: str = ""
    """A change under way."""
    choices: int = 0
    """Servers among which the user has to choose."""


LEAST_KEYS = 54
"""Columns of keys that stay before there is room for the cost."""
LEAST_NAME = 12
"""Cells of a model's name that stay when the row is narrow."""


def header_line(look: Look, frame: Frame, status: Status, width: int) -> Line:
    """Left: the server. Right: recording, pause, interval, keys; on a narrow terminal the last go first."""
    left: Line = (look.seg(" qtop ", "title"), look.seg(" "))
    room = width - sum(width_of(segment.text) for segment in left) - 1
    state = _state(look, status, width)
    side = [_keys(look), _pace(look, status)]
    taken = sum(_cells(group) for group in state)
    kept = 0
    for least, group in zip((20, 28), side, strict=True):  # who is watched matters more
        if room - taken - _cells(group) < least:
            break
        taken += _cells(group)
        kept += 1
    right = [*side[1:kept], *side[: min(kept, 1)]]
    room = max(0, room - taken)
    who = _who(frame, room)
    pad = look.seg(" " * max(1, room - width_of(who) + 1))
    return (*left, look.seg(who, "accent"), pad, *(segment for group in (*state, *right) for segment in group))


def _cells(group: Line) -> int:
    return sum(width_of(segment.text) for segment in group)


def _who(frame: Frame, room: int) -> str:
    """Model, engine, port, age: the age goes first, then the end of the model's name."""
    server = frame.server
    if not isinstance(server, ServerInfo):
        return fit("no server" if frame.launch is None else _launch(frame.launch), room)
    model = clean((server.model if isinstance(server.model, str) else "?").rpartition("/")[2])
    version = f" {server.version}" if isinstance(server.version, str) else ""
    port = f" :{server.url.rpartition(':')[2]}" if isinstance(server.url, str) else ""
    where = clean(f" · {ENGINES.get(server.engine, server.engine)}{version}{port}")
    up = f" · up {_age(frame.t - server.started)}" if not isinstance(server.started, Absent) else ""
    if width_of(model + where + up) <= room:
        return model + where + up
    return fit(fit(model, max(LEAST_NAME, room - width_of(where))) + where, room)


def _launch(launch: LaunchView) -> str:
    """A server that does not answer yet, or never did."""
    info = launch.info
    version = f" {info.version}" if isinstance(info.version, str) else ""
    fate = "ended before it answered" if launch.ended else "is starting"
    return clean(f"{ENGINES.get(info.engine, info.engine)}{version} {fate}")


def _age(seconds: float) -> str:
    """In minutes from the start: an age in seconds is a redraw each second."""
    return "< 2 min" if seconds < 120 else duration(seconds)


def _state(look: Look, status: Status, width: int) -> list[Line]:
    """What must be seen: a change under way, a replay, a pause, a recording."""
    groups: list[Line] = []
    if status.busy:
        groups.append((look.seg(f"{fit(status.busy, max(12, width // 5))}  ", "warn"),))
    if status.replay:
        groups.append((look.seg(f"▶ {status.replay}  ", "accent"),))
    if status.paused:
        groups.append((look.seg(f"PAUSED {status.paused}  ", "warn"),))
    if status.recording_s is not None:
        kept = " with prompts" if status.with_prompts else ""
        groups.append((look.seg(f"● REC {clock(status.recording_s)}{kept}  ", "crit", "app.record"),))
    return groups


def _pace(look: Look, status: Status) -> Line:
    return (look.seg(f"{status.interval:g} s  ", "label"),)


def _cost(look: Look, own: OwnView | Absent) -> Line:
    """What qtop itself takes: share of one core with its children, and what it writes to the terminal."""
    if not isinstance(own, OwnView):
        return ()
    return (look.seg(f"qtop {percent(own.cpu, 5)} CPU {_rate(own.tty_bytes_s)} ", "label"),)


def _rate(bytes_s: Reading[float]) -> str:
    """Always as wide, up to 99 kB/s: a figure that grows must not move its neighbours."""
    text = NONE
    if not isinstance(bytes_s, Absent):
        text = f"{bytes_s / 1000:.1f} kB/s" if bytes_s >= 50 else "<0.1 kB/s"
    return text.rjust(9)


def _keys(look: Look) -> Line:
    return (
        look.seg("q", "key", "app.quit"),
        look.seg(" quit  ", "label", "app.quit"),
        look.seg("?", "key", "app.help"),
        look.seg(" help ", "label", "app.help"),
    )


Key = tuple[str, str, str]
"""A key as it is shown, what it does, and the action of a click."""


def key_line(
    look: Look, width: int, keys: Iterable[Key], message: str = "", own: OwnView | Absent = NOT_RECORDED
) -> Line:
    """The keys, as many as fit, or for a few seconds what just happened; at the right end what qtop costs."""
    cost = _cost(look, own)
    taken = _cells(cost)
    if cost and not message and width - taken >= LEAST_KEYS:
        left = key_line(look, width - taken, keys)
        return (*left, look.seg(" " * (width - taken - _cells(left))), *cost)
    if message:
        return (look.seg(f" {fit_middle(message, width - 2)}", "accent"),)
    segments = [look.seg(" ")]
    used = 1
    for key, name, action in keys:
        cells = len(key) + len(name) + 3
        if used + cells > width:
            break
        used += cells
        segments += [look.seg(key, "key", action), look.seg(f" {name}  ", "label", action)]
    return tuple(segments)
