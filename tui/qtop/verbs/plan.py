"""The verb plan: what fits, what is fast, and the command that starts it."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import time
from typing import Any

from qtop.act.launch_files import Installed, checked, installed, rendered
from qtop.collect import membw as bandwidth
from qtop.collect.model_files import find
from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError
from qtop.model.frame import Frame
from qtop.model.gpus import GPUS, named
from qtop.model.model_config import decoder
from qtop.model.presets import PRESETS, preset, preset_decoder
from qtop.model.vllm_defaults import NEWEST, version_of
from qtop.plan.command import unnamed, words
from qtop.plan.compare import compare
from qtop.plan.host import Measured, judge, meant
from qtop.plan.making import Wish, make
from qtop.plan.scenarios import SCENARIOS, recompute
from qtop.plan.serving import DTYPES, Card, Model, card
from qtop.plan.vram import spread_weights
from qtop.report.plan import Extras, plan_document, plan_text, wrapped
from qtop.sample import Absent
from qtop.units import GIB, number
from qtop.verbs.look import whole_of
from qtop.verbs.plan_live import cpu_here, gpu_here, host_alone, host_facts, look, on_cpu, seen
from qtop.verbs.terminal import is_plain, print_json

WIDEST = 110
SAMPLE = "The quantum state of two entangled particles cannot be described one by one. 量子纠缠是指两个粒子的状态。\n"
SAMPLE_TIMES = 400
"""So many of it are about 16 000 tokens."""


def plan(args: argparse.Namespace, settings: Settings) -> int:
    """Print the plan. Exit 0 where it fits, 1 where it does not."""
    if args.list:
        print(_list())
        return EXIT_OK
    vllm = installed(args.vllm)
    # A model and a card by name need no look at GPUs and servers; the host is told beside them all the same.
    beside = args.model is None or args.gpu in (None, "live")
    if args.source:
        frame = whole_of(args.source).frame
    elif beside:
        frame = look(args, settings)
    else:
        frame = host_alone()
    wish = _wish(args, frame, vllm)
    scenario = recompute(SCENARIOS[args.scenario], wish) if args.scenario else None
    made = make(wish) if scenario is None else (scenario.reached or scenario.wished)
    if args.write:
        if not made.fits:
            raise QtopError(f"nothing to write: {made.verdict}")
        if unnamed(made):
            raise QtopError(
                f"nothing to write: {made.serving.weights} weights need a checkpoint of their own",
                "Name it with --model.",
            )
        print(rendered(args.write, words(made), vllm, wish.gpus), end="")
        return EXIT_OK
    accepted, said = checked(words(made), vllm) if made.fits else (None, "")
    running = seen(frame) if beside else None
    extras = Extras(
        host_here=args.gpu in (None, "live"),
        host=judge(host_facts(frame, wish.gpu), wish.gpus, spread_weights(wish.model, made.serving) * wish.gpus),
        measured=meant(_measured(wish.model), wish.prompt or made.serving.context // 2) if args.measure else (),
        checked=accepted,
        checked_text=said,
        compared=compare(made, running) if running is not None and (args.model is None or _same(wish, frame)) else None,
        scenario=scenario,
    )
    if args.json:
        print_json(plan_document(made, extras))
    else:
        print(wrapped(plan_text(made, extras, is_plain()), _width()))
    return EXIT_OK if made.fits else EXIT_FINDING


def _width() -> int:
    """Columns to fill: those of the terminal, within reason."""
    return max(60, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns if sys.stdout.isatty() else WIDEST))


def _same(wish: Wish, frame: Frame) -> bool:
    """Whether the plan is of the model that runs here."""
    server = frame.server
    if isinstance(server, Absent) or isinstance(server.model, Absent):
        return False
    own = preset(server.model)
    return wish.model.name == server.model or (own is not None and own == preset(wish.model.name))


def _wish(args: argparse.Namespace, frame: Frame, vllm: Installed | None) -> Wish:
    """What was asked for; a running vLLM's own settings where nothing was, and its model and GPU are meant."""
    name = args.model
    own: dict[str, Any] = {}
    server = frame.server
    live = args.gpu in (None, "live")
    if name is None:
        if isinstance(server, Absent) or isinstance(server.model, Absent):
            raise QtopError("no server runs here to take the model from", "Name it with --model.")
        model = _served(frame, server.model)
        if live:
            own = _own(frame)
    else:
        model = _model(name)
    gpu, count = _gpu(args.gpu, frame)
    version = vllm.version if vllm is not None and args.vllm is not None else own.pop("version", None)
    own.pop("version", None)
    asked = {
        "context": args.context, "seqs": args.seqs, "budget": args.batched_tokens, "utilization": args.utilization,
        "weights": args.weights, "kv": args.kv, "eager": args.eager, "gpus": args.gpus,
        "pool_bytes": args.kv_memory, "dtype": args.dtype,
    }  # fmt: skip
    chosen = {"gpus": count if own else 1} | own | {key: value for key, value in asked.items() if value is not None}
    version = version or (vllm.version if vllm is not None else NEWEST)
    return Wish(model=model, gpu=gpu, goal=args.goal, version=version, prompt=args.prompt, **chosen)


