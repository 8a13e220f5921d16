"""Discovery of servers: from made-up /proc trees, and from processes that really listen."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.proctree import stat_line

from qtop.collect import discover
from qtop.collect.discover import containers, procfs, servers, sockets, tree
from qtop.sample import Absent, Why

VLLM = ("/opt/venv/bin/python", "/opt/venv/bin/vllm", "serve", "/models/qwen3-tiny", "--port", "18000")
LISTENER = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print(listener.getsockname()[1], flush=True)
time.sleep(120)
"""


class FakeProc:
    """A /proc written by hand: processes with their sockets, in one or several network namespaces."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rows: dict[str, list[str]] = {}
        (root / "self").mkdir()
        self.net("host")
        (root / "self" / "net").symlink_to("../nets/host")
        (root / "net").symlink_to("nets/host")
        (root / "stat").write_text("cpu  1 2 3\nbtime 1700000000\n")

    def net(self, name: str, own: Sequence[str] = (), routes: Sequence[tuple[str, str]] = ()) -> None:
        folder = self.root / "nets" / name
        folder.mkdir(parents=True, exist_ok=True)
        header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        (folder / "tcp").write_text(header)
        (folder / "tcp6").write_text(header)
        leaves = "".join(f"     |-- {address}\n        /32 host LOCAL\n" for address in own)
        (folder / "fib_trie").write_text(
            "Local:\n  +-- 127.0.0.0/8 2 0 2\n     |-- 127.0.0.1\n        /32 host LOCAL\n" + leaves
        )
        words = ["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"]
        words += [f"br0 {hexed(base)} 00000000 0001 0 0 0 {hexed(mask)} 0 0 0" for base, mask in routes]
        (folder / "route").write_text("\n".join(words) + "\n")

    def listen(
        self, inode: int, address: str, port: int, *, net: str = "host", uid: int = 0, state: str = "0A"
    ) -> None:
        table = self.root / "nets" / net / ("tcp6" if ":" in address else "tcp")
        row = f"   0: {hexed(address)}:{port:04X} 00000000:0000 {state} 0:0 00:0 0  {uid} 0 {inode} 1\n"
        table.write_text(table.read_text() + row)

    def add(
        self,
        pid: int,
        argv: Sequence[str],
        ppid: int = 1,
        comm: str = "python",
        fds: Sequence[int] | None = (),
        *,
        net: str = "host",
        uid: int = 0,
        state: str = "S",
        start: int = 4242,
    ) -> None:
        """One process; ``fds`` None stands for a descriptor folder that may not be read (here: is not there)."""
        folder = self.root / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(stat_line(pid, comm, state=state, ppid=ppid, start=start))
        (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
        (folder / "status").write_text(f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{pid}\n")
        (folder / "cgroup").write_text("0::/user.slice\n")
        (folder / "net").symlink_to(f"../nets/{net}")
        if fds is not None:
            (folder / "fd").mkdir()
            (folder / "fd" / "0").symlink_to("/dev/null")
            for at, inode in enumerate(fds, start=3):
                (folder / "fd" / str(at)).symlink_to(f"socket:[{inode}]")


def hexed(address: str) -> str:
    """An address as /proc/net writes it on this machine."""
    raw = ip_address(address).packed
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return raw.hex().upper()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    root = tmp_path / "proc"
    root.mkdir()
    return FakeProc(root)


def found(proc: FakeProc) -> list[tuple[str, int | None, str]]:
    return [(item.url, item.pid, item.engine_hint) for item in discover.candidates(proc.root)]


# --- what a command line says


@pytest.mark.parametrize(
    ("line", "engine", "port"),
    [
        ("vllm serve /models/m", "vllm", 8000),
        ("/opt/venv/bin/python3.12 -B /opt/venv/bin/vllm serve m", "vllm", 8000),
        ("python -m vllm.entrypoints.openai.api_server --model m", "vllm", 8000),
        ("python3 -X dev -Wignore -um vllm.entrypoints.cli.main serve m", "vllm", 8000),
        ("VLLM::EngineCore_DP0", "vllm", 8000),
        ("my-service::APIServer_1", "vllm", 8000),
        ("/app/llama-server -m x.gguf", "llamacpp", 8080),
        ("./server -m x.gguf", "llamacpp", 8080),
        ("python -m llama_cpp.server --model x.gguf", "llamacpp", 8000),
        ("python run_xllamacpp.py", "llamacpp", 8080),
        ("python -P -m qtop.demo.serve --model x.gguf --port 9", "llamacpp", 8080),
        ("python -m sglang.launch_server --model m", "sglang", 30000),
        ("sglang serve --model m", "sglang", 30000),
        ("sglang::scheduler_TP0", "sglang", 30000),
        ("text-generation-launcher --model-id m", "tgi", 3000),
        ("/usr/local/bin/ollama serve", "ollama", 11434),
        ("tritonserver --model-repository=/m", "triton", 8000),
    ],
)
def test_servers_are_recognised(line: str, engine: str, port: int) -> None:
    what = servers.recognise(line.split())
    assert what is not None
    assert (what.engine, what.port) == (engine, port)


@pytest.mark.parametrize(
    "words",
    [
        ["bash", "-c", "vllm serve m --port 8000"],
        ["docker", "run", "-p", "8000:8000", "vllm/vllm-openai", "serve"],
        ["uv", "run", "vllm", "serve", "m"],
        ["sudo", "llama-server", "-m", "x.gguf"],
        ["grep", "llama-server"],
        ["vllm", "bench", "serve", "--port", "8000"],
        ["vllm", "chat"],
        ["ollama", "run", "qwen3"],
        ["python", "-c", "from multiprocessing.resource_tracker import main;main(32)"],
        ["python", "-m", "http.server", "8000"],
        ["python"],
        ["python", "-"],
        ["server"],
        [],
    ],
)
def test_mentions_of_servers_are_not_servers(words: list[str]) -> None:
    assert servers.recognise(words) is None


def test_a_hidden_command_line_leaves_the_comm() -> None:
    engine = servers.recognise((), "VLLM::EngineCor")
    assert engine is not None and engine.part and not engine.http
    assert servers.recognise((), "llama-server") == servers.LLAMACPP
    assert servers.recognise((), "python") is None


@pytest.mark.parametrize(
    ("line", "environ", "engine", "expected"),
    [
        ("vllm serve m --port 9000", {}, "vllm", (9000, None, "http")),
        ("vllm serve m --port=9000 --host ::1", {}, "vllm", (9000, "::1", "http")),
        ("vllm serve m --port 1 --port 2", {}, "vllm", (2, None, "http")),
        ("vllm serve m --ssl-certfile c --ssl-keyfile k", {}, "vllm", (None, None, "https")),
        ("llama-server -p 1234", {"LLAMA_ARG_PORT": "9001"}, "llamacpp", (9001, None, "http")),
        ("llama-server --port 9002", {"LLAMA_ARG_PORT": "9001"}, "llamacpp", (9002, None, "http")),
        ("text-generation-launcher -p 80", {"PORT": "3001"}, "tgi", (80, None, "http")),
        ("ollama serve", {"OLLAMA_HOST": "http://0.0.0.0:9003/"}, "ollama", (9003, "0.0.0.0", "http")),
        ("ollama serve", {"OLLAMA_HOST": "10.0.0.1"}, "ollama", (None, "10.0.0.1", "http")),
        ("ollama serve", {}, "ollama", (None, None, "http")),
        ("tritonserver --http-port 9004", {}, "triton", (9004, None, "http")),
        ("x --port 99999", {}, "", (None, None, "http")),
        ("x --port", {}, "", (None, None, "http")),
    ],
)
def test_endpoints(line: str, environ: dict[str, str], engine: str, expected: tuple[object, ...]) -> None:
    got = servers.endpoint(line.split(), environ, engine)
    assert (got.port, got.host, got.scheme) == expected


@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_command_line_can_be_read(words: list[str]) -> None:
    what = servers.recognise(words)
    where_at = servers.endpoint(words, {}, what.engine if what else "")
    assert where_at.port is None or 0 < where_at.port < 65536


# --- reading /proc


@pytest.mark.parametrize("comm", ["tmux: server", "a) R 7 (b", "))((", "x\ny", "", "(sd-pam)"])
def test_stat_of_any_comm(proc: FakeProc, comm: str) -> None:
    proc.add(50, ["x"], ppid=7, comm=comm, start=987)
    process = procfs.process(50, proc.root)
    assert process is not None
    assert (process.comm, process.state, process.ppid, process.start_ticks) == (comm, "S", 7, 987)
    assert discover.start_ticks(50, proc.root) == 987


def test_what_is_gone_or_no_stat_is_none(proc: FakeProc) -> None:
    (proc.root / "60").mkdir()
    (proc.root / "61").mkdir()
    (proc.root / "61" / "stat").write_text("61 (x) S 1\n")
    assert discover.start_ticks(59, proc.root) is None
    assert discover.start_ticks(60, proc.root) is None
    assert discover.start_ticks(61, proc.root) is None
    assert discover.argv(59, proc.root) == Absent(Why.LOST, "the process has ended")
    assert isinstance(discover.started(59, proc.root), Absent)
    assert discover.server_tree(59, proc.root) == ()
    assert discover.urls_for_pid(59, proc.root) == ()
    assert not discover.in_container(59, proc.root)
    assert found(proc) == []


def test_nothing_at_all_is_nothing_found(tmp_path: Path) -> None:
    assert discover.candidates(tmp_path / "no-proc") == ()
    assert discover.server_tree(1, tmp_path / "no-proc") == ()


def test_start_time(proc: FakeProc) -> None:
    proc.add(50, ["x"], start=250)
    assert discover.started(50, proc.root) == 1700000000 + 250 / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a\0b c\0", ("a", "b c")),
        (b"a\0\0b\0", ("a", "", "b")),
        (b"a\0b\0\0", ("a", "b", "")),
        (b"VLLM::EngineCore\0\0\0\0\0", ("VLLM::EngineCore",)),
        (b"retitled without end", ("retitled without end",)),
        (b"", ()),
    ],
)
def test_cmdline(proc: FakeProc, raw: bytes, words: tuple[str, ...]) -> None:
    proc.add(50, [])
    (proc.root / "50" / "cmdline").write_bytes(raw)
    assert discover.argv(50, proc.root) == words


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_of_the_socket_table(address: sockets.Address) -> None:
    assert sockets.parse_address(hexed(str(address))) == sockets.plain(address)


def test_only_listening_rows_are_taken(proc: FakeProc) -> None:
    proc.listen(1, "10.0.0.1", 80, state="01")
    proc.listen(2, "::", 443)
    table = proc.root / "nets" / "host" / "tcp"
    table.write_text(table.read_text() + "garbage\n  1: zz:zz 0 0A 0 0 0 0 0 0 0\n")
    rows = sockets.listening(root=proc.root)
    assert rows is not None
    assert [(str(row.address), row.port, row.inode) for row in rows] == [("::", 443, 2)]


# --- the tree of a server


def two_api_servers(proc: FakeProc) -> None:
    """As ``ps`` shows ``vllm serve --api-server-count 2``: all three front processes hold the socket."""
    proc.add(1, ["/sbin/init"], ppid=0, comm="systemd")
    proc.add(900, ["bash"], ppid=1, comm="bash")
    proc.add(15230, VLLM, ppid=900, comm="vllm", fds=[70])
    proc.add(15501, ["python", "-c", "from multiprocessing.resource_tracker import main;main(16)"], ppid=15230)
    proc.add(15502, ["VLLM::EngineCore"], ppid=15230, comm="VLLM::EngineCor", fds=[71])
    proc.add(15503, ["VLLM::APIServer_0"], ppid=15230, comm="VLLM::APIServer", fds=[70])
    proc.add(15504, ["VLLM::APIServer_1"], ppid=15230, comm="VLLM::APIServer", fds=[70])
    proc.add(15771, ["VLLM::Worker"], ppid=15502, comm="VLLM::Worker", fds=[72, 73])
    proc.listen(70, "127.0.0.1", 18000)
    proc.listen(71, "127.0.0.1", 8000)  # an engine's own socket, even on a usual port, answers no HTTP
    proc.listen(72, "0.0.0.0", 41000)
    proc.listen(73, "0.0.0.0", 41001)


@pytest.mark.parametrize("pid", [15230, 15501, 15502, 15503, 15504, 15771])
def test_every_part_leads_to_the_root_and_its_url(proc: FakeProc, pid: int) -> None:
    two_api_servers(proc)
    assert discover.server_root(pid, proc.root) == 15230
    assert discover.urls_for_pid(pid, proc.root) == ("http://127.0.0.1:18000",)


def test_one_candidate_for_a_server_of_many_processes(proc: FakeProc) -> None:
    two_api_servers(proc)
    assert found(proc) == [("http://127.0.0.1:18000", 15230, "vllm")]
    only = discover.candidates(proc.root)[0]
    assert only.argv == VLLM
    assert only.start_ticks == 4242
    assert not only.in_container
    assert only.why == "vLLM listens on port 18000"
    assert discover.server_tree(15230, proc.root) == (15230, 15501, 15502, 15503, 15504, 15771)
    assert discover.pid_for_url("http://localhost:18000/v1", proc.root) == 15230


def test_shells_and_launchers_are_no_part_of_a_server(proc: FakeProc) -> None:
    two_api_servers(proc)
    assert discover.server_root(900, proc.root) == 900


def test_vllm_inside_somebody_s_script(proc: FakeProc) -> None:
    proc.add(900, ["bash"], ppid=1, comm="bash")
    proc.add(910, ["python", "my_api.py"], ppid=900, fds=[5])
    proc.add(911, ["VLLM::EngineCore"], ppid=910, fds=[6])
    proc.listen(5, "0.0.0.0", 7777)
    proc.listen(6, "0.0.0.0", 41000)
    assert found(proc) == [("http://127.0.0.1:7777", 910, "vllm")]
    assert discover.server_root(911, proc.root) == 910


@pytest.mark.parametrize("parent", [(1, "init"), (800, "bash"), (801, "systemd"), (802, "tmux: server")])
def test_an_orphaned_engine_is_not_blamed_on_whoever_adopted_it(proc: FakeProc, parent: tuple[int, str]) -> None:
    proc.add(parent[0], [parent[1]], ppid=0, comm=parent[1])
    proc.add(911, ["VLLM::EngineCore"], ppid=parent[0])
    assert discover.server_root(911, proc.root) == 911


def test_a_zombie_is_no_server(proc: FakeProc) -> None:
    proc.add(911, [], ppid=1, comm="VLLM::EngineCor", state="Z", fds=None)
    proc.listen(5, "0.0.0.0", 8000)
    assert found(proc) == [("http://127.0.0.1:8000", None, "")]


def test_a_dead_engine_does_not_make_its_parent_a_server(proc: FakeProc) -> None:
    proc.add(910, ["python", "my_api.py"], ppid=1, fds=[5])
    proc.add(911, [], ppid=910, comm="VLLM::EngineCor", state="Z", fds=None)
    proc.listen(5, "0.0.0.0", 7777)
    assert found(proc) == []


def test_a_loop_of_parents_ends(proc: FakeProc) -> None:
    proc.add(10, ["VLLM::Worker"], ppid=11)
    proc.add(11, ["VLLM::Worker"], ppid=10)
    assert discover.server_root(10, proc.root) in (10, 11)
    assert discover.server_tree(10, proc.root) == (10, 11)


def test_children_files_are_used_where_there_are_any(proc: FakeProc) -> None:
    for pid, children in ((10, "12 11 "), (11, ""), (12, "13"), (13, "")):
        proc.add(pid, ["x"], ppid=99)  # the parents in stat lead nowhere
        (proc.root / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (proc.root / str(pid) / "task" / str(pid) / "children").write_text(children)
    assert discover.server_tree(10, proc.root) == (10, 11, 12, 13)


@given(st.dictionaries(st.integers(2, 40), st.integers(1, 40), max_size=30), st.integers(1, 40))
def test_below_holds_each_descendant_once_after_its_parent(parents: dict[int, int], top: int) -> None:
    children = tree.offspring(parents)
    got = tree.below(top, lambda pid: children.get(pid, []))
    assert got[0] == top and len(set(got)) == len(got)
    assert all(parents[pid] in got[:at] for at, pid in enumerate(got) if at)
    assert all(pid in got for pid, parent in parents.items() if parent in got)


# --- sockets and owners


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:9000"),
        ("127.0.0.1", "http://127.0.0.1:9000"),
        ("127.0.0.2", "http://127.0.0.2:9000"),
        ("10.1.2.3", "http://10.1.2.3:9000"),
        ("::1", "http://[::1]:9000"),
        ("2001:db8::5", "http://[2001:db8::5]:9000"),
        ("::ffff:10.1.2.3", "http://10.1.2.3:9000"),
        ("::", "http://127.0.0.1:9000"),
    ],
)
def test_the_url_of_each_kind_of_address(proc: FakeProc, bound: str, expected: str) -> None:
    proc.add(50, ["llama-server", "--port", "9000"], fds=[5])
    proc.listen(5, bound, 9000)
    assert [url for url, _, _ in found(proc)] == [expected]


def test_any_ipv6_address_means_its_loopback_where_there_is_one(proc: FakeProc) -> None:
    (proc.root / "nets" / "host" / "if_inet6").write_text(f"{1:032x} 01 80 10 80       lo\n")
    proc.add(50, ["ollama", "serve"], fds=[5])
    proc.listen(5, "::", 11434)
    assert found(proc) == [("http://[::1]:11434", 50, "ollama")]
    assert discover.pid_for_url("http://127.0.0.1:11434", proc.root) == 50


def test_two_sockets_of_one_port_are_one_candidate(proc: FakeProc) -> None:
    proc.add(50, ["llama-server"], fds=[5, 6])
    proc.listen(5, "::", 8080)
    proc.listen(6, "0.0.0.0", 8080)
    assert found(proc) == [("http://127.0.0.1:8080", 50, "llamacpp")]


def test_a_link_local_address_cannot_be_written_as_a_url(proc: FakeProc) -> None:
    proc.add(50, ["llama-server"], fds=[5])
    proc.listen(5, "fe80::1", 8080)
    assert found(proc) == []


def test_an_unknown_config_leaves_every_port_of_the_front(proc: FakeProc) -> None:
    proc.add(50, ["vllm", "serve", "--config", "c.yaml"], fds=[5, 6], comm="vllm")
    proc.listen(5, "0.0.0.0", 9100)
    proc.listen(6, "0.0.0.0", 9101)
    assert [url for url, _, _ in found(proc)] == ["http://127.0.0.1:9100", "http://127.0.0.1:9101"]


def test_order_and_what_is_left_out(proc: FakeProc) -> None:
    proc.add(40, ["nginx"], comm="nginx", fds=[1, 2])
    proc.add(41, ["node", "app.js"], comm="node", fds=[3, 4])
    proc.add(42, ["llama-server", "--port", "80"], comm="llama-server", fds=[5])
    proc.add(43, ["sshd"], comm="sshd", fds=[6])
    proc.listen(1, "0.0.0.0", 443)
    proc.listen(2, "0.0.0.0", 8080)
    proc.listen(3, "0.0.0.0", 3000)
    proc.listen(4, "0.0.0.0", 9229)
    proc.listen(5, "0.0.0.0", 80)
    proc.listen(6, "0.0.0.0", 22)
    proc.listen(7, "0.0.0.0", 8000)
    assert found(proc) == [
        ("http://127.0.0.1:80", 42, "llamacpp"),
        ("http://127.0.0.1:3000", 41, ""),
        ("http://127.0.0.1:8000", None, ""),
        ("http://127.0.0.1:8080", None, ""),
    ]
    unseen = discover.candidates(proc.root)[2]
    assert unseen.argv == Absent(Why.NOT_HERE, "its process cannot be seen from here")
    assert unseen.start_ticks is None
    assert discover.candidates(proc.root)[3].why == "port 8080, forwarded by nginx"
    assert discover.pid_for_url("http://127.0.0.1:8080", proc.root) is None
    assert discover.pid_for_url("http://127.0.0.1", proc.root) == 42


def test_qtop_is_not_a_server(proc: FakeProc) -> None:
    (proc.root / "self" / "net").unlink()
    (proc.root / "self").rmdir()
    (proc.root / "self").symlink_to("77")
    proc.add(77, ["qtop"], fds=[5])
    proc.listen(5, "0.0.0.0", 8000)
    assert found(proc) == []


def test_an_inference_library_gives_a_server_away(proc: FakeProc) -> None:
    proc.add(50, ["python", "app.py"], fds=[5])
    (proc.root / "50" / "maps").write_text("7f00-7f01 r-xp 0 fe:00 1  /x/site-packages/xllamacpp/xllamacpp.so\n")
    proc.add(51, ["python", "other.py"], fds=[6])
    (proc.root / "51" / "maps").write_text("7f00-7f01 r-xp 0 fe:00 1  /x/site-packages/numpy/core.so\n")
    proc.listen(5, "127.0.0.1", 45678)
    proc.listen(6, "127.0.0.1", 45679)
    assert found(proc) == [("http://127.0.0.1:45678", 50, "llamacpp")]


def test_a_service_manager_that_kept_the_socket_is_not_its_owner(proc: FakeProc) -> None:
    proc.add(1, ["/sbin/init"], ppid=0, comm="systemd", fds=[5])
    proc.add(50, ["llama-server"], ppid=1, comm="llama-server", fds=[5])
    proc.listen(5, "127.0.0.1", 8080)
    assert discover.pid_for_url("http://127.0.0.1:8080", proc.root) == 50


def test_a_launcher_that_opened_the_socket_for_a_server_is_not_the_server(proc: FakeProc) -> None:
    proc.add(40, ["python", "launch.py"], fds=[5])
    proc.add(50, ["llama-server"], ppid=40, comm="llama-server", fds=[5])
    proc.listen(5, "127.0.0.1", 8080)
    assert found(proc) == [("http://127.0.0.1:8080", 50, "llamacpp")]
    assert discover.pid_for_url("http://127.0.0.1:8080", proc.root) == 50


@pytest.mark.parametrize(
    ("host", "bound", "owned"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "0.0.0.0", False),
        ("0.0.0.0", "::", True),
        ("0.0.0.0", "10.0.0.1", False),
        ("some-name", "10.0.0.1", True),
    ],
)
def test_the_host_in_the_arguments_has_to_fit(proc: FakeProc, host: str, bound: str, owned: bool) -> None:
    proc.add(50, ["vllm", "serve", "--host", host], comm="vllm", fds=None)
    proc.listen(5, bound, 8000)
    assert [pid for _, pid, _ in found(proc)] == [50 if owned else None]


def test_arguments_in_another_namespace_claim_nothing_here(proc: FakeProc) -> None:
    proc.net("box")
    proc.add(50, ["vllm", "serve", "m"], comm="vllm", fds=None, net="box")
    proc.listen(5, "0.0.0.0", 8000)
    assert discover.pid_for_url("http://127.0.0.1:8000", proc.root) is None


def test_hidden_descriptors_leave_the_port_in_the_arguments(proc: FakeProc) -> None:
    proc.add(50, VLLM, comm="vllm", fds=None, uid=1000)
    proc.add(51, ["VLLM::EngineCore"], ppid=50, fds=None, uid=1000)
    proc.add(52, ["python", "own.py", "--port", "5001"], fds=None, uid=1001)
    proc.add(53, ["curl-bench", "--port", "5001"], comm="bench", fds=None, uid=1001)
    proc.add(54, ["ssh", "-p", "5001", "x"], comm="ssh", fds=None, uid=1001)
    proc.add(55, ["ollama", "serve"], fds=None, uid=7)
    proc.listen(5, "127.0.0.1", 18000, uid=1000)
    proc.listen(6, "127.0.0.1", 5001, uid=1001)
    proc.listen(7, "127.0.0.1", 11434, uid=0)
    proc.listen(8, "127.0.0.1", 5002, uid=1001)
    assert found(proc) == [("http://127.0.0.1:18000", 50, "vllm"), ("http://127.0.0.1:11434", 55, "ollama")]
    assert discover.pid_for_url("http://127.0.0.1:5001", proc.root) == 52
    assert discover.pid_for_url("http://127.0.0.1:5002", proc.root) is None


def test_a_process_whose_descriptors_are_seen_owns_no_other_socket(proc: FakeProc) -> None:
    proc.add(50, VLLM, comm="vllm", fds=[])
    proc.listen(5, "127.0.0.1", 18000)
    assert discover.pid_for_url("http://127.0.0.1:18000", proc.root) is None


def test_two_who_claim_a_port_are_none(proc: FakeProc) -> None:
    proc.add(50, ["vllm", "serve", "a"], comm="vllm", fds=None)
    proc.add(51, ["vllm", "serve", "b"], comm="vllm", fds=None)
    proc.listen(5, "127.0.0.1", 8000)
    assert found(proc) == [("http://127.0.0.1:8000", None, "")]


# --- containers


def in_a_container(proc: FakeProc, routes: Sequence[tuple[str, str]] = (("172.17.0.0", "255.255.0.0"),)) -> None:
    proc.net("host", own=["192.0.2.9"], routes=routes)
    proc.net("box", own=["172.17.0.2"])
    proc.add(50, ["vllm", "serve", "m"], comm="vllm", fds=[5], net="box")
    (proc.root / "50" / "status").write_text("Uid:\t0\t0\t0\t0\nNSpid:\t50\t1\n")


PROXY = "/usr/bin/docker-proxy -proto tcp -host-ip {} -host-port 9999 -container-ip 172.17.0.2 -container-port 8000"


def test_a_published_port(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.add(60, PROXY.format("0.0.0.0").split(), comm="docker-proxy", fds=[9])
    proc.listen(9, "0.0.0.0", 9999)
    only = discover.candidates(proc.root)
    assert [(item.url, item.pid, item.in_container) for item in only] == [("http://127.0.0.1:9999", 50, True)]
    assert only[0].why == "container port 8000 published here"
    assert discover.pid_for_url("http://127.0.0.1:9999/", proc.root) == 50
    assert discover.pid_for_url("http://172.17.0.2:8000", proc.root) == 50
    assert discover.pid_for_url("http://172.17.0.2:8001", proc.root) is None
    assert discover.urls_for_pid(50, proc.root) == ("http://127.0.0.1:9999",)


def test_a_port_published_twice_is_one_candidate(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    for pid, port in ((60, 3000), (61, 5000)):
        words = [str(port) if word == "9999" else word for word in PROXY.format("0.0.0.0").split()]
        proc.add(pid, words, comm="docker-proxy", fds=[pid])
        proc.listen(pid, "0.0.0.0", port)
    assert found(proc) == [("http://127.0.0.1:3000", 50, "vllm")]


def test_each_published_port_leads_to_its_own_container(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.net("other", own=["172.17.0.3"])
    proc.add(51, ["llama-server", "--port", "8000"], comm="llama-server", fds=[6], net="other")
    proc.listen(6, "0.0.0.0", 8000, net="other")
    first = PROXY.format("0.0.0.0").split()
    proc.add(60, first, comm="docker-proxy", fds=[9])
    second = [{"9999": "9998", "172.17.0.2": "172.17.0.3"}.get(word, word) for word in first]
    proc.add(61, second, comm="docker-proxy", fds=[10])
    assert found(proc) == [("http://127.0.0.1:9999", 50, "vllm"), ("http://127.0.0.1:9998", 51, "llamacpp")]
    assert discover.pid_for_url("http://127.0.0.1:9999", proc.root) == 50
    assert discover.pid_for_url("http://127.0.0.1:9998", proc.root) == 51


def test_a_container_that_was_given_the_host_s_address_is_not_found_by_it(proc: FakeProc) -> None:
    in_a_container(proc, routes=[("192.0.2.0", "255.255.255.0")])
    proc.net("box", own=["192.0.2.9"])
    proc.listen(5, "0.0.0.0", 8000, net="box")
    assert found(proc) == [("http://127.0.0.1:8000", 50, "vllm")]


def test_addresses_of_a_namespace(proc: FakeProc) -> None:
    proc.net("box", own=["172.17.0.2"])
    rows = [(1, "lo"), (int(ip_address("fe80::1")), "eth0"), (int(ip_address("2001:db8::2")), "eth0")]
    lines = "".join(f"{number:032x} 01 80 10 80 {device}\n" for number, device in rows)
    (proc.root / "nets" / "box" / "if_inet6").write_text(lines + "garbage\n")
    proc.add(50, ["x"], net="box")
    assert [str(item) for item in containers.addresses(50, proc.root)] == ["172.17.0.2", "2001:db8::2"]


def test_a_port_published_on_one_address(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.add(60, PROXY.format("192.0.2.9").split(), comm="docker-proxy", fds=[9])
    proc.listen(9, "192.0.2.9", 9999)
    assert discover.urls_for_pid(50, proc.root) == ("http://192.0.2.9:9999",)


def test_a_published_port_of_something_unknown(proc: FakeProc) -> None:
    in_a_container(proc)
    (proc.root / "50" / "cmdline").write_bytes(b"/usr/bin/my-api\0")
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.add(60, PROXY.format("0.0.0.0").split(), comm="docker-proxy", fds=[9])
    proc.listen(9, "0.0.0.0", 9999)
    assert [(item.url, item.pid, item.in_container) for item in discover.candidates(proc.root)] == [
        ("http://127.0.0.1:9999", 50, True)
    ]


def test_the_address_of_a_container_that_publishes_nothing(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    assert found(proc) == [("http://172.17.0.2:8000", 50, "vllm")]


def test_without_a_route_the_same_port_here_is_tried(proc: FakeProc) -> None:
    in_a_container(proc, routes=[("0.0.0.0", "0.0.0.0")])
    proc.listen(5, "0.0.0.0", 8000, net="box")
    assert found(proc) == [("http://127.0.0.1:8000", 50, "vllm")]
    assert discover.pid_for_url("http://127.0.0.1:8000", proc.root) == 50


def test_a_port_here_that_is_somebody_else_s_is_not_tried(proc: FakeProc) -> None:
    in_a_container(proc, routes=[])
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.add(70, ["llama-server", "--port", "8000"], comm="llama-server", fds=[9])
    proc.listen(9, "0.0.0.0", 8000)
    assert found(proc) == [("http://127.0.0.1:8000", 70, "llamacpp")]
    assert discover.urls_for_pid(50, proc.root) == ()


def test_a_user_space_network_publishes_before_any_route(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "0.0.0.0", 8000, net="box")
    proc.add(70, ["pasta", "-t", "8000"], comm="pasta", fds=[9])
    proc.listen(9, "0.0.0.0", 8000)
    assert found(proc) == [("http://127.0.0.1:8000", 50, "vllm")]


def test_loopback_of_another_namespace_is_out_of_reach(proc: FakeProc) -> None:
    in_a_container(proc)
    proc.listen(5, "127.0.0.1", 8000, net="box")
    assert found(proc) == []


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/system.slice/docker-" + "a1" * 32 + ".scope",
        "12:cpu:/kubepods/burstable/pod1/x",
        "0::/user.slice/libpod-abc.scope/container",
        "0::/lxc.payload.web/x",
    ],
)
def test_signs_of_a_container_in_the_cgroup(proc: FakeProc, cgroup: str) -> None:
    proc.add(50, ["x"])
    assert not discover.in_container(50, proc.root)
    (proc.root / "50" / "cgroup").write_text(cgroup + "\n")
    assert discover.in_container(50, proc.root)


def test_the_docker_daemon_is_not_in_a_container(proc: FakeProc) -> None:
    proc.add(50, ["dockerd"])
    (proc.root / "50" / "cgroup").write_text("0::/system.slice/docker.service\n")
    assert not discover.in_container(50, proc.root)


def test_the_mark_that_docker_leaves_on_another_file_system(proc: FakeProc) -> None:
    proc.add(50, ["x"])
    (proc.root / "50" / "root").mkdir()
    assert not discover.in_container(50, proc.root)
    (proc.root / "50" / "root" / ".dockerenv").touch()
    assert discover.in_container(50, proc.root)


def test_a_neighbour_in_the_same_container_is_not_in_a_container(proc: FakeProc) -> None:
    proc.add(50, ["x"])
    (proc.root / "50" / "root").mkdir()
    (proc.root / "50" / "root" / ".dockerenv").touch()
    (proc.root / "self" / "root").symlink_to("../50/root")
    for name in ("50", "self"):
        (proc.root / name / "cgroup").write_text("1:cpu:/docker/" + "a1" * 32 + "\n")
    assert not discover.in_container(50, proc.root)


@pytest.mark.parametrize(
    "line",
    [
        "docker-proxy -proto udp -host-port 1 -container-ip 10.0.0.1 -container-port 2",
        "docker-proxy -host-port x -container-ip 10.0.0.1 -container-port 2",
        "docker-proxy -host-port 1 -container-ip nonsense -container-port 2",
        "docker-proxy",
        "cat -proto tcp -host-port 1 -container-ip 10.0.0.1 -container-port 2",
    ],
)
def test_what_forwards_nothing(line: str) -> None:
    assert containers.forward(procfs.Process(1, 0, "x", "S", 0, tuple(line.split()))) is None


# --- this host


def test_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "0.0.0.0", "::ffff:127.0.0.1"):
        assert discover.is_local(host), host
    for host in ("192.0.2.77", "2001:db8::77", "", "x" * 80, "a..b", "no such name"):
        assert not discover.is_local(host), host
    answers = {"mine": ["127.0.0.1", "::1"], "mixed": ["127.0.0.1", "192.0.2.77"]}

    def lookup(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answers[host]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert discover.is_local("mine")
    assert not discover.is_local("mixed")
    assert not discover.is_local("unknown")


@pytest.mark.parametrize(
    "url", ["http://192.0.2.77:8000", "http://[::1", "http://h:99999999", "", "http://", "nonsense:x"]
)
def test_no_pid_for_another_host_or_no_url(proc: FakeProc, url: str) -> None:
    assert discover.pid_for_url(url, proc.root) is None


# --- real processes


@contextmanager
def listener(address: str, code: str = LISTENER, comm: str = "") -> Iterator[tuple[int, int]]:
    """A process that really listens on a free port: its pid and the port."""
    if comm:
        code = f"open('/proc/self/comm', 'w').write({comm!r})\n" + code
    command = [sys.executable, "-S", "-c", code, address, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            if not line:
                pytest.skip(f"cannot listen on {address} here")
            yield child.pid, int(line)
        finally:
            child.kill()


@pytest.mark.parametrize(
    ("address", "url"),
    [("127.0.0.1", "http://127.0.0.1:{}"), ("0.0.0.0", "http://127.0.0.1:{}"), ("::1", "http://[::1]:{}")],
)
def test_a_real_listener(address: str, url: str) -> None:
    with listener(address) as (pid, port):
        url = url.format(port)
        assert discover.urls_for_pid(pid) == (url,)
        assert discover.pid_for_url(url) == pid
        assert discover.start_ticks(pid) is not None
        age = time.time() - known_float(discover.started(pid))
        assert -5 < age < 600
    assert discover.urls_for_pid(pid) == ()


def known_float(reading: float | Absent) -> float:
    assert isinstance(reading, float)
    return reading


def test_a_real_listener_on_every_ipv6_address() -> None:
    with listener("::") as (pid, port):
        (url,) = discover.urls_for_pid(pid)
        host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
        with socket.create_connection((host, port), timeout=5):
            pass
        assert discover.pid_for_url(url) == pid


def test_a_real_process_with_an_awkward_name() -> None:
    with listener("127.0.0.1", comm="a) R (b c") as (pid, port):
        process = procfs.process(pid)
        assert process is not None
        assert (process.comm, process.ppid) == ("a) R (b c", os.getpid())
        assert discover.pid_for_url(f"http://127.0.0.1:{port}") == pid


def test_a_real_server_is_a_candidate() -> None:
    with listener("0.0.0.0", code="import sys  # llama_cpp\n" + LISTENER) as (pid, port):
        mine = [item for item in discover.candidates() if item.pid == pid]
        assert [(item.url, item.engine_hint) for item in mine] == [(f"http://127.0.0.1:{port}", "llamacpp")]
        assert discover.argv(pid) == mine[0].argv


FAMILY = """
import ctypes, os, sys, time
if sys.argv[1] == "adopt":
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
reading, writing = os.pipe()
middle = os.fork()
if middle == 0:
    low = os.fork()
    if low == 0:
        time.sleep(120)
        os._exit(0)
    os.write(writing, b"%d" % low)
    sys.stdin.readline()
    os._exit(0)
