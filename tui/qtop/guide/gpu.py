"""Section 2.1: what the GPU can do. G1 to G7."""

from __future__ import annotations

from qtop.guide.claim import Checked, Claim, Known, elsewhere, holds, untold, wrong
from qtop.guide.seen import PATIENT, Seen, State, Stop
from qtop.model.gpu_link import LANE, Link
from qtop.model.roofline import bandwidth_of
from qtop.plan.budget import KV_TOKEN
from qtop.sample import Absent, Reading
from qtop.units import GIB, number, percent, rate_bytes, size

SECTION = "2.1 What the GPU can do"
TOKEN_BYTES = 4
"""Of a token's number, as it goes to the GPU."""
LOADED = 0.5
"""Utilization from which a GPU is under load."""
BOUND, CLOGGED = 0.70, 0.80
"""Share of the memory's bandwidth, and of the link, from which each is the limit (facts on the rules)."""
HOT = 0.05
"""Share of the time slowed down by heat."""
FLAT, SWINGING = 0.90, 0.20
"""Utilization above which it is no symptom; the least swing that is one."""
LONG = 32_768
"""Tokens from which a context is long."""
GUIDES_GB = 18.2


def _g1(seen: Seen) -> Checked:
    name = seen.gpu_name
    memory = size(seen.told(seen.gpu.mem_total, "its memory"))
    if not seen.is_guides_card:
        return elsewhere(f"{name}, {memory}", "another card than the guide's")
    return wrong(f"{name}, {memory}", "the chip has 4 tensor cores on each of its 114 multiprocessors, 456 in all")


def _g2(seen: Seen) -> Checked:
    name = seen.gpu_name
    peak = bandwidth_of(seen.gpu)
    if peak is None:
        return untold(name, "neither memory clock and bus width nor a data sheet tell its bandwidth")
    measured = f"{peak / 1e9:.0f} GB/s ({name})"
    if "4090" not in name:
        return elsewhere(measured, "another card than the guide's two")
    note = "by the highest memory clock and the bus width"
    return wrong(measured, note) if abs(peak - 1.008e12) < 0.03e12 else untold(measured, f"{note}: an unusual memory")


def _dram(seen: Seen) -> tuple[Reading[float], str]:
    """Share of the memory's bandwidth in use, and how that is known."""
    if not isinstance(seen.gpu.dram, Absent):
        return seen.gpu.dram, "GPM"
    return seen.frame.dram_inferred, "inferred from the steps taken"


def _g3(seen: Seen) -> Checked:
    peak, shape = bandwidth_of(seen.gpu), seen.shape
    note = ""
    if peak is not None:
        one = KV_TOKEN * 131_072
        note = (
            f"at 128K the cache of one request of Qwen3-4B, {one / 1e9:.1f} GB, takes {one / peak * 1e3:.1f} ms a token"
        )
    running = seen.running
    pool, use = seen.engine.kv_capacity_tokens, seen.engine.kv_use
    dram, how = _dram(seen)
    if isinstance(pool, Absent) or isinstance(use, Absent) or shape is None:
        return untold("", f"how much cache is held, or the model's shape, is not known; {note}".rstrip("; "))
    held = pool * use
    part = held * shape.kv_token / (held * shape.kv_token + shape.weights)
    measured = f"KV {percent(part)} of a step's bytes"
    if isinstance(dram, Absent):
        return untold(measured, f"how busy the memory is, is not known ({dram}); {note}".rstrip("; "))
    measured += f"; DRAM {percent(dram)}"
    note = f"DRAM by {how}; contexts of {number(round(held / running))} tokens; {note}".rstrip("; ")
    if dram >= BOUND and part >= 0.5:
        return holds(measured, note)
    if held / running < LONG:
        return untold(measured, f"no long contexts now; {note}", action="")
    return wrong(measured, note, action="")


def _g4(seen: Seen) -> Checked:
    gpu = seen.gpu
    received, limit = seen.told(gpu.pcie_rx_s, "what PCIe carries"), gpu.pcie_capacity_s
    prompts = seen.told(seen.engine.prompt_tok_s, "how many prompt tokens come")
    measured = f"{rate_bytes(received)} to the GPU"
    share = gpu.pcie_share
    if not isinstance(limit, Absent) and not isinstance(share, Absent):
        measured = f"{percent(share)} of the link used ({rate_bytes(received)} in)"
    if prompts <= 0:
        return untold(measured, "no prompt is being read now")
    ids = prompts * TOKEN_BYTES
    part = f", {_small(ids / limit)} of it" if not isinstance(limit, Absent) and limit > 0 else ""
    note = f"{number(round(prompts))} prompt tokens a second are {rate_bytes(ids)}{part}"
    if not isinstance(share, Absent) and share >= CLOGGED:
        return wrong(measured, f"{note}: the link is full of something else")
    return wrong(measured, note, action="")


