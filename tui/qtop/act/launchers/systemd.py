"""The launcher ``systemd``: a unit, whose command a drop-in replaces. The drop-in stays over a new start of the host.

Its launch, beside what the parser check takes: {"unit", "manager": None or a user's id, "exec": the command as the unit
writes it, "dropin": its path, "former": whether it was there before, "token": the mark of this change, "stop_s",
"restart", "mode", "dependents": units that stop with this one, "wanted": the words it was last started with}. All that
undo needs is known, and in the journal, before anything is touched: names are made of the token.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from qtop.act.change import Work
from qtop.act.launchers.launcher import Launch
from qtop.act.launchers.manager import (
    server_below,
    token_for,
    words_below,
)
from qtop.act.launchers.respell import respelled
from qtop.act.launchers.systemctl import NAME, Manager, seconds
from qtop.act.launchers.unit_place import (
    DROPIN,
    LAST,
    Unit,
    dropin_text,
    folder_of,
    name_for,
    saved_as,
    texts_of,
    token_in,
    unit_of,
)
from qtop.act.launchers.unit_text import effective, quoted, split, takes_verbatim, tokens
from qtop.act.log_reason import ended_by
from qtop.act.whole_file import replace_whole, spare_of, sync_folder
from qtop.act.words import words_begin
from qtop.clock import wall
from qtop.collect.discover.procfs import argv as argv_of
from qtop.collect.discover.procfs import link, read, status, text
from qtop.collect.discover.servers import program, recognise
from qtop.errors import Refused
from qtop.sample import Absent

FILES = ("FragmentPath", "DropInPaths", "LoadState", "Transient")
STOPS_WITH = ("RequiredBy", "BoundBy", "ConsistsOf")
STOP_S = 600.0
"""For a unit that may take forever to stop."""
STARTED_S = 10.0


class Systemd:
    """A service of the system's manager or of one's own."""

    kind: ClassVar[str] = "systemd"
    title: ClassVar[str] = "the systemd unit"

    def capture(self, pid: int) -> Launch | None:
        """The unit in whose control group it runs, if it is what the unit starts."""
        unit = unit_of(text(f"/proc/{pid}/cgroup"))
        if unit is None or not NAME.fullmatch(unit.name):
            return None
        if unit.uid is not None and unit.uid != os.geteuid():
            raise Refused(f"{unit.name} is a unit of another user", "Run qtop as that user.")
        manager = Manager(unit.uid is not None)
        names = ("MainPID", "Type", "Restart", "TimeoutStopUSec", "NeedDaemonReload", "ActiveState")
        told = manager.show(unit.name, *FILES, *names, *STOPS_WITH)
        main = int(told["MainPID"] or 0)
        if not main or server_below(main) != pid:
            return None  # something else of the unit started it
        if told["Transient"] == "yes":
            raise Refused(f"{unit.name} is a transient unit, gone once it stops", "Start it with systemd-run again.")
        words = argv_of(pid)
        if isinstance(words, Absent) or not words:
            raise Refused(f"how the server was started cannot be read: {words}")
        texts = texts_of([told["FragmentPath"], *told["DropInPaths"].split()])
        commands = effective([body for _, body in texts])
        if len(commands) != 1:
            raise Refused(f"{unit.name} starts {len(commands)} commands", "Change it by hand.")
        dropin = folder_of(unit) / name_for(texts)
        launch: Launch = {
            "argv": list(words),
            "unit": unit.name,
            "manager": unit.uid,
            "exec": commands[0],
            "dropin": str(dropin),
            "former": dropin.exists(),
            "token": token_for(pid, unit.name),
            "stop_s": seconds(told["TimeoutStopUSec"]),
            "restart": told["Restart"],
            "dependents": _active(manager, [name for key in STOPS_WITH for name in told[key].split()]),
            "mode": (Path(told["FragmentPath"]).stat().st_mode & 0o644) | 0o600,
            "reload": told["NeedDaemonReload"] == "yes",
            **_surroundings(pid, main),
        }
        return launch

    def root(self, launch: Launch) -> bool:
        """For the system's units."""
        return launch["manager"] is None and os.geteuid() != 0

    def describe(self, launch: Launch, argv: list[str]) -> tuple[str, ...]:
        """The drop-in, and the commands. Refused here, before anything is stopped, where the command is elsewhere."""
        _command(launch, argv)
        what = "gets a new ExecStart=" if launch["former"] else "is written: an empty ExecStart=, then the new one"
        ctl = "systemctl" if launch["manager"] is None else "systemctl --user"
        more = [f"with it stop and start: {', '.join(launch['dependents'])}"] if launch["dependents"] else []
        return (
            f"{launch['dropin']} {what}",
            f"{ctl} stop {launch['unit']}; {ctl} daemon-reload; {ctl} start {launch['unit']}",
            *more,
            "it stays so after a new start of the host",
        )

    def warnings(self, launch: Launch) -> tuple[str, ...]:
        """What comes with it, or gets in the way."""
        told = []
        if launch["reload"]:
            told.append("the unit's files were changed since systemd read them: that takes effect as well")
        if launch["stop_s"] is None:
            told.append(f"the unit may take forever to stop: after {STOP_S / 60:.0f} min it is killed")
        if os.geteuid() == 0 or launch["manager"] is not None:
            why = _not_writable(Path(launch["dropin"]).parent)
            if why:
                raise Refused(why, "Change the unit where it is made.")
        return tuple(told)

    def running(self, launch: Launch) -> list[str] | None:
        """The words of the server below its main process; the wanted ones as long as there is none yet."""
        told = _manager(launch).show(launch["unit"], "MainPID", "ActiveState", "SubState", "Result", "ExecMainStatus")
        main = int(told["MainPID"] or 0)
        launch["ended"] = _ended(told)
        if told["SubState"] == "auto-restart" or told["ActiveState"] not in ("active", "activating", "reloading"):
            return None
        pending: list[str] = launch["wanted"] if "wanted" in launch else launch["argv"]
        if main:
            return words_below(main, pending)
        return list(pending) if told["ActiveState"] == "activating" else None

    def configured(self, launch: Launch) -> list[str]:
        """With our drop-in in place the words last wanted, else the old ones."""
        wanted: list[str] = launch["wanted"] if _ours(launch) and "wanted" in launch else launch["argv"]
        return list(wanted)

    def stop(self, launch: Launch, work: Work) -> None:
        """As systemd does it, which ends it by force in the end."""
        unit, manager = launch["unit"], _manager(launch)
        limit = STOP_S if launch["stop_s"] is None else float(launch["stop_s"]) + 30.0
        if not manager.wait(["stop", "--", unit], limit, work, f"{unit} is stopping"):
            work.say(f"{unit} does not stop by itself: killed")
            manager.do("kill", "--signal=KILL", "--", unit)
            manager.wait(["stop", "--", unit], STOP_S, work, f"{unit} is stopping")

    def start(self, launch: Launch, argv: list[str], work: Work) -> None:
        """The drop-in, or what was there before it; then systemd reads it and starts the unit."""
        launch.update(wanted=list(argv), since=wall())
        work.save()
        if argv == launch["argv"]:
            self.tidy(launch, work)
        else:
            launch["text"] = dropin_text(_former(launch), launch["token"], _command(launch, argv))
            work.save()
            try:
                _put(launch)
            except OSError as error:
                raise Refused(f"{launch['dropin']} cannot be written: {error.strerror}") from None
            _manager(launch).do("daemon-reload")
        with suppress(Refused):  # a unit that has not failed may be forgotten by now: "not loaded"
            _manager(launch).do("reset-failed", "--", launch["unit"])
        _start(launch)

    def tidy(self, launch: Launch, work: Work) -> None:
        """The drop-in as it was before; nothing where it is not ours."""
        dropin, manager = Path(launch["dropin"]), _manager(launch)
        if _ours(launch) and dropin.read_text(encoding="utf-8", errors="surrogateescape") != launch.get("text"):
            raise Refused(f"{dropin} was edited since qtop wrote it", "Take its [Service] lines away by hand.")
        saved = saved_as(dropin, launch["token"])
        try:
            if saved.exists():
                saved.replace(dropin)  # does nothing where both are still the same file
                saved.unlink(missing_ok=True)
            elif _ours(launch):
                dropin.unlink()
            if dropin.parent.is_dir():
                spare_of(dropin).unlink(missing_ok=True)
                sync_folder(dropin.parent)
                if not any(dropin.parent.iterdir()):
                    dropin.parent.rmdir()
        except OSError as error:
            raise Refused(f"{launch['dropin']} cannot be put back: {error.strerror}") from None
        manager.do("daemon-reload")

    def pid(self, launch: Launch) -> int | None:
        """The unit's main process."""
        return int(_manager(launch).show(launch["unit"], "MainPID")["MainPID"] or 0) or None

    def log(self, launch: Launch) -> list[str]:
        """What the journal has since it was last started here."""
        return _manager(launch).journal(launch["unit"], launch["since"]) if "since" in launch else []

    def lasting(self, launch: Launch, argv: list[str]) -> str:
        """The drop-in is what lasts."""
        return ""

    def check(self, launch: Launch, argv: list[str]) -> None:
        """A known unit of the system's, its fixed drop-in, its own program with other flags: all looked up anew."""
        unit, token = launch["unit"], launch["token"]
        if launch["manager"] is not None or not NAME.fullmatch(unit) or not re.fullmatch(r"[0-9a-f]{16}", token):
            raise Refused("no unit of the system's")
        if launch["dropin"] not in [str(folder_of(Unit(unit)) / name) for name in (DROPIN, LAST)]:
            raise Refused(f"{launch['dropin']} is not qtop's drop-in")
        told = Manager().show(unit, *FILES, *STOPS_WITH)
        if told["LoadState"] != "loaded" or told["Transient"] == "yes":
            raise Refused(f"{unit} is no unit that can be changed")
        if set(launch["dependents"]) - {name for key in STOPS_WITH for name in told[key].split()}:
            raise Refused("units that do not depend on it")
        if launch["stop_s"] is not None and not isinstance(launch["stop_s"], (int, float)):
            raise Refused("no time to stop")
        texts = [body for path, body in texts_of([told["FragmentPath"], *told["DropInPaths"].split()])
                 if not (str(path) == launch["dropin"] and token_in(body) == token)]  # fmt: skip
        saved = saved_as(Path(launch["dropin"]), token)
        if saved.exists():
            texts.append(saved.read_text(encoding="utf-8", errors="surrogateescape"))
        if effective(texts) != [launch["exec"]]:
            raise Refused(f"{unit} does not start what the record says")
        _same_program(launch["exec"], _command(launch, argv))


