"""A phase of a mapping as a cascade and a mapping of their own.

What a phase reads of earlier ones is an input, and what later ones read of it an output: between
phases, tensors lie in the outer memory. A phase has the mapping's partition, loops, buffer and
order, as far as they speak of its Einsums, unless it gives its own.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.errors import ArchError
from archsim.issue import Body
from archsim.mapping import Layout, Mapping
from einsum_cascade.cascade import Cascade, Tensor
from einsum_cascade.errors import Problem

# Keys of a mapping file by field of `Layout`.
_KEYS = {
    "partitions": "partition",
    "tiles": "tiles",
    "loops": "loops",
    "held": "buffer",
    "double_buffered": "double_buffered",
    "order": "order",
    "drain": "drain",
}


def phase_of(cascade: Cascade, mapping: Mapping, number: int) -> tuple[Cascade, Mapping]:
    """Return the cascade and the mapping of one phase.

    Raises:
        ArchError: a recurrence would be carried on from one phase to the next.
    """
    part = _cascade(cascade, mapping, number)
    layout = mapping.layouts[number] if mapping.layouts else Layout()
    own = {key: value for key in _KEYS if (value := getattr(layout, key)) is not None}
    names = {einsum.name for einsum in part.einsums}
    tensors = {tensor.name for tensor in part.tensors}
    ranks = set(part.ranks)
    partitions = tuple((rank, parts) for rank, parts in mapping.partitions if rank in ranks)
    on_arrays = {name for name, where in mapping.placements if where.array and name in names}
    known = {v for v, _ in part.variables}
    split = (*own.get("partitions", partitions), *part.splits)
    known |= {leaf.lower() for rank, leaves in split if rank in ranks for leaf in leaves}
    inherited = {
        "partitions": partitions,
        "loops": tuple(loop for loop in mapping.loops if loop in known),
        "held": tuple((name, held) for name, held in mapping.held if name in tensors),
        "double_buffered": tuple(name for name in mapping.double_buffered if name in tensors),
        "order": tuple(_issued(body, on_arrays, tensors) for body in mapping.order),
    }
    return part, replace(
        mapping,
        placements=tuple(entry for entry in mapping.placements if entry[0] in names),
        passing=tuple(name for name in mapping.passing if name in tensors),
        forwarded=tuple(
            (name, tuple(reader for reader in readers if reader in names))
            for name, readers in mapping.forwarded
            if name in tensors
        ),
        spilled=tuple(entry for entry in mapping.spilled if entry[0] in names),
        refetch=tuple(entry for entry in mapping.refetch if entry[0] in tensors),
        phases=(),
        layouts=(),
        published=None,
        cascade=None,
        moved=tuple((_KEYS[field], ("phases", number)) for field in own),
        **(inherited | own),
    )


def _cascade(cascade: Cascade, mapping: Mapping, number: int) -> Cascade:
    """The Einsums of a phase, with the tensors at its ends as inputs and outputs."""
    names = set(mapping.phases[number])
    einsums = tuple(einsum for einsum in cascade.einsums if einsum.name in names)
    rest = [einsum for einsum in cascade.einsums if einsum.name not in names]
    wanted = {read.tensor for einsum in rest for read in einsum.reads}
    used = {einsum.name for einsum in einsums} | {r.tensor for e in einsums for r in e.reads}
    tensors: list[Tensor] = []
    for tensor in cascade.tensors:
        if tensor.name not in used:
            continue
        is_made = tensor.name in names
        leaves = is_made and (tensor.role == "output" or tensor.name in wanted)
        crosses = (leaves and tensor.role != "output") or (not is_made and tensor.role != "input")
        if crosses and tensor.is_state:
            step = cascade.defining(tensor.name)[-1]
            what = f"{tensor.name} is carried on from step to step, and other phases read it"
            shown = " " * step.line.indent + step.line.text
            raise ArchError(
                Problem(
                    step.source,
                    what,
                    shown,
                    len(step.line.text),
                    "let an Einsum of the same phase take its last value: "
                    f"L{tensor.name}[...] = {tensor.name}[...]",
                )
            )
        role = "input" if not is_made else "output" if leaves else "intermediate"
        tensors.append(replace(tensor, role=role))
    variables = {v for einsum in einsums for v in einsum.variables}
    ranks = {cascade.rank_of(v) for v in variables}
    ranks |= {dim.rank for tensor in tensors for dim in tensor.dims if dim.rank}
    return replace(
        cascade,
        name=f"{cascade.name}.{number + 1}",
        einsums=einsums,
        tensors=tuple(tensors),
        variables=tuple(entry for entry in cascade.variables if entry[0] in variables),
        splits=tuple((whole, parts) for whole, parts in cascade.splits if ranks & {whole, *parts}),
        declared_inputs=(),
        declared_outputs=tuple(tensor.name for tensor in tensors if tensor.role == "output"),
    )


def _issued(body: Body, made: set[str], tensors: set[str]) -> Body:
    """The entries of an order that speak of a phase.

    A tensor is loaded where it is read and no array makes it; anything else belongs to its Einsum.
    """

    def is_here(task: str) -> bool:
        base, _, suffix = task.partition("+")[0].partition(".")
        return base in tensors - made if suffix == "load" else base in made

    entries = (tuple(item for item in entry if is_here(item.task)) for entry in body.entries)
    return Body(body.unit, tuple(entry for entry in entries if entry))


__all__ = ["phase_of"]
