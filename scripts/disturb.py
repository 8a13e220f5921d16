#!/usr/bin/env python3
"""Disturbs a real server on purpose and tells what qtop says: the cause that is expected, the verdict, seconds until it
was named, and whatever else was said meanwhile.

disturb.py llamacpp|docker|guest|vllm_cpu|gpu [--only NAME,…] [--healthy SECONDS] [--record FOLDER] [--json FILE]
    [--url URL] [--pid PID]

Each suite lies beside this file (disturb_docker.py and so on) and gives a list of ``Case``. A case is healthy first,
for ``QUIET_S``, then disturbed until it is named or ``patience`` is over; the recording of it, if asked for, spans
both.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tui"), str(HERE)]
# Of the load's processes.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent / "tui"), os.environ.get("PYTHONPATH", "")]))

from qtop.config import Settings  # noqa: E402
from qtop.diagnose.rule import State  # noqa: E402
from qtop.session import Session, Snapshot  # noqa: E402
from qtop.verbs.live import live_session  # noqa: E402

QUIET_S = 12.0
"""Of load without a disturbance before each case: what is said then is a false alarm."""
SETTLE_S = 40.0
"""At most so long for what the case before left to clear."""


@dataclass
class Case:
    """One disturbance. ``load`` runs all through, ``disturb`` from the moment that counts."""

    name: str
    expected: tuple[str, ...]
    """Any of these rules as the verdict is right."""
    load: Callable[[], AbstractContextManager[object]]
    disturb: Callable[[], AbstractContextManager[object]]
    target: tuple[str, ...] = ()
    """"--url", URL or "--pid", PID, where it is not that of the command line."""
    patience: float = 60.0
    hold: float = 5.0
    """Seconds that it goes on after it was named."""
    stub: str = ""
    """What stands in for what cannot be had, for its recording."""


@dataclass
class Result:
    """What was seen of one."""

    name: str
    expected: str
    verdict: str = "none"
    headline: str = ""
    seconds: float | None = None
    """From the disturbance to the expected verdict."""
    others: list[str] = field(default_factory=list)
    """Other rules that led meanwhile, with the second at which they began to."""
    before: list[str] = field(default_factory=list)
    """Rules that led while nothing was disturbed: false alarms, or what the load itself is limited by."""
    also: list[str] = field(default_factory=list)
    """Rules of severity warning and above that fired when it was named."""

    @property
    def wrong(self) -> bool:
        """The cause was not named, or something was where nothing was wrong."""
        return bool(self.others or self.before) if self.expected == "none" else self.seconds is None


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    """No load, or no disturbance."""
    yield


def snapshots(session: Session, until: float) -> Iterator[Snapshot]:
    """Those that come until a monotonic time."""
    seq = session.latest.seq if session.latest is not None else 0
    while time.monotonic() < until:
        snapshot = session.wait(seq, max(0.05, until - time.monotonic()))
        if snapshot is not None:
            seq = snapshot.seq
            yield snapshot


def run(case: Case, args: argparse.Namespace) -> Result:
    """Healthy, then disturbed."""
    result = Result(case.name, " or ".join(case.expected))
    target = dict(zip(case.target[::2], case.target[1::2], strict=True))
    named = {"url": target["--url"]} if "--url" in target else {"pid": int(target["--pid"])} if target else {}
    settings = argparse.Namespace(**{**{k: v for k, v in vars(args).items() if k in ("url", "pid") and v}, **named})
    with case.load(), live_session(settings, Settings(), need_server=not case.name.startswith("refused")) as session:
        if args.record:
            args.record.mkdir(parents=True, exist_ok=True)
            path = args.record / f"{case.name.replace(' ', '-')}.qtop"
            note = "; ".join(filter(None, (case.name, f"expected {result.expected}", case.stub)))
            session.start_recording(path, overwrite=True, note=note, origin="stub" if case.stub else "real")
        for snapshot in snapshots(session, time.monotonic() + QUIET_S):
            rule = snapshot.verdict.rule
            if rule is not None and rule not in result.before:
                result.before.append(rule)
        with case.disturb():  # entered once it is in force
            began = time.monotonic()
            session.note("marker", {"note": f"begin: {case.name}"})
            _watch(case, session, result, began)
    return result


def _watch(case: Case, session: Session, result: Result, began: float) -> None:
    last: str | None = None
    end = began + case.patience
    for snapshot in snapshots(session, end):
        rule, now = snapshot.verdict.rule, time.monotonic()
        if rule in case.expected and result.seconds is None:
            result.verdict, result.headline = str(rule), snapshot.verdict.headline
            result.seconds = round(now - began, 1)
            end = min(end, now + case.hold)
            result.also = [
                one.rule
                for one in snapshot.findings
                if one.state is State.FIRING and one.severity.rank > 0 and one.rule != rule
            ]
        elif rule is not None and rule != last and rule not in case.expected:
            result.others.append(f"{rule} at {now - began:.0f} s")
            if result.seconds is None:
                result.verdict, result.headline = rule, snapshot.verdict.headline
        last = rule
        if now >= end:
            return


def table(results: list[Result]) -> str:
    """In Markdown."""
    rows = ["| disturbance | expected | verdict | seconds until named | also fired | led before / instead |"]
    rows.append("|---|---|---|---|---|---|")
    for one in results:
        seconds = "–" if one.seconds is None else f"{one.seconds:.0f}"
        instead = "; ".join([*(f"before: {rule}" for rule in one.before), *one.others])
        rows.append(f"| {one.name} | {one.expected} | {one.verdict} | {seconds} | {', '.join(one.also)} | {instead} |")
    return "\n".join(rows)


def main() -> int:
    """Run a suite; exit code 1 when a cause was not named."""
    parser = argparse.ArgumentParser(description="Disturb a real server and see what qtop says.")
    parser.add_argument("suite")
    parser.add_argument("--only", default="", help="names, by commas")
    parser.add_argument("--healthy", type=float, help="so many seconds of each case that is not disturbed")
    parser.add_argument("--record", type=Path, help="folder for a recording of each case")
    parser.add_argument("--json", type=Path, help="write the results here too")
    parser.add_argument("--url")
    parser.add_argument("--pid", type=int)
    args = parser.parse_args()
    suite = importlib.import_module(f"disturb_{args.suite}")
    only = {one.strip() for one in args.only.split(",") if one.strip()}
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        for case in suite.cases(stack, args):
            if only and case.name not in only:
                continue
            if args.healthy and case.expected == ("none",):
                case.patience = args.healthy
            result = run(case, args)
            results.append(result)
            print(json.dumps(asdict(result), ensure_ascii=False), flush=True)
            if args.json:
                args.json.write_text(json.dumps([asdict(one) for one in results], indent=1, ensure_ascii=False))
    print(table(results))
    return int(any(one.wrong for one in results))


if __name__ == "__main__":
    sys.exit(main())
