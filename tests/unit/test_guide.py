"""The guide's claims: every one is there, in order and whole; what they say of a real H100, of a machine without GPU or
server, and on both sides of each threshold."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.fakes.node import Node
from tests.fakes.stub_source import Machine

from qtop.act.knobs import knob
from qtop.act.knobs.server_flags import ServerFlags
from qtop.diagnose.engine import Diagnosis, Finding
from qtop.diagnose.registry import RULES
from qtop.diagnose.whole import diagnose_all
from qtop.guide.claim import Checked, Claim
from qtop.guide.experiments import EXPERIMENTS
from qtop.guide.registry import BY_ID, CLAIMS, check_all, counts
from qtop.guide.seen import Seen, State
from qtop.model.cpu import HostView, SchedView
from qtop.model.derive import Deriver
from qtop.model.frame import EngineView, Frame, GpuView
from qtop.model.serving import LatencyView, LoraView
from qtop.model.settings import SettingsView
from qtop.plan import budget
from qtop.record.reader import Recording
from qtop.report.guide import claim_page, guide_document, guide_text
from qtop.sample import Absent, Sample, ServerInfo, Setting, Why
from qtop.units import GIB

TESTS = Path(__file__).parent.parent
H100 = TESTS / "data/recordings/h100-steady16.qtop"
RECORDINGS = sorted([*(TESTS / "data/recordings").glob("*.qtop"), *(TESTS / "rules").glob("*/*.qtop")])
# The numbers of the claims, as the guide makes them.
# fmt: off
IDS = [
    "G1", "G2", "G3", "G4", "G4b", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G12b", "G13", "G14",
    "G15", "G16", "G17", "G18", "G19", "G20", "G21", "G22", "G23", "G24", "G24b", "G24c", "G25", "G26", "G27",
    "G28", "G29", "G30", "G31", "G31b", "G32", "G33", "G34", "G35",
]
# fmt: on
NEVER = ("--load-in", "--quantize ", "--max-new-tokens", "--swap-space", "bitsandbytes", "--block-size", "api_server ")
"""What no remedy may say: flags that no server, or none of today's, takes."""
DECIDED = (State.HOLDS, State.DOES_NOT_HOLD)


@cache
def recorded(path: Path) -> tuple[Frame, tuple[Finding, ...]]:
    whole = diagnose_all(Recording(path).samples())
    assert whole is not None
    return whole.frame, whole.findings


def derived(samples: list[Sample]) -> Frame:
    deriver, frame = Deriver(), Frame(0.0, 0.0)
    for sample in samples:
        frame = deriver.push(sample)
    return frame


@pytest.fixture
def h100() -> Frame:
    return recorded(H100)[0]


def check(claim: str, frame: Frame, findings: tuple[Finding, ...] = ()) -> Checked:
    return BY_ID[claim.lower()].check(frame, findings)


def gpu_with(frame: Frame, **more: Any) -> Frame:
    assert not isinstance(frame.gpus, Absent)
    return replace(frame, gpus=(replace(frame.gpus[0], **more),))


def engine_with(frame: Frame, **more: Any) -> Frame:
    assert isinstance(frame.engine, EngineView)
    return replace(frame, engine=replace(frame.engine, **more))


def host_with(frame: Frame, **more: Any) -> Frame:
    assert isinstance(frame.host, HostView)
    return replace(frame, host=replace(frame.host, **more))


def sched_with(frame: Frame, **more: Any) -> Frame:
    assert isinstance(frame.sched, SchedView)
    return replace(frame, sched=replace(frame.sched, **more))


def server_with(frame: Frame, **more: Any) -> Frame:
    assert isinstance(frame.server, ServerInfo)
    return replace(frame, server=msgspec.structs.replace(frame.server, **more))


def set_to(frame: Frame, name: str, value: str, source: str = "command line") -> Frame:
    return all_set(frame, {name: value}, source)


