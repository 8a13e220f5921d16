"""Settings in a recording: written once a member, filled in again on reading.

They are the same for hours and 1.5 kB a sample after compression (the metrics between two of them are longer than the
compressor's window). A sample whose server has none has those of the sample before; each member begins with them, so
that a reader may begin there.
"""

from __future__ import annotations

import msgspec

from qtop.sample import NOT_RECORDED, Absent, Sample, ServerInfo


class Thinner:
    """Leaves out what the sample before had too."""

    def __init__(self) -> None:
        self._last: ServerInfo | None = None
        self._thin: ServerInfo | None = None

    def thin(self, sample: Sample, begins_member: bool) -> Sample:
        """The sample as it is to be written."""
        server = sample.server
        if isinstance(server, Absent) or server.settings == NOT_RECORDED:
            return sample
        if begins_member or self._last is None or (server is not self._last and not _same(self._last, server)):
            self._last, self._thin = server, None
            return sample
        if self._thin is None or server is not self._last:
            self._last = server
            self._thin = msgspec.structs.replace(server, settings=NOT_RECORDED, settings_missing={})
        return msgspec.structs.replace(sample, server=self._thin)


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


def _same(one: ServerInfo, other: ServerInfo) -> bool:
    return (
        one.settings == other.settings
        and one.settings_missing == other.settings_missing
        and _identity(one) == _identity(other)
    )


def _identity(server: ServerInfo) -> tuple[object, ...]:
    return server.url, server.engine, server.pid, server.started
