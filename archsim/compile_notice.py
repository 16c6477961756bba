"""A word on stderr when kernels are compiled: the first run after an installation waits for it."""

from __future__ import annotations

import os
import sys
from typing import Any

NOTICE = "compiling kernels; they are kept on disk, so later runs start at once"
# What of numba can tell, and is there before anything is compiled.
_TELLS = "numba.core.dispatcher"


class _Finder:
    """Waits for numba, which most commands do without: to load it takes half a second."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing, but register the notice when numba is on its way."""
        if name == _TELLS:
            sys.meta_path.remove(self)
            _register()


def announce() -> None:
    """Print the notice when this process compiles for the first time."""
    if _TELLS not in sys.modules:
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event_: Any) -> None:
            if self in waiting and os.getpid() == own:
                waiting.clear()
                sys.stderr.write(f"{NOTICE}\n")

        def on_end(self, event_: Any) -> None:
            pass

    # Workers compile the same at the same time, and one line will do.
    own, listener = os.getpid(), Listener()
    waiting = [listener]
    register: Any = event.register
    register("numba:compile", listener)