def _manager(launch: Launch) -> Manager:
    return Manager(launch["manager"] is not None)


def _surroundings(pid: int, main: int) -> Launch:
    """What the parser check needs, where it may be read: the new words are tried as the server would read them."""
    data = read(f"/proc/{main}/environ")
    folder, exe = link(f"/proc/{pid}/cwd"), link(f"/proc/{pid}/exe")
    if isinstance(data, OSError) or not folder or not exe:
        return {}
    return {
        "environ": [entry for entry in data.decode(errors="surrogateescape").split("\0") if entry],
        "cwd": folder,
        "exe": exe,
        "uid": int(status(pid, "Uid")[1]),
        "gid": int(status(pid, "Gid")[1]),
        "groups": [int(word) for word in status(pid, "Groups")],
    }


def _environ(launch: Launch) -> dict[str, str] | None:
    if "environ" not in launch:
        return None
    pairs = (entry.partition("=") for entry in launch["environ"])
    return {name: value for name, _, value in pairs}


def _command(launch: Launch, argv: list[str]) -> str:
    """ExecStart= with these words."""
    command = launch["exec"]
    if argv == launch["argv"]:
        return str(command)
    verbatim = takes_verbatim(command)
    found = tokens(command, _environ(launch))
    own = words_begin(launch["argv"])
    what = f"the unit {launch['unit']}"
    return " ".join(respelled(found, launch["argv"], argv, own, lambda word: quoted(word, verbatim), what))


