"""What GPM and the other readings of a real H100 say while it is known what the GPU does (recorded with qtop itself:
vLLM 0.25.1 with Qwen3-4B shapes, 8 or 16 streams of it)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from statistics import mean

import pytest

from qtop.model.derive import Deriver
from qtop.model.frame import Frame, GpuView, VramSplit
from qtop.model.gpu_link import Link
from qtop.record.reader import Recording
from qtop.sample import Absent, Reading

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
COPY_BEGAN, COPY_GB_S = 1795389082.5, 53.44
"""A process that copies from host to device, by its own clock and count; 15 s."""
MATMUL_BEGAN = 1795389109.1
"""A process that multiplies matrices, 15 s."""


@cache
def frames(name: str) -> tuple[Frame, ...]:
    deriver = Deriver()
    return tuple(deriver.push(sample) for sample in Recording(RECORDINGS / name).samples())[2:]


def gpu(frame: Frame) -> GpuView:
    assert not isinstance(frame.gpus, Absent)
    return frame.gpus[0]


def had(value: Reading[float]) -> float:
    assert not isinstance(value, Absent), value
    return value


def during(begin: float, first: float, last: float) -> list[GpuView]:
    found = [gpu(frame) for frame in frames("h100-side-loads.qtop") if begin + first <= frame.t <= begin + last]
    assert len(found) >= 10
    return found


def test_pcie_rates_under_a_copy_loop() -> None:
    copying = during(COPY_BEGAN, 2, 14)
    # GPM counts packet headers too: some percent more than the bytes copied.
    assert COPY_GB_S < mean(had(one.pcie_rx_s) for one in copying) / 1e9 < 1.12 * COPY_GB_S
    assert all(had(one.pcie_share) >= 0.95 for one in copying)
    before = during(COPY_BEGAN, -14, -1)
    assert all(had(one.pcie_share) < 0.01 for one in before)
    assert copying[-1].pcie_judged == Link.FULL


def test_memory_of_another_process() -> None:
    for began in (COPY_BEGAN, MATMUL_BEGAN):
        split = [one.vram for one in during(began, 2, 13)]
        assert all(isinstance(one, VramSplit) and 0.5 < had(one.others) / 2**30 < 1.2 for one in split)
    alone = during(COPY_BEGAN, -14, -1)
    assert all(isinstance(one.vram, VramSplit) and had(one.vram.others) < 64 << 20 for one in alone)
    assert all(
        isinstance(one.vram, VramSplit) and had(one.vram.server) / 2**30 == pytest.approx(68.9, abs=0.1)
        for one in alone
    )


def test_a_matrix_product_meets_the_power_cap() -> None:
    multiplying = during(MATMUL_BEGAN, 2, 14)
    assert all(had(one.duty["power_cap"]) > 0.99 for one in multiplying)
    assert all(had(one.tensor) > 0.4 for one in multiplying)
    assert mean(had(one.tensor) for one in during(COPY_BEGAN, 2, 14)) < 0.2


def test_what_is_inferred_of_the_memory_s_bandwidth_is_a_lower_bound_of_what_gpm_measures() -> None:
    both = [
        (had(gpu(frame).dram), frame.dram_inferred)
        for frame in frames("h100-steady16.qtop")
        if not isinstance(frame.dram_inferred, Absent)
    ]
    assert len(both) > 30
    measured, inferred = mean(one for one, _ in both), mean(one for _, one in both if isinstance(one, float))
    assert 0.65 * measured < inferred < measured


def test_what_a_busy_gpu_says_of_itself() -> None:
    one = gpu(frames("h100-steady16.qtop")[-1])
    assert (one.pcie, one.pcie_max, one.pcie_device) == ("gen5 x16", "gen5 x16", "gen5")
    assert had(one.bandwidth) / 1e12 == pytest.approx(3.35, abs=0.01)
    assert (one.power_default_w, one.power_lowest_w, one.power_highest_w) == (700.0, 200.0, 700.0)
    assert had(one.power_min_w) < had(one.power_w) < had(one.power_max_w)
    assert had(one.sm) < had(one.util_max), "utilization says how often, not how full"
    assert one.margin_c == 30 and one.mem_temp_c == 62
    assert (one.ecc_uncorrected, one.replays_min, one.xids, one.mig) == (0, 0.0, (), False)


def test_the_settings_in_force_were_recorded_with_their_sources() -> None:
    settings = frames("h100-steady16.qtop")[-1].settings
    assert not isinstance(settings, Absent)
    utilization, batched = settings.get("gpu_memory_utilization"), settings.get("max_num_batched_tokens")
    assert utilization is not None and (utilization.value, utilization.source) == ("0.85", "command line")
    assert batched is not None and (batched.value, batched.source) == ("8192", "default of vLLM 0.25")
    assert "confirmed by /server_info" in batched.note


def test_the_duty_of_a_clock_limit_over_the_last_seconds() -> None:
    all_of_it = frames("h100-side-loads.qtop")
    last = next(gpu(frame) for frame in all_of_it if frame.t >= MATMUL_BEGAN + 13)
    ticks = [gpu(frame).duty["power_cap"] for frame in all_of_it if MATMUL_BEGAN - 17 <= frame.t <= MATMUL_BEGAN + 13]
    assert last.duty_window_s == pytest.approx(30.0, abs=1.5)
    assert had(last.duty_window["power_cap"]) == pytest.approx(mean(had(one) for one in ticks), abs=0.03)
    assert had(last.duty["power_cap"]) > had(last.duty_window["power_cap"]) + 0.1
