"""Secrets, texts and the host's name never reach a file; what explains a problem does."""

from __future__ import annotations

import gzip
import socket
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.collect.engine.exposition import parse
from qtop.record.names import local_names
from qtop.record.redact import TEXT_KEYS, Redactor, redact_sample_server
from qtop.record.writer import RecordingWriter
from qtop.sample import (
    Absent,
    CgroupSample,
    EngineSample,
    Event,
    GpuProcess,
    GpuSample,
    GpuSection,
    HostSample,
    ProcessSample,
    QuotaLevel,
    Sample,
    ServerInfo,
    ServerProcs,
    Setting,
    TaskSample,
    Why,
)
from qtop.sample.codec import Header

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
HEADER = Header(created=0.0, qtop_version="0", note="runs on gpubox17")
NAMES = ("gpubox17", "gpubox17.lab.example.org")

# Letters and digits that no other part of a file holds, with the characters that real keys have in between.
SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~+", min_size=3, max_size=30).map(
    lambda text: "zQ9x" + text + "x9Qz"
)
ANYTHING = st.text(min_size=1, max_size=20).map(lambda text: "zQ9x" + text + "x9Qz")
FLAGS = st.sampled_from(
    [
        "--api-key",
        "--hf-token",
        "--hf_token",
        "--token",
        "--github-token",
        "--ssl-keyfile-password",
        "--my-password-x",
        "--client-secret",
        "--secret",
        "-api-key",
        "--API_KEY",
        "--aws-secret-access-key",
        "--admin-api-key",
        "--passwd",
    ]
)
VARIABLES = st.sampled_from(["HF_TOKEN", "VLLM_API_KEY", "KEY", "X", "AWS_SECRET", "OPENAI_KEY", "SOME_VARIABLE"])


def recorded(folder: Path, sample: Sample | None = None, event: Event | None = None, keep_text: bool = False) -> str:
    """The text of the file that a recording writer makes of these."""
    path = folder / "a.qtop"
    writer = RecordingWriter(path, HEADER, overwrite=True, redactor=Redactor(NAMES, keep_text))
    if sample is not None:
        writer.sample(sample)
    if event is not None:
        writer.event(event)
    writer.close()
    assert writer.error is None and writer.stats.dropped == 0
    return gzip.decompress(path.read_bytes()).decode(errors="replace")


