"""The load tools as scripts/bench_probe runs them: a command line each, and how its results are read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_peers import installed
from bench_probe_peers import own_version, tokenizer, vllm
from bench_probe_schedule import Mode
from bench_probe_truth import Percentiles, Reported
from bench_run import SCRIPTS, CannotMeasure, qtop_command
from known_sse_http import MODEL

HELP_S = 60.0


@dataclass(frozen=True)
class Load:
    """What each tool is asked to send."""

    streams: int
    """At a time: each is followed by the next at once."""
    requests: int
    tokens: int
    mode: Mode


@dataclass
class Results:
    """What a tool made of it."""

    requests: list[Reported]
    said: dict[str, Percentiles] = field(default_factory=dict)
    """Its own summary of "ttft" and "itl", ms, where that is all that it gives."""
    stamps: str = "user"
    """What its stamps are: "kernel" or "user"."""


class Tool(ABC):
    """One of them; making one raises CannotMeasure with the reason where it cannot be had."""

    name: str
    version: str = ""

    def fitted(self, load: Load) -> Load:
        """The load that it can send, where it cannot send this one."""
        return load

    @abstractmethod
    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """Its command line; it may write into ``folder``."""

    @abstractmethod
    def read(self, folder: Path, output: str) -> Results:
        """Its results, from its files in ``folder`` and its standard output."""

    def environment(self) -> Mapping[str, str]:
        """What is added to the environment."""
        return {}


class Qtop(Tool):
    """qtop's own, as a user runs it."""

    name = "qtop"

    def __init__(self) -> None:
        self.version = own_version("qtop-llm")
        try:
            told = subprocess.run(
                [*qtop_command(), "probe", "--help"], capture_output=True, text=True, timeout=HELP_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotMeasure(f"its help does not come: {error}") from error
        self._several = "--concurrency" in told.stdout
        self._options = [one for one in ("--no-save",) if one in told.stdout]

    def fitted(self, load: Load) -> Load:
        """One after the other, and so fewer, where this qtop sends only one at a time."""
        if self._several:
            return load
        return Load(1, max(8, load.requests // load.streams), load.tokens, load.mode)

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """JSON on standard output."""
        words = [*qtop_command(), "probe", "--url", url, "--requests", str(load.requests), *self._options]
        words += ["--concurrency", str(load.streams)] if self._several else []
        return [*words, "--max-tokens", str(load.tokens), "--json"]

    def read(self, folder: Path, output: str) -> Results:
        """Each request with its gaps; ``requests`` of now and ``results`` of earlier versions."""
        document = json.loads(output)
        lists = (document.get(name) for name in ("requests", "results"))
        found: list[dict[str, Any]] = next((one for one in lists if isinstance(one, list)), [])
        stamps = {str(one.get("stamps") or document.get("stamps") or "user") for one in found}
        kept = [one for one in found if one.get("ok", True) and not one.get("error")]
        return Results([_listed(one) for one in kept], stamps="/".join(sorted(stamps)))


class Reference(Tool):
    """A client of this checkout's, in a process of its own."""

    script: str
    stamps = "user"

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """The figures of the load as words."""
        figures = (load.requests, load.streams, load.tokens)
        return [sys.executable, str(SCRIPTS / self.script), url, *map(str, figures)]

    def read(self, folder: Path, output: str) -> Results:
        """Each request with its gaps."""
        return Results([_listed(one) for one in json.loads(output)["requests"]], stamps=self.stamps)


class Floor(Reference):
    """Bare sockets."""

    name = "floor"
    script = "bench_probe_floor.py"
    stamps = "kernel"


class Httpx(Reference):
    """The client that many write first."""

    name = "httpx"
    script = "bench_probe_httpx.py"

    def __init__(self) -> None:
        self.version = own_version("httpx")


class Guidellm(Tool):
    """A mean gap a request, and of these the summary that it prints."""

    name = "guidellm"

    def __init__(self, cache: Path) -> None:
        self._script, self.version = installed(self.name, cache)

    def environment(self) -> Mapping[str, str]:
        """No hub: with prompts from a file and counts from the server it needs no tokenizer."""
        return {"HF_HUB_OFFLINE": "1"}

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """Its closed loop of so many streams."""
        prompts = [json.dumps({"prompt": f"{number} say something"}) for number in range(load.requests)]
        (folder / "prompts.jsonl").write_text("\n".join(prompts) + "\n")
        return [
            *(str(self._script), "run", "--disable-console"),
            *("--backend", f"kind=openai_http,target={url},model={MODEL},max_tokens={load.tokens}"),
            *("--profile", f"kind=concurrent,streams={load.streams}"),
            *("--constraint", f"kind=max_requests,count={load.requests}"),
            *("--data", f"kind=json_file,path={folder / 'prompts.jsonl'}"),
            *("--output", f"kind=json,path={folder / 'guidellm.json'}"),
        ]

    def read(self, folder: Path, output: str) -> Results:
        """The requests that succeeded, and its percentiles of ITL."""
        (run,) = json.loads((folder / "guidellm.json").read_text())["benchmarks"]
        requests = [
            Reported(
                number=one["prompt_tokens"],
                sent=one["request_start_time"],
                ttft=one["time_to_first_token_ms"],
                mean_gap=one["inter_token_latency_ms"],
            )
            for one in run["requests"]["successful"]
        ]
        percentiles = run["metrics"]["inter_token_latency_ms"]["successful"]["percentiles"]
        return Results(requests, {"itl": Percentiles(percentiles["p50"], percentiles["p99"])})


class Aiperf(Tool):
    """A process for each part, a list of gaps a request."""

    name = "aiperf"

    def __init__(self, cache: Path) -> None:
        self._script, self.version = installed(self.name, cache)

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """Its built-in tokenizer is fetched from the network, so it is given one; offline mode refuses a folder."""
        return [
            *(str(self._script), "profile", "--url", url, "--model", MODEL, "--endpoint-type", "chat", "--streaming"),
            *("--tokenizer", str(tokenizer(folder / "tokenizer")), "--use-server-token-count"),
            *("--concurrency", str(load.streams), "--request-count", str(load.requests)),
            *("--isl", "16", "--osl", str(load.tokens), "--extra-inputs", "ignore_eos:true"),
            *("--ui", "none", "--no-gpu-telemetry", "--no-server-metrics", "--export-level", "records"),
            *("--artifact-dir", str(folder / "aiperf")),
        ]

    def read(self, folder: Path, output: str) -> Results:
        """One line a request."""
        requests = []
        for line in (folder / "aiperf/profile_export.jsonl").read_text().splitlines():
            record = json.loads(line)
            figures = record["metrics"]
            requests.append(
                Reported(
                    number=figures["usage_prompt_tokens"]["value"],
                    sent=record["metadata"]["request_start_ns"] / 1e9,
                    ttft=figures["time_to_first_token"]["value"],
                    gaps=tuple(figures["inter_chunk_latency"]["value"]),
                )
            )
        return Results(requests)


class VllmBench(Tool):
    """``vllm bench serve`` against /v1/completions, its default.

    Of a chat it takes the opening event, which carries the role and no text, for a token.
    """

    name = "vllm bench"

    def __init__(self, given: Path | None) -> None:
        self._start, self.version = vllm(given)

    def environment(self) -> Mapping[str, str]:
        """No hub, and nothing told to anybody."""
        return {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}

    def command(self, url: str, load: Load, folder: Path) -> list[str]:
        """Random prompts, made with a tokenizer that it is given."""
        return [
            *(*self._start, "bench", "serve", "--backend", "openai", "--base-url", url, "--model", MODEL),
            *("--tokenizer", str(tokenizer(folder / "tokenizer")), "--dataset-name", "random"),
            *("--random-input-len", "16", "--random-output-len", str(load.tokens), "--ignore-eos"),
            *("--num-prompts", str(load.requests), "--max-concurrency", str(load.streams), "--disable-tqdm"),
            *("--save-result", "--save-detailed", "--result-dir", str(folder), "--result-filename", "vllm.json"),
        ]

    def read(self, folder: Path, output: str) -> Results:
        """Lists of the requests; seconds."""
        run = json.loads((folder / "vllm.json").read_text())
        return Results(
            [
                Reported(number=_number(text), ttft=ttft * 1e3, gaps=tuple(gap * 1e3 for gap in gaps))
                for text, ttft, gaps, error in zip(
                    run["generated_texts"], run["ttfts"], run["itls"], run["errors"], strict=True
                )
                if not error
            ]
        )


def _number(text: str) -> int | None:
    """The request's number from the text of its answer (" #17 w w")."""
    found = re.match(r" ?#(\d+)\b", text)
    return int(found.group(1)) if found else None


def _listed(one: Mapping[str, Any]) -> Reported:
    """A request of qtop's or of the reference's JSON."""
    number = one.get("number", one.get("prompt_tokens"))
    return Reported(
        number=number if isinstance(number, int) else None,
        sent=one.get("sent") or one.get("t_send") or one.get("started"),
        ttft=one["ttft_ms"],
        gaps=tuple(one["gaps_ms"]),
    )
