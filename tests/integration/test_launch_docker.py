"""server-flags on containers of a real Docker, made by hand and by Compose: changed, put back, killed at each step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.real_docker import Docker, LlamaInDocker, docker_here
from tests.fakes.spawned import ROOT

from qtop.demo.server import answers, free_port

pytestmark = [pytest.mark.integration, pytest.mark.root]

COMPOSE = shutil.which("docker-compose") is not None


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with docker_here() as running:
        yield running


def environ(docker: Docker, state: Path) -> dict[str, str]:
    kept = {name: value for name, value in docker.environ().items() if not name.startswith(("QTOP_", "XDG_"))}
    return {**kept, "XDG_STATE_HOME": str(state), "PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}"}


def run(docker: Docker, state: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    env = {**environ(docker, state), **more}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def apply(docker: Docker, state: Path, url: str, flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    ask = ("qtop", "apply", f"server-flags={flags}", "--no-measure", "--yes", "--url", url)
    return run(docker, state, *ask, **more)


def names(docker: Docker) -> list[str]:
    return sorted(docker("ps", "--all", "--format", "{{.Names}}").split())


def command(docker: Docker, name: str) -> list[str]:
    (found,) = json.loads(docker("inspect", name))
    return [*(found["Config"]["Entrypoint"] or []), *found["Config"]["Cmd"]]


def settings(server: LlamaInDocker) -> dict[str, Any]:
    """All of a container that is not its command, or its own life."""
    told = server.container.inspect()
    config = {key: value for key, value in told["Config"].items() if key not in ("Cmd", "Hostname", "Labels")}
    host = {key: value for key, value in told["HostConfig"].items() if key not in ("Binds", "Links", "Mounts")}
    mounts = sorted((one["Type"], one["Source"], one["Destination"], one["RW"]) for one in told["Mounts"])
    return {"image": told["Image"], "config": config, "host": host, "mounts": mounts}


def test_a_real_server_in_a_container(docker: Docker, llama_model: Path, tmp_path: Path) -> None:
    """Everything but the command stays, a volume without a name too; its own parser is asked inside."""
    options = ("--restart", "always", "--volume", "/data", "--memory", "1g", "--cpuset-cpus", "0", "--ulimit", "core=0")
    server = docker.llamacpp(llama_model, *options, context=512)
    before, words, number = settings(server), command(docker, "llama"), server.container.inspect()["Id"]
    done = apply(docker, tmp_path, server.url, "--parallel=2")
    assert done.returncode == 0 and "checked with" in done.stdout, done.stderr
    assert "2" in command(docker, "llama") and settings(server) == before
    assert server.container.inspect()["Id"] != number and len(names(docker)) == 2
    done = apply(docker, tmp_path, server.url, "--ctx-size=many")
    assert done.returncode == 1 and "Nothing was stopped" in done.stderr
    done = apply(docker, tmp_path, server.url, "--model=/nowhere.gguf")
    assert done.returncode == 1 and "/nowhere.gguf" in done.stderr.splitlines()[-1]
    assert "2" in command(docker, "llama")
    assert run(docker, tmp_path, "qtop", "undo").returncode == 0
    assert (names(docker), command(docker, "llama"), settings(server)) == (["llama"], words, before)
    assert server.container.inspect()["Id"] == number
    server.container.remove()


@pytest.mark.parametrize("options", [("--restart", "always"), ("--rm",)])
def test_killed_at_each_step(docker: Docker, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Before it or into it, the old command runs after undo, and no other container is left."""
    server = docker.light(*options)
    words, policy = command(docker, "light"), server.container.inspect()["HostConfig"]["RestartPolicy"]
    steps = (server.url, "--ctx-size=64", "apply", "docker")
    done = run(docker, tmp_path, "tests.fakes.die_at", *steps)
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len([one for one in rounds if one["killed"]]) >= 3
    assert all(one["words"][-2:] == words[-2:] for one in rounds), done.stdout
    assert (names(docker), command(docker, "light")) == (["light"], words)
    assert server.container.inspect()["HostConfig"]["RestartPolicy"] == policy
    server.container.remove()