def _same_program(old: str, new: str) -> None:
    """Refused unless both start the same known server, as the unit itself writes it."""
    before, after = split(old), split(new)
    words = [meant for _, meant in before]
    words[0] = words[0].lstrip("@-:+!|")
    if recognise(words) is None or program(words)[0] == "code":
        raise Refused("root's helper changes only units that start a server directly", "Run it as `sudo qtop …`.")
    own = words_begin(words) + (program(words)[2][:1] in (["serve"], ["start"]))
    if before[:own] != after[:own]:
        raise Refused("another program than the unit's")


def _active(manager: Manager, units: list[str]) -> list[str]:
    """Those that run now, and so have to run again afterwards."""
    return [one for one in dict.fromkeys(units) if manager.show(one, "ActiveState")["ActiveState"] == "active"]


def _not_writable(folder: Path) -> str:
    """Why no drop-in can be written there, "" if one can."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return "" if os.access(there, os.W_OK) else f"no drop-in can be written to {folder}: {there} may not be written to"


def _ours(launch: Launch) -> bool:
    try:
        body = Path(launch["dropin"]).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return token_in(body) == str(launch["token"])


def _former(launch: Launch) -> str:
    """What the drop-in says before this change. Errors: Refused where somebody wrote it meanwhile."""
    dropin = Path(launch["dropin"])
    if not dropin.exists():
        return ""
    if not launch["former"]:
        raise Refused(f"{dropin} was written by somebody else meanwhile")
    return dropin.read_text(encoding="utf-8", errors="surrogateescape")


def _put(launch: Launch) -> None:
    """The drop-in with the new command; what was there stays beside it under a name that systemd does not read."""
    dropin = Path(launch["dropin"])
    dropin.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if dropin.exists():
        os.link(dropin, saved_as(dropin, launch["token"]))
        sync_folder(dropin.parent)
    replace_whole(dropin, launch["text"], int(launch["mode"]) & 0o644)


def _start(launch: Launch) -> None:
    """Have it started; returns when systemd has begun, or given up."""
    unit, manager = launch["unit"], _manager(launch)
    manager.do("start", "--no-block", "--", unit, *launch["dependents"])
    deadline = time.monotonic() + STARTED_S
    while time.monotonic() < deadline:
        told = manager.show(unit, "ActiveState", "SubState", "Job")
        if told["ActiveState"] not in ("inactive", "failed") or told["Job"] in ("", "0"):
            return
        time.sleep(0.05)


def _ended(told: dict[str, str]) -> str:
    """How systemd says that it ended, "" while it has not."""
    if told["ActiveState"] not in ("failed", "inactive") and told["SubState"] != "auto-restart":
        return ""
    if told["Result"] in ("signal", "core-dump", "oom-kill", "watchdog"):
        return f"{ended_by(int(told['ExecMainStatus'] or 0))} ({told['Result']})"
    return f"it ended with status {told['ExecMainStatus']} ({told['Result']})"
