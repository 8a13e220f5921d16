"""The fixture ``fake_nvml``: a libnvidia-ml.so.1 whose GPUs are lines of a text file (nvml/nvml_fake.c says which)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tests.fakes.build import compile_shared

SONAME = "libnvidia-ml.so.1"
_SOURCE = Path(__file__).parent / "nvml" / "nvml_fake.c"

Value = int | float | str | None


def h100(index: int, **changes: Value) -> dict[str, Value]:
    """Lines for every reading of a healthy H100 at its power limit; ``changes`` go by reading ("field.74")."""
    readings: dict[str, Value] = {
        "uuid": f"GPU-5ca1ab1e-0000-4000-8000-{index:012d}",
        "name": "NVIDIA H100 80GB HBM3",
        "pci": f"00000000:{index + 1:02X}:00.0",
        "util": 37,
        "mem_util": 15,
        "mem_total": 85520809984,
        "mem_used": 74517053440,
        "mem_reserved": 653262848,
        "temp": 52,
        "power": 239000,
        "power_limit": 700000,
        "power_limit_default": 700000,
        "power_limit_min": 200000,
        "power_limit_max": 700000,
        "sm_mhz": 1968,
        "sm_max_mhz": 1980,
        "mem_mhz": 2619,
        "mem_max_mhz": 2619,
        "reasons": 0x4,
        "reasons_supported": 0x1FF,
        "pcie_gen": 5,
        "pcie_width": 16,
        "field.74": 123456789012,
        "field.75": 4,
        "field.269": 5,
        "field.270": 6,
        "field.271": 7,
    }
    return {f"{index}.{key}": value for key, value in {**readings, **changes}.items()}


class FakeNvml:
    """The library and its file; what a process started with ``env`` reads changes with each ``set`` or ``write``."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self._library = folder, library
        self.file = folder / "gpus.txt"
        self._lines: dict[str, Value] = {}
        self._extra: tuple[str, ...] = ()
        self.install()
        self.set(count=0)

    def env(self) -> dict[str, str]:
        """The environment for a process that is to find this NVML, and no other."""
        paths = [str(self._bin), os.environ.get("LD_LIBRARY_PATH", "")]
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, paths)), "QTOP_FAKE_NVML": str(self.file)}

    def set(self, *extra: str, **lines: Value) -> None:
        """Change lines by key (None takes one out); ``extra`` replaces the lines of keys that repeat ("0.proc 1 2")."""
        self._lines.update(lines)
        if extra:
            self._extra = extra
        self.write(
            "".join(
                [*(f"{k} {v}\n" for k, v in self._lines.items() if v is not None), *map("{}\n".format, self._extra)]
            )
        )

    def write(self, text: str) -> None:
        """Replace the whole file, at once, so that no reader sees half of it."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def calls(self) -> list[str]:
        """Names of the calls since the line "log 1" was set."""
        log = Path(f"{self.file}.calls")
        return log.read_text().split("\n")[:-1] if log.exists() else []

    def state(self) -> dict[str, str]:
        """What setters wrote, by key ("0.power_limit")."""
        file = Path(f"{self.file}.state")
        return dict(line.split(" ", 1) for line in file.read_text().splitlines()) if file.exists() else {}

    def install(self, *flags: str) -> None:
        """Put the library where ``env`` points, built with these flags ("-DQTOP_FAKE_OLD": as a driver of 2021)."""
        self._bin.mkdir(exist_ok=True)
        source = _built(self._library.parent, flags) if flags else self._library
        if source is not None:
            shutil.copyfile(source, self._bin / SONAME)

    def uninstall(self) -> None:
        """Take the library away; a process that has it loaded keeps it."""
        (self._bin / SONAME).unlink(missing_ok=True)

    @property
    def _bin(self) -> Path:
        return self.folder / "lib"


@cache
def _built(base: Path, flags: tuple[str, ...]) -> Path | None:
    out = base / "-".join(("nvml", *(flag.strip("-") for flag in flags)))
    out.mkdir(parents=True, exist_ok=True)
    return compile_shared(_SOURCE, out / SONAME, *flags)


@pytest.fixture(name="fake_nvml")
def fake_nvml(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNvml]:
    """A fake NVML without GPUs, built once a session; the test is skipped where nothing compiles C."""
    library = _built(tmp_path_factory.getbasetemp(), ())
    if library is None:
        pytest.skip("no C compiler (cc, gcc, clang or the Python package ziglang)")
    yield FakeNvml(tmp_path, library)
