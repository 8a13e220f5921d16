"""The environment a server was started with: names that configure its speed, and of secrets only that they are set."""

from __future__ import annotations

import re
from pathlib import Path

from qtop.collect.config_in_force.names import canonical
from qtop.collect.discover.procfs import PROC, read
from qtop.sample import Absent, Why
from qtop.sample.secrets import is_plain, is_secret_name, is_text_name
from qtop.sample.settings import ENVIRONMENT, SET, Setting, shown

MOST = 200

_ANY = (
    r"CUDA_(?:VISIBLE_DEVICES|DEVICE_ORDER|DEVICE_MAX_CONNECTIONS|LAUNCH_BLOCKING|MODULE_LOADING)"
    r"|NVIDIA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|NCCL_\w+|OMP_\w+|GOMP_CPU_AFFINITY|KMP_\w+"
    r"|(?:MKL|OPENBLAS|NUMEXPR|RAYON)_NUM_THREADS|TOKENIZERS_PARALLELISM|PYTORCH(?:_CUDA)?_ALLOC_CONF"
    r"|TORCHINDUCTOR_COMPILE_THREADS|MALLOC_ARENA_MAX|LD_PRELOAD|FLASHINFER_\w+|LMCACHE_\w+"
    r"|HF_TOKEN|HUGGING_FACE_HUB_TOKEN|HF_HOME|HF_HUB_CACHE"
)
_OF_ENGINE = {
    "vllm": r"VLLM_\w+",
    "sglang": r"SGLANG_\w+|SGL_\w+",
    "llamacpp": r"LLAMA_\w+|GGML_\w+",
    "ollama": r"OLLAMA_\w+|LLAMA_\w+|GGML_\w+",
    "tgi": (
        r"MAX_(?:CONCURRENT_REQUESTS|INPUT_TOKENS|INPUT_LENGTH|TOTAL_TOKENS|WAITING_TOKENS|BATCH_PREFILL_TOKENS"
        r"|BATCH_TOTAL_TOKENS|BATCH_SIZE|CLIENT_BATCH_SIZE)|WAITING_SERVED_RATIO|VALIDATION_WORKERS|SHARDED|NUM_SHARD"
        r"|QUANTIZE|SPECULATE|DTYPE|KV_CACHE_DTYPE|CUDA_GRAPHS|CUDA_MEMORY_FRACTION|PREFIX_CACHING|ATTENTION"
        r"|MODEL_ID|USE_FLASH_ATTENTION"
    ),
}
# Where something is reached says nothing of speed and may hold a password; Kubernetes adds such names by the dozen.
_PLACE = re.compile(r"_(?:HOST|IP|ADDR|ADDRESS|URL|URI|ENDPOINT|SERVER|PROXY)$|_SERVICE_|_PORT(?:_|$)|_TCP(?:_|$)")


def settings(pid: int, engine: str, root: Path = PROC) -> tuple[Setting, ...] | Absent:
    """The variables that matter to this engine, in order of name; Absent where its environment may not be read.

    It is the environment at the start of the process: what the program changed later does not show.
    """
    data = read(f"{root}/{pid}/environ")
    if isinstance(data, PermissionError):
        return Absent(Why.DENIED, "its environment may be read by its own user and by root only")
    if isinstance(data, OSError):
        return Absent(Why.LOST, "the process has ended")
    wanted = re.compile("|".join((_ANY, *_OF_ENGINE.values())) if engine not in _OF_ENGINE else _pattern(engine))
    found: dict[str, Setting] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.decode(errors="replace").partition("=")
        if equals and name not in found and wanted.fullmatch(name) and not _PLACE.search(name):
            found[name] = _setting(name, value, engine)
    return tuple(sorted(found.values(), key=lambda one: one.name)[:MOST])


def _pattern(engine: str) -> str:
    return f"{_ANY}|{_OF_ENGINE[engine]}"


def _setting(name: str, value: str, engine: str) -> Setting:
    told = SET if is_secret_name(name) or _is_text(name, value) else shown(value)
    if engine == "llamacpp" and name.startswith("LLAMA_ARG_"):
        plain = canonical(engine, name.removeprefix("LLAMA_ARG_").lower())
        return Setting(plain, SET if _is_text(plain, value) else told, ENVIRONMENT, name)
    if engine == "tgi" and re.fullmatch(_OF_ENGINE["tgi"], name):
        return Setting(name.lower(), told, ENVIRONMENT, name)
    return Setting(name, told, ENVIRONMENT)


def _is_text(name: str, value: str) -> bool:
    return is_text_name(name) and not is_plain(value)
