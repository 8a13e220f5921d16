"""The launcher ``compose``: a service of Docker Compose, whose command an override file replaces, whole.

Its launch, beside the common: {"project", "service", "folder", "files": what Compose read, "env_files", "variables":
what these use, "override": the file's path, "former": its text before, or None, "version", "token", "new": the words
wanted}. Compose itself makes the containers. It finishes what it began when qtop is killed: it holds a lock for which
the next one waits.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import ClassVar

from qtop.act.change import Work
from qtop.act.journal import state_dir
from qtop.act.launchers.compose_tool import find_tool, used_variables
from qtop.act.launchers.container import Json, with_words
from qtop.act.launchers.containers import (
    PROJECT,
    captured,
    container_of,
    ended_of,
    first_pid,
    log_of,
    words_of,
)
from qtop.act.launchers.engine_api import Engine
from qtop.act.launchers.launcher import Launch
from qtop.act.launchers.manager import token_for
from qtop.act.launchers.unit_place import MARK, token_in
from qtop.act.whole_file import replace_whole, spare_of
from qtop.act.words import words_begin
from qtop.errors import Refused

OVERRIDE = "qtop.override.yaml"
LABELS = "com.docker.compose."
HASH = f"{LABELS}config-hash"


class Compose:
    """A service of a project."""

    kind: ClassVar[str] = "compose"
    title: ClassVar[str] = "the Docker Compose service"

    def capture(self, pid: int) -> Launch | None:
        """The service whose container it runs in. Refused where its files do not say any more what runs: starting it
        anew would bring in more than other words."""
        found = container_of(pid)
        if found is None or PROJECT not in (found[1]["Config"].get("Labels") or {}):
            return None
        engine, told = found
        labels: dict[str, str] = told["Config"]["Labels"]
        launch = captured(pid, engine, told)
        folder = labels.get(f"{LABELS}project.working_dir", "")
        files = [str(Path(folder, one)) for one in labels.get(f"{LABELS}project.config_files", "").split(",") if one]
        launch |= {
            "project": labels[PROJECT],
            "service": labels.get(f"{LABELS}service", ""),
            "folder": folder,
            "files": files,
            "env_files": [one for one in labels.get(f"{LABELS}project.environment_file", "").split(",") if one],
            "token": token_for(pid, launch["name"]),
        }
        what = f"the Compose service {launch['project']}/{launch['service']}"
        if missing := [one for one in files if not os.access(one, os.R_OK)]:
            raise Refused(f"{what} was made from {missing[0]}, which cannot be read here", "Restart it where that is.")
        if not files or not launch["service"]:
            raise Refused(f"{what} does not say which files it was made from", "Restart it with docker compose.")
        if len(_containers(launch)) > 1:
            raise Refused(f"{what} has several containers", "Change `command:` in its file and bring it up.")
        launch["variables"] = used_variables(Path(one).read_text(encoding="utf-8", errors="replace") for one in files)
        told_hash = find_tool(launch).config_hash(launch)
        if told_hash != labels.get(HASH):
            raise Refused(
                f"the files of {what}, or variables that they use, say something else than what runs",
                f"Bring it up to date first: docker compose up -d {launch['service']}",
            )
        launch |= _override(launch)
        return launch

    def root(self, launch: Launch) -> bool:
        """Never: who may not ask Docker could not have looked."""
        return False

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """The file, and the command."""
        _text(launch, _told(launch), argv)
        how = "gets another `command:`" if launch["former"] is not None else "is written: the whole `command:`"
        return (
            f"{launch['override']} {how} of the service {launch['service']}",
            " ".join(find_tool(launch).up(launch, _with_override(launch))),
        )

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """What ends it."""
        return (f"`docker compose up` without -f {OVERRIDE} puts the old command back",)

    def running(self, launch: Launch) -> list[str] | None:
        """The words of whatever runs as this service."""
        told = _holder(launch)
        launch["ended"] = ended_of(told)
        return words_of(told, self.configured(launch))

    def configured(self, launch: Launch) -> list[str]:
        """By the override file."""
        words: list[str] = launch["new"] if "new" in launch and _ours(launch) else launch["argv"]
        return list(words)

    def stop(self, launch: Launch, work: Work) -> None:
        """As ``docker stop``."""
        with _alone(launch, work):
            told = _holder(launch)
            if told is not None:
                work.say(f"stopping the service {launch['service']} (by force after {launch['stop_s']} s)")
                Engine(launch["socket"]).stop(told["Id"], launch["stop_s"])

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """The override as wanted, or as it was before; then Compose makes the container and starts it."""
        with _alone(launch, work) as lock:
            if argv == launch["argv"]:
                _put_back(launch)
                find_tool(launch).run(launch, launch["files"], work, lock)
                return
            launch["new"] = list(argv)
            launch["text"] = _text(launch, _told(launch), argv)
            work.save()
            try:
                mode = Path(launch["files"][0]).stat().st_mode & 0o777
                replace_whole(Path(launch["override"]), launch["text"], mode)
            except OSError as error:
                raise Refused(f"{launch['override']} cannot be written: {error.strerror}") from None
            find_tool(launch).run(launch, _with_override(launch), work, lock)

    def tidy(self, launch: Launch, work: Work) -> None:
        """The override as it was, the container made anew and not started."""
        with _alone(launch, work) as lock:
            _put_back(launch)
            find_tool(launch).run(launch, launch["files"], work, lock, start=False)

    def pid(self, launch: Launch) -> int | None:
        """The container's first process."""
        return first_pid(_holder(launch))

    def log(self, launch: Launch) -> list[str]:
        """What the container wrote; a new one has nothing of before."""
        told = _holder(launch)
        return log_of(Engine(launch["socket"]), told["Id"]) if told is not None else []

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """The command as the service's own file would have it."""
        words = with_words(_told(launch), launch["argv"], argv, words_begin(launch["argv"]), "")[1]
        return f"in {launch['files'][0]}, services: {launch['service']}: command: {_listed(words)}"

    def check(self, launch: Launch, argv: list[str]) -> None:
        """Root's helper runs no Compose."""
        raise Refused("root's helper does not run Compose for somebody else", "Run it as `sudo qtop …`.")