def _own(frame: Frame) -> dict[str, Any]:
    """A running vLLM's settings."""
    server, view = frame.server, frame.settings
    if isinstance(server, Absent) or server.engine != "vllm" or isinstance(view, Absent):
        return {}
    found: dict[str, Any] = {}
    for key, name in (("context", "max_model_len"), ("seqs", "max_num_seqs"), ("budget", "max_num_batched_tokens"),
                      ("gpus", "tensor_parallel_size")):  # fmt: skip
        value = view.number(name)
        if value is not None and value >= 1:
            found[key] = int(value)
    space = view.number("kv_cache_memory_bytes") or (view.number("VLLM_CPU_KVCACHE_SPACE") or 0.0) * GIB
    if space > 0:
        found["pool_bytes"] = space
    dtype = view.get("dtype")
    if dtype is not None and dtype.value.removeprefix("torch.") in DTYPES:
        found["dtype"] = dtype.value.removeprefix("torch.")
    share = view.number("gpu_memory_utilization")
    if share is not None and 0 < share <= 1:
        found["utilization"] = share
    text = {name: one.value.lower() for name in ("kv_cache_dtype", "quantization", "enforce_eager")
            if (one := view.get(name)) is not None}  # fmt: skip
    if text.get("kv_cache_dtype", "").startswith("fp8"):
        found["kv"] = "fp8"
    if text.get("quantization") == "fp8":
        found["weights"] = "fp8"
    found["eager"] = text.get("enforce_eager") == "on"
    version = None if isinstance(server.version, Absent) else version_of(server.version)
    if version is not None:
        found["version"] = version
    return found


def _served(frame: Frame, served: str) -> Model:
    """The model of the server that runs here: the folder that it was started with where that can be read, else its
    name's."""
    told = None if isinstance(frame.settings, Absent) else frame.settings.get("model")
    for name in (told.value if told is not None else served, served):
        try:
            return _model(name)
        except QtopError:
            continue
    raise QtopError(
        f"the shape of {served}, which runs here, is not known: no config.json of it was found",
        "Give its folder with --model, or another model and a --gpu.",
    )


def _model(name: str) -> Model:
    """A folder, a config.json, a repository in the cache, or a preset."""
    files = find(name)
    if files is not None:
        shown = name.removesuffix("/config.json") or name
        return Model(shown, decoder(files.config), files.source, files.weight_bytes, files.tokenizer)
    known = preset(name)
    if known is None:
        raise QtopError(
            f"model {name} is neither a folder here, nor in the Hugging Face cache, nor a preset",
            "Give its folder or config.json; `qtop plan --list` says the presets.",
        )
    repository = known.source.removeprefix("huggingface.co/").split(" ")[0]
    shown = name if "/" in name else repository
    return Model(shown, preset_decoder(known.name), f"preset {known.name} ({known.source})")


def _gpu(name: str | None, frame: Frame) -> tuple[Card, int]:
    if name == "cpu" or (name in (None, "live") and on_cpu(frame)):
        return cpu_here(frame), 1
    if name in (None, "live"):
        return gpu_here(frame)
    assert name is not None
    known = named(name)
    if known is None:
        raise QtopError(
            f"GPU {name} is not known", f"Known are {', '.join(one.name for one in GPUS)}; or live, the one here."
        )
    return card(known), 1


def _measured(model: Model) -> Measured:
    """Tokenizer and memory, measured now."""
    missing: list[str] = []
    tokens_s = None
    if not model.tokenizer:
        missing.append("tokenizer: not measured, there is no tokenizer.json beside the model")
    else:
        try:
            tokenizers = importlib.import_module("tokenizers")
            read = tokenizers.Tokenizer.from_file(model.tokenizer)
            begin = time.perf_counter()
            count = len(read.encode(SAMPLE * SAMPLE_TIMES).ids)
            tokens_s = count / (time.perf_counter() - begin)
        except ImportError:
            missing.append("tokenizer: not measured, the package tokenizers is not installed beside qtop")
        except Exception as error:  # its Rust side raises bare exceptions
            missing.append(f"tokenizer: not measured, its tokenizer.json cannot be read ({str(error)[:80]})")
    found = None
    planned = bandwidth.plan()
    if isinstance(planned, Absent):
        missing.append(f"memory: not measured, {planned}")
    else:
        result = bandwidth.measure(planned)
        if isinstance(result, Absent):
            missing.append(f"memory: not measured, {result}")
        else:
            found = result.bytes_s
    return Measured(found, tokens_s, tuple(missing))


def _list() -> str:
    """Presets and GPUs with where their figures come from."""
    lines = ["Models (parameters, longest context, source)"]
    for one in PRESETS:
        shape = preset_decoder(one.name)
        lines.append(f"  {one.name:30} {shape.parameters / 1e9:7.2f} B  {number(shape.positions):>9}  {one.source}")
    lines += ["", "GPUs (GiB that CUDA sees, GB/s, dense bf16 and fp8 TFLOPS, PCIe)"]
    for gpu in GPUS:
        fp8 = f"{gpu.fp8 / 1e12:.0f}" if gpu.fp8 is not None else "–"
        rates = f"{gpu.bandwidth / 1e9:6.0f} {gpu.bf16 / 1e12:6.0f} {fp8:>5}"
        lines.append(f"  {gpu.name:15} {gpu.memory_gib:7.2f} {rates}  {gpu.pcie}")
    return "\n".join(lines)