def test_one_that_ignores_sigterm_and_one_that_was_pruned(docker: Docker, tmp_path: Path) -> None:
    """It is killed after its time; an old container that somebody removed meanwhile is made again."""
    server = docker.light("--stop-timeout", "1", "--hostname", "gpu-1", more=["--stubborn"])
    words = command(docker, "light")
    assert apply(docker, tmp_path, server.url, "--ctx-size=64").returncode == 0
    docker("container", "prune", "--force")
    assert names(docker) == ["light"]
    done = run(docker, tmp_path, "qtop", "undo")
    assert done.returncode == 0, done.stderr
    assert (names(docker), command(docker, "light")) == (["light"], words)
    assert server.container.inspect()["Config"]["Hostname"] == "gpu-1"
    server.container.remove()


def test_another_container_under_its_name_is_left_alone(docker: Docker, tmp_path: Path) -> None:
    server = docker.light()
    assert apply(docker, tmp_path, server.url, "--ctx-size=64").returncode == 0
    server.container.remove()
    other = docker.light(more=["--ctx-size", "9"])
    done = run(docker, tmp_path, "qtop", "undo")
    assert done.returncode == 1 and other.answers() and "9" in command(docker, "light"), done.stderr
    other.container.remove()
    for left in names(docker):
        docker("rm", "--force", left)


def test_a_socket_that_may_not_be_used_is_one_line(docker: Docker, tmp_path: Path) -> None:
    server = docker.light()
    done = apply(docker, tmp_path, server.url, "--ctx-size=64", DOCKER_HOST=f"unix://{tmp_path / 'no.sock'}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "no.sock" in done.stderr
    server.container.remove()


@pytest.mark.skipif(not COMPOSE, reason="no docker-compose: apt-get install --no-install-recommends docker-compose")
def test_a_service_of_compose(docker: Docker, tmp_path: Path) -> None:
    """Its override is written and removed, its neighbour left alone; killed while Compose works, undo waits for it."""
    port, project = free_port(), docker.folder / "project"
    services = {"light": docker.light_command(port), "other": docker.light_command(free_port())}
    docker.compose(project, services, environment={"SEEN": "${QTOP_TEST_SEEN:-1}"})
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while not answers(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    other = docker("inspect", "--format", "{{.Id}}", "project_other_1")
    words = command(docker, "project_light_1")

    done = apply(docker, tmp_path, url, "--ctx-size=64", QTOP_TEST_SEEN="2")
    assert done.returncode == 1 and "say something else than what runs" in done.stderr, done.stderr
    done = apply(docker, tmp_path, url, "--ctx-size=64", PATH="/nowhere")
    assert done.returncode == 1 and "Compose is not installed here" in done.stderr, done.stderr
    done = apply(docker, tmp_path, url, "--ctx-size=64")
    assert done.returncode == 0 and (project / "qtop.override.yaml").exists(), done.stderr
    assert command(docker, "project_light_1") == [*words, "--ctx-size", "64"]
    done = apply(docker, tmp_path, url, "--fail-with=nomemory")
    assert done.returncode == 1 and "nomemory" in done.stderr, done.stderr
    assert command(docker, "project_light_1") == [*words, "--ctx-size", "64"]
    assert run(docker, tmp_path, "qtop", "undo", QTOP_TEST_SEEN="2").returncode == 0
    assert command(docker, "project_light_1") == words

    done = run(docker, tmp_path, "tests.fakes.die_at", url, "--ctx-size=64", "apply", "run ")
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one for one in rounds if one["killed"]], done.stdout + done.stderr
    assert all(one["words"][-2:] == words[-2:] for one in rounds), done.stdout
    assert os.listdir(project) == ["docker-compose.yml"]
    assert docker("inspect", "--format", "{{.Id}}", "project_other_1") == other
    assert names(docker) == ["project_light_1", "project_other_1"]
