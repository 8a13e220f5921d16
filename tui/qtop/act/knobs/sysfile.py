"""Knobs of the whole host: one value, in one file of the kernel or in one for each of its CPUs' policies.

``lasting`` says what would set the value at each start of the host, and a tuned profile in force has its say first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from qtop.act.change import Plan
from qtop.act.knobs.files import FilesKnob, number_in, refuse_read_only, warned, write
from qtop.act.knobs.tuned import Profile, in_force
from qtop.clock import boot_id
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame

__all__ = ["SysfileKnob", "number_in", "warned", "write"]

MOST_SHOWN = 4


class SysfileKnob(FilesKnob):
    """One value for all of its files."""

    sysctl: ClassVar[str] = ""
    """Its name for sysctl(8), where it is one."""
    missing: ClassVar[str] = ""
    """Why a host may have no such knob."""
    undone: ClassVar[str] = "`qtop undo`, or the next start of the host"

    def paths(self, frame: Frame) -> list[Path]:
        """The files that hold it on this host; none where the host has no such knob."""
        raise NotImplementedError

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """The value that qtop proposes; Refused where there is nothing to gain."""
        raise NotImplementedError

    def values(self, path: Path) -> str:
        """What ``valid`` wants, in words."""
        raise NotImplementedError

    def tuned(self, profile: Profile, path: Path) -> str | None:
        """What a tuned profile sets this to; None where it does not."""
        return profile.sysctl(self.sysctl) if self.sysctl else None

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """The plan with what this knob has to say of it; the place for warnings."""
        return plan

    def command(self, value: str, path: Path) -> str:
        """What a person would type."""
        return f"sysctl {self.sysctl}={value}" if self.sysctl else f"echo {value} > {path}"

    def plan(self, frame: Frame, value: str | None) -> Plan:
        """One value for all of its files."""
        paths = self.paths(frame)
        if not paths:
            raise Refused(f"this host has no {self.title}{self.missing}")
        refuse_read_only(paths[0])
        new = self.proposed(frame, paths) if value is None else value.strip()
        for path in paths:
            if not self.valid(new, path):
                raise QtopError(f"{self.id} cannot be {new!r}", f"It takes {self.values(path)}.")
        files = []
        for path in paths:
            old = self.now(path)
            if old is not None and old != new:
                files.append({"path": str(path), "old": old, "new": new})
        if not files:
            raise Refused(f"{self.title}: {new} already")
        olds = sorted({one["old"] for one in files})
        many = f" in {len(files)} files" if len(files) > 1 else ""
        more = len(files) - MOST_SHOWN
        plan = Plan(
            knob=self.id,
            value=new,
            summary=f"{self.title}: {', '.join(olds)} → {new}{many}",
            preview=tuple(f"{one['path']}: {one['old']} → {new}" for one in files[:MOST_SHOWN])
            + ((f"and {more} more",) if more > 0 else ()),
            record={"boot": boot_id(), "new": new, "files": files},
            command=self.command(new, paths[0]),
            root=not all(os.access(one["path"], os.W_OK) for one in files),
            right="root",
            undone=self.undone,
        )
        return self.describe(self._respecting_tuned(plan, paths[0], own_idea=value is None), frame)

    def _respecting_tuned(self, plan: Plan, path: Path, own_idea: bool) -> Plan:
        """The plan, warned where tuned would undo it; Refused where nobody but qtop wants it."""
        profile = in_force()
        said = self.tuned(profile, path) if profile is not None else None
        if profile is None or said == plan.value:
            return plan
        if said is None:
            might = f"tuned's profile {profile.name} includes others, which cannot be told: one may set this again"
            return warned(plan, [might] if profile.hidden else [])
        told = f"tuned's profile {profile.name} sets {self.title} to {said}"
        if own_idea:
            raise Refused(told, f"Choose another profile (tuned-adm), or try it all the same: {self.id}={plan.value}.")
        return warned(plan, [f"{told}: that comes back when tuned starts again or a profile is chosen"])

    def lasting(self, plan: Plan) -> tuple[str, str] | None:
        """A line for sysctl.d(5). Refused where tuned sets it at each start: two that set one value are one too
        many."""
        path = Path(plan.record["files"][0]["path"])
        profile = in_force()
        if profile is not None and self.tuned(profile, path) is not None:
            raise Refused(
                f"tuned's profile {profile.name} sets {self.title} at each start of the host",
                "Set it in a profile of your own that includes that one, or leave out --persist.",
            )
        return self.file(plan)

    def file(self, plan: Plan) -> tuple[str, str] | None:
        """The file that makes it last, and its text."""
        if not self.sysctl:
            return None
        return f"/etc/sysctl.d/90-qtop-{self.id}.conf", f"{self.sysctl} = {plan.value}\n"

    def at_boot(self, plan: Plan) -> tuple[str, str]:
        """A file for tmpfiles.d(5), for what is no sysctl."""
        lines = [f"w {one['path']} - - - - {plan.value}\n" for one in plan.record["files"]]
        return f"/etc/tmpfiles.d/90-qtop-{self.id}.conf", "".join(lines)
