"""Governors and energy preferences, on a cpufreq made up in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qtop.act.change import Work
from qtop.act.knobs import cpufreq
from qtop.act.knobs.cpufreq import ENERGY, CpuGovernor
from qtop.act.knobs.files import write
from qtop.clock import boot_id
from qtop.errors import QtopError, Refused
from qtop.model.cpu import SchedView, UsableView
from qtop.model.frame import Frame
from qtop.sample import NOT_YET

GOVERNOR = CpuGovernor()
WHOLE_HOST = Frame(0.0, 0.0)
PREFERENCES = "default performance balance_performance balance_power power"


class Cpufreq:
    """Policies of two CPUs each."""

    def __init__(self, folder: Path, policies: int, preference: str | None) -> None:
        self.folder = folder
        for number in range(policies):
            policy = folder / f"policy{2 * number}"
            policy.mkdir(parents=True)
            self._put(policy, affected_cpus=f"{2 * number} {2 * number + 1}", scaling_governor="powersave")
            self._put(policy, scaling_available_governors="performance powersave")
            if preference is not None:
                self._put(policy, energy_performance_preference=preference)
                self._put(policy, energy_performance_available_preferences=PREFERENCES)

    @staticmethod
    def _put(policy: Path, **files: str) -> None:
        for name, text in files.items():
            (policy / name).write_text(f"{text} \n")

    def held(self, name: str) -> dict[str, str]:
        return {path.parent.name: path.read_text().strip() for path in sorted(self.folder.glob(f"*/{name}"))}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cpufreq:
    monkeypatch.setattr(cpufreq, "CPUFREQ", tmp_path / "cpufreq")
    return Cpufreq(tmp_path / "cpufreq", 3, "balance_power")


def server_on(cpus: str) -> Frame:
    sched = SchedView((), (), 1, 1.0, 1, cpus, cpus, None, 0.0, (), usable=UsableView(cpus, 2.0, NOT_YET, "affinity"))
    return Frame(0.0, 0.0, sched=sched)


@pytest.mark.parametrize(
    ("cpus", "policies"),
    [("0-1", ["policy0"]), ("1,4", ["policy0", "policy4"]), ("0-5", ["policy0", "policy2", "policy4"])],
)
def test_only_the_policies_of_cpus_that_the_server_may_use(cpus: str, policies: list[str], host: Cpufreq) -> None:
    plan = GOVERNOR.plan(server_on(cpus), None)
    assert [Path(one["path"]).parent.name for one in plan.record["files"]] == policies
    GOVERNOR.apply(plan.record, Work())
    held = host.held("scaling_governor")
    assert [name for name, governor in held.items() if governor == "performance"] == policies
    GOVERNOR.restore(plan.record, Work())
    assert set(host.held("scaling_governor").values()) == {"powersave"}


def test_without_a_server_all_policies_and_the_preview_says_which_cpus(host: Cpufreq) -> None:
    plan = GOVERNOR.plan(WHOLE_HOST, None)
    assert "for CPUs 0-5" in plan.preview
    assert any("power and heat" in line for line in plan.warnings)
    assert plan.summary == "CPU governor: powersave → performance in 3 files"


def test_the_preference_that_the_kernel_sets_with_the_governor_comes_back(host: Cpufreq) -> None:
    """As intel_pstate and amd-pstate do: performance sets it, and leaving performance does not set it back."""
    plan = GOVERNOR.plan(WHOLE_HOST, "performance")
    assert any("(balance_power until now); undo puts that back" in line for line in plan.preview)
    GOVERNOR.apply(plan.record, Work())
    for policy in host.folder.iterdir():
        (policy / "energy_performance_preference").write_text("performance\n")
    assert (GOVERNOR.read(plan.record).new, GOVERNOR.read(plan.record).drifted) == (6, [])
    GOVERNOR.restore(plan.record, Work())
    assert set(host.held("scaling_governor").values()) == {"powersave"}
    assert set(host.held("energy_performance_preference").values()) == {"balance_power"}
    assert GOVERNOR.read(plan.record).new == 0


def test_a_restore_that_died_between_governor_and_preference_is_finished(host: Cpufreq) -> None:
    plan = GOVERNOR.plan(WHOLE_HOST, "performance")
    for policy in host.folder.iterdir():
        (policy / "energy_performance_preference").write_text("performance\n")
    assert GOVERNOR.read(plan.record).new == 3
    GOVERNOR.restore(plan.record, Work())
    assert set(host.held("energy_performance_preference").values()) == {"balance_power"}


def test_a_preference_that_somebody_else_chose_meanwhile_stays(host: Cpufreq) -> None:
    plan = GOVERNOR.plan(WHOLE_HOST, "performance")
    GOVERNOR.apply(plan.record, Work())
    for policy in host.folder.iterdir():
        (policy / "energy_performance_preference").write_text("power\n")
    GOVERNOR.restore(plan.record, Work())
    assert set(host.held("energy_performance_preference").values()) == {"power"}


def test_a_governor_that_somebody_else_set_is_not_touched_and_all_three_are_shown(host: Cpufreq) -> None:
    plan = GOVERNOR.plan(WHOLE_HOST, None)
    GOVERNOR.apply(plan.record, Work())
    (host.folder / "policy2/scaling_governor").write_text("schedutil\n")
    (drift,) = GOVERNOR.read(plan.record).drifted
    assert "before qtop powersave, qtop wrote performance, now schedutil" in str(drift)
    GOVERNOR.restore(plan.record, Work())
    assert host.held("scaling_governor")["policy2"] == "schedutil"


def test_what_this_kernel_has_not_is_refused(host: Cpufreq) -> None:
    with pytest.raises(QtopError, match="It takes performance, powersave"):
        GOVERNOR.plan(WHOLE_HOST, "schedutil")
    for choices in host.folder.glob("*/scaling_available_governors"):
        choices.write_text("powersave schedutil\n")
    with pytest.raises(Refused, match=r"no CPU governor 'performance'\. There is: powersave, schedutil"):
        GOVERNOR.plan(WHOLE_HOST, None)


def test_a_host_without_cpufreq_has_no_such_knob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpufreq, "CPUFREQ", tmp_path / "nothing")
    for knob in (GOVERNOR, ENERGY):
        with pytest.raises(Refused, match="the firmware or the hypervisor chooses the clocks"):
            knob.plan(WHOLE_HOST, None)


def test_the_preference_is_set_unless_the_governor_decides(host: Cpufreq) -> None:
    plan = ENERGY.plan(server_on("2-3"), None)
    ENERGY.apply(plan.record, Work())
    assert host.held("energy_performance_preference")["policy2"] == "performance"
    assert host.held("energy_performance_preference")["policy0"] == "balance_power"
    ENERGY.restore(plan.record, Work())
    for path in host.folder.glob("*/scaling_governor"):
        path.write_text("performance\n")
    with pytest.raises(Refused, match="the governor is performance: it decides"):
        ENERGY.plan(WHOLE_HOST, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="the path is root's")
def test_both_last_by_lines_for_tmpfiles(host: Cpufreq) -> None:
    for knob, name in ((GOVERNOR, "scaling_governor"), (ENERGY, "energy_performance_preference")):
        file = knob.lasting(knob.plan(server_on("0,3"), "performance"))
        assert file is not None
        path, text = file
        assert path == f"/etc/tmpfiles.d/90-qtop-{knob.id}.conf"
        assert text.splitlines() == [f"w {host.folder}/policy{n}/{name} - - - - performance" for n in (0, 2)]


@pytest.mark.parametrize(
    "path",
    [
        "{0}/policy0/scaling_max_freq",
        "{0}/policy0/../policy0/scaling_governor",
        "{0}/policy00000000/scaling_governor",
        "{0}/scaling_governor",
        "/etc/shadow",
        "relative/policy0/scaling_governor",
    ],
)
def test_the_helper_writes_to_policies_only(path: str, host: Cpufreq) -> None:
    plan = GOVERNOR.plan(WHOLE_HOST, "performance")
    GOVERNOR.check(plan.record)
    named = path.format(host.folder)
    one = {"path": named, "old": "powersave", "new": "performance"}
    beside = {"path": named, "old": "power", "new": "performance"}
    for record in ({"files": [one]}, {"files": plan.record["files"], "beside": [beside]}):
        with pytest.raises(Refused):
            GOVERNOR.check({"boot": "", "new": "performance", **record})


def test_a_link_put_in_the_way_after_the_check_is_not_followed(host: Cpufreq, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "scaling_governor").write_text("mine\n")
    policy = host.folder / "policy0"
    policy.rename(host.folder / "moved")
    policy.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write(policy / "scaling_governor", "performance")
    one = {"path": str(policy / "scaling_governor"), "old": "mine", "new": "performance"}
    with pytest.raises(Refused, match="cannot be written"):
        GOVERNOR.apply({"boot": boot_id(), "new": "performance", "files": [one]}, Work())
    assert (victim / "scaling_governor").read_text() == "mine\n"
    link = tmp_path / "link"
    link.symlink_to(victim / "scaling_governor")
    with pytest.raises(OSError, match="symbolic links"):
        write(link, "performance")
    assert (victim / "scaling_governor").read_text() == "mine\n"
