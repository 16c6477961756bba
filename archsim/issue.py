"""The order in which a unit issues its tasks: bodies of entries with lags, some interleaved.

A body is executed for epochs i = 0, 1, 2, ...; an entry `SLN lag 2` acts on tile i - 2 in epoch i.
`QK lag 0 | SLNV lag 3` takes one slot of each in turn, then the rest of the longer one.
`SPNV+RNV lag 3` is one task that computes two Einsums in one go. Lags are what makes the pipeline
fill and empty without a text of its own. The same notation stands in mapping and program files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ITEM = re.compile(r"([A-Z]\w*(?:\.\w+)?(?:\+[A-Z]\w*)*)(?:\s+lag\s+(\d+))?\Z")


@dataclass(frozen=True, slots=True)
class Item:
    """One task of a body and how many tiles it lags behind the epoch."""

    task: str
    lag: int

    def __str__(self) -> str:
        """Print as it is written."""
        return f"{self.task} lag {self.lag}"


# Items that share slots in turn; most entries have just one.
Entry = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """What a unit does in one epoch."""

    unit: str
    entries: tuple[Entry, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items in order, interleaved or not."""
        return tuple(item for entry in self.entries for item in entry)


def read_entry(text: str) -> Entry:
    """Read one entry: `QK lag 0 | SLNV lag 3`. ValueError says what is wrong."""
    items = []
    for part in text.split("|"):
        found = _ITEM.match(part.strip())
        if not found:
            raise ValueError(
                f"'{part.strip()}' is no entry; write TASK lag N, with | between tasks in turn"
            )
        items.append(Item(found[1], int(found[2] or 0)))
    return tuple(items)


def show_entry(entry: Entry) -> str:
    """Print an entry so that it reads back."""
    return " | ".join(str(item) for item in entry)