def _small(share: float) -> str:
    return "under 0.01 %" if share < 1e-4 else f"{share * 100:.2g} %"


def _g4b(seen: Seen) -> Checked:
    gpu = seen.gpu
    allowed = seen.told(gpu.pcie_max, "what GPU and slot allow")
    judged = gpu.pcie_judged
    measured = f"{allowed} possible, {gpu.pcie} now" if not isinstance(gpu.pcie, Absent) else allowed
    note = f"under load: {judged}" if not isinstance(judged, Absent) else str(judged)
    bad = not isinstance(judged, Absent) and judged in (Link.NARROW, Link.SLOW)
    action = None if bad else ""
    return (holds if allowed == "gen4 x16" else wrong)(measured, note, action=action)


def _g5(seen: Seen) -> Checked:
    gpu = seen.gpu
    duty = gpu.duty_window or gpu.duty
    heats = [duty[name] for name in ("sw_thermal", "hw_thermal") if name in duty]
    known = [heat for heat in heats if not isinstance(heat, Absent)]
    if not known:
        raise Stop(State.CANNOT_TELL, "the driver does not count the time under each clock limit")
    heat = max(known)
    cap = duty.get("power_cap")
    window = f"{gpu.duty_window_s:.0f} s" if gpu.duty_window and gpu.duty_window_s >= 1 else "tick"
    measured = f"slowed by heat {percent(heat)} of the last {window}"
    temperature = "" if isinstance(gpu.temp_c, Absent) else f"{gpu.temp_c} °C"
    margin = "" if isinstance(gpu.margin_c, Absent) else f"{gpu.margin_c} °C below the limit"
    power = (
        "" if cap is None or isinstance(cap, Absent) else f"at the power limit {percent(cap)} of it, which is no heat"
    )
    note = "; ".join(part for part in (temperature, margin, power) if part)
    if heat >= HOT:
        return holds(measured, note)
    if not isinstance(gpu.util, Absent) and gpu.util >= LOADED:
        return wrong(measured, note, action="")
    return untold(measured, f"the GPU is not under load; {note}".rstrip("; "), action="")


def _g6(seen: Seen) -> Checked:
    gpu = seen.gpu
    util = seen.told(gpu.util, "the GPU's utilization")
    low = util if isinstance(gpu.util_min, Absent) else min(util, gpu.util_min)
    high = util if isinstance(gpu.util_max, Absent) else max(util, gpu.util_max)
    span = f"util {percent(util)}" if high - low < 0.01 else f"util {low * 100:.0f}–{high * 100:.0f} %"
    if not isinstance(seen.engine.running, Absent) and seen.engine.running <= 0:
        return untold(span, "no request runs: a pause between requests is no starving", action="")
    running, wait = seen.running, seen.wait
    measured = f"{span}; engine waits {percent(wait)}"
    note = f"{number(running)} running; its longest-waiting critical thread waits {percent(wait)} of the time for a CPU"
    if wait >= PATIENT and low < FLAT:
        return holds(measured, f"it does wait, and that wait shows it, not the swing; {note}")
    if low >= FLAT or high - low < SWINGING:
        return wrong(measured, f"the symptom is not there; {note}", action="")
    return wrong(measured, f"it swings, and nothing waits for a CPU; {note}", action="")


def _g7(seen: Seen) -> Checked:
    server = seen.vllm
    gpu = seen.gpu
    split = gpu.vram
    if isinstance(split, Absent) or isinstance(split.server, Absent):
        raise Stop(State.CANNOT_TELL, "the driver does not say how much of the memory is the server's")
    share = seen.number("gpu_memory_utilization")
    held = split.server / GIB
    one = seen.setting("gpu_memory_utilization")
    measured = f"{held:.1f} GiB" + ("" if share is None else f" at utilization {share:g}")
    note = f"{one.source}; {one.note}".rstrip("; ") if one is not None else ""
    if abs(held - GUIDES_GB) < 0.3 and one is not None and one.source.startswith("default"):
        return holds(measured, note)
    version = "" if isinstance(server.version, Absent) else f" of vLLM {server.version}"
    default = "0.92" if seen.since(0, 20) else "0.9"
    return wrong(measured, f"the default{version} is {default}, whatever the card; {note}".rstrip("; "))


