"""Words of a vLLM command line that a version refuses or passes over, and what reaches their purpose there.

Source: the guide's flags tried on the parser of vLLM 0.32, arg_utils.py and config/*.py of the wheels named in
``vllm_defaults``; RFC #39583 for quantization. A flag is said to be refused only where one of these says so; everything
else passes as known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import msgspec

from qtop.model.vllm_defaults import RETIRED, Version, version_of
from qtop.sample import Setting
from qtop.sample.settings import CONFIG_FILE

PREQUANTISED = "serve a pre-quantised checkpoint (AWQ, GPTQ: no flag)"
ONLINE = "or use --quantization fp8"
_LEFT_OUT = "leave it out"


class Word(msgspec.Struct, frozen=True):
    """A flag, as it is written, that this version does not take or does not use."""

    flag: str
    """"--load-in-4bit", "--kv-cache-dtype fp16", or a module."""
    does: str
    """What this version does with it, a clause: "has no such flag"."""
    instead: str
    """What to do about it, valid for this version."""


_NEVER: Mapping[str, str] = {
    "quantize": "--quantization METHOD is its name",
    "sliding_window": "leave it out: the model's own configuration decides; a shorter context is --max-model-len N",
}
"""Flags that no vLLM has had, beside those of ``RETIRED``, with what is there instead."""

_INSTEAD: Mapping[str, str] = {
    "max_new_tokens": "--override-generation-config '{\"max_new_tokens\":N}' caps every answer",
    "num_scheduler_steps": "leave it out: asynchronous scheduling has taken its place",
    "multi_step_stream_outputs": "leave it out: asynchronous scheduling has taken its place",
    "swap_space": "leave it out: preempted requests are computed anew; KV cache in RAM is --kv-offloading-size GiB",
    "guided_decoding_backend": '--structured-outputs-config \'{"backend":"…"}\'',
    "disable_log_requests": "leave it out: requests are logged only with --enable-log-requests",
    "device": "leave it out: the build decides",
    "enable_reasoning": "--reasoning-parser NAME alone",
    "num_lookahead_slots": "leave it out: --speculative-config holds it",
    "enable_metrics": "leave it out: /metrics is there unless --disable-log-stats",
}


@lru_cache(maxsize=64)
def refused(argv: tuple[str, ...], file: tuple[str, ...], version: str | None, bfloat16: bool) -> tuple[Word, ...]:
    """Words that this version refuses and so ends at; ``file``: names of settings in its config file; ``bfloat16``: the
    model's dtype is known to be that. Without a version only what no version takes."""
    known = version_of(version) if version is not None else None
    found = [word for name in (*_names(argv), *file) if (word := _refused(name, known)) is not None]
    if (module := _module(argv)) and known is not None and known >= (0, 25, 0):
        found.insert(0, Word(f"-m {module}", "has no such module since 0.25", "start it with: vllm serve MODEL"))
    cache = value_of(argv, "kv_cache_dtype")
    if cache is not None and (word := _cache(cache, known, bfloat16)) is not None:
        found.append(word)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=64)
def ignored(argv: tuple[str, ...], version: str | None) -> tuple[Word, ...]:
    """Flags that this version takes and does nothing with."""
    known = version_of(version) if version is not None else None
    if known is None:
        return ()
    names = set(_names(argv))
    return tuple(
        Word(_flag(name), does, instead)
        for name, (since, until, does, instead) in _IDLE.items()
        if name in names and since <= known < until
    )


_IDLE: Mapping[str, tuple[Version, Version, str, str]] = {
    "swap_space": (
        (0, 9, 2), (0, 18, 0),
        "takes it and does not use it (the V1 engine computes preempted requests anew)", _LEFT_OUT,
    ),
    "disable_log_requests": (
        (0, 10, 2), (0, 17, 0),
        "takes it and logs no requests without it either", _LEFT_OUT,
    ),
    "disable_cascade_attn": (
        (0, 32, 0), (99, 0, 0),
        "takes it and has no cascade attention any more", _LEFT_OUT,
    ),
}  # fmt: skip
"""Since and before which version a flag does nothing. Sources: config/cache.py to 0.17; cli_args.py to 0.16;
_DISABLE_CASCADE_ATTN_DEPRECATION_MESSAGE of arg_utils.py 0.32."""

_CACHES = frozenset({"auto", "float16", "bfloat16"})
_CACHE_KINDS = ("fp8", "nvfp4", "turboquant_", "octave_", "ultraquant_", "int4_per_token_head", "int8_per_token_head")
_CACHE_INSTEAD = "--kv-cache-dtype auto keeps the model's own dtype, fp8 halves the cache"


