"""The command of a plan leaves the screen: to a file, or, after a preview, to ``qtop serve``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtop.act.journal import state_dir
from qtop.act.launch_files import Installed, checked, installed, rendered
from qtop.act.launchers.capture import own_log
from qtop.act.serve.begin import FIRST_PORT, Begun, begin, end, free_port
from qtop.errors import QtopError
from qtop.record.files import write_new
from qtop.ui.commands import in_background
from qtop.ui.screens.dialogs import ConfirmDialog
from qtop.ui.screens.plan_dialogs import FileDialog

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp


class Launching:
    """Writes and starts what ``Planning`` says."""

    def __init__(self, app: QtopApp) -> None:
        self._app = app
        self._busy = False
        self.begun: Begun | None = None

    # To a file

    def write(self) -> None:
        """Ask as what and where; a recording's plan may be written too: it changes nothing that runs."""
        planning = self._app.planning
        if planning.refusal or planning.words is None or planning.made is None:
            self._app.say(planning.refusal)
            return
        told, gpus = planning.words, planning.made.wish.gpus

        def put(kind: str, name: str, replace: bool) -> tuple[str, bool]:
            path = Path(name).expanduser()
            if not replace and path.is_file():
                return f"{path} exists: Enter again replaces it", False
            try:
                write_new(path, rendered(kind, told, planning.vllm, gpus).encode(), overwrite=replace)
            except QtopError as error:
                return str(error), False
            return f"wrote {path}", True

        self._app.push_screen(FileDialog(put), lambda said: self._app.say(said) if said else None)

    # To qtop serve

    def start(self) -> None:
        """Look beside the screen what would run, show it, and run it if that is wanted; or end what was begun."""
        app = self._app
        if not app.session.may_act:
            app.say(app.session.no_actor)
        elif self._busy:
            app.say("one moment: it is being looked at already")
        elif self.begun is not None and self.begun.alive:
            self._offer_end(self.begun)
        elif (refusal := app.planning.refusal) or app.planning.words is None:
            app.say(refusal)
        else:
            self._look(app.planning.words)

    def _look(self, told: list[str]) -> None:
        named = self._app.planning.vllm_named

        def work() -> Callable[[], None]:
            vllm = installed(named)
            if vllm is None or not vllm.argv:
                raise QtopError("no vLLM is installed here", "Name its program: qtop plan --screen --vllm PATH")
            taken, said = checked(told, vllm)
            if taken is False:
                raise QtopError(f"the vLLM here does not take it: {said}")
            port = free_port()
            return lambda: self._preview(told, vllm, port, said)

        self._beside("looking what that would run …", work)

    def _beside(self, text: str, work: Callable[[], Callable[[], None]]) -> None:
        """Say ``text``, do the work beside the screen, and then what it gives; or say why not (QtopError)."""
        app, self._busy = self._app, True
        app.say(text)

        def run() -> None:
            try:
                then = work()
            except QtopError as error:
                why = str(error)
                app.run_later(lambda: self._done(why))
            else:
                app.run_later(then)

        in_background(run)

    def _done(self, text: str) -> None:
        self._busy = False
        self._app.say(text)

    def _preview(self, told: list[str], vllm: Installed, port: int, said: str) -> None:
        """What will run, where, and how it is ended."""
        app, self._busy = self._app, False
        if app.planning.words != told:
            app.say("the plan has changed meanwhile: S again")
            return
        run = [*vllm.argv, *told[1:], *(["--port", str(port)] if port != FIRST_PORT else [])]
        name = f"vllm-{port}"
        log = own_log(state_dir(), name)
        texts = [f"qtop serve --name {name} -- {shlex.join(run)}", ""]
        if said:
            texts.append(f"checked: {said}")
        if (card := app.planning.elsewhere) is not None:
            texts.append(f"careful: the plan is for {card}, which is not read here; it may not fit")
        texts += [
            f"where: this host, folder {Path.cwd()}, as the user who runs qtop; it listens on port {port}",
            f"log: {log}",
            "it goes on when qtop ends, and is started again if it ends by itself",
            "ended by: S here, or kill with the pid of its qtop serve, which is told once it runs",
        ]
        app.push_screen(
            ConfirmDialog(app.look, "Start this server?", texts, "start it"),
            lambda go: self._begin(run, name, log) if go else None,
        )

    def _begin(self, run: list[str], name: str, log: Path) -> None:
        def work() -> Callable[[], None]:
            one = begin(run, name, log)
            return lambda: self._begun(one)

        self._beside(f"qtop serve begins {name} …", work)

    def _begun(self, one: Begun) -> None:
        self.begun = one
        self._done(f"qtop serve runs {one.name}: S or `kill {one.pid}` ends it; log {one.log}")

    def _offer_end(self, one: Begun) -> None:
        texts = [f"qtop serve ({one.name}, pid {one.pid}) was begun here: its server is ended, then itself."]

        def told(go: bool | None) -> None:
            if go:
                end(one)
                self._app.say(f"{one.name} was asked to end")

        self._app.push_screen(ConfirmDialog(self._app.look, "End this server?", texts, "end it"), told)
