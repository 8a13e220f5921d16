"""Names in texts, found and replaced: this host's, its users', home folders', and addresses of the network.

Host and user become HOST and USER. An address becomes a pseudonym that stays the same in all that one host writes
("IP-3f2a"), so that a report still tells two of them apart; so does a container, by whichever of its names it is told.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from qtop.clock import boot_id

HOST = "HOST"
USER = "USER"
ADDRESS = "IP"
CONTAINER = "CONTAINER"

_HOME = re.compile(
    r"(?<![\w.~-])(?<!:/)((?:/(?:mnt|data|export|nfs|net|var|usr|private))?/(?:home|Users)/)(?:[^/\s\"'\\:,;]+)"
)
_NEVER_HOSTS = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost", "host"})
# fmt: off
_NEVER_USERS = frozenset({
    "", "root", "user", "users", "admin", "administrator", "nobody", "ubuntu", "debian", "centos", "fedora", "arch",
    "ec2-user", "opc", "azureuser", "docker", "containers", "systemd", "daemon", "service", "services", "slurm",
    "vllm", "ollama", "sglang", "llama", "llamacpp", "triton", "qtop", "nvidia", "cuda", "torch", "python", "model",
    "models", "server", "engine", "worker", "scheduler", "tokenizer", "node", "runner", "jenkins", "gitlab", "build",
    "test", "tester", "default", "guest", "host", "home", "data", "local", "work", "main", "prompt", "cache", "memory",
})
# fmt: on
"""Accounts of services and images, and words of which figures, flags and logs are full: they name nobody."""
_LEAST = 4
"""Letters of a user's name that is hidden wherever it stands; a shorter one only where it is told to be a user's."""
_FOUR = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w)(?!\.\d)")
_SIX = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,5}){2,8}(?![\w:])")
"""Also with a port behind it, though that should stand behind brackets."""
_BROADCAST = "255.255.255.255"


class Names:
    """What to hide: ``hosts`` and ``users`` by name, and every address but those of the host to itself.

    ``container`` is one, by its id and what else it is called. ``key`` makes the pseudonyms; None takes one that only
    this host has.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        users: Iterable[str] = (),
        key: bytes | None = None,
        container: Sequence[str] = (),
    ) -> None:
        self._host = _host_pattern(hosts)
        self._users = _user_pattern(users)
        self._key = key
        self._container = _container_pattern(container)
        self._contained = self._pseudonym(CONTAINER, container[0].encode()) if container else ""

    def hide(self, text: str) -> str:
        """The text without any of them."""
        if self._container:
            text = self._container.sub(self._contained, text)
        return self.hide_addresses(self.hide_people(self.hide_host(text)))

    def hide_host(self, text: str) -> str:
        """Without the host's name, its short form, and a domain behind it."""
        return self._host.sub(HOST, text) if self._host else text

    def hide_people(self, text: str) -> str:
        """Without users: a person's home folder is somebody's, /home/alice/m becomes /home/USER/m."""
        if self._users:
            text = self._users.sub(USER, text)
        return _HOME.sub(rf"\1{USER}", text) if "/" in text else text

    def hide_addresses(self, text: str) -> str:
        """Without addresses of the network."""
        if text.count(".") >= 3:
            text = _FOUR.sub(lambda found: self.address(found[0]), text)
        return _SIX.sub(self._of_six, text) if text.count(":") >= 2 else text

    def _of_six(self, found: re.Match[str]) -> str:
        told = self.address(found[0])
        if told != found[0]:
            return told
        address, _, port = told.rpartition(":")
        return f"{self.address(address)}:{port}" if port.isdigit() or not port else told

    def of_url(self, host: str) -> str:
        """The host of a URL: localhost stays, an address becomes its pseudonym, any other name HOST."""
        bare = host.strip("[]")
        if bare.lower() in ("", "localhost"):
            return host
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            return HOST
        told = self.address(bare)
        return host if told == bare else told

    def address(self, text: str) -> str:
        """The pseudonym of an address; loopback, "any" and what is no address stay as they are."""
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            return text
        if found.is_loopback or found.is_unspecified or text == _BROADCAST:
            return text
        return self._pseudonym(ADDRESS, found.packed)

    def _pseudonym(self, kind: str, data: bytes) -> str:
        key = self._key if self._key is not None else _host_key()
        return f"{kind}-{hmac.new(key, data, hashlib.sha256).hexdigest()[:4]}"


@lru_cache(1)
def _host_key() -> bytes:
    """The same for all that this host writes, and known to nobody else: its machine id, hashed with a purpose as
    machine-id(5) asks; where it has none, that of this boot."""
    try:
        told = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        told = b""
    return hmac.new(told or boot_id().encode() or os.urandom(16), b"qtop pseudonyms", hashlib.sha256).digest()


def local_names(timeout: float = 1.0) -> tuple[str, ...]:
    """The names of this host; a resolver that takes longer than ``timeout`` seconds is not waited for."""
    names = [socket.gethostname()]

    def ask() -> None:
        names.append(socket.getfqdn())

    thread = threading.Thread(target=ask, name="qtop-fqdn", daemon=True)
    thread.start()
    thread.join(timeout)
    return tuple(names)


@lru_cache(4)
def local_users(passwd: Path = Path("/etc/passwd")) -> tuple[str, ...]:
    """Who may be named on this host: whoever runs qtop, whoever called sudo, and the people of its own user list (user
    ids from 1000; source: login.defs(5)). A directory service is not asked: it may hold a whole company, and hang."""
    names = {os.environ.get("SUDO_USER", "")}
    try:
        names.add(getpass.getuser())
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        pass
    try:
        rows = [line.split(":") for line in passwd.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        rows = []
    names |= {row[0] for row in rows if len(row) > 2 and row[2].isdigit() and 1000 <= int(row[2]) < 65534}
    return tuple(sorted(names - {""}))


def _host_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds every name, its short form, and a domain behind it. A name of up to four letters only as a whole word."""
    found: set[str] = set()
    for name in names:
        lower = name.strip().rstrip(".").lower()
        found |= {lower, lower.split(".")[0]} - _NEVER_HOSTS
    if not found:
        return None
    parts = [
        re.escape(name) if len(name) > 4 else rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        for name in sorted(found, key=len, reverse=True)
    ]
    return re.compile(rf"(?:{'|'.join(parts)})(?:\.[A-Za-z][A-Za-z0-9-]*)*", re.IGNORECASE)


def _container_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds every name as a whole word. One like "vllm", of which logs are full, names nothing."""
    found = sorted({name for name in names if name.lower() not in _NEVER_USERS}, key=len, reverse=True)
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, found))})(?![\w-])") if found else None


def _user_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds every name as a whole word; a short one, which may be a word, only where a user is told of."""
    found = sorted({name for name in names if name.lower() not in _NEVER_USERS}, key=len, reverse=True)
    long = "|".join(re.escape(name) for name in found if len(name) >= _LEAST)
    short = "|".join(re.escape(name) for name in found if len(name) < _LEAST)
    parts = [rf"(?<![A-Za-z0-9-])(?:{long})(?![A-Za-z0-9])|(?<=[^-\W]-)(?:{long})(?![A-Za-z0-9])"] if long else []
    if short:
        told = "|".join(
            rf"(?<={word}{mark})" for word in ("user", "USER", "login", "owner") for mark in (" ", "=", ":")
        )
        parts.append(rf"(?:{told}|(?<=~))(?:{short})(?![A-Za-z0-9])|(?<![A-Za-z0-9-])(?:{short})(?=@)")
    return re.compile("|".join(parts)) if parts else None
