"""The launcher ``bare``: a process that nobody looks after. It is started again as it was (words, folder, environment,
limits, owner, niceness, CPUs), in a session of its own.

Its launch, beside what ``capture`` says: {"tree": its processes, "port", "log": where its output goes, "log_from": how
long that file was before, "pid" and "start": its main process now}.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from qtop.act.change import Work
from qtop.act.journal import state_dir
from qtop.act.launchers.capture import alive, captured, named_limit, own_log, tail
from qtop.act.launchers.ending import end, living, tree_of
from qtop.act.launchers.launcher import Launch
from qtop.act.log_reason import how_ended
from qtop.act.parser_check import executable
from qtop.clock import boot_id
from qtop.collect.discover import in_container, pid_for_url, urls_for_pid
from qtop.collect.discover.procfs import argv as argv_of
from qtop.collect.discover.procfs import effective_uid, pids, process, read, start_ticks, text
from qtop.collect.discover.servers import program
from qtop.collect.engine.argv import integer
from qtop.errors import Refused
from qtop.sample import Absent
from qtop.sample.cpulist import parse

STARTER = Path(__file__).with_name("starter.py")
PYTHON = sys.executable
SUPERVISORS = frozenset({
    "supervisord", "runsv", "s6-supervise", "monit", "circusd", "god", "pm2", "containerd-shim", "conmon", "tini",
    "docker-init", "dumb-init",
})  # fmt: skip
"""Who starts a server again by itself when it ends, with the old words."""
SHELLS = frozenset(
    {"sh", "bash", "dash", "zsh", "fish", "ash", "tmux: server", "tmux", "screen", "login", "su", "sshd"}
)
STARTING_S = 10.0
"""A start that is under way has run its program by then."""


class Bare:
    """A process of its own."""

    kind: ClassVar[str] = "bare"
    title: ClassVar[str] = "the process"

    def capture(self, pid: int) -> Launch | None:
        """Whatever runs here, unless it is in a container or under somebody who starts it again."""
        if in_container(pid):
            raise Refused(
                "the server runs in a container whose manager is not known here", "Restart it with other flags there."
            )
        own = process(pid)
        parent = process(own.ppid) if own is not None else None
        if parent is not None and parent.comm in SUPERVISORS:
            raise Refused(
                f"{parent.comm} looks after the server and would start it with the old flags",
                f"Change its command in the configuration of {parent.comm}.",
            )
        unit = _unit(text(f"/proc/{pid}/cgroup"))
        if unit and unit != _unit(text("/proc/self/cgroup")):
            raise Refused(f"systemd looks after the server ({unit})", "Change its ExecStart and restart the unit.")
        launch = captured(pid)
        if program(launch["argv"])[1] == "qtop.demo.serve" and launch["stdio"][0]["kind"] == "pipe":
            raise Refused(
                "this is the demo server, which ends with the qtop that started it", "`qtop serve -- COMMAND` runs one."
            )
        if effective_uid(pid) != os.geteuid() and os.geteuid() != 0:
            raise Refused("the server belongs to another user", "Run qtop as its user, or as root (sudo qtop …).")
        urls = urls_for_pid(pid)
        launch["url"] = urls[0] if urls else ""
        launch["tree"] = tree_of(pid)
        launch["parent"] = parent.comm if parent is not None and parent.pid > 1 else ""
        launch["log"], launch["log_own"] = self._log_for(launch)
        if not _program(launch, launch["argv"]):
            raise Refused("the server's program cannot be found again", "Restart it by hand.")
        return launch

    def root(self, launch: Launch) -> bool:
        """Never: what another user started cannot be read in the first place."""
        return False

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """Ended and started."""
        return (
            f"process {launch['pid']} is ended (SIGTERM, after {30 + _drain(launch):.0f} s by force) and started in a "
            "session of its own: same folder, environment, limits, owner, CPUs",
            f"its output goes to {launch['log']}",
        )

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """What is not as it was."""
        told = []
        stdin, out = launch["stdio"][0]["kind"], {launch["stdio"][1]["kind"], launch["stdio"][2]["kind"]}
        if "tty" in out:
            told.append("its output went to a terminal, which cannot be given back")
        if "pipe" in out:
            told.append("its output went to another program, which will hear no more of it")
        if stdin == "pipe":
            told.append("its input came from another program; it gets none any more")
        if launch["parent"] and launch["parent"] not in SHELLS:
            told.append(f"it was started by {launch['parent']}, which may miss it, or start another")
        for name, (soft, hard) in launch["rlimits"].items():
            most = resource.getrlimit(getattr(resource, name))[1]
            if os.geteuid() != 0 and most != -1 and (hard == -1 or hard > most):
                told.append(
                    f"its limit of {named_limit(name)} ({'none' if soft == -1 else soft}) becomes at most {most}"
                )
        if os.geteuid() != 0 and launch["nice"] < os.getpriority(os.PRIO_PROCESS, 0):
            told.append(f"its niceness of {launch['nice']} cannot be given back without root")
        if launch["cgroup"] != text("/proc/self/cgroup") and not all(
            os.access(one, os.W_OK) for one in _cgroups(launch)
        ):
            told.append("its cgroup cannot be given back: it starts in that of qtop, with the limits there")
        return tuple(told)

    def running(self, launch: Launch) -> list[str] | None:
        """The process that is known; else one with its words, or one where it listened."""
        _starts_are_over()
        if alive(launch.get("pid"), launch.get("start"), launch["boot"]):
            return _words(launch["pid"])
        launch["ended"] = _how_ended(launch.get("pid"))
        pid = self._another(launch)
        if pid is None:
            return None
        launch.update(pid=pid, start=start_ticks(pid), boot=boot_id(), tree=tree_of(pid))
        return _words(pid)

    def _another(self, launch: Launch) -> int | None:
        """Started and not written down (a kill -9 in between), or started by somebody else."""
        known = [launch["argv"], launch.get("started", launch["argv"])]
        for pid in pids():
            start = start_ticks(pid)
            if start is not None and alive(pid, start, boot_id()) and _words(pid) in known and _like(pid, launch):
                parent = process(pid)
                if parent is None or _words(parent.ppid) not in known:  # a fork of it is not it
                    return pid
        return pid_for_url(launch["url"]) if launch["url"] else None

    def configured(self, launch: Launch) -> list[str] | None:
        """Nothing would start it again."""
        return None

    def tidy(self, launch: Launch, work: Work) -> None:
        """A process leaves nothing behind."""

    def stop(self, launch: Launch, work: Work) -> None:
        """SIGTERM, again, SIGKILL; until its children have ended too."""
        if self.running(launch) is not None:
            launch["tree"] = tree_of(launch["pid"]) + [one for one in launch["tree"] if one[0] != launch["pid"]]
        launch["tree"] = living(launch["tree"], launch["boot"])
        work.save()
        end(launch["tree"], launch, work)

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """Through ``starter.py``, which becomes the server."""
        program = _program(launch, argv)
        if not program:
            raise Refused(f"{argv[0]} cannot be found")
        log = Path(launch["log"])
        launch.update(started=argv, log_from=log.stat().st_size if log.exists() else 0)
        work.save()
        ask = {
            **{name: launch[name] for name in ("environ", "cwd", "rlimits", "uid", "gid", "groups", "umask", "nice")},
            **{name: launch[name] for name in ("oom_score_adj", "ignored")},
            "argv": argv,
            "program": program,
            "cpu_numbers": sorted(parse(launch["cpus"])) if launch["cpus"] else [],
            "cgroups": [[one, "0"] for one in _cgroups(launch)],
            "streams": _streams(launch),
        }
        pid = _spawn(ask)
        launch.update(pid=pid, start=start_ticks(pid), boot=boot_id(), tree=tree_of(pid))
        work.save()

    def pid(self, launch: Launch) -> int | None:
        """Its process, if it runs."""
        return launch["pid"] if self.running(launch) is not None else None

    def log(self, launch: Launch) -> list[str]:
        """From where it was started."""
        return tail(Path(launch["log"]), int(launch.get("log_from", 0)))

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """The command itself: nothing else starts it."""
        return shlex.join(argv)

    def check(self, launch: Launch, argv: list[str]) -> None:
        """Root's helper does not start programs."""
        raise Refused("root's helper starts no process for somebody else", "Run qtop as its user, or as root.")

    def _log_for(self, launch: Launch) -> tuple[str, bool]:
        """Where its output can be read, and whether that is a file of qtop's."""
        for one in launch["stdio"][1:]:
            if one["kind"] == "file" and os.access(one["path"], os.W_OK):
                return str(one["path"]), False
        return str(own_log(state_dir(), f"{launch['url'].rpartition(':')[2] or launch['pid']}")), True


