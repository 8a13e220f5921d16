"""Section 2.3: the flags of the launch command. G12 to G16."""

from __future__ import annotations

from qtop.guide.claim import Checked, Claim, Known, holds, untold, wrong
from qtop.guide.seen import Seen, Stop
from qtop.plan.budget import BF16, KV_TOKEN, LONGEST
from qtop.plan.memory import full_length_requests
from qtop.sample import Absent
from qtop.units import GIB, NONE, number, percent, size

SECTION = "2.3 Flags of the launch command"
OLD_MODULE = "vllm.entrypoints.api_server"
STEP = 0.05


def _source(seen: Seen, name: str) -> str:
    """Where a setting comes from."""
    one = seen.setting(name)
    return "" if one is None else f"{one.source}; {one.note}".rstrip("; ")


def _g12(seen: Seen) -> Checked:
    seen.vllm  # noqa: B018 - what it is about
    share = seen.number("gpu_memory_utilization")
    if share is None:
        raise Stop(untold("").state, "the server's gpu_memory_utilization is not told")
    gpu = seen.gpu
    measured = f"{share:g}"
    if isinstance(gpu.vram, Absent):
        return untold(measured, f"where the memory is, is not told ({gpu.vram})")
    measured += f": {size(gpu.vram.free)} free"
    kv = seen.shape.kv_token if seen.shape is not None else KV_TOKEN
    worth = STEP * seen.budget.total / kv
    note = f"{STEP:g} less takes {number(round(worth, -2))} tokens from the cache of this GPU"
    if isinstance(gpu.pcie_share, Absent):
        return untold(measured, f"what PCIe carries is not told ({gpu.pcie_share}); {note}")
    return wrong(f"{measured}, PCIe {percent(gpu.pcie_share)} used", note)


def _g12b(seen: Seen) -> Checked:
    here = seen.budget
    need = LONGEST * KV_TOKEN
    rows = []
    for share in (0.85, 0.92):
        room = here.pool(BF16, share)
        rows.append(
            f"utilization {share:g}: {room / GIB:.1f} GiB of cache, 256K in bf16 take {need / GIB:.1f}: "
            f"{here.fits(BF16, share, 'refused at the start')}"
        )
    at = here.pool(BF16, 0.85)
    measured = seen.on_card(f"{at / GIB:.1f} GiB of cache at 0.85; needs {need / GIB:.1f}")
    if not here.real:
        return untold(measured, f"no GPU here: reckoned for the guide's {here.name}", tuple(rows), "")
    return wrong(measured, "the higher of the two has more room, never less", tuple(rows), None if at < need else "")


def _g13(seen: Seen) -> Checked:
    server = seen.vllm
    longest = seen.told(server.max_model_len, "the longest context")
    fits = full_length_requests(seen.frame.kv_tokens, longest)
    measured = f"{number(longest)} tokens" + ("" if isinstance(fits, Absent) else f", {number(fits)} such fit")
    one = seen.setting("max_model_len")
    source = one.source if one is not None else ""
    if source in ("command line", "config file"):
        return untold(measured, f"set by the {source}: what it would be otherwise does not show", action="")
    if source == "" or longest != LONGEST:
        return untold(measured, "whether somebody set it is not known", action="")
    return wrong(measured, "nobody set it, and it is the model's own length", action="")


def _g14(seen: Seen) -> Checked:
    seen.vllm  # noqa: B018 - what it is about
    value = seen.value("enable_chunked_prefill")
    budget = seen.number("max_num_batched_tokens")
    step = "" if budget is None else f", {number(budget)} tokens a step"
    source = _source(seen, "enable_chunked_prefill")
    if value == "on":
        return wrong(f"on{step}", f"{source}: without it in the command it is on as well" if source else "", action="")
    if value == "off":
        return holds(f"off{step}", source)
    return untold(f"not told{step}", "neither the command line nor the server says")


def _g15(seen: Seen) -> Checked:
    seen.vllm  # noqa: B018 - what it is about
    value, dtype = seen.value("kv_cache_dtype"), seen.value("dtype")
    if not value:
        return untold("", "the cache's type is not told")
    measured = f"{value}, model {dtype}" if dtype else value
    source = _source(seen, "kv_cache_dtype")
    if value in ("auto", dtype):
        return wrong(measured, f"{source}: the cache is of the model's type, nothing is converted", action="")
    if value == "float16" and dtype == "bfloat16":
        return holds(measured, f"{source}: another type than the model's")
    return wrong(measured, f"{source}: fp16 is no value of this flag", action="")


