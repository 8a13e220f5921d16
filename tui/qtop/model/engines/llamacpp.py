"""llama.cpp's server: no histograms and no KV gauge; its slots tell what its counters do not."""

from __future__ import annotations

from qtop.model.engines.scrapes import Scrapes, read
from qtop.model.engines.table import Computed, EngineTable, Level, Rate, Share, gain
from qtop.model.series import rate, ratio
from qtop.sample import NOT_YET, Absent, EngineSample, Reading, SlotSample, Why

_TOKENS = "llamacpp:tokens_predicted_total"
_CACHED = ("llamacpp:prompt_tokens_cached_total",)
_READ = ("llamacpp:prompt_tokens_total",)


def itl_ms(scrapes: Scrapes) -> Reading[float]:
    """Mean ms a token: generation seconds over generated tokens, both counted when a request ends."""
    spent = gain(scrapes.before, scrapes.now, ("llamacpp:tokens_predicted_seconds_total",))
    itl = ratio(spent, gain(scrapes.before, scrapes.now, (_TOKENS,)))
    return itl if isinstance(itl, Absent) else itl * 1000.0


def _slots_use(scrapes: Scrapes) -> Reading[float]:
    """Context in use over context there is."""
    slots = scrapes.new.slots
    if isinstance(slots, Absent):
        return slots if slots.detail else Absent(slots.why, "the recording holds no slots")
    room = sum(slot.n_ctx for slot in slots)
    used = sum(slot.prompt_tokens + slot.decoded for slot in slots if slot.busy)
    return min(1.0, used / room) if room else Absent(Why.UNSUPPORTED, "no slots")


def _capacity(scrapes: Scrapes) -> Reading[float]:
    slots = scrapes.new.slots
    if isinstance(slots, Absent):
        return slots if slots.detail else Absent(slots.why, "the recording holds no slots")
    return float(sum(slot.n_ctx for slot in slots)) or Absent(Why.UNSUPPORTED, "no slots")


def _slots_tokens(old: EngineSample, new: EngineSample) -> int | None:
    """Tokens that the slots decoded between two scrapes; None where either has none."""
    if isinstance(old.slots, Absent) or isinstance(new.slots, Absent):
        return None
    before: dict[int, SlotSample] = {slot.id: slot for slot in old.slots}
    tokens = 0
    for slot in new.slots:
        was = before.get(slot.id)
        begun = was.decoded if was is not None and was.decoded <= slot.decoded else 0
        tokens += slot.decoded - begun
    return tokens


def _generated(scrapes: Scrapes) -> Reading[float]:
    """Tokens a second from the slots: the counter moves only when a request ends."""
    tokens = _slots_tokens(scrapes.old, scrapes.new) if scrapes.old is not None and scrapes.seconds > 0 else None
    if tokens is None:
        return rate(scrapes.before.total(_TOKENS), scrapes.now.total(_TOKENS), scrapes.seconds)
    return tokens / scrapes.seconds


_STEPS = Rate(("llamacpp:n_decode_total",))


def _tokens_step(scrapes: Scrapes) -> Reading[float]:
    """Output tokens over decode calls of the tick."""
    tokens = _generated(scrapes)
    steps, _ = read(_STEPS, scrapes)
    return ratio(tokens, steps, "no step in the tick")


def _queries(scrapes: Scrapes) -> Reading[float]:
    cached = gain(scrapes.begin, scrapes.now, _CACHED)
    read = gain(scrapes.begin, scrapes.now, _READ)
    if isinstance(cached, Absent) or isinstance(read, Absent):
        return NOT_YET if scrapes.old is None else Absent(Why.UNSUPPORTED, "an older llama.cpp does not tell")
    return cached + read


TABLE = EngineTable(
    engine="llamacpp",
    title="llama.cpp",
    fields={
        "running": Level(("llamacpp:requests_processing",)),
        "waiting": Level(("llamacpp:requests_deferred",)),
        "kv_use": Computed(_slots_use, "/slots: tokens of busy slots / n_ctx"),
        "kv_capacity_tokens": Computed(_capacity, "/slots: sum of n_ctx"),
        # llama.cpp counts prompt tokens without those taken from the cache.
        "prefix_hit": Share(_CACHED, rest=_READ, absent="an older llama.cpp does not tell"),
        "prefix_queries": Computed(_queries, f"increase of {_READ[0]} + {_CACHED[0]}"),
        "gen_tok_s": Computed(_generated, "/slots: n_decoded (llamacpp:tokens_predicted_total where they are off)"),
        "prompt_tok_s": Rate(("llamacpp:prompt_tokens_total",)),
        "steps_s": _STEPS,
        "tokens_step": Computed(_tokens_step, "output tokens / llamacpp:n_decode_total"),
        "itl_ms": Computed(itl_ms, "llamacpp:tokens_predicted_seconds_total / llamacpp:tokens_predicted_total"),
        "spec_accept": Share(
            ("llamacpp:spec_decode_num_accepted_tokens_total",),
            whole=("llamacpp:spec_decode_num_draft_tokens_total",),
            absent="an older llama.cpp does not tell",
            nothing="nothing drafted in the window",
        ),
    },
    missing={"models": "llama.cpp holds one model"},
    token_counters=("llamacpp:n_decode_total", "llamacpp:prompt_tokens_total"),
)
