"""What is wrong with a request for a server, and how a request is read from JSON or a curl command."""

from __future__ import annotations

from pathlib import Path

import pytest

from qtop.errors import QtopError
from qtop.probe import lint
from qtop.probe.body import MOST, OwnRequest, parse
from qtop.probe.lint import CHAT, COMPLETIONS, Served, limit_of, streams

VLLM = Served("vllm", "m", 2048)
GOOD = (
    '{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true,'
    '"stream_options":{"include_usage":true}}'
)
GUIDE = """curl -X POST http://localhost:8000/generate \\
  -H "Content-Type: application/json" -H "stream: true" \\
  -d '{"prompt": "量子纠缠是指", "max_new_tokens": 256}' | jq .text | wc -c
"""


def codes(text: str, served: Served = VLLM) -> list[str]:
    return [one.code for one in lint.lint(parse(text), served)]


def completions(rest: str) -> str:
    return '{"model":"m","prompt":"x"' + (f",{rest}" if rest else "") + "}"


def test_a_good_request_has_no_fault() -> None:
    assert codes(GOOD) == []


def test_the_guides_own_acceptance_command() -> None:
    found = lint.lint(parse(GUIDE), VLLM)
    assert [one.code for one in found] == [lint.ROUTE, lint.STREAM_PLACE, lint.SHAPE]
    assert "404" in found[0].text
    assert "header" in found[1].text
    moved = GUIDE.replace("/generate", "/v1/completions")
    assert codes(moved) == [lint.STREAM_PLACE, lint.LIMIT_IGNORED, lint.SHAPE, lint.SHAPE]


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("", lint.STREAM_MISSING),
        ('"stream":false', lint.STREAM_FALSE),
        ('"stream":null', lint.STREAM_FALSE),
        ('"extra_body":{"stream":true}', lint.STREAM_PLACE),
        ('"stream_options":{"stream":true}', lint.STREAM_PLACE),
    ],
)
def test_where_stream_is_missed(rest: str, code: str) -> None:
    text = completions(f'"max_tokens":9{"," if rest else ""}{rest}')
    assert codes(text) == [code]
    assert not streams(parse(text))
    assert lint.lint(parse(text), VLLM)[0].rule == "QT501"


@pytest.mark.parametrize("said", ["true", '"true"', "1"])
def test_what_servers_take_for_a_stream(said: str) -> None:
    assert streams(parse(completions(f'"stream":{said}')))


def test_ollama_streams_by_itself_and_tgi_by_route() -> None:
    ollama = 'curl localhost:11434/api/chat --json \'{"model":"m","messages":[]}\''
    assert streams(parse(ollama))
    assert not streams(parse(ollama.replace("}'", ',"stream":false}\'')))
    assert streams(parse('curl localhost/generate_stream --json \'{"inputs":"x"}\''))


@pytest.mark.parametrize("name", ["max_new_tokens", "max_length", "n_predict", "num_predict", "max_completion_tokens"])
def test_limits_that_vllm_ignores_on_completions(name: str) -> None:
    stream = '"stream":true,"stream_options":{"include_usage":true}'
    text = completions(f'"{name}":40,{stream}')
    found = lint.lint(parse(text), VLLM)
    assert [(one.code, one.rule) for one in found] == [(lint.LIMIT_IGNORED, "QT502")]
    assert found[0].text.startswith(name) and "16 tokens" in found[0].text
    assert limit_of(parse(text), "vllm") == 0
    both = completions(f'"{name}":40,"max_tokens":7,{stream}')
    assert codes(both) == [lint.LIMIT_IGNORED]
    assert "16" not in lint.lint(parse(both), VLLM)[0].text
    assert limit_of(parse(both), "vllm") == 7


def test_no_limit_is_16_tokens_on_completions_of_some_servers_only() -> None:
    stream = '"stream":true,"stream_options":{"include_usage":true}'
    assert codes(completions(stream)) == [lint.LIMIT_MISSING]
    assert codes(completions(stream), Served("sglang")) == [lint.LIMIT_MISSING]
    assert codes(completions(stream), Served("llamacpp")) == []
    assert codes(GOOD.replace('"max_tokens":9,', "")) == []


def test_llamacpp_knows_its_own_limit() -> None:
    text = completions('"n_predict":5,"stream":true,"stream_options":{"include_usage":true}')
    assert codes(text, Served("llamacpp")) == []
    assert limit_of(parse(text), "llamacpp") == 5
    assert codes(text.replace("n_predict", "max_new_tokens"), Served("llamacpp")) == [lint.LIMIT_IGNORED]


def test_several_answers_share_a_count() -> None:
    assert limit_of(parse(completions('"n":2,"max_tokens":8')), "vllm") == 0
    assert limit_of(parse(completions('"n":1,"max_tokens":8')), "vllm") == 8
    assert limit_of(parse(completions('"max_tokens":true')), "vllm") == 0


@pytest.mark.parametrize(
    ("prompt", "asked", "code"),
    [
        (2047, 1, None),
        (2048, 0, lint.TOO_LONG),
        (100, 1949, lint.TIGHT),
        (100, 1948, None),
        (None, 2048, None),
        (None, 2049, lint.TOO_LONG),
    ],
)
def test_what_fits(prompt: int | None, asked: int, code: str | None) -> None:
    rest = '"stream":true,"stream_options":{"include_usage":true}' + (f',"max_tokens":{asked}' if asked else "")
    text = '{"model":"m","messages":[],' + rest + "}"
    assert codes(text, Served("vllm", "m", 2048, prompt)) == ([code] if code else [])


