"""What is here, for a plan: the GPU and the host as they were read, the server that runs with its settings and figures,
and a model by its name. The command line and the screen share it."""

from __future__ import annotations

from typing import Any

import msgspec

from qtop.collect.model_files import find
from qtop.diagnose.rules.configured import cpu_build
from qtop.errors import QtopError
from qtop.model.frame import Frame, GpuView
from qtop.model.gpus import GPUS, GpuSpec, named
from qtop.model.model_config import decoder
from qtop.model.presets import PRESETS, meant, preset, preset_decoder
from qtop.model.roofline import gpus_of_server
from qtop.model.vllm_defaults import NEWEST, Version, version_of
from qtop.plan.cards import card_here
from qtop.plan.compare import Seen
from qtop.plan.host import HostFacts
from qtop.plan.making import Wish
from qtop.plan.scenarios import GUIDES_CARD, GUIDES_MODEL
from qtop.plan.serving import DTYPES, Card, Model, card
from qtop.sample import Absent, ServerInfo
from qtop.units import GIB


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of a plan; the rest is taken from what is here."""

    model: str | None = None
    """A folder, a config.json, a repository or a preset; None: what the server here serves."""
    gpu: str | None = None
    """A card's name; None or "live": the one here."""
    goal: str = ""
    scenario: bool = False
    """One of the guide's: its model and card are meant where no other is."""
    prompt: int | None = None
    version: Version | None = None
    """Of the vLLM that is installed here, or was named."""
    version_named: bool = False
    given: dict[str, Any] = {}
    """Fields of ``Wish`` by name."""

    def check(self) -> None:
        """Raise for a name that means nothing. Errors: QtopError."""
        if self.model is not None:
            named_model(self.model)
        if self.gpu not in (None, "live", "cpu"):
            spec_of(self.gpu or "")


def wish_of(asked: Asked, frame: Frame) -> Wish:
    """What was asked for; a running vLLM's own settings where nothing was, and its model and GPU are meant.

    Errors: QtopError where there is no model or card to take, or none of that name."""
    name, card_name = asked.model, asked.gpu
    own: dict[str, Any] = {}
    server = frame.server
    live = card_name in (None, "live")
    if asked.scenario and name is None and (isinstance(server, Absent) or not live):
        name = GUIDES_MODEL
    if asked.scenario and card_name is None and (isinstance(frame.gpus, Absent) or not frame.gpus):
        card_name = GUIDES_CARD
    if name is None:
        if isinstance(server, Absent) or isinstance(server.model, Absent):
            raise QtopError("no server runs here to take the model from", "Name it with --model.")
        model = served_model(frame, server.model)
        if live:
            own = own_settings(frame)
    else:
        model = named_model(name)
    gpu, count = named_gpu(card_name, frame)
    told = own.pop("version", None)
    version = (asked.version if asked.version_named else told) or asked.version or NEWEST
    chosen = {"gpus": count if own else 1} | own | asked.given
    return Wish(model=model, gpu=gpu, goal=asked.goal, version=version, prompt=asked.prompt, **chosen)


def gpu_here(frame: Frame) -> tuple[Card, int]:
    """(the server's card, or the first here, and how many of the kind). Errors: QtopError where there is none."""
    if isinstance(frame.gpus, Absent) or not frame.gpus:
        why = str(frame.gpus) if isinstance(frame.gpus, Absent) else "none"
        raise QtopError(f"no GPU can be read here ({why})", "Name one with --gpu; `qtop plan --list` says which.")
    views = gpus_of_server(frame.gpus) or frame.gpus[:1]
    return _card(views[0], not isinstance(frame.server, Absent)), len(views)


def on_cpu(frame: Frame) -> bool:
    """Whether the server that runs here is vLLM's CPU build."""
    return isinstance(frame.server, ServerInfo) and cpu_build(frame.server, frame.settings)