def escaped(secret: str) -> str:
    """The secret as JSON would show it."""
    return msgspec.json.encode(secret).decode()[1:-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("redact")


@settings(max_examples=150, deadline=None)
@given(secret=ANYTHING, flag=FLAGS, joined=st.booleans(), before=st.booleans())
def test_flags(folder: Path, secret: str, flag: str, joined: bool, before: bool) -> None:
    given = [f"{flag}={secret}"] if joined else [flag, secret]
    argv = (
        ("vllm", "serve", "Qwen/Qwen3-4B", *given, "--port", "8000") if before else ("vllm", "--port", "8000", *given)
    )
    text = recorded(folder, Sample(t=1.0, server=ServerInfo(argv=argv)))
    assert escaped(secret) not in text and "zQ9x" not in text
    assert flag in text and '"8000"' in text and "***" in text
    event = recorded(folder, event=Event(1.0, "note", {"deep": [{"argv": list(argv)}]}))
    assert escaped(secret) not in event and "zQ9x" not in event and '"8000"' in event


@settings(max_examples=60, deadline=None)
@given(secrets=st.lists(SECRETS, min_size=1, max_size=3))
def test_several_keys_after_one_flag(folder: Path, secrets: list[str]) -> None:
    argv = ("vllm", "serve", "--api-key", *secrets, "--max-num-seqs", "64")
    text = recorded(folder, Sample(t=1.0, server=ServerInfo(argv=argv)))
    assert not any(secret in text for secret in secrets)
    assert '"--max-num-seqs","64"' in text


@settings(max_examples=100, deadline=None)
@given(secret=ANYTHING, name=VARIABLES)
def test_environment_assignments(folder: Path, secret: str, name: str) -> None:
    text = recorded(folder, Sample(t=1.0, server=ServerInfo(argv=("env", f"{name}={secret}", "vllm"))))
    assert "zQ9x" not in text and f"{name}=***" in text


@settings(max_examples=100, deadline=None)
@given(secret=SECRETS, flag=FLAGS, name=VARIABLES, quote=st.sampled_from(["", "'", '"']))
def test_a_whole_command_in_one_argument(folder: Path, secret: str, flag: str, name: str, quote: str) -> None:
    command = (
        f"exec env {name}={quote}{secret}{quote} vllm serve m {flag} {quote}{secret}{quote} --seed=7; x {flag}={secret}"
    )
    text = recorded(folder, Sample(t=1.0, server=ServerInfo(argv=("sh", "-c", command))))
    assert secret not in text and "--seed=7" in text


@settings(max_examples=150, deadline=None)
@given(
    secret=SECRETS,
    form=st.sampled_from(
        [
            "http://{}@127.0.0.1:8000/v1",
            "http://user:{}@127.0.0.1:8000/v1",
            "http://user:a/{}@127.0.0.1:8000/v1",
            "http://127.0.0.1:8000/v1?key={}",
            "http://127.0.0.1:8000/v1?a=b&key={}#c",
            "http://127.0.0.1:8000/v1#{}",
        ]
    ),
)
def test_urls(folder: Path, secret: str, form: str) -> None:
    url = form.format(secret)
    info = ServerInfo(url=url, version=f"at {url} now", argv=("--proxy", url, f"--proxy={url}", f"x={url}"))
    text = recorded(
        folder, Sample(t=1.0, server=info), Event(1.0, "note", {"url": url, "said": f"tried {url}, failed"})
    )
    assert secret not in text
    assert text.count("127.0.0.1:8000/v1") >= 7


@settings(max_examples=100, deadline=None)
@given(
    secret=SECRETS,
    form=st.sampled_from(
        [
            "Authorization: Bearer {}",
            "authorization: Basic {}",
            "sent Bearer {}, refused",
            '{{"api_key": "{}", "a": 1}}',
            "{{'hfToken': '{}'}}",
            '"{{\\"password\\": \\"{}\\"}}"',
            "password: {}",
            "client_secret = {}",
            "vllm serve --api-key {} failed",
            "hf_{}aaaaaaaaaaaa",
            "HF_TOKEN={}",
        ]
    ),
)
def test_secrets_in_texts(folder: Path, secret: str, form: str) -> None:
    words = form.format(secret if not form.startswith("hf_") else "".join(c for c in secret if c.isalnum()))
    held = "".join(c for c in secret if c.isalnum()) if form.startswith("hf_") else secret
    sample = Sample(t=1.0, engine=Absent(Why.FAILED, words), server=ServerInfo(argv=("--x", words), model=words))
    text = recorded(folder, sample, Event(1.0, "note", {"said": words, "list": [words, 1], "deep": {"er": words}}))
    assert held not in text


@settings(max_examples=60, deadline=None)
@given(
    secret=ANYTHING,
    key=st.sampled_from(["api_key", "apiKey", "hf_token", "token", "password", "clientSecret", "Authorization"]),
    shape=st.integers(0, 2),
)
def test_secret_keys_of_events(folder: Path, secret: str, key: str, shape: int) -> None:
    value: object = [secret, [secret], {"x": secret}][shape]
    text = recorded(folder, event=Event(1.0, "note", {"headers": {key: value}, "first_token": 0.25, "token": True}))
    assert escaped(secret) not in text and "zQ9x" not in text
    assert '"first_token":0.25' in text and '"token":true' in text


@settings(max_examples=60, deadline=None)
@given(words=ANYTHING, key=st.sampled_from(sorted(TEXT_KEYS)), deep=st.booleans())
def test_texts_are_dropped_unless_kept(folder: Path, words: str, key: str, deep: bool) -> None:
    inner: dict[str, object] = {key: words, "prompt_tokens": 12}
    event = Event(1.0, "probe", {"results": [inner]} if deep else inner)
    dropped = recorded(folder, event=event)
    assert "zQ9x" not in dropped and f'"{key}"' not in dropped and '"prompt_tokens":12' in dropped
    assert "zQ9x" in recorded(folder, event=event, keep_text=True)


def test_messages_are_dropped_with_all_they_hold(folder: Path) -> None:
    event = Event(1.0, "probe", {"messages": [{"role": "user", "x": "zQ9x"}], "Prompt": "zQ9x"})
    assert "zQ9x" not in recorded(folder, event=event)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from([*NAMES, "GPUBOX17", "gpubox17.other.net"]),
    before=st.sampled_from(["", "on ", "http://", "a", "/data/", "=", "user@"]),
    after=st.sampled_from(["", ":8000", "/x", " failed", "-2", "'"]),
)
def test_host_name(folder: Path, name: str, before: str, after: str) -> None:
    words = before + name + after
    sample = Sample(
        t=1.0,
        server=ServerInfo(
            url=f"http://{name}:8000", model=words, version=words, argv=("--host", words, f"--x={words}")
        ),
        engine=Absent(Why.LOST, words),
    )
    text = recorded(
        folder, sample, Event(1.0, "note", {"a": words, "b": [words], words: 1, "c": {"d": [{"e": words}]}})
    )
    assert "gpubox17" not in text.lower() and "example.org" not in text
    assert "http://HOST:8000" in text


