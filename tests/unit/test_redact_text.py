"""What people wrote on a command line reaches neither the screen nor a file; names of hosts and users no file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.fakes.posing import Posing

from qtop.collect.config_in_force import command_line, environment
from qtop.record.redact import Redactor
from qtop.sample import (
    Absent,
    EngineSample,
    HostSample,
    ProcessSample,
    Sample,
    ServerInfo,
    ServerProcs,
    Setting,
    TaskSample,
    ThreadSample,
    Why,
)
from qtop.sample.settings import ENVIRONMENT, SET

REDACTOR = Redactor(["gpubox17"])

LLAMA = [
    ["--system-prompt", "You are zQ9x"],
    ["-sys", "- zQ9x"],
    ["-p", "zQ9x", "and zQ9x"],
    ["--prompt=zQ9x = zQ9x"],
    ["--grammar", "root ::= zQ9x"],
    ["--chat-template", "{% zQ9x %}"],
    ["--chat-template", "zQ9x"],
    ["--chat-template-kwargs", '{"x":"zQ9x"}'],
    ["--in-prefix", "zQ9x"],
    ["--in-suffix", "zQ9x"],
    ["-j", '{"title":"zQ9x"}'],
    ["--json-schema", "{zQ9x}"],
    ["-r", "zQ9x"],
    ["--reverse-prompt", "zQ9x"],
]
VLLM = [
    ["--default-chat-template-kwargs", '{"persona":"zQ9x"}'],
    ["--default-chat-template-kwargs.persona", "zQ9x"],
    ["--override-generation-config", '{"system_prompt":"zQ9x"}'],
    ["--override-generation-config={zQ9x}"],
    ["--chat-template", "zQ9x"],
    ["--hf-overrides", '{"a":{"system_prompt":"zQ9x"}}'],
]


@pytest.mark.parametrize(
    ("engine", "program", "words"),
    [*(("llamacpp", "llama-server", words) for words in LLAMA), *(("vllm", "vllm", words) for words in VLLM)],
)
def test_texts_of_a_command_line(engine: str, program: str, words: list[str]) -> None:
    argv = [program, *words, "--port", "8000"]
    found = command_line.settings(argv, engine)
    assert "zQ9x" not in repr(found) and ("port", "8000") in [(one.name, one.value) for one in found]
    redacted = REDACTOR.argv(argv)
    assert "zQ9x" not in repr(redacted)
    assert redacted[1].partition("=")[0] == words[0].partition("=")[0] and redacted[-2:] == ("--port", "8000")


@pytest.mark.parametrize("form", ["--prompt 'a zQ9x'", "--system-prompt=a zQ9x b", '-p "zQ9x"', "--grammar zQ9x"])
def test_texts_in_a_whole_command(form: str) -> None:
    command = f"exec llama-server {form} --port 8000"
    for text in (*REDACTOR.argv(["sh", "-c", command]), REDACTOR.text(command)):
        assert "zQ9x" not in text
    assert REDACTOR.text(command).endswith("--port 8000")


@pytest.mark.parametrize(
    "words",
    [
        ["text-generation-launcher", "-p", "8080", "m"],
        ["vllm", "-r", "0", "--trust-request-chat-template"],
        ["vllm", "--chat-template", "/opt/templates/tool.jinja", "--chat-template=./a.jinja"],
        ["llama-server", "--grammar-file", "/g.gbnf", "--cache-prompt", "--port", "8000", "--sps", "0.5"],
        ["sh", "-c", "vllm serve m -r 0 --chat-template x.jinja"],
    ],
)  # fmt: skip
def test_what_is_nobodys_text_stays(words: list[str]) -> None:
    assert REDACTOR.argv(words) == tuple(words)


def test_texts_of_the_environment(tmp_path: Path) -> None:
    variables = {"VLLM_DEV_PROMPT": "zQ9x", "VLLM_X_CHAT_TEMPLATE": "zQ9x", "VLLM_LOG_PROMPT": "1"}
    with Posing(tmp_path, ["serve"], variables) as process:
        found = environment.settings(process.pid, "vllm")
    assert not isinstance(found, Absent)
    assert [one.value for one in found] == [SET, "1", SET]
    for name in variables:
        assert "zQ9x" not in repr(REDACTOR.setting(Setting(name, "zQ9x", ENVIRONMENT)))


# ---- names


def test_host_name_of_threads_and_of_competitors() -> None:
    threads = tuple(ThreadSample(tid, comm, 1, 1, 1) for tid, comm in ((1, "gpubox17-rx"), (2, "vllm")))
    process = ProcessSample(pid=1, start_ticks=1, ppid=0, comm="vllm", cpu_ticks=1, rss_bytes=1, threads=threads)
    other = msgspec.structs.replace(process, pid=2, threads=threads[1:])
    tasks = tuple(TaskSample(pid, 1, comm, 1, "0") for pid, comm in ((3, "gpubox17-agent"), (4, "cron")))
    sample = Sample(
        t=1.0,
        procs=ServerProcs(at=1.0, processes=(process, other)),
        host=HostSample(at=1.0, cpus={}, tasks=tasks),
    )
    redactor = Redactor(["gpubox17"])
    for _ in range(2):  # the second time from memory
        hidden = redactor.sample(sample)
        assert isinstance(hidden.procs, ServerProcs) and isinstance(hidden.host, HostSample)
        first, second = hidden.procs.processes
        assert not isinstance(first.threads, Absent) and not isinstance(hidden.host.tasks, Absent)
        assert [(one.tid, one.comm) for one in first.threads] == [(1, "HOST-rx"), (2, "vllm")]
        assert second.threads is other.threads
        assert [(one.pid, one.comm) for one in hidden.host.tasks] == [(3, "HOST-agent"), (4, "cron")]


def test_users_in_paths() -> None:
    label = 'vllm:x{model_name="/home/alice/m"}'
    sample = Sample(
        t=1.0,
        server=ServerInfo(
            model="/home/alice/m",
            argv=("/home/alice/venv/bin/vllm", "serve", "/home/alice/m", "--download-dir=/Users/alice", "/root/m"),
            settings=(Setting("download_dir", '{"a": "/mnt/home/alice/x"}', "command line"),),
        ),
        engine=EngineSample(1.0, 1.0, {label: 1.0}),
        own=Absent(Why.FAILED, "cannot read '/home/alice/c.yaml': file:///home/alice"),
    )
    text = msgspec.json.encode(REDACTOR.sample(sample)).decode()
    assert "alice" not in text and text.count("/home/USER") == 7 and "/Users/USER" in text and "/root/m" in text


@pytest.mark.parametrize(
    "name",
    ["Qwen/Qwen3-4B", "org/home/alice", "home/Users/m", "/models/home-7b", "/data/models/Users-1", "http://home/v1/x"],
)
def test_names_of_models_stay(name: str) -> None:
    assert REDACTOR.argv(["vllm", "serve", name]) == ("vllm", "serve", name)
    assert REDACTOR.text(name) == name
