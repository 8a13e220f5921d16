"""The plan that the screen shows: filled in from what runs here, changed by a person, reckoned anew at each change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from qtop.act.launch_files import Installed, checked, installed
from qtop.act.plan_here import Asked, gpu_here, named_gpu, named_model, same_model, seen, wish_of
from qtop.errors import QtopError
from qtop.model.frame import Frame
from qtop.model.gpus import GPUS
from qtop.model.presets import PRESETS
from qtop.plan.command import unnamed, words
from qtop.plan.compare import Compared, compare
from qtop.plan.making import BATCHES, Nearest, Plan, Wish, make
from qtop.plan.picture import Curve, Grid, curves, first_tokens, grid
from qtop.plan.scenarios import GUIDES_CARD, GUIDES_MODEL
from qtop.plan.serving import Card, Model
from qtop.plan.speed import Prefill
from qtop.plan.vram import longest
from qtop.sample import Absent
from qtop.ui.commands import in_background
from qtop.ui.plan_form import PlanForm

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp


SETTLED_S = 0.8
"""How long a plan stays as it is before its command is checked: that loads vLLM, which takes seconds of CPU."""


class Planning:
    """One plan a session; it stays while other screens are shown."""

    def __init__(self, app: QtopApp) -> None:
        self._app, self._asked = app, Asked()
        self.vllm_named: str | None = None
        self.form: PlanForm | None = None
        self.made: Plan | None = None
        self.failed = ""
        """Why there is no plan."""
        self.note = ""
        """What was taken for want of a server or card."""
        self.vllm: Installed | None = None
        self._asking = self._vllm_known = self._waits = False
        self._touched = False
        self._filled_with: object = None
        self._here: Card | None = None
        self._changed = 0.0
        self._known: dict[str, Model] = {}
        self._given: Card | None = None
        self._grid: Grid | None = None
        self._curves: dict[int, tuple[Curve, ...]] = {}
        self._prefills: dict[int, tuple[Prefill, ...]] = {}
        self._checks: dict[tuple[str, ...], tuple[bool | None, str]] = {}

    def ask(self, asked: Asked, vllm: str | None) -> None:
        """What the verb plan was told; ``vllm``: its --vllm."""
        self._asked, self.vllm_named = asked, vllm

    # Filling in

    def look(self, frame: Frame) -> None:
        """Fill in from what runs here, again while nobody has changed anything and something else runs."""
        server, gpus, settings = frame.server, frame.gpus, frame.settings
        own = None if isinstance(server, Absent) else (server.url, server.engine, str(server.model))
        now = (own, not isinstance(gpus, Absent) and len(gpus), isinstance(settings, Absent))
        if self.form is None or (not self._touched and now != self._filled_with):
            self._filled_with = now
            self.fill(frame)

    def fill(self, frame: Frame) -> None:
        """As the verb does beside a server; without one the model and card of the guide."""
        self._touched = False
        try:
            self._here = gpu_here(frame)[0]
        except QtopError:
            self._here = None
        asked, notes = self._asked, []
        wish = self._wish(asked, frame)
        if isinstance(wish, QtopError):
            if asked.model is None:
                asked = msgspec.structs.replace(asked, model=GUIDES_MODEL)
                notes.append(f"{str(wish).split('. ')[0].rstrip('.')}: the guide's model is planned")
                wish = self._wish(asked, frame)
            if isinstance(wish, QtopError) and asked.gpu in (None, "live"):
                asked = msgspec.structs.replace(asked, gpu=GUIDES_CARD)
                notes.append("no GPU is read here: a card of the table")
                wish = self._wish(asked, frame)
        if isinstance(wish, QtopError):
            self.failed, self.made, self.form = str(wish), None, None
            return
        self.note = "; ".join(notes)
        at = self.form.at if self.form is not None else None
        models = tuple(dict.fromkeys((wish.model.name, *(one.repository for one in PRESETS))))
        here = (self._here.name,) if self._here is not None else ()
        gpus = tuple(dict.fromkeys((*here, wish.gpu.name, *(one.name for one in GPUS))))
        self.form = PlanForm(wish, models, gpus)
        self.form.at = self.form.at if at is None else at
        self._known = {wish.model.name: wish.model}
        self._given = wish.gpu
        self._reckon()

    def _wish(self, asked: Asked, frame: Frame) -> Wish | QtopError:
        try:
            return wish_of(asked, frame)
        except QtopError as error:
            return error

    # Changing

    def changed(self) -> None:
        """The form says something else: reckon, unless it says the same."""
        if self.form is not None and (self.made is None or self.form.wish != self.made.wish):
            self._touched = True
            self._reckon()

    def step(self, by: int, fine: bool = False) -> None:
        """Another value of the field under the cursor."""
        form = self.form
        if form is None:
            return
        if form.name in ("model", "gpu"):
            form.commit()
            self.choose(form.other(by))
        else:
            form.step(by, self.made, fine)
            self.changed()

    def choose(self, name: str) -> None:
        """The model or GPU of this name, by the field under the cursor."""
        form = self.form
        if form is None:
            return
        try:
            form.take(self._model(name) if form.name == "model" else self._card(name))
        except QtopError as error:
            self._app.say(str(error))
            return
        self.changed()

    def _model(self, name: str) -> Model:
        if name not in self._known:
            self._known[name] = named_model(name)
        return self._known[name]

    def _card(self, name: str) -> Card:
        for one in (self._given, self._here):
            if one is not None and one.name == name:
                return one
        shown = self._app.playback.shown
        assert shown is not None
        return named_gpu(name, shown.frame)[0]

    def pick(self, seqs: int, context: int) -> None:
        """A cell of the map."""
        if self.form is not None:
            self.form.commit()
            self.form.set(seqs=seqs, context=context)
            self.changed()

    def most(self) -> None:
        """The longest context that one request can have."""
        if self.form is not None and self.made is not None:
            self.form.commit()
            found = longest(self.made.wish.model, self.made.serving, self.made.memory.pool)
            if not found:
                self._app.say("not one block of cache fits: nothing to lengthen")
                return
            self.form.set(context=found)
            self.changed()

    def take_nearest(self) -> None:
        """The smallest change by which it fits."""
        if self.form is None or self.made is None or not self.made.nearest:
            self._app.say("it fits as it is" if self.made is not None and self.made.fits else "nothing near it fits")
            return
        self.take_near(self.made.nearest[0])

    def take_near(self, near: Nearest) -> None:
        """This change."""
        assert self.form is not None and self.made is not None
        one, form = near.serving, self.form
        what = {"context": one.context, "weights": one.weights, "kv": one.kv, "gpus": one.spread}
        form.commit()
        form.set(**what)
        if one.utilization != self.made.serving.utilization:
            form.set(utilization=one.utilization)
        self.changed()

    def _reckon(self) -> None:
        """The plan of the form; pictures of it are made when they are drawn."""
        assert self.form is not None
        self._grid, self._curves, self._prefills = None, {}, {}
        self._changed = time.monotonic()
        try:
            self.made, self.failed = make(self.form.wish), ""
        except QtopError as error:
            self.made, self.failed = None, str(error)

    # Pictures, each made once a plan

    @property
    def grid(self) -> Grid | None:
        """What fits."""
        if self._grid is None and self.made is not None:
            self._grid = grid(self.made)
        return self._grid

    def curves(self, count: int) -> tuple[Curve, ...]:
        """Speed by context, so many points each."""
        if self.made is None:
            return ()
        if count not in self._curves:
            self._curves[count] = curves(self.made, BATCHES, count)
        return self._curves[count]

    def prefills(self, count: int) -> tuple[Prefill, ...]:
        """TTFT by prompt."""
        if self.made is None:
            return ()
        if count not in self._prefills:
            self._prefills[count] = first_tokens(self.made, count)
        return self._prefills[count]

    def compared(self, frame: Frame) -> Compared | None:
        """Beside the server that runs, if it serves this model."""
        running = seen(frame)
        if self.made is None or running is None or not same_model(self.made.wish.model, frame):
            return None
        return compare(self.made, running)

    @property
    def elsewhere(self) -> str | None:
        """The planned card's name where it is not the one that is read here."""
        made = self.made
        if made is None or made.wish.gpu.is_cpu or (self._here is not None and made.wish.gpu.name == self._here.name):
            return None
        return made.wish.gpu.name

    # The command

    @property
    def words(self) -> list[str] | None:
        """The command; None where there is none to be given."""
        return words(self.made) if self.made is not None and self.made.fits else None

    @property
    def refusal(self) -> str:
        """Why the command cannot be run or written; "" where it can."""
        made = self.made
        if made is None:
            return self.failed or "there is no plan yet"
        if not made.fits:
            return "what does not fit is neither started nor written"
        if unnamed(made):
            return f"{made.serving.weights} weights need a checkpoint of their own: name it with qtop plan --model"
        return ""

    def checked(self) -> tuple[bool | None, str]:
        """(whether the vLLM that is installed takes the command, what it says); asked beside the screen."""
        told = self.words
        if told is None:
            return None, ""
        key = tuple(told)
        if key not in self._checks:
            if time.monotonic() - self._changed >= SETTLED_S:
                self._ask(key)
            elif not self._waits:  # nothing else may draw: a recording that has ended has no ticks
                self._waits = True
                self._app.set_timer(SETTLED_S, self._look_again)
            return None, "asking the vLLM that is installed …"
        return self._checks[key]

    def _look_again(self) -> None:
        self._waits = False
        self._app.redraw()

    def _ask(self, key: tuple[str, ...]) -> None:
        if self._asking:
            return
        self._asking = True

        def work() -> None:
            try:
                if not self._vllm_known:
                    self._vllm_known = True
                    self.vllm = installed(self.vllm_named)
                found = checked(list(key), self.vllm)
            except QtopError as error:
                found = (None, str(error))
            self._app.run_later(lambda: self._take_check(key, found))

        in_background(work)

    def _take_check(self, key: tuple[str, ...], found: tuple[bool | None, str]) -> None:
        self._asking = False
        self._checks[key] = found
        self._app.redraw()
