"""A container made from another; what root's helper accepts of a unit's record."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qtop.act.launchers import systemd
from qtop.act.launchers.container import (
    REMADE,
    body_for,
    command_of,
    foreign,
    id_in,
    networks_of,
    unnamed_volumes,
    with_words,
)
from qtop.act.launchers.containers import ended_of, stop_seconds
from qtop.act.launchers.engine_api import unframed
from qtop.act.launchers.systemctl import Manager
from qtop.act.launchers.systemd import Systemd
from qtop.act.launchers.unit_place import dropin_text
from qtop.errors import Refused

ID = "ab" * 32
VOLUME = "cd" * 32


def told(**host: Any) -> dict[str, Any]:
    """A container as ``inspect`` tells it."""
    return {
        "Id": ID,
        "Name": "/llm",
        "Image": f"sha256:{'e' * 64}",
        "State": {"Running": True, "Pid": 5, "ExitCode": 0},
        "Config": {
            "Hostname": ID[:12],
            "Image": "vllm/vllm-openai:latest",
            "Env": ["A=1", "PATH=/usr/bin"],
            "Entrypoint": ["vllm", "serve"],
            "Cmd": ["M", "--port", "8000"],
            "Labels": {"mine": "1"},
            "WorkingDir": "/work",
            "User": "7",
        },
        "HostConfig": {
            "NetworkMode": "front",
            "Binds": ["/models:/models:ro"],
            "Mounts": None,
            "PortBindings": {"8000/tcp": [{"HostIp": "", "HostPort": "0"}]},
            "DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}],
            "ShmSize": 1 << 34,
            "IpcMode": "private",
            "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
            "RestartPolicy": {"Name": "always"},
            "Links": ["/db:/llm/store"],
            **host,
        },
        "Mounts": [
            {"Type": "bind", "Source": "/models", "Destination": "/models"},
            {"Type": "volume", "Name": VOLUME, "Destination": "/root/.cache", "RW": True},
        ],
        "NetworkSettings": {
            "Ports": {"8000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}]},
            "Networks": {
                "back": {"Aliases": ["llm-back", ID[:12]], "NetworkID": "n2", "IPAddress": "10.0.0.9"},
                "front": {"Aliases": [ID[:12]], "IPAMConfig": {"IPv4Address": "10.1.0.4"}, "NetworkID": "n1"},
            },
        },
    }


OLD = ["/usr/bin/python3", "/usr/bin/vllm", "serve", "M", "--port", "8000"]


def test_a_container_is_made_anew_with_other_words_only() -> None:
    was = told()
    words = with_words(was, OLD, [*OLD, "--max-num-seqs", "8"], 2, "it")
    assert words == (["vllm", "serve"], ["M", "--port", "8000", "--max-num-seqs", "8"])
    body = body_for(was, "vllm/vllm-openai:latest", words, {REMADE: "x"})
    assert (body["Entrypoint"], body["Cmd"]) == (list(words[0]), list(words[1]))
    assert body["Labels"] == {"mine": "1", REMADE: "x"}
    assert (body["WorkingDir"], body["User"], body["Env"]) == ("/work", "7", ["A=1", "PATH=/usr/bin"])
    host = body["HostConfig"]
    for same in ("DeviceRequests", "ShmSize", "IpcMode", "Ulimits", "RestartPolicy", "NetworkMode"):
        assert host[same] == was["HostConfig"][same]
    assert body["Hostname"] == "", "the one that Docker made of the old id"
    assert host["PortBindings"]["8000/tcp"][0]["HostPort"] == "49153", "clients know this one"
    assert host["Binds"] == ["/models:/models:ro", f"{VOLUME}:/root/.cache"], "a volume without a name stays"
    assert host["Links"] == ["db:store"]
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"front": {"IPAMConfig": {"IPv4Address": "10.1.0.4"}}}}
    assert networks_of(was) == {
        "front": {"IPAMConfig": {"IPv4Address": "10.1.0.4"}},
        "back": {"Aliases": ["llm-back"]},
    }
    assert was == told(), "what was looked at is not changed"


def test_a_host_name_of_its_own_stays() -> None:
    was = told()
    was["Config"]["Hostname"] = "gpu-1"
    assert body_for(was, "i", None, {})["Hostname"] == "gpu-1"
    was["HostConfig"]["UTSMode"] = "host"
    assert body_for(was, "i", None, {})["Hostname"] == ""


def test_in_the_network_of_another_it_has_no_ports_and_networks_of_its_own() -> None:
    was = told(NetworkMode="container:xyz", PortBindings={})
    was["Config"] |= {"ExposedPorts": {"8000/tcp": {}}, "MacAddress": "m"}
    body = body_for(was, "i", None, {})
    assert "ExposedPorts" not in body and "NetworkingConfig" not in body and body["Hostname"] == ""


@pytest.mark.parametrize("mode", ["host", "bridge", "default"])
def test_networks_of_dockers_own_are_named_by_the_mode_alone(mode: str) -> None:
    was = told(NetworkMode=mode, PortBindings={})
    was["NetworkSettings"]["Networks"] = {"bridge" if mode == "default" else mode: {"Aliases": None}}
    assert networks_of(was) == {} and "NetworkingConfig" not in body_for(was, "i", None, {})


def test_a_mount_without_a_source_gets_its_volume() -> None:
    was = told(Mounts=[{"Type": "volume", "Target": "/root/.cache"}])
    host = body_for(was, "i", None, {})["HostConfig"]
    assert host["Mounts"] == [{"Type": "volume", "Target": "/root/.cache", "Source": VOLUME}]
    assert host["Binds"] == ["/models:/models:ro"]
    assert unnamed_volumes(was) == ["/root/.cache"]


def test_words_in_the_entrypoint_can_change_too() -> None:
    was = told()
    was["Config"] |= {"Entrypoint": ["llama-server", "-c", "512"], "Cmd": ["--port", "80"]}
    old = ["llama-server", "-c", "512", "--port", "80"]
    words = with_words(was, old, ["llama-server", "-c", "64", "--port", "80"], 1, "it")
    assert words == (["llama-server", "-c"], ["64", "--port", "80"])
    was["Config"] |= {"Entrypoint": ["llama-server"], "Cmd": None}
    assert with_words(was, old[:1], ["llama-server", "-v"], 1, "it") == (["llama-server"], ["-v"])
    assert command_of(was) == ["llama-server"]


def test_an_entrypoint_that_goes_is_said_to_be_none() -> None:
    was = told()
    assert body_for(was, "i", ([], ["x"]), {})["Entrypoint"] == [""]
    was["Config"]["Entrypoint"] = None
    assert body_for(was, "i", ([], ["x"]), {})["Entrypoint"] is None


def test_a_shell_in_a_container_is_refused() -> None:
    was = told()
    was["Config"] |= {"Entrypoint": None, "Cmd": ["sh", "-c", "exec vllm serve M --port 8000"]}
    with pytest.raises(Refused, match="through a script or a shell"):
        with_words(was, OLD, [*OLD, "-x"], 2, "the container llm")


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (f"4:memory:/docker/{ID}\n0::/\n", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", ID),
        (f"0::/../{ID}\n", ID),
        (f"0::/docker/{'0' * 64}/docker/{ID}/init\n", ID),
        (f"0::/user.slice/user-1.slice/user@1.service/app.slice/docker-{ID}.scope\n", ID),
        ("0::/system.slice/vllm.service\n", ""),
        (f"0::/{ID}{'a' * 8}\n", ""),
    ],
)
def test_the_container_of_a_process(cgroup: str, expected: str) -> None:
    assert id_in(cgroup) == expected


def test_other_peoples_containers_are_named() -> None:
    assert foreign(f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope") == "a Kubernetes pod"
    assert foreign(f"0::/machine.slice/libpod-{ID}.scope") == "a Podman container"
    assert foreign(f"0::/system.slice/docker-{ID}.scope") == ""


def test_how_long_a_container_may_take_to_stop() -> None:
    was = told()
    assert stop_seconds(was, ["x"]) == 10
    assert stop_seconds(was, ["x", "--shutdown-timeout", "60"]) == 65
    was["Config"]["StopTimeout"] = 120
    assert stop_seconds(was, ["x", "--shutdown-timeout", "60"]) == 120


def test_how_a_container_ended() -> None:
    was = told()
    assert ended_of(was) == ""
    was["State"] = {"Running": False, "ExitCode": 137}
    assert ended_of(was) == "it was ended by SIGKILL"
    was["State"]["OOMKilled"] = True
    assert "memory" in ended_of(was)
    was["State"] = {"Running": True, "Restarting": True, "ExitCode": 2}
    assert ended_of(was) == "it ended with status 2"


def test_dockers_frames_are_taken_off() -> None:
    framed = b"".join(struct.pack(">B3xI", stream, len(part)) + part for stream, part in ((1, b"out\n"), (2, b"err\n")))
    assert unframed(framed) == b"out\nerr\n"
    assert unframed(b"a terminal's output\n") == b"a terminal's output\n"
    assert unframed(b"") == b""


# What root's helper accepts

UNIT = "[Service]\nExecStart=/opt/llama-server --port 80 -c 9\n"
ARGV = ["/opt/llama-server", "--port", "80", "-c", "9"]
NEW = [*ARGV[:-1], "8"]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A record of a unit that is there, as a plan would write it."""
    unit, folder = tmp_path / "x.service", tmp_path / "x.service.d"
    unit.write_text(UNIT)
    facts = {"LoadState": "loaded", "FragmentPath": str(unit), "DropInPaths": "", "RequiredBy": "web.service"}

    def show(self: Manager, name: str, *names: str) -> dict[str, str]:
        known = facts | {"DropInPaths": " ".join(str(one) for one in sorted(folder.glob("*.conf")))}
        return {one: known.get(one, "") if name == "x.service" else "" for one in names}

    monkeypatch.setattr(Manager, "show", show)
    monkeypatch.setattr(systemd, "folder_of", lambda _: folder)
    return {
        "argv": ARGV, "unit": "x.service", "manager": None, "exec": "/opt/llama-server --port 80 -c 9",
        "dropin": str(folder / "90-qtop.conf"), "former": False, "token": "0" * 16, "stop_s": 90.0, "restart": "no",
        "mode": 0o644, "dependents": ["web.service"], "reload": False,
    }  # fmt: skip


