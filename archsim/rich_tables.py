"""Tables on standard output: left-hand columns of words, right-hand ones of figures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def new_console() -> Console:
    """Make a console as wide as the terminal; a pipe has no width and must not squeeze tables."""
    from rich.console import Console as NewConsole

    return NewConsole(width=None if sys.stdout.isatty() else 120)


def new_table(title: str, *headers: str, words: int = 1) -> Table:
    """Make an empty table; its first columns hold words, the others figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as NewTable

    table = NewTable(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < words else "right")
    return table
