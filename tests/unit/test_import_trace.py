"""Traces become recordings: every field, every gap, and a clear line for what is not a trace."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtop.errors import QtopError
from qtop.record.convert import import_trace
from qtop.record.reader import Recording
from qtop.record.trace import cpu_times, samples, to_sample
from qtop.sample import (
    NOT_RECORDED,
    Absent,
    CpuTimes,
    EngineSample,
    Gpm,
    GpuProcess,
    GpuSample,
    GpuSection,
    HostSample,
    Pressure,
    ProcessSample,
    ProcessUse,
    Sample,
    ServerInfo,
    ServerProcs,
    ThreadSample,
    Why,
)
from qtop.sample.codec import decode_sample, encode_sample

ROOT = Path(__file__).parents[2]
TRACES = ROOT / "tests" / "data" / "traces"
LABELS = {"idle": 8, "steady1": 12, "pinned1_hogs": 18, "longctx": 30, "power_side": 18}
TAIL = "0 0 0 17 5 0 0 0 0 0 10653128 12216448 896860160 140736782879159"


def stat_line(pid: int, comm: str, ppid: int, state: str = "S") -> str:
    middle = "500 500 0 -1 4194560 422123 202431 640 1783 3334 352 2577 264 20 0 69 0 4693 10056114176 380948"
    rest = "18446744073709551615 4325376 7352253 140736782873408 0 0 0 0 16781317 17410"
    return f"{pid} ({comm}) {state} {ppid} {middle} {rest} {TAIL}\n"


def process(pid: int, comm: str, ppid: int, **more: object) -> dict[str, object]:
    return {
        "pid": pid,
        "comm": comm,
        "stat": stat_line(pid, comm, ppid),
        "schedstat": "31 7 12\n",
        "status_ctx": ["VmRSS:\t 1000 kB", "Cpus_allowed_list:\t0-3,8", "voluntary_ctxt_switches:\t5"],
        "threads": {str(pid): [comm, "31", "7", "12"], str(pid + 1): ["python3", "1", "0", "1"]},
        **more,
    }


LINE: dict[str, Any] = {
    "t": 1000.5,
    "gpu": {
        "util": 63,
        "memutil": 33,
        "mem_used": 744,
        "mem_total": 855,
        "temp": 52,
        "power_mw": 305828,
        "sm_clock": 1965,
        "mem_clock": 2619,
        "reasons": 4,
        "pcie": [5, 16],
        "fields": [[82, 0, 55], [74, 0, 100], [75, 3, 0], [269, 0, 7], [270, 4, 0], [271, 999, 0]],
        "gpm": {"SM_UTIL": 22.5, "ANY_TENSOR_UTIL": 12.5, "DRAM_BW_UTIL": float("nan"), "PCIE_RX_PER_SEC": 4},
        "procs": [[670, 739], [671, None]],
        "procutil": [[670, 47, 21, 1795368641653484], [671, 53, 24, 1795368641454225], ["x", 1], [9]],
    },
    "procs": [process(500, "python3", 1), process(670, "VLLM::EngineCor", 500)],
    "stat": "cpu  10 0 20 30 4 0 5 6 0 0\ncpu0 10 0 20 30 4 0 5 6 0 0\nintr 5\nbtime 900\n",
    "psi": {"cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 total=3\n", "io": ""},
    "loadavg": "1.59 0.69 0.28 7/390 1185\n",
    "metrics": [
        "# TYPE vllm:x gauge",
        'vllm:num_requests_running{engine="0",model_name="a } b"} 3.0',
        'vllm:num_requests_running{engine="1",model_name="a } b"} 4.0 1700000000',
        'vllm:kv_created{engine="0"} 1.7e9',
        "vllm:plain 5",
        "vllm:nan NaN",
        "vllm:inf +Inf",
        'vllm:cache_config_info{block_size="16",max_model_len="32768"} 1.0',
    ],
    "metrics_ms": 36.5,
}


def changed(**more: object) -> dict[str, Any]:
    """The line with some keys replaced; None removes one."""
    return {key: value for key, value in {**LINE, **more}.items() if value is not None}


def gpu_of(sample: Sample) -> GpuSample:
    assert isinstance(sample.gpu, GpuSection)
    return sample.gpu.gpus[0]


# The mapping


def test_gpu() -> None:
    gpu = gpu_of(to_sample(LINE))
    assert (gpu.at, gpu.index, gpu.util, gpu.mem_util, gpu.mem_used, gpu.mem_total) == (1000.5, 0, 63, 33, 744, 855)
    assert (gpu.temp_c, gpu.power_mw, gpu.sm_mhz, gpu.mem_mhz, gpu.reasons) == (52, 305828, 1965, 2619, 4)
    assert (gpu.pcie_gen, gpu.pcie_width) == (5, 16)
    assert gpu.reason_ns["power_cap"] == 100
    assert gpu.reason_ns["sw_thermal"] == 7  # 75 failed, 269 has it
    refused, unknown = gpu.reason_ns["hw_thermal"], gpu.reason_ns["power_brake"]
    assert isinstance(refused, Absent) and refused.why is Why.DENIED
    assert isinstance(unknown, Absent) and unknown.why is Why.FAILED and "999" in unknown.detail
    gpm = gpu.gpm
    assert isinstance(gpm, Gpm)
    assert (gpm.sm_util, gpm.tensor_util, gpm.pcie_rx) == (22.5, 12.5, 4.0)
    assert isinstance(gpm.dram_util, Absent) and gpm.dram_util.why is Why.FAILED
    assert gpm.occupancy == NOT_RECORDED and gpm.pcie_tx == NOT_RECORDED
    assert isinstance(gpu.processes, tuple)
    assert gpu.processes[0] == GpuProcess(670, 739) and isinstance(gpu.processes[1].bytes, Absent)
    assert gpu.process_use == (ProcessUse(670, 47.0), ProcessUse(671, 53.0))
    assert gpu.name == gpu.power_limit_mw == gpu.sm_max_mhz == NOT_RECORDED


def test_gpu_field_75_alone_and_refused() -> None:
    def ns(fields: list[list[int]]) -> dict[str, object]:
        return dict(gpu_of(to_sample(changed(gpu={"util": 1, "fields": fields}))).reason_ns)

    assert ns([[75, 0, 9]]) == {"sw_thermal": 9}
    assert ns([[269, 0, 5], [75, 3, 0]]) == {"sw_thermal": 5}
    only = ns([[75, 3, 0]])["sw_thermal"]
    assert isinstance(only, Absent) and only.why is Why.UNSUPPORTED
    assert ns([]) == {}


def test_no_gpu_and_several() -> None:
    assert to_sample(changed(gpu=None)).gpu == NOT_RECORDED
    for key in ("gpus", "gpu"):
        sample = to_sample(changed(**{"gpu": None, key: [{"util": 1}, None, {"util": 3, "index": 5}]}))
        assert isinstance(sample.gpu, GpuSection)
        assert [(gpu.index, gpu.util) for gpu in sample.gpu.gpus] == [(0, 1), (5, 3)]
        assert list(sample.gpu.lost) == ["1"]


def test_processes() -> None:
    procs = to_sample(LINE).procs
    assert isinstance(procs, ServerProcs)
    assert procs.processes[1] == ProcessSample(
        pid=670,
        start_ticks=4693,
        ppid=500,
        comm="VLLM::EngineCor",
        cpu_ticks=3334 + 352,
        rss_bytes=1000 * 1024,
        threads=(
            ThreadSample(670, "VLLM::EngineCor", 31, 7, 12, "0-3,8", 5),
            ThreadSample(671, "python3", 1, 0, 1),
        ),
        allowed="0-3,8",
        voluntary=5,
        involuntary=NOT_RECORDED,
    )


@pytest.mark.parametrize("comm", ["a b", "(sd-pam)", "x) S 1 (y", ")", "", "R 9 9", "日本"])
def test_names_with_parentheses_and_spaces(comm: str) -> None:
    procs = to_sample(changed(procs=[process(7, comm, 1)])).procs
    assert isinstance(procs, ServerProcs)
    one = procs.processes[0]
    assert (one.pid, one.comm, one.ppid, one.start_ticks) == (7, comm, 1, 4693)


def test_several_api_servers_engines_and_workers() -> None:
    names = [(30, "VLLM::Worker_TP", 20), (20, "VLLM::EngineCor", 10), (21, "VLLM::EngineCor", 10), (10, "vllm", 1)]
    names += [(11, "VLLM::ApiServer", 10), (12, "VLLM::ApiServer", 10), (31, "VLLM::Worker_TP", 20)]
    sample = to_sample(changed(procs=[process(*name) for name in names]))
    assert isinstance(sample.procs, ServerProcs) and isinstance(sample.server, ServerInfo)
    assert sample.procs.processes[0].pid == 10 and sample.server.pid == 10
    assert sorted(one.pid for one in sample.procs.processes) == [10, 11, 12, 20, 21, 30, 31]


@pytest.mark.parametrize("state", ["Z", "X"])
def test_processes_that_ended_are_left_out(state: str) -> None:
    dead = process(8, "x", 1, stat=stat_line(8, "x", 1, state))
    procs = to_sample(changed(procs=[process(7, "x", 1), dead])).procs
    assert isinstance(procs, ServerProcs) and [one.pid for one in procs.processes] == [7]
    gone = to_sample(changed(procs=[dead])).procs
    assert isinstance(gone, Absent) and gone.why is Why.LOST


def test_processes_with_missing_parts() -> None:
    bare = {"stat": stat_line(7, "x", 1)}
    procs = to_sample(changed(procs=[bare, {}, None, {"stat": "7 (x) S"}, {"stat": "torn"}])).procs
    assert isinstance(procs, ServerProcs)
    (one,) = procs.processes
    assert one.threads == one.allowed == one.voluntary == NOT_RECORDED
    assert one.rss_bytes == 380948 * 4096
    sched = to_sample(changed(procs=[{**bare, "schedstat": "5 6 7\n"}])).procs
    assert isinstance(sched, ServerProcs)
    assert sched.processes[0].threads == (ThreadSample(7, "x", 5, 6, 7, "", 5),)
    odd = to_sample(changed(procs=[{**bare, "threads": {"7": ["x", "1"], "q": ["x", "1", "2", "3"], "8": 3}}])).procs
    assert isinstance(odd, ServerProcs) and isinstance(odd.processes[0].threads, Absent)


def test_host() -> None:
    host = to_sample(LINE).host
    assert host == HostSample(
        at=1000.5,
        cpus={"all": CpuTimes(10, 0, 20, 30, 4, 0, 5, 6), "0": CpuTimes(10, 0, 20, 30, 4, 0, 5, 6)},
        hz=100,
        psi_cpu=Pressure(77, 3),
        psi_memory=NOT_RECORDED,
        psi_io=Absent(Why.UNSUPPORTED, "the host of the trace had no pressure stall information"),
        load1=1.59,
        runnable=7,
    )


def test_host_with_missing_parts() -> None:
    assert to_sample(changed(stat=None, psi=None, loadavg=None)).host == NOT_RECORDED
    bare = to_sample(changed(psi=None, loadavg=None)).host
    assert isinstance(bare, HostSample) and bare.psi_cpu == bare.load1 == bare.runnable == NOT_RECORDED
    pressure = to_sample(changed(stat=None, loadavg=None)).host
    assert isinstance(pressure, HostSample) and pressure.psi_cpu == Pressure(77, 3) and pressure.cpus == {}
    assert cpu_times("cpu0 1 2 3 4\ncpu1 1 2 3 4 5\n")["all"] == CpuTimes(2, 4, 6, 8, 5, 0, 0, 0)


def test_engine_and_server() -> None:
    sample = to_sample(LINE)
    assert isinstance(sample.engine, EngineSample) and isinstance(sample.server, ServerInfo)
    assert sample.engine.series == {
        'vllm:num_requests_running{engine="0",model_name="a } b"}': 3.0,
        'vllm:num_requests_running{engine="1",model_name="a } b"}': 4.0,
        "vllm:plain": 5.0,
        'vllm:cache_config_info{block_size="16",max_model_len="32768"}': 1.0,
    }
    assert (sample.engine.at, sample.engine.scrape_ms) == (1000.5, 36.5)
    assert sample.server == ServerInfo(
        engine="vllm", model="a } b", max_model_len=32768, pid=500, started=900 + 46.93, argv=NOT_RECORDED
    )
    text = to_sample(changed(metrics="\n".join(LINE["metrics"])))
    assert text.engine == sample.engine


def test_what_is_known_of_the_server_stays_known() -> None:
    first, second, third = samples([LINE, changed(metrics=None, procs=None), changed(metrics=[])])
    assert second.engine == second.procs == NOT_RECORDED and second.server == first.server
    assert isinstance(third.engine, Absent) and third.engine.why is Why.FAILED
    assert third.server == first.server
    assert to_sample({"t": 1.0, "stat": "cpu 1 2 3 4"}).server == NOT_RECORDED


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["cpu", "cpu0 1 2 x", "5 (x) S 1", "some total=", "vllm:x{", "NaN", "-1", "1e999", "9" * 30]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*LINE, *LINE["gpu"], *LINE["procs"][0], "cpu", "7"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(line=st.dictionaries(st.sampled_from([*LINE, "gpus", "extra"]), ODD), base=st.booleans())
def test_anything_in_a_line_gives_a_sample_that_can_be_recorded(line: dict[str, Any], base: bool) -> None:
    mixed = {**(LINE if base else {}), **line, "t": 5.0}
    sample = to_sample(mixed)
    assert sample.t == 5.0
    assert decode_sample(encode_sample(sample)) == sample


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from([*LINE["gpu"], *LINE["procs"][0]]), value=ODD)
def test_anything_deeper_too(key: str, value: object) -> None:
    line = changed(gpu={**LINE["gpu"], key: value}, procs=[{**LINE["procs"][0], key: value}, LINE["procs"][1]])
    sample = to_sample(line)
    assert decode_sample(encode_sample(sample)) == sample
    assert isinstance(sample.procs, ServerProcs) and len(sample.procs.processes) >= 1


# Files


@pytest.mark.parametrize("name", LABELS)
def test_the_labelled_traces(tmp_path: Path, name: str) -> None:
    trace = TRACES / f"{name}.jsonl.xz"
    done = import_trace(trace, tmp_path / "a.qtop")
    recording = Recording(tmp_path / "a.qtop")
    header = recording.header
    assert header.source == "real" and header.interval == 1.0 and header.cpus == 16 and not header.truncated
    assert "vLLM 0.25.1" in header.note and "H100" in header.note and header.note.endswith(name)
    found = list(recording.samples())
    with lzma.open(trace) as raw_lines:
        lines = [json.loads(line) for line in raw_lines]
    assert done.samples == len(found) == len(lines) == LABELS[name] and done.skipped == recording.skipped == 0
    assert header.created == found[0].t
    for line, sample in zip(lines, found, strict=True):
        assert sample.t == line["t"]
        gpu = gpu_of(sample)
        assert gpu.util == line["gpu"]["util"] and gpu.power_mw == line["gpu"]["power_mw"]
        assert gpu.reason_ns["power_cap"] == next(row[2] for row in line["gpu"]["fields"] if row[0] == 74)
        assert isinstance(gpu.processes, tuple) and len(gpu.processes) == (2 if name == "power_side" else 1)
        assert isinstance(sample.engine, EngineSample) and len(sample.engine.series) == len(line["metrics"])
        assert isinstance(sample.procs, ServerProcs)
        assert [one.comm for one in sample.procs.processes] == ["python3", "VLLM::EngineCor"]
        for one, raw in zip(sample.procs.processes, line["procs"], strict=True):
            assert isinstance(one.threads, tuple) and len(one.threads) == len(raw["threads"])
            main = next(thread for thread in one.threads if thread.tid == one.pid)
            assert [main.run_ns, main.wait_ns, main.slices] == [int(part) for part in raw["threads"][str(one.pid)][1:]]
            assert main.allowed == one.allowed == ("3" if name == "pinned1_hogs" else "0-15")
        assert isinstance(sample.host, HostSample) and len(sample.host.cpus) == 17
        assert isinstance(sample.server, ServerInfo)
        assert sample.server.model == "Qwen/Qwen3-4B-Instruct-2507" and sample.server.engine == "vllm"
        assert sample.server.argv == sample.server.max_running == NOT_RECORDED


def test_the_nan_of_idle_is_absent(tmp_path: Path) -> None:
    import_trace(TRACES / "idle.jsonl.xz", tmp_path / "a.qtop")
    first, second, *_ = Recording(tmp_path / "a.qtop").samples()
    one, two = gpu_of(first).gpm, gpu_of(second).gpm
    assert isinstance(one, Gpm) and isinstance(one.dram_util, Absent)
    assert isinstance(two, Gpm) and isinstance(two.dram_util, float)


def test_pinned_engine_waits_four_fifths_of_the_time(tmp_path: Path) -> None:
    """The label of the trace, from the recording: run 0.17 and wait 0.82 of each second."""
    import_trace(TRACES / "pinned1_hogs.jsonl.xz", tmp_path / "a.qtop")
    found = list(Recording(tmp_path / "a.qtop").samples())

    def main(sample: Sample) -> ThreadSample:
        assert isinstance(sample.procs, ServerProcs)
        threads = sample.procs.processes[1].threads
        assert isinstance(threads, tuple)
        return threads[0]

    first, last = found[3], found[-1]
    seconds = last.t - first.t
    assert (main(last).wait_ns - main(first).wait_ns) / 1e9 / seconds == pytest.approx(0.82, abs=0.05)
    assert (main(last).run_ns - main(first).run_ns) / 1e9 / seconds == pytest.approx(0.17, abs=0.05)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_cut_blank_and_foreign_lines(tmp_path: Path) -> None:
    whole = json.dumps(changed(t=1003.0))
    trace = write(
        tmp_path / "any name.log",
        "\n",
        LINE,
        "  \n",
        "not json\n",
        {"a": 1},
        changed(t=1001.5),
        whole[: len(whole) // 2],
    )
    done = import_trace(trace, tmp_path / "a.qtop")
    assert (done.samples, done.skipped) == (2, 3)
    recording = Recording(tmp_path / "a.qtop")
    assert [sample.t for sample in recording.samples()] == [1000.5, 1001.5]
    assert recording.header.truncated and recording.header.cpus == 1
    assert recording.header.note.endswith("any name.log")


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_packed_and_cut_anywhere(tmp_path: Path, pack: Any) -> None:
    noise = random.Random(1)
    lines = [changed(t=1000.0 + i, noise=noise.randbytes(400).hex()) for i in range(20)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    packed = pack(text)
    trace = tmp_path / "trace"
    trace.write_bytes(packed)
    assert import_trace(trace, tmp_path / "a.qtop").samples == 20
    best = 0
    for size in range(0, len(packed), 97):
        trace.write_bytes(packed[:size])
        try:
            done = import_trace(trace, tmp_path / "a.qtop", overwrite=True)
        except QtopError as error:
            assert "is not a trace" in str(error)
            continue
        assert Recording(tmp_path / "a.qtop").header.truncated and done.skipped == 1
        best = max(best, done.samples)
    if pack is gzip.compress:  # xz gives out only whole blocks
        assert best >= 10


def test_one_line_without_most_things(tmp_path: Path) -> None:
    done = import_trace(write(tmp_path / "t", {"t": 5, "stat": "cpu 1 2 3 4"}), tmp_path / "a.qtop")
    assert done == (1, 0.0, 0)
    (sample,) = Recording(tmp_path / "a.qtop").samples()
    assert sample.gpu == sample.procs == sample.engine == sample.server == NOT_RECORDED


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "import_trace.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_script(tmp_path: Path) -> None:
    out = tmp_path / "a.qtop"
    done = script(str(TRACES / "idle.jsonl.xz"), str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 8 samples over 7 s\n"
    again = script(str(TRACES / "idle.jsonl.xz"), str(out))
    assert again.returncode == 2 and "exists" in again.stderr and again.stderr.count("\n") == 1
    assert script(str(TRACES / "steady1.jsonl.xz"), str(out), "--force").returncode == 0
    assert len(list(Recording(out).samples())) == 12


def test_script_finds_the_qtop_beside_it(tmp_path: Path) -> None:
    packages = str(Path(msgspec.__file__).parents[1])
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            str(ROOT / "scripts" / "import_trace.py"),
            str(TRACES / "idle.jsonl.xz"),
            str(tmp_path / "a"),
        ],
        env={"PYTHONPATH": packages},  # without site, so that an editable install is not seen
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"\xff\xfe\x00" * 50,
        b"[1]\n[2]\n",
        b'{"a": 1}\n',
        b'{"t": 5}\n',
        b"[" * 5000,
        b"\xfd7zXZ\x00torn",
        b"\x1f\x8b\x08torn",
        b'{"t": "x", "gpu": {}}',
        b'{"t": NaN, "gpu": {}}',
        b"1" * 5000,
    ],
)
def test_script_with_what_is_not_a_trace(tmp_path: Path, content: bytes) -> None:
    trace = tmp_path / "t"
    trace.write_bytes(content)
    done = script(str(trace), str(tmp_path / "a.qtop"))
    assert done.returncode == 2
    assert "is not a trace" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "a.qtop").exists()


def test_errors_of_files(tmp_path: Path) -> None:
    with pytest.raises(QtopError, match="no such file"):
        import_trace(tmp_path / "none", tmp_path / "a.qtop")
    with pytest.raises(QtopError, match="not a plain file"):
        import_trace(tmp_path, tmp_path / "a.qtop")
    trace = write(tmp_path / "t", LINE)
    with pytest.raises(QtopError, match="is the trace itself"):
        import_trace(trace, trace, overwrite=True)
    assert json.loads(trace.read_text())["t"] == 1000.5


def test_a_full_disk_leaves_no_half_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = write(tmp_path / "t", *(changed(t=1000.0 + i) for i in range(5)))
    left = [3]

    def full(fd: int, data: bytes, offset: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "x")
        os.pwrite(fd, data, offset)

    monkeypatch.setattr("qtop.record.blockfile.write_at", full)
    with pytest.raises(QtopError, match=r"cannot write .*: No space left on device"):
        import_trace(trace, tmp_path / "a.qtop")
    assert not (tmp_path / "a.qtop").exists()
