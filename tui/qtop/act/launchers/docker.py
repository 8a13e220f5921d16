"""The launcher ``docker``: a container, which cannot be given another command. The old one is stopped and kept under
another name, a new one with the same image, settings, volumes and networks takes its place.

Its launch, beside the common: {"token", "spare": the old one's name meanwhile, "policy": its restart policy, "removes":
Docker removes it once it stops (--rm), "saved" and "networks": how to make it again where it was removed, "new": the
words wanted}. All names are made before anything is touched, so that whatever a kill -9 left behind is found by them,
and by the label that the new container has.
"""

from __future__ import annotations

import time
from typing import ClassVar

from qtop.act.change import Work
from qtop.act.launchers.container import LABEL, REMADE, Json, body_for, networks_of, unnamed_volumes, with_words
from qtop.act.launchers.containers import (
    PROJECT,
    captured,
    container_of,
    ended_of,
    first_pid,
    image_of,
    log_of,
    words_of,
)
from qtop.act.launchers.engine_api import Engine
from qtop.act.launchers.launcher import Launch
from qtop.act.launchers.manager import token_for
from qtop.act.words import words_begin
from qtop.errors import Refused
from qtop.units import size

GONE_S = 20.0
WRITTEN = 64 << 20
"""Bytes in a container's own layer that are worth a word: something was downloaded into it."""


class Docker:
    """A container that was made by hand (docker run)."""

    kind: ClassVar[str] = "docker"
    title: ClassVar[str] = "the Docker container"

    def capture(self, pid: int) -> Launch | None:
        """The container that it runs in; not one of Compose's."""
        found = container_of(pid)
        if found is None:
            return None
        engine, told = found
        if PROJECT in (told["Config"].get("Labels") or {}):
            return None
        launch = captured(pid, engine, told)
        token = token_for(pid, launch["name"])
        launch |= {
            "token": token,
            "spare": f"{launch['name']}.before-{token}",
            "policy": told["HostConfig"].get("RestartPolicy") or {"Name": "no"},
            "removes": bool(told["HostConfig"].get("AutoRemove")),
            "saved": body_for(told, image_of(engine, told), None, {REMADE: token}),
            "networks": networks_of(told),
            "written": int((engine.inspect(launch["container"], size=True) or {}).get("SizeRw") or 0),
        }
        if launch["removes"] and (volumes := unnamed_volumes(told)):
            raise Refused(
                f"Docker deletes the container once it stops (--rm), and its volume at {volumes[0]} with it",
                "Start it without --rm first.",
            )
        return launch

    def _what(self, launch: Launch) -> str:
        return f"the container {launch['name']}"

    def root(self, launch: Launch) -> bool:
        """Never: who may ask Docker may do all of it, and who may not could not have looked."""
        return False

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """Rename, stop, create, start."""
        engine, name = Engine(launch["socket"]), launch["name"]
        told = engine.inspect(launch["container"])
        if told is None:
            raise Refused(f"the container {name} is gone")
        with_words(told, launch["argv"], argv, words_begin(launch["argv"]), self._what(launch))
        kept = "removed by Docker (--rm)" if launch["removes"] else f"kept, stopped, as {launch['spare']}"
        return (
            f"container {name}: the old one is stopped (by force after {launch['stop_s']} s) and {kept}",
            f"a new {name} takes its place: same image ({told['Image'][7:19]}), devices, volumes, ports, networks, "
            "environment, restart policy",
        )

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """What stays behind in the old one."""
        if launch["written"] < WRITTEN:
            return ()
        return (
            f"{size(launch['written'])} that it wrote inside the container stay with the old one: what it "
            "downloaded there is downloaded again",
        )

    def running(self, launch: Launch) -> list[str] | None:
        """The words of whatever runs under its name."""
        told = Engine(launch["socket"]).inspect(launch["name"])
        launch["ended"] = ended_of(told)
        return words_of(told, self._words(launch, told))

    def configured(self, launch: Launch) -> list[str] | None:
        """Those of the container that has the name."""
        told = Engine(launch["socket"]).inspect(launch["name"])
        return None if told is None else self._words(launch, told)

    def _words(self, launch: Launch, told: Json | None) -> list[str]:
        """By what the container is: qtop's own, the old one, somebody else's."""
        ours = told is not None and _is_ours(told, launch) and "new" in launch
        words: list[str] = launch["new"] if ours else launch["argv"]
        return list(words)

    def stop(self, launch: Launch, work: Work) -> None:
        """As ``docker stop``: what ignores SIGTERM is killed after its time."""
        engine = Engine(launch["socket"])
        told = engine.inspect(launch["name"])
        if told is None or not (_is_old(told, launch) or _is_ours(told, launch)) or not told["State"].get("Running"):
            return  # one that was only created is removed by nobody
        work.say(f"stopping the container {launch['name']} (by force after {launch['stop_s']} s)")
        engine.stop(told["Id"], launch["stop_s"])
        if told["HostConfig"].get("AutoRemove"):
            _until_gone(engine, told["Id"])

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """The new container, or the old one again."""
        engine = Engine(launch["socket"])
        if argv == launch["argv"]:
            self.tidy(launch, work)
            engine.start(launch["name"])
            return
        launch["new"] = list(argv)
        work.save()
        told = self._set_aside(engine, launch)
        words = with_words(told, launch["argv"], argv, words_begin(launch["argv"]), self._what(launch))
        body = body_for(told, image_of(engine, told), words, {LABEL: launch["token"]})
        _make(engine, launch["name"], body, networks_of(told))
        engine.start(launch["name"])

    def _set_aside(self, engine: Engine, launch: Launch) -> Json:
        """The old container under its other name, not started by Docker itself; what it was."""
        told = engine.inspect(launch["container"])
        if told is None:
            return _as_told(launch)
        if _policy(told) != "no":
            engine.restart_policy(told["Id"], {"Name": "no", "MaximumRetryCount": 0})
        if told["Name"].lstrip("/") == launch["name"]:
            engine.rename(told["Id"], launch["spare"])
        return told

    def tidy(self, launch: Launch, work: Work) -> None:
        """The old container under its own name again, as it was; qtop's is removed."""
        engine = Engine(launch["socket"])
        holder = engine.inspect(launch["name"])
        if holder is not None and not _is_old(holder, launch):
            if not _is_ours(holder, launch):
                raise Refused(
                    f"another container has the name {launch['name']} now", f"The old one is {launch['spare']}."
                )
            engine.remove(holder["Id"])
            _until_gone(engine, holder["Id"])
            holder = None
        old = holder or engine.inspect(launch["container"])
        if old is None:  # removed with --rm, or by somebody who prunes what is stopped
            _make(engine, launch["name"], launch["saved"], launch["networks"])
            return
        if old["Name"].lstrip("/") != launch["name"]:
            engine.rename(old["Id"], launch["name"])
        if _policy(old) != (launch["policy"].get("Name") or "no"):
            engine.restart_policy(old["Id"], launch["policy"])

    def pid(self, launch: Launch) -> int | None:
        """The container's first process."""
        return first_pid(Engine(launch["socket"]).inspect(launch["name"]))

    def log(self, launch: Launch) -> list[str]:
        """What the container wrote; a new one has nothing of before."""
        return log_of(Engine(launch["socket"]), launch["name"])

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """The new container is what lasts."""
        return ""

    def check(self, launch: Launch, argv: list[str]) -> None:
        """Root's helper makes no containers."""
        raise Refused("root's helper makes no container for somebody else", "Run it as `sudo qtop …`.")


