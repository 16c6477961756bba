"""Errors with a place: where it is, what is wrong, what is legal, what was probably meant.

Every mistake in something a user wrote becomes a `Problem` that points at a file, a line and a
column. Problems are collected, not raised one by one, so that a file with five mistakes is
mended in one go; `SourceError` carries up to ten of them and prints like a compiler.

Decision: one base class for both packages. `CascadeError` (what is computed) lives here,
`archsim.errors.ArchError` (where and when it runs) derives from the same base, so the command
line needs one handler and a file reader needs to know neither.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PROBLEMS = 10
# How many legal words a hint lists.
MAX_CHOICES = 20
# Longest line shown whole; of a longer one the part around the mistake is shown.
MAX_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a text: file name, and 1-based line and column (0: unknown)."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Print as `file:line:column`, leaving out what is unknown."""
        parts = [self.file, *(str(number) for number in (self.line, self.column) if number)]
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: its place, what is wrong, the offending line, and what would be right."""

    source: Source
    message: str
    # The line as the user wrote it, and how many characters the carets underline.
    text: str = ""
    width: int = 1
    # One sentence on what is legal here, with a suggestion if there is one.
    hint: str = ""

    def __str__(self) -> str:
        """Print place and message, the line with carets, and the hint."""
        lines = [f"{self.source}: {self.message}"]
        if self.text.strip():
            text, start, width = _excerpt(self.text, max(0, self.source.column - 1), self.width)
            lines.append("    " + text)
            if self.source.column:
                lines.append("    " + " " * start + "^" * width)
        if self.hint:
            lines.append("  " + self.hint)
        return "\n".join(lines)


def _excerpt(text: str, start: int, width: int) -> tuple[str, int, int]:
    """Return a line fit for a terminal, and where in it the carets start and how many."""
    # One blank for a tab or a control character keeps the carets below what they mark.
    text = "".join(c if c.isprintable() else " " for c in text)
    first = 0
    if len(text) > MAX_SHOWN:
        first = max(0, start - MAX_SHOWN // 2)
        head, tail = "..." if first else "", "..." if first + MAX_SHOWN < len(text) else ""
        text = head + text[first : first + MAX_SHOWN] + tail
        width = min(width, first + MAX_SHOWN - start)
        first -= len(head)
    return text, start - first, max(1, width)


class SourceError(ValueError):
    """Bad input, with every `Problem` found (at most ten are kept and shown)."""

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem] | Problem | str) -> None:
        """Take the problems found; a bare string is a problem without a place."""
        if isinstance(problems, str):
            problems = Problem(Source("input"), problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        found = tuple(problems)
        self.problems = found[:MAX_PROBLEMS]
        more = len(found) - len(self.problems)
        tail = [f"... and {more} more"] if more > 0 else []
        super().__init__("\n".join([str(problem) for problem in self.problems] + tail))


class CascadeError(SourceError):
    """A cascade, a workload or the arrays given to it are not legal."""


def closest(word: str, legal: Iterable[str]) -> str | None:
    """Return the legal word nearest to `word`, or None if nothing is near.

    Rank and tensor names are often two letters long, where difflib's usual cutoff finds
    nothing: the cutoff is lower for short words, and a change of case always counts as near.
    """
    choices = list(dict.fromkeys(legal))
    # Letters taken for digits: MO is M0, and Ml is M1.
    alike = str.maketrans("oil", "011")
    for choice in choices:
        if choice.lower().translate(alike) == word.lower().translate(alike):
            return choice
    found = difflib.get_close_matches(word, choices, n=1, cutoff=0.5 if len(word) <= 4 else 0.6)
    return found[0] if found else None


def legal_words(word: str, legal: Iterable[str], what: str) -> str:
    """Write the hint "known `what`: ...; did you mean ...?" for an unknown word."""
    choices = list(dict.fromkeys(legal))
    shown = ", ".join(choices[:MAX_CHOICES]) + (", ..." if len(choices) > MAX_CHOICES else "")
    near = closest(word, choices)
    return f"{what}: {shown or 'none'}" + (f"; did you mean '{near}'?" if near else "")
