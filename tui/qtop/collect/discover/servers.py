"""What a command line says: which server it starts, on which port, and whether the process is only a part of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PORT_VARIABLES = frozenset({"LLAMA_ARG_PORT", "LLAMA_ARG_HOST", "OLLAMA_HOST", "PORT"})
"""Environment variables from which one of the servers takes its address."""

COMMON_PORTS = frozenset({8000, 8080, 30000, 11434, 8001, 3000, 5000})
"""Ports on which a local LLM server is often found."""

# fmt: off
FORWARDERS = frozenset({
    "ssh", "sshd", "autossh", "kubectl", "socat", "ncat", "nginx", "haproxy", "envoy", "caddy", "traefik",
    "cloudflared", "tailscaled", "rootlesskit", "rootlessport", "pasta", "pasta.avx2", "passt", "slirp4netns",
    "gvproxy", "docker-proxy", "rootlesskit-docker-proxy",
})
# fmt: on
"""Programs that hold a port for a server elsewhere: their CPU time says nothing about it."""

# fmt: off
USERLAND_PORTS = frozenset({
    "rootlesskit", "rootlessport", "pasta", "pasta.avx2", "passt", "slirp4netns", "gvproxy",
})
# fmt: on
"""Those of them that publish a container's port without saying so in their arguments."""

# fmt: off
SUPERVISORS = frozenset({
    "sh", "bash", "dash", "zsh", "fish", "ash", "busybox", "tmux", "screen", "systemd", "init", "tini", "dumb-init",
    "docker-init", "catatonit", "conmon", "runc", "crun", "containerd-shim", "s6-svscan", "s6-supervise", "runsv",
    "runsvdir", "supervisord", "sshd", "login", "su", "sudo", "nohup", "uv", "conda", "mamba", "micromamba",
    "script", "nsenter", "unshare",
})
# fmt: on
"""Programs that start a server and are no part of it."""

_INTERPRETER = re.compile(r"(?:python|pypy)\d*(?:\.\d+)?t?")
_VLLM_PART = re.compile(r"[^\s:]+::(EngineCor|Worker|APIServer|DPCoord|Coordinator|RayWorker)")
_TAKES_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})


@dataclass(frozen=True, slots=True)
class Recognised:
    """A process that is a server or a part of one."""

    engine: str
    """"vllm", "llamacpp", "sglang", "tgi", "trtllm", "triton", "ollama"."""
    port: int
    """Where it listens if nothing says otherwise."""
    part: bool = False
    """It is started by the server, never on its own."""
    http: bool = True
    """It may hold the socket that answers HTTP (an engine or a worker listens only for its siblings)."""


