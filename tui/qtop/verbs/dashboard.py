"""The dashboard on this host or on a recording, and an orderly end however it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtop.config import Settings
from qtop.errors import EXIT_OK, QtopError
from qtop.probe.prompts import PROMPTS
from qtop.session import Session
from qtop.verbs.live import make_session
from qtop.verbs.recording_options import keeps_prompts
from qtop.verbs.terminal import person_environ

if TYPE_CHECKING:
    from qtop.demo.server import DemoServer
    from qtop.ui.app import QtopApp
    from qtop.ui.look import Look

CLOSE_S = 6.0
"""After a signal that ends qtop: seconds for what was begun to be put back and closed."""
SCREEN_S = 2.0
"""And then for the screen, which a terminal that nobody reads can hold up."""
_MAIN_SCREEN = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
"""What undoes Textual's modes: paste marks, no wrapping, mouse reports, its keyboard, the other screen, no cursor."""


def dashboard(args: argparse.Namespace, settings: Settings, demo: DemoServer | None = None) -> int:
    """The dashboard on this host."""
    need_terminal("`qtop snapshot`, `doctor` and `record` work without one")
    look = look_of(args, settings)
    session, source = make_session(args, settings)
    prompts = keeps_prompts(args)
    return run_app(session, settings, look, demo, source.count_tty, autoprobe=demo is not None, keep_prompts=prompts)


def replay(args: argparse.Namespace, settings: Settings) -> int:
    """The dashboard on a recording; with ``--svg`` or ``--cast`` what it would show, in files."""
    if args.svg or args.cast:
        from qtop.verbs.export import export

        return export(args)
    if args.at is not None:
        raise QtopError("--at is of --svg", "Name the picture with --svg OUT.")
    from qtop.source.replay import ReplaySource

    source = ReplaySource(Path(args.file), args.speed)
    need_terminal(f"`qtop doctor --from {args.file}` works without one")
    look = look_of(args, settings)
    return run_app(Session(source), settings, look, None, lambda count: None)


def look_of(args: argparse.Namespace, settings: Settings) -> Look:
    """How the dashboard is to look; QtopError when the theme asked for is none."""
    from qtop.ui.look import choose

    return choose(settings.colour, person_environ(), getattr(args, "theme", settings.theme))


def need_terminal(instead: str) -> None:
    """QtopError, with what works without one, unless there is a terminal that a screen can be drawn on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise QtopError("the dashboard needs a terminal", f"{instead}.")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise QtopError("this terminal cannot place its cursor (TERM=dumb)", f"{instead}.")


def run_app(
    session: Session,
    settings: Settings,
    look: Look,
    demo: DemoServer | None,
    count_tty: Callable[[Callable[[], int]], None],
    autoprobe: bool = False,
    keep_prompts: bool = False,
    prepare: Callable[[QtopApp], None] | None = None,
) -> int:
    """Run the screen until it ends; then close the session and the demo server, and only then leave. ``prepare`` is
    called with the app before it runs."""
    from qtop.ui.app import QtopApp

    servers: list[DemoServer] = [demo] if demo is not None else []

    def start_demo(say: Callable[[str], None]) -> str:
        from qtop.demo.server import DemoServer

        say("starting the demo server …")
        server = DemoServer()
        server.start(say=say)
        servers.append(server)
        return server.url

    app = QtopApp(
        session,
        look,
        prompt=PROMPTS.get(settings.prompt, settings.prompt),
        max_tokens=settings.max_tokens,
        record_dir=Path(settings.record_dir),
        autoprobe=autoprobe,
        start_demo=start_demo,
        keep_prompts=keep_prompts,
    )
    if prepare is not None:
        prepare(app)
    count_tty(lambda: app.bytes_written)
    closing = threading.Lock()

    def close() -> None:
        with closing:
            session.close()
            for server in servers:
                server.stop()
            servers.clear()

    modes = _modes()
    ended_by: list[int] = []

    def hung_up(number: int) -> None:
        """The terminal went away (SSH dropped) or we are asked to end: close everything, whatever the screen does."""
        closer = threading.Thread(target=close, name="qtop-close", daemon=True)
        closer.start()
        closer.join(CLOSE_S)
        app.run_later(app.exit)
        threading.Event().wait(SCREEN_S)
        _restore(modes)
        os._exit(128 + number)

    def on_signal(number: int, _frame: object) -> None:
        if not ended_by:
            ended_by.append(number)
            threading.Thread(target=hung_up, args=(number,), name="qtop-leave", daemon=True).start()

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if sys.__stderr__ is None or not sys.__stderr__.isatty():  # Textual draws there; `qtop 2>log` means messages
        setattr(sys, "__stderr__", sys.__stdout__)  # noqa: B010 - declared final, for programs that draw elsewhere
    try:
        app.run()
    finally:
        close()
    if app.broke is not None and not ended_by:
        raise app.broke
    return 128 + ended_by[0] if ended_by else app.return_code or EXIT_OK


def _modes() -> list[Any] | None:
    """The terminal's modes as they are before the screen begins."""
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        return None


def _restore(modes: list[Any] | None) -> None:
    """Give the terminal back when the screen could not; never waits, on a terminal that is gone does nothing."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])  # from the background it would stop the process
    with contextlib.suppress(termios.error, OSError, ValueError):
        if modes is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)
        if select.select([], [sys.stdin.fileno()], [], 0)[1]:
            os.write(sys.stdin.fileno(), _MAIN_SCREEN)