def test_host_name_in_the_title_of_a_process() -> None:
    """vLLM's prefix of titles can be set to anything."""
    process = ProcessSample(
        pid=1, start_ticks=1, ppid=0, comm="gpubox01::Engin", cpu_ticks=1, rss_bytes=1, threads=(),
        title="gpubox01::EngineCore_DP0",
    )  # fmt: skip
    sample = Sample(t=1.0, procs=ServerProcs(at=1.0, processes=(process,)))
    procs = Redactor(["gpubox01"]).sample(sample).procs
    assert isinstance(procs, ServerProcs)
    assert (procs.processes[0].comm, procs.processes[0].title) == ("HOST::Engin", "HOST::EngineCore_DP0")


def test_host_name_in_cgroup_paths(folder: Path) -> None:
    path = "/lxc.payload.gpubox17/init"
    cgroup = CgroupSample(
        at=1.0, version=2, path=path, usage_us=1, quotas=(QuotaLevel(path, 1, 2, 3, 4, 5),), cpuset="0-3"
    )
    process = ProcessSample(pid=1, start_ticks=1, ppid=0, comm="x", cpu_ticks=1, rss_bytes=1, threads=(), cgroup=path)
    sample = Sample(t=1.0, procs=ServerProcs(at=1.0, processes=(process,), cgroups={path: cgroup}))
    text = recorded(folder, sample)
    assert "gpubox17" not in text and text.count("/lxc.payload.HOST/init") == 4
    procs = Redactor(NAMES).sample(sample).procs
    assert isinstance(procs, ServerProcs) and procs.processes[0].cgroup in procs.cgroups


def test_host_name_of_a_process_on_a_gpu() -> None:
    held = (GpuProcess(1, 2, "compute", "gpubox17-serve"), GpuProcess(3, 4, "compute", "vllm"))
    section = GpuSection(at=1.0, gpus=(GpuSample(at=1.0, index=0, processes=held), GpuSample(at=1.0, index=1)))
    hidden = Redactor(NAMES).sample(Sample(t=1.0, gpu=section)).gpu
    assert isinstance(hidden, GpuSection) and isinstance(hidden.gpus[0].processes, tuple)
    assert [process.comm for process in hidden.gpus[0].processes] == ["HOST-serve", "vllm"]
    assert hidden.gpus[1] is section.gpus[1]


def test_header_note_names_no_host(folder: Path) -> None:
    assert "gpubox17" not in recorded(folder) and "runs on HOST" in recorded(folder)


def test_the_writer_asks_for_the_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpubox17")
    monkeypatch.setattr(socket, "getfqdn", lambda: "rack4.lab.example.org")
    writer = RecordingWriter(tmp_path / "a.qtop", HEADER)
    writer.sample(Sample(t=1.0, server=ServerInfo(model="on gpubox17 or rack4.lab.example.org")))
    writer.close(30)
    text = gzip.decompress((tmp_path / "a.qtop").read_bytes()).decode(errors="replace")
    assert '"model":"on HOST or HOST"' in text and "gpubox17" not in text
    assert redact_sample_server(ServerInfo(model="/gpubox17/m")) == ServerInfo(model="/HOST/m")
    assert redact_sample_server(Absent(Why.LOST, "gpubox17 is gone")) == Absent(Why.LOST, "HOST is gone")


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: time.sleep(20))
    monkeypatch.setattr(socket, "gethostname", lambda: "gpubox17")
    begin = time.monotonic()
    assert local_names(0.05) == ("gpubox17",)
    assert time.monotonic() - begin < 10


def test_short_and_general_names_do_not_mangle_words() -> None:
    short = Redactor(["ai"])
    assert short.text("maintain ai and ai.lab.org") == "maintain HOST and HOST"
    assert Redactor(["localhost"]).text("http://localhost:8000") == "http://localhost:8000"
    assert Redactor(["a.b"]).text("a b") == "HOST b"
    assert Redactor().text("nothing known") == "nothing known"


ORDINARY = (
    "/usr/bin/python3",
    "/opt/bin/vllm",
    "serve",
    "/models/Qwen3-4B",
    "--max-num-batched-tokens",
    "8192",
    "--max-num-seqs=256",
    "--tokenizer",
    "Qwen/Qwen3-4B",
    "--tokenizer-mode=auto",
    "--host",
    "0.0.0.0",
    "--ssl-keyfile",
    "/etc/key.pem",
    "--served-model-name",
    "q=w",
    "--gpu-memory-utilization",
    "0.9",
    "--speculative-config",
    '{"num_speculative_tokens": 3, "model": "x"}',
)


