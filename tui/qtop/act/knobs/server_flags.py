"""The knob ``server-flags``: the server is stopped and started with other words of its command line, or of its config
file. What was started in which way, a launcher knows (``act/launchers``).

A record: {"new": the flags wanted, redacted; "engine", "url", "launcher": its kind, "launch": its own, "argv": {"old",
"new"}, "first": [pid, start] of the process that ran before, "phase", and "file": {"path", "old", "new"} where a config
file is edited}. The phase is on disk before what it names is done, so a server that is down is told from one that
somebody else ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from qtop.act import config_yaml, launchers
from qtop.act.change import Drift, Knob, Plan, Reading, Record, Work
from qtop.act.launchers.launcher import Launch, Launcher
from qtop.act.parser_check import check_words
from qtop.act.readiness import await_ready
from qtop.act.watched import server_of
from qtop.act.words import Edit, edited, name_of, values_now, wanted
from qtop.collect.address import is_local
from qtop.collect.discover.procfs import start_ticks
from qtop.collect.discover.tree import server_root
from qtop.errors import Refused
from qtop.model.frame import Frame
from qtop.record.redact import Redactor
from qtop.sample import Absent, ServerInfo

PLANNED, STOPPING, STARTING, WAITING, DONE = "planned", "stopping", "starting", "waiting", "done"
RESTORING, RESTORED = "restoring", "restored"
UNFINISHED = (STOPPING, STARTING, WAITING, RESTORING)
SETTLE_S = 3.0
OLD, NEW = "the old words", "the new words"


class ServerFlags(Knob):
    """Any flags of the server."""

    id = "server-flags"
    title = "flags of the server's command line (it is started anew)"
    needs = "the right to stop and start the server"
    example = "--max-num-seqs=128 --no-enforce-eager"

    engines: ClassVar[frozenset[str]] = frozenset()
    """Those that have such flags; empty: any."""

    def asked(self, frame: Frame, server: ServerInfo, value: str | None) -> tuple[str, tuple[Edit, ...]]:
        """The value, as a user would write it, and the flags that it means. Refused where none is proposed."""
        if value is None:
            raise Refused(f"{self.id} takes the flags to set", f"For example {self.id}='{self.example}'.")
        return value, wanted(value)

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """The server as it runs now, found and captured; the new words are tried on its own parser."""
        server, pid = _subject(frame)
        value, edits = self.asked(frame, server, value)
        launcher, launch = launchers.find(server_root(pid))
        old = list(launch["argv"])
        file, for_file, for_line = config_yaml.share(old, launch, server.engine, edits)
        new = edited(old, server.engine, for_line)
        if new == old and file is None:
            raise Refused(f"the server runs with {_text(edits)} already")
        told, doubts = check_words(server.engine, launch, new, edits, file)
        preview = [*_lines(old, server.engine, for_line), *config_yaml.lines(file, for_file)]
        lasting = launcher.lasting(launch, new) if new != old else ""
        record: Record = {
            "new": _text(edits),
            "engine": server.engine,
            "url": server.url if isinstance(server.url, str) else "",
            "launcher": launcher.kind,
            "launch": launch,
            "argv": {"old": old, "new": new},
            "first": _identity(launcher.pid(launch)),
            "phase": PLANNED,
        }
        if file is not None:
            record["file"] = file
        return Plan(
            knob=self.id,
            value=value,
            summary=f"start the server anew with {_text(edits)}",
            preview=(*preview, *launcher.describe(launch, new), *told),
            record=record,
            warnings=(*doubts, *launcher.warnings(launch)),
            command=_redacted(lasting),
            root=launcher.root(launch),
            right="root" if launcher.root(launch) else "none beyond your own",
            hurts="requests in flight are cut off, unless the server drains; none is answered until it is up again",
            undone="`qtop undo` starts the server anew with the old words",
            settle_s=SETTLE_S,
            restart=True,
        )

    def apply(self, record: Record, work: Work) -> None:
        """Stop, edit the file, start, wait for the first token."""
        launcher = launchers.named(record["launcher"])
        if _standing(record, launcher) != OLD or launcher.running(record["launch"]) is None:
            raise Refused("the server is no longer the one that was looked at", "Look again.")
        _phase(record, work, STOPPING, "stopping the server")
        launcher.stop(record["launch"], work)
        _phase(record, work, STARTING, "starting it with the new words")
        if "file" in record:
            config_yaml.put(record["file"], "new")
        launcher.start(record["launch"], record["argv"]["new"], work)
        _phase(record, work, WAITING, "waiting for its first token")
        await_ready(record, launcher, work)
        _phase(record, work, DONE)

    def read(self, record: Record) -> Reading:
        """Which words the server runs with; down in the middle of a change counts as qtop's doing."""
        reading = Reading()
        now = _standing(record, launchers.named(record["launcher"]))
        if now in (OLD, NEW, None):
            reading.put("the server", OLD, NEW, now)
        else:
            reading.targets += 1
            olds, news = (_shown(record["argv"][which]) for which in ("old", "new"))
            reading.drifted.append(Drift("the server's command line", olds, news, now or "?"))
        if "file" in record:
            config_yaml.read(record["file"], reading)
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """The old file, and the old words where the server runs with qtop's or is down because of qtop."""
        launcher = launchers.named(record["launcher"])
        now = _standing(record, launcher)
        if now == NEW and record["phase"] == DONE and launcher.running(record["launch"]) is None:
            # Somebody stopped it since: its manager must not start it with qtop's words the next time.
            launcher.tidy(record["launch"], work)
            if "file" in record:
                config_yaml.put(record["file"], "old")
            _phase(record, work, RESTORED, "the server is down, and stays so")
            return
        settled = now == OLD and record["phase"] in (PLANNED, RESTORED)
        if now == NEW or (now == OLD and not settled):
            _phase(record, work, RESTORING, "putting the server back")
        if now == NEW:
            launcher.stop(record["launch"], work)
        if "file" in record:
            config_yaml.put(record["file"], "old")
        if now == NEW:
            launcher.start(record["launch"], record["argv"]["old"], work)
        if record["phase"] == RESTORING:
            try:
                await_ready(record, launcher, work)
            except Refused as error:
                raise Refused(f"the old server did not come back: {error.message}", error.hint) from None
            _phase(record, work, RESTORED, "the old server answers again")

    def check(self, record: Record) -> None:
        """A launch of the launcher's own kind, words of the same program, and a server on this host."""
        launcher = launchers.named(record["launcher"])
        if "file" in record:
            raise Refused("root does not edit a config file on somebody else's behalf", "Run qtop as its owner.")
        if record["url"] and not is_local(record["url"].partition("//")[2].rpartition(":")[0]):
            raise Refused("the server is not on this host")
        for which in ("old", "new"):
            launcher.check(record["launch"], list(record["argv"][which]))

    def shown(self, record: Record) -> Record:
        """Without what the launcher keeps (environment, keys), and the words redacted."""
        argv = {which: list(Redactor().argv(words)) for which, words in record["argv"].items()}
        kept: Record = {key: record[key] for key in ("new", "engine", "url", "launcher", "phase") if key in record}
        kept["argv"] = argv
        if "file" in record:
            kept["file"] = {"path": record["file"]["path"]}
        return kept


