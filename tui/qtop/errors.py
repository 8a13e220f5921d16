"""The errors a user may see: one clear line, a hint what to do, and an exit code."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FINDING = 1
"""A finding of severity warning or above fires (``doctor``), or a check failed."""
EXIT_USAGE = 2
"""Usage or input error."""
EXIT_UNREACHABLE = 3
"""What was asked for could not be reached."""


class QtopError(Exception):
    """An error with a message fit for a user; ``hint`` says what to do about it. Exit code 2 unless a subclass says
    otherwise."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class Unreachable(QtopError):
    """The server, process or device asked for cannot be reached (exit 3)."""

    exit_code = EXIT_UNREACHABLE


class Refused(QtopError):
    """A change was not made, because making it would not be safe or not be permitted (exit 1)."""

    exit_code = EXIT_FINDING
