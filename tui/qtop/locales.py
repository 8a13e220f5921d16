"""Whether a terminal can show more than ASCII, as far as its locale says."""

from __future__ import annotations

from collections.abc import Mapping


def wants_ascii(environ: Mapping[str, str]) -> bool:
    """True when the locale says plainly that it is not UTF-8 (source: locale(7), LC_ALL before LC_CTYPE before LANG).

    Python itself writes UTF-8 under LANG=C, whatever the terminal can show.
    """
    value = next((found for name in ("LC_ALL", "LC_CTYPE", "LANG") if (found := environ.get(name))), "")
    return bool(value) and "utf" not in value.lower()
