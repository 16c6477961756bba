"""Which element of a tensor a micro-op means: coordinates of accesses, and arrays to index.

Arrays are taken and given whole: one axis for each whole rank (M, not M1 and M0), the batch axes of
the program's nest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.arithmetic import word
from archsim.base_two import scaled_at_load
from archsim.chain import Chain
from archsim.errors import ArchError
from archsim.program import Program
from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.errors import CascadeError, Problem, Source
from einsum_cascade.expressions import Access, Name, walk
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

Array = NDArray[np.float64]


def coordinates(program: Program, access: Access, at: Mapping[str, Any]) -> tuple[Any, ...]:
    """Coordinates of an access over whole ranks, batch first; `at` gives variables, or vectors."""
    cascade, splits = program.cascade, dict(program.partitions)
    found: list[Any] = [at[loop.variable] for loop in batch(program)]
    last = ""
    for index in access.indices:
        variable = affine(index).variables[0]
        rank = cascade.rank_of(variable)
        if rank in splits:
            value = 0
            for part in splits[rank]:
                value = value * program.sizes[part] + _place(program, part.lower(), at)
            found.append(value)
            last = rank
            continue
        whole = cascade.whole_of(rank)
        if whole != rank and whole == last:
            found[-1] = found[-1] * program.sizes[rank] + at[variable]
        else:
            found.append(_place(program, variable, at))
        last = whole
    return tuple(found)


def _place(program: Program, variable: str, at: Mapping[str, Any]) -> Any:
    """The coordinate of a variable; along a table's line, which block of keys it is."""
    blocks = program.blocks
    if blocks is not None and variable == blocks.inner:
        return blocks.keys[at[blocks.outer], at[blocks.inner]]
    return at[variable]


def _size(program: Program, rank: str) -> int:
    """Extent of a whole rank; of keys in a table, that of its blocks."""
    blocks = program.blocks
    if blocks is not None and blocks.inner.upper() in dict(program.partitions).get(rank, ()):
        return blocks.count * program.sizes[rank] // program.sizes[blocks.inner.upper()]
    return program.sizes[rank]


def put(array: Array, where: tuple[Any, ...], values: Array) -> None:
    """Write words of all columns; a tensor without them takes the first, which equals the rest."""
    array[where] = values if any(np.ndim(index) for index in where) else values[0]


def shape(program: Program, access: Access) -> tuple[int, ...]:
    """Extents of a tensor, batch first; all parts of a rank side by side are one whole axis."""
    cascade = program.cascade
    parts = [cascade.rank_of(affine(index).variables[0]) for index in access.indices]
    found = [loop.count for loop in batch(program)]
    while parts:
        whole = cascade.whole_of(parts[0])
        split = cascade.parts_of(whole)
        count = next((n for n, rank in enumerate(parts) if rank not in split), len(parts))
        axis = parts[: max(1, count)]
        del parts[: len(axis)]
        is_whole = axis[0] == whole or tuple(axis) == split
        found.append(_size(program, whole) if is_whole else prod(program.sizes[r] for r in axis))
    return tuple(found)


def batch(program: Program) -> tuple[Any, ...]:
    """Loops of the nest over batch ranks."""
    return tuple(
        loop
        for loop in program.nest
        if loop.variable in ("b", "h") and loop.variable.upper() not in program.cascade.ranks
    )


def random_inputs(program: Program | Chain, seed: int = 0) -> dict[str, Array]:
    """Standard normal inputs of the right shapes."""
    generator = np.random.default_rng(seed)
    found = {}
    for name in program.placed.cascade.inputs:
        programs = program.programs if isinstance(program, Chain) else (program,)
        reader = next(part for part in programs if name in part.cascade.inputs)
        found[name] = generator.standard_normal(shape(reader, _first_read(reader, name)))
    return found


def edge_arrays(
    program: Program, inputs: Mapping[str, Any], numbers: str = "float64"
) -> dict[str, Array]:
    """Inputs as words, and what is computed of them on their way in, log2(e) included.

    In hardware numbers both are rounded to words, each once.
    """
    found = {
        name: np.asarray(word(array, numbers), dtype=np.float64) for name, array in inputs.items()
    }
    for name in program.cascade.inputs:
        if name not in found:
            raise CascadeError(f"input {name} of {program.cascade.name} is missing")
        expected = shape(program, _first_read(program, name))
        if found[name].shape != expected:
            raise CascadeError(
                f"{name} has shape {found[name].shape}, the program needs {expected}"
            )
    placements = program.placed.mapping.placements
    loads = {name for name, where in placements if where.array is None}
    everything = program.placed.whole or program.placed
    scaled = scaled_at_load(everything) if numbers == "hardware" else ()
    if scaled is None:
        what = "no tensor at load scales every exponent, so exp can't be computed to base 2"
        raise ArchError(Problem(Source(program.name), what))
    einsums = [e for e in program.cascade.einsums if e.name in loads]
    if einsums:
        sub = parse(_text(program, einsums), name="at load")
        given: dict[str, Any] = {name: found[name] for name in sub.inputs}
        sizes = {rank: program.sizes[rank] for rank in _open_ranks(program, sub)}
        made = evaluate(sub, sizes=sizes, **given)
        if numbers == "hardware":
            made = {
                name: word(array * (np.log2(np.e) if name in scaled else 1.0), numbers)
                for name, array in made.items()
            }
        found |= {name: np.asarray(array, dtype=np.float64) for name, array in made.items()}
    return found


def _open_ranks(program: Program, cascade: Cascade) -> Iterator[str]:
    """Ranks of which arrays don't say how long they are: parts of splits, and those named only."""
    parts = {part for _, split in program.cascade.splits for part in split[1:]}
    on_tensors = {rank for tensor in cascade.tensors for rank in tensor.ranks}
    for rank in cascade.ranks:
        if rank in parts or (rank not in on_tensors and cascade.parts_of(rank) == (rank,)):
            yield rank


def _text(program: Program, einsums: list[Einsum]) -> str:
    """The text of some Einsums with the declarations that they need."""
    used = {variable for einsum in einsums for variable in einsum.variables}
    ranks = {program.cascade.rank_of(variable) for variable in used}
    names = {n.name for e in einsums for n in walk(e.map) if isinstance(n, Name)}
    # Sizes of other ranks, as in QK/M.
    sizes = sorted((names & set(program.cascade.ranks)) - ranks)
    lines = [
        line
        for line in str(program.cascade).splitlines()
        if line.startswith("param ")
        or (
            line.startswith(("rank ", "var "))
            and any(
                program.cascade.rank_of(variable)
                in line.replace(",", " ").replace("*", " ").split()
                for variable in used
            )
        )
    ]
    lines += [f"var {rank.lower()} in {rank}" for rank in sizes]
    return "\n".join([*lines, *("output " + e.name for e in einsums[:-1]), *map(str, einsums)])


def _first_read(program: Program, name: str) -> Access:
    for einsum in program.cascade.einsums:
        for read in einsum.reads:
            if read.tensor == name and all(variables_in(index) for index in read.indices):
                return read
    raise CascadeError(f"{name} is never read by plain variables")
