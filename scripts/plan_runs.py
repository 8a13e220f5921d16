#!/usr/bin/env python3
"""What a real vLLM makes of a GPU: the memory it logs at the start, and how fast it decodes and reads prompts.

plan_runs.py [--flags="…"]… [--speed INDEX] [--contexts N,N] [--batches N,N] [--highest N] [--json FILE]
             [--log-dir DIR] -- COMMAND…

Starts COMMAND (vLLM's, without the flags that vary) once for each ``--flags``, with its log at debug level (but where
speed is measured: it would log each step), and keeps what the log says of memory: the split of the profiling run, the
KV cache, the graphs. With ``--speed I`` the I-th start (from 0) is kept until it answers, and measured: prompts of
``--contexts`` tokens, with ``--batches`` requests at a time or as many as the KV cache holds. Decoding is counted by
the server (``vllm:generation_tokens_total``) while all of them run and none reads its prompt; reading a prompt is the
time of a request for one token, the fastest of three. Prompts are random token numbers: nothing of them is in the
prefix cache.

Needs nothing but Python. Gives each start 300 s. Ends what it started.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PATIENCE_S = 300
TOKENS = 600
"""Of each answer while decoding is measured."""
CONTEXTS = "1024,8192,32000"
BATCHES = "1,8,64"
HIGHEST = 100_000
"""Token numbers are taken from below this, unless ``--highest`` says another."""
TOLD = re.compile(
    r"memory|KV cache|GiB|graph|concurrency|max_num_batched_tokens|chunked prefill|kv_cache", re.IGNORECASE
)
ENDED = ("Application startup complete", "Graph capturing finished")


class Server:
    """One start; its log goes to a file."""

    def __init__(self, command: list[str], log: Path, level: str) -> None:
        self.log = log
        environment = os.environ | {"VLLM_LOGGING_LEVEL": level}
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def wait_for(self, *words: str) -> bool:
        """Wait until the log says one of them; False when the server ended or took too long."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            if any(word in text for word in words):
                return True
            if self._child.poll() is not None:
                return False
            time.sleep(0.5)
        return False

    def lines(self) -> list[str]:
        """What the log says of memory."""
        return [
            line.strip()
            for line in self.log.read_text(errors="replace").splitlines()
            if TOLD.search(line) and "Running batch" not in line
        ]

    def stop(self) -> None:
        """End it and all it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._child.pid, number)
            except ProcessLookupError:
                break
            try:
                self._child.wait(15)
            except subprocess.TimeoutExpired:
                continue
        self._child.wait()


def complete(url: str, prompt: list[int], tokens: int) -> float:
    """Seconds that one request takes."""
    body = {"prompt": prompt, "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0.0}
    begun = time.monotonic()
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        answer.read()
    return time.monotonic() - begun


def metrics(url: str) -> dict[str, float]:
    """The sums over engines of the server's plain metrics, and its KV cache in tokens."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for name, labels, value in re.findall(r"^(vllm:[a-z_]+)(\{.*?\})? (\S+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
        if name == "vllm:cache_config_info":
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found["kv_tokens"] = float(told["num_gpu_blocks"]) * float(told["block_size"])
    return found


