"""A colour scheme: the pens by name and the screen's own colours, read from a palette file and checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from rich.color import Color, ColorType
from rich.errors import StyleSyntaxError
from rich.style import Style

from qtop.errors import QtopError

PENS = (
    "text", "label", "title", "rule", "good", "warn", "crit", "accent", "key", "crit_bar", "warn_bar", "chart",
    "roofline", "stage_client", "stage_network", "stage_frontend", "stage_queue", "stage_prefill", "stage_decode",
    "cpu_wait",
)  # fmt: skip
"""Every pen that a panel may draw with."""
STAGES = ("client", "network", "frontend", "queue", "prefill", "decode", "cpu_wait")
"""The parts of the waterfall in their order; the pens of all but the last are called stage_NAME."""
DISTINCT_FILLS: Mapping[str, str] = {
    "client": "▄", "network": "▚", "frontend": "▓", "queue": "░", "prefill": "▀", "decode": "█", "cpu_wait": "▒",
}  # fmt: skip
"""One character a stage, for where colour does not tell them apart; neighbours differ in shape or in ink."""

Kind = Literal["truecolor", "ansi", "mono"]


class Screen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Table [screen]: what is not a pen. ``selected`` is the row under the cursor: both its colours, or, in the
    terminal's own, always "reverse"."""

    background: str = "default"
    panel: str = "default"
    border: str = "default"
    selected: str = "reverse"


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a palette file may hold. One with a ``base`` says what differs from that built-in palette."""

    about: str = ""
    kind: Kind | None = None
    base: str | None = None
    fills: Literal["solid", "distinct"] | None = None
    screen: dict[str, str] = {}
    pens: dict[str, str] = {}


@dataclass(frozen=True)
class Scheme:
    """A palette, checked. ``kind`` says which colours it uses: 24-bit, the terminal's own 16, or none at all."""

    name: str
    about: str
    kind: Kind
    distinct: bool
    """Stages of the waterfall have a character each, not only a colour."""
    screen: Screen
    pens: Mapping[str, Style]


def parse(name: str, text: bytes, base: Scheme | None = None) -> Scheme:
    """A palette file's scheme; QtopError with one line that names the fault (who calls adds the file's name).

    ``base`` is the scheme that the file names as such, already read: see ``base_of``.
    """
    file = _decode(text)
    kind = file.kind or (base.kind if base else None)
    if kind is None:
        raise QtopError('it says no kind: "truecolor", "ansi" or "mono"')
    if base and kind != base.kind:
        raise QtopError(f"its kind is {kind}, that of its base {base.name} is {base.kind}")
    if unknown := [pen for pen in file.pens if pen not in PENS]:
        raise QtopError(f"no pen is called {unknown[0]!r}")
    pens = {**(base.pens if base else {}), **{pen: _style(pen, told, kind) for pen, told in file.pens.items()}}
    if missing := [pen for pen in PENS if pen not in pens]:
        raise QtopError(f"it lacks the pens {', '.join(missing)}", 'base = "dark" takes them from there.')
    screen = _screen({**(msgspec.structs.asdict(base.screen) if base else {}), **file.screen}, kind)
    distinct = base.distinct if base else kind != "truecolor"
    if file.fills is not None:
        distinct = file.fills == "distinct"
    return Scheme(name, file.about or (base.about if base else ""), kind, distinct, screen, pens)


def base_of(text: bytes) -> str | None:
    """The built-in palette that a file builds upon, if any; QtopError if the file is none."""
    return _decode(text).base


def _decode(text: bytes) -> File:
    try:
        return msgspec.toml.decode(text, type=File)
    except (msgspec.DecodeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise QtopError(told if isinstance(error, msgspec.ValidationError) else f"it is not TOML: {told}") from None


def _screen(told: dict[str, str], kind: Kind) -> Screen:
    try:
        screen = msgspec.convert(told, Screen)
    except msgspec.ValidationError as error:
        raise QtopError(f"table screen: {error}") from None
    for key in ("background", "panel", "border"):
        _colour(key, getattr(screen, key), kind)
        if kind == "truecolor" and getattr(screen, key) == "default":
            raise QtopError(f"table screen: {key} wants a colour such as #16181d")
    selected = _style("selected", screen.selected, kind)
    if kind != "truecolor" and screen.selected != "reverse":
        raise QtopError('table screen: selected is always "reverse" in the colours of the terminal')
    if kind == "truecolor" and (selected.color is None or selected.bgcolor is None):
        raise QtopError("table screen: selected wants both colours, as #ffffff on #1d6396")
    return screen


def _style(pen: str, told: str, kind: Kind) -> Style:
    """A pen as Rich writes styles: "bold #e8706a", "black on yellow"."""
    try:
        style = Style.parse(told)
    except StyleSyntaxError:
        raise QtopError(
            f"{pen}: {told!r} is no style", 'A style is "bold #e8706a", "red" or "#000000 on red".'
        ) from None
    if style.link:
        raise QtopError(f"{pen}: {told!r} is no style")
    for colour in (style.color, style.bgcolor):
        _check(pen, colour, kind)
    return style


_HEX = re.compile("#[0-9a-fA-F]{6}")


def _colour(key: str, told: str, kind: Kind) -> None:
    if told != "default" and not (_HEX.fullmatch(told) if kind == "truecolor" else kind == "ansi"):
        raise QtopError(f"{key}: {told!r} is no colour of a palette of kind {kind}")
    _style(key, told, kind)


def _check(key: str, colour: Color | None, kind: Kind) -> None:
    """A palette keeps to the colours of its kind: what it costs to send and what it needs is known by that."""
    if colour is None or colour.is_default:
        return
    if kind == "mono":
        raise QtopError(f"{key}: a palette of kind mono has no colours")
    wanted = ColorType.TRUECOLOR if kind == "truecolor" else ColorType.STANDARD
    if colour.type is not wanted:
        like = "#rrggbb" if kind == "truecolor" else "one of the 16 of a terminal, as red or bright_blue"
        raise QtopError(f"{key}: {colour.name!r} is not {like}")
