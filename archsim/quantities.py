"""Quantities with units, as people write them: `16 MiB`, `400 GiB/s`, `940 MHz`.

KiB, MiB, GiB are powers of 1024, kB, MB, GB powers of 1000. A bare number where a unit is due is an
error, so that a bit cannot pass for a byte.
"""

from __future__ import annotations

import re
from fractions import Fraction

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# Units by dimension; everything is converted to the first one named in the comment.
UNITS: dict[str, dict[str, int]] = {
    "bytes": _BYTES,
    "bytes/s": {f"{unit}/s": factor for unit, factor in _BYTES.items()},
    "bits": {"bit": 1, "bits": 1, "B": 8},
    "hertz": {"Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9},
    "nanoseconds": {"ns": 1, "us": 10**3, "ms": 10**6},
    "picojoules": {"pJ": 1, "nJ": 10**3, "uJ": 10**6},
    "square micrometres": {"um2": 1, "mm2": 10**6},
}
_NUMBER, _UNIT = r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)", r"[A-Za-z/]+[0-9]?"
_FORM = re.compile(rf"{_NUMBER}\s*({_UNIT})\Z")


def parse_quantity(text: object, dimension: str) -> int:
    """Return a quantity as a whole number of the dimension's base unit; see `parse_exact`.

    Raises:
        ValueError: as `parse_exact`, or it is not a whole number of base units.

    Example:
        >>> parse_quantity("16 MiB", "bytes")
        16777216
    """
    amount = parse_exact(text, dimension)
    if amount.denominator != 1:
        raise ValueError(f"{text} is not a whole number of {dimension}")
    return int(amount)


def parse_exact(text: object, dimension: str) -> Fraction:
    """Return a quantity in the dimension's base unit, exactly.

    Args:
        text: what the user wrote, such as "16 MiB".
        dimension: a key of UNITS.

    Raises:
        ValueError: no unit, or a unit of another dimension.
    """
    units = UNITS[dimension]
    legal = ", ".join(units)
    example = next(iter(units))
    if not isinstance(text, str):
        raise ValueError(f"a unit is due here ({legal}): write for example '{text} {example}'")
    found = _FORM.match(text.strip())
    if found is None:
        raise ValueError(f"not a number with a unit; legal units: {legal}")
    number, unit = found.groups()
    if unit not in units:
        same = [known for known in units if known.lower() == unit.lower()]
        hint = f"; did you mean '{same[0]}'?" if same else ""
        raise ValueError(f"unknown unit '{unit}'; legal units: {legal}{hint}")
    return Fraction(number) * units[unit]


def split_quantity(text: str) -> tuple[Fraction, str] | None:
    """The number and the unit of a quantity, "" for a bare number; None if it is neither."""
    found = re.fullmatch(rf"{_NUMBER}\s*({_UNIT})?", text.strip())
    return (Fraction(found[1]), found[2] or "") if found else None


def show_bytes(amount: float, digits: int = 4) -> str:
    """Write a number of bytes for people: `16 MiB`."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= factor:
            return f"{amount / factor:.{digits}g} {unit}"
    return f"{amount:.{digits}g} B"


def show_seconds(seconds: float) -> str:
    """Write a duration for people: `214.2 ms`."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= factor:
            return f"{seconds / factor:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns"
