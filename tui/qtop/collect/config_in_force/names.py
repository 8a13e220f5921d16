"""One name for each setting of an engine, however its command line, its file or its environment spells it."""

from __future__ import annotations

from collections.abc import Mapping

_VLLM = {
    "q": "quantization",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dcp": "decode_context_parallel_size",
    "pcp": "prefill_context_parallel_size",
    "dpl": "data_parallel_size_local",
    "dpn": "data_parallel_rank",
    "dpr": "data_parallel_start_rank",
    "dpb": "data_parallel_backend",
    "dpa": "data_parallel_address",
    "dpp": "data_parallel_rpc_port",
    "dph": "data_parallel_hybrid_lb",
    "dpe": "data_parallel_external_lb",
    "ep": "enable_expert_parallel",
    "n": "nnodes",
    "r": "node_rank",
    "cc": "compilation_config",
    "sc": "speculative_config",
    "ac": "attention_config",
    "asc": "api_server_count",
    "O": "optimization_level",
}
"""Short flags (source: vllm/engine/arg_utils.py and entrypoints/cli/serve.py of 0.9.2 to 0.32)."""

_LLAMACPP = {
    "m": "model",
    "c": "ctx_size",
    "np": "parallel",
    "n_parallel": "parallel",
    "ngl": "n_gpu_layers",
    "gpu_layers": "n_gpu_layers",
    "n_gpu_layers": "n_gpu_layers",
    "fa": "flash_attn",
    "ctk": "cache_type_k",
    "ctv": "cache_type_v",
    "t": "threads",
    "tb": "threads_batch",
    "b": "batch_size",
    "batch": "batch_size",
    "ub": "ubatch_size",
    "ubatch": "ubatch_size",
    "n": "n_predict",
    "predict": "n_predict",
    "sm": "split_mode",
    "ts": "tensor_split",
    "mg": "main_gpu",
    "dev": "device",
    "md": "model_draft",
    "draft": "draft_max",
    "draft_n": "draft_max",
    "cb": "cont_batching",
    "nkvo": "no_kv_offload",
    "dt": "defrag_thold",
    "C": "cpu_mask",
    "Cr": "cpu_range",
    "ncmoe": "n_cpu_moe",
    "cmoe": "cpu_moe",
    "kvu": "kv_unified",
    "a": "alias",
    "hf": "hf_repo",
    "hfr": "hf_repo",
    "mu": "model_url",
    "p": "prompt",
    "sys": "system_prompt",
    "j": "json_schema",
    "r": "reverse_prompt",
    "sps": "slot_prompt_similarity",
    "cram": "cache_ram",
}
"""Short and former flags, and the ends of LLAMA_ARG_ variables that differ from the flag (source: llama.cpp
common/arg.cpp)."""

_SGLANG = {
    "tp": "tp_size",
    "tensor_parallel_size": "tp_size",
    "pp": "pp_size",
    "pipeline_parallel_size": "pp_size",
    "dp": "dp_size",
    "data_parallel_size": "dp_size",
    "ep": "ep_size",
    "expert_parallel_size": "ep_size",
    "model": "model_path",
}

_TGI = {"e": "env", "p": "port"}

_ALIASES: Mapping[str, Mapping[str, str]] = {
    "vllm": _VLLM,
    "llamacpp": _LLAMACPP,
    "sglang": _SGLANG,
    "tgi": _TGI,
}


def canonical(engine: str, flag: str) -> str:
    """The setting that a flag names, without its dashes: "--max-num-seqs" is "max_num_seqs", vLLM's "-tp" is
    "tensor_parallel_size", "-cc.mode" "compilation_config.mode"."""
    name, dot, rest = flag.lstrip("-").partition(".")
    name = name.replace("-", "_")
    return _ALIASES.get(engine, {}).get(name, name) + dot + rest
