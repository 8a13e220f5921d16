"""``python -m tests.fakes.crash_sweep SPEC``: kill -9 at every call that a change of files is made of, then undo.

Runs with killat.c loaded; each trial is a fork of its own, so that a sweep takes seconds. SPEC is JSON: "knob",
"value", "files" (path to the text before), "pid" of a process that stands for the server (0: none), "cpufreq" (a folder
in place of the real one, or ""), "lasting" (a file in place of the one that makes it last, or ""), "helper" (the change
is made by root's helper: "" no, "dies", or "asker" for the death of the one who asks), "state" (a folder), "sweeps"
(some of "kept", "put back" and "undone"; all). Prints JSON: each sweep's calls, the number of deaths, and what was not
as before after undo.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fakes.apply_driver import Said
from tests.fakes.crash import calls

from qtop.act import hands
from qtop.act.change import Knob, Plan
from qtop.act.journal import Journal
from qtop.act.knobs import cpufreq, knob, lasting
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.model.cpu import SchedView, ThreadView
from qtop.model.frame import Frame
from qtop.sample import ServerInfo

PR_SET_CHILD_SUBREAPER = 36
HELPER_S = 20.0


class Sweep:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.state = Path(spec["state"])
        self.before = {Path(path): text for path, text in spec["files"].items()}
        self.lasting = Path(spec["lasting"]) if spec["lasting"] else None
        watched = [*map(str, self.before)]
        if self.lasting is not None:
            watched += [str(self.lasting), str(self.lasting.with_name(f".{self.lasting.name}.new"))]
        self.watched = {"QTOP_KILL_FILES": ":".join(watched)}
        """For the children alone: what this process writes to set up a trial does not count."""
        self.failures: list[str] = []

    def knob(self) -> Knob:
        if self.spec["cpufreq"]:
            cpufreq.CPUFREQ = Path(self.spec["cpufreq"])
        return knob(self.spec["knob"])

    def frame(self) -> Frame:
        pid = self.spec["pid"]
        if not pid:
            return Frame(0.0, 0.0)
        thread = ThreadView(pid, pid, "server", "", 0.5, 0.5, 0.0, 1.0, "0")
        sched = SchedView((thread,), (thread,), 1, 1.0, 1, "0", "0", None, 0.0, ())
        return Frame(0.0, 0.0, server=ServerInfo(url="http://127.0.0.1:1", engine="vllm", pid=pid), sched=sched)

    def change(self, journal: Journal, verdict: str) -> None:
        target = self.knob()
        asks: list[tuple[Knob, Callable[[], Plan]]] = [(target, lambda: target.plan(self.frame(), self.spec["value"]))]
        if self.lasting is not None:
            file = (str(self.lasting), "vm.swappiness = 33\n")
            asks.append((lasting.LASTING, lambda: lasting.plan_lasting(asks[0][1](), file)))
        with hands.Hands(interactive=False) as making:
            run(
                asks,
                None if verdict == "kept" else Said(verdict),
                lambda step, text: None,
                journal=journal,
                hands=making,
            )

    def reset(self) -> Journal:
        for path, text in self.before.items():
            if self.now(path) != text:
                path.write_text(f"{text}\n")
        if self.lasting is not None:
            for path in self.lasting.parent.iterdir():
                path.unlink()
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir()
        return Journal(self.state / "journal.jsonl")

    def now(self, path: Path) -> str:
        return getattr(self.knob(), "now", lambda one: one.read_text().strip())(path) or ""

    def forked(self, work: Callable[[], object], environ: dict[str, str]) -> int:
        """Does it in a child; how that ended, once all that it left behind has ended too."""
        child = os.fork()
        if child == 0:
            os.environ |= self.watched | environ
            status = 1
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        status = os.waitpid(child, 0)[1]
        deadline = time.monotonic() + HELPER_S
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < deadline:
                time.sleep(0.005)
            self.failures.append("the helper did not end")
        return os.waitstatus_to_exitcode(status)

    def told(self, environ: dict[str, str]) -> dict[str, str]:
        """The environment of a trial: with a helper, it is the helper's."""
        if not self.spec["helper"]:
            return environ

        def elevation(interactive: bool) -> list[str]:
            asker = [f"QTOP_KILL_PID={os.getpid()}"] if self.spec["helper"] == "asker" else []
            told = [f"{name}={value}" for name, value in environ.items()]
            return ["env", *told, *asker, *hands.helper_command()]

        hands.elevation = elevation
        return {}

    def trial(self, prepare: str, work: Callable[[Journal], object], environ: dict[str, str]) -> int:
        journal = self.reset()
        if prepare:
            self.forked(lambda: self.change(journal, prepare), self.told({}))
        return self.forked(lambda: work(journal), self.told(environ))

    def sweep(self, name: str, prepare: str, work: Callable[[Journal], object]) -> dict[str, Any]:
        log = self.state.with_name("calls.log")
        log.unlink(missing_ok=True)
        self.trial(prepare, work, {"QTOP_KILL_LOG": str(log)})
        made, deaths = calls(log), 0
        wanted = -signal.SIGKILL if self.spec["helper"] != "dies" else None
        for at, call in enumerate(made, 1):
            # After one call is before the next. What the helper writes is the kernel's, which takes a value whole.
            modes = ["before", *(["after"] if at == len(made) else [])]
            modes += ["torn"] if call == "write" and not self.spec["helper"] else []
            for mode in modes:
                where = f"{name}, {mode} call {at} ({call})"
                status = self.trial(prepare, work, {"QTOP_KILL_AT": str(at), "QTOP_KILL_MODE": mode})
                if wanted is not None and status != wanted:
                    self.failures.append(f"{where}: did not die but ended with {status}")
                deaths += 1
                self.undone(where)
        return {"calls": made, "deaths": deaths}

    def undone(self, where: str) -> None:
        """`qtop undo` in a process of its own; all must be as before."""
        journal = Journal(self.state / "journal.jsonl")
        if self.forked(lambda: undo(journal), self.told({})) != 0:
            self.failures.append(f"{where}: undo failed")
        held = {str(path): self.now(path) for path in self.before if self.now(path) != self.before[path]}
        if held:
            self.failures.append(f"{where}: {held}")
        if self.lasting is not None and any(self.lasting.parent.iterdir()):
            self.failures.append(f"{where}: {[path.name for path in self.lasting.parent.iterdir()]}")
        if journal.in_force():
            self.failures.append(f"{where}: the journal has an open change")


def main() -> int:
    spec = json.loads(sys.argv[1])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    real_access = os.access
    if spec["helper"]:
        os.geteuid = lambda: 1000
        os.access = lambda path, mode, **more: mode != os.W_OK and real_access(path, mode, **more)
    sweep = Sweep(spec)
    try:
        whole: dict[str, tuple[str, Callable[[Journal], object]]] = {
            "kept": ("", lambda journal: sweep.change(journal, "kept")),
            "put back": ("", lambda journal: sweep.change(journal, "worse")),
            "undone": ("kept", undo),
        }
        told = {name: sweep.sweep(name, *whole[name]) for name in spec.get("sweeps", whole)}
    finally:
        sweep.reset()
    print(json.dumps({**told, "failures": sweep.failures}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
