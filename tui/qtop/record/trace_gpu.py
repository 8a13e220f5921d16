"""The GPU part of a trace line."""

from __future__ import annotations

from collections.abc import Mapping

from qtop.record.trace_values import MISSING, integer, mapping, number
from qtop.sample import NOT_RECORDED, Absent, Gpm, GpuProcess, GpuSample, GpuSection, ProcessUse, Reading, Why

_INTEGERS = {
    "util": "util",
    "memutil": "mem_util",
    "mem_used": "mem_used",
    "mem_total": "mem_total",
    "temp": "temp_c",
    "power_mw": "power_mw",
    "sm_clock": "sm_mhz",
    "mem_clock": "mem_mhz",
    "reasons": "reasons",
}
"""Key in the trace to field of GpuSample."""
_REASON_FIELDS = {74: "power_cap", 269: "sw_thermal", 75: "sw_thermal", 270: "hw_thermal", 271: "power_brake"}
"""NVML field id to key of ``reason_ns`` (source: nvml.h; 269 is the newer name of 75)."""
_GPM = {
    "SM_UTIL": "sm_util",
    "SM_OCCUPANCY": "occupancy",
    "ANY_TENSOR_UTIL": "tensor_util",
    "DRAM_BW_UTIL": "dram_util",
    "PCIE_TX_PER_SEC": "pcie_tx",
    "PCIE_RX_PER_SEC": "pcie_rx",
}
_NVML_WHY = {3: Why.UNSUPPORTED, 4: Why.DENIED, 15: Why.LOST}
"""NVML return codes (source: nvml.h): not supported, no permission, GPU is lost."""
_NO_BYTES = Absent(Why.UNSUPPORTED, "the driver does not say how much memory it uses")


def gpu_section(line: Mapping[str, object], t: float) -> GpuSection | Absent:
    """The GPUs of a line: ``gpus``, a list, or ``gpu``, one object or a list; absent where the line has neither."""
    raw = line.get("gpus")
    if raw is None:
        raw = line.get("gpu")
    if raw is None:
        return NOT_RECORDED
    entries = raw if isinstance(raw, list) else [raw]
    gpus: list[GpuSample] = []
    lost: dict[str, Absent] = {}
    for position, entry in enumerate(entries):
        if isinstance(entry, dict) and entry:
            gpus.append(gpu_sample(entry, t, position))
        else:
            lost[str(position)] = Absent(Why.LOST, "the trace has no readings of this GPU here")
    return GpuSection(at=t, gpus=tuple(gpus), lost=lost)


def gpu_sample(entry: Mapping[str, object], t: float, position: int) -> GpuSample:
    """One GPU; ``position`` is its index where the entry does not say."""
    index = integer(entry.get("index"))
    values: dict[str, Reading[int]] = {field: _integer(entry.get(key, MISSING)) for key, field in _INTEGERS.items()}
    pcie = entry.get("pcie")
    gen, width = (pcie[0], pcie[1]) if isinstance(pcie, list) and len(pcie) >= 2 else (MISSING, MISSING)
    return GpuSample(
        at=t,
        index=position if index is None or index < 0 else index,
        uuid=_text(entry.get("uuid")),
        name=_text(entry.get("name")),
        util=values["util"],
        mem_util=values["mem_util"],
        mem_used=values["mem_used"],
        mem_total=values["mem_total"],
        temp_c=values["temp_c"],
        power_mw=values["power_mw"],
        sm_mhz=values["sm_mhz"],
        mem_mhz=values["mem_mhz"],
        reasons=values["reasons"],
        reason_ns=_reasons(entry.get("fields")),
        pcie_gen=_integer(gen),
        pcie_width=_integer(width),
        gpm=_gpm(entry.get("gpm")),
        processes=_processes(entry.get("procs")),
        process_use=_process_use(entry.get("procutil")),
    )


def _text(value: object) -> Reading[str]:
    return value if isinstance(value, str) and value else NOT_RECORDED


def _integer(value: object) -> Reading[int]:
    if value is MISSING:
        return NOT_RECORDED
    found = integer(value)
    return Absent(Why.FAILED, "not a number in the trace") if found is None else found


def _reasons(raw: object) -> dict[str, Reading[int]]:
    """Cumulative ns by reason, from rows [field id, return code, value]; for one reason a value wins over an error."""
    found: dict[str, Reading[int]] = {}
    for row in raw if isinstance(raw, list) else []:
        if not isinstance(row, list) or len(row) < 2:
            continue
        field, code = integer(row[0]), integer(row[1])
        name = _REASON_FIELDS.get(field) if field is not None else None
        if name is None or code is None or isinstance(found.get(name), int):
            continue
        if code == 0:
            found[name] = _integer(row[2] if len(row) > 2 else None)
        else:
            found[name] = Absent(_NVML_WHY.get(code, Why.FAILED), f"NVML field {field} gave error {code}")
    return found


def _gpm(raw: object) -> Gpm | Absent:
    metrics = mapping(raw)
    values: dict[str, Reading[float]] = {}
    for key, field in _GPM.items():
        if key in metrics:
            value = number(metrics[key])
            values[field] = Absent(Why.FAILED, "NVML gave no number") if value is None else value
    return Gpm(**values) if values else NOT_RECORDED


def _processes(raw: object) -> tuple[GpuProcess, ...] | Absent:
    if not isinstance(raw, list):
        return NOT_RECORDED
    found = []
    for row in raw:
        pid = integer(row[0]) if isinstance(row, list) and row else None
        if pid is None:
            continue
        used = integer(row[1]) if len(row) > 1 else None
        found.append(GpuProcess(pid, _NO_BYTES if used is None or used < 0 else used))
    return tuple(found)


def _process_use(raw: object) -> tuple[ProcessUse, ...] | Absent:
    """Rows [pid, SM %, …], as nvmlDeviceGetProcessUtilization gave them."""
    if not isinstance(raw, list):
        return NOT_RECORDED
    found = []
    for row in raw:
        pid, sm = (integer(row[0]), number(row[1])) if isinstance(row, list) and len(row) > 1 else (None, None)
        if pid is not None and sm is not None:
            found.append(ProcessUse(pid, sm))
    return tuple(found)