def all_set(frame: Frame, values: dict[str, str], source: str = "command line") -> Frame:
    assert isinstance(frame.settings, SettingsView)
    groups = {
        group: tuple(one for one in held if one.name not in values) for group, held in frame.settings.groups.items()
    }
    own = tuple(Setting(name, value, source) for name, value in values.items())
    return replace(frame, settings=SettingsView({**groups, "x": own}))


def waiting(frame: Frame, share: float) -> Frame:
    assert isinstance(frame.sched, SchedView)
    critical = tuple(msgspec.structs.replace(one, wait=share, throttled=0.0) for one in frame.sched.critical)
    return sched_with(frame, critical=critical)


def on_4090d(frame: Frame) -> Frame:
    """The same server on the guide's card: 24 564 MiB, of which CUDA sees 23.64 GiB."""
    assert not isinstance(frame.gpus, Absent)
    view: GpuView = frame.gpus[0]
    assert not isinstance(view.vram, Absent)
    total = 24_564 << 20
    vram = replace(view.vram, reserved=total - int(23.64 * 2**30), server=18 << 30, free=5 << 30)
    changed = gpu_with(
        frame,
        name="NVIDIA GeForce RTX 4090 D",
        mem_total=total,
        vram=vram,
        bandwidth=1.008e12,
        dram=Absent(Why.UNSUPPORTED),
    )
    return replace(changed, kv_tokens=Absent(Why.NOT_YET))


# Every claim is there, and whole


def test_every_claim_is_there_in_the_guides_order() -> None:
    assert [claim.id for claim in CLAIMS] == IDS
    sections = [claim.section for claim in CLAIMS]
    assert sections == sorted(sections), "the sections are in their order"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_has_all_its_parts(claim: Claim) -> None:
    assert re.match(r"\d(\.\d)? [A-Z]", claim.section)
    assert 0 < len(claim.title) <= 30
    assert claim.says.endswith((".", "…")) and claim.truth.endswith(".") and claim.known
    assert not claim.action or claim.action.endswith(".")
    assert all(re.fullmatch(r"QT\d{3}", rule) for rule in claim.rules)
    assert not re.search(r"[\u4e00-\u9fff]", claim.says + claim.truth + claim.title), "in our words"


FRAMES: dict[str, Path | list[Sample]] = {
    **{str(path.relative_to(TESTS)): path for path in RECORDINGS},
    "node": Node().samples(0, 20),
    "cpu only": Machine().samples(0, 20),
    "no server": Machine(server=False, gpus=1).samples(0, 5),
    "nothing": Machine(server=False).samples(0, 5),
}


def frame_of(name: str) -> tuple[Frame, tuple[Finding, ...]]:
    what = FRAMES[name]
    if isinstance(what, Path):
        return recorded(what)
    deriver, diagnosis = Deriver(), Diagnosis(RULES)
    findings: tuple[Finding, ...] = ()
    for sample in what:
        findings = diagnosis.push(deriver.push(sample))
    return derived(what), findings


@pytest.mark.parametrize("name", FRAMES)
def test_on_every_machine_each_claim_says_something_that_can_be_read(name: str) -> None:
    frame, findings = frame_of(name)
    entries = check_all(frame, findings)
    assert [entry.claim.id for entry in entries] == IDS
    assert sum(counts(entries).values()) == len(IDS)
    for entry in entries:
        checked = entry.checked
        if checked.state in DECIDED:
            assert checked.measured.strip(), f"{entry.claim.id} says {checked.state} and shows nothing"
        assert checked.measured or checked.note, entry.claim.id
        text = " ".join(filter(None, (checked.measured, checked.note, *checked.worked, entry.action)))
        assert not re.search(r"Traceback|Absent\(|<Why|\bNone\b|\bnan\b|\binf\b|  |; ?$|\n|\{|\}(?!')", text), text
        assert not any(word in entry.action for word in NEVER), f"{entry.claim.id}: {entry.action}"
    assert len(guide_text(entries, frame, "test").splitlines()) == 2 + len(IDS) + 2 * len({c.section for c in CLAIMS})
    document = guide_document("live", 1.0, frame, findings, entries)
    assert document["schema"] == 1 and len(document["claims"]) == len(IDS)
    for entry in entries:
        assert f"# {entry.claim.id} ·" in claim_page(entry, findings)


