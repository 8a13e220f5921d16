"""The action ``reset-prefix-cache``: a vLLM forgets the prefixes that it has kept. Live; nothing undoes it.

A record: {"new", the way to the server (``reach``), "done"}.
"""

from __future__ import annotations

import msgspec

from qtop.act import reach
from qtop.act.change import Knob, Plan, Reading, Record, Work
from qtop.act.knobs.vllm_routes import LOOK_S, has_route, refusal, vllm_of
from qtop.collect.http import Body, post
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame

ROUTE = "/reset_prefix_cache"
WORK_S = 60.0


class _Answer(msgspec.Struct):
    success: bool = True
    """A vLLM before 0.26 answers without a body."""


class ResetPrefixCache(Knob):
    """POST /reset_prefix_cache, which only a vLLM in development mode has."""

    id = "reset-prefix-cache"
    title = "forget the prefixes that the server has cached"
    needs = "a server in development mode (VLLM_SERVER_DEV_MODE=1)"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """It takes no value. The server must have the route."""
        if value not in (None, "now"):
            raise QtopError("reset-prefix-cache takes no value", "Leave it out.")
        server = vllm_of(frame, self.id)
        way = reach.told(str(server.url))
        with reach.client_of(way, LOOK_S) as client:
            if not has_route(client, ROUTE):
                raise Refused(
                    "this server has no route to reset its prefix cache",
                    "Only a vLLM in development mode has it, which is not for a port that others reach.",
                )
        return Plan(
            knob=self.id,
            value="now",
            summary="empty the server's prefix cache",
            preview=("every cached prefix: kept → forgotten",),
            record={**way, "new": "now", "done": False},
            warnings=("prompts that repeat are computed anew, once each: their first token comes later",),
            command=f"curl -X POST {way['url']}{ROUTE}",
            right="none beyond your own",
            undone="nothing: it fills again by itself",
            keep="always",
        )

    def apply(self, record: Record, work: Work) -> None:
        """Ask once; a refusal is told as it is."""
        with reach.client_of(record, WORK_S) as client:
            body = post(client, ROUTE, {}, WORK_S)
        if not isinstance(body, Body) or refusal(body):
            raise Refused(f"the prefix cache was not reset: {refusal(body)}")
        try:
            answer = msgspec.json.decode(body.data, type=_Answer) if body.data.strip() else _Answer()
        except msgspec.MsgspecError:
            answer = _Answer()
        if not answer.success:
            raise Refused(
                'the server did not reset its prefix cache ({"success": false}): requests in flight hold blocks of it',
                "Try again when nothing runs.",
            )
        record["done"] = True
        work.save()
        work.say(f"forgotten in {body.took_ms:.0f} ms")

    def read(self, record: Record) -> Reading:
        """Once done there is nothing left that could be put back."""
        reading = Reading()
        if not record["done"]:
            reading.put("the prefix cache", "kept", "forgotten", "kept")
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """Nothing."""
