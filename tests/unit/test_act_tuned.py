"""A tuned that runs: its profile is read as tuned merges it, and what it sets is not changed behind its back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qtop.act.knobs import kernel_vm, tuned
from qtop.act.knobs.cpufreq import ENERGY, CpuGovernor
from qtop.act.knobs.kernel_vm import Swappiness, TransparentHugePages
from qtop.errors import Refused
from qtop.model.frame import Frame

FRAME = Frame(0.0, 0.0)
Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes files of a host on which tuned runs; its swappiness is 60 and huge pages are for all."""
    monkeypatch.setattr(tuned, "ROOT", tmp_path)
    monkeypatch.setattr(kernel_vm, "SWAPPINESS", tmp_path / "proc/sys/vm/swappiness")
    monkeypatch.setattr(kernel_vm, "HUGE_PAGES", tmp_path / "sys/enabled")
    monkeypatch.setattr(kernel_vm, "has_swap", lambda: True)

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/sys/vm/swappiness", "60\n")
    write("sys/enabled", "[always] madvise never\n")
    write("run/tuned/tuned.pid", "4711\n")
    write("proc/4711/cmdline", "/usr/bin/python3\0-Es\0/usr/sbin/tuned\0-l\0-P\0")
    write("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC\n")
    return write


def profile(put: Put, name: str, text: str, folder: str = "usr/lib/tuned") -> None:
    put(f"{folder}/{name}/tuned.conf", text)


def swappiness() -> str | None:
    found = tuned.in_force()
    return found.sysctl("vm.swappiness") if found is not None else None


def test_a_profile_that_sets_this_very_value_is_respected(put: Put) -> None:
    profile(put, "latency", "[main]\nsummary=Fast = good\n[sysctl]\n# a comment\nvm.swappiness=30 # another\n")
    put("etc/tuned/active_profile", "latency\n")
    with pytest.raises(Refused, match=r"tuned's profile latency sets vm.swappiness to 30\. .*swappiness=10"):
        Swappiness().plan(FRAME, None)
    plan = Swappiness().plan(FRAME, "10")
    assert any("sets vm.swappiness to 30: that comes back when tuned starts again" in line for line in plan.warnings)
    with pytest.raises(Refused, match="at each start of the host"):
        Swappiness().lasting(plan)
    assert Swappiness().plan(FRAME, "30").warnings == ()
    # What it leaves alone is nobody's.
    assert TransparentHugePages().plan(FRAME, None).value == "madvise"
    assert TransparentHugePages().lasting(TransparentHugePages().plan(FRAME, None)) is not None


@pytest.mark.parametrize("gone", ["pid", "profile", "process"])
def test_a_tuned_that_does_not_run_or_has_no_profile_has_no_say(gone: str, put: Put, tmp_path: Path) -> None:
    profile(put, "latency", "[sysctl]\nvm.swappiness=30\n")
    put("etc/tuned/active_profile", "" if gone == "profile" else "latency\n")
    if gone == "process":
        put("proc/4711/cmdline", "sleep\0")
    if gone == "pid":
        (tmp_path / "run/tuned/tuned.pid").unlink()
    assert tuned.in_force() is None
    assert Swappiness().plan(FRAME, None).warnings == ()
    if gone == "pid":  # found by its name all the same
        put("proc/99/comm", "tuned\n")
        assert swappiness() == "30"


