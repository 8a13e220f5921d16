"""Where the style sheets are: ``qtop/themes`` of an installed wheel, the checkout's ``themes/`` if editable."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import qtop
from qtop.errors import QtopError


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
