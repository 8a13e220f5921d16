"""The plain fields: name, place in a frame, unit, what it is. ``qtop.model.fields`` makes a registry of them."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One figure that stands at one place. ``path``: from the frame, or from the GPU; ``stem``: of its metric."""

    name: str
    path: str
    unit: str
    what: str
    stem: str
    usual: bool = False
    labels: tuple[tuple[str, str], ...] = ()


def _row(path: str, unit: str, what: str, stem: str, usual: bool = False) -> Row:
    """One whose name is its place."""
    return Row(path, path, unit, what, stem, usual)


ENGINE = (
    _row("engine.running", "requests", "requests that run", "running", True),
    _row("engine.waiting", "requests", "requests that wait to be scheduled", "waiting", True),
    _row("engine.kv_use", "share", "KV cache in use; of several engines the fullest", "kv_use", True),
    _row("engine.gen_tok_s", "tokens/s", "tokens generated", "generation", True),
    _row("engine.prompt_tok_s", "tokens/s", "prompt tokens taken in", "prompt", True),
    _row("engine.preempt_s", "1/s", "preemptions", "preemptions", True),
    _row("engine.finished_s", "requests/s", "requests that finished", "finished", True),
    _row("engine.steps_s", "1/s", "steps of the scheduler", "steps", True),
    _row("engine.itl_ms", "ms", "mean gap between tokens of one request, over the tick", "inter_token"),
    _row("engine.tokens_step", "tokens", "tokens a step, over the tick", "step"),
    _row("engine.prefix_hit", "share", "looked-up prompt tokens found in the prefix cache", "prefix_hit"),
    _row("engine.prefix_queries", "tokens", "prompt tokens looked up in that window", "prefix_queries"),
    _row("engine.spec_accept", "share", "drafted tokens that were accepted", "speculation_accepted"),
    _row("engine.rejections_s", "requests/s", "requests refused because a queue was full", "rejected"),
    _row("engine.kv_capacity_tokens", "tokens", "tokens that the KV cache holds", "kv_capacity"),
    _row("engine.api_cpu", "CPUs", "CPU time a second of the process that answers HTTP", "api_cpu"),
    _row("engine.scheduler_cpu", "CPUs", "CPU time a second of the busiest scheduler process", "scheduler_cpu"),
    _row("engine.scheduler_idle", "share", "time that the least idle scheduler had nothing to do", "scheduler_idle"),
    _row("engine.scrape_ms", "ms", "what one reading of the server took", "scrape"),
)

STAGES = (
    ("client", "a request's time before it is sent, by qtop's own prompts"),
    ("frontend", "a request's time before the engine: HTTP, tokenising, IPC; mean, last 30 s"),
    ("queue", "a request's time in the queue; mean, last 30 s"),
    ("prefill", "a request's prefill; mean, last 30 s"),
    ("decode", "a request's decoding; mean, last 30 s"),
)


HOST = (
    _row("host.busy", "share", "all CPUs: time not idle", "host_cpu_busy", True),
    _row("host.steal", "share", "all CPUs: time that the hypervisor took", "host_cpu_steal"),
    _row("host.iowait", "share", "all CPUs: time idle with disk requests outstanding", "host_cpu_iowait"),
    _row("host.softirq", "share", "all CPUs: time in soft interrupts", "host_cpu_softirq"),
    _row("host.psi_cpu", "share", "time in which some task waited for a CPU", "host_pressure_cpu", True),
    _row("host.psi_memory", "share", "time in which some task waited for memory", "host_pressure_memory"),
    _row("host.psi_io", "share", "time in which some task waited for a disk", "host_pressure_io"),
    _row("host.mem_total", "bytes", "memory", "host_memory"),
    _row("host.mem_available", "bytes", "memory available", "host_memory_available", True),
    _row("host.swap_used", "bytes", "swap in use", "host_swap_used"),
    _row("host.swap_in_s", "bytes/s", "read from swap", "host_swap_in"),
    _row("host.swap_out_s", "bytes/s", "written to swap", "host_swap_out"),
    _row("host.major_faults_s", "1/s", "page faults that waited for a disk", "host_major_faults"),
    _row("host.migrations_s", "1/s", "pages that NUMA balancing moved", "host_numa_migrations"),
    _row("host.runnable", "count", "tasks that run or could", "host_runnable_tasks"),
    _row("host.mhz.mean", "MHz", "mean clock of all CPUs", "host_cpu_clock"),
)

