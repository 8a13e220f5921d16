"""tuned(8), where it runs: the profile in force and what it sets, read from its files as tuned itself merges them.

Sources: tuned-profiles(7), tuned.conf(5), and tuned's profile loader and merger (2.20). D-Bus is not needed.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path("/")
FOLDERS = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")
"""Where profiles lie, the one that counts first; those named "profiles" since 2.23."""
TRUE = ("True", "true", "1")
COMPUTED = "a value of its own"
"""What stands for a value that tuned works out by a function."""


@dataclass
class Unit:
    """One section of a profile."""

    type: str
    enabled: bool
    options: dict[str, str]
    uname: str | None = None
    cpuinfo: str | None = None


@dataclass
class Profile:
    """A profile with all that it includes."""

    name: str
    units: dict[str, Unit] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    hidden: bool = False
    """It includes profiles that tuned chooses by a function: they may set anything."""

    def option(self, plugin: str, name: str) -> str | None:
        """What it sets an option of a plugin to; of alternatives ("a|b") all; None where it leaves it alone."""
        for key, value in self._all(plugin):
            if key == name:
                return value
        return None

    def sysctl(self, name: str) -> str | None:
        """What it sets a sysctl to."""
        for key, value in self._all("sysctl"):
            if key.replace("/", ".") == name:
                return value
        return None

    def sysfs(self, path: Path) -> str | None:
        """What it writes to a file of sysfs."""
        for key, value in self._all("sysfs"):
            if fnmatchcase(str(path), key):
                return value
        return None

    def _all(self, plugin: str) -> Iterator[tuple[str, str]]:
        """Options of units of this kind that apply here, the last first: it is the one that stands."""
        for unit in reversed(list(self.units.values())):
            if unit.type == plugin and unit.enabled and self._applies(unit):
                for key, value in reversed(unit.options.items()):
                    yield self._expand(key), _plain(self._expand(value))

    def _applies(self, unit: Unit) -> bool:
        return _found(unit.uname and self._expand(unit.uname), ", ".join(os.uname())) and _found(
            unit.cpuinfo and self._expand(unit.cpuinfo), _text(ROOT / "proc/cpuinfo")
        )

    def _expand(self, text: str) -> str:
        for _ in range(8):  # a variable may stand for another
            new = re.sub(r"(?<!\\)\$\{(\w+)\}", lambda match: self.variables.get(match[1], match[0]), text)
            if new == text:
                break
            text = new
        return text


def in_force() -> Profile | None:
    """The profile of a tuned that runs; None where none does, or it has none."""
    names = [name for name in _text(ROOT / "etc/tuned/active_profile").split() if re.fullmatch(r"[\w.-]+", name)]
    if not names or not _runs():
        return None
    profile = Profile(" ".join(names))
    _load(names, profile, set())
    return profile


def _runs() -> bool:
    """By its pid file, else by name."""
    pid = _text(ROOT / "run/tuned/tuned.pid").strip()
    if pid.isdecimal():
        return "tuned" in _text(ROOT / "proc" / pid / "cmdline")
    try:
        numbers = [name for name in os.listdir(ROOT / "proc") if name.isdecimal()]
    except OSError:
        return False
    return any(_text(ROOT / "proc" / number / "comm").strip() == "tuned" for number in numbers)


def _load(names: list[str], profile: Profile, seen: set[Path]) -> None:
    """Add profiles of these names, what each includes first; one that is not there adds nothing."""
    for name in names:
        path = _find(name.removeprefix("-"), seen)
        if path is None:
            continue
        seen.add(path)
        sections = _parse(_text(path))
        profile.variables |= _variables(sections.pop("variables", {}))
        main = sections.pop("main", {})
        if includes := profile._expand(main.get("include", "")):
            profile.hidden |= "${" in includes
            _load(re.split(r"\s*[,;]\s*", includes.strip()), profile, seen)
        for section, options in sections.items():
            _merge(profile, section, dict(options))


def _merge(profile: Profile, name: str, options: dict[str, str]) -> None:
    """Lay one section over the one of the same name."""
    unit = Unit(
        options.pop("type", name),
        options.pop("enabled", "True") in TRUE,
        {},
        options.pop("uname_regex", None),
        options.pop("cpuinfo_regex", None),
    )
    replace = options.pop("replace", "") in TRUE
    drop = re.split(r"\s*[,;]\s*", options.pop("drop", ""))
    before = profile.units.get(name)
    if before is None or replace:
        unit.options = options
        profile.units[name] = unit
        return
    before.type, before.enabled = unit.type, unit.enabled
    before.uname, before.cpuinfo = unit.uname or before.uname, unit.cpuinfo or before.cpuinfo
    before.options = {key: value for key, value in before.options.items() if key not in drop} | options


def _variables(options: dict[str, str]) -> dict[str, str]:
    """A profile's variables, with those of a file that it names."""
    file = options.pop("include", "")
    found: dict[str, str] = {}
    if file.startswith("/"):
        for section in _parse(_text(ROOT / file.lstrip("/")), headless=True).values():
            found |= section
    return found | options


def _find(name: str, seen: set[Path]) -> Path | None:
    """A profile of the same name that was read already is stepped over, as tuned does: one may include the other."""
    for folder in FOLDERS:
        path = ROOT / folder / name / "tuned.conf"
        if path not in seen and path.is_file():
            return path
    return None


def _parse(text: str, headless: bool = False) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(delimiters="=", inline_comment_prefixes="#", strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(f"[variables]\n{text}" if headless else text)
    except configparser.Error:
        return {}
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _plain(value: str) -> str:
    """Without the sign that only raises or lowers ("=>10"), and a word for what only tuned can work out."""
    return COMPUTED if "${" in value else value.strip().lstrip("<>").strip()


def _found(pattern: str | None, text: str) -> bool:
    """Whether a condition of a unit holds; one that cannot be understood might."""
    if not pattern:
        return True
    try:
        return re.search(pattern, text, re.MULTILINE) is not None
    except re.error:
        return True


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
