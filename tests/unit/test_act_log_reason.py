"""The line of a log that says why a server did not start."""

from __future__ import annotations

import pytest

from qtop.act.log_reason import LONGEST, how_ended, reason

LLAMA_GONE = """\
0.00.028.866 E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or directory)
0.00.029.347 E llama_model_load: error loading model: llama_model_loader: failed to load model from /nope.gguf
0.00.029.348 E llama_model_load_from_file_impl: failed to load model
0.00.029.376 E common_fit_params: encountered an error while trying to fit params to free device memory: failed to load
0.00.029.391 E cmn  common_init_: failed to load model '/nope.gguf'
0.00.029.392 E srv    load_model: failed to load model, '/nope.gguf'
Failed to init server, please check the input params.
"""
VLLM_CONTEXT = """\
(APIServer pid=11) INFO 11-26 07:20:01 [utils.py:233] non-default args: {'model_tag': '/m', 'max_model_len': 1048576}
(APIServer pid=11) Traceback (most recent call last):
(APIServer pid=11)   File "/v/bin/vllm", line 8, in <module>
(APIServer pid=11)     sys.exit(main())
(APIServer pid=11) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=11)   Value error, User-specified max_model_len (1048576) is greater than the derived max_model_len \
(max_position_embeddings=40960.0 or model_max_length=None in model's config.json). To allow overriding this maximum, \
set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. [type=value_error, input_value=ArgsKwargs((), {...}), input_type=Args]
(APIServer pid=11)     For further information visit https://errors.pydantic.dev/2.12/v/value_error
"""
VLLM_NO_MEMORY = """\
(EngineCore pid=9) ERROR 11-26 05:19:40 [core.py:123] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-26 05:19:40 [core.py:123] ValueError: No available memory for the cache blocks.
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.
"""
VLLM_KV = """\
(EngineCore pid=21) ERROR 11-26 07:20:41 [core.py:1100] EngineCore failed to start.
(EngineCore pid=21) ERROR 11-26 07:20:41 [core.py:1100] Traceback (most recent call last):
(EngineCore pid=21) ERROR 11-26 07:20:41 [core.py:1100] ValueError: To serve at least one request with the models's \
max seq len (262144), (36.0 GiB KV cache is needed, which is larger than the available KV cache memory (10.6 GiB).
(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
ARGPARSE = """\
usage: vllm serve [model_tag] [options]
vllm serve: error: argument --kv-cache-dtype: invalid choice: 'fp16' (choose from auto, bfloat16)
"""
CUDA = """\
INFO 11-26 07:20:41 [gpu_worker.py:100] Starting to load model
Traceback (most recent call last):
  File "x.py", line 3, in load
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 594.00 MiB. GPU 0 has a total capacity of 23.64 GiB
RuntimeError: Engine core initialization failed. See root cause above.
"""


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (LLAMA_GONE, "failed to open GGUF file '/nope.gguf' (No such file or directory)"),
        (
            VLLM_CONTEXT,
            "ValidationError: User-specified max_model_len (1048576) is greater than the derived max_model_len",
        ),
        (VLLM_NO_MEMORY, "ValueError: No available memory for the cache blocks."),
        (VLLM_KV, "ValueError: To serve at least one request with the models's max seq len (262144), (36.0 GiB KV"),
        (ARGPARSE, "argument --kv-cache-dtype: invalid choice: 'fp16' (choose from auto, bfloat16)"),
        (CUDA, "OutOfMemoryError: CUDA out of memory. Tried to allocate 594.00 MiB. GPU 0 has a total capacity"),
        ("0.1.2 E srv    start: couldn't bind HTTP server socket: Address already in use\n", "couldn't bind HTTP"),
        ("\x1b[31mbash: exec: nope: not found\x1b[0m\n", "bash: exec: nope: not found"),
        ("all is well\nbye\n", "bye"),
        ("", ""),
        ("\n \n", ""),
    ],
)
def test_the_line_that_says_why(log: str, why: str) -> None:
    told = reason(log.splitlines())
    assert told.startswith(why)
    assert "\n" not in told
    assert len(told) <= LONGEST


def test_keys_in_a_log_stay_there() -> None:
    assert "hf_" not in reason(["ValueError: 401 for hf_abcdefghijklmnopqrstuv"])


@pytest.mark.parametrize(
    ("status", "told"), [(1, "status 1"), (-9, "SIGKILL, as the kernel"), (-6, "SIGABRT"), (-100, "signal 100")]
)
def test_how_it_ended(status: int, told: str) -> None:
    assert told in how_ended(status)


def test_what_is_wrong_with_a_value_is_said_without_what_was_given() -> None:
    assert "type=" not in reason(VLLM_CONTEXT.splitlines())