def _subject(frame: Frame) -> tuple[ServerInfo, int]:
    server = server_of(frame)
    if isinstance(server.pid, Absent):
        raise Refused(f"the server's process is not known: {server.pid}", "Restart it where it runs.")
    return server, server.pid


def _phase(record: Record, work: Work, phase: str, text: str = "") -> None:
    """On disk before it is begun."""
    record["phase"] = phase
    work.save()
    if text:
        work.say(text)


def _standing(record: Record, launcher: Launcher) -> str | None:
    """OLD, NEW, None (ended, and not by qtop), or the words that it runs with if they are neither; those with which its
    manager would start it where it is down."""
    launch: Launch = record["launch"]
    argv = launcher.running(launch)
    old, new, phase = record["argv"]["old"], record["argv"]["new"], record["phase"]
    if argv is None:
        argv = launcher.configured(launch)
        if phase in UNFINISHED or argv is None:
            return NEW if phase in UNFINISHED else None
    elif phase == STOPPING and argv == old:
        return NEW  # it may have been told to end, and be about to
    if old == new:  # only the file differs: which it has read, its age tells
        first = _identity(launcher.pid(launch)) == record["first"]
        return OLD if argv == old and (first or phase in (PLANNED, RESTORED)) else NEW if argv == new else _shown(argv)
    return OLD if argv == old else NEW if argv == new else _shown(argv)


def _identity(pid: int | None) -> list[Any]:
    return [pid, start_ticks(pid) if pid is not None else None]


def _lines(old: Sequence[str], engine: str, edits: Sequence[Edit]) -> list[str]:
    """Each flag: what stands there now, and what will."""
    lines = []
    for edit in edits:
        now = [_shown(words) for words in values_now(old, engine, name_of(engine, edit.flag))]
        lines.append(f"command line: {', '.join(now) or 'not set'} → {'left out' if edit.drop else _text([edit])}")
    return lines


def _text(edits: Sequence[Edit]) -> str:
    return _redacted(" ".join(edit.text for edit in edits))


def _shown(argv: Sequence[str]) -> str:
    return " ".join(Redactor().argv(argv))


def _redacted(text: str) -> str:
    return Redactor().text(text)