def _cache(value: str, version: Version | None, bfloat16: bool) -> Word | None:
    flag = f"--kv-cache-dtype {value}"
    if value in ("fp16", "bf16", "half"):
        return Word(flag, "has no such dtype for its KV cache", _CACHE_INSTEAD)
    if version is None:
        return None
    if value == "float16" and version < (0, 13, 0):
        return Word(flag, "has no such dtype for its KV cache before 0.13", _CACHE_INSTEAD)
    if value == "float16" and bfloat16 and version >= (0, 33, 0):
        return Word(flag, "does not convert a bfloat16 model's cache since 0.33", _CACHE_INSTEAD)
    unknown = value not in _CACHES and not value.startswith(_CACHE_KINDS)
    if unknown and (0, 32, 0) <= version < (0, 34, 0) and value.isascii() and value.replace("_", "").isalnum():
        return Word(flag, "has no such dtype for its KV cache", _CACHE_INSTEAD)
    return None


def _refused(name: str, version: Version | None) -> Word | None:
    if name in ("load_in_4bit", "load_in_8bit"):
        return Word(_flag(name), "has no such flag", _load_in(name, version))
    if name in _NEVER:
        return Word(_flag(name), "has no such flag", _NEVER[name])
    if name not in RETIRED:
        return None
    gone, told = RETIRED[name]
    instead = _INSTEAD.get(name) or (told and f"{told.replace('_', '-')}") or _LEFT_OUT
    if gone is None:
        return Word(_flag(name), "has no such flag", instead)
    if version is None or version < gone:
        return None
    return Word(_flag(name), f"has no such flag since {gone[0]}.{gone[1]}", instead)


def _load_in(name: str, version: Version | None) -> str:
    if version is not None and version < (0, 28, 0):
        return "--quantization bitsandbytes quantises while it loads (gone in 0.28)"
    return PREQUANTISED if name == "load_in_4bit" else f"{PREQUANTISED}, {ONLINE}"


@lru_cache(maxsize=64)
def dropped(argv: tuple[str, ...], file: tuple[tuple[str, str], ...], version: str | None) -> tuple[Word, ...]:
    """Quantization methods that this version has no more; ``file``: names and values of its config file."""
    known = version_of(version) if version is not None else None
    if known is None:
        return ()
    given = dict(file)
    found = []
    method = (value_of(argv, "quantization", "-q") or given.get("quantization") or "").lower()
    loader = (value_of(argv, "load_format") or given.get("load_format") or "").lower()
    model = model_of(argv) or given.get("model", "")
    for kind, gone in (("bitsandbytes", (0, 28, 0)), ("gguf", (0, 24, 0))):
        if known < gone:
            continue
        does = f"has no {kind} since {gone[0]}.{gone[1]}"
        if method == kind:
            found.append(Word(f"--quantization {kind}", does, f"{PREQUANTISED}, {ONLINE}"))
        elif loader == kind:
            found.append(Word(f"--load-format {kind}", does, f"{PREQUANTISED}, {ONLINE}"))
        elif kind == "gguf" and model.lower().endswith(".gguf"):
            found.append(Word("a .gguf model", does, f"{PREQUANTISED}, or serve it with llama.cpp"))
    return tuple(found)


def model_of(argv: Sequence[str]) -> str | None:
    """The model of the command line: --model, else what follows "serve"."""
    named = value_of(argv, "model")
    if named is not None:
        return named
    words = list(argv)
    after = words[words.index("serve") + 1 :] if "serve" in words else []
    return after[0] if after and not after[0].startswith("-") else None


def value_of(argv: Sequence[str], name: str, short: str = "") -> str | None:
    """The last value of a flag, by its canonical name."""
    value = None
    for at, word in enumerate(argv):
        if word == "--":
            break
        flag, equals, attached = word.partition("=")
        if (flag.startswith("--") and flag[2:].replace("-", "_") == name) or (short and flag == short):
            following = argv[at + 1] if at + 1 < len(argv) else ""
            value = attached if equals else following
    return value


def in_file(settings: Iterable[Setting]) -> tuple[tuple[str, str], ...]:
    """Names and values of the config file among a server's settings."""
    return tuple((one.name, one.value) for one in settings if one.source == CONFIG_FILE)


def _names(argv: Sequence[str]) -> list[str]:
    """The long flags in order, by their canonical names."""
    found = []
    for word in argv:
        if word == "--":
            break
        if word.startswith("--"):
            found.append(word[2:].partition("=")[0].replace("-", "_"))
    return found


def _module(argv: Sequence[str]) -> str:
    """The demonstration server's module where it is run as such."""
    name = "vllm.entrypoints.api_server"
    return name if any(one == "-m" and two == name for one, two in pairwise(argv)) else ""


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
