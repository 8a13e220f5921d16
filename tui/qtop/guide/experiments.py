"""The guide's own remedies, each as a change that can be tried and measured here.

Where this version takes another flag than the guide names, the equivalent stands here, and the note says so. What would
certainly harm (deleting the tokenizer's cache, stripping punctuation) is told by its claim and not offered.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_QUALITY = "it changes answers as well: qtop measures speed, not quality"
_CPUS = "the guide names CPUs 0 to 15; qtop proposes those that the cgroup allows, near the GPU first"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A knob, and the value of the guide (None: what qtop proposes); what the guide has wrong, or what is unproven."""

    knob: str
    value: str | None
    note: str

    @property
    def command(self) -> str:
        """The same in a shell."""
        return shlex.join(["qtop", "apply", self.knob if self.value is None else f"{self.knob}={self.value}"])


EXPERIMENTS: dict[str, Experiment] = {
    "G3": Experiment("kv-cache-dtype", "fp8", _QUALITY),
    "G5": Experiment("gpu-power-limit", None, "a lower limit is cooler and slower: name the watts"),
    "G6": Experiment("cpu-affinity", None, _CPUS),
    "G8": Experiment(
        "server-flags",
        "--quantization=bitsandbytes --max-num-seqs=1",
        f"--load-in-4bit is no flag of vLLM, this is what it means; no cache on the CPU: that is slower; {_QUALITY}",
    ),
    "G9": Experiment(
        "server-flags",
        "--quantization=fp8 --max-num-seqs=4",
        f"--load-in-8bit is no flag of vLLM, fp8 comes nearest; the cache is paged anyway; {_QUALITY}",
    ),
    "G10": Experiment("max-model-len", "262144", "this model has no sliding window: all of the cache has to fit"),
    "G12": Experiment("gpu-memory-utilization", "0.85", "it is no buffer for PCIe; what it leaves is cache less"),
    "G12b": Experiment("max-model-len", "auto", "0.85 prevents nothing: this takes what fits"),
    "G13": Experiment("max-model-len", "262144", "it is the model's own length, which nobody has to set"),
    "G14": Experiment("enable-chunked-prefill", "on", "it is on by default"),
    "G15": Experiment("kv-cache-dtype", "auto", "fp16 is no value of this flag; auto is the model's own type"),
    "G17": Experiment("api-server-count", "2", "unproven here: press the key and see"),
    "G18": Experiment("cpu-affinity", None, _CPUS),
    "G19": Experiment("server-flags", "--max-loras=4 --max-cpu-loras=8", "it takes memory of the GPU from the cache"),
    "G21": Experiment("cpu-affinity", None, _CPUS),
    "G24b": Experiment("numa-balancing", "0", "until the next boot; `--persist` writes the file that keeps it"),
    "G24c": Experiment("cpu-affinity", None, "the node of the GPU, which is not always 0; memory stays where it is"),
    "G25": Experiment("numa-balancing", "0", "the guide's 63 % are unproven: press the key and see"),
    "G27": Experiment("cpu-affinity", None, _CPUS),
    "G32": Experiment("block-size", "32", "it ends no lack of memory: blocks are paged, and there is no fragmentation"),
    "G34": Experiment("max-num-seqs", "512", "it helps where requests wait for the limit and the KV cache has room"),
}
"""By the claim's id."""
