"""The knob ``lora``: a LoRA adapter is loaded into, or unloaded from, a running vLLM that allows it. Live, no root.

A record: {"boot", "new", the way to the server (``reach``), "pid", "start", "name", "old", "goal", "asked", "took_ms"};
old and goal are a path, or "" for an adapter that is not loaded.
"""

from __future__ import annotations

import re
import time

from qtop.act import reach
from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.act.knobs.processes import start_ticks
from qtop.act.knobs.vllm_routes import LOOK_S, adapters, has_route, names, refusal, vllm_of
from qtop.clock import boot_id
from qtop.collect.http import post
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame
from qtop.sample import Absent

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
VALUE = re.compile(r"load:(?P<name>[^\s:=]{1,128})=(?P<path>[^\x00-\x1f\x7f]{1,1024})|unload:(?P<gone>[^\s=]{1,128})")
WORK_S = 300.0
"""For loading: an adapter may come from far away."""
LATE_S = 3.0
"""A request that a killed qtop has sent may be done a moment later."""
NONE = "not loaded"


class Lora(Knob):
    """POST /v1/load_lora_adapter, /v1/unload_lora_adapter."""

    id = "lora"
    title = "LoRA adapter of a vLLM that allows changing them while it runs"
    needs = "the server's API key, where it has one"
    example = "load:NAME=PATH or unload:NAME"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """One adapter; the server must have the route for it."""
        if value is None:
            raise Refused("no adapter is named", f"Say lora={self.example.replace(' or ', ' or lora=')}.")
        found = VALUE.fullmatch(value)
        if found is None:
            raise QtopError(f"lora cannot be {value!r}", f"It takes {self.example}.")
        server = vllm_of(frame, "lora")
        way = reach.told(str(server.url))
        with reach.client_of(way, LOOK_S) as client:
            if not has_route(client, LOAD):
                raise Refused(
                    "this server does not let adapters be changed while it runs",
                    "vLLM does when started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora.",
                )
            there = adapters(client)
            if isinstance(there, Absent):
                raise Refused(f"the server does not tell its adapters: {there.detail or there}")
            taken = names(client)
        name = found["name"] or found["gone"]
        if found["name"] and name in taken:
            raise Refused(f"{name} is the name of an adapter or a model already", "Unload it first, or take another.")
        if found["gone"] and name not in there:
            raise Refused(f"no adapter is called {name}", f"There is: {', '.join(sorted(there)) or 'none'}.")
        old, goal = there.get(name, ""), found["path"] or ""
        pid = server.pid if isinstance(server.pid, int) else None
        back = f"unloads {name}" if goal else f"loads {name} from {old} again"
        record: Record = {
            **way,
            "boot": boot_id(),
            "new": value,
            "pid": pid,
            "start": start_ticks(pid, pid, ended=True) if pid is not None else None,
            "name": name,
            "old": old,
            "goal": goal,
            "asked": False,
        }
        return Plan(
            knob=self.id,
            value=value,
            summary=f"{'load' if goal else 'unload'} the LoRA adapter {name}",
            preview=(f"adapter {name}: {old or NONE} → {goal or NONE}",),
            record=record,
            warnings=_warnings(frame, name, goal),
            command=_command(way["url"], name, goal),
            right="the server's API key" if way["keyed"] else "none beyond your own",
            hurts="requests in flight wait while the engine reads the adapter" if goal else "requests in flight go on",
            undone=f"`qtop undo` {back}; so does a new start of the server" if goal else f"`qtop undo` {back}",
            keep="unless worse",
        )

    def apply(self, record: Record, work: Work) -> None:
        """Ask once; how long it took is told and kept."""
        if _now(record) != record["old"]:
            raise Refused(f"the adapter {record['name']} is no longer as it was", "Look again.")
        record["asked"] = True
        work.save()
        record["took_ms"] = _turn(record, "goal")
        work.save()
        done = "loaded" if record["goal"] else "unloaded"
        work.say(f"{record['name']} {done} in {record['took_ms']:.0f} ms")

    def read(self, record: Record) -> Reading:
        """By the server's own list; gone with the server's process, which forgets."""
        reading = Reading()
        what = f"adapter {record['name']}"
        if _ended(record):
            reading.put(what, "", "", None)
            return reading
        now = _now(record)
        if isinstance(now, Absent):
            reading.elsewhere = f"the server at {record['url']} does not tell its adapters: {now.detail or now}"
            return reading
        reading.put(what, record["old"] or NONE, record["goal"] or NONE, now or NONE)
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """The reverse. A request that was under way when qtop was killed is waited for a little."""
        deadline = time.monotonic() + LATE_S
        while not _ended(record):
            now = _now(record)
            if now == record["goal"]:
                _turn(record, "old")
                record["asked"] = False
                work.save()
            elif now == record["old"] and record["asked"] and "took_ms" not in record and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            return


def _ended(record: Record) -> bool:
    """Whether the process that the record is of is no more; False where it never was seen."""
    pid = record["pid"]
    if pid is None:
        return False
    return bool(record["boot"] != boot_id() or start_ticks(pid, pid, ended=True) != record["start"])


def _now(record: Record) -> str | Absent:
    """Where the adapter came from, "" where it is not loaded."""
    with reach.client_of(record, LOOK_S) as client:
        there = adapters(client)
    return there if isinstance(there, Absent) else there.get(record["name"], "")


def _turn(record: Record, which: str) -> float:
    """Ask for what the record has there; how long it took, in ms. Refused in the server's own words."""
    name, path = record["name"], record[which]
    route, document = (LOAD, {"lora_name": name, "lora_path": path}) if path else (UNLOAD, {"lora_name": name})
    with reach.client_of(record, WORK_S) as client:
        body = post(client, route, document, WORK_S)
    if isinstance(body, Absent) or refusal(body):
        raise Refused(f"the server did not {'load' if path else 'unload'} {name}: {refusal(body)}")
    return body.took_ms


def _warnings(frame: Frame, name: str, goal: str) -> tuple[str, ...]:
    several = None if isinstance(frame.settings, Absent) else frame.settings.number("api_server_count")
    found = []
    if several is not None and several > 1:
        found.append(f"{several:.0f} API servers each keep a list of their own: one of them learns of this")
    if not goal:
        found.append(f"requests for {name} are answered 404 from then on")
    return tuple(found)


def _command(url: str, name: str, path: str) -> str:
    body = f'{{"lora_name": "{name}"' + (f', "lora_path": "{path}"' if path else "") + "}"
    return f"curl -X POST {url}{LOAD if path else UNLOAD} -H 'Content-Type: application/json' -d '{body}'"
