"""The verb plan: what fits, what is fast, and the command that starts it."""

from __future__ import annotations

import argparse
import shutil
import sys

from qtop.act.launch_files import Installed, checked, installed, rendered
from qtop.act.plan_here import Asked, host_facts, same_model, seen, wish_of
from qtop.act.tokenizer_speed import tokenizer_speed
from qtop.collect import membw as bandwidth
from qtop.config import Settings
from qtop.errors import EXIT_FINDING, EXIT_OK, QtopError
from qtop.model.gpus import GPUS
from qtop.model.presets import PRESETS, preset_decoder
from qtop.plan.command import unnamed, words
from qtop.plan.compare import compare
from qtop.plan.host import Measured, judge, meant
from qtop.plan.making import make
from qtop.plan.scenarios import SCENARIOS, recompute
from qtop.plan.serving import Model
from qtop.plan.vram import spread_weights
from qtop.report.plan import Extras, plan_document, plan_text, wrapped
from qtop.sample import Absent
from qtop.units import number
from qtop.verbs.look import whole_of
from qtop.verbs.plan_live import host_alone, look
from qtop.verbs.plan_screen import plan_screen
from qtop.verbs.terminal import is_plain, print_json

WIDEST = 110


def plan(args: argparse.Namespace, settings: Settings) -> int:
    """Print the plan. Exit 0 where it fits, 1 where it does not."""
    if args.list:
        print(_list())
        return EXIT_OK
    vllm = installed(args.vllm)
    if args.screen:
        return plan_screen(args, settings, _asked(args, vllm))
    # A model and a card by name need no look at GPUs and servers; the host is told beside them all the same.
    beside = args.model is None or args.gpu in (None, "live")
    if args.source:
        frame = whole_of(args.source).frame
    elif beside:
        frame = look(args, settings)
    else:
        frame = host_alone()
    wish = wish_of(_asked(args, vllm), frame)
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
        measured=meant(_measured(wish.model, vllm), wish.prompt or made.serving.context // 2) if args.measure else (),
        checked=accepted,
        checked_text=said,
        compared=compare(made, running)
        if running is not None and (args.model is None or same_model(wish.model, frame))
        else None,
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


def _asked(args: argparse.Namespace, vllm: Installed | None) -> Asked:
    """What the options say."""
    given = {
        "context": args.context, "seqs": args.seqs, "budget": args.batched_tokens, "utilization": args.utilization,
        "weights": args.weights, "kv": args.kv, "eager": args.eager, "gpus": args.gpus,
        "pool_bytes": args.kv_memory, "dtype": args.dtype,
    }  # fmt: skip
    return Asked(
        model=args.model,
        gpu=args.gpu,
        goal=args.goal,
        scenario=bool(args.scenario),
        prompt=args.prompt,
        version=vllm.version if vllm is not None else None,
        version_named=args.vllm is not None,
        given={key: value for key, value in given.items() if value is not None},
    )


def _measured(model: Model, vllm: Installed | None) -> Measured:
    """Tokenizer and memory, measured now."""
    missing: list[str] = []
    tokens_s = None
    if not model.tokenizer:
        missing.append("tokenizer: not measured, there is no tokenizer.json beside the model")
    else:
        pythons = [*(vllm.argv[:1] if vllm is not None else ()), sys.executable]
        speed = tokenizer_speed(model.tokenizer, pythons)
        if isinstance(speed, str):
            missing.append(f"tokenizer: not measured, {speed}")
        else:
            tokens_s = speed
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
