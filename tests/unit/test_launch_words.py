"""Words of a server, written back into a unit or a container: what does not change stays as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.act.launchers.respell import literal, respelled
from qtop.act.launchers.systemctl import seconds
from qtop.act.launchers.unit_place import (
    DROPIN,
    LAST,
    Unit,
    dropin_text,
    name_for,
    token_in,
    unit_of,
)
from qtop.act.launchers.unit_text import assignments, effective, quoted, split, takes_verbatim, tokens
from qtop.errors import Refused

ENVIRON = {"PORT": "8000", "ARGS": "--a 1  --b", "NONE": ""}


def written(command: str, old: list[str], new: list[str], own: int, environ: dict[str, str] | None = ENVIRON) -> str:
    verbatim = takes_verbatim(command)
    found = tokens(command, environ)
    return " ".join(respelled(found, old, new, own, lambda word: quoted(word, verbatim), "the unit x.service"))


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("/bin/x a  b", ["/bin/x", "a", "b"]),
        ("/bin/x 'a b' \"c d\"", ["/bin/x", "a b", "c d"]),
        ("/bin/x --a='b c'd", ["/bin/x", "--a=b cd"]),
        (r"/bin/x \x41\101\u0042 a\sb \" '\''", ["/bin/x", "AAB", "a b", '"', "'"]),
        (r"/bin/x \; ';' a;b", ["/bin/x", ";", ";", "a;b"]),
        ("/bin/x ''", ["/bin/x", ""]),
    ],
)
def test_words_are_read_as_systemd_reads_them(command: str, meant: list[str]) -> None:
    assert [word for _, word in split(command)] == meant


@pytest.mark.parametrize("command", ["/bin/a ; /bin/b", "/bin/a 'b", '/bin/a "b'])
def test_what_cannot_be_rewritten_is_refused(command: str) -> None:
    with pytest.raises(Refused):
        split(command)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_what_is_written_is_read_back(word: str) -> None:
    (_, (_, meant)) = split(f"/bin/x {quoted(word)}")
    if "%" not in word and "$" not in word:
        assert meant == word
    (found,) = tokens(f"/bin/x {quoted(word)}", {})[1:]
    assert found.words == (word,)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_behind_a_colon_a_dollar_means_itself(word: str) -> None:
    (found,) = tokens(f":/bin/x {quoted(word, verbatim=True)}", {"a": "b"})[1:]
    assert found.words == (word,)


def test_a_value_changes_and_all_else_stays_as_written() -> None:
    old = ["/usr/bin/python3", "/opt/vllm", "serve", "M x", "--port", "8000", "--max-num-seqs", "64", "--a", "1", "--b"]
    new = [word if word != "64" else "$9%" for word in old]
    command = '-/opt/vllm serve "M %i" --port ${PORT} --max-num-seqs 64 $ARGS $NONE'
    assert written(command, old, new, 2) == '-/opt/vllm serve "M %i" --port ${PORT} --max-num-seqs $$9%% $ARGS $NONE'


def test_what_comes_from_a_variable_is_written_out_where_it_changes() -> None:
    old = ["/opt/llama-server", "--port", "8000", "--a", "1", "--b", "--z"]
    command = "/opt/llama-server --port ${PORT} $ARGS --z"
    changed = [word if word != "1" else "2" for word in old]
    assert written(command, old, changed, 1) == "/opt/llama-server --port ${PORT} --a 2 --b --z"
    assert written(command, old, [*old[:5], "--z"], 1) == "/opt/llama-server --port ${PORT} --a 1 --z"
    assert written(command, old, [*old, "--new", "a b"], 1) == f'{command} --new "a b"'


def test_a_flag_that_goes_takes_its_value_along() -> None:
    old = ["/opt/llama-server", "--port", "8000", "--a", "1"]
    assert written("/opt/llama-server --port 8000 --a 1", old, [*old[:1], *old[3:]], 1) == "/opt/llama-server --a 1"


def test_a_script_that_hands_on_its_words_is_given_others() -> None:
    old = ["/usr/bin/python3", "/opt/vllm", "serve", "M", "--port", "8000"]
    assert written("/opt/start.sh --port 8000", old, [*old, "--x"], 2) == "/opt/start.sh --port 8000 --x"


@pytest.mark.parametrize(
    "command", ["/opt/start.sh", "/bin/sh -c 'exec vllm serve M --port 8000'", "/opt/start.sh --host h --port 8001"]
)
def test_words_that_are_not_in_the_unit_are_refused(command: str) -> None:
    old = ["/usr/bin/python3", "/opt/vllm", "serve", "M", "--port", "8000"]
    with pytest.raises(Refused, match="through a script or a shell"):
        written(command, old, [*old, "--x"], 2)


def test_words_before_those_that_the_script_hands_on_are_not_its_to_change() -> None:
    old = ["/usr/bin/python3", "/opt/vllm", "serve", "M", "--port", "8000"]
    with pytest.raises(Refused):
        written("/opt/start.sh --port 8000", old, [*old[:3], "N", *old[4:]], 2)


def test_an_environment_that_may_not_be_read_matters_only_where_words_are_split() -> None:
    old = ["/opt/llama-server", "--port", "8000"]
    assert written("/opt/llama-server --port ${PORT}", old, [*old, "-x"], 1, None) == (
        "/opt/llama-server --port ${PORT} -x"
    )
    with pytest.raises(Refused, match=r"\$ARGS"):
        written("/opt/llama-server --port 8000 $ARGS", old, [*old, "-x"], 1, None)


def test_the_command_in_force_is_the_last_after_an_empty_one() -> None:
    unit = "[Unit]\nExecStart=no\n[Service]\nExecStart=/bin/a \\\n# between\n  --b 1\n"
    assert assignments(unit, "Service", "ExecStart") == ["/bin/a    --b 1"]
    assert effective([unit, "[Service]\nExecStart=\nExecStart=/bin/c\n"]) == ["/bin/c"]
    assert effective([unit, "[Service]\nExecStart=/bin/c\n"]) == ["/bin/a    --b 1", "/bin/c"]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/vllm.service\n", Unit("vllm.service")),
        ("0::/system.slice/system-vllm.slice/vllm@x.service\n", Unit("vllm@x.service")),
        ("0::/system.slice/vllm.service/part/sub\n", Unit("vllm.service")),
        ("9:cpu:/\n1:name=systemd:/system.slice/vllm.service\n0::/\n", Unit("vllm.service")),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/vllm.service\n", Unit("vllm.service", 7)),
        ("0::/user.slice/user-7.slice/session-3.scope\n", None),
        ("0::/user.slice/user-7.slice/user@7.service/init.scope\n", None),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/tmux-spawn-1.scope\n", None),
        (f"0::/system.slice/docker-{'ab' * 32}.scope\n", None),
        (f"0::/system.slice/docker.service/{'ab' * 32}\n", None),
        ("5:cpu:/system.slice/other.service\n0::/\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_of_a_process(cgroup: str, unit: Unit | None) -> None:
    assert unit_of(cgroup) == unit


def test_a_drop_in_has_the_last_word() -> None:
    main = (Path("/etc/systemd/system/a.service"), "[Service]\nExecStart=/bin/a\n")
    limits = (Path("/etc/systemd/system/a.service.d/override.conf"), "[Service]\nLimitNOFILE=9\n")
    command = (Path("/etc/systemd/system/a.service.d/override.conf"), "[Service]\nExecStart=\nExecStart=/bin/b\n")
    assert name_for([main]) == name_for([main, limits]) == DROPIN
    assert name_for([main, command]) == LAST
    assert sorted([DROPIN, "override.conf", LAST])[-1] == LAST


def test_a_drop_in_keeps_what_was_there_and_names_the_last_change() -> None:
    first = dropin_text("", "1" * 16, "/bin/a 1")
    second = dropin_text(f"{first}[Service]\nNice=3\n", "2" * 16, "/bin/a 2")
    assert (token_in(first), token_in(second)) == ("1" * 16, "2" * 16)
    assert effective(["[Service]\nExecStart=/bin/a\n", second]) == ["/bin/a 2"]
    assert effective([second], key="Nice") == ["3"]


@pytest.mark.parametrize(
    ("span", "expected"), [("1min 30s", 90.0), ("100ms", 0.1), ("2h", 7200.0), ("infinity", None), ("0", None)]
)
def test_time_spans(span: str, expected: float | None) -> None:
    assert seconds(span) == expected


def test_a_token_of_several_words_goes_as_one() -> None:
    found = [literal("a"), *tokens("x $ARGS", ENVIRON)[1:]]
    old = ["a", "--a", "1", "--b"]
    assert respelled(found, old, ["a", "--a", "1"], 0, str, "it") == ["a", "--a", "1"]
