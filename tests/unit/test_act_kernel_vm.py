"""Values of the kernel's memory management: proposed where they matter, warned of where not, and made to last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qtop.act.change import Plan, Work
from qtop.act.knobs import kernel_vm, lasting, tuned
from qtop.act.knobs.kernel_vm import NumaBalancing, Swappiness, TransparentHugePages
from qtop.act.knobs.lasting import LASTING, plan_lasting
from qtop.errors import QtopError, Refused
from qtop.model.frame import Frame, HostView
from qtop.sample import NOT_YET, Reading

NUMA, HUGE, SWAP = NumaBalancing(), TransparentHugePages(), Swappiness()


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel's files in a folder; no tuned."""
    for name, file, text in (
        ("SWAPPINESS", "swappiness", "60"),
        ("NUMA_BALANCING", "numa_balancing", "1"),
        ("HUGE_PAGES", "enabled", "[always] madvise never"),
    ):
        (tmp_path / file).write_text(f"{text}\n")
        monkeypatch.setattr(kernel_vm, name, tmp_path / file)
    monkeypatch.setattr(kernel_vm, "has_swap", lambda: True)
    monkeypatch.setattr(tuned, "ROOT", tmp_path)
    return tmp_path


def host(nodes: int, migrations_s: Reading[float] = NOT_YET) -> Frame:
    read: dict[str, Any] = {"nodes": nodes, "migrations_s": migrations_s}
    names = ("busy", "steal", "iowait", "psi_cpu", "psi_memory", "psi_io", "mem_total", "mem_available", "runnable")
    unread: dict[str, Any] = dict.fromkeys(names, NOT_YET)
    return Frame(0.0, 0.0, host=HostView(cpus=8, per_cpu={}, **unread, **read))


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (host(1, 5000.0), "one NUMA node: there is nothing to balance"),
        (host(2), "is not known. To try it all the same: numa-balancing=0"),
        (host(2, 20.0), "moves 20 pages a second here: nothing to gain"),
    ],
)
def test_balancing_is_proposed_off_only_where_it_matters(frame: Frame, told: str) -> None:
    with pytest.raises(Refused) as caught:
        NUMA.plan(frame, None)
    assert told in str(caught.value)


def test_where_pages_migrate_it_is_proposed(kernel: Path) -> None:
    plan = NUMA.plan(host(2, 900.0), None)
    assert (plan.value, plan.summary) == ("0", "kernel.numa_balancing: 1 → 0")
    assert any("bound to its GPU's node" in line for line in plan.warnings)
    assert NUMA.lasting(plan) == ("/etc/sysctl.d/90-qtop-numa-balancing.conf", "kernel.numa_balancing = 0\n")
    (kernel / "numa_balancing").write_text("0\n")
    with pytest.raises(Refused, match="is 0 already"):
        NUMA.plan(host(2, 900.0), None)


def test_asked_for_it_is_done_anywhere_with_a_warning(kernel: Path) -> None:
    assert NUMA.plan(host(1), "0").warnings == ("this host has one NUMA node: it has no effect here",)
    (kernel / "numa_balancing").write_text("3\n")
    assert any("memory tiering" in line for line in NUMA.plan(host(2, 900.0), "1").warnings)
    with pytest.raises(QtopError, match=r"It takes 0 \(off\), 1 \(on\)"):
        NUMA.plan(host(2), "4")


def test_huge_pages_are_read_and_written_as_the_kernel_has_them(kernel: Path) -> None:
    plan = HUGE.plan(Frame(0.0, 0.0), None)
    assert plan.summary == "transparent huge pages: always → madvise"
    assert any("after a restart of the server" in line for line in plan.warnings)
    (kernel / "enabled").write_text("always [madvise] never\n")
    assert (HUGE.read(plan.record).new, HUGE.read(plan.record).old) == (1, 0)
    with pytest.raises(Refused, match="transparent-hugepages=always or transparent-hugepages=never"):
        HUGE.plan(Frame(0.0, 0.0), None)
    (kernel / "enabled").write_text("always madvise [never]\n")
    assert "before qtop always, qtop wrote madvise, now never" in str(HUGE.read(plan.record).drifted[0])
    (kernel / "enabled").write_text("garbage\n")
    assert HUGE.now(kernel / "enabled") is None
    for value in ("[always]", "inherit", "", "always never"):
        with pytest.raises(QtopError, match="It takes always, madvise"):
            HUGE.plan(Frame(0.0, 0.0), value)


