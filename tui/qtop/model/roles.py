"""What each process of a server does, by the title it wrote or the program it is.

vLLM titles its children ``VLLM::EngineCore_DP0``, ``VLLM::APIServer_1``, ``VLLM::Worker_PP0_TP1`` (the prefix can be
set), SGLang ``sglang::scheduler_DP0_TP1``; /proc/PID/stat has the first 15 characters only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from qtop.sample import ProcessSample

ENGINES = frozenset({"engine", "scheduler"})
"""Roles whose main thread drives the GPU: one loop that everything waits for."""

# fmt: off
_TITLED = (  # the beginning of what follows "::", which may be cut
    ("enginecor", "engine"), ("apiserver", "api"), ("worker", "worker"), ("rayworker", "worker"),
    ("schedul", "scheduler"), ("detoken", "detokenizer"), ("tokeniz", "tokenizer"),
    ("dpcoord", "coordinator"), ("coordin", "coordinator"), ("data_par", "coordinator"),
)
_PROGRAMS = {
    "text-generation-launcher": "launcher", "text-generation-router": "router",
    "text-generation-server serve": "worker", "text-generation-server": "worker",
    "vllm serve": "api", "vllm.entrypoints.openai.api_server": "api",
    "sglang.launch_server": "api", "sglang serve": "api",
    "ollama serve": "api", "ollama start": "api", "ollama runner": "runner", "ollama_llama_server": "runner",
    "resource_tracker": "helper", "spawn": "helper", "forkserver": "helper",
}
# fmt: on
_RANK = re.compile(r"_((?:[A-Z]{2,3}\d+_)*[A-Z]{2,3}\d+|\d+)$")


@lru_cache(maxsize=1024)
def named(title: str, comm: str) -> tuple[str, str]:
    """Role and rank that the names of a process tell, "" for what they do not."""
    _, marked, rest = (title if "::" in title else comm).partition("::")
    if not marked:
        return _PROGRAMS.get(title, ""), ""
    lower = rest.lower()
    role = next((role for begin, role in _TITLED if lower.startswith(begin)), "")
    rank = _RANK.search(title)
    return role, rank[1] if rank else ""


def roles_of(processes: Iterable[ProcessSample], engine: str) -> dict[int, tuple[str, str]]:
    """Role and rank of each process, by pid; the first is the server's root."""
    listed = list(processes)
    found = {process.pid: named(process.title, process.comm) for process in listed}
    if not listed:
        return found
    root = listed[0].pid
    roles = {role for role, _ in found.values()}
    if found[root][0] in ("", "api"):
        others = {role for pid, (role, _) in found.items() if pid != root}
        if "api" in others:
            found[root] = ("launcher", "")  # it only starts and watches the API servers
        elif engine == "vllm":
            found[root] = ("api", "")
        elif not roles - {"", "helper"}:
            found[root] = ("server", "")  # llama.cpp: everything in one process
    return found
