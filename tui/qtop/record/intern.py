"""Equal parts of samples in a row become the same object, as a live source gives them.

Most threads of a server sleep most of the time. The model knows an object that it has seen before at once, and frames
are kept for a quarter of an hour: the same object costs neither time nor memory.
"""

from __future__ import annotations

from msgspec.structs import replace

from qtop.sample import Absent, GpuSample, GpuSection, HostSample, ProcessSample, Sample, ServerInfo, ServerProcs
from qtop.sample.types import ThreadSample


class Interner:
    """Feed it samples in order."""

    def __init__(self) -> None:
        self._server: ServerInfo | Absent | None = None
        self._threads: dict[int, tuple[ThreadSample, ...]] = {}
        self._topology: object = None
        self._facts: dict[int, object] = {}

    def intern(self, sample: Sample) -> Sample:
        """The same sample, of parts seen before where they are equal."""
        changes: dict[str, object] = {}
        if sample.server == self._server:
            changes["server"] = self._server
        else:
            self._server = sample.server
        if not isinstance(sample.procs, Absent):
            changes["procs"] = self._procs(sample.procs)
        if not isinstance(sample.host, Absent):
            changes["host"] = self._host(sample.host)
        if not isinstance(sample.gpu, Absent):
            changes["gpu"] = self._gpus(sample.gpu)
        return replace(sample, **changes)

    def _procs(self, procs: ServerProcs) -> ServerProcs:
        seen: dict[int, tuple[ThreadSample, ...]] = {}
        processes = tuple(self._process(one, seen) for one in procs.processes)
        self._threads = seen
        return replace(procs, processes=processes)

    def _process(self, process: ProcessSample, seen: dict[int, tuple[ThreadSample, ...]]) -> ProcessSample:
        threads = process.threads
        if isinstance(threads, Absent):
            return process
        old = self._threads.get(process.pid, ())
        if len(old) == len(threads):
            threads = tuple([was if was == now else now for was, now in zip(old, threads, strict=True)])
            process = replace(process, threads=threads)
        seen[process.pid] = threads
        return process

    def _host(self, host: HostSample) -> HostSample:
        if host.topology != self._topology:
            self._topology = host.topology
            return host
        return replace(host, topology=self._topology)

    def _gpus(self, section: GpuSection) -> GpuSection:
        return replace(section, gpus=tuple(self._gpu(one) for one in section.gpus))

    def _gpu(self, gpu: GpuSample) -> GpuSample:
        old = self._facts.get(gpu.index)
        if gpu.facts != old:
            self._facts[gpu.index] = gpu.facts
            return gpu
        return replace(gpu, facts=old)