def test_ordinary_arguments_stay() -> None:
    assert Redactor(NAMES).argv(ORDINARY) == ORDINARY


def test_remote_host_names_go_this_hosts_own_addresses_stay() -> None:
    redactor = Redactor(NAMES)
    assert redactor.url("http://llm.corp.example:8000/v1") == "http://HOST:8000/v1"
    for url in ("http://127.0.0.1:8000", "http://[::1]:8000/v1", "http://0.0.0.0", "http://localhost:8000"):
        assert redactor.url(url) == url
    assert redactor.url("http://u:p@llm.corp.example?x=1") == "http://***@HOST?***"


def test_measurements_are_untouched() -> None:
    series = {'vllm:x{model_name="/data/models/m",lora="a=b"}': 1.0}
    sample = Sample(
        t=1.0,
        server=Absent(Why.NOT_YET),
        engine=EngineSample(at=1.0, scrape_ms=1.0, series=series),
        host=HostSample(at=1.0, cpus={}, tasks=(TaskSample(1, 2, "postgres", 3, "0"),)),
    )
    assert Redactor(NAMES).sample(sample) == sample


def test_a_long_text_is_redacted_in_time() -> None:
    redactor = Redactor(NAMES)

    def cost(count: int) -> float:
        text = "a" * 8 * count + "-" * count + "=" * count + "\\" * count + '"' * count + "A" * count + "token " * count
        begin = time.process_time()
        redactor.text(text)
        redactor.argv([text])
        return time.process_time() - begin

    cost(1000)
    assert cost(16_000) < 16 * 6 * max(cost(1000), 0.001)  # quadratic searching would be 256 times as slow


def test_labels_of_series_keep_names_of_models_but_no_host_and_no_secret(folder: Path) -> None:
    series = {
        'vllm:lora_requests_info{running_lora_adapters="sql,chat",model_name="org/model"}': 1.0,
        'sglang:prompt_tokens_total{model_name="m",node="gpubox17.lab.example.org"}': 2.0,
        'sglang:prompt_tokens_total{model_name="m",customer_api_key="zQ9xsecretx9Qz"}': 3.0,
        "vllm:generation_tokens_total": 4.0,
    }
    sample = Sample(t=1.0, engine=EngineSample(1.0, 1.0, series))
    text = recorded(folder, sample)
    assert "gpubox17" not in text and "zQ9x" not in text
    assert "sql,chat" in text and "org/model" in text and '"vllm:generation_tokens_total":4.0' in text
    redactor = Redactor(NAMES)
    for _ in range(2):
        found = redactor.sample(sample).engine
        assert isinstance(found, EngineSample) and sorted(found.series.values()) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.metrics.txt")), ids=lambda path: path.name)
def test_no_series_of_a_real_server_is_changed(path: Path) -> None:
    series = parse(path.read_text(), ("vllm:", "llamacpp:", "sglang:", "tgi_", "trtllm_", "nv_", "process_"))
    sample = Sample(t=1.0, engine=EngineSample(1.0, 1.0, series))
    assert Redactor(NAMES).sample(sample).engine is sample.engine


def test_secrets_inside_values_reach_no_file(folder: Path) -> None:
    held = '{"kv": {"key": "zQ9x", "auth": "zQ9x"}, "kv_connector": "R"}'
    argv = ("vllm", "--additional-config", held, f"--kv-transfer-config={held}", "--tool-server", "demo?key=zQ9x")
    said = tuple(
        Setting(name, value, "environment")
        for name, value in (("LMCACHE_CONFIG", held), ("VLLM_A_PWD", "zQ9x"), ("VLLM_B", "redis://:zQ9x@h"))
    )
    text = recorded(folder, Sample(t=1.0, server=ServerInfo(argv=argv, settings=said)))
    assert "zQ9x" not in text and text.count("kv_connector") == 3 and "demo?***" in text


def test_a_label_named_like_a_secret_is_masked_though_it_speaks_of_a_model() -> None:
    series = {'vllm:x{model_name="org/m",model_token="zQ9x"}': 1.0}
    engine = Redactor(NAMES).sample(Sample(t=1.0, engine=EngineSample(1.0, 1.0, series))).engine
    assert isinstance(engine, EngineSample)
    assert list(engine.series) == ['vllm:x{model_name="org/m",model_token="***"}']
