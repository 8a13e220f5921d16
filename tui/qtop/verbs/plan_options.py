"""Options of the verb plan."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from qtop.verbs.recording_options import byte_count


def _context(text: str) -> int:
    """Tokens out of 32768, 32k, 256K or max (0)."""
    if text.strip().lower() in ("max", "auto"):
        return 0
    found = re.fullmatch(r"(-?\d{1,9})\s*(k|ki|m)?", text.strip().lower())
    size = int(found[1]) * {"": 1, "k": 1024, "ki": 1024, "m": 1 << 20}[found[2] or ""] if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"must be tokens from 1 up, as 32768 or 32K, or max, not {text}")
    return size


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and at most 1, not {text}")
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text}")
    return int(text)


def add(verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the verb."""
    one = verb("plan", "what fits on a GPU, how fast it is, and the command that starts it")
    one.add_argument("--model", metavar="M", help="a folder, a config.json, a repository in the cache, or a preset")
    one.add_argument("--gpu", metavar="NAME", help="a card of the table, live: the one here, its memory read, or cpu")
    one.add_argument("--gpus", type=_whole, default=None, metavar="N", help="spread over N alike (tensor parallel)")
    one.add_argument("--context", type=_context, metavar="N", help="longest request, tokens: 32K, or max (as fits)")
    one.add_argument("--seqs", type=_whole, metavar="N", help="requests at once at most (max-num-seqs)")
    one.add_argument("--weights", choices=["auto", "bf16", "fp8", "int8", "int4"], default=None, help="how held")
    one.add_argument("--kv", metavar="DTYPE", default=None, help="the cache: auto, fp8, bfloat16, float16")
    one.add_argument("--utilization", type=_share, metavar="U", help="share of the memory that vLLM may take")
    one.add_argument("--kv-memory", type=byte_count, metavar="4GiB", help="exactly so much for the cache instead")
    one.add_argument("--dtype", choices=["auto", "bfloat16", "float16", "float32"], default=None, help="of the model")
    one.add_argument("--batched-tokens", type=_whole, metavar="N", help="tokens of a step (max-num-batched-tokens)")
    one.add_argument("--eager", action="store_true", default=None, help="without CUDA graphs")
    one.add_argument("--goal", choices=["latency", "throughput", "long-context"], default="", help="what matters")
    one.add_argument(
        "--scenario", choices=["single", "multi", "long"], help="one of the guide's three, reckoned for this card"
    )
    one.add_argument("--prompt", type=_whole, metavar="N", help="tokens of a prompt whose first token is asked for")
    one.add_argument("--vllm", metavar="V", help="a version (0.25.1), or a vllm program that checks the command")
    one.add_argument("--write", choices=["shell", "yaml", "systemd", "compose"], help="print only the command, as this")
    one.add_argument("--measure", action="store_true", help="measure tokenizer and memory: about a second of copying")
    one.add_argument("--from", dest="source", metavar="FILE", help="beside the server of a recording instead")
    one.add_argument("--screen", action="store_true", help="as a screen on which each of these is changed")
    one.add_argument("--list", action="store_true", help="list the presets and the GPUs of the table")
    one.add_argument("--json", action="store_true", help="print one JSON document")
