"""The verbs as processes, on real and on hostile servers: signals, full disks, other users and hosts, dead proxies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.fakes.hostile import KEY, Hostile
from tests.fakes.spawned import ROOT, Spawned
from tests.integration.test_discover_ns import Namespace, namespace

from qtop.demo.server import DemoServer
from qtop.errors import EXIT_FINDING, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, QtopError
from qtop.record.reader import Recording
from qtop.sample import Absent, Sample, ServerInfo, Why

QTOP = (sys.executable, "-m", "qtop")
NOBODY = 65534
PATIENCE_S = 40.0
GONE_S = 3.0
"""A killed qtop leaves no child for longer than this."""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("QTOP_API_KEY", "QTOP_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Spawned]:
    """A vLLM to look at, as captured, in a process of its own."""
    with Spawned("vllm") as made:
        yield made


def run(*words: str, before: Sequence[str] = (), **more: str) -> subprocess.CompletedProcess[str]:
    """qtop with these words, to its end."""
    environ = {**os.environ, **more}
    return subprocess.run(
        [*before, *QTOP, *words], capture_output=True, text=True, env=environ, timeout=120, check=False
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document that was printed."""
    assert "Traceback" not in done.stderr, done.stderr
    made = json.loads(done.stdout)
    assert made["schema"] == 1
    return dict(made)


def finding(made: dict[str, Any], rule: str = "QT201") -> dict[str, Any]:
    return next(one for one in made["findings"] if one["rule"] == rule)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


