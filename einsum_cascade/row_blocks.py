"""Which loops a cascade can be streamed in: rows in blocks, each sweeping the analysed rank.

Attention is computed for a block of rows (queries) at a time. The block's state stays on chip
(Q, running or final results), while the inputs tied to the analysed rank M are swept position by
position, once for each pass. `structure` finds, for any cascade and rank,

- swept: the inputs that carry the rank (K, V);
- rows: ranks that appear first in a value tied to the rank, and that all of its reductions keep
  (P: it enters in QK[m,p] and stays in GM[p], SD[p], AV[f,p]). With none there is one block;
- outer: further ranks that all reductions keep (H of K[h,m,e]): one slice after the other;
- state: words a row holds, one entry a tensor: inputs and reductions, and states of recurrences
  once. Maps such as SQ are computed in place: a value under way in a register takes no word;
- images: for a swept input that is read again, the narrowest tensor tied to the rank through which
  everything else depends on it (QK for K): keeping or spilling that replaces reading again.

Decision: what this form does not fit (a reduction over the rows, a window, a gather, a recurrence
across rows) is refused with a reason. A schedule that is shown is one that can be run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Tensor, affine, variables_in
from einsum_cascade.expressions import Access, accesses
from einsum_cascade.ordering import Loop, plan
from einsum_cascade.pass_analysis import PassReport
from einsum_cascade.rank_symbols import Size, exact, names_in, size_of


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """How a cascade streams; sizes are formulas in words."""

    rank: str
    # Words of one position (or tile) of each swept input, and how often it is read.
    swept: tuple[tuple[str, Size], ...]
    passes: tuple[tuple[str, int], ...]
    rows: tuple[str, ...]
    outer: tuple[str, ...]
    # Words of one row's state by tensor, and of what every row needs.
    state: tuple[tuple[str, Size], ...]
    shared: tuple[tuple[str, Size], ...]
    # Image of each swept input that is read more than once; None: everything depends on itself.
    images: tuple[tuple[str, str | None], ...]


class UnstreamableError(Exception):
    """The cascade does not stream in row blocks; the message says why."""


def structure(cascade: Cascade, report: PassReport) -> RowBlocks:
    """Find how a cascade streams along the rank of a pass report.

    Args:
        cascade: a legal cascade.
        report: passes along the analysed rank.

    Raises:
        UnstreamableError: it does not stream in blocks of rows.
    """
    parts = cascade.parts_of(report.rank)
    own = {report.rank, *parts}
    swept = [name for name in cascade.inputs if _carries(cascade.tensor(name), report.rank, parts)]
    if not swept:
        raise UnstreamableError(f"no input carries {report.rank}")
    _check_reads(cascade, own)
    if not report.tight:
        raise UnstreamableError("no schedule is known that reaches the number of passes")
    ancestors = _ancestors(cascade, swept)
    levels = _levels(cascade, ancestors, own)
    _check_recurrences(cascade, levels, own)
    entering, kept = _row_ranks(cascade, ancestors, own)
    rows = tuple(rank for rank in cascade.ranks if rank in entering & kept)
    _check_rows(cascade, rows)
    results = _results(cascade, ancestors, levels, own)
    others = [name for name in cascade.inputs if name not in swept] + results
    # A block runs along one rank unless every tensor with a row's values carries all of them.
    spread: set[str] = set()
    if any(0 < len({*rows} & set(ranks_of(cascade, name))) < len(rows) for name in others):
        rows, spread = rows[-1:], set(rows[:-1])
    carried = [set(ranks_of(cascade, name)) for name in swept]
    batch = set.intersection(*carried) & kept - own - {*rows} - _reduced(cascade)
    wholes = {whole for whole, split in cascade.splits if {*split} <= batch}
    outer = tuple(rank for rank in cascade.ranks if rank in (batch - wholes) | spread)
    aside = {*rows, *outer}
    tile = _tile(cascade, own)
    words = {
        name: words_of(cascade, name, aside | (own if cascade.tensor(name).is_state else set()))
        for name in others
    }
    of_rows = {name for name in others if rows and {*rows} <= set(ranks_of(cascade, name))}
    again = [name for name in swept if report.tensors.get(name, 1) > 1]
    return RowBlocks(
        report.rank,
        tuple((name, words_of(cascade, name, aside | own) * tile) for name in swept),
        tuple((name, report.tensors.get(name, 1)) for name in swept),
        rows,
        outer,
        tuple((name, words[name]) for name in others if name in of_rows),
        tuple((name, words[name]) for name in others if name not in of_rows),
        tuple((name, _image(cascade, name, report, levels, rows, outer)) for name in again),
    )


def ranks_of(cascade: Cascade, name: str) -> list[str]:
    """Return the ranks of a tensor, completed splits as wholes too."""
    ranks = [rank for rank in cascade.tensor(name).ranks if rank]
    wholes = [whole for whole, parts in cascade.splits if set(parts) <= set(ranks)]
    return ranks + wholes


def _carries(tensor: Tensor, rank: str, parts: tuple[str, ...]) -> bool:
    return rank in tensor.ranks or set(parts) <= set(tensor.ranks)


def words_of(cascade: Cascade, name: str, without: Iterable[str] = ()) -> Size:
    """Return the words of a tensor at one coordinate of each rank in `without`."""
    ranks = [rank for rank in cascade.tensor(name).ranks if rank]
    gone = {part for rank in without for part in (rank, *cascade.parts_of(rank))}
    return size_of(cascade, [rank for rank in ranks if rank not in gone])


def _check_reads(cascade: Cascade, own: set[str]) -> None:
    for einsum in cascade.einsums:
        along = [cascade.rank_of(v) for v in einsum.variables]
        for rank in own:
            if along.count(rank) > 1:
                raise UnstreamableError(
                    f"{einsum.name} pairs coordinates of {rank} with one another"
                )
        for access in einsum.reads:
            for index in access.indices:
                form = affine(index)
                if form.is_gather:
                    raise UnstreamableError(f"{einsum.name} gathers {access}")
                is_state = cascade.tensor(access.tensor).is_state
                lagged = form.is_plain and form.step and not is_state
                if lagged or (form.variables and not form.is_plain):
                    raise UnstreamableError(f"{einsum.name} reads a window, {access}")


def _check_recurrences(cascade: Cascade, levels: Mapping[str, int], own: set[str]) -> None:
    """Recurrences run along the sweeps, one way, and pass their states on at once."""
    ways = set()
    for step in plan(cascade.einsums, dict(cascade.variables)):
        if isinstance(step, Loop):
            ways.add(step.is_descending)
            if step.rank not in own:
                raise UnstreamableError(f"{step.einsums[0].name} is a recurrence along {step.rank}")
            if len(ways) > 1:
                raise UnstreamableError(f"{step.einsums[0].name} runs against another recurrence")
    for einsum in cascade.einsums:
        for access in einsum.reads:
            is_state = cascade.tensor(access.tensor).is_state
            late = levels[einsum.name] > levels[access.tensor]
            if is_state and late and _moves(cascade, access, own):
                raise UnstreamableError(f"{einsum.name} reads {access} in a later sweep")


def _tile(cascade: Cascade, own: set[str]) -> Size:
    """Positions that are on chip together: those that share a value, such as LM[m1,p]."""
    tiles: list[list[str]] = [[]]
    for einsum in cascade.einsums:
        if {cascade.rank_of(v) for v in einsum.left} & own:
            over = [cascade.rank_of(v) for v in einsum.over]
            tiles.append([rank for rank in over if rank in own])
    longest: list[str] = max(tiles, key=len)
    return size_of(cascade, longest)


def _reduced(cascade: Cascade) -> set[str]:
    """Ranks that some Einsum reduces, and the wholes they are parts of."""
    ranks = {cascade.rank_of(v) for einsum in cascade.einsums for v in einsum.over}
    return ranks | {cascade.whole_of(rank) for rank in ranks}


def _check_rows(cascade: Cascade, rows: tuple[str, ...]) -> None:
    for einsum in cascade.einsums:
        for variable in einsum.over:
            if {cascade.rank_of(variable), cascade.whole_of(cascade.rank_of(variable))} & set(rows):
                raise UnstreamableError(f"{einsum.name} reduces over {variable}, along the rows")


def _ancestors(cascade: Cascade, swept: Iterable[str]) -> dict[str, set[str]]:
    """The swept inputs that every tensor depends on."""
    found: dict[str, set[str]] = {name: {name} for name in swept}
    for _ in cascade.tensors:
        for einsum in cascade.einsums:
            for access in einsum.reads:
                found.setdefault(einsum.name, set()).update(found.get(access.tensor, set()))
    return found


def _row_ranks(
    cascade: Cascade, ancestors: Mapping[str, set[str]], own: set[str]
) -> tuple[set[str], set[str]]:
    """Ranks that enter at a value tied to the rank, and those that all reductions of it keep."""
    entering: set[str] = set()
    kept: set[str] | None = None
    for einsum in cascade.einsums:
        ranks = {cascade.rank_of(v) for v in einsum.variables}
        sources = set().union(*(ancestors.get(a.tensor, set()) for a in einsum.reads))
        if not sources or not ranks & own:
            continue
        carried = {rank for name in sources for rank in ranks_of(cascade, name)}
        entering |= ranks - carried - own
        over = {cascade.rank_of(v) for v in einsum.over}
        if over & own or cascade.tensor(einsum.name).is_state:
            mine = set(ranks_of(cascade, einsum.name))
            kept = mine if kept is None else kept & mine
    return entering, set(cascade.ranks) - own if kept is None else kept - own


def _results(
    cascade: Cascade,
    ancestors: Mapping[str, set[str]],
    levels: Mapping[str, int],
    own: set[str],
) -> list[str]:
    """Tensors that a row accumulates: reductions of the whole rank, states, and kept summaries.

    One value a tile, such as LM[m1,p], is kept only if it is needed after the sweep that made it.
    """
    found = []
    for tensor in cascade.tensors:
        defining = [e for e in cascade.defining(tensor.name) if not e.is_initial]
        reduces = any(e.op is not None for e in defining)
        if tensor.is_state or (reduces and not set(tensor.ranks) & own):
            # What does not depend on the sweep is computed from inputs in place.
            if ancestors.get(tensor.name):
                found.append(tensor.name)
        elif reduces and set(tensor.ranks) & own and not own <= {*ranks_of(cascade, tensor.name)}:
            late = any(
                levels.get(e.name, 1) > levels.get(tensor.name, 1)
                for e in cascade.einsums
                if any(a.tensor == tensor.name for a in e.reads)
            )
            if late:
                found.append(tensor.name)
    return found


def _levels(cascade: Cascade, ancestors: Mapping[str, set[str]], own: set[str]) -> dict[str, int]:
    """Sweep in which each tensor is first known; reading a finished result means the next one."""
    levels = {tensor.name: 1 for tensor in cascade.tensors}
    for _ in cascade.tensors:
        for einsum in cascade.einsums:
            for access in einsum.reads:
                if ancestors.get(access.tensor):
                    after = 0 if _moves(cascade, access, own) else 1
                    reached = levels[access.tensor] + after
                    if einsum.name != access.tensor:
                        levels[einsum.name] = max(levels[einsum.name], reached)
    return levels


def _moves(cascade: Cascade, access: Access, own: set[str]) -> bool:
    """True if a read follows the rank; False if it reads a finished result."""
    dims = cascade.tensor(access.tensor).dims
    return any(
        dim.rank in own and variables_in(index)
        for dim, index in zip(dims, access.indices, strict=True)
    )


def _image(
    cascade: Cascade,
    name: str,
    report: PassReport,
    levels: Mapping[str, int],
    rows: tuple[str, ...],
    outer: tuple[str, ...],
) -> str | None:
    """The narrowest tensor tied to the rank, known in the first sweep, that stands for an input."""
    words: dict[str, Size] = {}
    for candidate, number in report.tensors.items():
        is_inner = cascade.tensor(candidate).role == "intermediate"
        carries = {*rows} <= set(ranks_of(cascade, candidate))
        if not is_inner or not carries or number < 2 or levels[candidate] > 1:
            continue
        if not _reaches_output(cascade, name, without=candidate):
            words[candidate] = words_of(cascade, candidate, {*rows, *outer})
    # Fewer ranks are narrower; which of two ranks is shorter is not known here.
    alike = dict.fromkeys(names_in(*words.values()), 7)
    return min(words, key=lambda candidate: exact(words[candidate], alike), default=None)


def _reaches_output(cascade: Cascade, name: str, without: str) -> bool:
    """True if some output depends on a tensor other than through `without`."""
    reached, todo = {name}, [name]
    while todo:
        one = todo.pop()
        for einsum in cascade.einsums:
            reads = {a.tensor for a in (*einsum.reads, *accesses(einsum.where))}
            if one in reads and einsum.name not in (*reached, without):
                reached.add(einsum.name)
                todo.append(einsum.name)
    return bool(reached & set(cascade.outputs))
