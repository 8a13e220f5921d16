"""The PCIe link of a GPU: what it can carry, what it carries, whether it is what it should be."""

from __future__ import annotations

from enum import StrEnum

from qtop.sample import NOT_RECORDED, NOT_YET, Absent, GpuFacts, GpuSample, Reading, Why, first_absent

LANE = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.97e9, 5: 3.94e9, 6: 7.56e9}
"""Bytes a second a lane and direction by generation, after line coding (source: PCI-SIG; gen 6 with FLIT coding)."""
EFFECTIVE = 0.85
"""Share of that left for data after packet headers and flow control."""
WRAP = 1 << 32
"""The byte counters have 32 bits."""
LOADED_UTIL, LOADED_PSTATE = 20, 2
"""A GPU is under load above this utilization (%) and at this performance state or a faster one."""
WIDTH_AFTER_S, GEN_AFTER_S = 3.0, 5.0
"""Seconds under load after which a narrow and a slow link are called so; a link speeds up just after load begins."""
MIB = 1024.0 * 1024.0

IDLE = Absent(Why.NOT_YET, "judged only under load: an idle link slows down by design")
SOON = Absent(Why.NOT_YET, f"judged after {GEN_AFTER_S:.0f} s under load")
MAY_HAVE_WRAPPED = Absent(Why.UNSUPPORTED, "cannot tell: the 32-bit counter may wrap unseen on this link; needs GPM")


class Link(StrEnum):
    """What there is to say of a link under load."""

    FULL = "full"
    """As wide and as fast as GPU and slot allow, and the slot allows all that the GPU can."""
    NARROW = "narrower than the slot"
    SLOW = "slower than the slot"
    SLOT = "limited by the slot"
    """As good as the slot allows; the GPU could do more."""


def link_text(gen: Reading[int], width: Reading[int]) -> Reading[str]:
    """A link as "gen5 x16"."""
    missing = first_absent(gen, width)
    return missing if missing is not None else f"gen{gen} x{width}"


def capacity(gen: Reading[int], width: Reading[int]) -> Reading[float]:
    """Bytes a second, each way, before packet overhead."""
    if isinstance(gen, Absent):
        return gen
    if isinstance(width, Absent):
        return width
    lane = LANE.get(gen)
    return lane * width if lane is not None else Absent(Why.UNSUPPORTED, f"PCIe gen {gen} is not known here")


def rates(old: GpuSample | None, new: GpuSample) -> tuple[Reading[float], Reading[float]]:
    """Bytes a second to and from the GPU: by GPM, else by the counters where no wrap can have gone unseen."""
    gpm = new.gpm
    if not isinstance(gpm, Absent):
        return _bytes(gpm.pcie_rx), _bytes(gpm.pcie_tx)
    now = new.pcie_bytes
    if isinstance(now, Absent):
        why = gpm if now == NOT_RECORDED else now
        return why, why
    if old is None or isinstance(old.pcie_bytes, Absent):
        return NOT_YET, NOT_YET
    before = old.pcie_bytes
    seconds = now.at - before.at
    if seconds <= 0:
        return NOT_YET, NOT_YET
    # The faster of both ends: a link that was busy in between has not slowed down by the end of the tick.
    ends = (capacity(old.pcie_gen, old.pcie_width), capacity(new.pcie_gen, new.pcie_width))
    missing = first_absent(*ends)
    if missing is not None:
        return missing, missing
    if max(end for end in ends if not isinstance(end, Absent)) * seconds >= WRAP:
        return MAY_HAVE_WRAPPED, MAY_HAVE_WRAPPED
    return _grown(before.rx, now.rx, seconds), _grown(before.tx, now.tx, seconds)


def _bytes(mib: Reading[float]) -> Reading[float]:
    return mib if isinstance(mib, Absent) else mib * MIB


def _grown(old: Reading[int], new: Reading[int], seconds: float) -> Reading[float]:
    if isinstance(new, Absent):
        return new
    return NOT_YET if isinstance(old, Absent) else (new - old) % WRAP / seconds


def share(received: Reading[float], sent: Reading[float], limit: Reading[float]) -> Reading[float]:
    """The busier direction over what the link can carry in practice, 1 at most: GPM counts packet headers too (58 GB/s
    where a copy loop moved 53 on gen5 x16)."""
    if isinstance(limit, Absent):
        return limit
    if isinstance(received, Absent):
        return received
    if isinstance(sent, Absent):
        return sent
    return min(1.0, max(received, sent) / limit) if limit > 0 else NOT_YET


def judge(sample: GpuSample, loaded_s: Reading[float]) -> Reading[str]:
    """What there is to say of the link after ``loaded_s`` seconds under load; absent while that is too short."""
    if isinstance(loaded_s, Absent):
        return loaded_s
    facts: GpuFacts | Absent = sample.facts
    if isinstance(facts, Absent):
        return facts
    width, width_max = sample.pcie_width, facts.pcie_width_max
    gen, gen_max, device = sample.pcie_gen, facts.pcie_gen_max, facts.pcie_gen_device
    if loaded_s < WIDTH_AFTER_S:
        return SOON
    if isinstance(width, int) and isinstance(width_max, int) and width < width_max:
        return Link.NARROW
    if loaded_s < GEN_AFTER_S:
        return SOON
    if isinstance(gen, Absent):
        return gen
    if isinstance(gen_max, Absent):
        return gen_max
    if gen < gen_max:
        return Link.SLOW
    return Link.SLOT if isinstance(device, int) and gen_max < device else Link.FULL


def is_loaded(sample: GpuSample) -> Reading[bool]:
    """Whether the GPU works hard enough for its link to be judged."""
    if isinstance(sample.util, Absent):
        return sample.util
    if isinstance(sample.pstate, Absent):
        return sample.pstate
    return sample.util > LOADED_UTIL and sample.pstate <= LOADED_PSTATE
