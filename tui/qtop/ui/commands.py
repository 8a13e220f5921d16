"""The command palette's entries, the help page, and how something runs beside the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from qtop.errors import QtopError
from qtop.ui import themes

if TYPE_CHECKING:
    from qtop.ui.app import QtopApp
    from qtop.ui.screens.base import MainScreen

Commands = Iterable[SystemCommand]

HELP = """\
# Keys

| key | what it does |
|---|---|
| `p` | stream a test prompt: choose; then `p` or `Enter` sends it, `Esc` cancels; a full server: press twice |
| `1`–`9` | fix the finding beside the number: a preview first (`e`: another value), then measured, kept or put back |
| `u` | undo the latest change |
| `r` `m` | record; again: stop; meanwhile `m` puts a marker with a note into the recording |
| `space` | pause; `←` `→` step, `Home` ten back, `End` or `space` go on |
| `/` `n` `m` | in a replay: to a time; to the next finding that begins or ends (`N`: the previous); to a marker (`M`) |
| `<` `>` | there: slower, faster; a click on the timeline goes to that time |
| `f` | the page of the first finding |
| `g` `t` `v` `P` | the screens: GPUs, threads, server, one chart; again, `o` or `Esc`: the overview; `Tab`: the next |
| `↑` `↓` `←` `→` | there: choose a field or an earlier test, change it; digits type, `e` types a text |
| `x` | there: mark two tests to compare them (so does `space`); `PgDn`: more of the one shown |
| `L` | plan a server: `↑` `↓` choose, `←` `→` change (shift: a little), digits: exactly, `Backspace`: default |
| `n` `x` `l` | there: the nearest that fits, the longest context, as the server here runs; `PgDn`: more |
| `w` `S` | there: the command to a file; start it by `qtop serve`, after a preview (again: end it) |
| `G` | the guide, checked here: `↑` `↓` choose a claim, `Enter` tells all of it |
| `d` | start a small demo server, when there is none |
| `s` | choose the server, when there are several |
| `T` | tuning: what could be changed, and what was; `Enter` previews, `x` marks, `a` tries them all, `u` undoes |
| `c` | the next theme: colours, high contrast, your own |
| `Ctrl-P` | every command |
| `Ctrl-Z` | to the shell and back |
| `q` | quit: what was begun is put back, recordings are closed |

The mouse works on everything that is a key.

# Marks

`●` fires   `○` clear   `?` cannot tell, and why   `–` not applicable here; of the guide: `✓` holds   `✗` does not hold

The timeline of a replay: `▂` a finding without consequence   `▅` a warning   `█` critical   `▲` changed   `▼` put back
`p` a test prompt, its beginning and end   `◆` a marker   a hole: nobody looked, the clock was set, or the server was
started anew   `·` not looked through yet   `┃` what the screen shows.

Row 2 is the verdict: what holds the server back. A dash stands for a reading that could not be had; never for zero.