def _g16(seen: Seen) -> Checked:
    server = seen.vllm
    if isinstance(server.argv, Absent):
        raise Stop(untold("").state, f"its command line is not known ({server.argv})")
    module = next((word for word in server.argv[:6] if word.startswith("vllm.") or "/vllm/entrypoints/" in word), "")
    version = NONE if isinstance(server.version, Absent) else str(server.version)
    if module == OLD_MODULE:
        return holds(f"{version}: {module}", "a demo without /metrics; 0.25 has it no more")
    if not module and "serve" not in server.argv:
        return untold(version, "it is started by a program of its own")
    gone = "the old module is gone at 0.25" if seen.version and seen.since(0, 25) else "0.25 has the old one no more"
    short = ".".join(module.removesuffix(".py").replace("/", ".").split(".")[-2:])
    return wrong(f"{short or 'vllm serve'}, {version}", gone, action="")


CLAIMS = (
    Claim(
        "G12",
        SECTION,
        "util 0.85 leaves PCIe room",
        "`--gpu-memory-utilization 0.85`, not 0.9, leaves 15 % as a buffer for PCIe.",
        "It bounds weights, activations, graphs and cache of this one server; nothing of it is for PCIe. Lower means "
        "less cache and so fewer requests at once. What has to stay free is some hundred MiB for whatever else uses "
        "the GPU.",
        (Known.SOURCE, Known.MEASURED),
        _g12,
        "At a restart: as high as keeps about 600 MiB free (the default is 0.92 since 0.20), or exactly, with "
        "`--kv-cache-memory-bytes`.",
        ("QT120", "QT406", "QT407"),
    ),
    Claim(
        "G12b",
        SECTION,
        "0.85 ends OOM at 256K",
        "0.85 alone took the share of OOM at 256K from 37 % to 0.",
        "vLLM reckons at the start: where one request of the full length does not fit, it refuses to start. On 24 GB "
        "that is so at every utilization, since 256K in bf16 take 36.0 GiB. There is no share of it.",
        (Known.SOURCE, Known.COMPUTED),
        _g12b,
        "`--max-model-len auto` (since 0.14) takes what fits.",
        ("QT402",),
    ),
    Claim(
        "G13",
        SECTION,
        "context must be set to 262144",
        "Without `--max-model-len 262144` prompts are cut off.",
        "The default is the model's own length, 262144 here. A prompt that is too long is answered with HTTP 400, "
        "never cut. `auto` takes the largest that the cache holds.",
        (Known.SOURCE, Known.TESTED),
        _g13,
        rules=("QT402", "QT504"),
    ),
    Claim(
        "G14",
        SECTION,
        "chunked prefill must be on",
        "`--enable-chunked-prefill` has to be given, against the peak of long prompts.",
        "It is on by default in the V1 engine, the only one since 0.12. What there is to turn: "
        "`--max-num-batched-tokens`, 2048 below 70 GiB of memory and 8192 from there: lower for even gaps between "
        "tokens, higher for an early first one.",
        (Known.SOURCE,),
        _g14,
        "Take `--no-enable-chunked-prefill` out of the command and restart.",
        ("QT404",),
    ),
    Claim(
        "G15",
        SECTION,
        "KV cache in fp16, not auto",
        "`--kv-cache-dtype fp16` saves the conversions that auto makes.",
        "`fp16` is refused: invalid choice. `auto` is the model's own type and converts nothing. `float16` on this "
        "bf16 model is an error in 0.33 and was accepted in 0.32. `fp8` halves the cache, at some risk to accuracy.",
        (Known.TESTED, Known.SOURCE),
        _g15,
        "Leave it at `auto`, or `fp8` for twice the tokens.",
        ("QT401",),
    ),
    Claim(
        "G16",
        SECTION,
        "start with api_server",
        "The server is started by `python -m vllm.entrypoints.api_server`.",
        "That module is gone at 0.25 and was a demo without /metrics before. `vllm serve MODEL` is the way.",
        (Known.TESTED,),
        _g16,
        "Start it with `vllm serve MODEL` and the same flags.",
        ("QT401",),
    ),
)
