"""A container made from another: the same in all but its command. Pure.

What ``inspect`` of the Docker Engine gives becomes what ``create`` takes. Source: Docker Engine API, ContainerInspect
and ContainerCreate.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from qtop.act.launchers.respell import Token, literal, respelled

Json = dict[str, Any]
LABEL, REMADE = "qtop.change", "qtop.remade"
"""Of a container with other words, and of one made again because the old one was gone: with the change's mark."""
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OWN_NETWORKS = ("host", "none", "bridge", "default", "")


def id_in(cgroup: str) -> str:
    """The container's id in a /proc/PID/cgroup, v1 or v2, by cgroupfs or systemd, seen from outside or from a sibling;
    "" where there is none."""
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        if found := _ID.findall(path):
            return str(found[-1])
    return ""


def foreign(cgroup: str) -> str:
    """Who runs the container, where that is not Docker: "a Kubernetes pod", "a Podman container"; else ""."""
    if "kubepods" in cgroup:
        return "a Kubernetes pod"
    if "libpod" in cgroup:
        return "a Podman container"
    return "a container of containerd" if "cri-containerd" in cgroup or "/nerdctl" in cgroup else ""


def command_of(told: Json) -> list[str]:
    """Entrypoint and command, as the container was made with them."""
    config = told["Config"]
    return [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]


def with_words(told: Json, old: Sequence[str], new: Sequence[str], own: int, what: str) -> tuple[list[str], list[str]]:
    """(entrypoint, command) that give the server the new words. Errors: Refused where its words come from elsewhere."""
    first = len(told["Config"].get("Entrypoint") or [])
    tokens: list[Token] = [literal(word) for word in command_of(told)]
    # What stays of the entrypoint, from its begin, stays there; all else is the command.
    words = respelled(tokens, old, new, own, str, what)
    kept = 0
    while kept < min(first, len(words)) and words[kept] == tokens[kept].raw:
        kept += 1
    return words[:kept], words[kept:]


def body_for(told: Json, image: str, words: tuple[list[str], list[str]] | None, labels: Json) -> Json:
    """What ``create`` takes for a container like this one; ``words`` None: with its own command."""
    config: Json = copy.deepcopy(told["Config"])
    host: Json = copy.deepcopy(told["HostConfig"])
    mode = str(host.get("NetworkMode") or "")
    if config.get("Hostname") == str(told["Id"])[:12] or mode.startswith("container:") or host.get("UTSMode") == "host":
        config["Hostname"] = ""
    if mode.startswith("container:"):
        config.pop("ExposedPorts", None)
        config.pop("MacAddress", None)
    config["Image"] = image
    config["Labels"] = {**(config.get("Labels") or {}), **labels}
    if words is not None:
        # That there is none has to be said: nothing means the image's.
        config["Entrypoint"] = words[0] or ([""] if config.get("Entrypoint") else None)
        config["Cmd"] = words[1]
    _pin_ports(host, told)
    _keep_volumes(host, told)
    host["Links"] = [_link(one) for one in host.get("Links") or []] or None
    networks = networks_of(told)
    body = {**config, "HostConfig": host}
    if networks:
        name, endpoint = next(iter(networks.items()))
        body["NetworkingConfig"] = {"EndpointsConfig": {name: endpoint}}
    return body


def networks_of(told: Json) -> dict[str, Json]:
    """Networks of its user's own with what the container asked for there, the one that it was made with first."""
    mode = str(told["HostConfig"].get("NetworkMode") or "")
    found = (told.get("NetworkSettings") or {}).get("Networks") or {}
    kept: dict[str, Json] = {}
    for name in sorted(found, key=lambda one: one != mode):
        if name in _OWN_NETWORKS or mode.startswith("container:"):
            continue
        endpoint = found[name] or {}
        aliases = [one for one in endpoint.get("Aliases") or [] if one != str(told["Id"])[:12]]
        asked = {key: endpoint[key] for key in ("IPAMConfig", "Links", "DriverOpts") if endpoint.get(key)}
        kept[name] = {**asked, **({"Aliases": aliases} if aliases else {})}
    return kept


def _pin_ports(host: Json, told: Json) -> None:
    """A port of the host that Docker chose stays the one that clients know."""
    given = (told.get("NetworkSettings") or {}).get("Ports") or {}
    for port, bindings in (host.get("PortBindings") or {}).items():
        actual = given.get(port) or []
        for binding in bindings or []:
            if binding.get("HostPort") in ("", "0", None):
                same = [one for one in actual if (one.get("HostIp") or "") == (binding.get("HostIp") or "")] or actual
                binding["HostPort"] = same[0]["HostPort"] if same else ""


def _keep_volumes(host: Json, told: Json) -> None:
    """Volumes without a name are mounted by the one that Docker gave them: a new container would get empty ones."""
    binds = list(host.get("Binds") or [])
    targets = {bind.split(":")[1] for bind in binds if ":" in bind}
    mounts = {mount.get("Target"): mount for mount in host.get("Mounts") or []}
    for volume in told.get("Mounts") or []:
        where, name = volume.get("Destination"), volume.get("Name")
        if volume.get("Type") != "volume" or not name or where in targets:
            continue
        if where in mounts:
            mounts[where]["Source"] = mounts[where].get("Source") or name
        elif not host.get("VolumesFrom"):
            binds.append(f"{name}:{where}{'' if volume.get('RW', True) else ':ro'}")
    host["Binds"] = binds or None


def unnamed_volumes(told: Json) -> list[str]:
    """Where in it volumes are mounted that nobody gave a name."""
    return [
        str(one["Destination"])
        for one in told.get("Mounts") or []
        if one.get("Type") == "volume" and re.fullmatch(r"[0-9a-f]{64}", str(one.get("Name", "")))
    ]


def _link(text: str) -> str:
    """ "/db:/server/db" as create wants it: "db:db"."""
    other, _, alias = text.partition(":")
    return f"{other.lstrip('/')}:{alias.rpartition('/')[2]}"
