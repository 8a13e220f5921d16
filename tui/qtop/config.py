"""qtop's own settings: ``$XDG_CONFIG_HOME/qtop/config.toml``, every key optional, unknown keys refused with one
clear line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from qtop.errors import QtopError

EXAMPLE = """\
# qtop's settings; every line is optional.
# interval = 1.0                 # seconds between samples
# url = "http://127.0.0.1:8000"  # watch this server
# api_key_file = "~/.config/qtop/key"
# ca = "/etc/ssl/my-ca.pem"      # trust this certificate
# insecure = false               # true: do not check the server's certificate
# theme = "auto"                 # "dark", "light", "contrast", "terminal" (its 16 colours), "mono", or your own
# colour = "auto"                # for theme "auto": "auto" (16 colours over SSH), "truecolor", "ansi"
# prompt = "en"                  # test prompt: "en", "zh", or a text of your own
# max_tokens = 64                # of a test prompt
# record_dir = "~/qtop"          # where r puts recordings
# read_only = false             # true: change nothing on this host, whatever is pressed
# server_info = true             # ask a vLLM in development mode for its configuration, once (3 s of a core there)
"""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file may hold."""

    interval: Annotated[float, Meta(ge=0.1, le=60)] = 1.0
    url: str | None = None
    api_key_file: str | None = None
    ca: str | None = None
    insecure: bool = False
    colour: Literal["auto", "truecolor", "ansi"] = "auto"
    prompt: str = "en"
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 64
    record_dir: str = "."
    theme: str = "auto"
    read_only: bool = False
    server_info: bool = True


KEY_LIMIT = 16 * 1024
"""Bytes read of an API key file: a device named by mistake must not be read for ever."""


def config_path() -> Path:
    """Where the settings file lies, whether it is there or not."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative XDG folder is to be ignored (source: XDG Base Directory Specification).
    folder = Path(base) if base.startswith("/") else _expanded("~/.config")
    return folder / "qtop" / "config.toml"


def _expanded(path: str) -> Path:
    """A path with ~ replaced; as it stands where this user has no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def load(path: Path | None = None) -> Settings:
    """The settings of the file, or the defaults without one; QtopError when it cannot be read or understood."""
    path = path or config_path()
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Settings()
    except NotADirectoryError:
        return Settings()
    except PermissionError as error:
        if not os.access(path.parent, os.X_OK):  # another user's home, as after setpriv or sudo: no settings of ours
            return Settings()
        raise QtopError(f"cannot read the settings {path}: {error.strerror}") from None
    except OSError as error:
        raise QtopError(f"cannot read the settings {path}: {error.strerror}") from None
    try:
        settings = msgspec.toml.decode(text, type=Settings)
    except msgspec.ValidationError as error:
        known = ", ".join(Settings.__struct_fields__)
        raise QtopError(f"settings {path}: {_one_line(error)}", f"Known keys: {known}.") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise QtopError(
            f"settings {path} are not TOML: {_one_line(error)}", "`qtop config` prints an example."
        ) from None
    paths = {name: getattr(settings, name) for name in ("api_key_file", "ca", "record_dir")}
    return msgspec.structs.replace(
        settings, **{name: str(_expanded(value)) for name, value in paths.items() if value is not None}
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def read_key(path: str | None, settings: Settings | None = None) -> str | None:
    """The API key: of the file ``path``, else of QTOP_API_KEY, else of the settings' file, else None.

    It is never an argument, where ``ps`` would show it. QtopError when a file cannot be read or holds no key.
    """
    named = path is not None
    if not named:
        if key := os.environ.get("QTOP_API_KEY", "").strip():
            return key
        path = settings.api_key_file if settings is not None else None
    if path is None:
        return None
    try:
        with _expanded(path).open("rb") as file:
            key = file.read(KEY_LIMIT + 1).decode("ascii").strip()
    except UnicodeDecodeError:
        raise QtopError(f"{path} holds no API key", "A key is one line of ASCII text.") from None
    except (OSError, ValueError) as error:
        raise QtopError(f"cannot read the API key file {path}: {getattr(error, 'strerror', None) or error}") from None
    if not key or len(key) > KEY_LIMIT or not key.isprintable():
        raise QtopError(f"{path} holds no API key", "A key is one line of ASCII text.")
    return key
