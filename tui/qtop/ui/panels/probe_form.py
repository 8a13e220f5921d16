"""The fields of a test prompt, each with what it means; and all of them on one line."""

from __future__ import annotations

from collections.abc import Callable

from qtop.errors import QtopError
from qtop.ui.cells import fit, width_of, wrap
from qtop.ui.form import OWN, Form
from qtop.ui.look import Line, Look
from qtop.ui.panels import title
from qtop.units import number

NAME = 11
VALUE = 14


def form_lines(look: Look, form: Form, width: int, plan: str, warning: str, cursor: bool) -> list[Line]:
    """``plan`` is what Enter sends, ``warning`` why it should not or cannot; ``cursor``: it is in one of the fields."""
    lines = [title(look, "Test prompt", width, "↑↓ choose   ←→ change   digits type   Enter sends")]
    for place, name in enumerate(form.fields):
        lines.append(_field(look, form, name, place, width, cursor and place == form.at))
    told = [(f"Enter sends {plan}", "title", "screen.send")] if plan else []
    told += [(text, "warn", "") for text in wrap(warning, width - 2)[:2]] if warning else []
    return [*lines, *((look.seg("  "), look.seg(fit(text, width - 2), pen, action)) for text, pen, action in told)]


def line_of(form: Form) -> str:
    """The choices in words."""
    prompt = form.prompt if form.preset is not None else form.text_name or "own text"
    exact = "" if form.exact else "up to "
    arrival = f"{form.rate:g} requests/s" if form.open else f"{number(form.streams)} at a time"
    return f"{prompt} · {exact}{number(form.output)} tokens · {arrival} · {number(form.requests)} in all"


def folded_line(look: Look, text: str, width: int) -> Line:
    """The choices in one row."""
    hint = "↑ changes it"
    room = width - width_of(hint) - 2
    return (look.seg(fit(text, room).ljust(room)), look.seg("  "), look.seg(hint, "label", "screen.field(5)"))


def _field(look: Look, form: Form, name: str, place: int, width: int, here: bool) -> Line:
    action = f"screen.field({place})"
    value, about, pen = _value(form, name)
    if here and form.typed:
        value = f"{form.typed}▌"
    value = fit(value, VALUE - 4)
    marks = ("◂ ", " ▸") if here else ("  ", "  ")
    pad = " " * max(1, VALUE - 4 - width_of(value) + 1)
    room = width - 2 - NAME - VALUE - 1
    return (
        look.seg("▸ " if here else "  ", "accent", action),
        look.seg(name.ljust(NAME), "title" if here else "label", action),
        look.seg(marks[0], "key", "screen.step(-1)" if here else action),
        look.seg(value, "title" if here else "text", action),
        look.seg(marks[1], "key", "screen.step(1)" if here else action),
        look.seg(pad, "text", action),
        look.seg(fit(about, room), pen, action),
    )


def _value(form: Form, name: str) -> tuple[str, str, str]:
    """The value, what it means, and the pen of that."""
    return _VALUES[name](form)


def _prompt(form: Form) -> tuple[str, str, str]:
    preset = form.preset
    if preset is None:
        if not form.text:
            return OWN, "a text of your own: e types one, or @ and the path of a file", "label"
        beginning = " ".join(form.text[:200].split())
        return form.text_name or OWN, f"{number(len(form.text))} characters: {beginning}   (e: another)", "label"
    try:
        fill = form.fill
    except QtopError:
        return preset.name, preset.what, "label"
    return preset.name, f"{preset.what}: {number(fill)} tokens" if preset.fits else preset.what, "label"


def _output(form: Form) -> tuple[str, str, str]:
    return number(form.output), f"token{'' if form.output == 1 else 's'}{'' if form.exact else ' at most'}", "label"


def _arrival(form: Form) -> tuple[str, str, str]:
    if form.open:
        return "rate", "at instants fixed beforehand, whatever happens", "label"
    return "streams", "each sends its next request when one has ended", "label"


def _streams(form: Form) -> tuple[str, str, str]:
    if form.requests < form.streams:
        return number(form.streams), f"at a time, but {_only(form.requests)}", "warn"
    return number(form.streams), "at a time", "label"


def _only(requests: float) -> str:
    return "there is only 1 request" if requests == 1 else f"there are only {number(requests)} requests"


def _rate(form: Form) -> tuple[str, str, str]:
    return f"{form.rate:g}", "requests a second on the mean (Poisson)", "label"


def _requests(form: Form) -> tuple[str, str, str]:
    return number(form.requests), "in all (an interval needs 6, p90 10, p99 100)", "label"


def _exact(form: Form) -> tuple[str, str, str]:
    if form.exact:
        return "yes", "all of the output length (ignore_eos), where the server knows it", "label"
    return "no", "the model may stop before the output length", "label"


_VALUES: dict[str, Callable[[Form], tuple[str, str, str]]] = {
    "prompt": _prompt,
    "output": _output,
    "arrival": _arrival,
    "streams": _streams,
    "rate": _rate,
    "requests": _requests,
    "exact": _exact,
}