def test_includes_come_first_and_the_users_profile_outweighs_the_distributions(put: Put) -> None:
    profile(put, "base", "[vm]\ntransparent_hugepages=never\n[sysctl]\nvm.swappiness=10\nkernel.numa_balancing = 0\n")
    profile(put, "middle", "[main]\ninclude=base\n[sysctl]\nvm.swappiness=20\n")
    profile(put, "top", "[main]\ninclude=middle, absent\n[sysctl]\nvm.swappiness=>25\n")
    put("etc/tuned/active_profile", "top")
    found = tuned.in_force()
    assert found is not None
    assert (found.name, found.sysctl("vm.swappiness"), found.sysctl("kernel.numa_balancing")) == ("top", "25", "0")
    assert found.option("vm", "transparent_hugepages") == "never"
    # One of the same name that includes the one it stands in for.
    profile(put, "top", "[main]\ninclude=top\n[sysctl]\nvm.swappiness=5\n", "etc/tuned")
    assert swappiness() == "5"
    found = tuned.in_force()
    assert found is not None
    assert found.sysctl("kernel.numa_balancing") == "0"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[sysctl]\nenabled=false\nvm.swappiness=1\n", None),
        ("[mine]\ntype=sysctl\nvm.swappiness=1\n", "1"),
        ("[mine]\ntype=sysctl\nuname_regex=no such machine\nvm.swappiness=1\n", None),
        (
            "[mine]\ntype=sysctl\ncpuinfo_regex=${amd}\nvm.swappiness=1\n[variables]\namd=model name\\s+:.*\\bAMD\\b\n",
            "1",
        ),
        ("[mine]\ntype=sysctl\ncpuinfo_regex=Intel\nvm.swappiness=1\n", None),
        ("[variables]\nwanted=7\n[sysctl]\nvm.swappiness=${wanted}\n", "7"),
        ("[variables]\ninclude=/etc/tuned/x-variables.conf\n[sysctl]\nvm.swappiness=${wanted}\n", "8"),
        ("[sysctl]\nvm.swappiness=${f:exec:/bin/echo:3}\n", tuned.COMPUTED),
        ("[main]\ninclude=base\n[sysctl]\nreplace=1\nvm.dirty_ratio=1\n", None),
        ("[main]\ninclude=base\n[sysctl]\ndrop=vm.swappiness\n", None),
        ("[main]\ninclude=base\n[sysctl]\nvm.dirty_ratio=1\n", "40"),
        ("[main]\ninclude=self\n[sysctl]\nvm.swappiness=9\n", "9"),
        ("[sysctl]\nvm/swappiness=3\n", "3"),
        ("no profile at all", None),
    ],
)
def test_the_ways_a_profile_can_say_it(text: str, value: str | None, put: Put) -> None:
    profile(put, "base", "[sysctl]\nvm.swappiness=40\n")
    profile(put, "self", text)
    put("etc/tuned/x-variables.conf", "wanted=8\n")
    put("etc/tuned/active_profile", "self")
    assert swappiness() == value


def test_names_that_lead_elsewhere_are_no_profiles(put: Put) -> None:
    put("etc/elsewhere/tuned.conf", "[sysctl]\nvm.swappiness=9\n")
    put("etc/tuned/active_profile", "../elsewhere /etc/elsewhere")
    assert tuned.in_force() is None


def test_huge_pages_by_either_plugin(put: Put, tmp_path: Path) -> None:
    put("etc/tuned/active_profile", "self")
    for text in ("[vm]\ntransparent_hugepage=never\n", f"[sysfs]\n{tmp_path}/sys/enab*=never\n"):
        profile(put, "self", text)
        with pytest.raises(Refused, match="tuned's profile self sets transparent huge pages to never"):
            TransparentHugePages().plan(FRAME, None)


def test_of_alternatives_the_first_that_this_kernel_has(put: Put, tmp_path: Path) -> None:
    profile(put, "self", "[cpu]\ngovernor=conservative|powersave\nenergy_performance_preference=balance_power|power\n")
    put("etc/tuned/active_profile", "self")
    put("policy0/scaling_available_governors", "performance powersave")
    put("policy0/energy_performance_available_preferences", "performance power")
    found = tuned.in_force()
    assert found is not None
    assert CpuGovernor().tuned(found, tmp_path / "policy0/scaling_governor") == "powersave"
    assert ENERGY.tuned(found, tmp_path / "policy0/energy_performance_preference") == "power"


def test_a_profile_whose_includes_only_tuned_can_tell_is_warned_of(put: Put) -> None:
    profile(put, "self", "[main]\ninclude=${f:virt_check:guest:host}\n[sysctl]\nkernel.pid_max=1\n")
    put("etc/tuned/active_profile", "self")
    (warning,) = Swappiness().plan(FRAME, None).warnings
    assert "profile self includes others" in warning
