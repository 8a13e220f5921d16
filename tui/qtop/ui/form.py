"""What a person chooses for a test prompt: fields, their steps, what is typed into them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from qtop.errors import QtopError
from qtop.probe.choice import chosen
from qtop.probe.messages import MOST_AT_ONCE
from qtop.probe.prompts import BY_NAME, PRESETS, Preset

OWN: Final = "own"
"""The choice of a text of the user's."""


@dataclass(frozen=True)
class Range:
    """A number's bounds, and the values that the arrow keys go through; what is typed may lie between them."""

    least: float
    most: float
    steps: tuple[float, ...]
    whole: bool = True

    def after(self, value: float, by: int) -> float:
        """The next step up or down."""
        if by > 0:
            return next((step for step in self.steps if step > value), max(value, self.steps[-1]))
        return next((step for step in reversed(self.steps) if step < value), min(value, self.steps[0]))

    def read(self, text: str) -> float | None:
        """What was typed, brought between the bounds; None where it is no number."""
        try:
            value = float(text)
        except ValueError:
            return None
        value = min(self.most, max(self.least, value))
        return float(int(value)) if self.whole else value


_DOUBLING = tuple(float(1 << power) for power in range(11))
RANGES = {
    "output": Range(1, 1_000_000, tuple(float(1 << power) for power in range(3, 16))),
    "streams": Range(1, MOST_AT_ONCE, _DOUBLING),
    "rate": Range(
        0.01,
        10_000,
        (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
        whole=False,
    ),
    "requests": Range(
        1, 10_000, (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0)
    ),
}


@dataclass
class Form:
    """The choices. ``at`` is the field under the cursor."""

    prompt: str = "en"
    """A preset's name, or ``OWN``."""
    text: str = ""
    """The user's own."""
    text_name: str = ""
    """Where it comes from: "@PATH", or "" for one that was typed."""
    output: float = 64
    open: bool = False
    """Requests come at a rate, not one after the other."""
    streams: float = 1
    rate: float = 1
    requests: float = 1
    exact: bool = False
    at: int = 0
    typed: str = ""
    """Digits of a number that is being typed."""
    context: int | None = None
    """Tokens that a request may have on this server, prompt and output together; None where it does not tell."""

    @classmethod
    def of(cls, prompt: str, max_tokens: int) -> Form:
        """The settings' prompt (a preset's name or text, or a text of one's own) and output length."""
        for preset in PRESETS:
            if prompt in ("", preset.name) or (prompt == preset.text and not preset.fill and not preset.fits):
                return cls(prompt=preset.name, output=max_tokens)
        return cls(prompt=OWN, text=prompt, output=max_tokens)

    @property
    def fields(self) -> tuple[str, ...]:
        """Their names, in their order on the screen."""
        return ("prompt", "output", "arrival", "rate" if self.open else "streams", "requests", "exact")

    @property
    def name(self) -> str:
        """The one under the cursor."""
        return self.fields[self.at]

    @property
    def preset(self) -> Preset | None:
        """The built-in prompt chosen; None for the user's own."""
        return BY_NAME.get(self.prompt)

    def move(self, by: int) -> None:
        """Another field; what was typed is taken."""
        self.commit()
        self.at = max(0, min(len(self.fields) - 1, self.at + by))

    def step(self, by: int) -> None:
        """The next or the previous value of this field."""
        self.commit()
        name = self.name
        if name == "prompt":
            names = [preset.name for preset in PRESETS] + [OWN]
            self.prompt = names[(names.index(self.prompt) + by) % len(names)]
        elif name == "arrival":
            self.open = not self.open
        elif name == "exact":
            self.exact = not self.exact
        else:
            setattr(self, name, RANGES[name].after(getattr(self, name), by))

    def digit(self, char: str) -> bool:
        """A digit (or the point of a rate) of a number; False where this field takes none."""
        if self.name not in RANGES or (char == "." and (RANGES[self.name].whole or "." in self.typed)):
            return False
        if len(self.typed) < 8:
            self._type(self.typed + char)
        return True

    def erase(self) -> None:
        """Take the last digit typed away; a value that was not typed is begun anew without its last."""
        if self.name in RANGES:
            shown = self.typed or f"{getattr(self, self.name):.10g}"
            self._type(shown[:-1])

    def _type(self, text: str) -> None:
        self.typed = text
        if (value := RANGES[self.name].read(text)) is not None:
            setattr(self, self.name, value)

    def commit(self) -> None:
        """The number that was typed is the one that counts, within its bounds."""
        self.typed = ""

    def own(self, text: str, name: str) -> None:
        """A text of the user's, typed or from a file."""
        self.prompt, self.text, self.text_name = OWN, text, name

    @property
    def fill(self) -> int:
        """Tokens that the prompt is lengthened to; 0: as it is. QtopError where they do not fit or nobody knows."""
        return chosen(self.prompt, int(self.output), self.context).fill if self.preset is not None else 0

    def asks(self) -> dict[str, Any]:
        """Arguments of Session.probe_request; QtopError with one line where these choices cannot be sent."""
        preset = self.preset
        if preset is None and not self.text.strip():
            raise QtopError("there is no text yet: e types one")
        text, name = (self.text, self.text_name) if preset is None else (preset.text, preset.name)
        return {
            "prompt": text,
            "max_tokens": int(self.output),
            "requests": int(self.requests),
            "concurrency": 0 if self.open else int(self.streams),
            "rate": float(self.rate) if self.open else 0.0,
            "fill": self.fill,
            "ignore_eos": self.exact,
            "prompt_name": name,
        }
