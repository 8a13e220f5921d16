"""VRAM arithmetic of a KV cache: how many requests of full length it holds."""

from __future__ import annotations

from qtop.sample import Absent, Reading, Why


def full_length_requests(kv_tokens: Reading[float], max_model_len: Reading[int]) -> Reading[float]:
    """KV capacity in tokens / longest request in tokens: vLLM's "maximum concurrency". Below 1 none fits."""
    if isinstance(kv_tokens, Absent):
        return kv_tokens
    if isinstance(max_model_len, Absent):
        return max_model_len
    return kv_tokens / max_model_len if max_model_len > 0 else Absent(Why.UNSUPPORTED, "no length limit is known")