class Recorder:
    """``qtop record`` under way."""

    def __init__(self, out: Path, *words: str, before: Sequence[str] = ()) -> None:
        self.out = out
        self.child: subprocess.Popen[str] = subprocess.Popen(
            [*before, *QTOP, "record", "-o", str(out), "--interval", "0.25", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, samples: int) -> None:
        """Wait until the file holds so many samples."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.child.poll() is None, self.child.communicate()
            if self.out.exists() and len(samples_of(self.out)) >= samples:
                return
            time.sleep(0.1)
        pytest.fail("nothing is recorded")

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.child.pid).children(recursive=True))

    def end(self, *numbers: int) -> tuple[int, str]:
        """Send these signals; exit status and what was said. No child may be left."""
        left = self.children()
        assert left, "the wake-up probe runs"
        for number in numbers:
            self.child.send_signal(number)
        said = self.child.communicate(timeout=PATIENCE_S)
        assert said[0] == ""
        psutil.wait_procs(left, GONE_S)
        assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        return self.child.returncode, said[1]

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.communicate()


def samples_of(path: Path) -> list[Sample]:
    try:
        return list(Recording(path).samples())
    except QtopError:  # the file has only now been made
        return []


# A recording ends in order, however it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_recording(tmp_path: Path, server: Spawned, number: signal.Signals) -> None:
    with Recorder(tmp_path / "x.qtop", "--url", server.url) as recorder:
        recorder.until(4)
        status, said = recorder.end(number)
    assert status == EXIT_OK and "(interrupted)" in said and "Traceback" not in said
    recording = Recording(tmp_path / "x.qtop")
    kept = list(recording.samples())
    assert f"{len(kept)} samples" in said and recording.skipped == 0
    if shutil.which("gzip") is not None:
        assert subprocess.run(["gzip", "-t"], input=recorder.out.read_bytes(), check=False).returncode == 0


def test_both_signals_of_a_service_manager(tmp_path: Path, server: Spawned) -> None:
    with Recorder(tmp_path / "x.qtop", "--url", server.url) as recorder:
        recorder.until(4)
        status, said = recorder.end(signal.SIGTERM, signal.SIGHUP)
    assert status == EXIT_OK and "(interrupted)" in said and "Traceback" not in said


def test_kill_leaves_a_readable_file_and_no_child(tmp_path: Path, server: Spawned) -> None:
    with Recorder(tmp_path / "x.qtop", "--url", server.url) as recorder:
        recorder.until(6)
        killed = time.time()
        status, _ = recorder.end(signal.SIGKILL)
    assert status == -signal.SIGKILL
    kept = samples_of(tmp_path / "x.qtop")
    assert len(kept) >= 6 and killed - kept[-1].t < 2.0
    done = run("doctor", "--from", str(tmp_path / "x.qtop"), "--json")
    assert document(done)["samples"] == len(kept)


def test_a_recording_of_so_many_seconds(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    done = run("record", "-o", str(out), "--seconds", "2", "--interval", "0.25", "--url", server.url)
    assert done.returncode == EXIT_OK and done.stdout == ""
    kept = samples_of(out)
    assert 1.0 <= kept[-1].t - kept[0].t <= 3.5
    again = run("record", "-o", str(out), "--seconds", "1", "--url", server.url)
    assert again.returncode == EXIT_USAGE and "--force" in again.stderr and len(samples_of(out)) == len(kept)


def test_one_of_several_samples_and_no_larger_than_this(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    ask = ("record", "-o", str(out), "--interval", "0.1", "--url", server.url)
    assert run(*ask, "--every", "1", "--seconds", "5").returncode == EXIT_OK
    kept = [sample.t for sample in samples_of(out)]
    assert 4 <= len(kept) <= 7
    assert all(0.8 < later - earlier < 2.5 for earlier, later in pairwise(kept))
    done = run(*ask, "--force", "--max-size", "100kB")
    assert done.returncode == EXIT_OK and "(as large as it may get)" in done.stderr
    assert len(samples_of(out)) > 7


def test_a_ring_keeps_what_the_one_before_held(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    ask = ("record", "-o", str(out), "--ring", "1m", "--seconds", "1", "--url", server.url)
    assert run(*ask).returncode == EXIT_OK
    first = [sample.t for sample in samples_of(out)]
    assert run(*ask).returncode == EXIT_OK
    assert [sample.t for sample in samples_of(tmp_path / "x.before.qtop")] == first
    assert samples_of(out)[0].t > first[-1]


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (("--ring", "2x"), "--ring: must be a minute or more, as 90s, 15m, 2h or 1d, not 2x"),
        (("--ring", "10"), "a minute or more"),
        (("--max-size", "3"), "--max-size: must be 100 kB or more, as 200MB or 1GiB, not 3"),
        (("--every", "0"), "a positive number of seconds"),
    ],
)
def test_a_ring_of_no_time_is_one_line(tmp_path: Path, words: tuple[str, str], must: str) -> None:
    done = run("record", "-o", str(tmp_path / "x.qtop"), *words)
    assert done.returncode == EXIT_USAGE and must in done.stderr and "Traceback" not in done.stderr


def test_a_file_size_limit_is_one_line(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    with Recorder(out, "--url", server.url, before=("bash", "-c", 'ulimit -f 30; exec "$@"', "-")) as recorder:
        _, said = recorder.child.communicate(timeout=PATIENCE_S)
    lines = [line for line in said.splitlines() if line.startswith("qtop:")]
    assert recorder.child.returncode == EXIT_FINDING
    assert len(lines) == 1 and "file size limit reached" in lines[0] and "kept in" in lines[0]
    kept = samples_of(out)
    assert kept and f"{len(kept)} sample" in lines[0]


@pytest.mark.root
def test_a_full_disk_is_one_line(tmp_path: Path, server: Spawned) -> None:
    disk, copy = tmp_path / "disk", tmp_path / "copy.qtop"
    disk.mkdir()
    record = f"{' '.join(QTOP)} record -o {disk}/x.qtop --interval 0.25 --url {server.url}"
    script = f"mount -t tmpfs -o size=32k none {disk} && {{ {record}; echo status $?; cp {disk}/x.qtop {copy}; }}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    if "status" not in done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.stdout == f"status {EXIT_FINDING}\n"
    lines = [line for line in done.stderr.splitlines() if line.startswith("qtop:")]
    assert len(lines) == 1 and "disk full" in lines[0] and "Traceback" not in done.stderr
    assert samples_of(copy)


def test_a_server_that_ends_and_comes_back_under_a_recording(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    with Recorder(out, "--url", server.url) as recorder:
        recorder.until(4)
        server.close()
        wait_for(lambda: isinstance(samples_of(out)[-1].server, Absent))
        with Spawned("vllm", server.port) as second:
            wait_for(lambda: isinstance(samples_of(out)[-1].server, ServerInfo))
            recorder.end(signal.SIGTERM)
    pids = [sample.server.pid for sample in samples_of(out) if isinstance(sample.server, ServerInfo)]
    assert pids[0] == server.pid and pids[-1] == second.pid
    assert document(run("doctor", "--from", str(out), "--json"))["verdict"]["rule"] is None


def test_a_recorder_that_was_stopped_goes_on_without_a_burst_or_a_finding(tmp_path: Path, server: Spawned) -> None:
    out = tmp_path / "x.qtop"
    with Recorder(out, "--url", server.url) as recorder:
        recorder.until(6)
        pids = [recorder.child.pid, *(child.pid for child in recorder.children())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(7.0)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        recorder.until(len(samples_of(out)) + 24)
        recorder.end(signal.SIGTERM)
    kept = samples_of(out)
    steps = [b.t - a.t for a, b in pairwise(kept)]
    assert max(steps) > 5.0 and min(steps) > 0.04
    at = steps.index(max(steps)) + 1
    gap = kept[at]
    assert isinstance(gap.host, Absent) and gap.host.why is Why.STALE and "stood still" in gap.host.detail
    assert isinstance(kept[at + 1].server, ServerInfo)
    late = [us for sample in kept[at:] if not isinstance(sample.wakeup, Absent) for us in sample.wakeup.late_us]
    assert late and max(late) < 3_000_000, "the stop itself is no wake-up latency"
    assert document(run("doctor", "--from", str(out), "--json"))["verdict"]["rule"] is None


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_terminal_that_went_away_does_not_keep_the_recording_from_closing(tmp_path: Path, server: Spawned) -> None:
    if shutil.which("setsid") is None:
        pytest.skip("needs setsid")
    out = tmp_path / "x.qtop"
    parent, child = os.openpty()
    command = [*QTOP, "record", "-o", str(out), "--interval", "0.25", "--url", server.url]
    with subprocess.Popen(["setsid", "--ctty", *command], stdin=child, stdout=child, stderr=child) as process:
        try:
            os.close(child)
            wait_for(lambda: out.exists() and len(samples_of(out)) >= 3)
            os.close(parent)  # the kernel sends SIGHUP, and every write to the terminal fails from now on
            assert process.wait(PATIENCE_S) == EXIT_OK
        finally:
            process.kill()
    recording = Recording(out)
    assert len(list(recording.samples())) >= 3 and recording.skipped == 0


# Which server


def test_several_servers_are_named_and_2() -> None:
    with Spawned("llamacpp", name="llama-server") as one, Spawned("llamacpp", name="llama-server") as two:
        for verb in ("doctor", "snapshot", "probe", "actions"):
            done = run(verb, *(["--seconds", "1"] if verb == "doctor" else []))
            assert done.returncode == EXIT_USAGE
            said = one_line(done)
            assert one.url in said and two.url in said and "--url" in said
        by_pid = run("snapshot", "--pid", str(two.pid))
        assert document(by_pid)["server"]["url"] == two.url


def test_the_key_in_the_environment_and_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    with Hostile("locked-all") as server:
        without = run("snapshot", "--url", server.url)
        assert "QTOP_API_KEY" in without.stdout + without.stderr
        by_file = run("snapshot", "--url", server.url, "--api-key-file", str(tmp_path / "key"))
        by_variable = run("snapshot", "--url", server.url, QTOP_API_KEY=KEY)
        wrong = run("snapshot", "--url", server.url, QTOP_API_KEY="a-bad-one")
    for done in (by_file, by_variable):
        assert isinstance(document(done)["engine"]["running"], float) and KEY not in done.stdout + done.stderr
    assert "refuses this API key" in wrong.stdout and "a-bad-one" not in wrong.stdout + wrong.stderr


def test_a_server_with_a_certificate_of_its_own() -> None:
    with Hostile("vllm", tls="localhost") as server:
        done = run("doctor", "--url", server.url)
        assert done.returncode == EXIT_UNREACHABLE and "--ca FILE or --insecure" in one_line(done)
        certificate = str(ROOT / "tests" / "data" / "tls" / "localhost.pem")
        for words in (("--ca", certificate), ("--insecure",)):
            made = document(run("snapshot", "--url", server.url, *words))
            assert made["server"]["engine"] == "vllm" and isinstance(made["engine"]["running"], float)


@pytest.mark.parametrize("mode", ["silent", "website", "garbage", "close"])
def test_what_is_no_server_is_one_line_and_3(mode: str) -> None:
    with Hostile(mode) as server:
        done = run("doctor", "--url", server.url)
    assert done.returncode == EXIT_UNREACHABLE
    one_line(done)


@pytest.mark.parametrize("mode", ["html", "huge", "cut"])
def test_bad_metrics_do_not_keep_the_doctor_from_looking(mode: str) -> None:
    with Hostile(mode) as server:
        done = run("doctor", "--url", server.url, "--seconds", "4", "--json")
    made = document(done)
    assert done.returncode in (EXIT_OK, EXIT_FINDING)
    assert finding(made)["state"] in ("clear", "cannot_tell", "firing") and "metrics" not in finding(made)["reason"]


def test_a_reader_that_goes_away(server: Spawned) -> None:
    line = f"{' '.join(QTOP)} snapshot --json --url {server.url} | head -c 10"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, timeout=60, check=False)
    assert done.stdout == b'{"schema":' and done.stderr == b"" and done.returncode in (0, 141)


def test_a_server_that_ends_under_the_doctor() -> None:
    with Spawned("vllm") as server:
        child = subprocess.Popen(
            [*QTOP, "doctor", "--seconds", "6", "--json", "--url", server.url], stdout=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(psutil.Process(child.pid).children()) > 0)
        time.sleep(2.0)
        server.signal(signal.SIGKILL)
        out, _ = child.communicate(timeout=PATIENCE_S)
    made = json.loads(out)
    assert child.returncode == EXIT_UNREACHABLE
    assert "ended" in made["verdict"]["headline"] and finding(made)["state"] == "cannot_tell"


# A real server


def test_the_real_server_through_every_verb_that_looks(llama_server: DemoServer) -> None:
    made = document(run("snapshot", "--url", llama_server.url))
    assert (made["server"]["engine"], made["server"]["pid"]) == ("llamacpp", llama_server.pid)
    assert isinstance(made["engine"]["running"], float) and made["sched"]["processes"] >= 1
    assert {"t", "findings", "verdict", "host", "gpus", "wakeup", "own"} <= set(made)
    checked = document(run("doctor", "--url", llama_server.url, "--seconds", "3", "--json"))
    assert checked["source"] == "live" and checked["observed_s"] >= 2.0
    assert {"QT201", "QT202"} <= {one["rule"] for one in checked["findings"]}
    listed = document(run("actions", "--url", llama_server.url, "--json"))
    assert [one["knob"] for one in listed["actions"]] != []
    asked = run("probe", "--json", "--max-tokens", "8", "--url", llama_server.url)
    (result,) = document(asked)["results"]
    assert asked.returncode == EXIT_OK and result["ttft_ms"] > 0 and "sending 1 request" in asked.stderr


def test_many_test_prompts_and_what_the_real_server_did_meanwhile(llama_server: DemoServer) -> None:
    asked = run(
        "probe", "--json", "--max-tokens", "8", "--requests", "10", "--concurrency", "2", "--url", llama_server.url
    )
    made = document(asked)
    assert asked.returncode == EXIT_OK, asked.stderr
    assert (made["completed"], made["failed"], made["summary"]["ok"]) == (10, 0, 10)
    assert made["total_output_tokens"] == sum(one["completion_tokens"] for one in made["results"])
    assert made["self_check"]["stamps"] == "kernel"
    assert made["summary"]["ttft_ms"]["p50_low"] <= made["summary"]["ttft_ms"]["p50"]
    stages = {stage["name"]: stage["ms"] for stage in made["server"]["waterfall"]["stages"]}
    assert stages["prefill"] > 0 and stages["decode"] > 0 and stages["client"] >= 0
    # With one stream, what the server counts and what the client saw are of one size.
    alone = document(run("probe", "--json", "--max-tokens", "8", "--requests", "8", "--url", llama_server.url))
    stages = {stage["name"]: stage["ms"] for stage in alone["server"]["waterfall"]["stages"]}
    assert stages["decode"] == pytest.approx(alone["mean_e2el_ms"] - alone["mean_ttft_ms"], rel=0.6)
    assert stages["prefill"] == pytest.approx(alone["mean_ttft_ms"], rel=0.6)


def test_prompts_of_a_certain_length_are_as_long_as_asked_for(llama_server: DemoServer) -> None:
    (result,) = document(run("probe", "--json", "--max-tokens", "2", "--prompt", "1k", "--url", llama_server.url))[
        "results"
    ]
    assert result["ok"] and 980 <= result["prompt_tokens"] <= 1080
    refused = run("probe", "--max-tokens", "2", "--prompt", "32k", "--url", llama_server.url)
    assert refused.returncode == EXIT_USAGE and "do not fit" in refused.stderr


def test_a_request_of_the_users_is_examined_and_sent_as_it_is(llama_server: DemoServer, tmp_path: Path) -> None:
    command = tmp_path / "request.sh"
    command.write_text(
        "curl http://elsewhere:1/v1/completions -H 'stream: true' -H 'Authorization: Bearer sk-not-for-you' \\\n"
        """ -H "Content-Type: application/json" -d '{"prompt":"my secret words","max_new_tokens":3,"max_tokens":4}'\n"""
    )
    asked = run("probe", "--body", str(command), "--json", "--url", llama_server.url)
    made = document(asked)
    assert asked.returncode == EXIT_FINDING, asked.stderr
    assert [one["code"] for one in made["request"]["faults"]] == ["stream-place", "limit-ignored"]
    (result,) = made["results"]
    assert (result["ok"], result["completion_tokens"], result["ttft_ms"]) == (True, 4, None)
    assert made["test"]["prompt"] == "body"
    for text in (asked.stdout, asked.stderr):
        assert "secret" not in text and "sk-not" not in text
    assert "elsewhere:1" in asked.stderr and "QT501" in asked.stderr
    good = tmp_path / "good.json"
    options = '"max_tokens":4,"stream":true,"stream_options":{"include_usage":true}'
    good.write_text(f'{{"messages":[{{"role":"user","content":"hi"}}],{options}}}')
    asked = run("probe", f"--body=@{good}", "--url", llama_server.url)
    assert asked.returncode == EXIT_OK, asked.stderr
    assert "came: streamed in " in asked.stdout and "nothing is wrong" in asked.stdout
    wrong = run("probe", "--body", str(good), "--prompt", "en", "--url", llama_server.url)
    assert wrong.returncode == EXIT_USAGE and "--prompt does not go with --body" in wrong.stderr


def test_the_acceptance_test_and_its_baseline(llama_server: DemoServer, tmp_path: Path) -> None:
    first = run("check", "--json", "--max-tokens", "4", "--url", llama_server.url)
    made = document(first)
    assert first.returncode == EXIT_OK and made["passed"] is True, first.stderr
    assert {line["name"]: line["passed"] for line in made["lines"]} == {
        "requests": True, "errors": True, "time-outs": True, "TTFT p50": None, "E2E p90": None
    }  # fmt: skip
    assert "no roofline" in made["lines"][-1]["why"]
    assert all(one["completion_tokens"] == 4 for one in made["results"])  # ignore_eos: all of one length
    before = tmp_path / "before.json"
    # The same results ten times as fast: now it is worse, and says so with its exit code.
    for one in made["results"]:
        one["ttft_ms"] /= 10
    before.write_text(json.dumps(made))
    worse = run("check", "--max-tokens", "4", "--url", llama_server.url, "--baseline", str(before))
    assert (
        worse.returncode == EXIT_FINDING
        and "against the baseline:" in worse.stdout
        and "worse" in worse.stdout
        and worse.stdout.endswith("FAILED (TTFT p50, E2E p90 not judged)\n")
    )
    other = run("check", "--max-tokens", "5", "--url", llama_server.url, "--baseline", str(before))
    assert other.returncode == EXIT_USAGE and "another test" in other.stderr


def test_a_long_interval_is_for_screens_and_recordings(server: Spawned) -> None:
    # Within the patience of ``run``, which is less than the three minutes that three readings would take.
    made = document(run("snapshot", "--interval", "60", "--url", server.url))
    assert isinstance(made["engine"]["prompt_tok_s"], float)
    told = document(run("doctor", "--interval", "60", "--seconds", "3", "--json", "--url", server.url))
    assert "watching" in finding(told)["reason"]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_dead_proxy_is_not_asked_for_what_is_here(llama_server: DemoServer, name: str) -> None:
    proxy = {name: "http://127.0.0.1:9"}
    by_pid = run("snapshot", "--pid", str(llama_server.pid), **proxy)
    made = document(by_pid)
    assert made["server"]["pid"] == llama_server.pid and isinstance(made["engine"]["running"], float)
    asked = run("probe", "--json", "--max-tokens", "4", "--url", f"localhost:{llama_server.port}", **proxy)
    assert document(asked)["results"][0]["ok"] is True


# Another user, another host


def as_nobody(*words: str) -> subprocess.CompletedProcess[str]:
    """qtop as a user who owns nothing here; skipped where he may not even read the program."""
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    before = ("setpriv", *ids, "--")
    trial = subprocess.run([*before, sys.executable, "-c", "import qtop.source.live"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip("an ordinary user may not read this installation")
    return run(*words, before=before, XDG_CONFIG_HOME="", HOME="/root", PYTHONDONTWRITEBYTECODE="1")


@pytest.mark.root
def test_another_user_s_server_is_known_by_its_arguments(llama_server: DemoServer) -> None:
    made = document(as_nobody("doctor", "--url", llama_server.url, "--seconds", "3", "--json"))
    assert finding(made)["state"] == "cannot_tell" and "watching" in finding(made)["reason"]
    seen = document(as_nobody("snapshot", "--url", llama_server.url))
    assert seen["server"]["pid"] == llama_server.pid and seen["sched"]["threads"]


@pytest.mark.root
def test_another_user_s_process_that_cannot_be_told(server: Spawned) -> None:
    done = as_nobody("doctor", "--url", server.url, "--seconds", "2", "--json")
    made = document(done)
    assert finding(made)["state"] == "cannot_tell" and "cannot be seen from here" in finding(made)["reason"]
    seen = document(as_nobody("snapshot", "--url", server.url))
    assert isinstance(seen["engine"]["running"], float) and seen["server"]["on_host"] is True


@pytest.fixture
def far() -> Iterator[tuple[list[str], Namespace]]:
    """Two hosts on a cable: the command that runs something on the near one, and the far one at 10.98.0.2."""
    with namespace() as near, namespace() as other:
        near.do("ip", "link", "add", "qf0", "type", "veth", "peer", "name", "qf1", "netns", str(other.pid))
        for side, link, address in ((near, "qf0", "10.98.0.1/24"), (other, "qf1", "10.98.0.2/24")):
            side.do("ip", "address", "add", address, "dev", link)
            side.do("ip", "link", "set", link, "up")
        # Neither the processes of this machine nor its cgroups are seen there.
        yield [*near.enter(), "unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"], other


RELAY = """
import socket, sys, threading
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
def serve(client):
    inner = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=pump, args=(client, inner), daemon=True).start()
    pump(inner, client)
