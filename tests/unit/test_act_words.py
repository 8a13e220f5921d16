"""Command lines edited: what is wanted stands there, and every other word as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.act.words import edited, values_now, wanted, words_begin
from qtop.errors import QtopError

SERVE = ["/venv/bin/python", "/venv/bin/vllm", "serve", "Qwen/Qwen3-4B", "--max-num-seqs", "64", "--port", "8000"]
MODULE = ["python3", "-X", "dev", "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--max_num_seqs=64"]
LLAMA = ["/opt/llama-server", "-m", "m.gguf", "-np", "4", "-c", "8192", "--no-mmap"]


@pytest.mark.parametrize(
    ("argv", "engine", "text", "expected"),
    [
        (SERVE, "vllm", "--max-num-seqs=128", [*SERVE[:5], "128", *SERVE[6:]]),
        (SERVE, "vllm", "--max_num_seqs 128", [*SERVE[:5], "128", *SERVE[6:]]),
        (SERVE, "vllm", "--enforce-eager", [*SERVE, "--enforce-eager"]),
        (SERVE, "vllm", "--max-num-seqs=default", [*SERVE[:4], *SERVE[6:]]),
        (SERVE, "vllm", "--swap-space=default", SERVE),
        ([*SERVE, "--enforce-eager"], "vllm", "--no-enforce-eager", [*SERVE, "--no-enforce-eager"]),
        ([*SERVE, "--no-enforce-eager"], "vllm", "--enforce-eager", [*SERVE, "--enforce-eager"]),
        ([*SERVE, "-tp", "2"], "vllm", "--tensor-parallel-size=4", [*SERVE, "-tp", "4"]),
        ([*SERVE, "--max-num-seqs=32"], "vllm", "--max-num-seqs=128", [*SERVE[:5], "128", *SERVE[6:]]),
        ([*SERVE, "-O3"], "vllm", "-O=1", [*SERVE, "-O", "1"]),
        ([*SERVE, "-cc.mode", "3"], "vllm", "--compilation-config.mode=0", [*SERVE, "-cc.mode", "0"]),
        (
            [*SERVE, "--served-model-name", "a", "b", "--seed", "1"],
            "vllm",
            "--served-model-name x y",
            [*SERVE, "--served-model-name", "x", "y", "--seed", "1"],
        ),
        (
            SERVE,
            "vllm",
            """--speculative-config='{"method": "ngram"}' --seed -1""",
            [*SERVE, "--speculative-config", '{"method": "ngram"}', "--seed", "-1"],
        ),
        # vllm serve takes its model behind the flags too: it is no value of the last of them.
        (["vllm", "serve", "--seed", "3", "MODEL"], "vllm", "--seed=4", ["vllm", "serve", "--seed", "4", "MODEL"]),
        (MODULE, "vllm", "--max-num-seqs=128", [*MODULE[:-1], "--max_num_seqs=128"]),
        (MODULE, "vllm", "--block-size=32", [*MODULE, "--block-size", "32"]),
        (LLAMA, "llamacpp", "--parallel=8 --ctx-size=16384", [*LLAMA[:4], "8", "-c", "16384", "--no-mmap"]),
        (LLAMA, "llamacpp", "--mmap", [*LLAMA[:-1], "--mmap"]),
        ([*LLAMA, "--", "--x"], "llamacpp", "--threads=2", [*LLAMA, "--threads", "2", "--", "--x"]),
        ([*LLAMA, "--lora", "a", "--lora", "b"], "llamacpp", "--lora=c", [*LLAMA, "--lora", "c"]),
        (LLAMA, "llamacpp", "--override-kv=--x", [*LLAMA, "--override-kv=--x"]),
    ],
)
def test_only_what_is_wanted_changes(argv: list[str], engine: str, text: str, expected: list[str]) -> None:
    assert edited(argv, engine, wanted(text)) == expected


def test_what_stands_there_is_told_wherever_it_stands() -> None:
    argv = [*SERVE, "--max_num_seqs=32", "--enforce-eager"]
    assert values_now(argv, "vllm", "max_num_seqs") == [["--max-num-seqs", "64"], ["--max_num_seqs=32"]]
    assert values_now(argv, "vllm", "enforce_eager") == [["--enforce-eager"]]
    assert values_now(argv, "vllm", "block_size") == []


@pytest.mark.parametrize(
    ("argv", "first"), [(SERVE, "serve"), (MODULE, "--model"), (LLAMA, "-m"), (["python", "-P", "-m", "q", "x"], "x")]
)
def test_the_interpreter_and_the_program_are_no_flags(argv: list[str], first: str) -> None:
    assert argv[words_begin(argv)] == first


@pytest.mark.parametrize("text", ["", "   ", "128", "max-num-seqs=128", "--x 'y", "-- --y", "--=3", "--a; rm"])
def test_what_is_no_flag_is_refused(text: str) -> None:
    with pytest.raises(QtopError):
        wanted(text)


@pytest.mark.parametrize("text", ["--api-key=x", "--hf-token x", "--seed=1 --chat-template=x"])
def test_keys_and_texts_are_not_set(text: str) -> None:
    with pytest.raises(QtopError, match="does not set it"):
        wanted(text)


FLAGS = st.sampled_from(["--max-num-seqs", "--max_num_seqs", "--block-size", "--seed", "--swap-space"])


@given(st.lists(st.tuples(FLAGS, st.integers(0, 99), st.booleans()), max_size=6), FLAGS, st.integers(0, 99))
def test_once_set_it_is_set_and_setting_it_again_changes_nothing(
    there: list[tuple[str, int, bool]], flag: str, value: int
) -> None:
    argv = ["vllm", "serve", "M"]
    for name, number, attached in there:
        argv += [f"{name}={number}"] if attached else [name, str(number)]
    edits = wanted(f"{flag}={value}")
    once = edited(argv, "vllm", edits)
    name = flag.lstrip("-").replace("-", "_")
    now = values_now(once, "vllm", name)
    assert len(now) == 1
    assert now[0][-1].rpartition("=")[2] == str(value)
    assert edited(once, "vllm", edits) == once
    for other in {"max_num_seqs", "block_size", "seed", "swap_space"} - {name}:
        assert values_now(once, "vllm", other) == values_now(argv, "vllm", other)
