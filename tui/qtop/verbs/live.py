"""Opening a session on this host for a verb, and what to say when there is no server."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from qtop.config import Settings, read_key
from qtop.errors import QtopError, Unreachable
from qtop.session import Session
from qtop.source.attach import Attachment, Target
from qtop.source.live import LiveSource, Roots
from qtop.verbs.terminal import say

ONCE_S = 1.0
"""Interval at most of a verb that needs a few readings and ends: who set a minute for a dashboard does not want to wait
three of them here."""
SEARCH_S = 12.0
"""How long a verb waits for the first search: a server may take seconds to say who it is."""


def target_of(args: argparse.Namespace, settings: Settings) -> Target:
    """What the arguments and settings ask for; a --pid outweighs the settings' URL."""
    from qtop.collect.address import normalise_url
    from qtop.collect.http import Access, open_client

    url = getattr(args, "url", None)
    pid = getattr(args, "pid", None)
    if url is not None and pid is not None:
        raise QtopError("--url and --pid name a server each", "Give one of them.")
    if url is None and pid is None:
        url = settings.url
    ca = getattr(args, "ca", settings.ca)
    insecure = getattr(args, "insecure", settings.insecure and not hasattr(args, "ca"))
    target = Target(
        url=normalise_url(url) if url is not None else None,
        pid=pid,
        api_key=read_key(getattr(args, "api_key_file", None), settings),
        verify=False if insecure else (ca or True),
        ask_server_info=settings.server_info,
    )
    # A key or a certificate that cannot be used is said now, not by a search that finds nothing.
    Access("127.0.0.1", target.api_key)
    if isinstance(target.verify, str):
        open_client(Access("https://127.0.0.1", verify=target.verify)).close()
    return target


def make_session(
    args: argparse.Namespace, settings: Settings, take_first: bool = False, at_most: float = 60.0
) -> tuple[Session, LiveSource]:
    """A live session, not yet started; its interval is what was asked for, but no more than ``at_most`` seconds."""
    interval = min(getattr(args, "interval", settings.interval), at_most)
    sessions: list[Session] = []
    source = LiveSource(
        target_of(args, settings),
        interval,
        take_first,
        children=lambda: sessions[0].child_pids() if sessions else (),
        roots=getattr(args, "roots", Roots()),
    )
    read_only = getattr(args, "read_only", settings.read_only)
    session = Session(source, lambda: source.attached.access if source.attached else None, read_only)
    sessions.append(session)
    source.count_prompts(session.prompts)
    return session, source


@contextmanager
def live_session(
    args: argparse.Namespace, settings: Settings, need_server: bool = True, at_most: float = ONCE_S
) -> Iterator[Session]:
    """A started session that has looked for its server. Unreachable when one is needed or was named and is not
    there."""
    session, source = make_session(args, settings, at_most=at_most)
    with orderly_signals() as signals:
        try:
            session.start()
            source.attachment.searched(SEARCH_S)
            _check(source.attachment, need_server)
            yield session
        finally:
            signals.hold()  # the closing is short, and half of it is worse than none
            session.close()
            if source.failure:
                say(f"qtop: internal error while sampling: {source.failure}. Please report it.")


def _check(attachment: Attachment, need_server: bool) -> None:
    if attachment.attached is not None:
        return
    if attachment.choices:
        found = "; ".join(f"{one.url} ({one.engine}, {one.model})" for one in attachment.choices)
        raise QtopError(f"several servers found: {found}", "Choose with --url.")
    if attachment.launch is not None:
        return  # what keeps it from answering may be seen
    named = attachment.target.url is not None or attachment.target.pid is not None
    if named or need_server:
        why = attachment.current()
        raise Unreachable(str(why), "" if named else "Start one, or name it with --url or --pid.")


class Signals:
    """SIGTERM and SIGHUP as a KeyboardInterrupt in the main thread, once: the next ones would cut short the closing."""

    def __init__(self) -> None:
        self._held = False

    def hold(self) -> None:
        """From now on they are not heard."""
        self._held = True

    def leave(self, number: int, _frame: FrameType | None) -> None:
        """The handler."""
        if not self._held:
            self._held = True
            raise KeyboardInterrupt(signal.Signals(number))


@contextmanager
def orderly_signals() -> Iterator[Signals]:
    """SIGTERM and SIGHUP end the verb as Ctrl-C does, so that what was begun is put back and files are closed.

    One that is ignored from the outset (nohup) stays so.
    """
    signals = Signals()
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    old = {number: signal.signal(number, signals.leave) for number in numbers}
    try:
        yield signals
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