CLAIMS = (
    Claim(
        "G1",
        SECTION,
        "1152 tensor cores",
        "The RTX 4090 D has 24 GB and 1152 tensor cores.",
        "It has 114 multiprocessors, 14592 CUDA cores and 456 tensor cores, 72 MB of L2 cache and a limit of 425 W. "
        "The driver spells it `NVIDIA GeForce RTX 4090 D`; cards rebuilt to 48 GB exist, so qtop reads the memory and "
        "never takes it from the name.",
        (Known.DOCUMENTED,),
        _g1,
    ),
    Claim(
        "G2",
        SECTION,
        "the 4090D's memory is slower",
        "The 4090 D reads its memory at 1 TB/s, the 4090 at 1.2 TB/s.",
        "Both have a bus of 384 bits at 21 Gbit/s: 1008 GB/s each. qtop takes 2 × the highest memory clock × the bus "
        "width from the driver.",
        (Known.DOCUMENTED, Known.COMPUTED),
        _g2,
    ),
    Claim(
        "G3",
        SECTION,
        "long context: KV is the limit",
        "With contexts of 128K, loading the KV cache is the first limit that one meets.",
        "Right in its direction: each step of decoding reads the weights once and the whole cache of every running "
        f"request. 128K of Qwen3-4B in bf16 are {KV_TOKEN * 131_072 / 1e9:.1f} GB, 19 ms a token on a 4090. The memory "
        f"is the limit from about {percent(BOUND)} of its bandwidth up.",
        (Known.COMPUTED,),
        _g3,
        "Less to read: `--kv-cache-dtype fp8`, quantised weights, speculative decoding, shorter contexts. All but the "
        "last need a restart.",
        ("QT130",),
    ),
    Claim(
        "G4",
        SECTION,
        "prompts clog PCIe",
        "Prompts that the CPU keeps feeding to the GPU clog the PCIe link.",
        "A prompt goes over as token numbers: 256K tokens are 1 MB, 42 µs of a gen 4 link. What does load it: reading "
        "the weights at the start, `--cpu-offload-gb` (read anew every step), `--kv-offloading-size`, tensor "
        "parallelism without peer-to-peer, loading adapters, waking up.",
        (Known.COMPUTED, Known.SOURCE),
        _g4,
        "Find what else uses the link: offloading flags, another process (screen `g`).",
        ("QT112",),
    ),
    Claim(
        "G4b",
        SECTION,
        "PCIe 4.0 x16",
        "Most such hosts have PCIe 4.0 x16.",
        f"A fact about the platform; gen 4 x16 carries {LANE[4] * 16 / 1e9:.0f} GB/s each way. A link slows down when "
        "idle by design: it is judged only after some seconds under load, against what GPU and slot allow.",
        (Known.DOCUMENTED,),
        _g4b,
        "Narrower or slower than the slot under load: reseat the card, try another slot, see the firmware's setting.",
        ("QT111",),
    ),
    Claim(
        "G5",
        SECTION,
        "throttles early from heat",
        "The card soon slows down from heat under lasting load, more so with batches above 1 and flash attention.",
        "Flash attention is no cause of it. A GPU at its power limit is not hot: the driver counts the two apart, in "
        "nanoseconds under each limit. Heat matters from about 5 % of the time.",
        (Known.MEASURED, Known.DOCUMENTED),
        _g5,
        "Better air. As root and until the next boot: `nvidia-smi -i N -pl WATTS` lowers the power limit, cooler and "
        "somewhat slower; the default limit undoes it.",
        ("QT101", "QT102", "QT103"),
    ),
    Claim(
        "G6",
        SECTION,
        "swinging util = waits for CPU",
        "Utilization that jumps between 65 and 85 % while VRAM stays flat shows that the GPU waits for the CPU.",
        "VRAM is always flat: vLLM takes it at the start. Utilization is the share of time with any kernel running, "
        "over a sixth of a second to a second, and reads 99 with one request in flight. It swings between requests "
        "too. The CPU is to blame where requests run and the engine's thread waits for a CPU, or the host leaves gaps.",
        (Known.SOURCE, Known.MEASURED),
        _g6,
        "`qtop apply cpu-affinity`, or move the neighbours away. At a restart: `--stream-interval 4`, "
        "`--api-server-count 2`; leave CUDA graphs and async scheduling on.",
        ("QT201", "QT208"),
    ),
    Claim(
        "G7",
        SECTION,
        "18.2 GB of VRAM by default",
        "With its defaults the server holds 18.2 GB of VRAM.",
        "vLLM takes 0.92 of the memory since 0.20 (0.90 before): 21.7 of the 23.6 GiB that a 4090 has. 18.2 is no "
        "default of it.",
        (Known.SOURCE,),
        _g7,
    ),
)