def test_where_nothing_has_been_read_nothing_is_claimed() -> None:
    states = {entry.claim.id: entry.checked.state for entry in check_all(Frame(0.0, 0.0))}
    assert not set(states.values()) & set(DECIDED), states


def test_without_a_server_only_the_machine_is_judged() -> None:
    frame, findings = frame_of("nothing")
    for entry in check_all(frame, findings):
        if entry.claim.id not in ("G20", "G24"):
            assert entry.checked.state not in DECIDED, entry.claim.id
    tier = check("G10", frame)
    assert tier.state is State.CANNOT_TELL
    assert "guide's card" in tier.measured and "RTX 4090 D" in tier.note + tier.worked[0]


def test_another_engine_is_told_that_it_is_about_vllm() -> None:
    frame, _ = frame_of("cpu only")
    for claim in ("G7", "G13", "G14", "G15", "G16", "G30", "G31", "G32"):
        checked = check(claim, frame)
        assert checked.state is State.NOT_APPLICABLE
        assert "llama.cpp" in checked.note or "no GPU" in checked.note


# A real H100


@pytest.mark.parametrize(
    ("claim", "state", "measured"),
    [
        ("G1", State.NOT_APPLICABLE, "NVIDIA H100 80GB HBM3, 79.6 GiB"),
        ("G2", State.NOT_APPLICABLE, "3352 GB/s"),
        ("G3", State.CANNOT_TELL, "KV 30 % of a step's bytes; DRAM 49 %"),
        ("G4", State.DOES_NOT_HOLD, "0 % of the link used (35.2 MB/s in)"),
        ("G4b", State.DOES_NOT_HOLD, "gen5 x16 possible"),
        ("G5", State.DOES_NOT_HOLD, "slowed by heat 0 % of the last 30 s"),
        ("G6", State.DOES_NOT_HOLD, "util 45–99 %; engine waits 0 %"),
        ("G7", State.DOES_NOT_HOLD, "68.9 GiB at utilization 0.85"),
        ("G8", State.DOES_NOT_HOLD, "9.8 GiB do for it, not 14.3 GB"),
        ("G9", State.DOES_NOT_HOLD, "at batch 4 at most 2.5 req/s, not 8.2"),
        ("G10", State.DOES_NOT_HOLD, "256K fits (bf16/bf16)"),
        ("G12", State.DOES_NOT_HOLD, "0.85: 10.3 GiB free"),
        ("G12b", State.DOES_NOT_HOLD, "58.6 GiB of cache at 0.85; needs 36.0"),
        ("G13", State.CANNOT_TELL, "32 768 tokens, 13 such fit"),
        ("G14", State.DOES_NOT_HOLD, "on, 8 192 tokens a step"),
        ("G15", State.DOES_NOT_HOLD, "auto, model bfloat16"),
        ("G16", State.DOES_NOT_HOLD, "openai.api_server, 0.25.1"),
        ("G18", State.DOES_NOT_HOLD, "engine waits 0 %"),
        ("G20", State.DOES_NOT_HOLD, "16 cores, 16 threads, SMT off"),
        ("G22", State.DOES_NOT_HOLD, "256K take 36.0 GiB"),
        ("G23", State.DOES_NOT_HOLD, "128K take 6.1 s"),
        ("G24", State.NOT_APPLICABLE, "1 NUMA node"),
        ("G26", State.HOLDS, "1 listed, server on GPU 0"),
        ("G27", State.DOES_NOT_HOLD, "may use 0-15, cgroup allows 0-15"),
        ("G28", State.DOES_NOT_HOLD, "model in a local folder"),
        ("G30", State.DOES_NOT_HOLD, "128 tokens an answer, 100 % cut"),
        ("G31b", State.CANNOT_TELL, "TTFT 248 ms"),
        ("G32", State.DOES_NOT_HOLD, "blocks of 16"),
        ("G34", State.DOES_NOT_HOLD, "16 of 256 run, 0 wait"),
        ("G35", State.DOES_NOT_HOLD, "vLLM 0.25.1"),
    ],
)
def test_on_an_h100(h100: Frame, claim: str, state: State, measured: str) -> None:
    checked = check(claim, h100)
    assert checked.state is state, checked
    assert measured in checked.measured
    assert len(checked.measured) <= 60


