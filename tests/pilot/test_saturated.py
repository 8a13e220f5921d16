"""A test prompt on a server that is saturated already: the first press only warns, the second sends it."""

from __future__ import annotations

from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.helpers import lines, make_app, running, until

from qtop.collect.http import Access


class Full(Machine):
    """Every slot taken, two requests waiting."""

    def _engine(self, t: float):  # type: ignore[no-untyped-def]
        sample = super()._engine(t)
        sample.series.update({"llamacpp:requests_processing": 4.0, "llamacpp:requests_deferred": 2.0})
        return sample


async def test_a_saturated_server_is_not_asked_at_the_first_press() -> None:
    url = "http://127.0.0.1:9"
    app = make_app(StubSource(Full(url=url).samples(0, 3)), access=Access(url))
    async with running(app) as pilot:
        await pilot.press("p")
        await pilot.pause()
        assert not app.session.probing
        assert "2 requests are already waiting" in lines(app, "probe")
        assert "p again" in lines(app, "keys")
        await pilot.press("p")
        await until(pilot, lambda: "nothing listens" in lines(app, "probe") or "refused" in lines(app, "probe"), 15.0)
