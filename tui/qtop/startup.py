"""A quick start: what the first paint does not need is loaded after it."""

from __future__ import annotations

import gc
import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

LATER = ("httpx", "httpcore", "psutil")
"""Only collectors need these, and importing them takes a fifth of the time to the first paint."""

_loading = threading.RLock()


class _Later(ModuleType):
    """A module that is loaded at the first use of a name in it, by whichever thread that is; others wait for it.

    importlib's LazyLoader will not do: any further import statement loads its module at once.
    """

    def __getattr__(self, name: str) -> Any:
        with _loading:
            if self.__class__ is _Later:
                spec = self.__spec__
                assert spec is not None and spec.loader is not None
                if spec.loader_state == "loading":  # asked for by itself, before it has got so far
                    raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} yet", name=name, obj=self)
                spec.loader_state = "loading"
                try:
                    spec.loader.exec_module(self)
                finally:
                    spec.loader_state = None
                self.__class__ = ModuleType  # type: ignore[assignment]
        return getattr(self, name)


def hurry() -> None:
    """Put off what can wait, and look for no garbage: starting makes little, and looking takes a tenth of the time."""
    gc.disable()
    for name in LATER:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            module = module_from_spec(spec)
            module.__class__ = _Later
            sys.modules[name] = module


def settle() -> None:
    """The start is over: look for garbage again, but never among what is there now, which stays anyway."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
