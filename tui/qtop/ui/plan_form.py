"""What a person chooses for a plan: fields, their steps, what is typed into them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from qtop.plan.goals import GOALS
from qtop.plan.making import MOST_GPUS, Plan, Wish, tokens_text
from qtop.plan.serving import KV_BYTES, WEIGHTS, Card, Model
from qtop.ui.form import Range
from qtop.units import number

FIELDS = ("model", "gpu", "gpus", "context", "seqs", "weights", "kv", "utilization", "goal", "eager")
NAMES = {
    "model": "model", "gpu": "GPU", "gpus": "GPUs", "context": "context", "seqs": "requests", "weights": "weights",
    "kv": "KV cache", "utilization": "memory", "goal": "goal", "eager": "eager",
}  # fmt: skip
CHOICES = ("model", "gpu", "weights", "kv", "goal", "eager")
"""The others are numbers."""
_DOUBLING = tuple(float(1 << power) for power in range(21))
RANGES = {
    "gpus": Range(1, MOST_GPUS, _DOUBLING[:5]),
    "context": Range(1, 1 << 20, _DOUBLING[8:]),
    "seqs": Range(1, 1 << 14, _DOUBLING[:12]),
    "utilization": Range(0.05, 1.0, tuple(step / 20 for step in range(1, 21)), whole=False),
}
FINE = {"gpus": 1.0, "context": 1024.0, "seqs": 1.0, "utilization": 0.01}
"""Of a step with shift."""
KV = tuple(name for name in KV_BYTES if "_" not in name)
"""The two other names of fp8 are its formats; on this screen fp8 is one choice."""
_TYPED = re.compile(r"(\d{0,7}(\.\d{0,4})?)(k?)")


@dataclass
class PlanForm:
    """The choices. ``at`` is the field under the cursor; ``made`` the plan that they give, by which steps are made."""

    wish: Wish
    models: tuple[str, ...]
    """Names to choose from; one that is no preset is what was asked for or runs here."""
    gpus: tuple[str, ...]
    at: int = FIELDS.index("context")
    typed: str = ""
    typing: bool = False
    before: dict[str, Any] = field(default_factory=dict)
    """What the field was when typing began."""

    @property
    def name(self) -> str:
        """The one under the cursor."""
        return FIELDS[self.at]

    def move(self, by: int) -> None:
        """Another field; what was typed is taken."""
        self.commit()
        self.at = (self.at + by) % len(FIELDS)

    def go(self, place: int) -> None:
        """To this field."""
        if place != self.at:
            self.commit()
        self.at = place

    def set(self, **what: Any) -> None:
        """Other fields of the wish. Memory that was given in bytes counts no more once a share is chosen."""
        if "utilization" in what and not self.wish.gpu.is_cpu:
            what["pool_bytes"] = None
        self.wish = msgspec.structs.replace(self.wish, **what)

    def step(self, by: int, made: Plan | None, fine: bool = False) -> None:
        """The next or the previous value of a number, or of a choice that is not looked up elsewhere."""
        self.commit()
        name = self.name
        if name in RANGES:
            value = self.value(name, made)
            bounds = RANGES[name]
            stepped = value + by * FINE[name] if fine else bounds.after(value, by)
            if name == "context":  # a step of 1024 ends on one, and none goes past what the model was made for
                stepped = stepped // 1024 * 1024 if fine and stepped >= 1024 else stepped
                stepped = min(stepped, max(float(self.wish.model.shape.positions), value if by < 0 else 1.0))
            self._put(name, min(bounds.most, max(bounds.least, stepped)))
        elif name == "eager":
            self.set(eager=not self.wish.eager)
        elif name in ("weights", "kv", "goal"):
            options = {"weights": WEIGHTS, "kv": KV, "goal": ("", *GOALS)}[name]
            now = getattr(self.wish, name)
            self.set(**{name: options[(options.index(now) + by) % len(options) if now in options else 0]})

    def other(self, by: int) -> str:
        """The name of the next or the previous model or GPU: who asks looks it up."""
        names = self.models if self.name == "model" else self.gpus
        now = self.shown_name(self.name)
        return names[(names.index(now) + by) % len(names)] if now in names else names[0]

    def shown_name(self, name: str) -> str:
        """The model or GPU that is chosen, as the list calls it."""
        return self.wish.model.name if name == "model" else self.wish.gpu.name

    def take(self, one: Model | Card) -> None:
        """Another model or card. A context beyond what the model was made for becomes that."""
        if isinstance(one, Card):
            self.set(gpu=one, pool_bytes=None if not one.is_cpu else self.wish.pool_bytes)
        else:
            context = self.wish.context
            self.set(model=one, context=min(context, one.shape.positions) if context else context)

    def value(self, name: str, made: Plan | None) -> float:
        """A number as it is now: what was given, else what the plan makes of it."""
        given = getattr(self.wish, name)
        if given:
            return float(given)
        if made is None:
            return RANGES[name].least
        return float({"gpus": 1, "context": made.serving.context, "seqs": made.serving.seqs,
                      "utilization": made.serving.utilization}[name])  # fmt: skip

    def begin(self) -> None:
        """Type an exact value: Enter takes it, Escape leaves the old one."""
        if self.name in RANGES:
            self.typing, self.typed = True, ""
            self.before = {self.name: getattr(self.wish, self.name), "pool_bytes": self.wish.pool_bytes}

    def type(self, char: str) -> bool:
        """One more character of a number ("32k" and "0.9" are some); False where this field takes none."""
        if self.name not in RANGES:
            return False
        if not self.typing:
            if char == "k":
                return False
            self.begin()
        text = self.typed + char
        whole = RANGES[self.name].whole
        if _TYPED.fullmatch(text) and not (whole and "." in text) and not (char == "k" and self.name != "context"):
            self._type(text)
        return True

    def erase(self) -> None:
        """Take the last character away; with none, the value is vLLM's or the goal's own again."""
        if self.typing:
            self._type(self.typed[:-1])
        elif self.name in RANGES:
            self.set(**{self.name: 1 if self.name == "gpus" else None})
        elif self.name in ("weights", "kv", "goal", "eager"):
            self.set(**{self.name: {"weights": "auto", "kv": "auto", "goal": "", "eager": False}[self.name]})

    def commit(self) -> None:
        """What was typed is what counts, within its bounds."""
        self.typing, self.typed = False, ""

    def leave(self) -> bool:
        """The value from before typing began; False where none was being typed."""
        if not self.typing:
            return False
        self.wish = msgspec.structs.replace(self.wish, **self.before)
        self.commit()
        return True

    def _type(self, text: str) -> None:
        self.typed = text
        if not text or text == ".":
            self.wish = msgspec.structs.replace(self.wish, **self.before)
            return
        times = 1024.0 if text.endswith("k") else 1.0
        value = RANGES[self.name].read(f"{float(text.removesuffix('k') or '0') * times}")
        if value is not None:
            self._put(self.name, value)

    def _put(self, name: str, value: float) -> None:
        self.set(**{name: round(value, 4) if name == "utilization" else int(value)})

    def text(self, name: str, made: Plan | None) -> tuple[str, str]:
        """(value, what is to be said of it)."""
        wish = self.wish
        if name in ("model", "gpu"):
            return self.shown_name(name).rpartition("/")[2] if name == "model" else wish.gpu.name, ""
        if name == "eager":
            return ("yes", "no CUDA graphs") if wish.eager else ("no", "")
        if name == "goal":
            return wish.goal or "none", ""
        if name in ("weights", "kv"):
            return str(getattr(wish, name)), ""
        given = getattr(wish, name)
        value = self.value(name, made)
        own = (
            ""
            if given
            else "as fits"
            if name == "context" and (given == 0 or wish.goal == "long-context")
            else "default"
        )
        if name == "context":
            return tokens_text(int(value)), own
        if name == "utilization":
            return ("given", "") if wish.pool_bytes is not None else (f"{value:g}", own)
        return number(value), "" if name == "gpus" else own