VLLM = Recognised("vllm", 8000)
LLAMACPP = Recognised("llamacpp", 8080)
SGLANG = Recognised("sglang", 30000)
TGI = Recognised("tgi", 3000)
OLLAMA = Recognised("ollama", 11434)
TRITON = Recognised("triton", 8000)
TRTLLM = Recognised("trtllm", 8000)
QUESTION = "never by qtop's: reads words with"
"""In the code that asks a vLLM's parser (``act.vllm_parser``): it looks like a server and is none."""
NAMES = {
    "vllm": "vLLM",
    "llamacpp": "llama.cpp",
    "sglang": "SGLang",
    "tgi": "TGI",
    "ollama": "Ollama",
    "triton": "Triton",
    "trtllm": "TensorRT-LLM",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a command line puts the server; None where it does not say."""

    port: int | None
    host: str | None
    scheme: str


def basename(word: str) -> str:
    """The last part of a path, also of one with backslashes or with ".exe"."""
    return re.split(r"[/\\]", word)[-1].removesuffix(".exe")


def program(argv: Sequence[str]) -> tuple[str, str, list[str]]:
    """How something is run ("exe", "module", "script", "code"), what it is, and its arguments; looks through Python."""
    if not argv:
        return "exe", "", []
    if not _INTERPRETER.fullmatch(basename(argv[0])):
        return "exe", argv[0], list(argv[1:])
    at = 1
    while at < len(argv):
        word = argv[at]
        if not word.startswith("-") or word == "-":
            return "script", word, list(argv[at + 1 :])
        option = re.fullmatch(r"-[A-Za-z]*?([mc])(.*)", word, re.DOTALL)
        if option and not word.startswith(("--", "-W", "-X")):
            what = [option[2]] if option[2] else list(argv[at + 1 : at + 2])
            rest = argv[at + (1 if option[2] else 2) :]
            return ("module" if option[1] == "m" else "code"), "".join(what), list(rest)
        at += 2 if word in _TAKES_VALUE else 1
    return "exe", argv[0], []


def _by_exe(path: str, rest: list[str]) -> Recognised | None:
    name, verb = basename(path), (rest[0] if rest else "")
    if name in ("vllm", "sglang", "llama"):
        return {"vllm": VLLM, "sglang": SGLANG, "llama": LLAMACPP}[name] if verb == "serve" else None
    if name.startswith(("llama-server", "llama_server", "llamafile")):
        return LLAMACPP
    if name == "server" and any(word.endswith(".gguf") for word in rest):
        return LLAMACPP
    if name == "ollama" and verb in ("serve", "start"):
        return OLLAMA
    if name in ("ollama", "ollama_llama_server") and verb in ("runner", "--model", "--ollama-engine"):
        return Recognised("ollama", OLLAMA.port, part=True, http=False)
    if name == "text-generation-launcher":
        return TGI
    if name.startswith("text-generation-"):
        return Recognised("tgi", TGI.port, part=True, http=name.startswith("text-generation-router"))
    if name == "trtllm-serve":
        return TRTLLM
    return TRITON if name == "tritonserver" else None


def _by_module(module: str, rest: list[str]) -> Recognised | None:
    if module.startswith("vllm.entrypoints.") and module.endswith("server"):
        return VLLM
    if module in ("vllm", "vllm.entrypoints.cli.main"):
        return VLLM if rest[:1] == ["serve"] else None
    package = module.partition(".")[0]
    if module == "sglang.launch_server" or (module == "sglang" and rest[:1] == ["serve"]):
        return SGLANG
    if module == "tensorrt_llm.commands.serve":
        return TRTLLM
    if package == "llama_cpp":
        return Recognised("llamacpp", 8000)
    return LLAMACPP if package == "xllamacpp" or module == "qtop.demo.serve" else None


def _by_script(path: str, rest: list[str]) -> Recognised | None:
    name = basename(path)
    if name == "api_server.py" and "vllm" in path:
        return VLLM
    if name == "launch_server.py" and "sglang" in path:
        return SGLANG
    if "llama_cpp" in name or "xllamacpp" in name:
        return LLAMACPP
    return _by_exe(path, rest)


def _by_code(code: str, _rest: list[str]) -> Recognised | None:
    if QUESTION in code:
        return None
    if "vllm.entrypoints" in code:
        return VLLM
    if "sglang.launch_server" in code:
        return SGLANG
    return LLAMACPP if "llama_cpp" in code or "xllamacpp" in code else None


_READERS: dict[str, Callable[[str, list[str]], Recognised | None]] = {
    "exe": _by_exe,
    "module": _by_module,
    "script": _by_script,
    "code": _by_code,
}


_COMMS = {
    "llama-server": LLAMACPP,
    "tritonserver": TRITON,
    "trtllm-serve": TRTLLM,
    "text-generation": TGI,  # text-generation-launcher, as far as the kernel keeps it
}


def recognise(argv: Sequence[str], comm: str = "") -> Recognised | None:
    """The server that a process is, or is a part of; None for anything else.

    Only the program that is run counts, never a word further on: ``bash -c "vllm serve"``, ``docker run … vllm`` and
    ``uv run vllm serve`` mention a server without being it. A process that hides its arguments is known by its comm
    (15 characters).
    """
    title = argv[0] if argv else comm
    if part := _VLLM_PART.match(title):
        return Recognised("vllm", VLLM.port, part=True, http=part[1] == "APIServer")
    if title.startswith("sglang::"):
        return Recognised("sglang", SGLANG.port, part=True, http=False)
    if not argv:
        return _COMMS.get(comm)
    how, what, rest = program(argv)
    return _READERS[how](what, rest)


def option(argv: Sequence[str], *names: str) -> str | None:
    """The value of the last of these options, written ``--name value`` or ``--name=value``."""
    value = None
    for at, word in enumerate(argv):
        name, equals, attached = word.partition("=")
        if name in names:
            if equals:
                value = attached
            elif at + 1 < len(argv):
                value = argv[at + 1]
    return value


def _port(word: str | None) -> int | None:
    return int(word) if word and word.isdecimal() and 0 < int(word) < 65536 else None


def endpoint(argv: Sequence[str], environ: Mapping[str, str], engine: str = "") -> Endpoint:
    """Where the options, then the environment, put a server of this engine ("" if unknown)."""
    # To llama-server -p is the prompt, and Triton's HTTP port has a name of its own.
    names = {"llamacpp": ("--port",), "triton": ("--http-port",)}.get(engine, ("--port", "-p"))
    port = _port(option(argv, *names))
    host = option(argv, "--host", "--hostname", "--http-address")
    if engine == "llamacpp":
        port, host = port or _port(environ.get("LLAMA_ARG_PORT")), host or environ.get("LLAMA_ARG_HOST")
    elif engine == "tgi":
        port = port or _port(environ.get("PORT"))
    elif engine == "ollama":
        address = environ.get("OLLAMA_HOST", "").rpartition("//")[2].rstrip("/")
        name, colon, number = address.rpartition(":")
        port = port or (_port(number) if colon else None)
        host = host or (name if colon else address) or None
    tls = any(option(argv, name) for name in ("--ssl-certfile", "--ssl-cert-file", "--ssl-keyfile", "--ssl-key-file"))
    return Endpoint(port, host, "https" if tls else "http")
