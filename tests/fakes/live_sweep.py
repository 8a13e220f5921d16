"""``python -m tests.fakes.live_sweep KNOB VALUE SUBJECT MODE``, under killat.c: kill -9 of a live change at each step.

The real transaction, knob and journal; only the measurement is made up. SUBJECT is what the frame shows: "pids:S:R,R"
(a server and its rivals), "gpus:UUID,UUID", "url:URL#PID" (a vLLM there, of this process). Each round is a
process of its own, which dies at its N-th call ("before" or "after" it: MODE); then undo runs in another. First the
change is one that makes it worse and is put back by itself, then one that is kept, whose undo dies instead.

Prints a line of JSON per round: {"what": "apply" or "undo", "at", "call", "killed", "said": undo's words, "left":
changes still in force}. After each, what SUBJECT's state is, by the command in QTOP_SWEEP_STATE, is "state".
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx  # noqa: F401 - once here, not in each child
import pynvml  # noqa: F401
from msgspec.structs import replace
from tests.fakes.apply_driver import Said
from tests.fakes.crash import calls, frame_of

from qtop.act import reach
from qtop.act.journal import Journal
from qtop.act.knobs import cpu_groups, knob, lora
from qtop.act.transaction import run
from qtop.act.undo import undo
from qtop.clock import mono, wall
from qtop.collect.http import Access
from qtop.errors import QtopError
from qtop.model.derive import Deriver
from qtop.model.frame import Competitor, Frame, SchedView
from qtop.sample import GpuSample, GpuSection, Sample, ServerInfo

MOST = 120


def gpu_frame(*uuids: str, server: ServerInfo | None = None) -> Frame:
    """A frame of these GPUs."""
    gpus = tuple(GpuSample(at=mono(), index=number, uuid=uuid) for number, uuid in enumerate(uuids))
    found = server or ServerInfo(url="http://127.0.0.1:1", engine="vllm")
    return Deriver().push(Sample(t=wall(), server=found, gpu=GpuSection(at=mono(), driver="1", gpus=gpus)))


def rival_frame(server: int, *rivals: int) -> Frame:
    """A frame in which these processes are on the CPUs that the server waits for."""
    frame = frame_of(server)
    assert isinstance(frame.sched, SchedView)
    others = tuple(Competitor(pid, Path(f"/proc/{pid}/comm").read_text().strip(), 0.5, "0") for pid in rivals)
    return replace(frame, sched=replace(frame.sched, competitors=others))


def subject(text: str) -> Frame:
    """The frame that SUBJECT means."""
    kind, _, rest = text.partition(":")
    if kind == "gpus":
        return gpu_frame(*rest.split(","))
    if kind == "pids":
        server, rivals = rest.split(":")
        return rival_frame(int(server), *(int(pid) for pid in rivals.split(",")))
    url, _, pid = rest.rpartition("#")
    return Deriver().push(Sample(t=wall(), server=ServerInfo(url=url, engine="vllm", pid=int(pid))))


def in_child(work: Callable[[], str], at: int, mode: str, log: Path, *, armed: bool = False) -> tuple[bool, str]:
    """Run it in a process that dies at its ``at``-th call (0: none); whether it died, and what it said."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        if armed:
            os.environ["QTOP_KILL_FROM_THE_START"] = "1"
        os.environ |= {"QTOP_KILL_AT": str(at), "QTOP_KILL_MODE": mode, "QTOP_KILL_LOG": str(log)}
        try:
            said = work()
        except QtopError as error:
            said = str(error)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading) as pipe:
        return os.WIFSIGNALED(status), pipe.read()


def main() -> int:
    """0 once a round of each kind was not killed."""
    name, value, text, mode = sys.argv[1:5]
    target, frame = knob(name), subject(text)
    if enabled := os.environ.get("QTOP_SWEEP_AUTOGROUPS"):  # as on a kernel that has them switched on
        cpu_groups.ENABLED = Path(enabled)
    lora.LATE_S = 0.3  # a server that takes no time
    journal = Path(os.environ["XDG_STATE_HOME"], "qtop/journal.jsonl")

    def change(verdict: str) -> str:
        if key := os.environ.get("QTOP_API_KEY"):  # as the session that watches it knows it; undo has no session
            reach.through(lambda: Access(text.partition(":")[2].partition("#")[0], key))
        ask = (target, lambda: target.plan(frame, value or None))
        return run([ask], Said(verdict), lambda step, told: None).text

    def take_back() -> str:
        return undo().text

    for what in ("apply", "undo"):
        for at in range(1, MOST):
            journal.unlink(missing_ok=True)
            log = journal.with_name(f"{what}{at}.log")
            log.unlink(missing_ok=True)
            journal.parent.mkdir(parents=True, exist_ok=True)
            told = ""
            if what == "undo":
                told = in_child(lambda: change("improved"), 0, mode, log)[1]
                log.unlink(missing_ok=True)
            undoing = what == "undo"
            killed, first = in_child(take_back if undoing else lambda: change("worse"), at, mode, log, armed=undoing)
            made = calls(log)
            said = in_child(take_back, 0, mode, log)[1] if killed else first
            state = subprocess.run(
                os.environ["QTOP_SWEEP_STATE"], shell=True, capture_output=True, text=True, check=True
            ).stdout
            round_ = {"what": what, "at": at, "call": made[-1] if made else "", "killed": killed, "said": said}
            left = len(Journal(journal).in_force())
            print(json.dumps({**round_, "told": told, "left": left, "state": state, "calls": made}), flush=True)
            if not killed:
                break
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
