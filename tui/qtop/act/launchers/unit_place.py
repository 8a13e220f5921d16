"""Which unit a process belongs to, and where a drop-in of qtop's for it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qtop.act.launchers.unit_text import effective
from qtop.errors import Refused

DROPIN, LAST = "90-qtop.conf", "zz-qtop.conf"
"""The second where another drop-in, which is read later than the first, sets the command."""
MARK = "# qtop change "
_USER = re.compile(r"user@(\d+)\.service")
_CONTAINER = re.compile(r"[0-9a-f]{64}|kubepods|libpod|\.lxc|lxc\.payload")


@dataclass(frozen=True)
class Unit:
    """A service, and the user in whose manager it is; None: the system's."""

    name: str
    uid: int | None = None


def unit_of(cgroup: str) -> Unit | None:
    """The service named in a /proc/PID/cgroup; None for a scope, a session, a container."""
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number, controllers) != ("0", "") and controllers != "name=systemd":
            continue
        if (found := _in_path(path)) is not None:
            return found
    return None


def _in_path(path: str) -> Unit | None:
    if _CONTAINER.search(path):
        return None
    uid: int | None = None
    for part in path.split("/"):
        user = _USER.fullmatch(part)
        if user:
            uid = int(user[1])
        elif part.endswith(".scope"):
            return None
        elif part.endswith(".service"):
            return Unit(part.removeprefix("_"), uid)
    return None


def folder_of(unit: Unit) -> Path:
    """Of drop-ins for it that outlast a new start of the host."""
    if unit.uid is None:
        return Path("/etc/systemd/system", f"{unit.name}.d")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base, "systemd/user", f"{unit.name}.d")


def texts_of(paths: Sequence[str]) -> list[tuple[Path, str]]:
    """A unit's files with their texts, in systemd's order. Errors: Refused where one cannot be read."""
    found = []
    for name in paths:
        try:
            found.append((Path(name), Path(name).read_text(encoding="utf-8", errors="surrogateescape")))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Refused(
                f"the unit's file {name} cannot be read: {error.strerror}", "Run qtop as root (sudo qtop …)."
            ) from None
    return found


def name_for(texts: Sequence[tuple[Path, str]]) -> str:
    """The file name under which a drop-in has the last word about the command."""
    dropins = [(path.name, text) for path, text in texts if path.parent.name.endswith(".d")]
    return LAST if effective([text for name, text in dropins if name > DROPIN]) else DROPIN


def token_in(text: str) -> str:
    """The mark of the last change that wrote to a drop-in, "" where none did."""
    marks = re.findall(rf"^{MARK}([0-9a-f]{{16}})$", text, re.MULTILINE)
    return marks[-1] if marks else ""


def saved_as(dropin: Path, token: str) -> Path:
    """Where the drop-in that was there before a change is kept; systemd reads names that end with .conf only."""
    return dropin.with_name(f"{dropin.name}.before-{token}")


def dropin_text(former: str, token: str, command: str) -> str:
    """The drop-in's text: what was there, and the new command."""
    return (
        f"{former.rstrip()}\n" if former.strip() else "# Written by qtop: `qtop undo` puts back what was before.\n"
    ) + f"{MARK}{token}\n[Service]\nExecStart=\nExecStart={command}\n"
