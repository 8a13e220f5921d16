"""What the launchers ``docker`` and ``compose`` share: the container of a server, found and looked into."""

from __future__ import annotations

from qtop.act.launchers.container import Json, foreign, id_in
from qtop.act.launchers.engine_api import ANSWER_S, Engine, sockets
from qtop.act.launchers.launcher import Launch
from qtop.act.launchers.manager import server_below, words_below
from qtop.act.log_reason import ended_by
from qtop.collect.discover import in_container
from qtop.collect.discover.procfs import argv, text
from qtop.collect.engine.argv import integer
from qtop.errors import Refused
from qtop.sample import Absent

PROJECT = "com.docker.compose.project"
DEFAULT_STOP_S = 10
LINES = 300


def container_of(pid: int, patience: float = ANSWER_S) -> tuple[Engine, Json] | None:
    """The Docker container that a process runs in, with its daemon, which is given ``patience`` seconds for an answer;
    None where it runs in none.

    Errors: Refused for a container of somebody else's making, and where Docker may not be asked.
    """
    cgroup = text(f"/proc/{pid}/cgroup")
    number = id_in(cgroup)
    if not in_container(pid) or not (number or foreign(cgroup)):
        return None
    if who := foreign(cgroup):
        raise Refused(f"the server runs in {who}: qtop cannot start that anew", "Restart it with other flags there.")
    refused: Refused | None = None
    for socket in sockets():
        try:
            told = Engine(socket, patience).inspect(number)
        except Refused as error:
            refused = refused or error
            continue
        if told is not None:
            return Engine(socket, patience), told
    raise refused or Refused(
        "the server runs in a container that this Docker does not know", "Set DOCKER_HOST to the one that does."
    )


def captured(pid: int, engine: Engine, told: Json) -> Launch:
    """What every launch of a container has. Errors: Refused where the server is not what the container starts."""
    main = int(told["State"]["Pid"])
    words = argv(pid)
    if server_below(main) != pid or isinstance(words, Absent) or not words:
        raise Refused(
            "the server is not what its container was made to run", "Restart it where it was started (docker exec?)."
        )
    return {
        "argv": list(words),
        "container": str(told["Id"]),
        "socket": engine.socket,
        "name": str(told["Name"]).lstrip("/"),
        "environ": list(told["Config"].get("Env") or []),
        "stop_s": stop_seconds(told, list(words)),
    }


def stop_seconds(told: Json, argv: list[str]) -> int:
    """For a container to end by itself: its own time, or as long as the server drains."""
    own = told["Config"].get("StopTimeout")
    drain = integer(argv, "--shutdown-timeout") or 0
    return max(DEFAULT_STOP_S if own is None else int(own), drain + 5 if drain else 0)


def words_of(told: Json | None, pending: list[str]) -> list[str] | None:
    """The words of the server in a container; ``pending`` as long as it has not begun; None where it does not run."""
    if told is None or not told["State"].get("Running") or told["State"].get("Restarting"):
        return None
    main = int(told["State"].get("Pid") or 0)
    return words_below(main, pending) if main else None


def ended_of(told: Json | None) -> str:
    """How a container's first process ended, "" while it has not."""
    if told is None or (told["State"].get("Running") and not told["State"].get("Restarting")):
        return ""
    status = int(told["State"].get("ExitCode") or 0)
    if told["State"].get("OOMKilled"):
        return f"{ended_by(9)}: the container's memory ran out"
    return ended_by(status - 128) if 128 < status < 192 else f"it ended with status {status}"


def image_of(engine: Engine, told: Json) -> str:
    """The image by the name that it was asked for with, where that still means the same; else by its id."""
    name, number = str(told["Config"].get("Image") or ""), str(told["Image"])
    return name if name and engine.image(name) == number else number


def first_pid(told: Json | None) -> int | None:
    """A container's first process, as this host numbers it."""
    return (int(told["State"].get("Pid") or 0) or None) if told is not None else None


def log_of(engine: Engine, container: str) -> list[str]:
    """What a container wrote, and why Docker could not start it."""
    told = engine.inspect(container)
    if told is None:
        return []
    lines = engine.logs(str(told["Id"]), LINES)
    error = str(told["State"].get("Error") or "")
    return [*lines, f"error: {error}"] if error else lines
