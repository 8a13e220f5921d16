"""Reading the metrics of the server in hand, on one thread, with one kept connection."""

from __future__ import annotations

import httpx

from qtop.collect.engine.base import EngineAdapter
from qtop.collect.engine.identify import identify
from qtop.collect.http import open_client
from qtop.errors import QtopError
from qtop.sample import NOT_YET, Absent, EngineSample, Why
from qtop.source.attach import Attachment


class Scraper:
    """Reads the attached server's metrics; tells the attachment when the answers no longer look like that server's."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._generation = 0
        self._client: httpx.Client | None = None
        self._adapter: EngineAdapter | None = None
        self._had_metrics = False

    def read(self) -> EngineSample | Absent:
        """One scrape, or why there is none."""
        attached = self._attachment.attached
        if attached is None:
            self._drop()
            current = self._attachment.current()
            return current if isinstance(current, Absent) else NOT_YET
        if attached.generation != self._generation or self._client is None or self._adapter is None:
            self._drop()
            try:
                self._client = open_client(attached.access)
            except QtopError as error:
                return Absent(Why.FAILED, str(error))
            found = identify(self._client)
            if isinstance(found, Absent):
                self._drop()
                self._attachment.scraped(False)
                return found
            if found.name != attached.engine:
                self._drop()
                self._attachment.suspect()
                return Absent(Why.NOT_YET, "another server answers there now")
            if not isinstance(attached.info.argv, Absent):
                found.told(attached.info.argv)
            self._adapter, self._generation = found, attached.generation
        sample = self._adapter.scrape(self._client)
        self._attachment.scraped(self._is_theirs(sample))
        return sample

    def _is_theirs(self, sample: EngineSample | Absent) -> bool:
        """Whether this answer fits the server: one that had metrics and has none any more may be another."""
        if isinstance(sample, Absent):
            return sample.why in (Why.UNSUPPORTED, Why.DENIED) and not self._had_metrics
        if sample.series:
            self._had_metrics = True
            return True
        return not (isinstance(sample.slots, Absent) and isinstance(sample.models, Absent))

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._adapter = None
        self._had_metrics = False
