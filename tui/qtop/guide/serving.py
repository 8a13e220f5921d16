"""Section 4: the three first checks, each done the way that works, the settings of requests, the acceptance test. G26
to G31."""

from __future__ import annotations

from qtop.guide.claim import Checked, Claim, Known, elsewhere, holds, untold, wrong
from qtop.guide.cpu import quota_text
from qtop.guide.seen import Seen, State, Stop
from qtop.model.roofline import gpus_of_server
from qtop.plan.budget import BF16
from qtop.sample import Absent, Reading, cpulist
from qtop.sample.settings import ENVIRONMENT
from qtop.units import NONE, milliseconds, number, percent

FIRST, REQUESTS, ACCEPTANCE = (
    "4.1 Three first checks",
    "4.2 Settings of requests",
    "4.3 What the card should reach",
)
TTFT_MS, E2E_MS, TOKENS = 240.0, 1_100.0, 256
"""The guide's line."""
HUB = "~/.cache/huggingface"


def _visible(seen: Seen) -> str:
    """What the API server's environment says of GPUs."""
    server = seen.server
    if ENVIRONMENT in server.settings_missing or isinstance(server.settings, Absent):
        why = server.settings_missing.get(ENVIRONMENT, server.settings)
        return f"its environment could not be read ({why})"
    told = [
        f"{name}={seen.value(name)}" for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES") if seen.value(name)
    ]
    return ", ".join(told) or "CUDA_VISIBLE_DEVICES is not set"


def _g26(seen: Seen) -> Checked:
    gpus = seen.frame.gpus
    listed = seen.gpus if isinstance(gpus, Absent) else gpus
    server = seen.server
    own = gpus_of_server(listed)
    told = any(not isinstance(gpu.vram, Absent) and not isinstance(gpu.vram.server, Absent) for gpu in listed)
    if not seen.gpus:
        raise Stop(State.NOT_APPLICABLE, "no GPU")
    visible = _visible(seen)
    if not own or not told:
        where = "; inside a container the driver may not show processes" if server.in_container else ""
        return untold(f"{len(listed)} listed, the server's not told", f"{visible}{where}")
    place = ", ".join(str(gpu.index) for gpu in own)
    measured = f"{len(listed)} listed, server on GPU {place}"
    note = f"{visible}; by the driver's processes: {', '.join(str(gpu.name) for gpu in own)}"
    if len(own) < len(listed):
        return wrong(measured, f"the list says nothing of what the server uses; {note}", action="")
    return holds(measured, note, action="")


def _near(seen: Seen) -> str | None:
    """CPUs near the server's first GPU; None where that is not known."""
    try:
        near = seen.gpu.local_cpus
    except Stop:
        return None
    return None if isinstance(near, Absent) else near


def _g27(seen: Seen) -> Checked:
    sched = seen.sched
    allowed = seen.told(sched.allowed, "the CPUs that the server may use")
    mine = cpulist.parse_or_empty(allowed)
    online = seen.frame.host
    parts = [f"may use {allowed}"]
    notes, narrow = [], False
    if not isinstance(sched.cpuset, Absent):
        group = cpulist.parse_or_empty(sched.cpuset)
        parts.append(f"cgroup allows {sched.cpuset}")
        if mine and mine < group:
            narrow = True
            notes.append(f"narrower than its cgroup allows by {len(group - mine)} CPUs")
    near = _near(seen)
    if near is not None:
        notes.append(f"{len(mine & cpulist.parse_or_empty(near))} of them near the GPU ({near})")
    if not isinstance(online, Absent):
        notes.append(f"the host has {online.cpus}")
    quota = quota_text(sched.quota)
    notes += [quota] if quota else []
    notes.insert(0, "read from the running server's threads and its cgroup")
    note = "; ".join(notes)
    return wrong(", ".join(parts), note.rstrip("; "), action=None if narrow else "")


def _g28(seen: Seen) -> Checked:
    server = seen.server
    model = seen.value("tokenizer") or seen.value("model")
    if model.startswith(("/", "./", "~", "../")):
        return wrong("model in a local folder: no cache", "the tokenizer is read from the model's own folder")
    if isinstance(server.settings, Absent) or ENVIRONMENT in server.settings_missing:
        return untold("", f"where it caches is not known: {_visible(seen)}")
    for name, below in (("HF_HUB_CACHE", ""), ("HF_HOME", "/hub")):
        if seen.value(name):
            return wrong(f"cache in ${name}{below}", f"{name}={seen.value(name)}")
    if server.engine not in ("vllm", "sglang", "tgi"):
        return elsewhere(seen.engine_name, "it does not use this cache")
    return wrong(f"{HUB}/hub", "neither HF_HOME nor HF_HUB_CACHE is told: the default place")