def test_a_record_of_a_plan_is_accepted(launch: dict[str, Any]) -> None:
    Systemd().check(launch, ARGV)
    Systemd().check(launch, NEW)


def test_it_is_accepted_while_the_change_stands(launch: dict[str, Any]) -> None:
    dropin = Path(launch["dropin"])
    dropin.parent.mkdir()
    dropin.write_text(dropin_text("", launch["token"], "/opt/llama-server --port 80 -c 8"))
    Systemd().check(launch, ARGV)
    launch["token"] = "1" * 16
    with pytest.raises(Refused, match="does not start what the record says"):
        Systemd().check(launch, ARGV)


FORGED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another unit": lambda _: {"unit": "../../x.service"},
    "no service": lambda _: {"unit": "x.socket"},
    "a unit that is not there": lambda _: {"unit": "y.service"},
    "another file": lambda one: {"dropin": str(Path(one["dropin"]).with_name("50-mine.conf"))},
    "another folder": lambda _: {"dropin": "/etc/cron.d/90-qtop.conf"},
    "a mark with a path in it": lambda _: {"token": "../../../x"},
    "a command of one's own": lambda _: {"exec": "/bin/sh -c id"},
    "another unit's fate": lambda _: {"dependents": ["sshd.service"]},
    "a time that is none": lambda _: {"stop_s": "1; id"},
    "a user's manager": lambda _: {"manager": 7},
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_record_is_refused(launch: dict[str, Any], what: str) -> None:
    launch |= FORGED[what](launch)
    with pytest.raises(Refused):
        Systemd().check(launch, NEW)


