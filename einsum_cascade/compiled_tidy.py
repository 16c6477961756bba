"""Generated text made short, since numba takes milliseconds for each operation that it sees.

Whoever writes loops writes what may be needed; here goes what was not, and integers that are
computed from known ones are summed up.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable

# Summands: how often each product of factors occurs.
_Sum = dict[tuple[str, ...], int]
_ASSIGNED = re.compile(r"(\s*)(\w+) = ")


def without_unused(lines: list[str]) -> list[str]:
    """Lines without assignments to names that are read nowhere; their right sides do nothing."""
    while True:
        words = Counter(word for line in lines for word in re.findall(r"\w+", line))
        assigned = [_ASSIGNED.match(line) for line in lines]
        words.subtract(match[2] for match in assigned if match)
        kept = [
            line
            for i, (line, match) in enumerate(zip(lines, assigned, strict=True))
            if match is None or words[match[2]] > 0 or _is_alone(lines, i)
        ]
        if len(kept) == len(lines):
            return kept
        lines = kept


def _is_alone(lines: list[str], i: int) -> bool:
    """True if a line is all that is inside of a block, so that it has to stay."""
    own = _depth(lines[i])
    is_first = i > 0 and _depth(lines[i - 1]) < own
    return is_first and (i + 1 == len(lines) or _depth(lines[i + 1]) < own)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def summed(text: str) -> str:
    """Text of an integer with its products and sums of known numbers computed.

    Example:
        >>> summed("((0)*n_J + (1 + v_g))*n_E + 2 - (v_g*n_E + 0)")
        'n_E + 2'
    """
    terms = []
    for factors, count in _terms(ast.parse(text, mode="eval").body).items():
        if count:
            own = list(factors) if abs(count) == 1 and factors else [str(abs(count)), *factors]
            terms.append(("- " if count < 0 else "+ ") + "*".join(own))
    return " ".join(terms).removeprefix("+ ") or "0"


def _terms(node: ast.expr) -> _Sum:
    match node:
        case ast.Constant(value=int() as value):
            return {(): value}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return {factors: -count for factors, count in _terms(operand).items()}
        case ast.BinOp(op=ast.Add() | ast.Sub() as op, left=left, right=right):
            sign = 1 if isinstance(op, ast.Add) else -1
            found = Counter(_terms(left))
            for factors, count in _terms(right).items():
                found[factors] += sign * count
            return dict(found)
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            found = Counter[tuple[str, ...]]()
            for factors, count in _terms(left).items():
                for others, times in _terms(right).items():
                    found[tuple(sorted((*factors, *others)))] += count * times
            return dict(found)
        case ast.Name() | ast.Subscript() | ast.Call():
            return {(ast.unparse(node),): 1}
    return {(f"({ast.unparse(node)})",): 1}


def moved_bits(name: str, moves: Iterable[tuple[int, int]]) -> list[str]:
    """Texts whose union is a word with bits of another one in other places, pairs of from and to.

    Example:
        >>> moved_bits("c", [(0, 0), (1, 1), (2, 0)])
        ['(c & 3)', '((c & 4) >> 2)']
    """
    masks: dict[int, int] = {}
    for source, to in moves:
        masks[to - source] = masks.get(to - source, 0) | 1 << source
    parts = []
    for shift, mask in masks.items():
        kept = f"({name} & {mask})"
        parts.append(kept if not shift else f"({kept} {'<<' if shift > 0 else '>>'} {abs(shift)})")
    return parts
