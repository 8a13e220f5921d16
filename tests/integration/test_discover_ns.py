"""Discovery across real namespaces: containers seen from their host, a sidecar beside a server, an ordinary user.

Every address lives in network namespaces that these tests make; the machine's own network is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from qtop.collect import discover

pytestmark = [pytest.mark.integration, pytest.mark.root]

SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"served")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer)
print("ready", flush=True)
server.serve_forever()
"""
PROXY = """
import socket, sys, threading
option = dict(zip(sys.argv[1::2], sys.argv[2::2]))
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
def serve(client):
    inner = socket.create_connection((option["-container-ip"], int(option["-container-port"])))
    threading.Thread(target=pump, args=(client, inner), daemon=True).start()
    pump(inner, client)
listener = socket.create_server((option["-host-ip"], int(option["-host-port"])))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
LOOK = """
import json, os, sys, urllib.request
from qtop.collect import discover
want = json.loads(sys.argv[1])
discover.candidates(), discover.is_local("localhost")  # imports all there is, while the files may be read
if want["user"]:
    os.setgroups([]); os.setgid(want["user"]); os.setuid(want["user"])
rows = [c for c in discover.candidates() if c.pid is None or c.pid in want["pids"]]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
answers = []
for row in rows:
    with opener.open(row.url, timeout=10) as reply:
        answers.append(reply.read().decode())
print(json.dumps({
    "rows": [[c.url, c.pid, c.engine_hint, c.in_container] for c in rows],
    "answers": answers,
    "behind": [discover.pid_for_url(url) for url in want["urls"]],
    "urls": [discover.urls_for_pid(pid) for pid in want["pids"]],
    "inside": [discover.in_container(pid) for pid in want["pids"]],
}))
"""
NOBODY = 65534


@dataclass(frozen=True)
class Look:
    """What discovery said: candidates (url, pid, hint, in a container), what answered there, and the maps both ways."""

    rows: list[list[object]]
    answers: list[str]
    behind: list[int | None]
    urls: list[list[str]]
    inside: list[bool]


@dataclass(frozen=True)
class Namespace:
    """A process that keeps namespaces open."""

    pid: int

    def enter(self) -> list[str]:
        """The words that run a command there."""
        return ["nsenter", "-t", str(self.pid), "-n", "--"]

    def do(self, *words: str) -> None:
        """Run a command there; the test is skipped if it fails."""
        done = subprocess.run([*self.enter(), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{words[0]} does not work in a network namespace here: {done.stderr.strip()}")


@contextmanager
def running(command: Sequence[str]) -> Iterator[int]:
    """The pid of a process that has said "ready", until the end of the block."""
    # Started under another name, the interpreter does not find its library by its own path.
    environ = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child.pid
        finally:
            child.kill()


def named(name: str, code: str, *words: str) -> list[str]:
    """A command that runs Python code under another program's name; the words after the code are its arguments."""
    # A virtual environment's link is lost on an interpreter that runs under another name: take the interpreter itself.
    return ["bash", "-c", 'exec -a "$0" "$@"', name, os.path.realpath(sys.executable), "-S", "-c", code, *words]


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A network namespace of its own, with loopback up."""
    for tool in ("unshare", "nsenter", "ip", "bash"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    with running(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 300"]) as pid:
        made = Namespace(pid)
        made.do("ip", "link", "set", "lo", "up")
        yield made


@pytest.fixture
def host() -> Iterator[Namespace]:
    """The namespace that plays the host."""
    with namespace() as made:
        yield made


@pytest.fixture
def box(host: Namespace) -> Iterator[Namespace]:
    """A container's namespace at 10.99.0.2, tied to the host's 10.99.0.1 by a veth pair."""
    with namespace() as made:
        host.do("ip", "link", "add", "qt0", "type", "veth", "peer", "name", "qt1", "netns", str(made.pid))
        for side, link, address in ((host, "qt0", "10.99.0.1/24"), (made, "qt1", "10.99.0.2/24")):
            side.do("ip", "address", "add", address, "dev", link)
            side.do("ip", "link", "set", link, "up")
        yield made


def server(address: str, port: int, name: str = "llama-server") -> list[str]:
    """The command of a real HTTP server under a server's name, with its port in its arguments."""
    return named(name, SERVER, address, str(port), "--port", str(port))


