"""Which settings belong together on a screen, and in which order."""

from __future__ import annotations

MEMORY, SCHEDULER, PARALLELISM, SPEED, OTHER = "memory", "scheduler", "parallelism", "speed", "other"

# fmt: off
GROUPS: dict[str, tuple[str, ...]] = {
    MEMORY: (
        "gpu_memory_utilization", "mem_fraction_static", "cuda_memory_fraction", "kv_cache_memory_bytes",
        "kv_cache_dtype", "cache_type_k", "cache_type_v", "block_size", "page_size", "kv_cache_size_tokens",
        "num_gpu_blocks", "num_gpu_blocks_override", "max_total_num_tokens", "max_total_tokens", "max_model_len",
        "context_length", "ctx_size", "ctx_size_slot", "max_input_tokens", "max_input_length", "n_gpu_layers",
        "kv_unified", "no_kv_offload", "mlock", "no_mmap", "n_cpu_moe", "cpu_moe", "cache_ram", "swap_space",
        "cpu_offload_gb", "kv_offloading_size", "kv_offloading_backend", "kv_transfer_config", "kv_connector",
        "enable_hierarchical_cache", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_KV_CACHE_TYPE", "OLLAMA_GPU_OVERHEAD",
        "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF",
        "VLLM_CPU_KVCACHE_SPACE",
    ),
    SCHEDULER: (
        "max_num_seqs", "max_running_requests", "max_concurrent_requests", "parallel", "max_num_batched_tokens",
        "chunked_prefill_size", "max_prefill_tokens", "max_batch_prefill_tokens", "max_batch_total_tokens",
        "max_batch_size", "batch_size", "ubatch_size", "enable_chunked_prefill", "enable_mixed_chunk",
        "enable_prefix_caching", "prefix_caching", "disable_radix_cache", "async_scheduling",
        "disable_overlap_schedule", "cont_batching", "scheduling_policy", "schedule_policy",
        "schedule_conservativeness", "stream_interval", "long_prefill_token_threshold", "max_num_queued_reqs",
        "max_num_queued_tokens", "max_queued_requests", "max_waiting_tokens", "waiting_served_ratio",
        "performance_mode", "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE",
    ),
    PARALLELISM: (
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel", "tp_size",
        "pp_size", "dp_size", "ep_size", "num_shard", "sharded", "split_mode", "tensor_split", "main_gpu", "device",
        "api_server_count", "renderer_num_workers", "tokenizer_worker_num", "validation_workers",
        "distributed_executor_backend", "numa_bind", "numa", "threads", "threads_batch", "threads_http", "cpu_mask",
        "cpu_range", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "OLLAMA_SCHED_SPREAD",
        "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS", "MKL_NUM_THREADS",
    ),
    SPEED: (
        "enforce_eager", "cudagraph_mode", "max_cudagraph_capture_size", "disable_cuda_graph", "cuda_graph_max_bs",
        "cuda_graphs", "optimization_level", "compilation_config", "enable_torch_compile", "quantization",
        "quantize", "dtype", "flash_attn", "attention_backend", "sampling_backend", "speculative_config",
        "speculative_method", "speculative", "num_speculative_tokens", "speculative_algorithm",
        "speculative_num_steps", "speculate", "model_draft", "draft_max", "disable_custom_all_reduce",
        "VLLM_ATTENTION_BACKEND", "OLLAMA_FLASH_ATTENTION", "LD_PRELOAD",
    ),
    OTHER: (),
}
# fmt: on

_PLACE = {name: (group, at) for group, names in GROUPS.items() for at, name in enumerate(names)}


def place(name: str) -> tuple[str, int, str]:
    """The group of a setting and its order there; unknown ones last, by name ("compilation_config.mode" with its
    config)."""
    group, at = _PLACE.get(name) or _PLACE.get(name.partition(".")[0]) or (OTHER, 0)
    return group, at, name
