"""The configuration in force: every source of a setting weighed, the value that holds with where it comes from.

In order of authority: what the running server reports, its command line, its config file, its environment, the default
of its version. A default is claimed only where the command line and the config file, which might say otherwise, could
be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import msgspec

from qtop.model import vllm_defaults
from qtop.model.setting_groups import GROUPS, place
from qtop.model.vllm_defaults import Gpu, Version
from qtop.sample import Absent, ServerInfo, Setting, Why
from qtop.sample.series import count, split_series
from qtop.sample.settings import (
    COMMAND_LINE,
    CONFIG_FILE,
    ENVIRONMENT,
    INFO,
    METRICS,
    MODELS,
    PROPS,
    SERVER_INFO,
    SET,
)

CONFIG_INFO = "vllm:cache_config_info{"
_LIVE = (METRICS, MODELS, SERVER_INFO, PROPS, INFO)
_RANK = {source: rank for rank, source in enumerate((*_LIVE, COMMAND_LINE, CONFIG_FILE, ENVIRONMENT))}
_DEFAULT_RANK = len(_RANK)
_LABELS = {
    "gpu_memory_utilization": "gpu_memory_utilization",
    "cache_dtype": "kv_cache_dtype",
    "block_size": "block_size",
    "kv_cache_size_tokens": "kv_cache_size_tokens",
    "num_gpu_blocks": "num_gpu_blocks",
    "num_gpu_blocks_override": "num_gpu_blocks_override",
    "enable_prefix_caching": "enable_prefix_caching",
    "kv_cache_memory_bytes": "kv_cache_memory_bytes",
    "kv_offloading_size": "kv_offloading_size",
    "cpu_offload_gb": "cpu_offload_gb",
}
"""Labels of vLLM's cache_config_info and the settings they report."""
_UNKNOWN_GPU = Absent(Why.UNSUPPORTED, "its default depends on the GPU's memory, which is not known here")
_SCALES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_BOOL = {"true": "on", "yes": "on", "false": "off", "no": "off", "null": "none", "none": "none", "": "none"}


class SettingsView(msgspec.Struct, frozen=True):
    """The settings in force, by group, each in its place; ``missing``: sources and settings that could not be had."""

    groups: dict[str, tuple[Setting, ...]]
    missing: dict[str, Absent] = {}

    def get(self, name: str) -> Setting | None:
        """The setting of this name, None where nothing tells it."""
        return next((one for group in self.groups.values() for one in group if one.name == name), None)

    def number(self, name: str) -> float | None:
        """Its value as a number ("32k" is 32 000), None where it is none."""
        one = self.get(name)
        return _number(one.value) if one is not None else None


def in_force(server: ServerInfo, config_info: str = "", gpus: Sequence[Gpu] = ()) -> SettingsView | Absent:
    """The settings of a server. ``config_info`` is the key of its cache_config_info series, "" without one; ``gpus``
    are those it runs on. Absent where no source tells anything."""
    read = () if isinstance(server.settings, Absent) else server.settings
    missing = dict(server.settings_missing)
    claims = [*_live(server, config_info), *read]
    if server.engine == "vllm":
        fallbacks, unknown = _defaults(server, claims, gpus)
        claims += fallbacks
        missing.update(unknown)
    if not claims:
        return (
            server.settings if isinstance(server.settings, Absent) else Absent(Why.UNSUPPORTED, "no source tells any")
        )
    by_name: dict[str, list[Setting]] = {}
    for one in sorted(claims, key=_rank):
        by_name.setdefault(one.name, []).append(one)
    version = _version(server)
    groups: dict[str, list[Setting]] = {group: [] for group in GROUPS}
    for name in sorted(by_name, key=place):
        groups[place(name)[0]].append(_weighed(by_name[name], version))
    return SettingsView({group: tuple(held) for group, held in groups.items() if held}, missing)


def with_cap(server: ServerInfo, view: SettingsView | Absent) -> ServerInfo:
    """The server with ``max_running`` from its settings where it does not tell it itself (vLLM does not)."""
    if server.engine != "vllm" or isinstance(view, Absent) or not isinstance(server.max_running, Absent):
        return server
    cap = view.number("max_num_seqs")
    return server if cap is None or cap < 1 else msgspec.structs.replace(server, max_running=int(cap))


def _weighed(claims: Sequence[Setting], version: Version | None) -> Setting:
    """One setting of all that claim it, the strongest first."""
    first = claims[0]
    live = first.source in _LIVE
    agree = [one for one in claims[1:] if _same(one.value, first.value)]
    differ = [one for one in claims[1:] if not _same(one.value, first.value)]
    # What the server reports was set by somebody: the strongest of those who say the same, if nobody says otherwise
    # more loudly.
    origin = next((one for one in claims if one.source not in _LIVE), None) if live else first
    if origin is None or origin not in agree:
        origin = first
    notes = [origin.note] if origin.note else []
    if origin is not first:
        notes.append(f"confirmed by {first.source}")
    for one in differ:
        told = f"{one.source} says {one.value}" if _rank(one) < _DEFAULT_RANK else f"default {one.value}"
        if told not in notes:
            notes.append(told)
    if not live and any(_rank(one) == _DEFAULT_RANK for one in agree):
        notes.append("the default too")
    if version is not None and origin.source in (COMMAND_LINE, CONFIG_FILE):
        notes += [told] if (told := vllm_defaults.retired(first.name, version)) else []
    return Setting(first.name, _plain(first.value), origin.source, "; ".join(notes))