def _containers(launch: Launch) -> list[Json]:
    return Engine(launch["socket"]).labelled(
        f"{PROJECT}={launch['project']}", f"{LABELS}service={launch['service']}", f"{LABELS}oneoff=False"
    )


def _holder(launch: Launch) -> Json | None:
    """The service's container, the one that runs if there are two."""
    found = sorted(_containers(launch), key=lambda one: (one.get("State") == "running", one.get("Created", 0)))
    return Engine(launch["socket"]).inspect(found[-1]["Id"]) if found else None


def _told(launch: Launch) -> Json:
    told = _holder(launch)
    if told is None:
        raise Refused(f"the service {launch['service']} has no container any more")
    return told


def _override(launch: Launch) -> Launch:
    """The file's place (beside the others, or in qtop's own folder), what it says now, the format that it must name."""
    used = [one for one in launch["files"] if Path(one).name == OVERRIDE]
    folder = Path(launch["folder"])
    if used:
        path = Path(used[0])
    elif os.access(folder, os.W_OK):
        path = folder / OVERRIDE
    else:
        path = state_dir() / f"{launch['project']}.{launch['service']}.{OVERRIDE}"
    if path.exists() and not used:
        raise Refused(f"{path} is there already and not used", "Remove it if nobody needs it.")
    former = path.read_text(encoding="utf-8") if used else None
    return {"override": str(path), "former": former, "version": _version(launch["files"][0])}


def _version(path: str) -> str:
    """The format that the first file names: older Compose wants the same in all."""
    import yaml

    try:
        told = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(told.get("version") or "") if isinstance(told, dict) else ""


def _with_override(launch: Launch) -> list[str]:
    files: list[str] = launch["files"]
    return files if launch["override"] in files else [*files, launch["override"]]


def _listed(words: list[str]) -> str:
    """A list in YAML that Compose takes as it is: its variables begin with a dollar."""
    return json.dumps([word.replace("$", "$$") for word in words], ensure_ascii=False)


def _text(launch: Launch, told: Json, argv: list[str]) -> str:
    """The override: the former one's other services stay."""
    import yaml

    what = f"the service {launch['service']}"
    entrypoint, command = with_words(told, launch["argv"], argv, words_begin(launch["argv"]), what)
    service: Json = {"command": [word.replace("$", "$$") for word in command]}
    if entrypoint != list(told["Config"].get("Entrypoint") or []):
        service["entrypoint"] = [word.replace("$", "$$") for word in entrypoint]
    former = yaml.safe_load(launch["former"]) if launch["former"] else None
    whole: Json = former if isinstance(former, dict) else {}
    if launch["version"]:
        whole["version"] = launch["version"]
    services = whole.setdefault("services", {})
    services[launch["service"]] = {**(services.get(launch["service"]) or {}), **service}
    try:
        body = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=1 << 16)
        body.encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        raise Refused("a word of the server's command line is not text", "Change `command:` by hand.") from None
    return f"# Written by qtop: `qtop undo` puts back what was before.\n{MARK}{launch['token']}\n{body}"


def _ours(launch: Launch) -> bool:
    try:
        return token_in(Path(launch["override"]).read_text(encoding="utf-8")) == str(launch["token"])
    except (OSError, ValueError):
        return False


def _put_back(launch: Launch) -> None:
    """The override as it was before; nothing where it is not ours. Refused where somebody edited it since."""
    path = Path(launch["override"])
    spare_of(path).unlink(missing_ok=True)
    if not _ours(launch):
        return
    if path.read_text(encoding="utf-8") != launch.get("text"):
        raise Refused(f"{path} was edited since qtop wrote it", "Put its command: back by hand.")
    try:
        if launch["former"] is None:
            path.unlink()
        else:
            replace_whole(path, launch["former"], path.stat().st_mode & 0o777)
    except OSError as error:
        raise Refused(f"{path} cannot be put back: {error.strerror}") from None


class _alone:
    """The only Compose at work for qtop: one that a killed qtop began is waited for."""

    def __init__(self, launch: Launch, work: Work) -> None:
        self._launch, self._work = launch, work
        self._fd = os.open(state_dir() / "compose.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> int:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._work.say("waiting for a Compose that is at work still")
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