def _is_ours(told: Json, launch: Launch) -> bool:
    return bool((told["Config"].get("Labels") or {}).get(LABEL) == launch["token"])


def _is_old(told: Json, launch: Launch) -> bool:
    remade = (told["Config"].get("Labels") or {}).get(REMADE) == launch["token"]
    return bool(told["Id"] == launch["container"]) or (remade and not _is_ours(told, launch))


def _policy(told: Json) -> str:
    return str((told["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no")


def _make(engine: Engine, name: str, body: Json, networks: dict[str, Json]) -> None:
    """Create it, in all its networks: older daemons take one at a time."""
    made = engine.create(name, body)
    for network in list(networks)[1:]:
        engine.connect(network, made, networks[network])


def _as_told(launch: Launch) -> Json:
    """The old container as ``inspect`` told it, out of what was saved."""
    saved = launch["saved"]
    config = {key: value for key, value in saved.items() if key not in ("HostConfig", "NetworkingConfig")}
    return {
        "Id": launch["container"],
        "Image": saved["Image"],
        "Config": config,
        "HostConfig": saved["HostConfig"],
        "NetworkSettings": {"Networks": launch["networks"]},
    }


def _until_gone(engine: Engine, container: str) -> None:
    """Docker removes in its own time."""
    deadline = time.monotonic() + GONE_S
    while engine.inspect(container) is not None:
        if time.monotonic() > deadline:
            raise Refused("Docker does not remove a container that has ended", "Try again in a minute.")
        time.sleep(0.05)
