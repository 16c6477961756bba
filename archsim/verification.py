"""Cascades against PyTorch: every engine, dtype and family of inputs.

**Tolerance.** A formula with condition number c, computed with n roundings of at most u (half a
unit in the last place, relative), may be off by c n u, and by about c sqrt(n) u where errors have
either sign (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019). The latter is allowed. None of the
three is fitted: u is the format's; n is counted in the cascade at the sizes of the case, every
operator and every term of a sum once, exp and its like twice; c comes from PyTorch
(`torch_oracle`), or is 1 if that is more. In float64, 1e-12 is allowed in any case. bf16 means
hardware numbers (docs/numbers.md), words of 8 bits and sums of 24: two terms. Where more than 1/2
would be allowed, any result would pass; the case is left out for that dtype and says so.

**Error.** The largest difference over the largest |reference|, for each output. A result that is
not finite where the reference is fails.

Only forward computations are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.references import ORACLES, Oracle
from archsim.verification_inputs import FAMILIES, Case, cases
from einsum_cascade.array_shapes import extents_of, readings
from einsum_cascade.cascade import Cascade, Einsum
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import Apply, walk
from einsum_cascade.hardware_numbers import is_contraction, numbers_of
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, Plan, plan

Array = NDArray[Any]
# Unit roundoff and significant bits.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bf16": 2.0**-8}
BITS = {"float64": 53, "float32": 24, "bf16": 8}
LEAST = {"float64": 1e-12}
# Exponent of the least normal number, by significant bits.
LEAST_EXPONENT = {53: -1022, 24: -126, 8: -126}
USELESS = 0.5
# Operators that round nothing, and those whose result may be off by a whole unit.
EXACT = {"neg", "abs", "min", "max", "clamp", "relu", "step", "floordiv"}
COARSE = {"exp", "log", "tanh", "sigmoid", "phi", "cos", "sin", "pow"}


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to compute a cascade in a dtype."""

    name: str
    dtype: str
    prepare: Callable[[Cascade], Callable[..., dict[str, Array]]]


def _naive(**numbers: Any) -> Callable[[Cascade], Callable[..., dict[str, Array]]]:
    def prepare(cascade: Cascade) -> Callable[..., dict[str, Array]]:
        from einsum_cascade.interpreter import evaluate

        return lambda **arrays: evaluate(cascade, **numbers, **arrays)

    return prepare


def _compiled(**numbers: Any) -> Callable[[Cascade], Callable[..., dict[str, Array]]]:
    def prepare(cascade: Cascade) -> Callable[..., dict[str, Array]]:
        from einsum_cascade.compiled import compile_

        return compile_(cascade, **numbers)

    return prepare