def cpu_here(frame: Frame) -> Card:
    """This host's RAM in place of a GPU's. Errors: QtopError where it cannot be read."""
    host = frame.host
    if isinstance(host, Absent) or isinstance(host.mem_total, Absent):
        raise QtopError("the memory of this host cannot be read")
    free = host.mem_total if isinstance(host.mem_available, Absent) else host.mem_available
    peak = (
        0.0
        if isinstance(host.memory, Absent) or isinstance(host.memory.peak_bytes_s, Absent)
        else (host.memory.peak_bytes_s)
    )
    running = isinstance(frame.server, ServerInfo) and cpu_build(frame.server, frame.settings)
    return Card(
        name="the CPU",
        total=float(host.mem_total),
        bandwidth=peak,
        bf16=None,
        fp8=None,
        pcie="",
        source="RAM of this host" + ("; bandwidth by its modules" if peak else "; its bandwidth is not told"),
        others=0.0 if running else float(host.mem_total - free),
        is_cpu=True,
    )


def _card(view: GpuView, serves: bool) -> Card:
    found = card_here(view, serves)
    if isinstance(found, Absent):
        name = view.name if isinstance(view.name, str) else "this GPU"
        raise QtopError(f"the memory of {name} cannot be read ({found})", "Name a card with --gpu.")
    if not found.bandwidth:
        raise QtopError(
            f"how fast {found.name} reads its memory is not known", "Name a card that is like it with --gpu."
        )
    return found


def host_facts(frame: Frame, gpu: Card) -> HostFacts:
    """The host as it was read."""
    host = frame.host
    if isinstance(host, Absent):
        return HostFacts(gpu_node=gpu.numa_node, gpu_cpus=gpu.local_cpus)
    logical: float | None = float(host.cpus)
    cores: float | None = None if isinstance(host.cores, Absent) else float(host.cores)
    if not isinstance(frame.sched, Absent) and not isinstance(frame.sched.usable, Absent):
        logical = frame.sched.usable.logical
        cores = cores if isinstance(frame.sched.usable.cores, Absent) else frame.sched.usable.cores
    modules, peak = "", None
    if not isinstance(host.memory, Absent):
        view = host.memory
        told = [f"{view.modules} × {view.kind or 'memory'}"]
        told += [f"{view.configured_mts} MT/s"] if not isinstance(view.configured_mts, Absent) else []
        told += [f"{view.channels} channels"] if not isinstance(view.channels, Absent) else []
        if not isinstance(view.peak_bytes_s, Absent):
            peak = view.peak_bytes_s
            told.append(f"{peak / 1e9:.0f} GB/s at most")
        modules = ", ".join(told)
    return HostFacts(
        logical=logical,
        cores=cores,
        smt=None if isinstance(host.smt, Absent) else host.smt,
        nodes=None if isinstance(host.nodes, Absent) else host.nodes,
        memory=None if isinstance(host.mem_total, Absent) else host.mem_total,
        available=None if isinstance(host.mem_available, Absent) else host.mem_available,
        gpu_node=gpu.numa_node,
        gpu_cpus=gpu.local_cpus,
        modules=modules,
        peak_bytes_s=peak,
    )


