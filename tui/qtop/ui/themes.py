"""Where the style sheets and palettes are, and which palette suits a terminal.

``qtop/themes`` of an installed wheel, the checkout's ``themes/`` if editable; a user's own palettes in
``$XDG_CONFIG_HOME/qtop/themes``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import qtop
from qtop.config import config_path
from qtop.errors import QtopError
from qtop.ui import scheme
from qtop.ui.scheme import Scheme

BUILT_IN = ("dark", "light", "contrast", "terminal", "mono")
"""qtop's own palettes, in the order of the key T."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a palette may be called: a file's name, never a path."""
MOST_BYTES = 64 * 1024
_LIGHT = frozenset(("7", "9", "10", "11", "12", "13", "14", "15"))
"""Of the 16 colours, those that are light as a background (source: rxvt, which sets COLORFGBG so)."""


def theme_dir() -> Path:
    """The folder with the style sheets and palettes; QtopError if the installation lost it."""
    packaged = Path(str(resources.files(qtop) / "themes"))
    if packaged.is_dir():
        return packaged
    # pyproject.toml beside it tells a checkout from some folder called themes next to site-packages.
    root = Path(str(resources.files(qtop))).parent.parent
    if (root / "pyproject.toml").is_file() and (root / "themes").is_dir():
        return root / "themes"
    raise QtopError(f"qtop's style sheets are missing from {packaged}", "Install qtop-llm again")


def load_css() -> list[Path]:
    """The style sheets (``*.tcss``) in the order of their names, for ``App.CSS_PATH``; QtopError if there is none."""
    sheets = sorted(theme_dir().glob("*.tcss"))
    if not sheets:
        raise QtopError(f"there is no style sheet in {theme_dir()}", "Install qtop-llm again")
    return sheets


def own_dir() -> Path:
    """The folder with the user's own palettes, whether it is there or not."""
    return config_path().parent / "themes"


def names() -> list[str]:
    """Every palette that can be asked for: qtop's own, then the user's by name."""
    try:
        found = sorted(path.stem for path in own_dir().glob("*.toml"))
    except OSError:  # another user's home
        found = []
    return [*BUILT_IN, *(name for name in found if name not in (*BUILT_IN, "auto") and NAME.fullmatch(name))]


def load(name: str) -> Scheme:
    """The palette of this name, a user's own before qtop's; QtopError when there is none or it has a fault."""
    known = f"Known: auto, {', '.join(names())}; {own_dir()}/NAME.toml adds one."
    if not NAME.fullmatch(name):
        raise QtopError(f"no theme is called {name!r}", known)
    path = own_dir() / f"{name}.toml"
    text = _read(path)
    if text is None:
        if name not in BUILT_IN:
            raise QtopError(f"no theme is called {name!r}", known)
        path = theme_dir() / f"{name}.toml"
        text = _read(path)
        if text is None:
            raise QtopError(f"qtop's palette {path} is missing", "Install qtop-llm again")
    try:
        base = scheme.base_of(text)
        if base is not None and base not in BUILT_IN:
            raise QtopError(f"base is {base!r}, not one of {', '.join(BUILT_IN)}")
        return scheme.parse(name, text, _built_in(base) if base else None)
    except QtopError as error:
        raise QtopError(f"palette {path}: {error.message}", error.hint) from None


def _built_in(name: str) -> Scheme:
    return scheme.parse(name, (theme_dir() / f"{name}.toml").read_bytes())


def _read(path: Path) -> bytes | None:
    """A palette file's bytes; None when there is no such file, or it lies where this user may not look."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError) and not os.access(path.parent, os.X_OK):
            return None  # another user's home, as after setpriv or sudo: no palettes of ours
        raise QtopError(f"cannot read the palette {path}: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise QtopError(f"the palette {path} is longer than {MOST_BYTES} bytes")
    return text


def colourless(environ: Mapping[str, str]) -> bool:
    """True when NO_COLOR is set and not empty (source: no-color.org)."""
    return bool(environ.get("NO_COLOR"))


def suited(colour: str, environ: Mapping[str, str]) -> str:
    """The palette for a terminal that nobody chose one for; ``colour`` is the setting: auto, truecolor or ansi.

    The terminal's own 16 colours over SSH, because escapes of 24-bit colour cost bytes, and where no truecolor is
    announced; else dark, or light where COLORFGBG ("15;0", by rxvt, Konsole and others) tells of a light background.
    """
    if colourless(environ):
        return "mono"
    if colour == "ansi" or (
        colour == "auto" and ("SSH_CONNECTION" in environ or environ.get("COLORTERM") not in ("truecolor", "24bit"))
    ):
        return "terminal"
    return "light" if environ.get("COLORFGBG", "").rpartition(";")[2] in _LIGHT else "dark"