ENGINES = (
    Engine("naive", "float64", _naive()),
    Engine("compiled", "float64", _compiled(dtype="float64")),
    Engine("compiled", "float32", _compiled(dtype="float32")),
    Engine("naive", "bf16", _naive(format="bf16")),
    Engine("compiled", "bf16", _compiled(format="bf16")),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One engine on one case. `max_error` is infinite if a result is not finite."""

    inputs: str
    engine: str
    max_error: float
    tolerance: float
    # The largest error of an element in units of its own last place.
    ulp: float
    condition: float
    # What PyTorch itself is off by in this dtype; None where it was not asked.
    torch_error: float | None

    @property
    def passed(self) -> bool:
        """True if the error is one that rounding may make."""
        return self.max_error <= self.tolerance


@dataclass(frozen=True, slots=True)
class Row:
    """A cascade in a dtype: its comparisons, and the families of inputs that were left out."""

    cascade: str
    dtype: str
    reference: str
    comparisons: tuple[Comparison, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True if all comparisons did, and there was one."""
        return bool(self.comparisons) and all(one.passed for one in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison that comes closest to its tolerance, or exceeds it most."""
        return max(self.comparisons, key=lambda c: c.max_error / c.tolerance, default=None)


def verify(
    cascade: Cascade, oracle: Oracle | None = None, engines: tuple[Engine, ...] = ENGINES
) -> Iterator[Row]:
    """Compare a cascade with its PyTorch reference: one row for each dtype.

    Args:
        cascade: a shipped cascade, or one with the inputs and outputs of `oracle`.
        oracle: the reference; by default that of the shipped cascade of this name.
        engines: what computes it; each belongs to a dtype.

    Raises:
        CascadeError: there is no reference; PyTorch is not installed.
    """
    oracle = ORACLES.get(cascade.name) if oracle is None else oracle
    if oracle is None:
        raise CascadeError(f"{cascade.name} has no reference in PyTorch")
    judged = [_judged(cascade, oracle, case) for case in cases(cascade, oracle)]
    for dtype in ROUNDOFF:
        chosen = [(e.name, e.prepare(cascade)) for e in engines if e.dtype == dtype]
        if chosen:
            yield _row(cascade, oracle, dtype, chosen, judged)


def alone(cascade: Cascade) -> Iterator[Row]:
    """Compare a cascade that has no reference: compiled against interpreted, in float64 each.

    That says that the two engines agree, and nothing about what the cascade ought to compute.

    Raises:
        CascadeError: the cascade does not take arrays of the sizes that are tried.
    """
    oracle = Oracle("", "none: interpreted against compiled", parameters=_open(cascade))
    naive = _naive()(cascade)
    judged, excluded = [], {}
    for case in cases(cascade, oracle):
        expected = naive(sizes=case.sizes, **case.arrays, **case.parameters)
        if all(np.isfinite(values).all() for values in expected.values()):
            judged.append(_Judged(case, expected, 0.0, {"float64": {}}))
        else:
            excluded[case.family] = "the interpreter's result is not finite"
    engines = [("compiled", _compiled(dtype="float64")(cascade))]
    yield _row(cascade, replace(oracle, excluded=excluded), "float64", engines, judged)


def _open(cascade: Cascade) -> dict[str, float]:
    return {name: 0.5 for name, value in cascade.parameters if value is None}


@dataclass(frozen=True, slots=True)
class _Judged:
    """A case with its reference result, condition number and count of roundings."""

    case: Case
    expected: Mapping[str, Array]
    condition: float
    # Roundings to a word of the dtype; where that is bf16, also those of its fp32 sums.
    roundings: Mapping[str, dict[float, int]]

    def tolerance(self, dtype: str) -> float:
        counts = self.roundings[dtype].items()
        error = sum((math.sqrt(count) * unit for unit, count in counts), 0.0)
        # The last roundings are of the result itself, however little the inputs move it.
        return max(max(1.0, self.condition) * error, LEAST.get(dtype, 0.0))


def _judged(cascade: Cascade, oracle: Oracle, case: Case) -> _Judged:
    from archsim.torch_oracle import condition, reference

    expected = reference(cascade, oracle, case)
    extents = _extents(cascade, case)
    counts = {
        dtype: {unit: roundings(cascade, extents)}
        for dtype, unit in ROUNDOFF.items()
        if dtype != "bf16"
    }
    counts["bf16"] = {
        ROUNDOFF["bf16"]: word_roundings(cascade, extents),
        ROUNDOFF["float32"]: roundings(cascade, extents),
    }
    return _Judged(case, expected, condition(cascade, oracle, case), counts)


def _extents(cascade: Cascade, case: Case) -> dict[str, int]:
    one = {name: a[0] if case.grouped else a for name, a in case.arrays.items()}
    given = {name: np.asarray(array) for name, array in one.items()}
    _, forms = readings(cascade, given, case.sizes)
    return extents_of(cascade, given, forms, case.sizes)


def roundings(cascade: Cascade, extents: Mapping[str, int]) -> int:
    """Count the roundings that one element of the result may have gone through.

    All Einsums are counted, each for one element: its operators and the terms of its sum, once for
    each step of a recurrence. Those on one path are fewer.
    """

    def count(einsum: Einsum) -> int:
        terms = 1
        if einsum.op is not None and REDUCTIONS[einsum.op].combine in ("add", "mul"):
            terms = math.prod(extents[cascade.rank_of(variable)] for variable in einsum.over)
        return _operators(einsum) + max(0, terms - 1)

    return max(1, _count(plan(cascade.einsums, dict(cascade.variables)), extents, count))


def word_roundings(cascade: Cascade, extents: Mapping[str, int]) -> int:
    """Count the roundings to bf16 among them, in hardware numbers; sums are fp32 there.

    A word rounds once, a bf16 multiplier the operands that are no words yet, and what is computed
    with bf16 multipliers outside of contractions counts as if each operator rounded.
    """
    numbers = numbers_of(cascade, "bf16")
    words = numbers.words | set(cascade.inputs)

    def count(einsum: Einsum) -> int:
        if is_contraction(einsum):
            return sum(access.tensor not in words for access in einsum.reads)
        own = einsum.name in numbers.words
        return own + (_operators(einsum) if own and einsum.name not in numbers.loaded else 0)

    return max(1, _count(plan(cascade.einsums, dict(cascade.variables)), extents, count))


def _operators(einsum: Einsum) -> int:
    """Roundings of a map: one for each operator, two for those that may miss by a whole unit."""
    names = [node.operator for node in walk(einsum.map) if isinstance(node, Apply)]
    return sum(2 if name in COARSE else 1 for name in names if name not in EXACT)


def _count(steps: Plan, extents: Mapping[str, int], count: Callable[[Einsum], int]) -> int:
    """Sum over Einsums, once for each step of a recurrence."""
    return sum(
        max(1, extents[step.rank]) * _count(step.body, extents, count)
        if isinstance(step, Loop)
        else count(step)
        for step in steps
    )


def _row(
    cascade: Cascade,
    oracle: Oracle,
    dtype: str,
    engines: list[tuple[str, Callable[..., dict[str, Array]]]],
    judged: list[_Judged],
) -> Row:
    found, excluded = [], dict(oracle.excluded)
    if dtype != "float64":
        excluded |= oracle.narrow
    for one in judged:
        if one.case.family in excluded:
            continue
        tolerance = one.tolerance(dtype)
        if tolerance > USELESS:
            excluded[one.case.family] = (
                f"condition number {one.condition:.0f}: roundings of {dtype} may move the result "
                f"by {tolerance:.1g} of itself"
            )
            continue
        for name, run in engines:
            result = run(sizes=one.case.sizes, **one.case.arrays, **one.case.parameters)
            found.append(_compared(cascade, oracle, one, name, dtype, result))
    order = list(FAMILIES)
    ordered = dict(sorted(excluded.items(), key=lambda item: order.index(item[0])))
    return Row(cascade.name, dtype, oracle.words, tuple(found), ordered)


def _compared(
    cascade: Cascade,
    oracle: Oracle,
    judged: _Judged,
    engine: str,
    dtype: str,
    result: Mapping[str, Array],
) -> Comparison:
    pairs = [(result[name], right) for name, right in judged.expected.items()]
    return Comparison(
        judged.case.family,
        engine,
        max(relative_error(ours, right) for ours, right in pairs),
        judged.tolerance(dtype),
        max(ulps(ours, right, BITS[dtype]) for ours, right in pairs),
        judged.condition,
        _their_error(cascade, oracle, judged, dtype),
    )


def _their_error(cascade: Cascade, oracle: Oracle, judged: _Judged, dtype: str) -> float | None:
    """What PyTorch's own result in a dtype is off by; None if it has none."""
    from archsim.torch_oracle import reference

    if dtype == "float64":
        return None
    try:
        own = reference(cascade, oracle, judged.case, dtype)
    except NotImplementedError:
        # Some of its operators know no bf16.
        return None
    error = max(relative_error(own[name], right) for name, right in judged.expected.items())
    return error if math.isfinite(error) else None


def relative_error(found: Array, expected: Array) -> float:
    """Largest difference over the largest |expected|; infinite if shapes or finiteness differ."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    if not expected.size:
        return 0.0
    largest = float(np.abs(expected).max())
    return float(np.abs(found.astype(np.float64) - expected).max()) / (largest or 1.0)


def ulps(found: Array, expected: Array, bits: int) -> float:
    """Largest error of an element in units in the last place of that element.

    An element that cancels to almost nothing has small units, so this may be large where
    `relative_error` is small; zeros are measured in units of the smallest element that is not.
    """
    if found.shape != expected.shape or not np.isfinite(found).all() or not expected.size:
        return 0.0
    sizes = np.abs(expected)
    floor = sizes[sizes > 0].min(initial=np.inf)
    if not np.isfinite(floor):
        return 0.0
    exponents = np.maximum(np.floor(np.log2(np.maximum(sizes, floor))), LEAST_EXPONENT[bits])
    unit = 2.0 ** np.maximum(exponents - (bits - 1), -1074)
    return float((np.abs(found.astype(np.float64) - expected) / unit).max())
