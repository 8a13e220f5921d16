"""The Prometheus text format, read fast: a scrape of 60 KB every second must cost next to nothing.

Format: prometheus.io/docs/instrumenting/exposition_formats (text version 0.0.4); OpenMetrics' exemplars and EOF marker
are passed over. Histogram buckets are series like all others.
"""

from __future__ import annotations

import re

MOST = 1e30
"""No figure of a server comes near it, and sums and products of what is below stay finite. NaN is not below it."""
CACHE_LIMIT = 20_000
"""Series heads remembered between scrapes; a vLLM has 400. Beyond it the cache starts anew."""

_LABELS = r'\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\}'
_SAMPLE = re.compile(
    rf"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?P<labels>{_LABELS})?[ \t]+(?P<value>[^\s_]+)"
    r"(?:[ \t]+-?[0-9.]+)?[ \t]*(?:#.*)?\r?"  # a timestamp, an exemplar
)
_KEY = re.compile(rf"[a-zA-Z_:][a-zA-Z0-9_:]*(?:{_LABELS})?")

_DROPPED = ""
_interned: dict[str, str] = {}


class _Scrape:
    """A text as it was read: its lines, for each what it says (head and key of a series; None: of no interest), and the
    series."""

    __slots__ = ("known", "lines", "prefixes", "series")

    def __init__(
        self,
        prefixes: tuple[str, ...],
        lines: list[str],
        known: list[tuple[str, str] | None],
        series: dict[str, float],
    ) -> None:
        self.prefixes, self.lines, self.known, self.series = prefixes, lines, known, series


_last: _Scrape | None = None
"""The latest text. A server writes the same series in the same order each time, most of them unchanged, so only the
lines that differ from the last text's are read."""


def parse(text: str, prefixes: tuple[str, ...], *, cut: bool = False) -> dict[str, float]:
    """The series whose name begins with one of ``prefixes``: "name{labels}" exactly as written, to value.

    Left out: comments, ``_created`` series (they hold no measurement), values that are not finite, lines that are not
    samples; of a ``cut`` text the last, unfinished line. Keys are the same objects from one scrape to the next.
    ValueError when the text is no exposition at all (a web page, JSON).
    """
    global _last
    if cut:
        text = text[: text.rfind("\n") + 1]
    _refuse_foreign(text)
    lines = text.split("\n")
    scrape = _changed(_last, lines, prefixes) or _whole(lines, prefixes)
    if not scrape.series:
        _refuse_prose(text)
    if len(lines) <= CACHE_LIMIT:
        _last = scrape  # one assignment: another thread sees the old one or the new one
    return scrape.series.copy()


def _whole(lines: list[str], prefixes: tuple[str, ...]) -> _Scrape:
    interned = _interned
    series: dict[str, float] = {}
    known: list[tuple[str, str] | None] = [None] * len(lines)
    keys: list[str] = []
    for at, line in enumerate(lines):
        if not line.startswith(prefixes):
            continue
        head, _, value = line.rpartition(" ")
        key = interned.get(head)
        if key is None:
            key, value = _first_seen(line, head, value)
        known[at] = head, key
        if not key:
            continue
        keys.append(key)
        try:
            number = float(value)
        except ValueError:
            continue
        if -MOST < number < MOST:
            series[key] = number
    # Of a series written twice, which no server should do, the later line counts: such a text is read whole each time.
    once = len(set(keys)) == len(keys)
    return _Scrape(prefixes, lines if once else [], known, series)


def _changed(old: _Scrape | None, lines: list[str], prefixes: tuple[str, ...]) -> _Scrape | None:
    """The scrape by its differences from the last one; None where it holds other series than that, or lines that are
    more than a series and its value."""
    if old is None or old.prefixes != prefixes or len(old.lines) != len(lines):
        return None
    series = old.series.copy()
    for line, was, known in zip(lines, old.lines, old.known, strict=True):
        if line == was:
            continue
        if known is None:
            if line.startswith(prefixes):
                return None
            continue  # a comment, another program's series
        head, key = known
        value = line[len(head) :]
        if not line.startswith(head) or value[:1] != " ":
            return None
        if not key:
            continue
        try:
            number = float(value)
        except ValueError:
            return None
        if -MOST < number < MOST:
            series[key] = number
        else:
            series.pop(key, None)
    return _Scrape(prefixes, lines, old.known, series)


def _first_seen(line: str, head: str, value: str) -> tuple[str, str]:
    """The key and value of a line whose head is not in the cache; remembers the head if it is nothing but a key."""
    sample = _SAMPLE.fullmatch(line)
    if sample is None:
        return _DROPPED, ""
    name = sample["name"]
    key = _DROPPED if name.endswith("_created") else name + (sample["labels"] or "")
    value = sample["value"]
    if _KEY.fullmatch(head):  # not so with a timestamp or an exemplar: such a line is matched each time
        if len(_interned) >= CACHE_LIMIT:
            _interned.clear()
        _interned[head] = key
        key = _interned[head]
    return key, value


def _start(text: str) -> str:
    return text[:512].lstrip("\ufeff \t\r\n")[:1]


def _refuse_foreign(text: str) -> None:
    start = _start(text)
    if start == "<":
        raise ValueError("not metrics: looks like HTML")
    if start in ("{", "["):
        raise ValueError("not metrics: looks like JSON")


def _refuse_prose(text: str) -> None:
    """Nothing was kept: right for an exposition of other series and for an empty one, wrong for any other text."""
    lines = [x for x in text[:65_536].split("\n") if x.strip()]
    if lines and not any(x.startswith("#") or _SAMPLE.fullmatch(x) for x in lines):
        raise ValueError("not metrics: no line of it is a sample")


def first_prefix(text: str, prefixes: tuple[str, ...]) -> str | None:
    """The first of ``prefixes`` that begins a sample or a TYPE line; None without one, or for a web page."""
    if _start(text) == "<":
        return None
    for line in text.split("\n"):
        name = line.removeprefix("# TYPE ").removeprefix("# HELP ")
        for prefix in prefixes:
            if name.startswith(prefix):
                return prefix
    return None
