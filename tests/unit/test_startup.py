"""The quick start: what is put off is loaded at its first use, once, whoever asks; then garbage is looked for again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from qtop.cli import main


def run(code: str) -> str:
    """What a fresh Python prints: the start of this one is long over."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_dashboard_is_ready_to_start_before_the_http_client_is_loaded() -> None:
    loaded = run("""
        import argparse, sys
        from qtop.startup import LATER, hurry
        hurry()
        import qtop.ui.app
        from qtop.config import Settings
        from qtop.verbs.live import make_session
        make_session(argparse.Namespace(url="http://127.0.0.1:8000/v1"), Settings())
        print([name for name in LATER if type(sys.modules[name]).__name__ != "_Later"])
        print([name for name in ("httpx._client", "httpcore._sync", "markdown_it") if name in sys.modules])
    """)
    assert loaded.splitlines() == ["[]", "[]"]


def test_what_was_put_off_works_like_the_real_thing() -> None:
    said = run("""
        import types
        from qtop.startup import hurry
        hurry()
        import httpx, psutil
        with httpx.Client() as client:
            print(isinstance(client, httpx.Client), issubclass(httpx.ReadTimeout, httpx.HTTPError))
        print(psutil.pid_exists(1) in (True, False), type(httpx) is types.ModuleType)
        try:
            httpx.nothing_of_that_name
        except AttributeError as error:
            print("nothing_of_that_name" in str(error))
    """)
    assert said.splitlines() == ["True True", "True True", "True"]


def test_threads_that_ask_at_once_all_get_the_whole_module() -> None:
    said = run("""
        import threading
        from qtop.startup import hurry
        hurry()
        import httpx
        start, found = threading.Barrier(8), []
        def ask(name):
            start.wait()
            found.append(getattr(httpx, name, None) is not None)
        names = ("Client", "URL", "Limits", "Timeout", "HTTPError", "codes", "InvalidURL", "create_ssl_context")
        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads: thread.start()
        for thread in threads: thread.join(30)
        print(found == [True] * 8)
    """)
    assert said == "True"


def test_a_module_that_cannot_be_loaded_says_so_each_time() -> None:
    said = run("""
        import sys, tempfile, pathlib
        import qtop.startup as startup
        with tempfile.TemporaryDirectory() as folder:
            sys.path.insert(0, folder)
            pathlib.Path(folder, "broken_module.py").write_text("import no_such_module_anywhere")
            startup.LATER = ("broken_module", "no_such_module_either")
            startup.hurry()
            import broken_module
            for _ in range(2):
                try:
                    broken_module.anything
                except ImportError as error:
                    print(error.name)
            print("no_such_module_either" in sys.modules)
    """)
    assert said.splitlines() == ["no_such_module_anywhere"] * 2 + ["False"]


def test_garbage_is_looked_for_again_once_started() -> None:
    said = run("""
        import gc
        from qtop.startup import hurry, settle
        settle()
        print(gc.isenabled(), gc.get_freeze_count())
        hurry()
        print(gc.isenabled())
        settle()
        print(gc.isenabled(), gc.get_freeze_count() > 1000)
    """)
    assert said.splitlines() == ["True 0", "False", "True True"]


@pytest.mark.parametrize(
    ("argv", "screen"),
    [
        (["plan", "--screen"], True),
        (["plan"], False),
        (["demo"], True),
        (["demo", "--headless"], False),
        (["replay", "a.qtop"], True),
        ([], True),
    ],
)
def test_every_screen_hurries(argv: list[str], screen: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And so what it starts with is left out of the search for garbage afterwards."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    hurried: list[bool] = []
    monkeypatch.setattr("qtop.startup.hurry", lambda: hurried.append(True))
    for name in ("plan.plan", "demo.demo", "dashboard.dashboard", "dashboard.replay"):
        monkeypatch.setattr(f"qtop.verbs.{name}", lambda args, settings: 0)
    assert main(argv) == 0
    assert bool(hurried) is screen
