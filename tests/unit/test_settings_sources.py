"""Each source of a server's settings: command line, file, environment, routes; read from real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.fakes.behaved import capture
from tests.fakes.hostile import Hostile, Route
from tests.fakes.posing import Posing

from qtop.collect.config_in_force import command_line, config_file, environment, gather, routes, server_info
from qtop.collect.config_in_force.inside import read_file
from qtop.collect.discover.procfs import argv as argv_of
from qtop.collect.discover.procfs import start_ticks
from qtop.collect.http import Access
from qtop.sample import Absent, Setting, Why
from qtop.sample.secrets import MASK, is_secret_name, masked
from qtop.sample.settings import (
    COMMAND_LINE,
    CONFIG_FILE,
    ENVIRONMENT,
    LONGEST_VALUE,
    PROPS,
    SERVER_INFO,
    SET,
)

ROUTE = f"{SERVER_INFO}?config_format=json"


def told(settings: object) -> dict[str, str]:
    assert isinstance(settings, tuple)
    return {one.name: one.value for one in settings}


def detail(answer: object) -> str:
    assert isinstance(answer, Absent)
    assert "\n" not in answer.detail
    return answer.detail


# ---- names


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *((name, True) for name in ("api_key", "--api-key", "VLLM_API_KEY", "HF_TOKEN", "hf-token", "LLAMA_API_KEY")),
        *(
            (name, True)
            for name in ("SGLANG_ADMIN_APIKEY", "OLLAMA_PASSWORD", "session_cookie", "VLLM_AUTH", "dbPasswd")
        ),
        *(
            (name, False)
            for name in ("max_num_batched_tokens", "TOKENIZERS_PARALLELISM", "kv_cache_dtype", "tokenizer")
        ),
        *((name, False) for name in ("long_prefill_token_threshold", "VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE")),
        *(
            (name, False)
            for name in (
                "author",
                "monkey_patch",
                "VLLM_CACHE_PATH",
                "VLLM_PATIENCE",
                "VLLM_PATTERN",
                "compilation_config.pass_config.fuse",
                "VLLM_BYPASS",
                "monkey",
                "ssl_keyfile",
                "--ssl-key-file",
                "VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD",
            )
        ),
    ],
)
def test_a_secret_is_known_by_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


@pytest.mark.parametrize(
    "name",
    ["VLLM_DB_PWD", "VLLM_PASS", "VLLM_PASSCODE", "VLLM_GIT_PAT", "VLLM_DSN", "VLLM_SIGNATURE", "VLLM_WEBHOOK",
     "VLLM_ACCESSKEY", "VLLM_AUTHTOKEN", "VLLM_SESSIONTOKEN", "VLLM_X_PRIVATEKEY", "dbPwd"],
)  # fmt: skip
def test_secret_words_of_variables(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--kv-transfer-config", '{"c": "x", "my_token": "zQ9x", "n": 2}'], '{"c": "x", "my_token": "***", "n": 2}'),
        (["--model-loader-extra-config", '{"aws_secret_access_key":"zQ9x"}'], '{"aws_secret_access_key": "***"}'),
        (["--additional-config", '[{"k": {"auth": ["zQ9x"]}}]'], '[{"k": {"auth": "***"}}]'),
        (["--additional-config", '{"a": "{\\"key\\": \\"zQ9x\\"}"}'], '{"a": "{\\"key\\": \\"***\\"}"}'),
        (["--additional-config", '{"key": "zQ9x", "key": ""}'], '{"key": "***", "key": "***"}'),
        (["--lora-modules", '{"a": 1}', '{"key": "zQ9x"}'], '{"a": 1} {"key": "***"}'),
        (["-H", "Authorization: Bearer zQ9x"], "Authorization: ***"),
        (["--otlp-traces-endpoint", "http://u:zQ9x@h:1/?token=zQ9x"], "http://***@h:1/?***"),
        (["--tool-server", "demo?key=zQ9x"], "demo?***"),
        (["--compilation-config", '{"level":3,"x":[ 1 ]}'], '{"level":3,"x":[ 1 ]}'),  # nothing to hide: as written
        (["--served-model-name", "org/token-7b:latest"], "org/token-7b:latest"),
    ],
)  # fmt: skip
def test_secrets_inside_a_value_are_masked(words: list[str], expected: str) -> None:
    found = command_line.settings(["vllm", "serve", *words], "vllm")
    assert [one.value for one in found] == [expected]
    assert masked(expected) == expected


# ---- the command line


@pytest.mark.parametrize(
    ("engine", "words", "expected"),
    [
        ("vllm", "vllm serve m --max-num-seqs 64", {"model": "m", "max_num_seqs": "64"}),
        ("vllm", "vllm serve --max_num_seqs=64 --max-num-seqs 8", {"max_num_seqs": "8"}),
        ("vllm", "vllm serve m -tp 2 -O3", {"model": "m", "tensor_parallel_size": "2", "optimization_level": "3"}),
        ("vllm", "vllm serve --enforce-eager --seed 1", {"enforce_eager": "on", "seed": "1"}),
        ("vllm", "vllm serve --enable-chunked-prefill m", {"enable_chunked_prefill": "on"}),
        ("vllm", "vllm serve --no-enable-prefix-caching", {"enable_prefix_caching": "off"}),
        ("vllm", "vllm serve --max-model-len -1", {"max_model_len": "-1"}),
        ("vllm", "vllm serve --lora-modules a=1 b=2 --seed 0", {"lora_modules": "a=1 b=2", "seed": "0"}),
        ("vllm", "vllm serve -cc.mode=3 --seed 0", {"compilation_config.mode": "3", "seed": "0"}),
        ("vllm", "vllm serve --seed 1 -- --seed 2", {"seed": "1"}),
        ("vllm", "vllm serve --api-key a b --hf-token=c --seed 0", {"api_key": SET, "hf_token": SET, "seed": "0"}),
        ("vllm", "vllm serve --chat-template hello", {"chat_template": SET}),
        ("vllm", "python3 -m vllm.entrypoints.openai.api_server --model q", {"model": "q"}),
        ("llamacpp", "llama-server -m /q -c 4096 -np 4", {"model": "/q", "ctx_size": "4096", "parallel": "4"}),
        ("llamacpp", "llama-server -fa -ngl 9 -b 8", {"flash_attn": "on", "n_gpu_layers": "9", "batch_size": "8"}),
        ("llamacpp", "llama-server -fa on --mlock -t 8", {"flash_attn": "on", "mlock": "on", "threads": "8"}),
        ("llamacpp", "llama-server --no-mmap -p secret", {"no_mmap": "on", "prompt": SET}),
        ("sglang", "python -m sglang.launch_server --tp 2 --page-size 8", {"tp_size": "2", "page_size": "8"}),
        ("tgi", "text-generation-launcher --max-batch-size 4", {"max_batch_size": "4"}),
        ("vllm", "", {}),
    ],
)  # fmt: skip
def test_a_command_line_is_read_as_its_parser_does(engine: str, words: str, expected: dict[str, str]) -> None:
    found = command_line.settings(words.split(), engine)
    assert told(found) == expected
    assert {one.source for one in found} <= {COMMAND_LINE}


def test_a_value_too_long_to_show_is_counted_and_not_cut() -> None:
    [one] = command_line.settings(["vllm", "serve", "--additional-config", "x" * (LONGEST_VALUE + 1)], "vllm")
    assert one.value == f"({LONGEST_VALUE + 1} characters)"


def test_many_flags_stay_bounded() -> None:
    words = [f"--flag-{number}" for number in range(10_000)]
    assert len(command_line.settings(["vllm", "serve", *words], "vllm")) == command_line.MOST


# ---- the environment


def test_the_environment_tells_what_configures_speed_and_of_secrets_that_they_are_set(tmp_path: Path) -> None:
    environ = {
        "VLLM_USE_DEEP_GEMM": "1",
        "OMP_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "VLLM_API_KEY": "sk-secret",
        "HF_TOKEN": "hf_secret",
        "VLLM_HOST_IP": "10.0.0.7",
        "VLLM_SERVICE_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/home/someone",
        "OLLAMA_NUM_PARALLEL": "4",
    }
    with Posing(tmp_path, ["serve"], environ) as process:
        found = environment.settings(process.pid, "vllm")
        any_engine = environment.settings(process.pid, "openai")
    assert told(found) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "HF_TOKEN": SET,
        "OMP_NUM_THREADS": "4",
        "VLLM_API_KEY": SET,
        "VLLM_USE_DEEP_GEMM": "1",
    }
    assert told(any_engine)["OLLAMA_NUM_PARALLEL"] == "4"
    assert detail(environment.settings(process.pid, "vllm")) == "the process has ended"


def test_llamacpp_variables_bear_the_name_of_their_flag(tmp_path: Path) -> None:
    environ = {"LLAMA_ARG_CTX_SIZE": "8192", "LLAMA_ARG_N_PARALLEL": "2", "LLAMA_ARG_API_KEY": "s", "GGML_X": "1"}
    with Posing(tmp_path, [], environ, program="llama-server") as process:
        found = environment.settings(process.pid, "llamacpp")
    assert isinstance(found, tuple)
    assert Setting("ctx_size", "8192", ENVIRONMENT, "LLAMA_ARG_CTX_SIZE") in found
    assert told(found) == {"ctx_size": "8192", "parallel": "2", "api_key": SET, "GGML_X": "1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_environment_is_denied(tmp_path: Path) -> None:
    with Posing(tmp_path, ["serve"], {"VLLM_X": "1"}) as process:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setresuid(65534, 65534, 65534)
                answer = environment.settings(process.pid, "vllm")
                code = 0 if isinstance(answer, Absent) and answer.why is Why.DENIED else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- the config file


def configured(folder: Path, text: str | bytes, name: str = "c.yaml") -> object:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with Posing(folder, ["serve", "m", "--config", name], cwd=folder) as process:
        argv = argv_of(process.pid)
        assert not isinstance(argv, Absent)
        return config_file.settings(process.pid, argv)


def test_a_file_says_what_vllm_makes_of_it(tmp_path: Path) -> None:
    text = """
        max-num-seqs: 64
        gpu-memory-utilization: 0.85
        max_model_len: 32k
        enforce-eager: true
        enable-prefix-caching: false
        lora-modules: [a=1, b=2]
        api-key: [one, two]
        empty-list: []
        quantization: null
        speculative-config:
          method: ngram
          num_speculative_tokens: 3
        kv-transfer-config:
          kv_connector: X
          extra: {password: hunter2}
    """
    found = configured(tmp_path, "\n".join(line.removeprefix("        ") for line in text.splitlines()))
    assert isinstance(found, tuple)
    assert {one.source for one in found} == {CONFIG_FILE}
    values = told(found)
    assert json.loads(values.pop("speculative_config")) == {"method": "ngram", "num_speculative_tokens": 3}
    assert json.loads(values.pop("kv_transfer_config")) == {"kv_connector": "X", "extra": {"password": MASK}}
    assert values == {
        "max_num_seqs": "64",
        "gpu_memory_utilization": "0.85",
        "max_model_len": "32k",
        "enforce_eager": "on",
        "enable_prefix_caching": "off",
        "lora_modules": "a=1 b=2",
        "api_key": SET,
        "quantization": "None",
    }


def test_aliases_and_merge_keys_are_followed(tmp_path: Path) -> None:
    text = "x: &base {a: 1, b: 2}\ny: &other {b: 9, c: 3}\nz: {<<: [*base, *other], a: 7}\nsame: *base\n"
    values = told(configured(tmp_path, text))
    assert json.loads(values["z"]) == {"a": 7, "b": 2, "c": 3}
    assert values["same"] == values["x"]


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (BOMB, "too many values or is nested too deeply"),
        (MERGES, "too many values or is nested too deeply"),
        ("a: &a [*a]\n", "too many values or is nested too deeply"),
        ("&a {<<: *a}\n", "too many values or is nested too deeply"),
        ("a: " + "[" * 100_000, "too many values or is nested too deeply"),
        ("".join(f"k{number}: 1\n" for number in range(10_000)), "too many values"),
        (b"\x00\x01\xff\xfe" * 100, "is not YAML: it is not text"),
        ("a: [1\nb: 2\n", "is not YAML: line 2"),
        ("a: !!python/object/apply:os.system [true]\n", None),
        ("a: !!int nine\n", "is not YAML"),
        ("just words", "holds no settings"),
        ("", "holds no settings"),
        ("a: " + "x" * 256 * 1024, "is larger than 256 KiB"),
    ],
)
def test_a_hostile_file_costs_one_line(tmp_path: Path, content: str | bytes, clause: str | None) -> None:
    found = configured(tmp_path, content)
    if clause is None:  # a tag is a tag: nothing is constructed from it
        assert told(found) == {"a": "True"}
    else:
        assert clause in detail(found)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "c.txt").write_text("a: 1")
    with Posing(tmp_path, ["serve"]) as process:
        for name, clause in {
            "pipe.yaml": "is not a plain file",
            "folder.yaml": "is not a plain file",
            "zero.yaml": "is not a plain file",
            "loop.yaml": "too many links",
            "absent.yaml": "no such file",
            "c.txt": "vLLM takes a .yaml or .yml file",
            "c.txt/x.yaml": "not a folder",
            "a\0b.yaml": "its name is no path",
        }.items():
            assert clause in detail(config_file.settings(process.pid, ("vllm", "serve", "--config", name)))
        for argv in (("vllm", "serve"), ("vllm", "serve", "--config"), ("vllm", "serve", "--config=c.yaml")):
            assert config_file.settings(process.pid, argv) is None


def test_a_path_is_the_processes_own_and_links_do_not_lead_out_of_its_root(tmp_path: Path) -> None:
    """A made-up /proc whose process lives in a folder, as one in a container lives in its image."""
    box, proc = tmp_path / "box", tmp_path / "proc" / "7"
    for folder in (box / "etc", box / "srv" / "app", proc):
        folder.mkdir(parents=True)
    (proc / "root").symlink_to(box)
    (proc / "cwd").symlink_to(box / "srv" / "app")
    (box / "etc" / "c.yaml").write_bytes(b"inside")
    (tmp_path / "c.yaml").write_bytes(b"outside")
    (box / "srv" / "app" / "absolute.yaml").symlink_to("/etc/c.yaml")
    (box / "srv" / "app" / "relative.yaml").symlink_to("../../etc/c.yaml")
    (box / "srv" / "app" / "folder").symlink_to("/etc")
    (box / "srv" / "app" / "out.yaml").symlink_to("../../../../c.yaml")
    (box / "srv" / "app" / "passwd").symlink_to("/etc/passwd")
    root = tmp_path / "proc"
    for path in ("/etc/c.yaml", "absolute.yaml", "relative.yaml", "folder/c.yaml", "../../../../etc/./c.yaml"):
        assert read_file(7, path, 100, root) == b"inside", path
    for path in ("out.yaml", "passwd", "../../../c.yaml"):
        assert "no such file" in detail(read_file(7, path, 100, root)), path


# ---- what the server answers


def answered(body: bytes | str, status: int = 200) -> Route:
    return (status, "application/json", body if isinstance(body, bytes) else body.encode())


def test_server_info_is_understood_as_captured_and_nothing_else_of_it_is_kept() -> None:
    captured = json.loads(capture("vllm.server_info.json"))
    captured["vllm_config"]["model_config"]["hf_token"] = "hf_secretsecretsecret"
    captured["system_env"] = {"env_vars": "VLLM_API_KEY=sk-secret"}
    with Hostile("vllm", routes={ROUTE: answered(json.dumps(captured))}) as server:
        found = server_info.settings(Access(server.url))
    values = told(found)
    assert values["max_num_seqs"] == "128" and values["max_num_batched_tokens"] == "2048"
    assert values["kv_cache_dtype"] == "auto" and values["scheduling_policy"] == "fcfs"
    assert values["async_scheduling"] == "off" and values["enforce_eager"] == "on" and values["dtype"] == "float32"
    assert values["quantization"] == "none" and values["gpu_memory_utilization"] == "0.92"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("body", "clause"),
    [
        ('{"vllm_config":"model=..."}', "is not JSON"),
        ('{"vllm_config":{}}', "no setting"),
        ("[]", "not what this route"),
    ],
)
def test_a_server_info_of_another_form_says_so(body: str, clause: str) -> None:
    with Hostile("vllm", routes={ROUTE: answered(body)}) as server:
        assert clause in detail(server_info.settings(Access(server.url)))


def test_llamacpp_and_sglang_and_tgi_tell_theirs() -> None:
    sglang = json.dumps(
        {
            "mem_fraction_static": 0.88,
            "tp_size": 2,
            "api_key": "sk-x",
            "disable_radix_cache": False,
            "max_running_requests": None,
        }
    )
    tgi = '{"max_concurrent_requests":128,"model_dtype":"torch.float16","model_id":"m"}'
    with Hostile("llamacpp") as server:
        assert told(routes.settings(Access(server.url), "llamacpp")) == {
            "parallel": "4",
            "quantization": "Q4_1",
            "ctx_size_slot": "2048",
            "speculative": "none",
        }
    with Hostile("openai", routes={"/get_server_info": answered(sglang), "/info": answered(tgi)}) as server:
        found = told(routes.settings(Access(server.url), "sglang"))
        assert found == {
            "mem_fraction_static": "0.88",
            "tp_size": "2",
            "disable_radix_cache": "off",
            "max_running_requests": "none",
        }
        assert told(routes.settings(Access(server.url), "tgi")) == {
            "max_concurrent_requests": "128",
            "dtype": "float16",
        }
        assert routes.settings(Access(server.url), "ollama") is None
        assert detail(routes.settings(Access(server.url), "llamacpp")) == "the server has no /props"


# ---- all of it


def gathered(server: Hostile, process: Posing, engine: str = "vllm", ask: bool = True) -> list[gather.Gathered]:
    argv = argv_of(process.pid)
    heard: list[gather.Gathered] = []
    subject = gather.Subject(Access(server.url), engine, process.pid, start_ticks(process.pid), argv, ask)
    gather.gather(subject, heard.append)
    return heard


def test_server_info_is_asked_of_ones_own_server_in_development_mode_only(tmp_path: Path) -> None:
    with Hostile("vllm", routes={ROUTE: answered(capture("vllm.server_info.json"))}) as server:
        for mode, ask, why in (("0", True, server_info.CLOSED), ("1", False, server_info.TURNED_OFF)):
            with Posing(tmp_path, ["serve", "m"], {"VLLM_SERVER_DEV_MODE": mode}) as process:
                [told_once] = gathered(server, process, ask=ask)
            assert told_once.missing == {SERVER_INFO: why}
        assert not server.seen
        with Posing(tmp_path, ["serve", "m"], {"VLLM_SERVER_DEV_MODE": "1"}) as process:
            first, last = gathered(server, process)
        assert first.missing == {SERVER_INFO: gather.READING}
        assert last.missing == {}
        assert last.settings[-len(first.settings) :] == first.settings
        assert [seen.path for seen in server.seen] == [ROUTE]


def test_a_route_that_does_not_answer_holds_up_nothing(tmp_path: Path) -> None:
    heard: list[gather.Gathered] = []
    first, second = threading.Event(), threading.Event()

    def told_so(answer: gather.Gathered) -> None:
        heard.append(answer)
        (second if first.is_set() else first).set()

    with Hostile("silent") as server, Posing(tmp_path, ["serve", "m"], {"VLLM_SERVER_DEV_MODE": "1"}) as process:
        subject = gather.Subject(
            Access(server.url), "vllm", process.pid, start_ticks(process.pid), argv_of(process.pid)
        )
        gather.start(subject, told_so)
        assert first.wait(10)
        assert told(heard[0].settings) == {"model": "m", "VLLM_SERVER_DEV_MODE": "1"}
        assert heard[0].missing == {SERVER_INFO: gather.READING}
        assert not second.is_set()
    assert second.wait(10)  # the server has gone: its silence ends
    assert heard[1].settings == heard[0].settings
    # Its end shows as a closed connection or as one that was reset.
    assert heard[1].missing[SERVER_INFO].why in (Why.LOST, Why.FAILED)


def test_a_process_that_is_another_by_now_gives_no_environment(tmp_path: Path) -> None:
    with Hostile("vllm") as server, Posing(tmp_path, ["serve", "m"], {"VLLM_X": "1"}) as process:
        subject = gather.Subject(Access(server.url), "vllm", process.pid, 1, ("vllm", "serve", "m"))
        heard: list[gather.Gathered] = []
        gather.gather(subject, heard.append)
    assert told(heard[-1].settings) == {"model": "m"}
    assert heard[-1].missing[ENVIRONMENT].why is Why.LOST


def test_without_a_process_the_reason_is_told_and_the_routes_still_are_asked() -> None:
    heard: list[gather.Gathered] = []
    unseen = Absent(Why.NOT_HERE, "its process cannot be seen from here")
    with Hostile("llamacpp") as server:
        gather.gather(gather.Subject(Access(server.url), "llamacpp", None, None, unseen), heard.append)
    assert heard[0].missing == {COMMAND_LINE: unseen, ENVIRONMENT: unseen, PROPS: gather.READING}
    assert heard[1].missing == {COMMAND_LINE: unseen, ENVIRONMENT: unseen}
    assert told(heard[1].settings)["parallel"] == "4"


def test_an_engine_that_only_speaks_openai_is_known_by_its_command_line(tmp_path: Path) -> None:
    with Hostile("openai") as server, Posing(tmp_path, ["serve"], {"OLLAMA_NUM_PARALLEL": "3"}, program="x") as process:
        subject = gather.Subject(
            Access(server.url), "openai", process.pid, start_ticks(process.pid), ("ollama", "serve")
        )
        assert gather.kind_of(subject) == "ollama"
        heard: list[gather.Gathered] = []
        gather.gather(subject, heard.append)
    assert told(heard[-1].settings) == {"OLLAMA_NUM_PARALLEL": "3"}


def test_yaml_is_imported_only_for_a_file() -> None:
    code = "import sys, qtop.source.attach, qtop.source.live; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