listener = socket.create_server(("10.98.0.2", 8000))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.mark.root
def test_a_server_on_another_host(far: tuple[list[str], Namespace]) -> None:
    near, other = far
    with (
        Spawned("vllm", before=other.enter()) as server,
        subprocess.Popen(
            [*other.enter(), sys.executable, "-S", "-c", RELAY, str(server.port)], stdout=subprocess.PIPE, text=True
        ) as relay,
    ):
        try:
            assert relay.stdout is not None and relay.stdout.readline() == "ready\n"
            url = "http://10.98.0.2:8000"
            made = document(run("snapshot", "--url", url, before=near))
            assert made["server"]["on_host"] is False and isinstance(made["engine"]["running"], float)
            assert made["sched"] == {"absent": "not_here", "detail": "not on this host"}
            told = finding(document(run("doctor", "--url", url, "--seconds", "2", "--json", before=near)))
            assert (told["state"], told["reason"]) == ("cannot_tell", "not on this host")
            asked = run("probe", "--json", "--max-tokens", "4", "--url", url, before=near)
            assert asked.returncode == EXIT_OK and document(asked)["results"][0]["ok"] is True
            refused = run("apply", "cpu-affinity", "--yes", "--url", url, before=near)
            assert refused.returncode == EXIT_UNREACHABLE and "not on this host" in one_line(refused)
            nowhere = run("doctor", "--url", "http://10.98.0.2:1", before=near)
            assert nowhere.returncode == EXIT_UNREACHABLE
        finally:
            relay.kill()