**run / wait**: share of wall time in which a thread had a CPU, or was ready and had none. **PSI**: share of time in
which some task on this host waited for a CPU. **wake-up**: how late this host wakes a sleeper. **held by**: what kept
the GPU's clock down, as a share of the last second. **roofline**: what the GPU's memory bandwidth allows at this batch.
"""


SCREENS = (
    ("g", "gpus", "each GPU in full"),
    ("t", "threads", "the server's threads, the longest-waiting first"),
    ("v", "server", "the server in detail: latency, settings, ranks"),
    ("P", "plots", "one chart on the whole screen"),
    ("p", "probe", "test prompts: choose, watch, compare"),
    ("F", "findings", "every rule, and what qtop says of it now"),
    ("T", "tuning", "what could be changed now, and what was"),
    ("L", "plan", "what would fit and how fast it would be; the command that starts it"),
    ("G", "guide", "the guide, claim by claim, checked here"),
)
"""Key, name and explanation of the screens beside the overview."""


def new_screen(name: str) -> MainScreen:
    """The screen of this name; its module is loaded when it is first asked for."""
    match name:
        case "findings":
            from qtop.ui.screens.findings import FindingsScreen

            return FindingsScreen()
        case "gpus":
            from qtop.ui.screens.gpus import GpusScreen

            return GpusScreen()
        case "threads":
            from qtop.ui.screens.threads import ThreadsScreen

            return ThreadsScreen()
        case "server":
            from qtop.ui.screens.server import ServerScreen

            return ServerScreen()
        case "plots":
            from qtop.ui.screens.plots import PlotsScreen

            return PlotsScreen()
        case "probe":
            from qtop.ui.screens.probe import ProbeScreen

            return ProbeScreen()
        case "plan":
            from qtop.ui.screens.plan import PlanScreen

            return PlanScreen()
        case "guide":
            from qtop.ui.screens.guide import GuideScreen

            return GuideScreen()
        case "tuning":
            from qtop.ui.screens.tuning import TuningScreen

            return TuningScreen()
    raise ValueError(f"no screen is called {name}")


def in_background(work: Callable[[], None]) -> None:
    """Run on a daemon thread: a worker of the app would hold up quitting."""
    threading.Thread(target=work, name="qtop-work", daemon=True).start()


def begin_demo(app: QtopApp, start: Callable[[Callable[[str], None]], str], watch: Callable[[str], None]) -> None:
    """Start a demo server beside the screen, say what happens meanwhile, then watch it."""

    def work() -> None:
        try:
            watch(start(lambda text: app.run_later(lambda: app.say(text))))
        except QtopError as error:
            message = str(error)
            app.run_later(lambda: app.say(message))
        app.demo_begun = False

    in_background(work)


def listed(app: QtopApp) -> list[tuple[str, str, Callable[[], object]]]:
    """Name, explanation, call."""
    entries: list[tuple[str, str, Callable[[], object]]] = [
        ("Stream a test prompt", "send what the probe screen says, from here", app.action_probe),
        ("Fix the first finding", "1: preview its remedy", lambda: app.action_fix(1)),
        ("Tune", "try what the findings propose, one by one, and report", app.action_tune),
        ("Undo", "u: put the latest change back", app.action_undo),
        ("Record", "r: start or stop recording", app.action_record),
        ("Mark", "m: a note into the recording that is being made; in a replay, to the next marker", app.action_mark),
        ("Overview", "o: everything at a glance", lambda: app.action_show("overview")),
        *((f"Screen {name}", f"{key}: {text}", lambda name=name: app.action_show(name)) for key, name, text in SCREENS),
        ("Pause", "space: hold the screen and step through time", app.action_pause),
        *(replay_entries(app) if app.timeline is not None else ()),
        ("Cancel", "Esc: stop the test prompt or the change under way", app.action_cancel),
        ("Demo server", "d: start a small real server", app.action_demo),
        ("Choose the server", "s: when several are found", app.action_choose),
        ("Help", "?: keys and marks", app.action_help),
        ("Quit", "q: leave", app.exit),
    ]
    for name in themes.names():
        about = "shown now; c: the next" if name == app.look.scheme.name else "colours of the dashboard"
        entries.append((f"Theme {name}", about, lambda name=name: app.use_theme(name)))  # type: ignore[misc]
    from qtop.diagnose.registry import RULES  # all rules: for the palette, not for the first paint

    for rule in RULES:
        entries.append((f"Rule {rule.id}", rule.title, lambda rule=rule: app.action_page(rule.id)))  # type: ignore[misc]
    return entries


def replay_entries(app: QtopApp) -> list[tuple[str, str, Callable[[], object]]]:
    """What only a replay has."""
    return [
        ("Go to a time", "/: of day, into the recording, or from here", app.action_go),
        ("Next finding", "n: to where the next begins or ends", lambda: app.action_turn(1)),
        ("Previous finding", "N: to where the previous began or ended", lambda: app.action_turn(-1)),
        ("Next marker", "m: to the next marker of the recording", lambda: app.action_marker(1)),
        ("Previous marker", "M: to the previous marker", lambda: app.action_marker(-1)),
        ("Faster", ">: the replay", lambda: app.action_speed(1)),
        ("Slower", "<: the replay", lambda: app.action_speed(-1)),
    ]


def new_file(folder: Path) -> Path:
    """A name for a recording that is not taken yet: two may begin within a second."""
    stem = time.strftime("qtop-%Y%m%d-%H%M%S")
    path, number = folder / f"{stem}.qtop", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.qtop"
    return path
