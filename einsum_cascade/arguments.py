"""The arguments of an evaluation: arrays, sizes and parameters, checked and understood.

Interpreter and compiled cascades take the same arguments and refuse the same ones, so they read
them here. How arrays become tensors is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.array_shapes import batch_shape, extents_of, readings
from einsum_cascade.cascade import Cascade
from einsum_cascade.errors import CascadeError, Problem, Source, closest, legal_words

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Arguments:
    """What one evaluation is given."""

    # By input, as given.
    arrays: Mapping[str, Array]
    # By input: how many leading axes are batch axes, and whether split ranks are given split.
    batch_axes: Mapping[str, int]
    is_split: Mapping[str, bool]
    # Extent of every rank, and a value for every parameter.
    extents: Mapping[str, int]
    parameters: Mapping[str, float]
    batch: tuple[int, ...]


# By shapes of inputs and by sizes: batch axes, split inputs, extents.
Readings = dict[Any, tuple[dict[str, int], dict[str, bool], dict[str, int]]]


def read_arguments(
    cascade: Cascade,
    sizes: Mapping[str, int] | None,
    arrays: Mapping[str, Any],
    known: Readings | None = None,
) -> Arguments:
    """Check the arguments of an evaluation; CascadeError says what is missing or disagrees.

    Args:
        cascade: what is evaluated.
        sizes: extents that no array shows.
        arrays: inputs and parameters by name.
        known: what shapes and sizes meant in earlier calls; this call's are added.
    """
    parameters = dict(cascade.parameters)
    free = [name for name, value in parameters.items() if value is None]
    _check_names(cascade, free, parameters, arrays)
    values: dict[str, float] = {}
    for name, value in parameters.items():
        number = _numbers(name, arrays.get(name, value))
        if number.ndim:
            raise CascadeError(f"{name} is one number, not an array of shape {number.shape}")
        values[name] = float(number)
    given = {name: _numbers(name, arrays[name]) for name in cascade.inputs}
    sizes = sizes or {}
    key = tuple(array.shape for array in given.values()), repr(dict(sizes))
    known = {} if known is None else known
    if key not in known:
        batch_axes, is_split = readings(cascade, given, sizes)
        known[key] = batch_axes, is_split, extents_of(cascade, given, is_split, sizes)
    batch_axes, is_split, extents = known[key]
    return Arguments(given, batch_axes, is_split, extents, values, batch_shape(given, batch_axes))


def _numbers(name: str, value: Any) -> Array:
    """Read an argument as an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise CascadeError(f"{name} is no array: its rows have different lengths") from None
    if array.dtype.kind not in "biuf":
        raise CascadeError(f"{name} has dtype {array.dtype}; real numbers are needed")
    return array


def _check_names(
    cascade: Cascade,
    free: list[str],
    parameters: Mapping[str, float | None],
    arrays: Mapping[str, Any],
) -> None:
    legal = [*cascade.inputs, *parameters]
    unknown = [name for name in arrays if name not in legal]
    missing = [name for name in [*cascade.inputs, *free] if name not in arrays]
    found = [
        f"{cascade.name} has no input '{name}'; {legal_words(name, legal, 'inputs and parameters')}"
        for name in unknown
    ]
    if missing:
        near = closest(missing[0], arrays)
        also = f"; you gave '{near}'" if near else ""
        found.append(f"{cascade.name} needs {', '.join(missing)}{also}")
    if found:
        raise CascadeError(Problem(Source("input"), message) for message in found)
