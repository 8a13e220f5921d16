"""``python -m tests.fakes.unprivileged ARGUMENT…``: a qtop that believes it is not root, for tests that are.

It may not write to /proc/sys, and so asks for root's helper, through whatever ``sudo`` PATH has; the helper is real.
"""

from __future__ import annotations

import os
import sys
from typing import Any

_access = os.access


def _may(path: Any, mode: int, **more: Any) -> bool:
    return not (mode & os.W_OK and str(path).startswith("/proc/sys")) and _access(path, mode, **more)


if __name__ == "__main__":
    os.geteuid = lambda: 1000
    os.access = _may
    from qtop.cli import main

    raise SystemExit(main(sys.argv[1:]))
