"""Compile the C stand-ins that tests load in place of system libraries."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path


@cache
def compiler() -> tuple[str, ...] | None:
    """A C compiler's command: cc, gcc or clang from PATH, else the Python package ziglang; None if there is none."""
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return (found,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    return None


def compile_shared(source: Path, out: Path, *flags: str) -> Path | None:
    """Build ``source`` as the shared library ``out``, returned; None without a compiler. RuntimeError if it fails."""
    command = compiler()
    if command is None:
        return None
    soname = f"-Wl,-soname,{out.name}"
    arguments = ["-std=gnu11", "-O1", "-shared", "-fPIC", soname, *flags, str(source), "-o", str(out)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{source.name} does not compile:\n{done.stderr}")
    return out
