"""One corpus of what must not leave a machine, put into every place of a recording that it can get into.

``SECRETS`` are the strings to look for; all else here is built around them. A test that finds none of them in what was
written must first find them in what was fed in: ``fed`` is that text.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from qtop.sample import (
    Absent,
    CgroupSample,
    EngineSample,
    Event,
    GpuProcess,
    GpuSample,
    GpuSection,
    HostSample,
    Launch,
    ModelSample,
    ProcessSample,
    QuotaLevel,
    Sample,
    ServerInfo,
    ServerProcs,
    Setting,
    TaskSample,
    ThreadSample,
    Why,
)
from qtop.sample.codec import Header

HOSTS = ("gpubox17", "gpubox17.lab.example.org")
USERS = ("alicia", "bo")
ADDRESSES = ("10.31.7.9", "192.168.44.2", "2001:db8:77::5", "fe80::1c2b:3aff:fe4d:5e6f")
TOKENS = (
    "hf_zQ9xAbCdEfGhIjKlMnOp",
    "sk-zQ9xabcdefghijklmnop",
    "sk-proj-zQ9x_abcdefghijklmnop",
    "ghp_zQ9xabcdefghijklmnopqrstuv",
    "glpat-zQ9xabcdefghijklm",
    "xoxb-zQ9x-abcdefghijklmnop",
    "nvapi-zQ9xabcdefghijklmnop",
    "AKIAZQ9XABCDEFGHIJKL",
    "eyJhbGciOiJIUzI1NiJ9zQ9x.eyJzdWIiOiJ6UTl4In0.zQ9xabcdefghijk",
)
"""Known by their shape, wherever they stand."""
PLAIN = ("zQ9xhunter2", "zQ9x-s3cr3t", "ZQ9XPASS")
"""Known by their name alone: passwords, keys."""
TEXTS = ("zQ9x the patient's name is", "zQ9x she was told that", "量子zQ9x")
"""What people asked and models answered."""
SECRETS = (*HOSTS[:1], USERS[0], *ADDRESSES, *TOKENS, *PLAIN, *TEXTS, "zQ9x", "ZQ9X")

_HOME = f"/home/{USERS[0]}/models/qwen"
_SHORT_HOME = f"/home/{USERS[1]}/x"


def sentences() -> list[str]:
    """Every secret in words of the kind that errors, notes and logs have."""
    told = [f"cannot read '{_HOME}/config.json': permission denied for {USERS[0]}", f"{_SHORT_HOME} is gone"]
    told += [f"{HOSTS[0]} refused", f"no route to {HOSTS[1]}:8000", f"http://{HOSTS[0].upper()}:8000/v1 answers 503"]
    told += [f"connect to {one} port 8000 failed" for one in ADDRESSES]
    told += [f"http://{ADDRESSES[0]}:8000/metrics: timed out", f"http://[{ADDRESSES[2]}]:8000/ refused"]
    told += [f"401 for token {one}" for one in TOKENS] + [f"Authorization: Bearer {TOKENS[1]}", f"Bearer {PLAIN[1]}"]
    told += [f"Authorization: Basic {PLAIN[0]}", f'{{"api_key": "{PLAIN[0]}"}}', f"HF_TOKEN={PLAIN[1]} was refused"]
    told += [f"redis://{USERS[0]}:{PLAIN[0]}@cache:6379/0", f"https://x.example/a?sig={PLAIN[1]}&t=1"]
    told += [f"password: {PLAIN[0]}", f"--api-key {PLAIN[1]}", f"user={USERS[0]} from {USERS[0]}@{ADDRESSES[1]}"]
    return told


def argv() -> tuple[str, ...]:
    """A command line with each secret behind its flag, joined and apart."""
    words = ["/home/alicia/venv/bin/python", "/home/alicia/venv/bin/vllm", "serve", _HOME]
    for flag in ("--api-key", "--hf-token", "--ssl-keyfile-password", "--admin-api-key", "--client-secret"):
        words += [flag, PLAIN[0], f"{flag}={PLAIN[1]}"]
    for one in TOKENS:
        words += ["--model-loader-extra-config", f'{{"note": "{one}"}}', f"--revision={one}"]
    for one in ADDRESSES:
        words += ["--host", one, f"--data-parallel-address={one}", f"--dist-init-addr=tcp://{one}:29500"]
    words += [f"HF_TOKEN={PLAIN[0]}", f"VLLM_PASS={PLAIN[2]}", "--download-dir", f"/data/{USERS[0]}/hub"]
    words += ["--kv-transfer-config", f'{{"password": "{PLAIN[0]}", "url": "redis://u:{PLAIN[1]}@{HOSTS[0]}"}}']
    words += [f"--otlp-traces-endpoint=http://{USERS[0]}:{PLAIN[0]}@{HOSTS[1]}:4317?key={PLAIN[1]}"]
    words += ["--system-prompt", TEXTS[0], f"--chat-template={{% {TEXTS[1]} %}}", "-p", TEXTS[0]]
    return (*words, "sh", "-c", f"OPENAI_API_KEY={PLAIN[0]} exec x --prompt '{TEXTS[0]}' --api-key {PLAIN[1]}")


def settings() -> tuple[Setting, ...]:
    """Settings as the environment, a file and a command line give them."""
    rows = [Setting(name, PLAIN[0], "environment") for name in ("VLLM_API_KEY", "HF_TOKEN", "VLLM_A_PWD", "AWS_SECRET")]
    rows += [Setting("note", one, "config file", note=one) for one in sentences()]
    rows += [Setting("system_prompt", TEXTS[0], "command line"), Setting("download_dir", _HOME, "environment")]
    return tuple(rows)


def header() -> Header:
    """A recording's header with a note."""
    return Header(created=1000.0, qtop_version="0", source="synthetic", note="; ".join(sentences()))