def _how_ended(pid: int | None) -> str:
    """Of one that this process has started, "" of others."""
    statuses = [child.poll() for child in _children if child.pid == pid]
    return how_ended(statuses[-1]) if statuses and statuses[-1] is not None else ""


def _words(pid: int) -> list[str] | None:
    """None also for one that is ending and has given its memory back, its words with it."""
    words = argv_of(pid)
    return None if isinstance(words, Absent) or not words else list(words)


def _like(pid: int, launch: Launch) -> bool:
    """Whether a process has the launch's environment: two servers may differ in nothing else."""
    data = read(f"/proc/{pid}/environ")
    if isinstance(data, OSError):
        return False
    environ = [entry for entry in data.decode(errors="surrogateescape").split("\0") if entry]
    return bool(environ == launch["environ"])


def _drain(launch: Launch) -> float:
    return float(integer(launch["argv"], "--shutdown-timeout") or 0)


def _program(launch: Launch, argv: list[str]) -> str:
    """What to execute: the first word as its own environment finds it, if that is the program that ran; else that."""
    found = executable(launch, argv[0])
    if found and os.path.realpath(found) == os.path.realpath(launch["exe"]):
        return found
    return launch["exe"] if os.access(launch["exe"], os.X_OK) else ""


def _streams(launch: Launch) -> list[dict[str, Any]]:
    """Where the three standard streams come from and go to."""
    stdin = launch["stdio"][0]
    # Standard input of a program elsewhere cannot be given back.
    streams = [_stream(stdin) if stdin["kind"] == "file" else {"path": "/dev/null", "own": False, "file": None}]
    for one in launch["stdio"][1:]:
        kept = one["kind"] == "file" and os.access(one["path"], os.W_OK)
        # What went nowhere goes into the log as well: why a server does not start stands nowhere else.
        streams.append(_stream(one) if kept else {"path": launch["log"], "own": launch["log_own"], "file": None})
    return streams