def seen(frame: Frame) -> Seen | None:
    """What the server that runs here tells; None without one."""
    server, engine = frame.server, frame.engine
    if isinstance(server, Absent):
        return None
    version = "" if isinstance(server.version, Absent) else f" {server.version}"
    model = "" if isinstance(server.model, Absent) else f", {server.model}"
    title = f"{server.engine}{version}{model}"
    settings = frame.settings
    given = False
    if not isinstance(settings, Absent):
        given = any(settings.number(name) is not None for name in ("kv_cache_memory_bytes", "num_gpu_blocks_override"))
    tokens = None if isinstance(frame.kv_tokens, Absent) else frame.kv_tokens
    if isinstance(engine, Absent):
        return Seen(title, kv_tokens=tokens, blocks_given=given)

    def told(reading: float | int | Absent) -> float | None:
        return None if isinstance(reading, Absent) else float(reading)

    use = told(engine.kv_use)
    wait = None
    if not isinstance(frame.sched, Absent) and frame.sched.critical:
        wait = max(thread.contended for thread in frame.sched.critical)
    used = None
    if not isinstance(frame.gpus, Absent):
        parts = [view.vram.server for view in gpus_of_server(frame.gpus) if not isinstance(view.vram, Absent)]
        known = [float(part) for part in parts if not isinstance(part, Absent)]
        used = sum(known) / len(known) if known else None
    return Seen(
        server=title,
        kv_tokens=tokens,
        tok_s=told(engine.gen_tok_s),
        running=told(engine.running),
        held=use * tokens if use is not None and tokens is not None else None,
        prompt_tok_s=told(engine.prompt_tok_s),
        used=used,
        cpu_wait=wait,
        blocks_given=given,
    )


def same_model(model: Model, frame: Frame) -> bool:
    """Whether this is the model that runs here."""
    server = frame.server
    if isinstance(server, Absent) or isinstance(server.model, Absent):
        return False
    own = preset(server.model)
    return model.name == server.model or (own is not None and own == preset(model.name))


def own_settings(frame: Frame) -> dict[str, Any]:
    """A running vLLM's settings, by the names of ``Wish``; none of another server."""
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


def served_model(frame: Frame, served: str) -> Model:
    """The model of the server that runs here: the folder that it was started with where that can be read, else its
    name's. Errors: QtopError where neither is known."""
    told = None if isinstance(frame.settings, Absent) else frame.settings.get("model")
    for name in (told.value if told is not None else served, served):
        try:
            return named_model(name)
        except QtopError:
            continue
    raise QtopError(
        f"the shape of {served}, which runs here, is not known: no config.json of it was found",
        "Give its folder with --model, or another model and a --gpu.",
    )


def named_model(name: str) -> Model:
    """A folder, a config.json, a repository in the cache, or a preset. Errors: QtopError."""
    files = find(name)
    if files is not None:
        shown = name.removesuffix("/config.json") or name
        return Model(shown, decoder(files.config), files.source, files.weight_bytes, files.tokenizer)
    found = meant(name)
    if found is None:
        raise QtopError(
            f"model {name} is neither a folder here, nor in the Hugging Face cache, nor a preset",
            "Give its folder or config.json; `qtop plan --list` says the presets.",
        )
    known = found.preset
    if found.other:
        like = [one.name for one in PRESETS if found.other in one.name.lower() and one.name.startswith(known.name)]
        hint = f"Did you mean {' or '.join(like)}?" if like else "Give its folder or config.json."
        raise QtopError(f"model {name} is not the preset {known.name}: {found.other} may be another release", hint)
    publisher = known.repository.split("/")[0]
    short = name.lower() == known.name.lower()
    shown = known.repository if short else name if "/" in name or found.strange else f"{publisher}/{name}"
    shape, source = preset_decoder(known.name), f"preset {known.name} ({known.source})"
    if found.quantisation is not None and shape.quantisation is None:
        shape = msgspec.structs.replace(shape, quantisation=found.quantisation)
        source += f", {found.quantisation.method} weights by its name"
    return Model(shown, shape, source)


def named_gpu(name: str | None, frame: Frame) -> tuple[Card, int]:
    """(the card that a name means, None or live for the one here; how many are meant). Errors: QtopError."""
    if name == "cpu" or (name in (None, "live") and on_cpu(frame)):
        return cpu_here(frame), 1
    if name in (None, "live"):
        return gpu_here(frame)
    assert name is not None
    return card(spec_of(name)), 1


def spec_of(name: str) -> GpuSpec:
    """The card of the table that a name means. Errors: QtopError."""
    known = named(name)
    if known is None:
        raise QtopError(
            f"GPU {name} is not known", f"Known are {', '.join(one.name for one in GPUS)}; or live, the one here."
        )
    return known