def test_what_a_server_takes_beside_weights_and_cache_is_its_own(h100: Frame) -> None:
    """58.64 GiB held 426 960 tokens at 0.85, beside 7.49 GiB of weights."""
    assert "1.2 GiB, as this server has it" in check("G8", h100).worked[0]
    for frame in (replace(h100, kv_tokens=Absent(Why.NOT_YET)), set_to(h100, "quantization", "awq")):
        assert "1.2 GiB, reckoned" in check("G8", frame).worked[0]


# The guide's own card


def test_on_the_guides_card(h100: Frame) -> None:
    frame = on_4090d(h100)
    assert check("G1", frame).state is State.DOES_NOT_HOLD
    assert check("G2", frame).measured.startswith("1008 GB/s")
    assert check("G2", frame).state is State.DOES_NOT_HOLD
    assert check("G12b", frame).measured == "11.4 GiB of cache at 0.85; needs 36.0"
    assert all("refused" in line for line in check("G12b", frame).worked)
    long = check("G10", frame)
    assert long.measured.startswith("256K may not fit; 2") and "--max-model-len auto" in (long.action or "")
    assert any("151 s" in line for line in long.worked)
    late = check("G31b", frame)
    assert late.state is State.DOES_NOT_HOLD and "2.04 s or more" in late.worked[0]
    assert check("G7", set_to(frame, "gpu_memory_utilization", "0.92", "default of vLLM 0.25")).measured == (
        "18.0 GiB at utilization 0.92"
    )


def test_remedies_name_only_flags_of_the_version(h100: Frame) -> None:
    new, old = on_4090d(h100), server_with(on_4090d(h100), version="0.10.2")
    assert "--kv-cache-memory-bytes 4831838208" in (check("G8", new).action or "")
    assert "--kv-cache-memory-bytes" not in (check("G8", old).action or "")
    assert "--gpu-memory-utilization" in (check("G8", old).action or "")
    assert re.search(r"--max-model-len \d+ ", check("G10", old).action or "")


def test_an_unknown_version_shows_nothing_of_its_flags(h100: Frame) -> None:
    frame = server_with(h100, version=Absent(Why.UNSUPPORTED))
    assert check("G8", frame).state is State.CANNOT_TELL
    assert check("G30", frame).state is State.CANNOT_TELL
    assert check("G9", frame).state is State.DOES_NOT_HOLD, "the arithmetic of this card alone shows it"