def _rank(one: Setting) -> int:
    return _RANK.get(one.source, _DEFAULT_RANK)


def _live(server: ServerInfo, config_info: str) -> Iterable[Setting]:
    labels: Mapping[str, str] = split_series(config_info)[1] if config_info else {}
    for label, name in _LABELS.items():
        if (value := labels.get(label, "None")) != "None":
            yield Setting(name, _plain(value), METRICS)
    blocks, size = count(labels.get("num_gpu_blocks", "")), count(labels.get("block_size", ""))
    if "kv_cache_size_tokens" not in labels and blocks is not None and size is not None:
        yield Setting("kv_cache_size_tokens", f"{blocks * size:.0f}", METRICS, "num_gpu_blocks × block_size")
    if server.engine == "vllm" and not isinstance(server.max_model_len, Absent):
        yield Setting("max_model_len", str(server.max_model_len), MODELS)


def _version(server: ServerInfo) -> Version | None:
    if server.engine != "vllm" or isinstance(server.version, Absent):
        return None
    return vllm_defaults.version_of(server.version)


def _defaults(
    server: ServerInfo, claims: Sequence[Setting], gpus: Sequence[Gpu]
) -> tuple[list[Setting], dict[str, Absent]]:
    """What this version takes where the rest is silent, and what cannot be told without knowing the GPU."""
    version = _version(server)
    told = not isinstance(server.settings, Absent) and not {COMMAND_LINE, CONFIG_FILE} & server.settings_missing.keys()
    if version is None or version < vllm_defaults.OLDEST or not told or not _is_served(server.argv):
        return [], {}
    source = vllm_defaults.described(version)
    build = vllm_defaults.defaults(version)
    if not gpus and any(one.name.startswith("VLLM_CPU_") for one in claims):
        gpus, build = (Gpu(0, "cpu"),), vllm_defaults.of_cpu_build(build, version)
    found = [Setting(one.name, one.value, source, one.note) for one in build.values()]
    held = {one.name: one.value for one in sorted(claims, key=_rank, reverse=True)}
    ranks = _number(held.get("data_parallel_size", "1")) or 1
    if "headless" not in held and not any(name.startswith("data_parallel_") and name.endswith("_lb") for name in held):
        found.append(Setting("api_server_count", str(int(ranks)) if version >= (0, 15, 0) else "1", source))
    batch = _batch(version, held, gpus)
    if batch is None:
        absent = {name: _UNKNOWN_GPU for name in ("max_num_seqs", "max_num_batched_tokens") if name not in held}
        return found, absent
    found.append(Setting("max_num_seqs", str(batch[0]), source))
    found.append(Setting("max_num_batched_tokens", str(batch[1]), source))
    return found, {}


def _batch(version: Version, held: Mapping[str, str], gpus: Sequence[Gpu]) -> tuple[int, int] | None:
    """(max_num_seqs, max_num_batched_tokens), bounded as arg_utils.py bounds them; None if the GPUs leave it open."""
    tensor, pipeline = (_number(held.get(f"{kind}_parallel_size", "1")) or 1 for kind in ("tensor", "pipeline"))
    throughput = held.get("performance_mode") == "throughput"
    answers = {vllm_defaults.batch(version, gpu, int(tensor * pipeline), throughput) for gpu in gpus}
    if len(answers) != 1:
        return None
    seqs, tokens = answers.pop()
    length = _number(held.get("max_model_len", "")) or 0
    if length > 0:
        if _plain(held.get("enable_chunked_prefill", "on")) == "off":
            tokens = max(tokens, int(length))
        tokens = min(tokens, int((_number(held.get("max_num_seqs", "")) or seqs) * length))
    return min(seqs, int(_number(held.get("max_num_batched_tokens", "")) or tokens)), tokens


def _is_served(argv: tuple[str, ...] | Absent) -> bool:
    """Whether vLLM's own parser read this command line; a program of one's own may set anything in its code."""
    if isinstance(argv, Absent):
        return False
    served = "serve" in argv and any(PurePath(word).name == "vllm" for word in argv[:4])
    return served or any(word.startswith("vllm.entrypoints.") or "/vllm/entrypoints/" in word for word in argv[:6])


def _plain(value: str) -> str:
    return _BOOL.get(value.lower(), value)


def _same(one: str, other: str) -> bool:
    if SET in (one, other):
        return True
    left, right = _number(one), _number(other)
    if left is not None and right is not None:
        return left == right
    return _plain(one) == _plain(other)


def _number(text: str) -> float | None:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)([kmgtKMGT]?)", text.strip())
    return float(match[1]) * _SCALES.get(match[2], 1) if match else None
