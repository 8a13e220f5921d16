"""A source that plays what a test hands it, and samples of an imagined machine whose rates are chosen.

``Machine`` describes the machine; ``Machine.sample(t)`` gives its cumulative counters at second ``t``, so that two of
them in a row show the rates asked for. What a test leaves out is Absent, as it would be on a machine without it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from qtop.sample import (
    NOT_RECORDED,
    Absent,
    CgroupSample,
    CpuTimes,
    EngineSample,
    Gpm,
    GpuSample,
    GpuSection,
    HostSample,
    Pressure,
    ProcessSample,
    Sample,
    ServerInfo,
    ServerProcs,
    TaskSample,
    ThreadSample,
    WakeupSample,
    Why,
)
from qtop.source import OnSample
from qtop.source.attach import Attachment, Choice, Target
from qtop.source.live import LiveSource

BEGIN = 1_790_000_000.0
"""Unix time of second 0 of a Machine."""
NO_SERVER = Absent(Why.LOST, "No LLM server found on this host")
NO_DRIVER = Absent(Why.UNSUPPORTED, "no NVIDIA driver on this host")


class StubSource:
    """A source whose samples come when the test calls ``play``; those given at first come at the start."""

    def __init__(self, samples: Iterable[Sample] = (), live: bool = True, interval: float = 1.0) -> None:
        self.live = live
        self.interval = interval
        self.failure = ""
        self.started = self.stopped = False
        self._first = tuple(samples)
        self._on_sample: OnSample | None = None

    def start(self, on_sample: OnSample) -> None:
        """Begin with the samples given at first."""
        self.started, self._on_sample = True, on_sample
        self.play(*self._first)

    def play(self, *samples: Sample) -> None:
        """Hand over these samples now, on a thread of their own as a real source does; returns when they are taken."""
        on_sample = self._on_sample
        assert on_sample is not None, "the source has not been started"

        def hand_over() -> None:
            for sample in samples:
                if not self.stopped:
                    on_sample(sample)

        thread = threading.Thread(target=hand_over, name="stub-source")
        thread.start()
        thread.join()

    def stop(self) -> None:
        """End."""
        self.stopped = True


class _StubAttachment(Attachment):
    """Stands where the search for servers is; knows the choices it was given, remembers what was chosen."""

    def __init__(self, choices: tuple[Choice, ...]) -> None:
        super().__init__(Target())
        self.chosen: list[str | None] = []
        self._choices = choices

    def offer(self, choices: tuple[Choice, ...]) -> None:
        """From now on these are to be chosen from."""
        self._choices = choices

    def choose(self, url: str | None, pid: int | None = None) -> None:
        """Remember it; nothing is left to choose."""
        self.chosen.append(url)
        self._choices = ()


class StubLive(LiveSource):
    """A live source that reads nothing: samples come from ``play``, servers to choose among from the test."""

    def __init__(self, samples: Iterable[Sample] = (), choices: tuple[Choice, ...] = ()) -> None:
        super().__init__(Target())
        self.stub = StubSource(samples)
        self.stub_attachment = _StubAttachment(choices)
        self.attachment = self.stub_attachment

    def start(self, on_sample: OnSample) -> None:
        """Begin with the samples given at first."""
        self.stub.start(on_sample)

    def stop(self) -> None:
        """End."""
        self.stub.stop()


@dataclass
class Machine:
    """A machine whose server's threads run and wait as told; shares are 0–1."""

    run: float = 0.2
    wait: float = 0.0
    model: str = "some/tiny-model"
    engine: str = "llamacpp"
    server: bool = True
    gpus: int = 0
    gpu_name: str = "NVIDIA H100 80GB HBM3"
    lost: dict[str, Absent] = field(default_factory=dict)
    cpus: int = 4
    allowed: str = "0"
    cpuset: str = "0-3"
    pid: int = 4_000_000
    url: str = "http://127.0.0.1:8080"
    tokens_s: float = 40.0
    competitors: tuple[str, ...] = ("stress", "stress")

    def samples(self, first: int, last: int) -> list[Sample]:
        """One a second, from second ``first`` up to but without ``last``."""
        return [self.sample(float(second)) for second in range(first, last)]

    def sample(self, t: float) -> Sample:
        """What the counters of this machine hold at second ``t``."""
        return Sample(
            t=BEGIN + t,
            server=self._server() if self.server else NO_SERVER,
            engine=self._engine(t) if self.server else NO_SERVER,
            procs=self._procs(t) if self.server else NO_SERVER,
            host=self._host(t),
            gpu=self._gpu(t) if self.gpus or self.lost else NO_DRIVER,
            wakeup=WakeupSample(at=t, period_ms=25.0, late_us=tuple(range(60, 100))),
        )

    def _server(self) -> ServerInfo:
        return ServerInfo(
            url=self.url,
            engine=self.engine,
            version="1.2.3",
            model=self.model,
            max_model_len=8192,
            max_running=4,
            pid=self.pid,
            argv=("server",),
            started=BEGIN - 3600.0,
        )

    def _engine(self, t: float) -> EngineSample:
        series = {
            "llamacpp:requests_processing": 1.0,
            "llamacpp:requests_deferred": 0.0,
            "llamacpp:tokens_predicted_total": self.tokens_s * t,
            "llamacpp:prompt_tokens_total": 3 * self.tokens_s * t,
            "llamacpp:n_decode_total": self.tokens_s * t,
        }
        return EngineSample(at=t, scrape_ms=1.0, series=series)

    def _procs(self, t: float) -> ServerProcs:
        main = ThreadSample(
            tid=self.pid,
            comm="server",
            run_ns=int(self.run * t * 1e9),
            wait_ns=int(self.wait * t * 1e9),
            slices=int(200 * t),
            allowed=self.allowed,
            processor=0,
        )
        process = ProcessSample(
            pid=self.pid,
            start_ticks=1,
            ppid=1,
            comm="server",
            cpu_ticks=int(self.run * t * 100),
            rss_bytes=300 << 20,
            threads=(main,),
            allowed=self.allowed,
            cgroup="/server",
        )
        group = CgroupSample(
            at=t, version=2, path="/server", usage_us=int(self.run * t * 1e6), quotas=(), cpuset=self.cpuset
        )
        return ServerProcs(at=t, processes=(process,), cgroups={"/server": group})

    def _host(self, t: float) -> HostSample:
        ticks = int(100 * t)
        one = CpuTimes(ticks // 2, 0, 0, ticks - ticks // 2, 0, 0, 0, 0)
        cpus = {str(cpu): one for cpu in range(self.cpus)}
        tasks = tuple(
            TaskSample(pid=5_000_000 + number, start_ticks=1, comm=name, cpu_ticks=int(40 * t), cpus="0")
            for number, name in enumerate(self.competitors)
        )
        busy = Pressure(some_us=int(self.wait * t * 1e6), full_us=0)
        return HostSample(
            at=t,
            cpus={"all": CpuTimes(*(value * self.cpus for value in msgspec_fields(one))), **cpus},
            psi_cpu=busy,
            mem_total=16 << 30,
            mem_available=8 << 30,
            runnable=3,
            tasks=tasks if self.wait > 0.05 else NOT_RECORDED,
        )

    def _gpu(self, t: float) -> GpuSection:
        indexes = [index for index in range(self.gpus + len(self.lost)) if str(index) not in self.lost]
        return GpuSection(at=t, gpus=tuple(self._one_gpu(t, index) for index in indexes), lost=self.lost)

    def _one_gpu(self, t: float, index: int) -> GpuSample:
        return GpuSample(
            at=t,
            index=index,
            uuid=f"GPU-{index}",
            name=self.gpu_name,
            util=31 + index,
            mem_total=80 << 30,
            mem_used=(60 + index) << 30,
            temp_c=52,
            power_mw=239_000,
            power_limit_mw=700_000,
            sm_mhz=1968,
            sm_max_mhz=1980,
            reasons=0x4,
            reason_ns={"power_cap": int(0.03 * t * 1e9)},
            pcie_gen=5,
            pcie_width=16,
            gpm=Gpm(sm_util=19.0, dram_util=15.0, tensor_util=4.0, pcie_rx=17.0, pcie_tx=7.0),
        )


def msgspec_fields(times: CpuTimes) -> tuple[int, ...]:
    """The figures of one CPU line, in order."""
    return tuple(getattr(times, name) for name in times.__struct_fields__)
