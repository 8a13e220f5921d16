"""Whether a server that was started answers: its process lives, it is healthy, and gives a first token."""

from __future__ import annotations

import time
from collections.abc import Sequence

import httpx

from qtop.act.change import Record, Work
from qtop.act.launchers.launcher import Launch, Launcher
from qtop.act.log_reason import reason
from qtop.act.parser_check import environment
from qtop.collect.engine.argv import flag
from qtop.collect.http import Access, open_client
from qtop.errors import QtopError, Refused
from qtop.sample.secrets import mask_text

LIMITS_S = {"vllm": 1200.0, "sglang": 1200.0, "tgi": 1200.0, "trtllm": 1800.0}
LIMIT_S = 600.0
"""Loading, compiling and capturing graphs take a vLLM minutes; a llama.cpp has to read its model."""
SOON_S, LATER_S = 0.05, 0.5
"""Between two looks: at first, and when it has taken a while."""
SAY_S = 5.0
FIRST_TOKEN_S = 120.0
"""For one token of a server that says it is healthy: kernels are compiled on the first use."""
KEYS = ("VLLM_API_KEY", "LLAMA_API_KEY", "SGLANG_API_KEY")
NAMES = {"vllm": "vLLM", "llamacpp": "llama.cpp", "sglang": "SGLang", "tgi": "TGI", "trtllm": "TensorRT-LLM"}


def await_ready(record: Record, launcher: Launcher, work: Work) -> None:
    """Returns once it has given a token. Errors: Refused with the log's reason when it ends before, when it takes too
    long, or when somebody wants it to end."""
    url, engine = record["url"], record["engine"]
    begun = told = time.monotonic()
    limit = LIMITS_S.get(engine, LIMIT_S)
    name = NAMES.get(engine, "the server")
    client = _client(url, record["launch"]) if url else None
    main: int | None = None
    try:
        while True:
            pid = launcher.pid(record["launch"])
            main = main or pid
            # Another process than at first: it ended, and who looks after it started it once more.
            if launcher.running(record["launch"]) is None or (pid is not None and pid != main):
                raise Refused(f"{name} did not start: {_why(launcher, record['launch'])}")
            if client is None or (_healthy(client) and _first_token(client)):
                return
            now = time.monotonic()
            if work.cancelled():
                raise Refused("cancelled while the server was starting")
            if now - begun > limit:
                raise Refused(f"{name} did not answer within {limit / 60:.0f} min: {_why(launcher, record['launch'])}")
            if now - told >= SAY_S:
                told = now
                work.say(f"{name} is starting, {now - begun:.0f} s{_latest(launcher.log(record['launch']))}")
            time.sleep(min(LATER_S, max(SOON_S, (now - begun) / 20)))
    finally:
        if client is not None:
            client.close()


def _client(url: str, launch: Launch) -> httpx.Client:
    return open_client(Access(url, key_of(launch), verify=False, near=True))


def key_of(launch: Launch) -> str | None:
    """The API key that the server was told to ask for."""
    held = environment(launch)
    told = flag(launch["argv"], "--api-key") or next((held[name] for name in KEYS if held.get(name)), None)
    return told.split(",")[0] if told else None


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code in (200, 404)
    except httpx.HTTPError:
        return False


def _first_token(client: httpx.Client) -> bool:
    """Whether it generates: one token of a chat or of a text; a server that has neither is asked for its models."""
    try:
        models = client.get("/v1/models")
        if models.status_code != 200:
            return False
        listed = models.json().get("data") or [{}]
        ask = {"model": str(listed[0].get("id", "")), "max_tokens": 1}
        for path, more in (
            ("/v1/completions", {"prompt": "Hi"}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ):
            answer = client.post(path, json={**ask, **more}, timeout=FIRST_TOKEN_S)
            if answer.status_code == 200:
                return True
            if answer.status_code >= 500:
                return False
        return answer.status_code in (400, 404, 405, 422)  # healthy, and none of its kind (embeddings)
    except (httpx.HTTPError, ValueError, AttributeError, TypeError, QtopError):
        return False


def _why(launcher: Launcher, launch: Launch) -> str:
    why, ended = reason(launcher.log(launch)), str(launch.get("ended", ""))
    if " by SIG" in ended:  # what it said last is not why
        return ended
    return why or (f"{ended}, and its log does not say why" if ended else "its log does not say why")


def _latest(lines: Sequence[str]) -> str:
    """What it said last, for a person who waits."""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    text = "".join(char for char in mask_text(said) if char.isprintable())
    return f": {text[:100]}" if text else ""