def test_the_arithmetic() -> None:
    assert budget.BF16.weight_bytes == 2 * 4_022_468_096
    assert budget.FP8.weight_bytes == pytest.approx(4.41e9, rel=0.002)
    assert budget.INT4_FP8.weight_bytes == pytest.approx(2.67e9, rel=0.005)
    assert budget.LONGEST * budget.BF16.kv_token / GIB == 36.0
    assert budget.INT4_FP8.name == "4-bit weights, fp8 cache"
    here = budget.guides()
    for form, context, expected in (
        (budget.BF16, 0, 125),
        (budget.BF16, 131_072, 37),
        (budget.FP8_FP8, 0, 228),
        (budget.FP8_FP8, 32_768, 148),
    ):
        assert here.tok_s(form, 1, context) == pytest.approx(expected, abs=1)
    for tokens, seconds in ((32_768, 3.8), (131_072, 41), (262_144, 151)):
        assert here.prefill_s(tokens) == pytest.approx(seconds, rel=0.02)
    assert here.pool(budget.BF16, 0.2) == 0.0
    assert here.batch_for(budget.FP8, 8397, 1536) is None
    for wanted in (100.0, 2000.0):
        batch = here.batch_for(budget.FP8, wanted, 1536)
        assert batch is not None and (here.tok_s(budget.FP8, batch, 1536) or 0) >= wanted
        assert batch == 1 or (here.tok_s(budget.FP8, batch - 1, 1536) or 0) < wanted


def test_a_card_whose_speed_is_not_known() -> None:
    here = budget.guides()
    slow = replace(here, card=replace(here.card, bandwidth=0.0))
    assert slow.tok_s(budget.BF16, 1, 0) is None and slow.batch_for(budget.BF16, 1.0, 0) is None
    assert slow.prefill_s(131_072) == here.prefill_s(131_072), "the arithmetic is the same"
    assert replace(here, card=replace(here.card, bf16=None)).prefill_s(1000) is None


def starts() -> list[dict[str, Any]]:
    return [
        one
        for one in json.loads((TESTS / "data/starts/h100.json").read_text())["starts"]
        if one["up"] and "--quantization" not in one["flags"] and "kv-cache-dtype" not in one["flags"]
    ]


@pytest.mark.parametrize("start", starts(), ids=lambda one: one["flags"])
def test_what_the_guide_reckons_is_what_vllm_made(h100: Frame, start: dict[str, Any]) -> None:
    """A server with these flags that does not tell how many tokens its cache holds; and once it does."""
    words = shlex.split(start["flags"])
    flags = dict(zip(words, [*words[1:], ""], strict=True))
    given = {
        "max_num_seqs": flags.get("--max-num-seqs", "1024"),
        "max_num_batched_tokens": flags.get("--max-num-batched-tokens", "8192"),
        "gpu_memory_utilization": flags["--gpu-memory-utilization"],
        "enforce_eager": "on" if "--enforce-eager" in words else "off",
    }
    frame = all_set(replace(h100, kv_tokens=Absent(Why.NOT_YET)), given)
    utilization = float(given["gpu_memory_utilization"])
    reckoned = Seen(frame).budget
    assert reckoned.own is None
    assert reckoned.pool(budget.BF16, utilization) / GIB == pytest.approx(start["kv_gib"], rel=0.01)
    shown = Seen(replace(frame, kv_tokens=float(start["kv_tokens"]))).budget
    assert shown.own is not None
    assert shown.pool(budget.BF16, utilization) / budget.KV_TOKEN == pytest.approx(start["kv_tokens"], abs=32)


def test_over_two_cards(h100: Frame) -> None:
    """Twice the memory, less what each sets aside; the smaller decides; what a flag says is for each."""
    assert not isinstance(h100.gpus, Absent)
    own = h100.gpus[0]
    assert not isinstance(own.mem_total, Absent)
    small = replace(own, index=1, mem_total=own.mem_total - (1 << 30))
    two = set_to(replace(h100, gpus=(own, small), kv_tokens=Absent(Why.NOT_YET)), "tensor_parallel_size", "2")
    here = Seen(two).budget
    assert here.name == "2 × NVIDIA H100 80GB HBM3" and here.total == 2 * (Seen(h100).budget.total - (1 << 30))
    one = replace(here, serving=replace(here.serving, spread=1))
    assert here.pool(budget.BF16, 0.85) > 2 * one.pool(budget.BF16, 0.85)
    assert here.tok_s(budget.BF16, 1, 0) == pytest.approx(2 * (one.tok_s(budget.BF16, 1, 0) or 0))
    assert here.prefill_s(131_072) == pytest.approx((one.prefill_s(131_072) or 0) / 2)
    assert "--kv-cache-memory-bytes 2415919104" in (check("G8", two).action or "")