def docker_proxy(host_port: int, container: str, container_port: int) -> list[str]:
    """The command of a forwarder with docker-proxy's name and options, which really forwards."""
    words = (
        f"-proto tcp -host-ip 0.0.0.0 -host-port {host_port} -container-ip {container} -container-port {container_port}"
    )
    return named("docker-proxy", PROXY, *words.split())


def look(place: Namespace, *before: str, pids: Sequence[int] = (), urls: Sequence[str] = (), user: int = 0) -> Look:
    """What discovery finds from there (through the command ``before``), of these processes and those without pid."""
    want = json.dumps({"pids": list(pids), "urls": list(urls), "user": user})
    command = [*place.enter(), *before, sys.executable, "-c", LOOK, want]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return Look(**json.loads(done.stdout))


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_server_beside_qtop(host: Namespace, user: int) -> None:
    with running([*host.enter(), *server("0.0.0.0", 9000)]) as pid:
        seen = look(host, pids=[pid], urls=["http://127.0.0.1:9000", "http://127.0.0.1:9001"], user=user)
    assert seen.rows == [["http://127.0.0.1:9000", pid, "llamacpp", False]]
    assert seen.answers == ["served"]
    assert seen.behind == [pid, None]
    assert seen.urls == [["http://127.0.0.1:9000"]]


def test_another_user_s_server_is_not_guessed_from_another_port(host: Namespace) -> None:
    words = named("llama-server", SERVER, "127.0.0.1", "8080", "--port", "9000")
    with running([*host.enter(), *words]) as pid:
        seen = look(host, pids=[pid], urls=["http://127.0.0.1:8080"], user=NOBODY)
    assert seen.rows == [["http://127.0.0.1:8080", None, "", False]]
    assert seen.behind == [None]
    assert seen.urls == [[]]


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_container_s_published_port(host: Namespace, box: Namespace, user: int) -> None:
    with (
        running([*box.enter(), *server("0.0.0.0", 8000)]) as pid,
        running([*host.enter(), *docker_proxy(9999, "10.99.0.2", 8000)]) as proxy,
    ):
        urls = ["http://127.0.0.1:9999", "http://10.99.0.2:8000", "http://10.99.0.2:8001"]
        seen = look(host, pids=[pid, proxy], urls=urls, user=user)
    assert seen.rows == [["http://127.0.0.1:9999", pid, "llamacpp", True]]
    assert seen.answers == ["served"]
    assert seen.behind == [pid, pid, None]
    assert seen.urls[0] == ["http://127.0.0.1:9999"]


@pytest.mark.parametrize("user", [0, NOBODY])
def test_a_container_s_own_address(host: Namespace, box: Namespace, user: int) -> None:
    with running([*box.enter(), *server("0.0.0.0", 8000)]) as pid:
        seen = look(host, pids=[pid], urls=["http://10.99.0.2:8000"], user=user)
        from_inside = look(box, pids=[pid], urls=["http://127.0.0.1:8000"])
    assert seen.rows == [["http://10.99.0.2:8000", pid, "llamacpp", True]]
    assert seen.answers == ["served"]
    assert seen.behind == [pid]
    assert from_inside.rows == [["http://127.0.0.1:8000", pid, "llamacpp", False]]
    assert from_inside.behind == [pid]


def test_a_server_on_the_loopback_of_a_container_is_out_of_reach(host: Namespace, box: Namespace) -> None:
    with running([*box.enter(), *server("127.0.0.1", 8000)]) as pid:
        seen = look(host, pids=[pid])
    assert seen.rows == []
    assert seen.urls == [[]]


def test_a_sidecar_sees_the_socket_and_no_process(host: Namespace) -> None:
    with running([*host.enter(), *server("0.0.0.0", 8000)]):
        seen = look(host, "unshare", "--pid", "--fork", "--mount-proc", "--", urls=["http://127.0.0.1:8000"])
    assert seen.rows == [["http://127.0.0.1:8000", None, "", False]]
    assert seen.answers == ["served"]
    assert seen.behind == [None]


def test_a_pid_namespace_below_is_a_container(host: Namespace) -> None:
    inner = ["unshare", "--pid", "--fork", "--kill-child", "--"]
    with running([*host.enter(), *inner, *server("127.0.0.1", 8000)]) as outer:
        (pid,) = discover.server_tree(outer)[1:]
        seen = look(host, pids=[outer, pid])
    assert seen.inside == [False, True]
    assert seen.rows == [["http://127.0.0.1:8000", pid, "llamacpp", True]]