def _g29(seen: Seen) -> Checked:
    return untold(seen.engine_name, "no metric tells which requests stream; qtop reads none of them")


def _g30(seen: Seen) -> Checked:
    server = seen.vllm
    fall = seen.frame.waterfall
    tokens: Reading[float] = fall if isinstance(fall, Absent) else fall.tokens
    measured = (
        "length of answers not told" if isinstance(tokens, Absent) else f"{number(round(tokens))} tokens an answer"
    )
    notes = []
    reasons = None if isinstance(seen.frame.engine, Absent) else seen.frame.engine.finished_by_reason
    if reasons is not None and not isinstance(reasons, Absent):
        whole = sum(reasons.values())
        if whole > 0:
            measured += f", {percent(reasons.get('length', 0.0) / whole)} cut"
            notes.append("cut: ended at the limit that its request set")
    override = seen.setting("override_generation_config") or seen.setting("generation_config")
    if override is not None:
        notes.append(f"{override.name} is given ({override.source})")
    if seen.version is None:
        return untold(measured, "this vLLM does not tell its version; " + "; ".join(notes))
    return wrong(measured, "; ".join([f"--max-new-tokens is no flag of vLLM {server.version}", *notes]))


def _g31(seen: Seen) -> Checked:
    server = seen.vllm
    if isinstance(server.argv, Absent):
        raise Stop(State.CANNOT_TELL, f"its command line is not known ({server.argv})")
    words = server.argv[:6]
    if "vllm.entrypoints.api_server" in words:
        return holds("the old module: /generate is there", "but `.text` is a list with the prompt in it")
    if "serve" in words or any("openai" in word for word in words):
        return wrong("OpenAI routes only: no /generate", f"vLLM {server.version}; by its command line")
    return untold(NONE, "it is started by a program of its own, whose routes are not known")


def _g31b(seen: Seen) -> Checked:
    here = seen.budget
    floor = None
    worked: list[str] = []
    fastest = here.tok_s(BF16, 1, 0)
    if fastest is not None and here.bandwidth is not None and not seen.is_quantised:
        floor = TOKENS / fastest * 1000.0
        name = here.name if here.real else f"the guide's {here.name}"
        worked = [
            f"{name}: {here.bandwidth / 1e9:.0f} GB/s read the bf16 weights {fastest:.0f} times a second, so {TOKENS} "
            f"tokens take {floor / 1000:.2f} s or more",
        ]
    latency = seen.frame.latency
    if isinstance(latency, Absent) or isinstance(latency.ttft, Absent) or isinstance(latency.itl, Absent):
        measured = "no latencies" if floor is None else seen.on_card(f"{TOKENS} tokens take ≥ {floor / 1000:.2f} s")
        if floor is not None and floor > E2E_MS and here.real and seen.is_guides_model:
            return wrong(measured, "impossible in bf16 on this GPU", tuple(worked))
        return untold(measured, "no request finished while qtop looked", tuple(worked))
    ttft, itl = latency.ttft.mean_ms, latency.itl.mean_ms
    if isinstance(ttft, Absent) or isinstance(itl, Absent):
        return untold("", "no latencies in the window", tuple(worked))
    whole = ttft + (TOKENS - 1) * itl
    running = seen.engine.running
    measured = f"TTFT {milliseconds(ttft)}, {TOKENS} tokens {whole / 1000:.1f} s"
    note = f"means of {latency.seconds:.0f} s; {TOKENS} tokens by TTFT and the gap of {milliseconds(itl)}"
    if floor is not None and floor > E2E_MS and here.real and seen.is_guides_model:
        return wrong(measured, f"impossible in bf16 on this GPU; {note}", tuple(worked))
    if isinstance(running, Absent) or running > 1:
        many = "several" if isinstance(running, Absent) else number(running)
        return untold(measured, f"{many} requests share the GPU, the line is for one alone; {note}", tuple(worked))
    met = ttft <= TTFT_MS and whole <= E2E_MS
    return (holds if met else wrong)(measured, note, tuple(worked))


