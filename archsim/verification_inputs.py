"""Inputs on which cascades are compared with PyTorch: random ones, and those that break kernels.

All numbers are bf16 numbers, so that every dtype starts from the same ones and no rounding of
inputs is mistaken for an error. Large logits are sums of whole numbers over a power of two: they
are exact in float32, and what differs afterwards is not a matter of how they were summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.references import SIZES, Oracle
from einsum_cascade.array_shapes import array_ranks
from einsum_cascade.cascade import Cascade
from einsum_cascade.formats import FORMATS, quantize

Array = NDArray[np.float64]
SEED = 20240610


@dataclass(frozen=True, slots=True)
class Case:
    """Arrays for one evaluation, and the sizes and parameters that go with them."""

    family: str
    arrays: Mapping[str, Array]
    # Sizes that no array shows; sizes of all ranks; values of parameters.
    sizes: Mapping[str, int]
    ranks: Mapping[str, int]
    parameters: Mapping[str, float]
    # True if a first axis counts heads: 4 of queries, 2 of everything else.
    grouped: bool = False


def rounded(values: Any) -> Array:
    """The nearest bf16 numbers."""
    return quantize(values, FORMATS["bf16"])


def _numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rounded(rng.normal(size=shape))


# How an input is made that is no plain number; every maker gets a generator and a shape.
KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "gate": lambda rng, shape: rounded(rng.uniform(0.25, 1.0, shape)),
    "slope": lambda rng, shape: np.full(shape, 0.25),
    "short": lambda rng, shape: rounded(rng.normal(size=shape) / (2 * np.sqrt(shape[-2]))),
    "bias": lambda rng, shape: np.where(
        rng.uniform(size=shape) < 0.2, -np.inf, _numbers(rng, shape)
    ),
    "count": lambda rng, shape: rng.integers(1, 10, shape).astype(float),
    "few": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "fifth": lambda rng, shape: np.broadcast_to((np.arange(shape[-1]) % 5 == 0) * 1.0, shape),
    "others": lambda rng, shape: np.broadcast_to((np.arange(shape[-1]) % 5 == 1) * 1.0, shape),
}
# With E = 16 the root is 4, so that scaling is exact: 16 * 50 * 50/4 = 10,000.
LARGE = 50.0
OUTLIER = 2.0**13


def made(cascade: Cascade, oracle: Oracle, sizes: Mapping[str, int], rng: Any = None) -> Case:
    """Random arrays at the given sizes of ranks; 5 for those that are not given."""
    rng = np.random.default_rng(SEED) if rng is None else rng
    sizes = {**dict.fromkeys(cascade.ranks, 5), **sizes}
    arrays, shown = {}, set()
    for name in cascade.inputs:
        ranks = [rank or "" for rank in array_ranks(cascade, cascade.tensor(name), False)]
        shown.update(ranks)
        shape = tuple(sizes[rank] for rank in ranks)
        make = KINDS[oracle.kinds[name]] if name in oracle.kinds else _numbers
        arrays[name] = np.array(make(rng, shape), ndmin=0)
    known = {rank: sizes[rank] for rank in cascade.ranks if rank in sizes}
    # A rank of which arrays show the whole has its number of tiles from them.
    found = {parts[0] for _, parts in cascade.splits} | shown
    found |= {whole for whole, _ in (*cascade.splits, *cascade.concatenations)}
    hidden = {rank: size for rank, size in known.items() if rank not in found}
    return Case("random", arrays, hidden, known, dict(oracle.parameters))


def _changed(case: Case, family: str, **arrays: Array) -> Case:
    return replace(case, family=family, arrays={**case.arrays, **arrays})


def _like(case: Case, letter: str) -> list[str]:
    """Inputs that are queries (Q) or keys (K; C, the latents of keys)."""
    letters = letter + ("C" if letter == "K" else "")
    return [name for name in case.arrays if name[0] in letters and not name.startswith("GC")]


def sizes_of(oracle: Oracle, **other: int) -> dict[str, int]:
    """Sizes of ranks for a cascade: primes, its own, and others."""
    return {**SIZES, **oracle.sizes, **oracle.fixed, **other}


def _random(cascade: Cascade, oracle: Oracle) -> Case:
    return made(cascade, oracle, sizes_of(oracle))


def _ones(cascade: Cascade, oracle: Oracle) -> Case:
    ones = made(cascade, oracle, {**dict.fromkeys(cascade.ranks, 1), **oracle.fixed})
    return _changed(ones, "ones")


def _strided(cascade: Cascade, oracle: Oracle) -> Case:
    """The random numbers, every second element of arrays that lie the other way round."""
    case = _random(cascade, oracle)
    strided = {}
    for name, array in case.arrays.items():
        room = np.zeros(tuple(2 * size for size in array.shape), order="F")
        every_second: tuple[Any, ...] = (..., *(slice(None, None, 2) for _ in array.shape))
        view = room[every_second]
        view[...] = array
        strided[name] = view
    return _changed(case, "strided", **strided)


def _heads(cascade: Cascade, oracle: Oracle) -> Case:
    """Four heads of queries, two of everything else."""
    rng = np.random.default_rng(SEED)
    each = [made(cascade, oracle, sizes_of(oracle), rng) for _ in range(4)]
    arrays = {
        name: np.stack([one.arrays[name] for one in (each if name == "Q" else each[:2])])
        for name in cascade.inputs
    }
    return replace(each[0], family="heads", arrays=arrays, grouped=True)


def _even(cascade: Cascade, oracle: Oracle) -> Case:
    return made(cascade, oracle, sizes_of(oracle, E=16))


def _large(cascade: Cascade, oracle: Oracle) -> Case:
    """Logits from -10,000 to 10,000, the ends of which are reached."""
    case, rng = _even(cascade, oracle), np.random.default_rng(SEED)
    changed: dict[str, Array] = {}
    for name in (*_like(case, "Q"), *_like(case, "K")):
        array = np.array(rng.integers(-4, 5, case.arrays[name].shape) * (LARGE / 4))
        if array.ndim > 1:
            array[..., 0] = LARGE
            array[..., -1] = -LARGE if name in _like(case, "K") else LARGE
        changed[name] = array
    return _changed(case, "large", **changed)


def _outlier(cascade: Cascade, oracle: Oracle) -> Case:
    """One component of one key is 8,192."""
    case = _even(cascade, oracle)
    changed = {}
    for name in _like(case, "K")[:1]:
        array = case.arrays[name].copy()
        array.reshape(-1)[array.size // 2] = OUTLIER
        changed[name] = array
    return _changed(case, "outlier", **changed)


def _ties(cascade: Cascade, oracle: Oracle) -> Case:
    """All keys are the same, so that all logits of a query are."""
    case = _random(cascade, oracle)
    same = {name: np.full(case.arrays[name].shape, 0.5) for name in _like(case, "K")}
    return _changed(case, "ties", **same)


def _masked(cascade: Cascade, oracle: Oracle) -> Case:
    """Some queries see no key: more queries than keys, windows of nothing, a row of -inf."""
    if "B" in cascade.inputs:
        case = _random(cascade, oracle)
        bias = case.arrays["B"].copy()
        bias[:, 3] = -np.inf
        return _changed(case, "masked", B=bias)
    if "WH" in cascade.inputs:
        case = _random(cascade, oracle)
        nothing = {name: case.arrays[name] * [0.0, 1.0, 1.0] for name in ("WH", "WS")}
        return _changed(case, "masked", **nothing)
    case = made(cascade, oracle, sizes_of(oracle, M=5))
    return _changed(case, "masked")


def _infinite(cascade: Cascade, oracle: Oracle) -> Case:
    """A third of the keys has logits of -inf: one of their components is."""
    case = _random(cascade, oracle)
    changed = {}
    for name in (*_like(case, "Q"), *_like(case, "K")):
        array = case.arrays[name].copy()
        ranks = array_ranks(cascade, cascade.tensor(name), False)
        features = next((rank for rank in ("E", "D") if rank in ranks), None)
        if features is None:
            continue
        first = np.moveaxis(array, ranks.index(features), 0)[0]
        if name.startswith("Q"):
            first[...] = rounded(np.abs(first) + 0.25)
        else:
            first[..., 1::3] = -np.inf
        changed[name] = array
    return _changed(case, "infinite", **changed)


def _empty(cascade: Cascade, oracle: Oracle) -> Case:
    """No keys at all."""
    tokens = "N" if "N" in cascade.ranks and not cascade.concatenations else "M"
    none = {rank: 0 for rank in (tokens, "Y") if rank in cascade.ranks}
    return _changed(made(cascade, oracle, sizes_of(oracle, **none)), "empty")


FAMILIES: dict[str, tuple[str, Callable[[Cascade, Oracle], Case]]] = {
    "random": ("standard normal numbers at prime sizes", _random),
    "ones": ("every rank of length 1", _ones),
    "strided": ("arrays that are not contiguous", _strided),
    "heads": ("4 heads of queries, 2 of everything else", _heads),
    "large": ("logits from -10,000 to 10,000", _large),
    "outlier": ("one component of one key is 8,192", _outlier),
    "ties": ("all keys are equal", _ties),
    "masked": ("queries that see no key", _masked),
    "infinite": ("logits of -inf", _infinite),
    "empty": ("no keys", _empty),
}


def cases(cascade: Cascade, oracle: Oracle) -> Iterator[Case]:
    """Every family that the oracle does not leave out."""
    for name, (_, make) in FAMILIES.items():
        if name not in oracle.excluded:
            yield make(cascade, oracle)
