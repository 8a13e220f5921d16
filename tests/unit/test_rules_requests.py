"""QT501 to QT505: thresholds, what they cannot tell, windows; and the counters behind them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.fakes.stub_source import Machine

from qtop.diagnose.engine import Tracker
from qtop.diagnose.registry import BY_ID
from qtop.diagnose.rule import Answer, CannotTell, NotApplicable, Observed, State
from qtop.diagnose.whole import diagnose_all
from qtop.model.derive import Deriver
from qtop.model.frame import Frame
from qtop.model.requests import WINDOW_S, RequestsView, ServedView
from qtop.record.reader import Recording
from qtop.sample import (
    NOT_RECORDED,
    NOT_YET,
    Absent,
    ClientSample,
    EngineSample,
    PromptEnds,
    Sample,
    ServerInfo,
    Why,
)

ROOT = Path(__file__).parents[1]
UNTOLD = Absent(Why.UNSUPPORTED, "not told")
NOTHING = ServedView(UNTOLD, UNTOLD, UNTOLD, UNTOLD, UNTOLD)
RULES = ("QT501", "QT502", "QT503", "QT504", "QT505")


def served(
    finished: float = 10, cut: float = 0, answered: float | None = None, refused: float = 0, given_up: float = 0
) -> ServedView:
    return ServedView(finished, cut, finished if answered is None else answered, refused, given_up)


def frame(
    own: PromptEnds | Absent = NOT_RECORDED, of_all: ServedView = NOTHING, engine: str = "vllm", ever: bool = True
) -> Frame:
    info = ServerInfo(engine=engine, max_model_len=2048)
    return Frame(1.0, 1.0, server=info, requests=RequestsView(60.0, own, ever, of_all))


def look(rule: str, seen: Frame) -> Answer:
    return BY_ID[rule].look(seen)


def value(rule: str, seen: Frame) -> float:
    answer = look(rule, seen)
    assert isinstance(answer, Observed), answer
    return answer.value


def fires(rule: str, seen: Frame, seconds: int = 20) -> bool:
    tracker = Tracker(BY_ID[rule])
    found = [tracker.push(replace(seen, t=1000.0 + second)) for second in range(seconds)]
    return found[-1].state is State.FIRING


# ---- thresholds


@pytest.mark.parametrize(
    ("rule", "ends"),
    [
        ("QT501", PromptEnds(ended=10, unstreamed=1)),
        ("QT501", PromptEnds(ended=10, sent_unstreamed=1)),
        ("QT502", PromptEnds(ended=10, limit_ignored=1)),
        ("QT502", PromptEnds(ended=10, sent_unknown_limit=1)),
        ("QT504", PromptEnds(ended=10, failed=1, too_long=1)),
        ("QT503", PromptEnds(ended=2, cut_at_16=1)),
        ("QT505", PromptEnds(ended=10, failed=1, timed_out=1)),
    ],
)
def test_one_is_enough_and_none_is_not(rule: str, ends: PromptEnds) -> None:
    assert fires(rule, frame(ends))
    assert value(rule, frame(PromptEnds(ended=10))) == 0
    assert not fires(rule, frame(PromptEnds(ended=10)))


@pytest.mark.parametrize(("rule", "name"), [("QT501", "unstreamed"), ("QT502", "limit_ignored"), ("QT504", "too_long")])
def test_a_stray_one_of_many_is_no_finding(rule: str, name: str) -> None:
    assert fires(rule, frame(PromptEnds(ended=100, **{name: 1})))
    assert not fires(rule, frame(PromptEnds(ended=101, **{name: 1})))


def test_a_failure_of_another_kind_is_none_of_theirs() -> None:
    other = frame(PromptEnds(ended=4, failed=4))
    assert [value(rule, other) for rule in RULES] == [0.0] * 5


@pytest.mark.parametrize(("finished", "cut", "there"), [(5, 3, True), (4, 4, False), (10, 5, True), (100, 49, False)])
def test_most_of_at_least_five_requests_cut_at_16(finished: float, cut: float, there: bool) -> None:
    assert fires("QT503", frame(PromptEnds(), served(finished, cut), ever=False)) is there


@pytest.mark.parametrize(
    ("answered", "given_up", "there"), [(20, 2, True), (21, 2, False), (1, 1, False), (0, 2, True), (100, 9, False)]
)
def test_one_in_ten_given_up(answered: float, given_up: float, there: bool) -> None:
    assert fires("QT505", frame(PromptEnds(), served(20, 0, answered, 0, given_up), ever=False)) is there


def test_those_given_up_give_way_to_what_made_them_wait() -> None:
    answer = look("QT505", frame(PromptEnds(ended=4, failed=2, timed_out=2)))
    assert isinstance(answer, Observed)
    assert answer.impact == pytest.approx(0.05)
    assert "50 %" in answer.told.headline and "test prompts" in answer.told.headline


@pytest.mark.parametrize("rule", ["QT501", "QT502", "QT503", "QT504"])
def test_wrong_answers_lead_over_what_slows_nothing_and_under_what_slows(rule: str) -> None:
    ends = PromptEnds(ended=1, unstreamed=1, limit_ignored=1, too_long=1, cut_at_16=1)
    answer = look(rule, frame(ends))
    assert isinstance(answer, Observed)
    assert answer.impact == pytest.approx(0.1)
    clear = look(rule, frame(PromptEnds(ended=1)))
    assert isinstance(clear, Observed)
    assert clear.impact == 0


@pytest.mark.parametrize("rule", RULES)
def test_headlines_are_short_and_begin_in_capitals(rule: str) -> None:
    for ends in (
        PromptEnds(ended=99, unstreamed=99, limit_ignored=99, too_long=99, cut_at_16=99, timed_out=99),
        PromptEnds(ended=3, sent_unstreamed=1, sent_unknown_limit=1, too_long=1, cut_at_16=1, timed_out=1),
    ):
        answer = look(rule, frame(ends, served(99, 99, 99, 99, 99)))
        assert isinstance(answer, Observed)
        told = answer.told
        assert len(told.headline) <= 118, told.headline
        assert told.headline.split()[0].isupper() and told.headline.split()[1].isupper()
        assert all(one.value is not None for one in told.evidence)


# ---- what cannot be told


@pytest.mark.parametrize("rule", RULES)
def test_no_prompt_yet_is_no_clear(rule: str) -> None:
    answer = look(rule, frame(PromptEnds(), ever=False))
    assert isinstance(answer, CannotTell)
    assert "--body" in answer.reason


@pytest.mark.parametrize("rule", RULES)
def test_a_recording_without_them_is_no_clear(rule: str) -> None:
    assert isinstance(look(rule, frame(NOT_RECORDED)), CannotTell)
    assert isinstance(look(rule, Frame(1.0, 1.0, server=ServerInfo(engine="vllm"))), CannotTell)
    gone = Frame(1.0, 1.0, server=Absent(Why.LOST, "No server found"))
    assert look(rule, gone) == CannotTell("No server found")


@pytest.mark.parametrize("rule", ["QT503", "QT504", "QT505"])
def test_the_servers_counters_alone_can_clear(rule: str) -> None:
    assert value(rule, frame(NOT_RECORDED, served(10))) == 0
    assert value(rule, frame(PromptEnds(), served(0, answered=0), ever=False)) == 0


@pytest.mark.parametrize("rule", ["QT501", "QT502"])
def test_no_metric_tells_of_streams_or_unknown_fields(rule: str) -> None:
    assert isinstance(look(rule, frame(PromptEnds(), served(10), ever=False)), CannotTell)


def test_refusals_of_other_clients_are_not_taken_for_length() -> None:
    answer = look("QT504", frame(PromptEnds(), served(10, refused=3), ever=False))
    assert isinstance(answer, CannotTell)
    assert "4xx" in answer.reason
    # qtop's own refusals are among them: what they were for is known.
    assert value("QT504", frame(PromptEnds(ended=4, failed=3), served(10, refused=3))) == 0
    assert isinstance(look("QT504", frame(PromptEnds(ended=4), served(10, refused=3))), CannotTell)
    assert value("QT504", frame(PromptEnds(ended=4, failed=1, too_long=1), served(10, refused=3))) == 0.25


@pytest.mark.parametrize("engine", ["llamacpp", "tgi", "ollama", "triton"])
def test_only_servers_with_that_default_cut_at_16(engine: str) -> None:
    assert isinstance(look("QT503", frame(PromptEnds(ended=9, cut_at_16=9), engine=engine)), NotApplicable)


# ---- the counters of a server


def scrape(t: float, **counters: float) -> Sample:
    """A vLLM whose counters stand so: length, stop, abort, asked, made (sums), n (their count), ok, bad, chat."""
    one = {
        "length": 0.0,
        "stop": 0.0,
        "abort": 0.0,
        "asked": 0.0,
        "made": 0.0,
        "n": 0.0,
        "ok": 0.0,
        "bad": 0.0,
    } | counters
    labels = 'engine="0",model_name="m"'
    series = {
        f'vllm:request_success_total{{{labels},finished_reason="{reason}"}}': one[reason]
        for reason in ("length", "stop", "abort")
    }
    series |= {
        f"vllm:request_params_max_tokens_sum{{{labels}}}": one["asked"],
        f"vllm:request_params_max_tokens_count{{{labels}}}": one["n"],
        f"vllm:request_generation_tokens_sum{{{labels}}}": one["made"],
        'http_requests_total{handler="/v1/models",method="GET",status="2xx"}': 7.0 + t,
        'http_requests_total{handler="none",method="POST",status="4xx"}': t,
        'http_requests_total{handler="/v1/completions",method="POST",status="2xx"}': one["ok"],
        'http_requests_total{handler="/v1/chat/completions",method="POST",status="4xx"}': one["bad"],
    }
    return Sample(
        t=1_790_000_000.0 + t,
        server=ServerInfo(engine="vllm", url="http://x", pid=1, started=5.0),
        engine=EngineSample(at=t, scrape_ms=1.0, series=series),
        client=ClientSample(t, 0, 0.0, 0.0, PromptEnds()),
    )


def derived(*samples: Sample) -> RequestsView:
    deriver = Deriver()
    view = [deriver.push(sample) for sample in samples][-1].requests
    assert isinstance(view, RequestsView)
    return view


def test_ticks_in_which_all_were_cut_at_16_count() -> None:
    view = derived(
        scrape(0, length=5, asked=900, made=900, n=5, ok=5),
        scrape(1, length=7, asked=932, made=932, n=7, ok=7),
        scrape(2, length=7, stop=1, asked=948, made=940, n=8, ok=8),  # asked for 16 and ended before
        scrape(3, length=9, stop=1, asked=1064, made=1056, n=10, ok=10),  # one of 16, one of 100
        scrape(4, length=10, stop=1, asked=1080, made=1072, n=11, ok=11),
    )
    assert (view.served.finished, view.served.cut) == (6, 3)


def test_a_client_that_hangs_up_is_answered_and_never_finished() -> None:
    view = derived(scrape(0, length=5, ok=5), scrape(1, length=6, ok=8), scrape(2, length=6, abort=1, ok=9))
    assert (view.served.answered, view.served.given_up) == (4, 3)
    # A batch finishes several times for one answer: that is nobody hanging up.
    assert derived(scrape(0), scrape(1, length=4, ok=1)).served.given_up == 0


def test_refusals_are_those_of_the_routes_that_complete_prompts() -> None:
    assert derived(scrape(0), scrape(9, bad=2)).served.refused == 2


def test_what_came_before_qtop_is_nobodys() -> None:
    view = derived(scrape(0, length=500, asked=8000, made=8000, n=500, ok=900, bad=9))
    assert (view.served.finished, view.served.cut, view.served.given_up, view.served.refused) == (0, 0, 0, 0)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    samples = [scrape(0), scrape(1, ok=4), *(scrape(2.0 + t, ok=4) for t in range(int(WINDOW_S) + 1))]
    assert derived(*samples[:100]).served.given_up == 4
    assert derived(*samples).served.given_up == 0


def test_a_server_started_anew_begins_anew() -> None:
    view = derived(scrape(0, length=50, ok=90), scrape(1, length=50, ok=95), scrape(2, ok=1), scrape(3, length=1, ok=2))
    assert view.served.answered == 1
    assert view.served.given_up == 0


def test_a_gap_in_the_metrics_is_absent_and_forgets_nothing() -> None:
    lost = Absent(Why.LOST, "away")
    gap = Sample(t=1_790_000_002.0, server=scrape(2).server, engine=lost, client=NOT_RECORDED)
    view = derived(scrape(0), scrape(1, ok=3), gap)
    assert view.served.given_up is lost
    assert view.own is NOT_RECORDED
    assert derived(scrape(0), scrape(1, ok=3), gap, scrape(3, ok=3)).served.given_up == 3


def test_several_api_servers_have_no_count_of_answers() -> None:
    def bare(sample: Sample) -> Sample:
        engine = sample.engine
        assert isinstance(engine, EngineSample)
        kept = {key: one for key, one in engine.series.items() if not key.startswith("http")}
        return Sample(sample.t, sample.server, EngineSample(engine.at, 1.0, kept), client=sample.client)

    view = derived(bare(scrape(0)), bare(scrape(1, length=6, asked=96, made=96, n=6)))
    assert isinstance(view.served.given_up, Absent) and isinstance(view.served.refused, Absent)
    assert view.served.cut == 6


def test_a_server_without_such_counters_says_so() -> None:
    deriver = Deriver()
    view = [deriver.push(sample) for sample in Machine().samples(0, 3)][-1].requests
    assert isinstance(view, RequestsView)
    assert all(isinstance(one, Absent) for one in (view.served.finished, view.served.cut, view.served.given_up))


def ended(t: float, ends: PromptEnds | Absent) -> Sample:
    return Sample(t=1_790_000_000.0 + t, server=scrape(0).server, client=ClientSample(t, 0, 0.0, 0.0, ends))


def test_own_prompts_count_while_they_are_in_the_window() -> None:
    before, after = PromptEnds(ended=3, unstreamed=2), PromptEnds(ended=4, unstreamed=3)
    assert derived(ended(0, before)).own == PromptEnds()
    assert derived(ended(0, before), ended(1, after)).own == PromptEnds(ended=1, unstreamed=1)
    late = derived(ended(0, before), ended(1, after), ended(2, after), ended(2 + WINDOW_S, after))
    assert late.own == PromptEnds()
    assert late.ever  # it has been looked at, and it is better now: clear, not unknown


def test_a_replay_that_goes_back_begins_anew() -> None:
    view = derived(
        ended(5, PromptEnds(ended=9, too_long=9)), ended(1, PromptEnds(ended=1)), ended(2, PromptEnds(ended=2))
    )
    assert view.own == PromptEnds(ended=1)


def test_an_old_recording_holds_no_ends() -> None:
    old = Sample(t=1_790_000_000.0, server=scrape(0).server, client=ClientSample(0.0, 3, 1.0, 1.0))
    view = derived(old)
    assert view.own is NOT_RECORDED
    assert not view.ever
    assert Frame(0.0, 0.0).requests is NOT_YET


# ---- recordings


def test_hang_ups_on_a_real_vllm_are_seen_in_its_counters_alone() -> None:
    result = diagnose_all(Recording(ROOT / "rules/QT505/fires_clients.qtop").samples())
    assert result is not None
    found = next(one for one in result.findings if one.rule == "QT505")
    assert found.state is State.FIRING
    assert "CLIENTS HANG UP" in found.headline
    assert isinstance(result.frame.requests, RequestsView)
    assert not result.frame.requests.ever


def test_test_prompts_that_time_out_on_a_real_llamacpp() -> None:
    result = diagnose_all(Recording(ROOT / "rules/QT505/fires.qtop").samples())
    assert result is not None
    assert result.verdict.rule == "QT505"
    assert "test prompts" in result.verdict.headline


def test_a_limit_that_is_ignored_leads_over_the_16_tokens_that_come_of_it() -> None:
    result = diagnose_all(Recording(ROOT / "rules/QT502/fires.qtop").samples())
    assert result is not None
    states = {one.rule: one.state for one in result.findings}
    assert states["QT503"] is State.FIRING
    assert result.verdict.rule == "QT502"
