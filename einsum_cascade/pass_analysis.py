"""How often must a tensor be traversed along a rank, for every possible mapping?

A pass over a fiber (all elements along a rank at fixed other coordinates) is one traversal. An
element that must be read again only after all others have been read costs a further pass. This
depends on the cascade alone (FuseMax, MICRO 2024, section III).

The analysis is symbolic: for one root tensor and rank it follows, Einsum by Einsum, in which sweep
each value is known and which positions of the fiber it is tied to (`pass_status`). A map that
touches a position together with a value known only after sweep k visits the fiber in sweep k+1; a
reduction over everything a value is tied to is a barrier, known after the sweep. Values with
coarser resolution, such as one per tile, are kept, not traversed. The pass number of the root is
the last sweep in which an Einsum visits it, and the chain of visits and barriers is the witness.

Decision: recurrences along the analysed rank are prefixes (or suffixes); along a rank that the
root also has, they restrict which coordinates depend on the fiber; along any other rank they are
unrolled, since each step may add passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Tensor, affine
from einsum_cascade.errors import CascadeError, Problem, Source, legal_words
from einsum_cascade.ordering import flatten, plan
from einsum_cascade.pass_counts import count_root, homes, is_pointwise
from einsum_cascade.pass_presence import gaps
from einsum_cascade.pass_schedule import Sweep, schedule_of

# What stands in place of a witness where filters or gathers leave no chain that is sure.
NO_CHAIN = "what is read is read once; behind filters and gathers no chain is sure to force more"


@dataclass(frozen=True, slots=True)
class PassReport:
    """Passes of each tensor that carries a rank, and the reads that force the largest number."""

    cascade: str
    rank: str
    # Largest number over all tensors, and the tensor that the witness is about.
    passes: int
    tensor: str
    tensors: dict[str, int]
    # True if a schedule achieves the number; False if it is a lower bound only.
    tight: bool
    # Positions visited in each pass, as a size.
    widths: dict[int, str]
    witness: tuple[str, ...]
    # What a schedule of each tensor needs at most; equal to `tensors` where the number is exact.
    upper: dict[str, int]
    # Positions visited in each pass, for every tensor.
    widths_of: dict[str, dict[int, str]]
    # What the sweeps of a schedule of `tensor` do: as many as `upper` says.
    schedule: tuple[Sweep, ...]

    def __str__(self) -> str:
        """Print the finished table."""
        most = max(self.upper.values())
        what = "pass" if most == 1 else "passes"
        what = what if most == self.passes else f"to {most} {what}"
        lines = [f"{self.cascade} over {self.rank}: {self.passes} {what}", ""]
        width = max(map(len, self.tensors))
        for name, number in self.tensors.items():
            most = self.upper[name]
            lines.append(f"  {name:{width}}  {number}" + (f" to {most}" if most > number else ""))
        lines += ["", f"why {self.tensor} needs {self.passes}:"]
        lines += [f"  {line}" for line in self.witness or (NO_CHAIN,)]
        enough = self.upper[self.tensor]
        lines += ["", f"how {enough} {'suffices' if enough == 1 else 'suffice'}:"]
        return "\n".join([*lines, *(f"  {sweep}" for sweep in self.schedule)])


def passes(
    cascade: Cascade, rank: str | None = None, *, sizes: Mapping[str, int] | None = None
) -> PassReport:
    r"""Count how often each tensor must be traversed over `rank`, for every possible mapping.

    Args:
        cascade: a legal cascade.
        rank: a rank, whole or part of a split (`"M"`, `"M0"`); left out, the rank reduced by the
            last Einsum that sums over a rank of an input.
        sizes: how many steps a recurrence over another rank makes (`{"T": 3}`); left out, the
            last coordinate that the cascade reads.

    Returns:
        Passes of every tensor that carries the rank, and the chain of reads that forces the
        largest number. States of recurrences are not fibers to traverse.

    Raises:
        CascadeError: the rank does not occur, none is given and none is summed, or a construct
            that the analysis does not cover (with its place).

    Source:
        FuseMax (MICRO 2024), section III.

    Example:
        >>> from einsum_cascade.legality import parse
        >>> two = parse("Y = A[k]*B[k]\nZ = sum[k](Y*A[k])")
        >>> passes(two, "K").tensors["A"]
        2
    """
    chosen = rank if rank is not None else _summed_rank(cascade)
    if chosen not in cascade.ranks:
        hint = legal_words(chosen, cascade.ranks, f"ranks of {cascade.name}")
        raise CascadeError(Problem(Source(cascade.name), f"no rank '{chosen}'", hint=hint))
    roots = [t for t in cascade.tensors if homes(cascade, t, chosen) and not _steps(cascade, t)]
    if not roots:
        message = f"no tensor of {cascade.name} can be traversed along {chosen}"
        raise CascadeError(Problem(Source(cascade.name), message))
    steps = plan(cascade.einsums, dict(cascade.variables))
    missing = gaps(cascade, flatten(steps))
    # Inputs first: a witness about what comes from memory says most.
    order = sorted(roots, key=lambda tensor: tensor.role != "input")
    # Where nothing connects positions, one tensor speaks for all.
    counted = order[:1] if is_pointwise(cascade, chosen) else roots
    counts = {t.name: count_root(cascade, t, chosen, steps, missing, sizes or {}) for t in counted}
    found = {tensor.name: counts.get(tensor.name, counts[counted[0].name]) for tensor in roots}
    tensors = {name: result.lower for name, result in found.items()}
    order.sort(key=lambda tensor: -tensors[tensor.name])
    worst = found[order[0].name]
    number = tensors[order[0].name]
    return PassReport(
        cascade.name,
        chosen,
        number,
        order[0].name,
        tensors,
        all(result.lower == result.upper for result in found.values()),
        worst.widths,
        worst.found.trace,
        {name: result.upper for name, result in found.items()},
        {name: result.widths for name, result in found.items()},
        schedule_of(worst.fiber, steps, worst.schedule.visits.values(), worst.upper),
    )


def _summed_rank(cascade: Cascade) -> str:
    carried = {rank for name in cascade.inputs for rank in cascade.tensor(name).ranks}
    for einsum in reversed(cascade.einsums):
        ranks = [cascade.rank_of(v) for v in einsum.over] if einsum.op == "sum" else []
        for rank in ranks:
            if rank in carried or cascade.whole_of(rank) in carried:
                return cascade.whole_of(rank)
    hint = "its ranks are " + ", ".join(cascade.ranks)
    message = f"no Einsum of {cascade.name} sums over a rank of an input; say which rank to analyse"
    raise CascadeError(Problem(Source(cascade.name), message, hint=hint))


def _steps(cascade: Cascade, tensor: Tensor) -> bool:
    """True for the state of a recurrence, such as RM[m1+1,p]: it is not a fiber to traverse."""
    indices = [i for einsum in cascade.defining(tensor.name) for i in einsum.target.indices]
    return any(affine(index).step for index in indices if affine(index).variables)
