"""The version of an engine's Python package that a process would import, without running it or asking it.

An installed distribution has a folder NAME-VERSION.dist-info beside the package (PEP 376, PEP 427), so one listing of
the environment's site-packages tells. The environment is that of the interpreter or of the script in its arguments;
else the one that the process has libraries mapped from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from qtop.collect.config_in_force.inside import names_in
from qtop.collect.discover.procfs import PROC, read
from qtop.sample import Absent, Reading, Why

UNKNOWN = Absent(Why.UNSUPPORTED, "its version: no installed package is found beside its program")
_MAPPED = re.compile(rb"(/\S+/(?:site|dist)-packages)/")


def version(pid: int, argv: Sequence[str], package: str = "vllm", root: Path = PROC) -> Reading[str]:
    """The version, as the name of the dist-info folder has it ("0.32.0+cpu")."""
    pattern = re.compile(rf"{re.escape(package)}-(\d[^-]*)\.dist-info")
    denied: Absent | None = None
    for folder in _folders(pid, argv, root):
        names = names_in(pid, folder, root)
        if isinstance(names, Absent):
            denied = names if names.why is Why.DENIED else denied
            continue
        found = next((match[1] for name in names if (match := pattern.fullmatch(name))), None)
        if found is not None:
            return found
    if denied is not None:
        return Absent(Why.DENIED, "its version: its files may be read by its own user and by root only")
    return UNKNOWN


def _folders(pid: int, argv: Sequence[str], root: Path) -> Iterator[str]:
    """Where its packages may be, each once."""
    seen: set[str] = set()
    for word in argv[:4]:  # options of the interpreter may stand between it and the script
        if not word.startswith("/") or "/bin/" not in word:
            continue
        prefix = word.rpartition("/bin/")[0]
        for lib in ("lib", "local/lib"):
            names = names_in(pid, f"{prefix}/{lib}", root)
            for name in () if isinstance(names, Absent) else sorted(names, reverse=True):
                for kind in ("site-packages", "dist-packages"):
                    folder = f"{prefix}/{lib}/{name}/{kind}"
                    if re.fullmatch(r"python3(\.\d+)?t?", name) and folder not in seen:
                        seen.add(folder)
                        yield folder
    maps = read(f"{root}/{pid}/maps")
    for match in () if isinstance(maps, OSError) else _MAPPED.finditer(maps):
        folder = match[1].decode(errors="surrogateescape")
        if folder not in seen:
            seen.add(folder)
            yield folder
