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


def hopper(index: int, **changes: Value) -> dict[str, Value]:
    """An H100 with all that a Hopper GPU and its driver have: GPM, margins, sample buffers, events, PCIe maxima."""
    more: dict[str, Value] = {
        **{"arch": 9, "compute": "9.0", "bus_width": 5120, "pstate": 0, "mig": 0},
        **{"slowdown": 89, "shutdown": 94, "margin": 52},
        **{"field.193": -8, "field_type.193": 5, "field.194": -2, "field_type.194": 5},
        **{"field.82": 61, "field_type.82": 1, "field.94": 3, "field_type.94": 1},
        **{"ecc_corrected": 2, "ecc_uncorrected": 0, "samples": 1},
        **{"pcie_gen_max": 5, "pcie_width_max": 16, "pcie_gen_device": 5},
        **{"gpm.1": 90.5, "gpm.2": 49.0, "gpm.3": 21.5, "gpm.5": 2.0, "gpm.10": 38.25, "gpm.20": 7.0, "gpm.21": 17.0},
    }
    return h100(index, **{**more, **changes})


def a100(index: int, **changes: Value) -> dict[str, Value]:
    """An A100: ECC and MIG, but neither GPM nor T.Limit."""
    more: dict[str, Value] = {
        **{"name": "NVIDIA A100-SXM4-40GB", "arch": 7, "compute": "8.0", "bus_width": 5120, "mem_max_mhz": 1215},
        **{"mem_total": 42949672960, "mem_used": 30064771072, "mem_mhz": 1215, "pcie_gen": 4, "power_limit": 400000},
        **{"power_limit_default": 400000, "power_limit_max": 400000, "pstate": 0, "mig": 0, "samples": 1},
        **{"slowdown": 92, "shutdown": 95, "ecc_corrected": 0, "ecc_uncorrected": 0, "temp": 60},
        **{"field.94": 0, "field_type.94": 1, "field.197": 100, "field_type.197": 1},
        **{"field.198": 200, "field_type.198": 1},
        **{"pcie_gen_max": 4, "pcie_width_max": 16, "pcie_gen_device": 4},
    }
    return h100(index, **{**more, **changes})


def rtx4090d(index: int, **changes: Value) -> dict[str, Value]:
    """A GeForce RTX 4090 D: no GPM, no ECC, no MIG, no temperature of its memory, no Xid events."""
    more: dict[str, Value] = {
        **{"name": "NVIDIA GeForce RTX 4090 D", "arch": 8, "compute": "8.9", "bus_width": 384, "mem_max_mhz": 10501},
        **{"mem_total": 25757220864, "mem_used": 23300000000, "mem_mhz": 10501, "pcie_gen": 4, "power_limit": 425000},
        **{"power_limit_default": 425000, "power_limit_max": 600000, "pstate": 2, "samples": 1, "sm_max_mhz": 3120},
        **{"margin": 31, "field.194": -7, "field_type.194": 5, "slowdown": 90, "error.events": 3},
        **{"field.94": 0, "field_type.94": 1, "field.197": 100, "field_type.197": 1},
        **{"field.198": 200, "field_type.198": 1},
        **{"pcie_gen_max": 4, "pcie_width_max": 16, "pcie_gen_device": 4},
    }
    return h100(index, **{**more, **changes})


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
