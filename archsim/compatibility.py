"""Does a mapping fit a cascade and the arrays of an architecture? Every mistake, at its place."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from archsim.arch import Array
from archsim.filters import HINT, refusal
from archsim.mapping import Mapping
from archsim.operator_counts import operators
from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.errors import Problem, legal_words
from einsum_cascade.expressions import Apply, Select, accesses, to_text, walk

# Operators of indices whose reads of a tile lie side by side, or evenly spaced.
AFFINE = ("add", "sub", "mul", "neg")


def misfits(
    cascade: Cascade, chip: str, arrays: tuple[Array, ...], mapping: Mapping
) -> Iterator[Problem]:
    """Everything about the names in a mapping that does not fit a cascade and a chip's arrays."""
    by_name = {array.name: array for array in reversed(arrays)}
    defined = [einsum.name for einsum in cascade.einsums if not einsum.is_initial]
    placed = dict(mapping.placements)
    variables = {v for v, _ in cascade.variables} | {part.lower() for part in mapping.parts}
    yield from _refusals(cascade)
    missing = [name for name in dict.fromkeys(defined) if name not in placed]
    if missing:
        yield mapping.problem(
            ("placement",),
            f"{mapping.name} does not place {', '.join(missing)} of {cascade.name}",
            f"add to placement: {missing[0]}: {{array: {arrays[0].name}, ...}}",
        )
    for name, where in mapping.placements:
        at = ("placement", name)
        if name not in defined:
            hint = legal_words(name, defined, f"Einsums of {cascade.name}")
            yield mapping.problem(at, f"{cascade.name} has no Einsum {name} to place", hint)
            continue
        if where.array is None:
            continue
        array = by_name.get(where.array)
        if array is None:
            known = [array.name for array in arrays]
            hint = legal_words(where.array, known, f"arrays of {chip}")
            yield mapping.problem((*at, "array"), f"unknown array '{where.array}'", hint)
            continue
        if array.count != 1:
            what = f"{chip} has {array.count} of {array.name}; only one can be used"
            yield mapping.problem((*at, "array"), what, "set its count to 1")
        for axis, names in where.axes:
            if axis not in dict(array.axes):
                hint = legal_words(axis, dict(array.axes), f"axes of {array.name}")
                yield mapping.problem((*at, axis), f"{array.name} has no {axis}", hint)
            for variable in names:
                if variable not in variables:
                    hint = legal_words(variable, sorted(variables), "variables")
                    yield mapping.problem((*at, axis), f"unknown variable '{variable}'", hint)
        for einsum in cascade.defining(name):
            for operator in operators(einsum, array):
                if array.cost(operator) is None:
                    known = [row.operator for row in array.operators]
                    hint = legal_words(operator, known, f"operators of {array.name}")
                    what = f"{array.name} of {chip} cannot compute {operator}, "
                    yield mapping.problem(at, what + f"which {einsum} needs", hint)
    listed = [name for phase in mapping.phases for name in phase]
    for name in (*defined, *listed) if mapping.phases else ():
        if listed.count(name) != 1 or name not in defined:
            yield mapping.problem(("phases",), f"every Einsum is in one phase, not so {name}")
    for loop in mapping.loops:
        if loop not in variables:
            hint = legal_words(loop, sorted(variables), "variables")
            yield mapping.problem(("loops",), f"unknown variable '{loop}' in the loops", hint)
    tensors = [tensor.name for tensor in cascade.tensors]
    listed_tensors = [("passing", name) for name in mapping.passing]
    listed_tensors += [("double_buffered", name) for name in mapping.double_buffered]
    for key, entries in (
        ("buffer", mapping.held),
        ("spilled", mapping.spilled),
        ("forwarded", mapping.forwarded),
    ):
        listed_tensors += [(key, tensor) for tensor, _ in entries]
    for key, tensor in listed_tensors:
        if tensor not in tensors:
            hint = legal_words(tensor, tensors, f"tensors of {cascade.name}")
            yield mapping.problem((key, tensor), f"unknown tensor '{tensor}'", hint)
    for tensor, readers in mapping.forwarded:
        for reader in readers:
            if reader not in defined:
                hint = legal_words(reader, defined, f"Einsums of {cascade.name}")
                at = ("forwarded", tensor)
                yield mapping.problem(at, f"no Einsum '{reader}' to forward {tensor} to", hint)


@lru_cache(maxsize=64)
def _refusals(cascade: Cascade) -> tuple[Problem, ...]:
    """What in a cascade has no model of its cost; one cascade is usually placed many times."""
    problems = []
    for einsum in cascade.einsums:
        refused = _refused(cascade, einsum)
        if refused:
            text = einsum.line.text
            what, hint = refused
            message = f"{einsum.name} {what}"
            shown = " " * einsum.line.indent + text
            problems.append(Problem(einsum.source, message, shown, len(text), hint))
    return tuple(problems)


def _refused(cascade: Cascade, einsum: Einsum) -> tuple[str, str] | None:
    """What in an Einsum has no model of its cost, and what to do about it; None if all has."""
    indices = [index for read in einsum.reads for index in read.indices]
    visits = "how many of its points a mapping visits is not modelled"
    reason = refusal(einsum)
    if reason is not None:
        return f"has a filter that can't be placed: {reason}", HINT
    if any(accesses(index) for index in indices):
        return f"gathers: {visits}", "place a cascade without filters and gathers"
    if any(isinstance(node, Select) for node in walk(einsum.map)):
        what = "chooses with where(...), which no array has an operator for"
        return what, "place a cascade without where(...)"
    for whole, parts in cascade.concatenations:
        if {cascade.rank_of(variable) for variable in einsum.variables} & {whole, *parts}:
            what = f"ranges over {whole} = {' + '.join(parts)}: tiles of such a rank have no model"
            return what, "place a cascade without concatenated ranks"
    for index in indices:
        steps = (n for n in walk(index) if isinstance(n, Apply) and n.operator not in AFFINE)
        if any(variables_in(step) for step in steps):
            what = f"reads at {to_text(index)}: which words a tile needs of it is not modelled"
            return what, "place a cascade whose indices only add, subtract and multiply"
    return None