def _stream(one: dict[str, Any]) -> dict[str, Any]:
    return {"path": one["path"], "own": False, "file": one["file"]}


def _unit(cgroup: str) -> str:
    """The systemd service that a process belongs to, "" for a scope or a session."""
    for line in cgroup.splitlines():
        last = line.rpartition(":")[2].rstrip("/").rpartition("/")[2]
        if last.endswith(".service") and not last.startswith("user@"):
            return last
    return ""


def _cgroups(launch: Launch) -> list[str]:
    """Files with which a process joins the old one's cgroups, where they differ from qtop's own."""
    own = text("/proc/self/cgroup").splitlines()
    found = []
    for line in launch["cgroup"].splitlines():
        number, controllers, path = line.split(":", 2)
        if line in own:
            continue
        base = "/sys/fs/cgroup" if number == "0" else f"/sys/fs/cgroup/{controllers.removeprefix('name=')}"
        if number == "0" and not Path(base, "cgroup.controllers").exists():
            base = "/sys/fs/cgroup/unified"
        found.append(f"{base}{path.rstrip('/')}/cgroup.procs")
    return found


def _lock() -> int:
    path = state_dir() / "starting.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _starts_are_over() -> None:
    """Wait until no start is between its begin and its program: one that a killed qtop began must not go unseen."""
    fd = _lock()
    try:
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(0.02)
    finally:
        os.close(fd)


def _spawn(ask: dict[str, object]) -> int:
    """The process that becomes the server; Refused when it does not."""
    lock = _lock()
    report, told = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = subprocess.Popen(
            [PYTHON, "-I", "-S", str(STARTER), str(lock), str(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock, told),
            env={},
            cwd="/",
        )
        os.close(told)
        told = -1
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(ask).encode())
            child.stdin.close()
        except OSError:
            pass  # its report, or its end, tells
        why = _heard(report)
    finally:
        for fd in (lock, report, told):
            if fd >= 0:
                os.close(fd)
    if why:
        child.wait()
        raise Refused(f"the server cannot be started: {why}")
    _children.append(child)
    return child.pid


def _heard(report: int) -> str:
    """What the starter could not do; "" once the server's program runs."""
    return os.read(report, 4096).decode(errors="replace")


_children: list[subprocess.Popen[bytes]] = []
"""Kept so that they are not waited for by accident; init takes them over when qtop ends."""