CLAIMS = (
    Claim(
        "G26",
        FIRST,
        "check 1: which GPUs",
        "`nvidia-smi -L` in the container has to list one GPU, a 4090D; else start it with `--gpus device=0`.",
        "nvidia-smi pays no heed to CUDA_VISIBLE_DEVICES: it lists what the container was given. What the server uses "
        "is in the environment of its API server (that of EngineCore is wiped) and in the driver's list of processes.",
        (Known.TESTED, Known.DOCUMENTED),
        _g26,
        "Screen `g` shows the server's share of each GPU; in a container qtop needs `--pid=host` to see processes.",
        ("QT121",),
    ),
    Claim(
        "G27",
        FIRST,
        "check 2: which CPUs",
        "`taskset -c 0-15 python -c …memory_allocated()…` has to print more than 0; else restart the container with "
        "`--cpuset-cpus`.",
        "A new process has allocated nothing and prints 0.0 always, and it says nothing of the server. What counts: "
        "Cpus_allowed_list and Mems_allowed_list of its processes, the CPUs near the GPU, its cgroup's cpuset, cpu.max "
        "and how often that throttled. None of it needs a restart: `taskset -acp` and `docker update --cpuset-cpus` "
        "work on what runs.",
        (Known.MEASURED, Known.DOCUMENTED),
        _g27,
        "`qtop apply cpu-affinity`: measured, kept if better.",
        ("QT201", "QT202", "QT204", "QT205"),
    ),
    Claim(
        "G28",
        FIRST,
        "check 3: tokenizer cache",
        "The tokenizer takes over 15 s to load the first time; delete ~/.cache/huggingface/tokenizers/Qwen/….",
        "There is no such folder. The cache is `$HF_HOME/hub/models--Qwen--…`; deleting it means fetching the model "
        "anew. The whole tokenizer loads in 0.75 s.",
        (Known.MEASURED,),
        _g28,
        "Delete nothing.",
    ),
    Claim(
        "G29",
        REQUESTS,
        "stream goes into the header",
        'Put `"stream": true` into the headers of the request.',
        "It is a field of the JSON body. `stream_options: {include_usage: true}` adds the token counts at the end.",
        (Known.TESTED,),
        _g29,
        "`qtop probe` streams a prompt and times every gap.",
        ("QT501",),
    ),
    Claim(
        "G30",
        REQUESTS,
        "512 tokens unless told",
        "Answers end at 512 tokens by default; set 2048, and `--max-new-tokens 2048` at the server.",
        "/v1/completions stops at 16 by default, chat takes all that is left of the context. The server has no such "
        "flag; its limit is `--override-generation-config '{\"max_new_tokens\": 2048}'`. More than the context is HTTP "
        "400.",
        (Known.TESTED, Known.SOURCE),
        _g30,
        "Send `max_tokens` with each request.",
        ("QT401", "QT502", "QT503"),
    ),
    Claim(
        "G31",
        ACCEPTANCE,
        "acceptance by curl and jq",
        "Measure with `curl /generate`, `max_new_tokens`, `jq .text` and `wc -c`: a Chinese prompt of 128 characters, "
        "an answer of 256; no HTTP 504 in ten.",
        "/generate is 404 on vLLM's server. `max_new_tokens` is ignored in silence on /v1/completions: 16 tokens. `wc "
        "-c` counts bytes, nothing streams so there is no TTFT, one run has no P90, the prompt is 31 characters (19 "
        "tokens), and 504 is a proxy's answer.",
        (Known.TESTED, Known.MEASURED),
        _g31,
        "`qtop check`: 20 streamed requests of 256 tokens, each with a beginning of its own.",
        ("QT502", "QT505"),
    ),
    Claim(
        "G31b",
        ACCEPTANCE,
        "TTFT 240 ms, answer 1.1 s",
        "On one 4090D: first token within 240 ms (P50), the whole answer within 1.1 s (P90).",
        "240 ms are fair. 256 tokens in bf16 take a 4090 D 2.05 s or more, since each token reads all the weights: 125 "
        "a second at most, 228 with fp8 weights (1.12 s). A fair line is TTFT and the tokens at 60 % of that rate.",
        (Known.COMPUTED,),
        _g31b,
        "`qtop check` judges by the roofline of this GPU and tells the guide's line beside it.",
    ),
)
