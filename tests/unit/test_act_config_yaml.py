"""vLLM's config file edited: one value, every other byte as it was; the rest goes on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from qtop.act import config_yaml
from qtop.act.change import Reading
from qtop.act.config_yaml import share, with_edit
from qtop.act.words import wanted
from qtop.errors import Refused

TEXT = (
    "# served since May\r\n"
    "model: /models/a   # ours\n"
    "max-num-seqs:   16  # more and it preempts\n"
    "max_num_batched_tokens: '1024'\n"
    "enforce-eager: true\n"
    "no-enable-prefix-caching: true\n"
    "kv-cache-dtype: auto\n"
    "served-model-name: [a, b]\n"
    'compilation-config: {"mode": 3}\n'
    "middleware:\n  - x\n"
    "hf-token: secret\n"
    "empty:\n"
)


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        ("--max-num-seqs=128", "max-num-seqs:   16  #", "max-num-seqs:   128  #"),
        ("--max_num_seqs=128", "max-num-seqs:   16  #", "max-num-seqs:   128  #"),
        ("--max-num-batched-tokens=2048", "'1024'", "2048"),
        ("--no-enforce-eager", "enforce-eager: true", "enforce-eager: false"),
        ("--enable-prefix-caching", "no-enable-prefix-caching: true", "no-enable-prefix-caching: false"),
        ("--kv-cache-dtype=fp8", "kv-cache-dtype: auto", "kv-cache-dtype: fp8"),
        ("--kv-cache-dtype=on", "kv-cache-dtype: auto", 'kv-cache-dtype: "on"'),
        ("--empty=3", "empty:\n", "empty: 3\n"),
    ],
)
def test_one_value_changes_and_nothing_else(edit: str, old: str, new: str) -> None:
    assert TEXT.count(old) == 1
    assert with_edit(TEXT, wanted(edit)[0]) == TEXT.replace(old, new)


@pytest.mark.parametrize(
    "edit",
    ["--served-model-name=c", "--compilation-config=3", "--middleware=y", "--max-num-seqs=default", "--unknown=1"],
)
def test_what_would_touch_more_is_left_alone(edit: str) -> None:
    assert with_edit(TEXT, wanted(edit)[0]) is None


@pytest.mark.parametrize(
    "text",
    ["a: 1\nseed: &x 3\nb: *x\n", "seed: 3\nseed: 4\n", "- seed\n", "{seed: [", "seed: |\n  3\n", "seed: {a: 1}\n"],
)
def test_anchors_repeats_and_blocks_are_left_alone(text: str) -> None:
    new = with_edit(text, wanted("--seed=5")[0])
    assert new is None


def launched(folder: Path, text: str = TEXT) -> dict[str, Any]:
    (folder / "c.yaml").write_bytes(text.encode())
    return {"cwd": str(folder)}


def test_the_file_gets_what_it_sets_and_the_command_line_the_rest(tmp_path: Path) -> None:
    launch = launched(tmp_path)
    argv = ["vllm", "serve", "--config", "c.yaml", "--kv-cache-dtype", "fp8"]
    edits = wanted("--max-num-seqs=128 --kv-cache-dtype=auto --block-size=32")
    file, inside, rest = share(argv, launch, "vllm", edits)
    assert file is not None
    assert file["path"] == str(tmp_path / "c.yaml")
    assert [edit.flag for edit in inside] == ["--max-num-seqs"]
    # What the command line says outweighs the file: there it has to be changed.
    assert [edit.flag for edit in rest] == ["--kv-cache-dtype", "--block-size"]
    assert config_yaml.lines(file, inside)[0].endswith(
        "max-num-seqs:   16  # more and it preempts → max-num-seqs:   128  # more and it preempts"
    )


@pytest.mark.parametrize("argv", [["vllm", "serve", "M"], ["vllm", "serve", "--config", "gone.yaml"]])
def test_without_a_file_all_goes_on_the_command_line(argv: list[str], tmp_path: Path) -> None:
    edits = wanted("--max-num-seqs=128")
    assert share(argv, launched(tmp_path), "vllm", edits) == (None, [], list(edits))


def test_written_read_and_put_back_byte_by_byte(tmp_path: Path) -> None:
    launch = launched(tmp_path)
    path = tmp_path / "c.yaml"
    path.chmod(0o640)
    file, *_ = share(["vllm", "serve", "--config", "c.yaml"], launch, "vllm", wanted("--max-num-seqs=128"))
    assert file is not None
    for which, count in (("new", (1, 0)), ("new", (1, 0)), ("old", (0, 1)), ("old", (0, 1))):
        config_yaml.put(file, which)
        reading = Reading()
        config_yaml.read(file, reading)
        assert (reading.new, reading.old) == count
        assert path.read_bytes() == file[which].encode()
        assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == TEXT.encode()
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    launch = launched(tmp_path)
    file, *_ = share(["vllm", "serve", "--config", "c.yaml"], launch, "vllm", wanted("--max-num-seqs=128"))
    assert file is not None
    theirs = TEXT.replace("16", "17")
    (tmp_path / "c.yaml").write_bytes(theirs.encode())
    with pytest.raises(Refused, match="changed meanwhile"):
        config_yaml.put(file, "new")
    config_yaml.put(file, "old")
    assert (tmp_path / "c.yaml").read_bytes() == theirs.encode()
    reading = Reading()
    config_yaml.read(file, reading)
    assert [drift.now for drift in reading.drifted] == ["changed by somebody else"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text("seed: 1\n")
    (tmp_path / "c.yaml").symlink_to("real.yaml")
    config_yaml.put({"path": str(tmp_path / "c.yaml"), "old": "seed: 1\n", "new": "seed: 2\n"}, "new")
    assert (tmp_path / "c.yaml").is_symlink()
    assert (tmp_path / "real.yaml").read_text() == "seed: 2\n"
