"""The launcher ``serve``: a server that ``qtop serve`` runs is asked for, through its socket, with other words.

Its launch is a bare one with "socket" and "name" beside: where ``qtop serve`` has been killed meanwhile, its server is
a bare process, and is treated as one.
"""

from __future__ import annotations

import shlex
import time
from typing import ClassVar

from qtop.act.change import Work
from qtop.act.launchers.bare import Bare
from qtop.act.launchers.ending import tree_of
from qtop.act.launchers.launcher import Launch, sayer
from qtop.act.serve.control import RUNNING, STOPPED, WAITING, State, ask, child_alive, is_alive, states
from qtop.errors import Refused

EVERY_S = 0.1


class Serve:
    """A server that qtop runs."""

    kind: ClassVar[str] = "serve"
    title: ClassVar[str] = "qtop serve"

    def __init__(self) -> None:
        self._bare = Bare()

    def capture(self, pid: int) -> Launch | None:
        """Through the state files: whose server this process is."""
        state = next((one for one in states() if is_alive(one) and (one.get("child") or [0])[0] == pid), None)
        if state is None:
            return None
        launch = self._bare.capture(pid)
        if launch is not None:
            launch.update(
                given=list(state["argv"]),
                socket=state["socket"],
                name=state["name"],
                serve=state["serve"],
                log=state["log"],
                log_own=False,
                parent="",
            )
        return launch

    def _state(self, launch: Launch) -> State | None:
        """As it is now; None where this ``qtop serve`` is no more."""
        if not is_alive({"serve": launch["serve"], "boot": launch["boot"]}):
            return None
        return ask(launch["socket"], {"do": "state"})

    def root(self, launch: Launch) -> bool:
        """Never."""
        return False

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """Who does it."""
        return (
            f"`qtop serve` ({launch['name']}, pid {launch['serve'][0]}) ends its server and starts it with these "
            f"words; log {launch['log']}",
        )

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """None: it is what it is for."""
        return ()

    def running(self, launch: Launch) -> list[str] | None:
        """What it runs; by the process where ``qtop serve`` is gone."""
        state = self._state(launch)
        if state is None:
            return self._bare.running(launch)
        if state["phase"] == RUNNING and child_alive(state):
            launch.update(pid=state["child"][0], start=state["child"][1], log_from=state["log_from"])
            return _words(launch, state)
        launch["ended"] = state["ended"]
        # One that is started again by itself in a moment is not down.
        return _words(launch, state) if state["phase"] == WAITING else None

    def configured(self, launch: Launch) -> list[str] | None:
        """What it does not run now it will not start again by itself."""
        return None

    def tidy(self, launch: Launch, work: Work) -> None:
        """Nothing is left behind."""

    def stop(self, launch: Launch, work: Work) -> None:
        """Asked for, then waited for."""
        state = self._state(launch)
        if state is None:
            self._bare.stop(launch, work)
            return
        launch["tree"] = tree_of(state["child"][0]) if state.get("child") else []
        work.save()
        state = ask(launch["socket"], {"do": "stop"})
        say = sayer(work, "`qtop serve` ends the server")
        while state["phase"] != STOPPED or state.get("child"):
            if state.get("failed"):
                raise Refused(state["failed"])
            time.sleep(EVERY_S)
            say()
            found = self._state(launch)
            if found is None:
                self._bare.stop(launch, work)
                return
            state = found

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """Asked for."""
        launch["started"] = argv
        work.save()
        if self._state(launch) is None:
            self._bare.start(launch, argv, work)
            return
        state = ask(launch["socket"], {"do": "start", "argv": argv})
        launch["log_from"] = state["log_from"]
        if state.get("child"):
            launch.update(pid=state["child"][0], start=state["child"][1], tree=tree_of(state["child"][0]))
        work.save()

    def pid(self, launch: Launch) -> int | None:
        """Its process."""
        return launch["pid"] if self.running(launch) is not None else None

    def log(self, launch: Launch) -> list[str]:
        """From where it was started."""
        return self._bare.log(launch)

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """The command for the next time."""
        return f"qtop serve --name {shlex.quote(launch['name'])} -- {shlex.join(argv)}"

    def check(self, launch: Launch, argv: list[str]) -> None:
        """Root's helper starts no processes."""
        self._bare.check(launch, argv)


def _words(launch: Launch, state: State) -> list[str]:
    """What it runs, as the process shows it: of a script (vllm) that is its interpreter and the script."""
    words: list[str] = launch["argv"] if state["argv"] == launch.get("given") else state["argv"]
    return list(words)
