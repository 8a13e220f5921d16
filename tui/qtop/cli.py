"""One command; each verb imports what it needs when it runs, so that ``--help`` and ``--version`` cost nothing."""

from __future__ import annotations

import argparse
import errno
import importlib
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from qtop import __version__
from qtop.errors import EXIT_FINDING, EXIT_USAGE, QtopError
from qtop.verbs.plan_options import add as add_plan
from qtop.verbs.recording_options import add as add_recording_verbs
from qtop.verbs.recording_options import add_include
from qtop.verbs.terminal import drop_output, prepare, say

_NAMED_ALIKE = frozenset(
    {"bundle", "check", "demo", "diff", "dump", "guide", "plan", "probe", "record", "report", "serve"}
)
"""Verbs whose module and function have their name."""
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

EPILOG = """\
exit codes:
  0  fine
  1  a finding of severity warning or above fires (doctor), a change was put back or refused, a probe failed, a plan
     does not fit
  2  usage or input error
  3  could not reach what was asked for (no such server, process or file of a server)
  130, 143, 129  ended by Ctrl-C, SIGTERM, SIGHUP; 141  the reader of the output went away

environment: QTOP_API_KEY (sent to the server, never shown or recorded), NO_COLOR, XDG_CONFIG_HOME, XDG_STATE_HOME.
settings:    $XDG_CONFIG_HOME/qtop/config.toml (`qtop config` prints an example)
"""


