"""Samples of an imagined node: seven GPUs of three kinds, each with a state of its own, under a vLLM with two API
servers and two data-parallel engines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace
from tests.fakes.stub_source import Machine

from qtop.sample import (
    Absent,
    CgroupSample,
    EngineSample,
    Gpm,
    GpuFacts,
    GpuProcess,
    GpuSample,
    GpuSection,
    GpuSlow,
    ProcessSample,
    ServerInfo,
    ServerProcs,
    ThreadSample,
    Why,
)

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
NO_GPM = Absent(Why.UNSUPPORTED, "needs GPM: a Hopper GPU or newer")
IN_MIG = Absent(Why.UNSUPPORTED, "the driver refuses GPM for this GPU (in MIG mode it does)")
FELL = Absent(Why.LOST, "fell off the bus; the kernel log (Xid) says why")
GIB = 1 << 30
ROOT = 4_000_000
PROCESSES = (
    (ROOT, "vllm serve", "vllm"),
    (ROOT + 1, "VLLM::APIServer_0", "VLLM::APIServer"),
    (ROOT + 2, "VLLM::APIServer_1", "VLLM::APIServer"),
    (ROOT + 10, "VLLM::EngineCore_DP0", "VLLM::EngineCor"),
    (ROOT + 11, "VLLM::EngineCore_DP1", "VLLM::EngineCor"),
    *((ROOT + 20 + rank, f"VLLM::Worker_TP{rank}", f"VLLM::Worker_TP{rank}"[:15]) for rank in range(4)),
)
"""Process, title and name."""
THREADS = 6
"""Of each process."""


@dataclass
class Node(Machine):
    """GPU 1 is linked narrowly, 2 lost, 3 in MIG mode, 4 hot; 5 is a GeForce, 6 an A100 with another's process."""

    model: str = MODEL
    engine: str = "vllm"
    url: str = "http://127.0.0.1:8000"
    gpus: int = 6
    lost: dict[str, Absent] = field(default_factory=lambda: {"2": FELL})
    cpus: int = 8
    allowed: str = "0-7"
    cpuset: str = "0-7"
    verified: bool = True

    def _server(self) -> ServerInfo:
        return replace(
            super()._server(),
            version="0.25.1",
            max_model_len=32_768,
            max_running=256,
            argv=("vllm", "serve", MODEL, "--data-parallel-size", "2", "--api-server-count", "2"),
            verified=self.verified,
        )

    def _engine(self, t: float) -> EngineSample:
        series: dict[str, float] = {}
        for rank, share in ((0, 0.6), (1, 0.4)):
            labels = f'engine="{rank}",model_name="{MODEL}"'
            series |= {
                f"vllm:num_requests_running{{{labels}}}": round(40 * share),
                f"vllm:num_requests_waiting{{{labels}}}": 3.0 * rank,
                f"vllm:kv_cache_usage_perc{{{labels}}}": share / 2,
                f"vllm:generation_tokens_total{{{labels}}}": 2000.0 * share * t,
                f"vllm:prompt_tokens_total{{{labels}}}": 9000.0 * share * t,
                f"vllm:iteration_tokens_total_count{{{labels}}}": 50.0 * t,
                f"vllm:num_preemptions_total{{{labels}}}": 0.0,
                f'vllm:cache_config_info{{block_size="16",engine="{rank}",kv_cache_size_tokens="426960"}}': 1.0,
            }
        return EngineSample(at=t, scrape_ms=1.0, series=series)

    def _procs(self, t: float) -> ServerProcs:
        group = CgroupSample(at=t, version=2, path="/server", usage_us=int(t * 1e6), quotas=(), cpuset=self.cpuset)
        processes = tuple(self._process(t, *one) for one in PROCESSES)
        return ServerProcs(at=t, processes=processes, cgroups={"/server": group})

    def _process(self, t: float, pid: int, title: str, comm: str) -> ProcessSample:
        engine = "EngineCore" in title
        threads = [
            ThreadSample(
                tid=pid if not number else pid * 10 + number,
                comm=comm if not number else f"pool-{number}",
                run_ns=int((self.run if engine else 0.02) * t * 1e9) if number < 2 else 0,
                wait_ns=int((self.wait if engine and not number else 0.004) * t * 1e9) if number < 2 else 0,
                slices=int(200 * t) if number < 2 else 0,
                allowed=self.allowed,
                processor=number % self.cpus,
            )
            for number in range(THREADS)
        ]
        return ProcessSample(
            pid=pid,
            start_ticks=1,
            ppid=1 if pid == ROOT else ROOT,
            comm=comm,
            cpu_ticks=int(self.run * t * 100),
            rss_bytes=1 << 30,
            threads=tuple(threads),
            allowed=self.allowed,
            cgroup="/server",
            title=title,
        )

    def _gpu(self, t: float) -> GpuSection:
        hopper = GpuFacts(
            arch="Hopper",
            compute="9.0",
            bus_width_bits=5120,
            numa_node=0,
            slowdown_tlimit=-2,
            power_default_mw=700_000,
            power_min_mw=200_000,
            power_max_mw=700_000,
            pcie_gen_max=5,
            pcie_width_max=16,
            pcie_gen_device=5,
        )
        slow = GpuSlow(at=t, margin_c=35, mem_temp_c=61, ecc_corrected=2, ecc_uncorrected=0, replays=3, mig=False)
        h100: dict[str, Any] = {"facts": hopper, "slow": slow, "mem_max_mhz": 2619, "mem_mhz": 2619, "pstate": 0}
        hot = replace(slow, margin_c=-1)
        older = GpuFacts(arch="Ampere", compute="8.0", numa_node=1, pcie_gen_max=4, pcie_width_max=16)
        mig: dict[str, Any] = {"util": IN_MIG, "gpm": IN_MIG, "slow": replace(slow, mig=True)}
        heat = {"power_cap": int(0.2 * t * 1e9), "hw_thermal": int(0.6 * t * 1e9)}
        others: dict[str, Any] = {"gpm": NO_GPM, "pcie_gen": 4, "pcie_bytes": NO_GPM}
        return GpuSection(
            at=t,
            driver="580.1",
            gpus=(
                self._h100(t, 0, ROOT + 10, **h100),
                self._h100(t, 1, ROOT + 11, **h100, pcie_gen=3, pcie_width=8),
                self._h100(t, 3, 0, **{**h100, **mig}),
                self._h100(t, 4, 0, **{**h100, "slow": hot}, temp_c=88, sm_mhz=1200, reasons=0x40, reason_ns=heat),
                self._h100(t, 5, 0, **others, name="NVIDIA GeForce RTX 4090 D", mem_total=24 * GIB, mem_used=21 * GIB),
                self._h100(t, 6, 77, **others, facts=older, name="NVIDIA A100-SXM4-40GB", mem_total=40 * GIB),
            ),
            lost=self.lost,
            xids=(),
        )

    def _h100(self, t: float, index: int, owner: int, **changes: Any) -> GpuSample:
        used = changes.get("mem_total", 80 * GIB) * 7 // 8
        processes = (GpuProcess(owner, used - GIB, comm="trainer" if owner < ROOT else ""),) if owner else ()
        one = replace(
            super()._one_gpu(t, index),
            local_cpus="0-3" if index < 4 else "4-7",
            mem_used=used,
            mem_util=33,
            processes=processes,
            gpm=Gpm(sm_util=49.0, dram_util=38.0, tensor_util=21.0, occupancy=22.0, pcie_rx=17.0, pcie_tx=7.0),
        )
        return replace(one, **changes)
