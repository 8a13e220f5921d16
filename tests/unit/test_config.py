"""The settings file and the API key: what is taken, and one clear line for what is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtop.cli import main
from qtop.config import EXAMPLE, KEY_LIMIT, Settings, config_path, load, read_key
from qtop.errors import EXIT_OK, EXIT_USAGE, QtopError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("QTOP_API_KEY", raising=False)
    return tmp_path


def write(home: Path, text: str | bytes) -> Path:
    path = home / "qtop" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_without_a_file_the_defaults_stand() -> None:
    assert load() == Settings()


def test_a_file_where_a_folder_should_be_is_no_settings(home: Path) -> None:
    (home / "qtop").write_text("")
    assert load() == Settings()


def test_every_key_is_taken(home: Path) -> None:
    write(
        home,
        'interval = 2\nurl = "127.0.0.1:8000"\napi_key_file = "~/key"\nca = "~/ca.pem"\ninsecure = true\n'
        'colour = "ansi"\nprompt = "zh"\nmax_tokens = 9\nrecord_dir = "~/records"\n',
    )
    assert load() == Settings(
        2.0, "127.0.0.1:8000", f"{home}/key", f"{home}/ca.pem", True, "ansi", "zh", 9, f"{home}/records"
    )


def test_the_example_is_valid_with_and_without_its_comments(home: Path) -> None:
    write(home, EXAMPLE)
    assert load() == Settings()
    lines = [line.removeprefix("# ") for line in EXAMPLE.splitlines()[1:]]
    write(home, "\n".join(lines))
    shown = load()
    assert {name for name in Settings.__struct_fields__ if f"{name} =" in EXAMPLE} == set(Settings.__struct_fields__)
    assert shown.url == "http://127.0.0.1:8000" and shown.interval == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("intervall = 1.0\n", "intervall"),
        ("interval = 0\n", "interval"),
        ('interval = "fast"\n', "interval"),
        ('colour = "pink"\n', "colour"),
        ("max_tokens = 99999\n", "max_tokens"),
        ("url = 5\n", "url"),
        ("[section]\n", "section"),
        ("url = \n", "TOML"),
        ("= =\n\n\n", "TOML"),
        (b"url = '\xff\xfe'\n", "TOML"),
        (b"\x00", "TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_fault(
    home: Path, capsys: pytest.CaptureFixture[str], text: str | bytes, told: str
) -> None:
    path = write(home, text)
    with pytest.raises(QtopError) as caught:
        load()
    said = str(caught.value)
    assert str(path) in said and told in said and "\n" not in said
    assert main(["doctor", "--seconds", "1"]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("qtop: ")


@pytest.mark.parametrize("verb", ["journal", "rules", "config"])
def test_a_bad_file_does_not_keep_from_what_needs_no_settings(
    home: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    write(home, "broken = \n")
    assert main([verb]) == EXIT_OK
    assert capsys.readouterr().err == ""


def test_a_folder_in_place_of_the_file(home: Path) -> None:
    (home / "qtop" / "config.toml").mkdir(parents=True)
    with pytest.raises(QtopError, match="cannot read the settings"):
        load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(home: Path) -> None:
    write(home, "interval = 2").chmod(0)
    with pytest.raises(QtopError, match="Permission denied"):
        load()


@pytest.mark.root
def test_another_user_s_home_holds_no_settings_of_ours(home: Path) -> None:
    write(home, "interval = 2")
    home.chmod(0o700)
    pid = os.fork()
    if pid == 0:  # leaves without pytest's own endings
        code = 9
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = 0 if load() == Settings() else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_relative_config_folder_is_ignored(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    assert config_path() == home / ".config" / "qtop" / "config.toml"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert load() == Settings()


@given(st.text(max_size=200))
def test_any_text_is_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "config.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        assert isinstance(load(path), Settings)
    except QtopError as error:
        assert "\n" not in str(error)


def key_file(home: Path, content: bytes, name: str = "key") -> str:
    path = home / name
    path.write_bytes(content)
    return str(path)


def test_the_named_file_comes_before_the_variable_and_the_variable_before_the_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, set_up = key_file(home, b" one \n"), key_file(home, b"three\n", "other")
    settings = Settings(api_key_file=set_up)
    assert read_key(None, settings) == "three"
    monkeypatch.setenv("QTOP_API_KEY", "two")
    assert read_key(None, settings) == "two"
    assert read_key(named, settings) == "one"
    monkeypatch.setenv("QTOP_API_KEY", " ")
    assert read_key(None) is None


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"two\nlines", "schlüssel".encode(), b"\xff\xfe", b"a\x00b", b"k" * (KEY_LIMIT + 1)]
)
def test_a_file_without_a_key_is_said_and_its_content_is_not(home: Path, content: bytes) -> None:
    with pytest.raises(QtopError, match="holds no API key") as caught:
        read_key(key_file(home, content))
    assert "lines" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("path", ["/nonexistent/key", "/", "/dev/zero", "a\0b"])
def test_what_is_no_file_is_said(path: str) -> None:
    with pytest.raises(QtopError):
        read_key(path)
