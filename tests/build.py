"""Samples for tests of pure functions: a server with threads that run and wait as told. Never used as evidence of a
rule."""

from __future__ import annotations

from qtop.sample import (
    NOT_RECORDED,
    Absent,
    CgroupSample,
    CpuTimes,
    EngineSample,
    HostSample,
    ProcessSample,
    QuotaLevel,
    Sample,
    ServerInfo,
    ServerProcs,
    TaskSample,
    ThreadSample,
)

T0 = 1_800_000_000.0
NS = 1_000_000_000


def server(engine: str = "vllm", pid: int = 100) -> ServerInfo:
    """A server on this host."""
    return ServerInfo(url="http://127.0.0.1:8000", engine=engine, model="m", pid=pid, started=T0 - 60)


def thread(tid: int, comm: str, run: float, wait: float, slices: int = 10, allowed: str = "0-3") -> ThreadSample:
    """Seconds run and waited so far."""
    return ThreadSample(tid, comm, int(run * NS), int(wait * NS), slices, allowed)


def process(
    pid: int, comm: str, threads: tuple[ThreadSample, ...] | Absent, ppid: int = 1, group: str = "g"
) -> ProcessSample:
    """A process that started at tick 5."""
    return ProcessSample(pid, 5, ppid, comm, 0, 1 << 20, threads, "0-3", 0, 0, group)


def cgroup(
    at: float, throttled_s: float | None = None, cpuset: str = "0-3", periods: int | None = None
) -> CgroupSample:
    """A cgroup, with a quota of 0.2 CPUs if ``throttled_s`` is given; every period ends throttled unless told."""
    ended = round(at * 10) if periods is None else periods
    quotas = () if throttled_s is None else (QuotaLevel("/g", 20_000, 100_000, ended, ended, int(throttled_s * 1e6)),)
    return CgroupSample(at, 2, "/g", 0, quotas, cpuset)


def host(
    at: float, busy: int = 0, idle: int = 100, tasks: tuple[TaskSample, ...] | Absent = NOT_RECORDED
) -> HostSample:
    """Ticks so far, on each of four CPUs."""
    one = CpuTimes(busy, 0, 0, idle, 0, 0, 0, 0)
    whole = CpuTimes(4 * busy, 0, 0, 4 * idle, 0, 0, 0, 0)
    return HostSample(at=at, cpus={"all": whole, **{str(cpu): one for cpu in range(4)}}, tasks=tasks)


def vllm(
    at: float,
    engine_wait: float,
    engine_run: float = 0.0,
    api_wait: float = 0.0,
    throttled_s: float | None = None,
    allowed: str = "0-3",
    cpuset: str = "0-3",
    tasks: tuple[TaskSample, ...] | Absent = NOT_RECORDED,
    periods: int | None = None,
    series: dict[str, float] | None = None,
) -> Sample:
    """One sample of a vLLM with an API server (pid 100) and an EngineCore (pid 200); totals, not rates."""
    processes = (
        process(100, "python3", (thread(100, "python3", 0.0, api_wait, allowed=allowed),)),
        process(
            200, "VLLM::EngineCor", (thread(200, "VLLM::EngineCor", engine_run, engine_wait, allowed=allowed),), 100
        ),
    )
    return Sample(
        t=T0 + at,
        server=server(),
        engine=NOT_RECORDED if series is None else EngineSample(at, 1.0, series),
        procs=ServerProcs(at=at, processes=processes, cgroups={"g": cgroup(at, throttled_s, cpuset, periods)}),
        host=host(at, tasks=tasks),
    )
