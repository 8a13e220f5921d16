"""The Docker Engine, asked and told over its socket.

Its HTTP API and not the ``docker`` command: what ``inspect`` gives is what ``create`` takes, in the same JSON, where a
command line would have to spell out some eighty settings as flags; and the command need not be there. Source: Docker
Engine API 1.41 and later; paths without a version are the daemon's own.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx

from qtop.errors import Refused

ANSWER_S = 30.0
CREATE_S = 120.0
Json = dict[str, Any]


def sockets() -> Iterator[str]:
    """Where a daemon may listen, the likeliest first: DOCKER_HOST's, the system's, a rootless one of this user's."""
    told = os.environ.get("DOCKER_HOST", "")
    if told.startswith("unix://"):
        yield told.removeprefix("unix://")
        return
    yield "/var/run/docker.sock"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield f"{runtime}/docker.sock"


class Engine:
    """One daemon, by its socket's path, and the seconds that it is given for an answer."""

    def __init__(self, socket: str, patience: float = ANSWER_S) -> None:
        self.socket, self.patience = socket, patience

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. Errors: Refused where no daemon answers, or this user may not ask it."""
        timeout = self.patience if timeout is None else timeout
        transport = httpx.HTTPTransport(uds=self.socket)
        try:
            with httpx.Client(transport=transport, base_url="http://docker", timeout=timeout) as client:
                answer = client.request(method, path, json=body, params=query)
        except httpx.TimeoutException:
            raise Refused(f"Docker did not answer within {timeout:.0f} s") from None
        except httpx.ConnectError as error:
            if Path(self.socket).exists() and not os.access(self.socket, os.W_OK):
                raise Refused(
                    f"you may not use Docker's socket {self.socket}", "Run qtop as root (sudo qtop …)."
                ) from None
            raise Refused(f"Docker does not answer on {self.socket}: {error}") from None
        except httpx.HTTPError as error:
            raise Refused(f"Docker's answer broke off: {type(error).__name__}") from None
        return answer.status_code, answer.content

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
        fine: tuple[int, ...] = (),
    ) -> Any:
        """The answer as JSON, None for an empty one or a status of ``fine``. Errors: Refused with what Docker says."""
        status, data = self.ask(method, path, body, query, timeout)
        if status in fine:
            return None
        if status >= 400:
            raise Refused(f"Docker: {_message(data) or f'status {status}'}")
        try:
            return json.loads(data) if data.strip() else None
        except ValueError:
            raise Refused("what Docker answers is no JSON") from None

    def inspect(self, container: str, size: bool = False) -> Json | None:
        """All that it knows of a container, by id or name; None where there is none."""
        query = {"size": "true"} if size else None
        return cast("Json | None", self.call("GET", f"/containers/{quote(container)}/json", query=query, fine=(404,)))

    def labelled(self, *labels: str) -> list[Json]:
        """Containers, running or not, that have all of these labels."""
        query = {"all": "true", "filters": json.dumps({"label": list(labels)})}
        return cast("list[Json]", self.call("GET", "/containers/json", query=query) or [])

    def image(self, name: str) -> str:
        """The id of the image that a name means now, "" for none."""
        found = self.call("GET", f"/images/{quote(name, safe='/:@')}/json", fine=(404,))
        return str((found or {}).get("Id", ""))

    def stop(self, container: str, seconds: int) -> None:
        """SIGTERM (or what the image says), and by force after these seconds; no error where it has ended."""
        query = {"t": str(seconds)}
        self.call("POST", f"/containers/{container}/stop", query=query, timeout=seconds + 60.0, fine=(304, 404))

    def start(self, container: str) -> None:
        """Start it; no error where it runs."""
        self.call("POST", f"/containers/{container}/start", timeout=CREATE_S, fine=(304,))

    def rename(self, container: str, name: str) -> None:
        """Give it another name."""
        self.call("POST", f"/containers/{container}/rename", query={"name": name})

    def remove(self, container: str) -> None:
        """By force, with its anonymous volumes kept; no error where there is none, or Docker is at it already."""
        self.call("DELETE", f"/containers/{container}", query={"force": "true"}, timeout=CREATE_S, fine=(404, 409))

    def restart_policy(self, container: str, policy: Json) -> None:
        """What Docker does when it ends."""
        self.call("POST", f"/containers/{container}/update", {"RestartPolicy": policy})

    def create(self, name: str, body: Json) -> str:
        """A container that does not run yet; its id."""
        made = self.call("POST", "/containers/create", body, {"name": name}, CREATE_S)
        return str(made["Id"])

    def connect(self, network: str, container: str, endpoint: Json) -> None:
        """One network more."""
        self.call("POST", f"/networks/{quote(network)}/connect", {"Container": container, "EndpointConfig": endpoint})

    def logs(self, container: str, lines: int) -> list[str]:
        """The last lines that it wrote to both streams; none where its log driver keeps none."""
        try:
            return self.read_log(container, lines)
        except Refused:
            return []

    def read_log(self, container: str, lines: int) -> list[str]:
        """As ``logs``. Errors: Refused with the daemon's reason."""
        query = {"stdout": "true", "stderr": "true", "tail": str(lines)}
        status, data = self.ask("GET", f"/containers/{container}/logs", query=query)
        if status != 200:
            raise Refused(f"Docker: {_message(data) or f'status {status}'}")
        return unframed(data).decode(errors="replace").splitlines()

    def memory_left(self, container: str) -> int | None:
        """Bytes until its limit, what the kernel can take back of its page cache not counted; None: no limit."""
        told = self.inspect(container)
        if told is None or not told["HostConfig"].get("Memory"):
            return None
        query = {"stream": "false", "one-shot": "true"}
        memory = (self.call("GET", f"/containers/{container}/stats", query=query) or {}).get("memory_stats") or {}
        stats = memory.get("stats") or {}
        cached = stats.get("inactive_file", stats.get("total_inactive_file", 0))
        return int(told["HostConfig"]["Memory"]) - int(memory.get("usage", 0)) + int(cached)

    def execute(self, container: str, body: Json, timeout: float) -> tuple[int, str]:
        """Run something inside; its exit status and what it wrote."""
        wish = {"AttachStdout": True, "AttachStderr": True, **body}
        number = str(self.call("POST", f"/containers/{container}/exec", wish)["Id"])
        status, data = self.ask("POST", f"/exec/{number}/start", {"Detach": False, "Tty": False}, timeout=timeout)
        if status >= 400:
            raise Refused(f"Docker: {_message(data)}")
        ended = self.call("GET", f"/exec/{number}/json")
        return int(ended.get("ExitCode") or 0), unframed(data).decode(errors="replace")


def unframed(data: bytes) -> bytes:
    """A stream without Docker's frames of eight bytes (stream, three zeros, length); as it is where it has none."""
    whole, at = b"", 0
    while at + 8 <= len(data):
        if data[at] > 2 or data[at + 1 : at + 4] != b"\0\0\0":
            return data if at == 0 else whole + data[at:]
        (size,) = struct.unpack(">I", data[at + 4 : at + 8])
        whole += data[at + 8 : at + 8 + size]
        at += 8 + size
    return whole if at else data


def _message(data: bytes) -> str:
    """The daemon's reason, in one line."""
    try:
        return " ".join(str(json.loads(data).get("message", "")).split())[:300]
    except (ValueError, AttributeError):
        return " ".join(data.decode(errors="replace").split())[:300]