def sample(t: float = 1000.0) -> Sample:
    """A sample that holds all of it."""
    said = sentences()
    info = ServerInfo(
        url=f"http://{USERS[0]}:{PLAIN[0]}@{ADDRESSES[0]}:8000/?key={PLAIN[1]}",
        engine="vllm",
        version="0.25.1",
        model=_HOME,
        max_model_len=Absent(Why.FAILED, said[0]),
        argv=argv(),
        bound=ADDRESSES[1],
        settings=settings(),
        settings_missing={f"m{number}": Absent(Why.DENIED, one) for number, one in enumerate(said)},
    )
    path = f"/lxc/{HOSTS[0]}/user.slice/app-{USERS[0]}-vllm.scope"
    absent = f"/docker/{USERS[0]}_vllm"
    threads = (ThreadSample(1, f"{HOSTS[0]}-rx", 1, 1, 1), ThreadSample(2, f"{USERS[0]}-io", 1, 1, 1))
    process = ProcessSample(
        pid=1, start_ticks=1, ppid=0, comm=f"{HOSTS[0]}::Eng", cpu_ticks=1, rss_bytes=1, threads=threads, cgroup=path,
        title=f"{USERS[0]}::EngineCore", allowed=Absent(Why.DENIED, said[1]),
    )  # fmt: skip
    lost = msgspec.structs.replace(process, pid=2, threads=Absent(Why.LOST, said[2]), cgroup=absent)
    group = CgroupSample(
        at=t, version=2, path=path, usage_us=Absent(Why.FAILED, said[3]), quotas=(QuotaLevel(path, 1, 2, 3, 4, 5),),
        cpuset="0-3",
    )  # fmt: skip
    held = (GpuProcess(1, 2, "compute", f"{HOSTS[0]}-serve"), GpuProcess(3, 4, "compute", f"{USERS[0]}-train"))
    gpus = tuple(
        GpuSample(
            at=t, index=index, processes=held, name=Absent(Why.FAILED, one), reason_ns={"x": Absent(Why.LOST, one)}
        )
        for index, one in enumerate(said[:4])
    )
    labels = [f'vllm:x{{model_name="{_HOME}",node="{one}",n="{number}"}}' for number, one in enumerate(HOSTS)]
    labels += [f'vllm:x{{model_name="m",customer_api_key="{PLAIN[0]}",peer="{ADDRESSES[0]}",owner="{USERS[0]}"}}']
    return Sample(
        t=t,
        server=info,
        engine=EngineSample(
            at=t, scrape_ms=1.0, series=dict.fromkeys(labels, 1.0), slots=Absent(Why.FAILED, said[4]),
            models=(ModelSample(f"{USERS[0]}/m", 1, 1),),
        ),
        procs=ServerProcs(at=t, processes=(process, lost), cgroups={path: group, absent: Absent(Why.DENIED, said[5])}),
        host=HostSample(
            at=t, cpus={}, tasks=(TaskSample(3, 1, f"{HOSTS[0]}-agent", 1, "0"), TaskSample(4, 1, USERS[0], 1, "0")),
            load1=Absent(Why.FAILED, said[6]), topology=Absent(Why.FAILED, said[7]),
        ),
        gpu=GpuSection(at=t, gpus=gpus, driver=Absent(Why.FAILED, said[8])),
        wakeup=Absent(Why.FAILED, said[9]),
        own=Absent(Why.FAILED, said[10]),
        client=Absent(Why.FAILED, said[11]),
        launch=Launch(info, ended=t),
    )  # fmt: skip