def test_a_host_without_it_says_so(kernel: Path) -> None:
    for knob, file in ((NUMA, "numa_balancing"), (HUGE, "enabled"), (SWAP, "swappiness")):
        (kernel / file).unlink()
        with pytest.raises(Refused, match="this host has no"):
            knob.plan(host(2, 900.0), None)


@pytest.mark.root
def test_where_proc_sys_is_mounted_read_only_one_line_says_so() -> None:
    """As in a container, where root may not write either."""
    code = (
        "from qtop.act.knobs.kernel_vm import NumaBalancing\nfrom qtop.model.frame import Frame\n"
        "try:\n    NumaBalancing().plan(Frame(0.0, 0.0), '2')\nexcept Exception as error:\n    print(error)\n"
    )
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(kernel_vm.__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr.strip()[-100:]}")
    assert done.stdout == (
        "/proc/sys/kernel/numa_balancing is mounted read-only here, as in a container. Run qtop on the host itself.\n"
    )


def made(path: Path, text: str = "vm.swappiness = 10\n") -> Plan:
    return plan_lasting(Plan("swappiness", "10", "", (), {}), (str(path), text))


def test_a_file_that_is_read_later_and_says_otherwise_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sysctl.d"
    folder.mkdir()
    monkeypatch.setattr(lasting, "SYSCTL_FOLDERS", (str(folder), str(tmp_path / "none")))
    (folder / "10-early.conf").write_text("vm.swappiness = 1\n")
    (folder / "99-other.conf").write_text("# vm.swappiness = 1\nvm.swappiness_not = 1\n")
    assert made(folder / "90-qtop-swappiness.conf").warnings == ()
    for line in ("vm.swappiness=60", "-vm.swappiness = 60", "vm/swappiness = 60"):
        (folder / "99-late.conf").write_text(f"{line}\n")
        (warning,) = made(folder / "90-qtop-swappiness.conf").warnings
        assert (
            warning
            == f"{folder}/99-late.conf sets vm.swappiness too and is read later: that one wins at the next start"
        )


def test_a_file_of_somebody_elses_writing_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "90-qtop-swappiness.conf"
    path.write_text("# mine\nvm.swappiness = 10\n")
    with pytest.raises(Refused, match="somebody else has written to"):
        made(path)
    with pytest.raises(Refused, match="this host has no"):
        made(tmp_path / "none/90-qtop-swappiness.conf")


@pytest.mark.parametrize(
    "text",
    [
        "w /sys/../etc/passwd - - - - x\n",
        "w /sys/kernel/mm/transparent_hugepage/../x - - - - always\n",
        "w /sys/kernel/mm/transparent_hugepage/enabled - - - - always\nf+ /etc/cron.d/x - - - - x\n",
        "w /sys/devices/system/cpu/cpufreq/policy0/scaling_setspeed - - - - 1\n",
        "vm.overcommit_memory = 2\n",
        "kernel.sysrq = 1\n",
        "vm.swappiness = 10",
        "",
    ],
)
def test_what_such_a_file_can_say_is_spelled_out(text: str) -> None:
    for path in ("/etc/tmpfiles.d/90-qtop-x.conf", "/etc/sysctl.d/90-qtop-x.conf"):
        for record in ({"text": text, "old": None}, {"text": "vm.swappiness = 10\n", "old": text}):
            with pytest.raises(Refused):
                LASTING.check({"new": path, "path": path, **record})


def test_what_the_knobs_write_there_is_let_through(kernel: Path) -> None:
    frame = host(2, 900.0)
    for plan, knob in ((SWAP.plan(frame, "10"), SWAP), (NUMA.plan(frame, "0"), NUMA)):
        file = knob.lasting(plan)
        assert file is not None
        LASTING.check({"new": file[0], "path": file[0], "text": file[1], "old": None})
    text = "w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise\n"
    file = HUGE.lasting(HUGE.plan(frame, "madvise"))
    assert file is not None
    assert file[1].replace(f"{kernel}/enabled", "/sys/kernel/mm/transparent_hugepage/enabled") == text
    LASTING.check({"new": file[0], "path": file[0], "text": text, "old": None})


def test_what_a_killed_qtop_left_half_written_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "90-qtop-swappiness.conf"
    record = made(path).record
    (tmp_path / f".{path.name}.new").write_text("vm.swap")
    LASTING.restore(record, Work())
    assert list(tmp_path.iterdir()) == [one for one in tmp_path.iterdir() if "conf" not in one.name]
