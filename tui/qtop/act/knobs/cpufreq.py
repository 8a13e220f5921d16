"""The knobs ``cpu-governor`` and ``energy-preference``: how eagerly the CPUs raise their clocks. Live, root.

One value a cpufreq policy, which is one CPU or several that share a clock. Only the policies of CPUs that the server
may use are touched. Sources: kernel documentation of cpufreq, intel_pstate and amd-pstate.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtop.act.change import Plan, Reading, Record, Work
from qtop.act.knobs.files import number_in, put_back, warned
from qtop.act.knobs.sysfile import SysfileKnob
from qtop.act.knobs.tuned import Profile
from qtop.errors import Refused
from qtop.model.frame import Frame, SchedView
from qtop.sample import Absent, cpulist

CPUFREQ = Path("/sys/devices/system/cpu/cpufreq")
FASTEST = "performance"
GOVERNOR = "scaling_governor"
PREFERENCE = "energy_performance_preference"


class CpufreqKnob(SysfileKnob):
    """A file of each policy, with a list beside it of what it takes."""

    file_name = ""
    choices_name = ""
    tuned_name = ""
    """The option of a tuned profile's [cpu] that sets it."""
    missing = " that could be set: the firmware or the hypervisor chooses the clocks"

    def paths(self, frame: Frame) -> list[Path]:
        """Those of the CPUs that the server may use; of all where no server is seen."""
        usable = frame.sched.usable if isinstance(frame.sched, SchedView) else None
        wanted = None if usable is None or isinstance(usable, Absent) else cpulist.parse_or_empty(usable.cpus)
        found = []
        for policy in sorted(CPUFREQ.glob("policy[0-9]*"), key=lambda path: int(path.name.removeprefix("policy"))):
            path = policy / self.file_name
            if path.exists() and (not wanted or wanted & _cpus(policy)):
                found.append(path)
        return found

    def known(self, path: Path) -> bool:
        """This file of any policy."""
        policy = path.parent
        return (
            path.name == self.file_name
            and policy.parent == CPUFREQ
            and re.fullmatch(r"policy[0-9]{1,5}", policy.name, re.ASCII) is not None
        )

    def choices(self, path: Path) -> list[str]:
        """What the kernel takes here."""
        try:
            return path.with_name(self.choices_name).read_text().split()
        except (OSError, ValueError):
            return []

    def valid(self, value: str, path: Path) -> bool:
        """One of those."""
        return value in self.choices(path)

    def values(self, path: Path) -> str:
        """Those."""
        return ", ".join(self.choices(path)) or "nothing that this kernel would tell"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """The fastest, where the kernel has it."""
        for path in paths:
            if FASTEST not in self.choices(path):
                raise Refused(f"this kernel has no {self.title} {FASTEST!r}", f"There is: {self.values(path)}.")
        return FASTEST

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """What it costs, and which CPUs it is for."""
        policies = [Path(one["path"]).parent for one in plan.record["files"]]
        reached = frozenset[int]().union(*map(_cpus, policies))
        which = f"for CPUs {cpulist.show(reached)}"
        said = ["it costs power and heat, also while nobody asks anything"] if plan.value == FASTEST else []
        return warned(replace(plan, preview=(*plan.preview, which)), said)

    def command(self, value: str, path: Path) -> str:
        """For all CPUs at once, as the shell does it."""
        return f"echo {value} | tee {CPUFREQ}/policy*/{self.file_name}"

    def tuned(self, profile: Profile, path: Path) -> str | None:
        """Of the alternatives that a profile names the first that this kernel has."""
        said = profile.option("cpu", self.tuned_name)
        return _first(said, self.choices(path)) if said is not None else profile.sysfs(path)

    def file(self, plan: Plan) -> tuple[str, str]:
        """Lines for tmpfiles.d(5)."""
        return self.at_boot(plan)


class CpuGovernor(CpufreqKnob):
    """The cpufreq governor. The governor ``performance`` sets the energy preference as well, and some kernels do not
    set it back: the record keeps it, as {"beside": [{"path", "old", "new"}, …]}."""

    id = "cpu-governor"
    title = "CPU governor"
    example = FASTEST
    file_name = GOVERNOR
    choices_name = "scaling_available_governors"
    tuned_name = "governor"

    def describe(self, plan: Plan, frame: Frame) -> Plan:
        """With what the kernel changes along with it."""
        beside = []
        for one in plan.record["files"]:
            path = Path(one["path"]).with_name(PREFERENCE)
            now = self.now(path)
            if plan.value == FASTEST and now not in (None, FASTEST):
                beside.append({"path": str(path), "old": now, "new": FASTEST})
        plan = super().describe(replace(plan, record={**plan.record, "beside": beside}), frame)
        if not beside:
            return plan
        olds = ", ".join(sorted({one["old"] for one in beside}))
        told = f"the kernel sets the energy preference to {FASTEST} with it ({olds} until now); undo puts that back too"
        return replace(plan, preview=(*plan.preview, told))

    def read(self, record: Record) -> Reading:
        """The governors; a preference that the kernel set along with one counts while it stands."""
        reading = super().read(record)
        for one in record.get("beside", []):
            if self.held(record, one) == one["new"]:
                reading.put(one["path"], one["old"], one["new"], one["new"])
        return reading

    def restore(self, record: Record, work: Work) -> None:
        """The governors first: under ``performance`` the kernel takes no preference."""
        super().restore(record, work)
        put_back(self, record, record.get("beside", []))

    def check(self, record: Record) -> None:
        """The preferences too are of the same policies, and none but the kernel's own words."""
        super().check(record)
        policies = {Path(one["path"]).parent for one in record["files"]}
        for one in record.get("beside", []):
            path = Path(one["path"])
            known = ENERGY.known(path) and path.parent in policies and str(path) == one["path"]
            if not (known and one["new"] == FASTEST and ENERGY.valid(one["old"], path)):
                raise Refused(f"{path} is not set along with {self.id}")


class EnergyPreference(CpufreqKnob):
    """energy_performance_preference: what the hardware aims for where it chooses its clocks itself."""

    id = "energy-preference"
    title = "energy performance preference"
    example = FASTEST
    file_name = PREFERENCE
    choices_name = "energy_performance_available_preferences"
    tuned_name = PREFERENCE

    def valid(self, value: Any, path: Path) -> bool:
        """One of the kernel's words, or a number that the hardware knows (0 fastest, 255 thriftiest)."""
        return isinstance(value, str) and (super().valid(value, path) or number_in(value, 0, 255))

    def values(self, path: Path) -> str:
        """Words and numbers."""
        return f"{super().values(path)}, or a number from 0 to 255"

    def proposed(self, frame: Frame, paths: list[Path]) -> str:
        """The fastest, unless the governor decides."""
        if all(self.now(path.with_name(GOVERNOR)) == FASTEST for path in paths):
            raise Refused(f"the governor is {FASTEST}: it decides, and the preference with it")
        return super().proposed(frame, paths)


ENERGY = EnergyPreference()


def _cpus(policy: Path) -> frozenset[int]:
    """The CPUs of a policy, written with blanks between them."""
    try:
        return cpulist.parse_or_empty(",".join((policy / "affected_cpus").read_text().split()))
    except OSError:
        return frozenset()


def _first(alternatives: str, choices: list[str]) -> str:
    words = [word.strip() for word in alternatives.split("|")]
    return next((word for word in words if word in choices), os.fspath(words[0]))
