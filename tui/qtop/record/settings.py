"""Settings in recordings as they were before blocks: written once a member, filled in again on reading.

They are the same for hours and were 1.5 kB a sample after compression. A sample whose server has none has those of the
sample before; each member begins with them, so that a reader may begin there. Blocks keep each sample as it is.
"""

from __future__ import annotations

import msgspec

from qtop.sample import NOT_RECORDED, Absent, Sample, ServerInfo


class Filler:
    """Puts back what was left out."""

    def __init__(self) -> None:
        self._last: ServerInfo | None = None

    def fill(self, sample: Sample) -> Sample:
        """The sample as it was observed."""
        server = sample.server
        if isinstance(server, Absent):
            return sample
        if server.settings != NOT_RECORDED:
            self._last = server
            return sample
        last = self._last
        if last is None or _identity(last) != _identity(server):
            return sample
        whole = msgspec.structs.replace(server, settings=last.settings, settings_missing=last.settings_missing)
        return msgspec.structs.replace(sample, server=whole)


def _identity(server: ServerInfo) -> tuple[object, ...]:
    return server.url, server.engine, server.pid, server.started
