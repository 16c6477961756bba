"""What a Program with a table of blocks must compute: the cascade, line by line, under its masks.

Nothing is shared with the simulators but the table: each line is evaluated by the naive interpreter
on the keys of its blocks, with the mask as one more input of the cascade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.blocks import FULL
from archsim.elements import batch
from archsim.program import Program
from einsum_cascade.cascade import Cascade
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

Array = NDArray[np.float64]


def block_values(program: Program, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a cascade under a table of blocks.

    Args:
        program: a Program with a table.
        inputs: arrays of keys in the order of blocks, those of queries in the order of lines.
    """
    blocks = program.blocks
    assert blocks is not None
    key_rank, query_rank = (_whole(program, v) for v in (program.rows, program.cols))
    cascade = masked(program.cascade, key_rank, query_rank)
    rows, cols = (program.sizes[v.upper()] for v in (program.rows, program.cols))
    axes = {
        tensor.name: [program.cascade.whole_of(rank) for rank in tensor.ranks if rank]
        for tensor in program.cascade.tensors
    }
    outside = len(batch(program))
    found: dict[str, list[Array]] = {name: [] for name in cascade.outputs}
    for line, length in enumerate(blocks.lengths.tolist()):
        keys = blocks.keys[line, :length]
        given: dict[str, Any] = {}
        for name, array in inputs.items():
            whole = list(dict.fromkeys(axes[name]))
            if key_rank in whole:
                axis = outside + whole.index(key_rank)
                place = (keys[:, None] * rows + np.arange(rows)).ravel()
                array = np.take(array, place, axis=axis)
            if query_rank in whole:
                axis = outside + whole.index(query_rank)
                array = np.take(array, line * cols + np.arange(cols), axis=axis)
            given[name] = array
        masks = [
            np.ones((rows, cols)) if number == FULL else blocks.mask(number)
            for number in blocks.masks[line, :length].tolist()
        ]
        given["MASK"] = np.concatenate(masks).astype(np.float64)
        results = evaluate(cascade, sizes={program.rows.upper(): rows}, **given)
        for name in cascade.outputs:
            found[name].append(results[name])
    return {name: np.concatenate(parts, axis=-1) for name, parts in found.items()}


def masked(cascade: Cascade, keys: str, queries: str) -> Cascade:
    """A cascade whose logits count only where an input MASK is not zero; ranks of its two axes."""
    parts = [part.lower() for part in cascade.parts_of(keys)]
    variables = [*parts, queries.lower()]
    first = next(
        str(e) for e in cascade.einsums if set(variables) <= set(e.variables) and not e.is_initial
    )
    lines = str(cascade).splitlines()
    lines[lines.index(first)] += f" where MASK[{','.join(variables)}] > 0"
    return parse("\n".join(lines), name=f"{cascade.name}, masked")


def _whole(program: Program, variable: str) -> str:
    """The rank of which a variable, in the words of the mapping, runs through a part."""
    part = variable.upper()
    return next((whole for whole, parts in program.partitions if part in parts), part)


__all__ = ["block_values", "masked"]