def test_a_long_limit_alone_is_refused_by_vllm_only() -> None:
    assert lint.TOO_LONG in codes(completions('"max_tokens":9999'))
    assert lint.TOO_LONG not in codes(completions('"max_tokens":9999'), Served("llamacpp", "m", 2048))


def test_the_rest() -> None:
    assert codes(GOOD.replace('"m"', '"gpt-4"')) == [lint.MODEL]
    assert codes(GOOD.replace('"m"', '"gpt-4"'), Served("llamacpp", "m")) == []
    assert codes(GOOD.replace(',"stream_options":{"include_usage":true}', "")) == [lint.NO_COUNTS]
    command = f"curl http://h:8000{CHAT} -d '{GOOD}'"
    assert codes(command) == [lint.CONTENT_TYPE]
    assert codes(command.replace("-d", "--json")) == []
    assert codes(command.replace("-d", "-H 'content-type: application/json; charset=utf-8' -d")) == []
    assert codes(command.replace("-d", "-m 3 --json")) == [lint.WAIT]
    assert codes(f"curl h{CHAT} --json '{completions('')}'")[0] == lint.FIELD
    assert codes(f"curl h{COMPLETIONS} --json '{GOOD}'")[0] == lint.FIELD


# ---- reading


def test_a_bare_body_goes_where_its_fields_belong() -> None:
    assert parse(GOOD).route == CHAT
    assert parse(completions("")).route == COMPLETIONS
    assert parse('{"inputs":"x"}').route == "/generate"
    assert parse('{"input":"x"}').route == "/v1/responses"


@pytest.mark.parametrize(
    "command",
    [
        "curl http://h:8000/v1/completions -H 'Authorization: Bearer sk-1' -d '{\"prompt\":\"x\"}'",
        "curl -XPOST --url=h:8000/v1/completions -H'authorization: bearer sk-1' --data-raw '{\"prompt\":\"x\"}'",
        '$ curl "h:8000/v1/completions/" \\\n -H "Authorization: Bearer sk-1" \\\n --json \'{"prompt":"x"}\' > out',
        'curl -w x h:8000/v1/completions -H "Authorization: Bearer sk-1" -d\'{"prompt":"x"}\'',
    ],
)
def test_curl_as_people_write_it(command: str) -> None:
    found = parse(command)
    assert (found.route, found.origin, found.key, found.body) == (COMPLETIONS, "h:8000", "sk-1", {"prompt": "x"})
    assert found.command
    assert "sk-1" not in repr(found) and "prompt" not in repr(found)


def test_what_a_shell_would_have_to_fill_in_is_no_key() -> None:
    for key in ("$OPENAI_API_KEY", "${KEY}", "<your key>"):
        assert parse(f'curl h/v1/completions -H "Authorization: Bearer {key}" -d \'{{"prompt":"x"}}\'').key == ""
    assert parse("curl h/v1/completions -H 'Authorization: Basic abc' -d '{\"prompt\":\"x\"}'").key == ""


def test_a_body_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"prompt":"from a file"}')
    assert parse("curl h/v1/completions -d @b.json", tmp_path).body == {"prompt": "from a file"}
    with pytest.raises(QtopError, match="cannot be read"):
        parse("curl h/v1/completions -d @none.json", tmp_path)
    assert parse('curl h/v1/completions --data-raw \'{"prompt":"@x"}\'', tmp_path).body == {"prompt": "@x"}


def test_a_path_before_the_route_is_kept() -> None:
    found = parse("curl https://h/llm/v1/chat/completions --json '{\"messages\":[]}'")
    assert (found.path, found.route, found.origin) == ("/llm/v1/chat/completions", CHAT, "h:443")
    assert parse("curl h/chat/completions --json '{\"messages\":[]}'").route == CHAT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON"),
        ("{'prompt': 'my secret words'}", "no JSON"),
        ("[1]", "no JSON object"),
        ('{"model":"m"}', "neither"),
        ("curl h/v1/completions", "no body"),
        ('curl h/v1/completions -d \'{"prompt":"my secret words"', "quotation mark"),
        ('curl h/sleep -d \'{"prompt":"my secret words"}\'', "no route"),
        ('curl h/v1/completions -d \'{"prompt":"my secret words\'', "no JSON"),
        ("curl http://[/v1/completions -d '{}'", "URL"),
        ("[" * 100_000, "no JSON|nested"),
    ],
)
def test_what_cannot_be_read_is_said_without_quoting_it(text: str, says: str) -> None:
    with pytest.raises(QtopError, match=says) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_a_request_without_end_is_not_read() -> None:
    with pytest.raises(QtopError, match="larger"):
        parse("x" * (MOST + 1))


def test_its_texts_are_known_so_that_they_can_be_held_back() -> None:
    text = (
        '{"model":"some/model","messages":[{"role":"user","content":[{"type":"text","text":"deep"}]}],"system":"top"}'
    )
    found: OwnRequest = parse(text)
    assert "deep" in found.texts and "top" in found.texts and "some/model" not in found.texts
    assert found.prompt.split("\n") == ["top", "text", "deep"] or "deep" in found.prompt