OTHER = (
    _row("sched.cpu", "CPUs", "CPU time a second of all of the server's processes", "sched_used", True),
    _row("sched.rss_bytes", "bytes", "resident memory of the server's processes", "sched_resident"),
    _row("sched.involuntary", "1/s", "times that a critical process lost its CPU", "sched_involuntary_switches"),
    _row("sched.psi_some", "share", "time in which some task of the cgroup waited for a CPU", "cgroup_pressure_cpu"),
    _row("sched.psi_full", "share", "time in which all of them did", "cgroup_pressure_cpu_full"),
    _row("sched.quota.cores", "CPUs", "the tightest CPU quota", "cgroup_quota"),
    _row("sched.quota.throttled", "CPUs", "CPU time a second that it withheld", "cgroup_throttled"),
    _row("wakeup.p50_ms", "ms", "a sleeper beside the server wakes so late: median, last 10 s", "wakeup_median"),
    _row("wakeup.p95_ms", "ms", "the same: 95th percentile", "wakeup_p95", True),
    _row("wakeup.max_ms", "ms", "the same: largest", "wakeup_max"),
    _row("roofline_tok_s", "tokens/s", "what memory bandwidth allows a batch like the present", "roofline", True),
    _row("dram_inferred", "share", "GPU memory bandwidth that the steps must have used", "dram_inferred"),
    _row("waterfall.ttft_ms", "ms", "time to first token; mean, last 30 s", "request_ttft"),
    _row("waterfall.itl_ms", "ms", "gap between tokens; mean, last 30 s", "request_inter_token"),
    _row("waterfall.tokens", "tokens", "output of a request; mean, last 30 s", "request_output"),
    _row("own.cpu", "share", "one core's time that qtop takes", "own_cpu"),
    _row("own.rss_bytes", "bytes", "resident memory of qtop", "own_resident"),
)


GPU = (
    _row("util", "share", "time with a kernel running", "utilization", True),
    _row("sm", "share", "SMs at work", "sm_active", True),
    _row("tensor", "share", "time in which the tensor cores worked", "tensor_active", True),
    _row("dram", "share", "peak memory bandwidth in use", "dram_bandwidth", True),
    _row("occupancy", "share", "warps that the SMs could hold", "occupancy"),
    _row("mem_util", "share", "time in which memory was read or written; not bandwidth", "memory_time"),
    _row("mem_used", "bytes", "memory in use", "memory_used", True),
    _row("mem_total", "bytes", "memory", "memory"),
    _row("temp_c", "°C", "temperature", "temperature", True),
    _row("mem_temp_c", "°C", "temperature of the memory", "memory_temperature"),
    _row("margin_c", "°C", "left until the hardware slows down", "temperature_margin"),
    _row("power_w", "W", "power", "power", True),
    _row("power_limit_w", "W", "power limit", "power_limit"),
    _row("power_min_w", "W", "lowest of the driver's samples in the tick", "power_min"),
    _row("power_max_w", "W", "highest of them", "power_max"),
    _row("sm_mhz", "MHz", "SM clock", "sm_clock", True),
    _row("sm_max_mhz", "MHz", "highest SM clock", "sm_clock_max"),
    _row("mem_mhz", "MHz", "memory clock", "memory_clock"),
    _row("pcie_rx_s", "bytes/s", "over PCIe to the GPU", "pcie_receive"),
    _row("pcie_tx_s", "bytes/s", "over PCIe from the GPU", "pcie_transmit"),
    _row("pcie_share", "share", "the busier direction, of what the link carries", "pcie_load"),
    _row("replays_min", "1/min", "PCIe packets sent again", "pcie_replays"),
    _row("ecc_corrected", "count", "memory errors corrected since the driver was loaded", "ecc_corrected_errors"),
    _row("ecc_uncorrected", "count", "memory errors not corrected", "ecc_uncorrected_errors"),
    _row("server_sm", "share", "SM time that the server took, beside others", "server_sm"),
    *(
        Row(f"duty.{kind}", f"duty.{kind}", "share", f"time in which {what} held the clock down", "clock_limited",
            kind == "power_cap", (("limit", kind),))
        for kind, what in (
            ("power_cap", "the power limit"),
            ("sw_thermal", "the driver, for heat,"),
            ("hw_thermal", "the hardware, for heat,"),
            ("power_brake", "the power supply"),
        )
    ),
)  # fmt: skip