# Both sides of each threshold


@pytest.mark.parametrize(
    ("running", "waits", "use", "state"),
    [
        (256.0, 5.0, 0.84, State.HOLDS),
        (256.0, 5.0, 0.85, State.DOES_NOT_HOLD),
        (256.0, 0.0, 0.1, State.DOES_NOT_HOLD),
        (255.0, 5.0, 0.1, State.DOES_NOT_HOLD),
        (256.0, 5.0, Absent(Why.UNSUPPORTED), State.CANNOT_TELL),
        (Absent(Why.UNSUPPORTED), 5.0, 0.1, State.CANNOT_TELL),
    ],
)
def test_more_sequences_help_only_where_the_cap_is_reached(
    h100: Frame, running: float | Absent, waits: float, use: float | Absent, state: State
) -> None:
    assert check("G34", engine_with(h100, running=running, waiting=waits, kv_use=use)).state is state


@pytest.mark.parametrize(
    ("heat", "util", "state"),
    [
        (0.05, 0.99, State.HOLDS),
        (0.05, 0.0, State.HOLDS),
        (0.049, 0.50, State.DOES_NOT_HOLD),
        (0.049, 0.49, State.CANNOT_TELL),
        (Absent(Why.UNSUPPORTED), 0.99, State.CANNOT_TELL),
    ],
)
def test_heat(h100: Frame, heat: float | Absent, util: float, state: State) -> None:
    duty = {"sw_thermal": heat, "hw_thermal": Absent(Why.UNSUPPORTED), "power_cap": 0.9}
    assert check("G5", gpu_with(h100, duty_window=duty, util=util)).state is state


@pytest.mark.parametrize(
    ("low", "high", "wait", "running", "state"),
    [
        (0.45, 0.99, 0.05, 16.0, State.HOLDS),
        (0.45, 0.99, 0.04, 16.0, State.DOES_NOT_HOLD),
        (0.91, 0.99, 0.50, 16.0, State.DOES_NOT_HOLD),
        (0.45, 0.99, 0.50, 0.0, State.CANNOT_TELL),
        (0.14, 0.15, 0.80, 7.0, State.HOLDS),
    ],
)
def test_a_gpu_that_waits(h100: Frame, low: float, high: float, wait: float, running: float, state: State) -> None:
    frame = gpu_with(h100, util=max(low, 0.45 if high > 0.5 else low), util_min=low, util_max=high)
    assert check("G6", waiting(engine_with(frame, running=running), wait)).state is state


@pytest.mark.parametrize(
    ("wait", "running", "state"),
    [
        (0.10, 7.0, State.HOLDS),
        (0.10, 6.0, State.DOES_NOT_HOLD),
        (0.09, 7.0, State.DOES_NOT_HOLD),
        (0.09, 6.0, State.CANNOT_TELL),
    ],
)
def test_a_late_scheduler(h100: Frame, wait: float, running: float, state: State) -> None:
    assert check("G18", waiting(engine_with(h100, running=running), wait)).state is state


def test_long_contexts(h100: Frame) -> None:
    def held(tokens: float, dram: float) -> State:
        return check("G3", gpu_with(engine_with(h100, running=2.0, kv_use=tokens / 426_960), dram=dram)).state

    assert held(262_144, 0.70) is State.HOLDS
    assert held(262_144, 0.69) is State.DOES_NOT_HOLD
    assert held(10_000, 0.69) is State.CANNOT_TELL
    assert check("G3", engine_with(h100, running=0.0)).state is State.CANNOT_TELL


