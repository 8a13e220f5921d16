"""``qtop plan`` as a person meets it; the files that it writes; what it says beside a server."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qtop.act.launch_files import KINDS, Installed, checked, installed
from qtop.act.plan_here import gpu_here, named_model, wish_of
from qtop.cli import build_parser, main
from qtop.collect import membw as bandwidth
from qtop.collect.model_files import find
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_USAGE, QtopError
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.model.gpu_view import VramSplit
from qtop.model.gpus import exactly
from qtop.model.model_config import decoder
from qtop.model.presets import PRESETS, preset_decoder
from qtop.plan.command import words
from qtop.plan.compare import Seen, compare
from qtop.plan.host import HostFacts, Measured, judge, meant
from qtop.plan.making import Plan, Wish, make
from qtop.plan.scenarios import SCENARIOS, recompute
from qtop.plan.serving import Model, card, form_of
from qtop.record.reader import Recording
from qtop.report.plan import Extras, parts, plan_text
from qtop.sample import Absent, Why
from qtop.units import GIB
from qtop.verbs.plan import _asked

RECORDINGS = Path(__file__).parent.parent / "data/recordings"
H100 = str(RECORDINGS / "h100-steady16.qtop")
QWEN = Model("Qwen/Qwen3-4B-Instruct-2507", preset_decoder("Qwen3-4B-Instruct-2507"), "preset")
ASK = ["plan", "--model", "Qwen/Qwen3-4B-Instruct-2507", "--from", H100]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("QTOP_API_KEY", raising=False)


def said(capsys: pytest.CaptureFixture[str], argv: list[str], exit_code: int = EXIT_OK) -> str:
    assert main(argv) == exit_code
    out, err = capsys.readouterr()
    return out if exit_code != EXIT_USAGE else err


def document(capsys: pytest.CaptureFixture[str], argv: list[str], exit_code: int = EXIT_OK) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, [*argv, "--json"], exit_code))
    return found


def asked(**more: Any) -> Plan:
    return make(Wish(**({"model": QWEN, "gpu": card(exactly("RTX 4090 D"))} | more)))


def test_the_verdict_comes_first_and_then_all_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, [*ASK, "--gpu", "H100", "--vllm", "0.25.1", "--utilization", "0.85", "--context", "32K"])
    assert out.startswith("FITS: Qwen/Qwen3-4B-Instruct-2507, bf16 weights, bf16 cache, 32K of context on H100 — ")
    for part in (
        "\nVRAM ",
        "weights 7.5",
        "Requests at once",
        "Decode, tokens a second",
        "(TTFT)",
        "\nHost",
        "vllm serve",
    ):
        assert part in out


def test_what_does_not_fit_says_by_how_much_and_what_does(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, [*ASK, "--gpu", "4090d"], EXIT_FINDING)
    assert out.startswith("DOES NOT FIT: ") and "36.0 GiB of cache" in out.splitlines()[0]
    assert "What does fit\n  a context of " in out and "Start it" not in out


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, [*ASK, "--gpu", "H100", "--vllm", "0.25.1", "--utilization", "0.85", "--context", "32768"])
    assert told["schema"] == 1 and told["fits"] is True
    assert told["memory"]["kv_tokens"] == pytest.approx(425_904, rel=0.02)
    names = ("weights", "cache", "activations", "graphs", "runtime", "others", "free")
    assert sum(told["memory"][f"{name}_bytes"] for name in names) == pytest.approx(told["memory"]["total_bytes"], abs=8)
    assert told["model"]["parameters"] == 4_022_468_096
    assert told["command"][:3] == ["vllm", "serve", "Qwen/Qwen3-4B-Instruct-2507"]


def test_beside_the_server_of_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, ["plan", "--from", H100])
    assert told["gpu"]["total"] == 85_017_493_504, "what CUDA saw of that card"
    assert (told["serving"]["seqs"], told["serving"]["utilization"], told["serving"]["version"]) == (
        256,
        0.85,
        [0, 25, 1],
    )
    rows = {one["what"]: one for one in told["compared"]["rows"]}
    assert rows["tokens of cache"]["measured"] == "426 960"
    assert abs(told["memory"]["kv_tokens"] / 426_960 - 1) < 0.02
    speed = rows["tokens a second, 16 at once"]
    assert re.fullmatch(r"\d+ % of the bound", speed["difference"])


@pytest.mark.parametrize(
    ("recording", "tokens"), [("healthy/h200-8-streams.qtop", 802_176), ("healthy/h200-1-stream.qtop", None)]
)
def test_an_h200_that_nothing_was_fitted_to(
    recording: str, tokens: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = document(capsys, ["plan", "--from", str(RECORDINGS / recording)])
    if tokens is not None:
        assert told["memory"]["kv_tokens"] == pytest.approx(tokens, rel=0.02)
    for row in told["compared"]["rows"]:
        if row["what"].startswith("tokens a second"):
            share = int(row["difference"].split(" ")[0])
            assert 0 < share < 100, "a measurement never exceeds the bound"
            low, high = (int(one.replace(" ", "")) for one in row["plan"].split("–"))
            assert low <= int(row["measured"].replace(" ", "")) <= high


def test_text_beside_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, ["plan", "--from", H100])
    assert "Beside the server that runs: vllm 0.25.1" in out and "tokens of cache" in out


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--gpu", "voodoo"], "GPU voodoo is not known. Known are RTX 3090"),
        (["--gpu", "h100", "--context", "-5"], "--context"),
        (["--gpu", "h100", "--context", "0"], "--context"),
        (["--gpu", "h100", "--utilization", "1.2"], "--utilization"),
        (["--gpu", "h100", "--kv", "fp16"], "--kv fp16 is not known"),
        (["--gpu", "h100", "--gpus", "3"], "cannot be spread over 3"),
        (["--gpu", "h100", "--vllm", "/nowhere"], "no vLLM at /nowhere"),
        (["--gpu", "h100", "--model", "who/knows"], "neither a folder here"),
        (["--gpu", "h100", "--model", "/nowhere"], "no such file or folder"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    err = said(capsys, [*ASK, *argv], EXIT_USAGE)
    assert part in err and err.count("\n") == 1 and "Traceback" not in err


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, ["plan", "--list"])
    assert "Qwen3-4B-Instruct-2507" in out and "huggingface.co/Qwen/Qwen3-8B" in out and "RTX 4090 D" in out


def folder(path: Path, **more: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(PRESETS[2].config | more))
    return path


def test_a_folder_is_counted_by_what_lies_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder(tmp_path / "own")
    (place / "model.safetensors").write_bytes(b"x" * 1000)
    found = find(str(place))
    assert found is not None and found.weight_bytes == 1000
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 8_000_000_000}}))
    told = document(capsys, [*ASK, "--model", str(place), "--gpu", "h100"])
    assert told["memory"]["weights_bytes"] == 8e9 and told["command"][2] == str(place)
    told = document(capsys, [*ASK, "--model", str(place / "config.json"), "--gpu", "h100"])
    assert told["command"][2] == str(place)


def test_a_repository_in_the_cache(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    folder(hub / "models--own--thing" / "snapshots" / "abc", num_hidden_layers=12)
    (hub / "models--own--thing" / "refs").mkdir()
    (hub / "models--own--thing" / "refs" / "main").write_text("abc")
    found = find("own/thing", {"HF_HUB_CACHE": str(hub)})
    assert found is not None and found.config["num_hidden_layers"] == 12
    assert find("own/other", {"HF_HUB_CACHE": str(hub)}) is None
    index = hub / "models--own--thing" / "snapshots" / "abc" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    found = find("own/thing", {"HF_HUB_CACHE": str(hub)})
    assert found is not None and found.weight_bytes is None, "only in part here"


@pytest.mark.parametrize(
    ("text", "part"), [("[1]", "no JSON object"), ("{", "is no JSON"), ("{}", "num_hidden_layers")]
)
def test_a_configuration_that_is_none(text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(text)
    err = said(capsys, [*ASK, "--gpu", "h100", "--model", str(tmp_path)], EXIT_USAGE)
    assert part in err and err.count("\n") == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no config.json" in said(capsys, [*ASK, "--gpu", "h100", "--model", str(empty)], EXIT_USAGE)


WORDS = ["vllm", "serve", "/models/a b$c%d", "--max-model-len", "32768", "--enforce-eager", "--kv-cache-dtype", "fp8"]


@pytest.mark.parametrize("kind", KINDS)
def test_writing_prints_the_command_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, [*ASK, "--gpu", "h100", "--context", "32K", "--write", kind])
    assert "32768" in out and "FITS" not in out and out.endswith("\n")
    assert "nothing to write" in said(capsys, [*ASK, "--gpu", "4090", "--write", kind], EXIT_USAGE)


def fake_vllm(path: Path, says: str) -> Path:
    """An environment whose interpreter answers as one with vLLM would."""
    (path / "bin").mkdir(parents=True)
    python = path / "bin" / "python"
    python.write_text(
        f"#!/bin/sh\ncase \"$2\" in *importlib.metadata*) echo 0.25.1;; *) cat >/dev/null; echo '{says}';; esac\n"
    )
    python.chmod(0o755)
    script = path / "bin" / "vllm"
    script.write_text(f"#!{python}\n")
    script.chmod(0o755)
    return path


def test_the_parser_of_an_installed_vllm_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = fake_vllm(tmp_path / "good", 'QTOP-PARSER:{"version": "0.25.1"}')
    found = installed(str(good))
    assert found is not None and found.version == (0, 25, 1) and found.argv[0] == str(good / "bin" / "python")
    assert installed(str(good / "bin" / "vllm")) == found
    assert checked(WORDS, found) == (True, "checked with its own parser (vLLM 0.25.1)")
    bad = installed(str(fake_vllm(tmp_path / "bad", 'QTOP-PARSER:{"refused": "invalid choice"}')))
    accepted, text = checked([*WORDS[:3], "--kv-cache-dtype", "fp99"], bad)
    assert accepted is False and "invalid choice" in text
    out = said(capsys, [*ASK, "--gpu", "h100", "--vllm", str(good)])
    assert "checked with its own parser (vLLM 0.25.1)" in out


def test_a_version_alone_checks_nothing() -> None:
    found = installed("0.25.1")
    assert found == Installed((0, 25, 1), "0.25.1") and checked(WORDS, found)[0] is None
    assert checked(WORDS, None)[0] is None
    with pytest.raises(QtopError, match="no vLLM at"):
        installed("/bin/nothing-here")
    with pytest.raises(QtopError, match=r"has no vLLM|cannot be run"):
        installed("/bin/sh")


def test_flags_are_those_that_differ_from_the_defaults() -> None:
    h100 = card(exactly("H100"))
    assert words(make(Wish(model=QWEN, gpu=h100))) == ["vllm", "serve", QWEN.name]
    plan = make(Wish(model=QWEN, gpu=h100, gpus=2, context=4096, weights="fp8", kv="fp8", utilization=0.5, eager=True))
    assert words(plan)[3:] == [
        "--tensor-parallel-size", "2", "--max-model-len", "4096", "--gpu-memory-utilization", "0.5",
        "--kv-cache-dtype", "fp8", "--quantization", "fp8", "--enforce-eager",
    ]  # fmt: skip


def test_weights_that_need_a_checkpoint_are_not_served_from_another(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*ASK, "--gpu", "4090d", "--context", "8K", "--weights", "int4"]
    assert "vllm serve INT4-CHECKPOINT-OF-Qwen3-4B-Instruct-2507 " in said(capsys, argv)
    assert "need a checkpoint of their own" in said(capsys, [*argv, "--write", "shell"], EXIT_USAGE)
    held = decoder(PRESETS[2].config | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    own = msgspec.structs.replace(QWEN, name="own/awq", shape=held)
    assert words(asked(model=own, context=8192))[2] == "own/awq"


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("gpu", ["RTX 4090 D", "H100", "L4"])
def test_the_guides_scenarios_reach_their_purpose(name: str, gpu: str) -> None:
    found = recompute(SCENARIOS[name], Wish(model=QWEN, gpu=card(exactly(gpu))))
    assert found.reached is not None and found.reached.fits
    assert found.reached.at_once >= SCENARIOS[name].seqs
    if name == "long":
        assert found.wished.fits == (gpu == "H100")
        expected = {"H100": (262_144, "auto"), "RTX 4090 D": (262_144, "int4"), "L4": (131_072, "auto")}[gpu]
        assert (found.reached.serving.context, found.reached.serving.weights) == expected


def test_a_scenario_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = " ".join(said(capsys, [*ASK, "--gpu", "4090d", "--scenario", "long"]).split())
    assert "claims:" in out and "36.0 GiB of cache in bf16" in out and "wished: DOES NOT FIT" in out


def test_a_scenario_is_of_the_guides_model_on_its_card_unless_another_is_meant() -> None:
    parsed = build_parser().parse_args(["plan", "--scenario", "long"])
    wish = wish_of(_asked(parsed, None), Frame(0.0, 0.0))
    assert (wish.model.name, wish.gpu.name) == ("Qwen/Qwen3-4B-Instruct-2507", "RTX 4090 D")
    parsed = build_parser().parse_args(["plan", "--scenario", "long", "--model", "qwen3-8b", "--gpu", "L4"])
    wish = wish_of(_asked(parsed, None), Frame(0.0, 0.0))
    assert (wish.model.name, wish.gpu.name) == ("Qwen/Qwen3-8B", "L4")


@pytest.mark.parametrize(
    ("name", "shown", "form"),
    [
        ("qwen3-4b", "Qwen/Qwen3-4B", "bf16"),
        ("Qwen/Qwen3-4B-FP8", "Qwen/Qwen3-4B-FP8", "fp8"),
        ("Qwen3-4B-AWQ", "Qwen/Qwen3-4B-AWQ", "awq"),
        ("RedHatAI/Llama-3.1-8B-Instruct-quantized.w4a16", "RedHatAI/Llama-3.1-8B-Instruct-quantized.w4a16", "awq"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-7B-Instruct-v0.3", "bf16"),
        ("my-qwen3-4b-finetune", "my-qwen3-4b-finetune", "bf16"),
    ],
)
def test_a_name_that_holds_a_presets(name: str, shown: str, form: str) -> None:
    model = named_model(name)
    assert (model.name, form_of(model, "auto")) == (shown, form)


def test_another_release_is_not_taken_for_a_preset(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, ["plan", "--model", "qwen3-4b-2507", "--gpu", "L4"], EXIT_USAGE)
    assert "Did you mean Qwen3-4B-Instruct-2507 or Qwen3-4B-Thinking-2507?" in out
    assert "Give its folder" in said(capsys, ["plan", "--model", "Qwen3-4B-2612", "--gpu", "L4"], EXIT_USAGE)


def test_what_only_just_fits_says_so_and_what_is_too_long_names_the_longest() -> None:
    most = make(Wish(model=QWEN, gpu=card(exactly("RTX 4090 D")), context=0))
    assert most.fits and any("only just fits" in note for note in most.notes)
    half = make(Wish(model=QWEN, gpu=card(exactly("RTX 4090 D")), context=most.serving.context // 2))
    assert half.fits and not any("only just fits" in note for note in half.notes)
    short = Model("Qwen/Qwen3-4B", preset_decoder("Qwen3-4B"), "preset")
    long = make(Wish(model=short, gpu=card(exactly("RTX 4090 D")), context=262_144))
    assert [one.what for one in long.nearest] == ["a context of 40K"]


def test_the_bar_has_its_width_and_its_parts_the_total() -> None:
    for plan in (asked(), asked(context=8192), asked(model=msgspec.structs.replace(QWEN, checkpoint_bytes=10**11))):
        text = plan_text(plan, Extras(), ascii_only=True)
        (bar,) = [line for line in text.splitlines() if re.fullmatch(r"  [WKao.]{60}", line)]
        assert bar.count("W") == min(60, round(plan.memory.weights / plan.memory.total * 60))
        assert sum(part for _, part in parts(plan)) == pytest.approx(plan.memory.total)


def test_goals_fill_in_what_nobody_gave() -> None:
    latency, default = asked(goal="latency", context=8192), asked(context=8192)
    assert (latency.serving.seqs, latency.serving.budget) == (16, 2048) and default.serving.seqs == 256
    assert asked(goal="latency", context=8192, seqs=3).serving.seqs == 3
    assert asked(goal="throughput", context=8192).serving.budget > default.serving.budget
    long = asked(goal="long-context")
    assert long.fits and long.serving.context > 65_536


def test_the_host_is_judged_by_vllms_rule() -> None:
    few = judge(HostFacts(logical=4, cores=2, smt=True, memory=int(64 * GIB)), 1, 8 * GIB)
    assert few[0].enough is False and "2 + 1 cores" in few[0].told
    enough = judge(HostFacts(logical=16, cores=8, smt=True, memory=int(64 * GIB)), 1, 8 * GIB)
    assert enough[0].enough is True and enough[1].enough is True
    bare = judge(HostFacts(logical=4, cores=4, smt=False, memory=int(3 * GIB)), 1, 8 * GIB)
    assert bare[0].enough is True and bare[1].enough is False
    assert judge(HostFacts(), 2, GIB)[0].enough is None
    nodes = judge(HostFacts(logical=64, cores=32, nodes=2, gpu_node=1, gpu_cpus="32-63"), 1, GIB)
    assert any(line.what == "NUMA" and "node 1" in line.told and "32-63" in line.told for line in nodes)


def test_what_was_measured_says_what_it_means() -> None:
    told = meant(Measured(20e9, 400_000.0, ("tokenizer: not",)), 100_000)
    assert "250 ms of TTFT" in told[0] and "20.0 GB/s" in told[1] and told[2] == "tokenizer: not"


TOKENIZERS = """
class Tokenizer:
    @staticmethod
    def from_file(path):
        if "vocab" not in open(path).read():
            raise Exception("no vocabulary")  # as its Rust side does
        return Tokenizer()

    def encode(self, text):
        self.ids = [0] * (len(text) // 4)
        return self
"""


def test_the_tokenizer_is_timed_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bandwidth, "plan", lambda: Absent(Why.UNSUPPORTED, "too little memory is available"))
    place = folder(tmp_path / "own")
    argv = [*ASK, "--gpu", "h100", "--model", str(place), "--measure", "--prompt", "1000"]
    assert any("no tokenizer.json" in one for one in document(capsys, argv)["measured"])
    (place / "tokenizer.json").write_text("{}")
    library = tmp_path / "library"
    library.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(library))
    stub = library / "tokenizers.py"
    stub.write_text("raise ImportError")
    assert any("has the package tokenizers; name a vLLM" in one for one in document(capsys, argv)["measured"])
    stub.write_text(TOKENIZERS)
    assert any("cannot be read (Exception: no vocabulary" in one for one in document(capsys, argv)["measured"])
    (place / "tokenizer.json").write_text('{"vocab": 1}')
    told = document(capsys, argv)["measured"]
    assert any("tokens a second on one CPU; 1 000 tokens take" in one for one in told)
    assert any("too little memory" in one for one in told)


def frame() -> Frame:
    deriver, found = Deriver(), Frame(0.0, 0.0)
    for sample in islice(Recording(Path(H100)).samples(), 5):
        found = deriver.push(sample)
    return found


def test_the_card_here_is_read_and_not_inferred() -> None:
    seen = frame()
    found, count = gpu_here(seen)
    assert (found.total, count) == (85_017_493_504, 1) and found.source.startswith("NVML")
    assert isinstance(seen.gpus, tuple) and isinstance(seen.gpus[0].vram, VramSplit)
    blind = msgspec.structs.replace(seen.gpus[0].vram, others=Absent(Why.UNSUPPORTED, "no processes"))
    cards = (msgspec.structs.replace(seen.gpus[0], vram=blind),)
    alone_, _ = gpu_here(msgspec.structs.replace(seen, gpus=cards, server=Absent(Why.NOT_YET, "none")))
    assert alone_.others == 85_017_493_504 - blind.free, "whoever holds it: it is not free"
    served, _ = gpu_here(msgspec.structs.replace(seen, gpus=cards))
    assert served.others == 0
    unknown = msgspec.structs.replace(seen.gpus[0], mem_total=Absent(Why.DENIED, "no"))
    for gpus in ((unknown,), (), Absent(Why.UNSUPPORTED, "no driver")):
        with pytest.raises(QtopError, match=r"cannot be read|can be read here"):
            gpu_here(msgspec.structs.replace(seen, gpus=gpus))


def test_why_a_server_differs_from_its_plan() -> None:
    plan = make(Wish(model=QWEN, gpu=card(exactly("H100")), context=32_768, utilization=0.85))
    smaller = compare(plan, Seen("s", kv_tokens=plan.memory.tokens * 0.8))
    assert any("smaller than planned" in one for one in smaller.why)
    given = compare(plan, Seen("s", kv_tokens=1000.0, blocks_given=True))
    assert any("was given" in one for one in given.why)
    slow = compare(plan, Seen("s", tok_s=300.0, running=8.0, held=8000.0, cpu_wait=0.8, prompt_tok_s=4000.0))
    assert any("waits for a CPU 80 %" in one for one in slow.why) and any(
        "tokens of prompts" in one for one in slow.why
    )
    well = compare(plan, Seen("s", kv_tokens=float(plan.memory.tokens), tok_s=1600.0, running=8.0, held=8000.0))
    assert not well.why and len(well.rows) == 2
    fast = compare(plan, Seen("s", tok_s=9000.0, running=1.0, held=100.0))
    assert any("faster than the bound" in one for one in fast.why)
