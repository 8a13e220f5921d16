"""A test prompt on a server that is saturated already: the first press only warns, the second sends it."""

from __future__ import annotations

import re

from tests.fakes.sse_server import SseServer
from tests.fakes.stub_source import Machine, StubSource
from tests.pilot.helpers import make_app, row, rows, running, until

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
        await pilot.press("p", "p")
        await pilot.pause()
        assert not app.session.probing
        shown = "\n".join(rows(app))
        assert "Enter sends 1 request, up to 64 tokens" in shown
        assert "2 requests are already waiting" in shown
        assert "p again" in row(app, 40)
        await pilot.press("p")
        await until(pilot, lambda: re.search("nothing listens|refused", "\n".join(rows(app))), 15.0)


async def test_another_choice_warns_anew() -> None:
    url = "http://127.0.0.1:9"
    app = make_app(StubSource(Full(url=url).samples(0, 3)), access=Access(url))
    async with running(app) as pilot:
        await pilot.press("p", "p", "right", "p")
        await pilot.pause()
        assert not app.session.probing
        assert "p again" in row(app, 40)


async def test_what_ran_was_the_test_itself_when_it_has_just_ended() -> None:
    with SseServer() as server:
        url = server.url("ok")
        machine = Full(url=url)
        source = StubSource(machine.samples(0, 3))
        app = make_app(source, access=Access(url))
        async with running(app) as pilot:
            await pilot.press("p", "p", "p")
            await until(pilot, lambda: len(app.probing.trials) == 1, 20.0)
            await pilot.press("p")  # the latest scrape is from before the end
            await until(pilot, lambda: len(app.probing.trials) == 2, 20.0)
            for second in (3.0, 4.0):
                source.play(machine.sample(second))
            await until(pilot, lambda: "already waiting" in "\n".join(rows(app)))
            await pilot.press("p")
            await until(pilot, lambda: "p again" in row(app, 40))
            assert len(app.probing.trials) == 2
