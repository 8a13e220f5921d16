"""QT401: words of the command line that this version of vLLM refuses, or takes and does nothing with."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Subject, argv_of, subject_of, version_text
from qtop.model.frame import Frame
from qtop.model.vllm_flags import Word, ignored, in_file, refused
from qtop.sample import Absent, ServerInfo

IGNORED, REFUSED, ENDED = 1.0, 2.0, 3.0
SOURCE = "flags tried on vLLM 0.32; argument tables of the wheels 0.9.2 to 0.33"


class FlagsRefused(Rule):
    """3: the server ended before it answered, and its command line has such a word; 2: it starts with one; 1: it runs
    and does nothing with one."""

    id = "QT401"
    title = "flags refused or ignored by this version"
    explains = ("QT310",)
    enter = (
        Enter(Severity.INFO, at=IGNORED, seconds=2.0, of=2.0),
        Enter(Severity.WARNING, at=REFUSED, seconds=1.0, of=2.0),
        Enter(Severity.CRITICAL, at=ENDED, seconds=1.0, of=2.0),
    )
    clear = Clear(below=IGNORED / 2, seconds=2.0)

    def look(self, frame: Frame) -> Answer:
        """The worst that the command line and the config file hold."""
        subject = subject_of(frame)
        if not isinstance(subject, Subject):
            return subject
        info = subject.info
        argv = argv_of(info)
        if isinstance(argv, CannotTell):
            return argv
        version = version_text(info)
        if subject.starting:
            # Of the running it is plain that nothing was refused.
            words = refused(argv, _file(info), version, is_bfloat16(subject))
            if words:
                value = ENDED if subject.ended else REFUSED
                return Observed(value, lambda: _refused(subject, words), impact=1.0, figure=words[0].flag)
            if version is None:
                return CannotTell(f"{info.version}; what it takes depends on that")
            return Observed(0.0, _nothing, figure="")
        if version is None:
            return CannotTell(f"its version: {info.version}")
        words = ignored(argv, version)
        if words:
            return Observed(IGNORED, lambda: _ignored(info, words), figure=words[0].flag)
        return Observed(0.0, _nothing, figure="")


RULE = FlagsRefused()


def is_bfloat16(subject: Subject) -> bool:
    """Whether the model's dtype is known to be bfloat16: as set, or by a family that is published so."""
    view = subject.settings
    dtype = None if isinstance(view, Absent) else view.get("dtype")
    if dtype is not None and dtype.value not in ("auto", "none"):
        return dtype.value == "bfloat16"
    model = subject.info.model
    return isinstance(model, str) and "qwen3" in model.lower()


def _file(info: ServerInfo) -> tuple[str, ...]:
    return () if isinstance(info.settings, Absent) else tuple(name for name, _ in in_file(info.settings))


def who(info: ServerInfo) -> str:
    """The server in capitals, with its version."""
    version = version_text(info)
    return f"VLLM {version.partition('+')[0]}" if version else "VLLM"


def refusal(subject: Subject, words: tuple[Word, ...], source: str) -> Told:
    """A server that ended, or will, at a word that its version does not take."""
    first = words[0]
    flags = ", ".join(word.flag for word in words[:3])
    fate = "REFUSED {} and ended" if subject.ended else "WILL REFUSE {} and end"
    lines = [Evidence(word.flag, f"this version {word.does}", "", None, source) for word in words]
    lines += [Evidence(f"instead of {word.flag}", word.instead, "") for word in words]
    lines.append(Evidence("version installed", version_text(subject.info) or str(subject.info.version), ""))
    text = f"{who(subject.info)} {fate.format(flags)}: {first.instead.partition(', or ')[0]}"
    return Told(text, tuple(lines))


def _refused(subject: Subject, words: tuple[Word, ...]) -> Told:
    return refusal(subject, words, SOURCE)


def _ignored(info: ServerInfo, words: tuple[Word, ...]) -> Told:
    lines = tuple(Evidence(word.flag, f"this version {word.does}: {word.instead}", "", None, SOURCE) for word in words)
    flags = ", ".join(word.flag for word in words)
    return Told(f"{who(info)} IGNORES {flags}: it {words[0].does}; {words[0].instead}", lines)


def _nothing() -> Told:
    return Told("no flag that this version is known to refuse or pass over", ())
