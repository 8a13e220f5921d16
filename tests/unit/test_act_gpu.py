"""The knobs on GPUs over the fake NVML: what they take, refuse, and put back; each in a process that finds the fake."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.fakes.crash import ROOT
from tests.fakes.nvml_fixture import FakeNvml, h100
from tests.fakes.nvml_fixture import fake_nvml as _fixture  # noqa: F401 - pytest finds a fixture by its presence

UUID = "GPU-5ca1ab1e-0000-4000-8000-000000000000"
DONE = {"done": True, "id": None}
HELPER = ROOT / "tui/qtop/act/helper.py"

_DO = """
import json, sys
from tests.fakes.live_sweep import gpu_frame
from qtop.act.change import Work
from qtop.act.knobs import knob
from qtop.errors import QtopError
def done(words):
    target = knob(words["knob"])
    try:
        if words["do"] == "plan":
            plan = target.plan(gpu_frame(*words["uuids"]), words["value"])
            names = ("value", "preview", "warnings", "record", "undone", "keep", "summary", "command")
            return {name: getattr(plan, name) for name in names}
        record = words["record"]
        if words["do"] == "read":
            reading = target.read(record)
            counts = {name: getattr(reading, name) for name in ("new", "old", "gone", "targets", "elsewhere")}
            return counts | {"drifted": [str(one) for one in reading.drifted]}
        getattr(target, words["do"])(record, *([] if words["do"] == "check" else [Work()]))
        return {"record": record}
    except QtopError as error:
        return {"error": str(error)}