class _Parser(argparse.ArgumentParser):
    """Says one line and where the help is, instead of the whole usage; takes no abbreviations, which a later option
    would make ambiguous."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(EXIT_USAGE, f"qtop: {line[:400]}. Try `{self.prog} --help`.\n")


def _common() -> _Parser:
    """Options that stand before or after the verb; suppressed defaults keep one place from undoing the other."""
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("which server")
    group.add_argument("--url", metavar="URL", help="watch the server at this address (host:port will do)")
    group.add_argument("--pid", type=_pid, metavar="PID", help="watch the server of this process")
    group.add_argument("--api-key-file", metavar="FILE", help="file with the server's API key (or QTOP_API_KEY)")
    group.add_argument("--ca", metavar="FILE", help="trust this certificate (PEM)")
    group.add_argument("--insecure", action="store_true", help="do not check the server's certificate")
    common.add_argument(
        "--theme", metavar="NAME", help="colours of the dashboard: auto, dark, light, contrast, terminal, mono"
    )
    common.add_argument(
        "--interval", type=_interval, metavar="S", help="seconds between samples, 0.1 to 60 (default 1)"
    )
    common.add_argument("--read-only", action="store_true", help="change nothing on this host, whatever is pressed")
    return common


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"not a process number: {text}")
    return int(text)


def _between(text: str, low: float, high: float, must: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be {must}, not {text}")
    return value


def _interval(text: str) -> float:
    return _between(text, 0.1, 60.0, "0.1 to 60 seconds")


def _seconds(text: str) -> float:
    return _between(text, 1e-6, 86_400.0 * 7, "a positive number of seconds")


def _rate(text: str) -> float:
    return _between(text, 0.001, 10_000.0, "0.001 to 10000 requests a second")


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"must be 1 to {most}, not {text}")
    return int(text)


def _count(text: str) -> int:
    return _whole(text, 1000)


def _tokens(text: str) -> int:
    return _whole(text, 1_000_000)


def _requests(text: str) -> int:
    return _whole(text, 100_000)


def _streams(text: str) -> int:
    return _whole(text, 1024)


def _warmup(text: str) -> int:
    return 0 if text == "0" else _whole(text, 1024)


def _seed(text: str) -> int:
    return 0 if text == "0" else _whole(text, 2**31)


def _test_options(one: argparse.ArgumentParser, requests: str, tokens: str) -> None:
    """What the verbs that send test prompts share."""
    one.add_argument(
        "--prompt", metavar="TEXT", help="a text, @FILE, or one of en, zh, code, reasoning, 1k, 8k, 32k, max"
    )
    one.add_argument("--max-tokens", type=_tokens, default=None, metavar="N", help=tokens)
    one.add_argument("--requests", type=_requests, default=None, metavar="N", help=requests)
    one.add_argument(
        "--rate", type=_rate, metavar="R", help="requests a second, at instants fixed beforehand (Poisson)"
    )
    one.add_argument(
        "--concurrency", type=_streams, metavar="C", help="streams at a time (1); with --rate: at most so many"
    )
    one.add_argument("--warmup", type=_warmup, metavar="N", help="first requests that do not count (a few, if several)")
    one.add_argument("--seed", type=_seed, metavar="N", help="of the schedule (0)")
    one.add_argument(
        "--timeout", type=_seconds, default=120.0, metavar="S", help="seconds that one request may take (120)"
    )
    one.add_argument("--json", action="store_true", help="print one JSON document")


def build_parser() -> argparse.ArgumentParser:
    """The whole interface."""
    common = _common()
    parser = _Parser(
        prog="qtop",
        description="What holds your local LLM server back, in one line, and the remedy on one key. "
        "Without a verb: the dashboard.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=f"qtop {__version__}")
    add_include(parser)
    verbs: argparse._SubParsersAction[_Parser] = parser.add_subparsers(
        dest="verb", metavar="VERB", title="verbs", parser_class=_Parser
    )

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common])

    one = verb("snapshot", "one reading of everything")
    one.add_argument("--json", action="store_true", help="print one JSON document (always so)")
    one.add_argument("--from", dest="source", metavar="FILE", help="the last reading of a recording instead")
    one = verb("doctor", "watch for some seconds, say what holds the server back")
    one.add_argument("--seconds", type=_seconds, default=12.0, metavar="N", help="how long to watch (default 12)")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one.add_argument("--from", dest="source", metavar="FILE", help="diagnose a whole recording instead")
    add_recording_verbs(verb, _seconds, _between)
    add_plan(verb)
    one = verb("probe", "stream test prompts and time them")
    _test_options(one, requests="how many (1; with --seconds as many as fit)", tokens="tokens to generate at most (64)")
    one.add_argument("--exact", action="store_true", help="exactly so many tokens, where the server knows ignore_eos")
    one.add_argument("--seconds", type=_seconds, metavar="S", help="send nothing new after so long")
    one.add_argument(
        "--goodput", nargs="+", metavar="NAME:MS", help="count what meets ttft:MS, tpot:MS, e2e:MS (TTFT from due)"
    )
    one.add_argument("--csv", action="store_true", help="print a line a request (not with --json)")
    one.add_argument(
        "--body",
        metavar="FILE",
        help="examine a request of yours and send it as it is: JSON or a curl command (- stdin)",
    )
    one = verb("check", "the acceptance test: is this server as fast as its hardware allows")
    _test_options(one, requests="how many, at least 20 (20)", tokens="tokens of each answer (256)")
    one.add_argument(
        "--baseline", metavar="FILE", help="compare with an earlier result of check --json or probe --json"
    )
    one = verb("actions", "what could be changed now, without changing it")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("apply", "change settings: measured, kept if better, else put back")
    one.add_argument(
        "knobs",
        nargs="+",
        metavar="KNOB[=VALUE]",
        help="for example cpu-affinity or swappiness=10; several are one change",
    )
    one.add_argument("--dry-run", action="store_true", help="show the preview and stop")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.add_argument("--no-measure", action="store_true", help="send no test prompts; keep it unmeasured")
    keep = one.add_mutually_exclusive_group()
    keep.add_argument("--keep", action="store_true", help="keep it unless something gets worse")
    keep.add_argument("--keep-always", action="store_true", help="keep it even if something gets worse")
    one.add_argument("--persist", action="store_true", help="make it last beyond the next start of the host")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("tune", "try what the findings propose, one by one: measured, kept if better, reported")
    one.add_argument(
        "--only", action="append", metavar="KNOB,…", help="these instead, in this order; KNOB=VALUE sets the value"
    )
    one.add_argument("--all", action="store_true", help="all that is possible now")
    one.add_argument("--dry-run", action="store_true", help="show what would be tried and stop")
    one.add_argument("--yes", action="store_true", help="do not ask")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("undo", "put the latest change back, also one that a killed qtop began")
    one.add_argument("change", nargs="?", metavar="ID", help="this one instead (see `qtop journal`)")
    one.add_argument("--all", action="store_true", help="all of them, the latest first")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("journal", "what qtop changed, and what became of it")
    one.add_argument("change", nargs="?", metavar="ID", help="each value of this one: before, as written, now")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one = verb("rules", "the rules, or the page of one")
    one.add_argument("rule", nargs="?", metavar="ID")
    one = verb("guide", "the guide on Qwen3-4B claim by claim, checked on this machine")
    one.add_argument("claim", nargs="?", metavar="ID", help="one claim in full, for example G6")
    one.add_argument("--seconds", type=_seconds, default=5.0, metavar="N", help="how long to watch (default 5)")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    one.add_argument("--from", dest="source", metavar="FILE", help="check against the end of a recording instead")
    one = verb("serve", "run a server: log, health, started again when it ends, and anew with other flags")
    one.add_argument("--log", metavar="FILE", help="append its output to this file")
    one.add_argument("--name", metavar="NAME", help="what to call it (default: after its program and port)")
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="how the server is started")
    one = verb("demo", "start a small real server and watch it")
    one.add_argument("--headless", action="store_true", help="no terminal: print one JSON document")
    one.add_argument("--seconds", type=_seconds, default=20.0, metavar="N", help="how long, with --headless (20)")
    one.add_argument("--threads", type=_count, default=None, metavar="N", help="compute threads of the server")
    one = verb("membw", "measure what the host's memory can carry: about a second of copying")
    one.add_argument("--yes", action="store_true", help="do it (otherwise say what it would do)")
    one.add_argument("--json", action="store_true", help="print one JSON document")
    verb("config", "print where the settings file lies and an example of it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code. No traceback reaches a user."""
    prepare()
    try:
        try:
            return _dispatch(build_parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # here, where a reader that went away can be dealt with, and not at the exit
    except SystemExit as stop:  # argparse: --help, --version, or a usage error
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE
    except QtopError as error:
        told = "".join(char if char.isprintable() else " " for char in str(error))  # a file's name may hold anything
        say(f"qtop: {' '.join(told.split())}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args and isinstance(stop.args[0], signal.Signals) else signal.SIGINT
        say("qtop: interrupted" if number is signal.SIGINT else f"qtop: ended by {number.name}")
        return 128 + number
    except BrokenPipeError:
        drop_output()
        return 128 + signal.SIGPIPE
    except Exception as error:
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    """One line for an error that nobody caught: a disk that is full under the output, or a fault of qtop's."""
    if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS and error.filename is None:
        drop_output()
        say(f"qtop: cannot write the output: {os.strerror(error.errno or 0)}")
        return EXIT_FINDING
    if os.environ.get("QTOP_DEBUG"):
        raise error
    told = " ".join(f"{type(error).__name__}: {error}".split())
    say(f"qtop: internal error: {told[:200]}. Please report it; QTOP_DEBUG=1 shows where.")
    return EXIT_USAGE


def _dispatch(args: argparse.Namespace) -> int:
    verb = args.verb
    # Somebody waits for a screen, or a recording for hardly longer than the start takes. And what a start has made is
    # left out of the search for garbage, which then holds a screen up for 10 ms a time, not for 40 to 60.
    screen = verb in (None, "replay") or (verb == "plan" and args.screen) or (verb == "demo" and not args.headless)
    if screen or (verb == "doctor" and args.source):
        from qtop.startup import hurry

        hurry()
    from qtop.config import EXAMPLE, Settings, config_path, load

    if verb == "config":
        print(f"# {config_path()}\n{EXAMPLE}", end="")
        return 0
    if verb == "membw":
        from qtop.verbs.membw import membw

        return membw(args)
    # What looks at the past or puts things back must not fail for want of a settings file that can be read.
    past = verb in ("rules", "undo", "journal", "dump", "diff") or getattr(args, "source", None)
    past = past or (verb == "report" and args.file)
    settings = Settings() if past else load()
    if verb in ("snapshot", "doctor", "rules"):
        from qtop.verbs import look

        return {"snapshot": look.snapshot, "doctor": look.doctor, "rules": look.rules}[verb](args, settings)
    if verb in _NAMED_ALIKE:
        code: int = getattr(importlib.import_module(f"qtop.verbs.{verb}"), verb)(args, settings)
        return code
    if verb in ("actions", "apply", "undo", "journal"):
        from qtop.verbs import change

        table = {"actions": change.actions, "apply": change.apply, "undo": change.undo, "journal": change.journal}
        return table[verb](args, settings)
    if verb == "tune":
        from qtop.verbs.tune import tune_verb

        return tune_verb(args, settings)
    from qtop.verbs.dashboard import dashboard, replay

    return replay(args, settings) if verb == "replay" else dashboard(args, settings)
