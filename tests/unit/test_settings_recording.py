"""Settings in files and reports: no secret, little room, there after a jump; and from the attachment on."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fakes.behaved import capture
from tests.fakes.members import MemberFile, Thinner
from tests.fakes.spawned import Spawned

from qtop.collect.config_in_force import command_line, config_file, environment
from qtop.collect.config_in_force.server_info import CLOSED, TURNED_OFF, understood
from qtop.collect.engine.exposition import parse
from qtop.diagnose.engine import Verdict
from qtop.model.derive import Deriver
from qtop.record.blockfile import BLOCK_RECORDS
from qtop.record.reader import Recording
from qtop.record.redact import Redactor
from qtop.record.writer import RecordingWriter
from qtop.report.documents import snapshot_document
from qtop.sample import NOT_RECORDED, Absent, EngineSample, Sample, ServerInfo, Setting, Why
from qtop.sample.codec import Header, decode_sample, encode_sample
from qtop.sample.settings import COMMAND_LINE, CONFIG_FILE, ENVIRONMENT, SERVER_INFO, SET
from qtop.source.attach import Attachment, Target

T0 = 1_800_000_000.0
NAMES = ("gpubox17",)

SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+", min_size=3, max_size=30).map(
    lambda text: "zQ9x" + text + "x9Qz"
)
FLAGS = st.sampled_from(["--api-key", "--api_key", "--hf-token", "--admin-api-key", "--ssl-password", "--auth-cookie"])
VARIABLES = st.sampled_from(
    ["VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_S3_SECRET", "NCCL_AUTH", "LMCACHE_PASSWORD"]
)


def encoded(info: ServerInfo) -> str:
    return encode_sample(Redactor(NAMES).sample(Sample(t=1.0, server=info))).decode()


def info_of(*read: Setting, **fields: object) -> ServerInfo:
    info = ServerInfo(url="http://127.0.0.1:8000", engine="vllm", pid=1, started=T0, version="0.25.1", settings=read)
    return msgspec.structs.replace(info, **fields)


# ---- secrets


@given(secret=SECRETS, flag=FLAGS, joined=st.booleans(), engine=st.sampled_from(["vllm", "llamacpp", "sglang"]))
def test_no_secret_of_a_command_line_is_encoded(secret: str, flag: str, joined: bool, engine: str) -> None:
    words = [f"{flag}={secret}"] if joined else [flag, secret]
    argv = ("vllm", "serve", "m", *words, "--port", "8000")
    found = command_line.settings(argv, engine)
    assert secret not in repr(found)
    assert secret not in encoded(info_of(*found, argv=argv))


@given(secret=SECRETS, where=st.sampled_from(["url", "json", "shape"]))
def test_no_secret_inside_a_value_is_encoded(secret: str, where: str) -> None:
    value = {
        "url": f"http://someone:{secret}@host:1/x?token={secret}",
        "json": json.dumps({"kv_connector": "X", "extra": {"password": secret, "n": 1}}),
        "shape": "hf_" + re.sub(r"\W", "0", f"{secret}0000000"),
    }[where]
    found = command_line.settings(("vllm", "serve", "--kv-transfer-config", value, "--host", "gpubox17"), "vllm")
    text = encoded(info_of(*found))
    assert (value if where == "shape" else secret) not in text
    assert "gpubox17" not in text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS, name=VARIABLES, key=FLAGS)
def test_no_secret_of_environment_and_file_is_encoded(tmp_path: Path, secret: str, name: str, key: str) -> None:
    process = tmp_path / "7"
    process.mkdir(exist_ok=True)
    for link in ("root", "cwd"):
        if not (process / link).is_symlink():
            (process / link).symlink_to(tmp_path)
    (process / "environ").write_bytes(f"{name}={secret}\0LLAMA_API_KEY={secret}\0PASSWORD={secret}\0".encode())
    plain = key.removeprefix("--")
    content = {plain: secret, "kv-transfer-config": {"deep": {plain: secret}}, "lora": [f"http://a:{secret}@b/"]}
    (tmp_path / "c.yaml").write_text(json.dumps(content))  # JSON is YAML
    variables = environment.settings(7, "vllm", tmp_path)
    file = config_file.settings(7, ("vllm", "serve", "--config", "c.yaml"), tmp_path)
    assert isinstance(variables, tuple) and isinstance(file, tuple)
    assert Setting(name, SET, ENVIRONMENT) in variables
    assert Setting(plain.replace("-", "_"), SET, CONFIG_FILE) in file
    assert secret not in encoded(info_of(*variables, *file))


def test_a_setting_written_by_something_else_is_masked_by_its_name() -> None:
    one = Setting("api_key", "abcdefgh", COMMAND_LINE, "from http://u:pw@gpubox17/")
    assert Redactor(NAMES).setting(one) == Setting("api_key", "***", COMMAND_LINE, "from http://***@HOST/")
    missing = info_of(settings_missing={CONFIG_FILE: Absent(Why.FAILED, "/mnt/gpubox17/c.yaml: no such file")})
    assert "gpubox17" not in encoded(missing)


# ---- in a recording


def recorded(path: Path, samples: list[Sample]) -> Recording:
    writer = RecordingWriter(path, Header.here(1.0), redactor=Redactor(NAMES))
    for sample in samples:
        while writer.stats.samples + writer.stats.dropped < samples.index(sample) - 30:
            time.sleep(0.001)
        writer.sample(sample)
    writer.close()
    assert writer.error is None and writer.stats.dropped == 0
    return Recording(path)


def recorded_by_members(path: Path, samples: list[Sample]) -> Recording:
    """As qtop recorded before blocks: settings once a member."""
    file, thinner = MemberFile(path, Header.here(1.0)), Thinner()
    for sample in samples:
        file.append(encode_sample(thinner.thin(sample, file.begins_member)))
    file.close()
    return Recording(path)


def full_info() -> ServerInfo:
    """As much as a vLLM in development mode tells."""
    told = understood(json.loads(capture("vllm.server_info.json")))
    assert not isinstance(told, Absent)
    words = "vllm serve /models/q --max-num-seqs 64 --max-model-len 4096 -tp 2 --kv-cache-dtype fp8 --enforce-eager"
    return info_of(*told, *command_line.settings(words.split(), "vllm"))


@pytest.mark.parametrize("write", [recorded, recorded_by_members])
def test_settings_come_back_from_every_place_and_change_where_they_changed(
    tmp_path: Path, write: Callable[[Path, list[Sample]], Recording]
) -> None:
    before = full_info()
    after = msgspec.structs.replace(before, settings=(Setting("max_num_seqs", "8", COMMAND_LINE),))
    other = msgspec.structs.replace(after, pid=2, settings=Absent(Why.NOT_YET, "being read"))
    count = 3 * BLOCK_RECORDS
    gone = Absent(Why.LOST, "the server ended")
    samples = [
        Sample(
            t=T0 + n,
            server=before if n < 100 else after if n < 150 else gone if n == 150 else other if n < 160 else before,
        )
        for n in range(count)
    ]
    recording = write(tmp_path / "a.qtop", samples)
    assert [sample.server for sample in recording.samples()] == [sample.server for sample in samples]
    for n in (0, 59, 60, 99, 100, 119, 120, 155, 170, count - 1):
        assert next(iter(recording.seek(T0 + n))).server == samples[n].server, n


def test_settings_are_written_once_a_block(tmp_path: Path) -> None:
    samples = [Sample(t=T0 + n, server=full_info()) for n in range(2 * BLOCK_RECORDS)]
    recorded(tmp_path / "a.qtop", samples)
    content = gzip.decompress((tmp_path / "a.qtop").read_bytes())
    assert content.count(b'"max_num_seqs"') == 2 * encode_sample(samples[0]).count(b'"max_num_seqs"') > 0


def test_settings_cost_little_room(tmp_path: Path) -> None:
    series = parse(capture("vllm-0.25.1-h100.metrics.txt").decode(), ("vllm:",))

    def size(name: str, info: ServerInfo) -> int:
        samples = [
            Sample(t=T0 + n, server=info, engine=EngineSample(n, 1.0, {key: v + n for key, v in series.items()}))
            for n in range(2 * BLOCK_RECORDS)
        ]
        recorded(tmp_path / name, samples)
        return (tmp_path / name).stat().st_size

    without = size("without.qtop", info_of(settings=NOT_RECORDED))
    assert (size("with.qtop", full_info()) - without) / (2 * BLOCK_RECORDS) < 100


def test_an_old_recording_opens_without_settings() -> None:
    line = b'{"k":"s","t":1.0,"server":{"type":"server","url":"http://127.0.0.1:1","engine":"vllm"}}'
    server = decode_sample(line).server
    assert isinstance(server, ServerInfo)
    assert server.settings == NOT_RECORDED and server.settings_missing == {}


# ---- in a report


def test_a_snapshot_holds_each_setting_with_its_source_and_no_secret() -> None:
    words = ("vllm", "serve", "q", "--max-num-seqs", "64", "--kv-transfer-config", '{"password": "zQ9xzQ9x"}')
    info = info_of(
        *command_line.settings(words, "vllm"),
        argv=words,
        settings_missing={ENVIRONMENT: Absent(Why.DENIED, "its environment may be read by its own user and root only")},
    )
    frame = Deriver().push(Sample(t=T0, server=info))
    document = snapshot_document("live", frame, Verdict(None, "fine"), ())
    scheduler = {one["name"]: one for one in document["settings"]["groups"]["scheduler"]}
    assert scheduler["max_num_seqs"] == {"name": "max_num_seqs", "value": "64", "source": COMMAND_LINE, "note": ""}
    assert scheduler["async_scheduling"]["source"] == "default of vLLM 0.25"
    assert document["settings"]["missing"][ENVIRONMENT]["absent"] == "denied"
    assert "settings" not in document["server"]
    text = json.dumps(document)
    assert "zQ9xzQ9x" not in text and "***" in text
    nothing = Deriver().push(Sample(t=T0, server=Absent(Why.LOST, "gone")))
    assert snapshot_document("live", nothing, Verdict(None, "x"), ())["settings"] == {
        "absent": "lost",
        "detail": "gone",
    }


# ---- from the attachment on


def settled(target: Target) -> ServerInfo:
    attachment = Attachment(target)
    said = attachment.read()
    assert isinstance(said, ServerInfo)
    deadline = time.monotonic() + 10

    def done(info: object) -> bool:
        return isinstance(info, ServerInfo) and isinstance(info.settings, tuple)

    while not done(attachment.current()) and time.monotonic() < deadline:
        time.sleep(0.005)
    current = attachment.current()
    assert isinstance(current, ServerInfo) and done(current)
    return current


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Spawned]:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("VLLM_API_KEY", "zQ9xzQ9x")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "0")
    return lambda: Spawned("vllm", name="vllm")


def test_an_attached_server_has_its_settings(spawned: Callable[[], Spawned]) -> None:
    with spawned() as server:
        info = settled(Target(url=server.url))
        off = settled(Target(url=server.url, ask_server_info=False))
    assert isinstance(info.settings, tuple)
    assert Setting("OMP_NUM_THREADS", "3", ENVIRONMENT) in info.settings
    assert Setting("VLLM_API_KEY", SET, ENVIRONMENT) in info.settings
    assert info.settings_missing == {SERVER_INFO: CLOSED}
    assert off.settings_missing == {SERVER_INFO: TURNED_OFF}


def test_a_server_that_refuses_the_route_says_so(
    spawned: Callable[[], Spawned], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    with spawned() as server:
        attachment = Attachment(Target(url=server.url))
        said = attachment.read()
        assert isinstance(said, ServerInfo)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            current = attachment.current()
            assert isinstance(current, ServerInfo)
            missing = current.settings_missing
            if isinstance(current.settings, tuple) and missing[SERVER_INFO].why is Why.UNSUPPORTED:
                break
            time.sleep(0.005)
    assert missing[SERVER_INFO].detail == f"the server has no {SERVER_INFO}"