def samples(count: int = 3) -> list[Sample]:
    """Several, with each sentence as the reason why there is no server among them."""
    gone = [Sample(t=1000.0 + count + at, server=Absent(Why.LOST, one)) for at, one in enumerate(sentences())]
    return [*(sample(1000.0 + at) for at in range(count)), *gone]


def events() -> list[Event]:
    """Test prompts, actions' journal lines, markers with notes."""
    probe = {"ok": False, "prompt": TEXTS[0], "answer": TEXTS[1], "messages": [{"role": "user", "content": TEXTS[2]}]}
    said = sentences()
    told = [Event(1001.0, "probe", {**probe, "error": one, "started": 1.0, "notes": {"ttft": one}}) for one in said]
    told += [Event(1001.0, "marker", {"note": one, "text": TEXTS[0]}) for one in said]
    told += [
        Event(1002.0, "change", {"knob": "server-flags", "kept": True, "told": one, "argv": list(argv())})
        for one in sentences()
    ]
    record = {
        "argv": {"old": list(argv()), "new": list(argv())},
        "environ": [f"HF_TOKEN={PLAIN[0]}"],
        "api_key": PLAIN[1],
    }
    return [*told, Event(1002.0, "change", {"record": record, "log": _HOME, "by": USERS[0], USERS[0]: 1})]


def log_lines() -> list[str]:
    """A server's log: what vLLM, SGLang and llama.cpp print of requests, access lines, errors."""
    text, answer, other = TEXTS
    stamp = "(APIServer pid=12) INFO 11-26 14:00:00 [logger.py:41]"
    shape = f"Params(json={{'a': {answer!r}}}, regex={text!r})"
    params = f"SamplingParams(n=1, stop=[{text!r}], structured_outputs={shape})"
    lines = [
        f"{stamp} Received request chatcmpl-1: prompt: {f'<|im_start|>{text}' + chr(10) + answer!r}, params: {params}, "
        f"prompt_token_ids: [1, 2], prompt_embeds shape: None, lora_request: None.",
        f'{stamp} Received request chatcmpl-2: prompt: "it\'s {text}, \\"{answer}\\"", params: {params}.',
        f"{stamp} Request chatcmpl-3 details: prompt: {text!r}, prompt_token_ids: None, prompt_embeds shape: None.",
        f"{stamp} Generated response chatcmpl-1 (streaming complete): output: {answer!r}, output_token_ids: [9], "
        "finish_reason: stop",
        f"[2026-11-26 14:00:01] Receive: obj=GenerateReqInput(rid='a', text={text!r}, input_ids=None, "
        f"sampling_params={{'stop': [{text!r}]}})",
        f"[2026-11-26 14:00:02] Finish: obj=GenerateReqInput(rid='a'), out={{'text': {answer!r}, 'output_ids': [1]}}",
        f'srv  log_server_r: request:  {{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":3}}',
        f"slot process_toke: id  0 | task 0 | n_decoded = 1, n_remaining = 31, next token:   791 '{other}'",
        f'INFO:     {ADDRESSES[0]}:51234 - "POST /v1/chat/completions?user={USERS[0]} HTTP/1.1" 200 OK',
        f"ERROR 11-26 14:00:03 [x.py:1] input_value={{'messages': [{{'content': {text!r}}}]}}, input_type=dict",
        f"ERROR 11-26 14:00:03 [x.py:1] non-default args: {{'api_key': ['{PLAIN[0]}'], 'model': '{_HOME}'}}",
        f"{stamp} Received request chatcmpl-4: prompt: 'the line was cut here",
        f"and goes on {text}",
        f"{answer} and ends', params: x",
    ]
    return [*lines, *(f"WARNING 11-26 14:00:04 [x.py:1] {one}" for one in sentences())]


def fed(folder: Path) -> str:
    """All that is fed in, as text."""
    parts = [msgspec.json.encode(one).decode() for one in (header(), *samples(), *events())]
    (folder / "server.log").write_text("\n".join(log_lines()) + "\n", encoding="utf-8")
    return "\n".join([*parts, *log_lines()])
