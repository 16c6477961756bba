"""Random cascades: counts equal a walk over every point, and no bound exceeds what is done."""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from point_walker import walk_points
from random_cascades import STEPS, cascades

import einsum_cascade as ec
from einsum_cascade.expressions import Access, walk
from einsum_cascade.rank_symbols import exact, sizes_of
from einsum_cascade.traffic_bounds import compulsory


def extents(cascade, first, tile):
    """Sizes of all ranks from two numbers; the tile may be ragged, or longer than its rank."""
    follow = {part for _, parts in cascade.splits for part in parts}
    follow |= {whole for whole, _ in cascade.concatenations}
    ranks = [rank for rank in cascade.ranks if rank not in follow]
    sizes = {rank: (first + i) % 5 + 1 for i, rank in enumerate(ranks)}
    return sizes | {parts[-1]: tile for _, parts in cascade.splits}


def is_walkable(cascade):
    """The walk knows no data: neither gathers, nor top-k, nor conditions on tensors."""
    for einsum in cascade.einsums:
        indices = [index for access in einsum.reads for index in access.indices]
        looks = [*indices, *([einsum.where] if einsum.where is not None else [])]
        if any(isinstance(node, Access) for look in looks for node in walk(look)):
            return False
    return all(einsum.op not in ("topk", "argtopk") for einsum in cascade.einsums)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(cascades(), st.integers(0, 4), st.integers(1, 3))
def test_counts_and_compulsory_words(cascade, first, tile):
    assume(is_walkable(cascade))
    full = sizes_of(cascade, extents(cascade, first, tile), [])
    walked = walk_points(cascade, full)
    found = ec.bounds(cascade, "M", sizes={"T": STEPS})
    for operator, formula in found.ops.items():
        number = exact(formula, full)
        assert number == walked.ops[operator] or (
            not found.exact_ops and number > walked.ops[operator]
        )
    for name in (*cascade.inputs, *cascade.outputs):
        known = walked.read if name in cascade.inputs else walked.present
        assert exact(compulsory(cascade, name), full) <= len(known[name])


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(cascades(), st.integers(0, 4), st.integers(1, 3), st.integers(1, 80))
def test_no_bound_exceeds_a_schedule(cascade, first, tile, words):
    found = ec.bounds(cascade, "M", sizes={"T": STEPS})
    report = found.at(**extents(cascade, first, tile), S=words)
    assert bool(report.alternatives) != bool(report.reason)
    for one in report.alternatives:
        assert one.traffic is None or report.total <= one.traffic
        assert one.live is None or one.live <= words