def prompt_of(tokens: int) -> list[int]:
    """Random tokens."""
    return [random.randint(HIGHEST // 10, HIGHEST) for _ in range(tokens)]


def decode(url: str, batch: int, context: int) -> dict[str, Any]:
    """Tokens a second of ``batch`` requests whose prompts have ``context`` tokens each."""
    before = metrics(url)
    threads = [
        threading.Thread(target=complete, args=(url, prompt_of(context), TOKENS), daemon=True) for _ in range(batch)
    ]
    for thread in threads:
        thread.start()
    read = before["vllm:prompt_tokens_total"] + batch * context
    begun = before["vllm:generation_tokens_total"]
    seen: list[tuple[float, float]] = []
    while any(thread.is_alive() for thread in threads):
        asked = time.monotonic()
        now = metrics(url)
        t = (asked + time.monotonic()) / 2
        all_run = now["vllm:num_requests_running"] == batch and now["vllm:prompt_tokens_total"] >= read
        if all_run and now["vllm:generation_tokens_total"] >= begun + 2 * batch:
            seen.append((t, now["vllm:generation_tokens_total"]))
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    if len(seen) < 4:
        return {"batch": batch, "context": context, "tok_s": None, "why": "they never all ran at once for long"}
    (t0, n0), (t1, n1) = seen[0], seen[-1]
    made = (n0 + n1) / 2 - begun
    held = batch * context + made
    return {"batch": batch, "context": context, "tok_s": (n1 - n0) / (t1 - t0), "seconds": t1 - t0, "held_tokens": held}


def speed(url: str, contexts: list[int], batches: list[int]) -> dict[str, Any]:
    """Everything that is measured of a server that answers."""
    complete(url, prompt_of(512), 16)  # whatever the first request alone pays
    pool = metrics(url)["kv_tokens"]
    prefill, decoding = [], []
    for context in contexts:
        seconds = min(complete(url, prompt_of(context), 1) for _ in range(3))
        prefill.append({"tokens": context, "seconds": seconds})
        print(json.dumps(prefill[-1]), file=sys.stderr, flush=True)
        done: set[int] = set()
        for batch in batches:
            fits = min(batch, int(pool // (context + TOKENS + 64)))
            if fits < 1 or fits in done:
                continue
            done.add(fits)
            decoding.append(decode(url, fits, context))
            print(json.dumps(decoding[-1]), file=sys.stderr, flush=True)
    return {"kv_tokens": pool, "prefill": prefill, "decode": decoding}


def output(command: list[str]) -> str:
    """What a command prints, "" where it is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def gpu() -> dict[str, Any]:
    """Name and memory by the driver, and the memory that CUDA sees where torch is there."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    told: dict[str, Any] = {"nvidia-smi": output(query).strip()}
    ask = "import torch; p = torch.cuda.get_device_properties(0); print(p.total_memory, torch.cuda.mem_get_info()[1])"
    seen = output([sys.executable, "-c", ask]).split()
    if len(seen) == 2:
        told |= {"cuda_total": int(seen[0]), "cuda_mem_get_info_total": int(seen[1])}
    return told


def numbers(text: str) -> list[int]:
    """Of a list with commas."""
    return [int(part) for part in text.split(",")]


def main() -> int:
    global HIGHEST
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flags", action="append", default=[])
    parser.add_argument("--speed", type=int, action="append", default=[])
    parser.add_argument("--contexts", default=CONTEXTS)
    parser.add_argument("--batches", default=BATCHES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log-dir", type=Path, default=Path())
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("command", nargs="+")
    parser.add_argument("--highest", type=int, default=HIGHEST, help="token number that the model's vocabulary has")
    args = parser.parse_args()
    HIGHEST = args.highest
    told: dict[str, Any] = {"gpu": gpu(), "starts": []}
    for i, flags in enumerate(args.flags or [""]):
        print(f"start {i}: {flags}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        server = Server(
            [*args.command, *shlex.split(flags)], args.log_dir / f"start{i}.log", "INFO" if i in args.speed else "DEBUG"
        )
        try:
            up = server.wait_for(*(ENDED[:1] if i in args.speed else ENDED))
            start: dict[str, Any] = {"flags": flags, "up": up, "seconds": time.monotonic() - begun}
            if up and i in args.speed:
                try:
                    start["speed"] = speed(args.url, numbers(args.contexts), numbers(args.batches))
                except (OSError, urllib.error.URLError, KeyError) as error:
                    start["speed"] = {"why": f"{type(error).__name__}: {error}"}
        finally:
            server.stop()
        start["log"] = server.lines()
        told["starts"].append(start)
        print("\n".join(start["log"][-12:]), file=sys.stderr, flush=True)
        if args.json:
            args.json.write_text(json.dumps(told, indent=1))
    if not args.json:
        print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