print(json.dumps([done(words) for words in json.load(sys.stdin)]))
"""


def wish(knob: str, do: str, record: Any = None, value: str | None = None, *uuids: str) -> dict[str, Any]:
    return {"knob": knob, "do": do, "record": record, "value": value, "uuids": uuids or [UUID]}


def do_all(nvml: FakeNvml, *wishes: dict[str, Any]) -> list[Any]:
    """Each in turn, in one process; what came of them."""
    env = nvml.env() | {"PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}", "XDG_STATE_HOME": str(nvml.folder / "state")}
    done = subprocess.run(
        [sys.executable, "-c", _DO],
        env=env,
        input=json.dumps(wishes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def do(nvml: FakeNvml, knob: str, what: str, record: Any = None, value: str | None = None, *uuids: str) -> Any:
    return do_all(nvml, wish(knob, what, record, value, *uuids))[0]


@pytest.fixture
def nvml(fake_nvml: FakeNvml) -> FakeNvml:
    fake_nvml.set(count=1, **h100(0, persistence=0))
    return fake_nvml


@pytest.mark.parametrize(
    ("knob", "value", "line", "state"),
    [
        ("gpu-power-limit", "450", "700 W → 450 W", {"0.power_limit": "450000"}),
        ("gpu-persistence", "on", "off → on", {"0.persistence": "1"}),
        ("gpu-clocks", "210,1500", "not known (none that qtop made) → 210–1500 MHz", {"0.locked_clocks": "210 1500"}),
    ],
)
def test_set_read_back_and_put_back(knob: str, value: str, line: str, state: dict[str, str], nvml: FakeNvml) -> None:
    plan = do(nvml, knob, "plan", None, value)
    assert plan["preview"][0] == f"GPU 0 (NVIDIA H100 80GB HBM3): {line}"
    assert UUID in plan["command"]
    record = plan["record"]
    looked, checked, applied = do_all(
        nvml, wish(knob, "read", record), wish(knob, "check", record), wish(knob, "apply", record)
    )
    assert (looked["old"], checked) == (1, {"record": record})
    assert nvml.state() == state
    record = applied["record"]
    looked, restored = do_all(nvml, wish(knob, "read", record), wish(knob, "restore", record))
    assert looked["new"] == 1
    assert {name: text for name, text in nvml.state().items() if text not in ("700000", "0")} == {}
    counts = {"new": 0, "old": 1, "gone": 0, "targets": 1}
    assert do(nvml, knob, "read", restored["record"]) == counts | {"drifted": [], "elsewhere": ""}


def test_what_is_not_known_of_clocks_is_said(nvml: FakeNvml) -> None:
    lock, lift, nothing = do_all(
        nvml,
        wish("gpu-clocks", "plan", None, "210,1500"),
        wish("gpu-clocks", "plan", None, "reset"),
        wish("gpu-clocks", "plan"),
    )
    assert "one that somebody else made is replaced, and undo does not bring it back" in lock["warnings"][0]
    assert lock["undone"].startswith("`qtop undo` lifts the lock")
    assert (lift["undone"], lift["keep"]) == ("nothing undoes it", "always")
    assert "gpu-clocks=MIN,MAX" in nothing["error"]
    record = do(nvml, "gpu-clocks", "apply", lift["record"])["record"]
    assert do(nvml, "gpu-clocks", "read", record)["targets"] == 0, "there is nothing to put back"


def test_a_clock_above_the_lock_shows_that_somebody_lifted_it(nvml: FakeNvml) -> None:
    record = do(nvml, "gpu-clocks", "plan", None, "210,1500")["record"]
    record = do(nvml, "gpu-clocks", "apply", record)["record"]
    (nvml.folder / "gpus.txt.state").unlink()
    (told,) = do(nvml, "gpu-clocks", "read", record)["drifted"]
    assert told == (
        "SM clocks of GPU 0 (NVIDIA H100 80GB HBM3): before qtop not locked, qtop wrote 210–1500 MHz, "
        "now 1968 MHz: the lock is not in force"
    )


def test_a_limit_that_somebody_else_set_is_shown_and_left(nvml: FakeNvml) -> None:
    record = do(nvml, "gpu-power-limit", "plan", None, "450")["record"]
    do(nvml, "gpu-power-limit", "apply", record)
    (nvml.folder / "gpus.txt.state").write_text("0.power_limit 333000\n")
    told, _ = do_all(nvml, wish("gpu-power-limit", "read", record), wish("gpu-power-limit", "restore", record))
    assert told["drifted"] == [
        "power limit of GPU 0 (NVIDIA H100 80GB HBM3): before qtop 700 W, qtop wrote 450 W, now 333 W"
    ]
    assert nvml.state() == {"0.power_limit": "333000"}


def test_a_limit_below_the_default_is_raised_to_it(nvml: FakeNvml) -> None:
    assert "no lower than the card's default: nothing to gain" in do(nvml, "gpu-power-limit", "plan")["error"]
    nvml.set(**{"0.power_limit": 450000})
    plan, named = do_all(nvml, wish("gpu-power-limit", "plan"), wish("gpu-power-limit", "plan", None, "default"))
    assert (plan["value"], plan["summary"]) == ("700", "power limit: 450 W → 700 W")
    assert "somebody may have lowered the limit for a reason" in plan["warnings"][0]
    assert named["record"] == plan["record"]


@pytest.mark.parametrize(
    ("knob", "values"),
    [
        ("gpu-power-limit", ["199", "701", "-1", "4e2", "450W", "", "9" * 300, "٤٥٠"]),
        ("gpu-clocks", ["1500", "1500,210", "0,1500", "210,1981", "210,1500,", "x", "", "-rgc"]),
        ("gpu-persistence", ["1", "", "ON", "yes"]),
    ],
)
def test_values_that_cannot_be_meant(knob: str, values: list[str], nvml: FakeNvml) -> None:
    for value, told in zip(values, do_all(nvml, *(wish(knob, "plan", None, one) for one in values)), strict=True):
        assert told.get("error", "").startswith(f"{knob} cannot be "), (value, told)
        assert "\n" not in told["error"]
    assert nvml.state() == {}


@pytest.mark.parametrize("knob", ["gpu-power-limit", "gpu-clocks", "gpu-persistence"])
def test_what_the_driver_does_not_do_is_one_line(knob: str, nvml: FakeNvml) -> None:
    value = {"gpu-power-limit": "450", "gpu-clocks": "210,1500", "gpu-persistence": "on"}[knob]
    setter = {"gpu-power-limit": "power_set", "gpu-clocks": "locked_clocks", "gpu-persistence": "persistence_set"}[knob]
    record = do(nvml, knob, "plan", None, value)["record"]
    for code, words in ((4, "denies it to this user. It takes root."), (3, "does not offer it")):
        nvml.set(**{f"0.error.{setter}": code})
        told = do(nvml, knob, "apply", record)["error"]
        assert words in told
        assert "\n" not in told
    # Somebody took the GPU away between preview and key.
    nvml.set(**{f"0.error.{setter}": None}, count=0)
    looked, applied, planned = do_all(
        nvml, wish(knob, "read", record), wish(knob, "apply", record), wish(knob, "plan", None, value)
    )
    assert (looked["gone"], "error" in applied) == (1, False)
    assert "gone" in planned["error"]
    nvml.uninstall()
    planned, looked = do_all(nvml, wish(knob, "plan", None, value), wish(knob, "read", record))
    assert "no NVIDIA driver answers here" in planned["error"]
    assert "no NVIDIA driver answers here" in looked["elsewhere"]


def test_a_gpu_without_the_feature_is_refused(fake_nvml: FakeNvml) -> None:
    lacking = {"power_limit_min": None, "power_limit_max": None, "sm_max_mhz": None}
    fake_nvml.set(count=1, **h100(0, **lacking))
    for told in do_all(
        fake_nvml,
        wish("gpu-power-limit", "plan", None, "450"),
        wish("gpu-clocks", "plan", None, "210,1500"),
        wish("gpu-persistence", "plan", None, "on"),
    ):
        assert "this GPU or driver does not offer it" in told["error"]


def test_a_driver_that_hangs_is_not_waited_for_for_ever(nvml: FakeNvml) -> None:
    nvml.set(**{"0.hang.power_limit": 30})
    script = _DO.replace(
        "import json, sys", "import json, sys\nfrom qtop.act.knobs import nvml_hand\nnvml_hand.LIMIT_S = 0.5"
    )
    env = nvml.env() | {"PYTHONPATH": f"{ROOT / 'tui'}:{ROOT}"}
    asked = json.dumps([wish("gpu-power-limit", "plan", None, "450")])
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, input=asked, capture_output=True, text=True, timeout=20, check=True
    )
    assert "did not answer within" in json.loads(done.stdout)[0]["error"]


def test_several_gpus_of_a_server_that_does_not_tell_which(nvml: FakeNvml) -> None:
    told = do(nvml, "gpu-power-limit", "plan", None, "450", UUID, UUID.replace("5ca1ab1e", "5ca1ab1f"))
    assert "which GPUs the server uses is not known" in told["error"]


def ask_helper(nvml: FakeNvml, *wishes: dict[str, Any]) -> list[Any]:
    """The helper as root runs it, but for an environment in which it finds the fake."""
    done = subprocess.run(
        [sys.executable, "-I", str(HELPER)],
        env=nvml.env(),
        input="".join(json.dumps(one) + "\n" for one in wishes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [{**json.loads(line), "id": None} for line in done.stdout.splitlines()][1:]


@pytest.mark.root
def test_the_helper_does_it_and_believes_no_record(nvml: FakeNvml) -> None:
    plan, other = do_all(
        nvml, wish("gpu-power-limit", "plan", None, "450"), wish("gpu-clocks", "plan", None, "210,1500")
    )
    record, clocks = plan["record"], other["record"]
    assert ask_helper(nvml, {"do": "apply", "knob": "gpu-power-limit", "record": record}) == [DONE]
    assert nvml.state() == {"0.power_limit": "450000"}
    (gpu,), (clock,) = record["gpus"], clocks["gpus"]
    gifts: list[tuple[str, Any, Any]] = [
        ("gpu-power-limit", record, {**gpu, **gift})
        for gift in (
            *({"new": "900000"}, {"old": "1"}, {"new": 450000}, {"uuid": "GPU-x"}, {"uuid": "0"}, {"uuid": None}),
            {"uuid": UUID.replace("0", "1")},
        )
    ]
    gifts += [
        ("gpu-clocks", clocks, {**clock, **gift})
        for gift in ({"new": "0,1"}, {"old": "210,99999"}, {"phase": "x"}, {"new": "210,1500; id"})
    ]
    wishes = [{"do": "restore", "knob": knob, "record": {**whole, "gpus": [one]}} for knob, whole, one in gifts]
    answers = ask_helper(nvml, *wishes)
    assert len(answers) == len(gifts)
    assert all("refused" in answer for answer in answers), answers
    assert nvml.state() == {"0.power_limit": "450000"}
    assert ask_helper(nvml, {"do": "restore", "knob": "gpu-power-limit", "record": record}) == [DONE]
    assert nvml.state() == {"0.power_limit": "700000"}