def test_pcie_is_not_the_prompts(h100: Frame) -> None:
    full = check("G4", gpu_with(h100, pcie_share=0.9))
    assert full.state is State.DOES_NOT_HOLD and "something else" in full.note
    assert check("G4", engine_with(h100, prompt_tok_s=0.0)).state is State.CANNOT_TELL
    assert check("G4", gpu_with(h100, pcie_rx_s=Absent(Why.UNSUPPORTED))).state is State.CANNOT_TELL


def test_flags_that_were_given(h100: Frame) -> None:
    off = check("G14", set_to(h100, "enable_chunked_prefill", "off"))
    assert off.state is State.HOLDS and off.action is None
    assert check("G15", set_to(h100, "kv_cache_dtype", "fp8")).state is State.DOES_NOT_HOLD
    assert check("G15", set_to(h100, "kv_cache_dtype", "float16")).state is State.HOLDS
    old = server_with(h100, version="0.9.2", argv=("python3", "-m", "vllm.entrypoints.api_server"))
    assert check("G16", old).state is State.HOLDS and check("G31", old).state is State.HOLDS
    own = server_with(h100, argv=("python3", "serve_it.py"))
    assert check("G16", own).state is State.CANNOT_TELL and check("G31", own).state is State.CANNOT_TELL
    whole = set_to(server_with(h100, max_model_len=262_144), "max_model_len", "262144", "/v1/models")
    assert check("G13", whole).state is State.DOES_NOT_HOLD
    bnb = set_to(server_with(h100, version="0.27.0"), "quantization", "bitsandbytes")
    assert check("G11", bnb).state is State.CANNOT_TELL


def test_numa(h100: Frame) -> None:
    two = host_with(h100, nodes=2, numa_balancing=1, migrations_mean_s=501.0)
    assert check("G24", two).state is State.HOLDS
    assert check("G24", host_with(two, numa_balancing=0)).state is State.DOES_NOT_HOLD
    assert check("G24b", two).action is None
    assert check("G24b", host_with(two, migrations_mean_s=500.0)).action == ""
    assert check("G24c", gpu_with(two, numa_node=0)).state is State.HOLDS
    other = check("G24c", sched_with(gpu_with(two, numa_node=1), nodes=(0,)))
    assert other.state is State.DOES_NOT_HOLD and other.action is None
    assert check("G24c", two).state is State.CANNOT_TELL
    assert check("G25", two).state is State.CANNOT_TELL


def test_threads_and_cores(h100: Frame) -> None:
    assert check("G20", host_with(h100, smt=True, cores=8)).state is State.DOES_NOT_HOLD
    assert check("G20", host_with(h100, smt=True)).state is State.CANNOT_TELL
    assert isinstance(h100.sched, SchedView) and not isinstance(h100.sched.usable, Absent)
    few = check("G21", sched_with(h100, usable=replace(h100.sched.usable, cores=2.0, logical=4.0)))
    assert few.state is State.CANNOT_TELL and few.action is None
    assert check("G21", sched_with(h100, cpu=6.0)).state is State.CANNOT_TELL
    assert check("G21", waiting(h100, 0.05)).state is State.CANNOT_TELL


def test_adapters_that_wait(h100: Frame) -> None:
    loras = LoraView(running=("a",), waiting=("b", "c"), max=1.0, used=1.0)
    checked = check("G19", engine_with(h100, loras=loras))
    assert (checked.state, checked.measured) == (State.CANNOT_TELL, "1 running, 2 waiting, 1 fit a batch")
    assert checked.action is None
    assert check("G19", engine_with(h100, loras=replace(loras, waiting=()))).action == ""


# The three first checks, as they work


