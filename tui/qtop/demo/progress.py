"""Shows a download on a terminal; ``python -m qtop.demo.progress`` fetches the demo model so."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

_REDRAW_SECONDS = 0.2
_STEP_PERCENT = 25


class TextProgress:
    """Shows (bytes so far, bytes in all or None) on ``out``: one line redrawn on a terminal, else a line a quarter."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._tty = self._out.isatty()
        self._drawn_at = 0.0
        self._quarter = 0
        self._open_line = False

    def __call__(self, done: int, total: int | None) -> None:
        percent = None if not total else done * 100 // total
        text = f"  {done / 1e6:.0f} MB" if percent is None else f"  {percent} % of {(total or 0) / 1e6:.0f} MB"
        if self._tty:
            now = time.monotonic()
            if now - self._drawn_at >= _REDRAW_SECONDS or percent == 100:
                self._drawn_at = now
                self._open_line = True
                self._out.write(f"\r\x1b[K{text}")
                self._out.flush()
        elif percent is not None and percent // _STEP_PERCENT > self._quarter:
            self._quarter = percent // _STEP_PERCENT
            self._out.write(f"{text}\n")
            self._out.flush()

    def say(self, text: str) -> None:
        """Writes one line of text beneath what stands there."""
        self.close()
        self._out.write(f"{text}\n")
        self._out.flush()

    def close(self) -> None:
        """Ends the line that is being redrawn, if there is one."""
        if self._open_line:
            self._open_line = False
            self._out.write("\n")
            self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> int:
    """Fetches the demo model if the cache lacks it, saying so on standard error; the exit status for a shell."""
    from qtop.demo.model import ensure_model
    from qtop.errors import QtopError

    with TextProgress() as progress:
        try:
            ensure_model(progress, progress.say)
        except QtopError as error:
            progress.say(f"qtop: {error}")
            return error.exit_code
        except KeyboardInterrupt:
            progress.say("qtop: stopped; nothing half-fetched is left behind")
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
