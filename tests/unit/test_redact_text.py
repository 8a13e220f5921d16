"""What people wrote on a command line reaches neither the screen nor a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes.posing import Posing

from qtop.collect.config_in_force import command_line, environment
from qtop.record.redact import Redactor
from qtop.sample import Absent, Setting
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