def test_which_gpus_the_server_uses(h100: Frame) -> None:
    assert not isinstance(h100.gpus, Absent)
    own = h100.gpus[0]
    assert not isinstance(own.vram, Absent)
    idle = replace(own, index=1, vram=replace(own.vram, server=0))
    two = set_to(replace(h100, gpus=(own, idle)), "CUDA_VISIBLE_DEVICES", "0", "environment")
    checked = check("G26", two)
    assert (checked.state, checked.measured) == (State.DOES_NOT_HOLD, "2 listed, server on GPU 0")
    assert "CUDA_VISIBLE_DEVICES=0" in checked.note
    hidden = gpu_with(h100, vram=Absent(Why.UNSUPPORTED))
    assert check("G26", hidden).state is State.CANNOT_TELL
    unread = server_with(h100, settings_missing={"environment": Absent(Why.DENIED, "another user's")})
    assert "another user's" in check("G26", unread).note


def test_which_cpus_the_server_may_use(h100: Frame) -> None:
    narrow = check("G27", sched_with(h100, allowed="0-3"))
    assert narrow.measured == "may use 0-3, cgroup allows 0-15" and "by 12 CPUs" in narrow.note
    assert narrow.action is None
    assert check("G27", h100).action == ""
    far = check("G27", gpu_with(sched_with(h100, allowed="0-3"), local_cpus="8-15"))
    assert "0 of them near the GPU (8-15)" in far.note


def test_where_the_tokenizer_is_cached(h100: Frame) -> None:
    hub = set_to(h100, "model", "Qwen/Qwen3-4B-Instruct-2507")
    assert check("G28", hub).measured == "~/.cache/huggingface/hub"
    moved = set_to(hub, "HF_HOME", "/home/alice/hf", "environment")
    moved = replace(moved, settings=_both(hub, moved))
    assert check("G28", moved).measured == "cache in $HF_HOME/hub"
    entry = next(one for one in check_all(moved) if one.claim.id == "G28")
    assert "alice" not in claim_page(entry) and "/home/USER/hf" in claim_page(entry)


def _both(one: Frame, other: Frame) -> SettingsView:
    assert isinstance(one.settings, SettingsView) and isinstance(other.settings, SettingsView)
    held = [*other.settings.groups["x"], *one.settings.groups["x"]]
    return SettingsView({**one.settings.groups, "x": tuple(held)})


def test_the_acceptance_line_is_for_one_request(h100: Frame) -> None:
    alone = engine_with(h100, running=1.0)
    assert check("G31b", alone).state is State.DOES_NOT_HOLD
    assert not isinstance(h100.latency, Absent) and not isinstance(h100.latency.ttft, Absent)
    assert not isinstance(h100.latency.itl, Absent)
    quick = {
        "ttft": replace(h100.latency.ttft, mean_ms=100.0),
        "itl": replace(h100.latency.itl, mean_ms=3.0),
    }
    latency = LatencyView(h100.latency.seconds, quick.__getitem__)
    assert check("G31b", replace(alone, latency=latency)).state is State.HOLDS


def test_every_experiment_is_of_a_claim_and_a_knob_that_takes_its_value() -> None:
    ids = {claim.id for claim in CLAIMS}
    assert set(EXPERIMENTS) <= ids
    assert not {"G28", "G33"} & set(EXPERIMENTS), "deleting caches and stripping punctuation are told, not offered"
    server = ServerInfo(url="http://127.0.0.1:1", engine="vllm", pid=os.getpid(), argv=("vllm", "serve", "m"))
    for trial in EXPERIMENTS.values():
        target = knob(trial.knob)
        if isinstance(target, ServerFlags) and trial.value is not None:
            _, edits = target.asked(Frame(0.0, 0.0, server=server), server, trial.value)
            assert edits
        assert f"qtop apply {trial.knob}" in trial.command.replace("'", "")


def test_what_one_tries_in_a_shell_reads_back_as_it_was() -> None:
    for trial in EXPERIMENTS.values():
        word = shlex.split(trial.command)[2]
        name, equals, value = word.partition("=")
        assert (name, value if equals else None) == (trial.knob, trial.value)
