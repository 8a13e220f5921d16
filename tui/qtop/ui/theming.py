"""Themes in the app: what Textual draws itself has the colours of the palette too; the key T goes to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.style import Style
from textual import events
from textual.app import App
from textual.filter import LineFilter, Monochrome, NoColor
from textual.theme import Theme

from qtop.errors import QtopError
from qtop.ui import themes
from qtop.ui.lines import Lines
from qtop.ui.look import AsciiFilter, ColourlessFilter, CursorFilter, Look

if TYPE_CHECKING:
    from qtop.ui.scheme import Scheme

    _Base = App[None]
else:
    _Base = object


_BOTH_GROUNDS = (
    "foreground-disabled",
    "surface-active",
    "ansi-background",
    "ansi-foreground",
    "input-cursor-background",
    "input-cursor-foreground",
)
"""Variables that Textual's style sheets use in a theme of 16 colours: what the terminal has, not black and white."""

_FILTERS: dict[str, list[LineFilter]] = {"truecolor": [], "ansi": [CursorFilter()], "mono": [ColourlessFilter()]}


class ThemeMixin(_Base):
    """Draws with a look: ``class QtopApp(ThemeMixin, DisplayMixin, App[None])``, then ``wear(look)`` in ``__init__``.

    Lines get their new colours by themselves; what else a screen has prepared with the look's pens it prepares anew in
    ``on_resize``: a change of theme is told as a resize to the same size.
    """

    look: Look
    _asked: str = ""
    """The theme that T went to last, whether it could be read or not: from there it goes on."""

    def say(self, message: str) -> None:
        """A line where the keys are."""
        raise NotImplementedError

    def wear(self, look: Look) -> None:
        """Begin with this look: for ``__init__``, before anything is drawn."""
        self.look = look
        self._ascii_filter = AsciiFilter(look)
        # Textual takes an empty NO_COLOR for one that is set, and greys of 24 bits for no colours.
        self._filters = [one for one in self._filters if not isinstance(one, NoColor | Monochrome)]
        self.no_color = look.scheme.kind == "mono"
        theme = textual_theme(look.scheme)
        self.register_theme(theme)
        self.set_reactive(App.theme, theme.name)
        self._refresh_truecolor_filter(self.ansi_theme)
        self.stylesheet.set_variables(self.get_css_variables())

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's own; then one that takes colours out, and under LANG=C one that leaves ASCII alone."""
        filters = [*super().get_line_filters(), *_FILTERS[self.look.scheme.kind]]
        if self.look.ascii:
            filters.append(self._ascii_filter)
        return filters

    def use_theme(self, name: str) -> None:
        """Draw everything in this theme from now on; says what was done, or why not."""
        if self.look.colourless:
            self.say("NO_COLOR is set: no theme has colours here")
            return
        self._asked = name
        try:
            scheme = themes.load(name)
        except QtopError as error:
            self.say(str(error))
            return
        self.look.use(scheme)
        self.no_color = scheme.kind == "mono"
        theme = textual_theme(scheme)
        self.register_theme(theme)
        if self.theme == theme.name:  # read anew, the file may have changed
            self._watch_theme(theme.name)
        self.theme = theme.name
        self.call_next(self._redress)  # after what Textual does next: read its style sheets with the new variables
        self.say(" ".join((f"theme {name}{f': {scheme.about}' if scheme.about else ''}", *self._nearest(scheme))))

    def _nearest(self, scheme: Scheme) -> list[str]:
        """Says so where the terminal shows 24-bit colours as the nearest ones that it has."""
        fewer = {"256": 256, "standard": 16}.get(self.console.color_system or "")
        return [f"(the nearest of {fewer} colours here)"] if fewer and scheme.kind == "truecolor" else []

    def _redress(self) -> None:
        """Draw all that is kept with the new pens, once the style sheets are applied."""
        for screen in {screen for stack in self._screen_stacks.values() for screen in stack}:
            self.stylesheet.update(screen)  # Textual leaves a system dialog in the rules of the theme before
            for widget in screen.query(Lines):
                widget.recolour(self.look.again)
            screen.post_message(events.Resize(self.size, self.size))
            screen.refresh()

    def action_theme(self, name: str = "") -> None:
        """The theme of this name; without one the next."""
        known = themes.names()
        if not name:
            asked = self._asked or self.look.scheme.name
            name = known[(known.index(asked) + 1) % len(known)] if asked in known else known[0]
        self.use_theme(name)


def textual_theme(scheme: Scheme) -> Theme:
    """What Textual wants to know of a scheme: for borders, scroll bars, lists, Markdown, the command palette."""

    def colour(pen: str) -> str:
        return _name(scheme.pens[pen], "ansi_default")

    ansi = scheme.kind != "truecolor"
    screen, selected = scheme.screen, Style.parse(scheme.screen.selected)
    border, background, panel = (_named(one) for one in (screen.border, screen.background, screen.panel))
    text, label, accent, title = (colour(pen) for pen in ("text", "label", "accent", "title"))
    back = _name(selected, f"ansi_{CursorFilter.MARK}", ground=True)
    variables = {
        "chart": colour("chart"),
        "text": text,
        "text-muted": label,
        "text-disabled": label,
        "foreground-muted": label,
        "block-cursor-foreground": _name(selected, "ansi_default"),
        "block-cursor-background": back,
        "block-cursor-text-style": " ".join(_attributes(selected)) or "none",
        "block-cursor-blurred-foreground": _name(selected, "ansi_default"),
        "block-cursor-blurred-background": back,
        "block-cursor-blurred-text-style": " ".join(_attributes(selected)) or "none",
        "block-hover-background": panel,
        "border": border,
        "border-blurred": border,
        "scrollbar": border,
        "scrollbar-hover": border,
        "scrollbar-active": accent if accent != "ansi_default" else border,
        **{f"scrollbar-background{state}": panel for state in ("", "-hover", "-active")},
        "scrollbar-corner-color": panel,
        "link-color": accent,
        "link-color-hover": title,
        "link-background-hover": panel,
        "input-cursor-background": text,
        "input-cursor-foreground": background,
        "input-selection-background": back,
        "input-selection-foreground": _name(selected, "ansi_default"),
        "screen-selection-background": back,
        "screen-selection-foreground": _name(selected, "ansi_default"),
        **{f"markdown-h{level}-color": title if level < 3 else accent for level in range(1, 7)},
        **{f"markdown-h{level}-background": "transparent" for level in range(1, 7)},
    }
    if ansi:  # what has both colours of the terminal is told apart by being reversed
        variables |= dict.fromkeys(_BOTH_GROUNDS, "ansi_default")
    return Theme(
        name=f"qtop-{scheme.name}",
        primary=border,
        secondary=accent,
        warning=colour("warn"),
        error=colour("crit"),
        success=colour("good"),
        accent=accent,
        foreground=text,
        background=background,
        surface=panel,
        panel=panel,
        boost=panel,
        dark=ansi or _dark(screen.background),
        variables=variables,
        ansi=ansi,
    )


def _named(colour: str) -> str:
    return colour if colour.startswith("#") else f"ansi_{colour}"


def _name(style: Style, default: str, ground: bool = False) -> str:
    colour = style.bgcolor if ground else style.color
    return default if colour is None or colour.is_default else _named(colour.name)


def _attributes(style: Style) -> list[str]:
    return [name for name in ("bold", "italic", "underline", "reverse") if getattr(style, name)]


def _dark(colour: str) -> bool:
    """Whether a background is dark by its luma (source: ITU-R BT.601)."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 128