low = int(os.read(reading, 20))
print(middle, low, flush=True)
os.waitpid(middle, 0)
print("ended", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("mode", ["adopt", "leave"])
def test_the_tree_follows_reparenting(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-S", "-c", FAMILY, mode]
    low = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as top:
        try:
            assert top.stdin is not None and top.stdout is not None
            middle, low = (int(word) for word in top.stdout.readline().split())
            assert both_ways(top.pid, monkeypatch) == (top.pid, middle, low)
            top.stdin.write("go\n")
            top.stdin.flush()
            assert top.stdout.readline() == "ended\n"
            # With a root that adopts, the orphan stays in its tree; otherwise it goes to init or some other adopter.
            expected = (top.pid, low) if mode == "adopt" else (top.pid,)
            assert both_ways(top.pid, monkeypatch) == expected
        finally:
            top.kill()
            with suppress(ProcessLookupError):
                if low:
                    os.kill(low, signal.SIGKILL)


def both_ways(pid: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """The tree by the kernel's children files and by the pass over every stat, which must agree."""
    direct = discover.server_tree(pid)
    real: Callable[[str], bytes | OSError] = procfs.read
    with monkeypatch.context() as patch:
        patch.setattr(tree, "read", lambda path: FileNotFoundError(path) if path.endswith("/children") else real(path))
        assert discover.server_tree(pid) == direct
    return direct


def test_looking_never_raises_while_processes_come_and_go() -> None:
    children = [subprocess.Popen([sys.executable, "-S", "-c", "pass"]) for _ in range(6)]
    try:
        for _ in range(3):
            discover.candidates()
            discover.server_tree(os.getpid())
    finally:
        for child in children:
            child.wait()
    assert discover.start_ticks(children[0].pid) is None


# ---- servers that start


def test_a_server_without_a_socket_is_one_that_starts(proc: FakeProc) -> None:
    proc.add(50, ["/v/bin/python", "/v/bin/vllm", "serve", "m", "--port", "8123"])
    proc.add(51, ["VLLM::EngineCore"], ppid=50)
    [one] = discover.starting(proc.root)
    assert (one.pid, one.start_ticks, one.engine, one.port, one.url) == (
        50,
        4242,
        "vllm",
        8123,
        "http://127.0.0.1:8123",
    )
    assert one.argv[-1] == "8123"


def test_one_that_listens_or_never_will_does_not_start(proc: FakeProc) -> None:
    proc.listen(7, "127.0.0.1", 8000)
    proc.add(50, ["/v/bin/python", "/v/bin/vllm", "serve", "m"], fds=[7])
    proc.add(60, ["/v/bin/python", "/v/bin/vllm", "serve", "m", "--headless", "--port", "9000"])
    proc.add(70, ["/v/bin/python", "/v/bin/vllm", "serve", "m", "--port", "9001"], state="Z")
    proc.add(80, ["bash", "-c", "vllm serve m"])
    assert discover.starting(proc.root) == ()


def test_what_only_asks_for_words_is_no_server_that_starts(proc: FakeProc) -> None:
    """qtop's own questions to a server's parser among them: they said that a vLLM started and then that it had died."""
    asker = Path(servers.__file__).parents[2] / "act" / "vllm_parser.py"
    proc.add(50, ["/v/bin/python", "-c", asker.read_text()])
    proc.add(60, ["/v/bin/python", "/v/bin/vllm", "serve", "--help=all"])
    proc.add(70, ["/usr/bin/llama-server", "-m", "a.gguf", "--help"])
    proc.add(80, ["/v/bin/python", "-m", "sglang.launch_server", "-h"])
    assert discover.starting(proc.root) == ()
    proc.add(90, ["/v/bin/python", "-c", "from vllm.entrypoints.openai import api_server; api_server.main()"])
    assert [one.pid for one in discover.starting(proc.root)] == [90]


def test_one_that_listens_inside_a_container_does_not_start(proc: FakeProc) -> None:
    proc.net("box", own=["172.17.0.2"])
    proc.add(50, ["/v/bin/python", "/v/bin/vllm", "serve", "m"], fds=None, net="box")
    assert [one.pid for one in discover.starting(proc.root)] == [50]
    proc.listen(9, "127.0.0.1", 8000, net="box")
    assert discover.starting(proc.root) == ()


def test_the_latest_start_comes_first(proc: FakeProc) -> None:
    proc.add(50, ["vllm", "serve", "m", "--port", "8123"], start=100)
    proc.add(40, ["vllm", "serve", "m", "--port", "8124"], start=200)
    assert [one.pid for one in discover.starting(proc.root)] == [40, 50]


def test_where_a_server_is_bound(proc: FakeProc) -> None:
    proc.listen(7, "0.0.0.0", 8000)
    proc.listen(8, "127.0.0.1", 5555)
    proc.add(50, ["vllm", "serve", "m"], fds=[7, 8])
    assert discover.bound(50, 8000, proc.root) == "0.0.0.0"
    assert discover.bound(50, 5555, proc.root) == "127.0.0.1"
    assert isinstance(discover.bound(50, 9000, proc.root), Absent)
    proc.net("box")
    proc.add(60, ["vllm", "serve", "m"], net="box")
    assert isinstance(discover.bound(60, 8000, proc.root), Absent)