@pytest.mark.parametrize("argv", [["/bin/sh", "-c", "id"], ["/opt/other", *ARGV[1:]], ARGV[:1] and ["x"]])
def test_another_program_is_refused(launch: dict[str, Any], argv: list[str]) -> None:
    with pytest.raises(Refused):
        Systemd().check(launch, argv)


def test_words_that_never_ran_do_not_change_the_program(launch: dict[str, Any]) -> None:
    """The old words are the record's own: a forged one would have the program itself looked up as a word to change."""
    Path(launch["dropin"]).parent.parent.joinpath("x.service").write_text(
        "[Service]\nExecStart=/usr/bin/python3 -m vllm.entrypoints.openai.api_server --port 80\n"
    )
    words = ["/usr/bin/python3", "-m", "vllm.entrypoints.openai.api_server", "--port", "80"]
    launch |= {"exec": " ".join(words), "argv": words}
    Systemd().check(launch, [*words, "--seed", "1"])
    with pytest.raises(Refused):
        Systemd().check(launch, [words[0], "-m", "evil", *words[3:]])
    launch["argv"] = ["vllm", *words[1:]]
    with pytest.raises(Refused):
        Systemd().check(launch, ["vllm", "-c", "import os", *words[3:]])


def test_a_unit_that_starts_no_known_server_is_not_roots_to_change(launch: dict[str, Any]) -> None:
    Path(launch["dropin"]).parent.parent.joinpath("x.service").write_text("[Service]\nExecStart=/usr/bin/env a -c 9\n")
    launch |= {"exec": "/usr/bin/env a -c 9", "argv": ["a", "-c", "9"]}
    with pytest.raises(Refused, match="start a server directly"):
        Systemd().check(launch, ["a", "-c", "8"])
