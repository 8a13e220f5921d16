"""QT409: a quantization method that this version of vLLM has no more."""

from __future__ import annotations

from qtop.diagnose.rule import Answer, CannotTell, Clear, Enter, Evidence, Observed, Rule, Severity, Told
from qtop.diagnose.rules.configured import Subject, argv_of, subject_of, version_text
from qtop.diagnose.rules.QT401_flags_refused import refusal
from qtop.model.frame import Frame
from qtop.model.vllm_flags import Word, dropped, in_file
from qtop.sample import Absent, ServerInfo

STARTS, ENDED = 1.0, 2.0
SOURCE = "vLLM RFC #39583; bitsandbytes tried on 0.32: Unknown quantization method"


class QuantizationDropped(Rule):
    """2: the server ended before it answered; 1: it starts and will end; 0: its method is there."""

    id = "QT409"
    title = "quantization dropped by this version"
    explains = ("QT310",)
    enter = (
        Enter(Severity.WARNING, at=STARTS, seconds=1.0, of=2.0),
        Enter(Severity.CRITICAL, at=ENDED, seconds=1.0, of=2.0),
    )
    clear = Clear(below=STARTS / 2, seconds=2.0)

    def look(self, frame: Frame) -> Answer:
        """The method of the command line or the config file, of one that starts: one that runs has it."""
        subject = subject_of(frame)
        if not isinstance(subject, Subject):
            return subject
        if not subject.starting:
            return Observed(0.0, _nothing, figure="")
        argv = argv_of(subject.info)
        if isinstance(argv, CannotTell):
            return argv
        version = version_text(subject.info)
        if version is None:
            return CannotTell(f"{subject.info.version}; what it has depends on that")
        words = dropped(argv, _file(subject.info), version)
        if not words:
            return Observed(0.0, _nothing, figure="")
        value = ENDED if subject.ended else STARTS
        return Observed(value, lambda: _told(subject, words), impact=1.0, figure=words[0].flag)


RULE = QuantizationDropped()


def _file(info: ServerInfo) -> tuple[tuple[str, str], ...]:
    return () if isinstance(info.settings, Absent) else in_file(info.settings)


def _told(subject: Subject, words: tuple[Word, ...]) -> Told:
    told = refusal(subject, words, SOURCE)
    more = Evidence(
        "methods since 0.28", "awq, gptq, compressed-tensors, fp8, fp8_per_tensor, mxfp8, …", "", None,
        "model_executor/layers/quantization of 0.32",
    )  # fmt: skip
    return Told(told.headline, (*told.evidence, more))


def _nothing() -> Told:
    return Told("its quantization method is one that this version has", ())
