"""Docker Compose, run: the plugin of the ``docker`` command (v2), or ``docker-compose`` (v1)."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from qtop.act.change import Work
from qtop.act.launchers.launcher import Launch, sayer
from qtop.errors import Refused

ANSWER_S = 60.0
UP_S = 600.0


@dataclass(frozen=True)
class Tool:
    """One of the two, by the words that begin its command."""

    words: tuple[str, ...]

    def _project(self, launch: Launch, files: list[str]) -> list[str]:
        command = [*self.words, "-p", launch["project"], "--project-directory", launch["folder"]]
        for file in launch["env_files"]:
            command += ["--env-file", file]
        for file in files:
            command += ["-f", file]
        return command

    def up(self, launch: Launch, files: list[str], start: bool = True) -> list[str]:
        """The command that makes the service as these files say; other services are left alone, nothing is built."""
        how = ["-d"] if start else ["--no-start"]
        return [*self._project(launch, files), "up", *how, "--no-deps", "--no-build", launch["service"]]

    def config_hash(self, launch: Launch) -> str:
        """The mark by which Compose knows whether a container is as its files say."""
        command = [*self._project(launch, launch["files"]), "config", f"--hash={launch['service']}"]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=_environ(launch),
                timeout=ANSWER_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise Refused("Compose does not answer") from None
        if done.returncode:
            raise Refused(f"Compose cannot read the files of {launch['project']}: {_reason(done.stderr)}")
        return next((line.split()[-1] for line in done.stdout.splitlines() if line.split()), "")

    def run(self, launch: Launch, files: list[str], work: Work, lock: int, start: bool = True) -> None:
        """Bring the service up; the lock goes with the process. Errors: Refused with Compose's reason."""
        with tempfile.TemporaryFile() as said:
            child = subprocess.Popen(
                self.up(launch, files, start),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=_environ(launch),
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C is qtop's affair
            )
            begun, say = time.monotonic(), sayer(work, "Compose is at work")
            while child.poll() is None:
                if time.monotonic() - begun > UP_S:
                    child.terminate()
                    raise Refused(f"Compose did not end within {UP_S / 60:.0f} min")
                say()
                time.sleep(0.05)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if child.returncode:
            raise Refused(f"Compose did not bring {launch['service']} up: {_reason(text)}")


def find_tool(launch: Launch) -> Tool:
    """What is installed here, v2 before v1. Errors: Refused where there is neither."""
    for words in (("docker", "compose"), ("docker-compose",)):
        if _answers(words):
            return Tool(words)
    raise Refused(
        f"the server is the service {launch['service']} of the Compose project {launch['project']}, "
        "and Compose is not installed here",
        "Install the docker compose plugin, or change `command:` where it was started.",
    )


@lru_cache(maxsize=4)
def _answers(words: tuple[str, ...]) -> bool:
    try:
        done = subprocess.run(
            [*words, "version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def used_variables(texts: Iterable[str]) -> dict[str, str | None]:
    """Variables that Compose files name, and those about Compose itself, as they are here: the same values have to be
    there when the old command comes back, from whatever shell. None: not set."""
    names = {name for text in texts for name in re.findall(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)", text)}
    names |= {name for name in os.environ if name.startswith("COMPOSE_")}
    return {name: os.environ.get(name) for name in sorted(names)}


def _environ(launch: Launch) -> dict[str, str]:
    """One's own, with the variables as they were, and the daemon that has the container."""
    used: dict[str, str | None] = launch["variables"]
    kept = {name: value for name, value in os.environ.items() if name not in used}
    given = {name: value for name, value in used.items() if value is not None}
    return {**kept, **given, "DOCKER_HOST": f"unix://{launch['socket']}", "COMPOSE_ANSI": "never"}


def _reason(text: str) -> str:
    """The last line that tells of an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() or "cannot" in line.lower()]
    return (told or lines or ["it says not why"])[-1][:300]
