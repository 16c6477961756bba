"""What is multiplied out for a design point against counting tile by tile, with fractions."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import ceil, prod

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_cascade as ec
from archsim.arch import load_architecture
from archsim.lower_bound import _circuits, _loops, lower_bound
from archsim.mapping import load_mapping
from archsim.on_chip import buffer_words
from archsim.placement import place
from einsum_cascade.catalog import names
from einsum_cascade.ordering import plan

# Lanes that take one variable and two, one phase and several, shares that are spilled.
PAIRS = (
    ("softmax-1pass", "fusemax", "fusemax"),
    ("softmax-1pass", "fusemax-cascade", "fusemax"),
    ("softmax-3pass", "unfused", "flat"),
    ("softmax-3pass", "flat", "flat"),
    ("linear-attention", "linear-attention", "fusemax"),
    ("sigmoid-attention", "sigmoid-attention", "fusemax"),
)
SIZES = {rank: st.integers(1, 40) for rank in "MPEF"}


def resized(name, rows, cols, lanes):
    """A chip with arrays of other sizes and room for every tile."""
    chip = load_architecture(name)
    square, line = chip.arrays
    arrays = (
        replace(square, axes=(("rows", rows), ("cols", cols))),
        replace(line, axes=tuple((axis, lanes) for axis, _ in line.axes)),
    )
    memories = tuple(replace(m, capacity_bytes=m.capacity_bytes and 1 << 40) for m in chip.memories)
    return replace(chip, arrays=arrays, memories=memories)


def points(placed, leaves):
    """Points over some ranks: every tile of every rank that is there whole, ends cut off."""
    extents, left, total = dict(placed.tiling.extents), list(leaves), 1
    for whole, parts in placed.tiling.partitions:
        if set(parts) <= set(left):
            total *= sum(1 for _ in range(extents[whole]))
            left = [leaf for leaf in left if leaf not in parts]
    return total * prod(extents[leaf] for leaf in left)


def steps(placed, einsum):
    """Points that an array takes one after the other, tile by tile."""
    cascade, extents = placed.cascade, dict(placed.tiling.extents)
    where = dict(placed.mapping.placements)[einsum.name]
    sizes = dict(placed.architecture.array(where.array).axes)
    leaves = {leaf for v in einsum.variables for leaf in placed.tiling.leaves(cascade.rank_of(v))}
    spatial = {cascade.rank_of(v) for _, variables in where.axes for v in variables}
    ends = []
    for whole, parts in placed.tiling.partitions:
        if set(parts) <= leaves and not spatial & set(parts[:-1]):
            inner, size = extents[parts[-1]], extents[whole]
            tiles = [min(inner, size - start) for start in range(0, size, inner)]
            ends.append([{**dict.fromkeys(parts, 1), parts[-1]: tile} for tile in tiles])
    total = 0
    for kinds in product(*ends):
        here = {leaf: extents[leaf] for leaf in leaves}
        for kind in kinds:
            here |= kind
        folds = 1
        for axis, variables in where.axes:
            filled = prod(here.get(cascade.rank_of(v), 1) for v in variables)
            folds *= ceil(Fraction(filled, sizes[axis]))
        total += folds * prod(extent for leaf, extent in here.items() if leaf not in spatial)
    return total


@pytest.mark.parametrize(("cascade", "mapping", "chip"), PAIRS)
@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries(SIZES), st.tuples(*[st.integers(1, 9)] * 3), st.integers(1, 3))
def test_what_is_multiplied_is_what_is_counted(cascade, mapping, chip, sizes, shape, heads):
    """Points, slots and bytes of a point, at sizes and shapes that divide nothing."""
    workload = ec.workload(B=1, H=heads, **sizes)
    placed = place(ec.load(cascade), workload, resized(chip, *shape), load_mapping(mapping))
    for part in placed.stages or (placed,):
        einsums = {e.name: e for e in part.cascade.einsums if not e.is_initial}
        for work in part.work:
            einsum = einsums[work.einsum]
            ranks = map(part.cascade.rank_of, einsum.variables)
            number = points(part, [leaf for rank in ranks for leaf in part.tiling.leaves(rank)])
            assert work.points == number
            if work.array is not None:
                each = Fraction(work.busy, number)
                assert work.slots == each * steps(part, einsum)
                assert each.denominator == 1
    found = lower_bound(placed)
    architecture = placed.architecture
    bits = Fraction(architecture.word_bits, 8) * placed.batch
    rate = Fraction(architecture.outer.bandwidth_bytes_per_s, architecture.clock_hz)
    for way, table in (("read", found.read_bytes), ("write", found.write_bytes)):
        whole = {}
        for phase in placed.phases:
            for tensor, words in getattr(phase, way):
                whole[tensor] = whole.get(tensor, Fraction(0)) + Fraction(words) * bits
        assert dict(table) == whole
    moving = sum((Fraction(phase.words) * bits for phase in placed.phases), Fraction(0))
    assert found.cycles >= moving / rate


@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries(SIZES), st.tuples(*[st.integers(1, 9)] * 3))
def test_words_of_the_buffer_are_those_of_every_tile(sizes, shape):
    """Q and K are filled as often as they are read from outside; the array takes K once a tile."""
    placed = place(
        ec.load("softmax-1pass"),
        ec.workload(**sizes),
        resized("fusemax", *shape),
        load_mapping("fusemax"),
    )
    words, extents = buffer_words(placed), dict(placed.tiling.extents)
    read = dict(placed.phases[0].read)
    assert {name: words[name, name, "write"] for name in "QKV"} == {n: read[n] for n in "QKV"}
    queries = len(range(0, sizes["P"], extents["P0"]))
    assert words["QK", "K", "read"] >= sizes["M"] * sizes["E"] * queries
    assert words["AV", "RNV", "read"] == sizes["P"] * sizes["F"]


def test_cycles_through_recurrences_are_those_of_a_graph_library():
    found = 0
    for name in names("cascades"):
        cascade = ec.load(name)
        for loop in _loops(plan(cascade.einsums, dict(cascade.variables))):
            graph = nx.DiGraph()
            for reader in loop.einsums:
                made = {einsum.name for einsum in loop.einsums}
                graph.add_edges_from(
                    (r.tensor, reader.name) for r in reader.reads if r.tensor in made
                )
            expected = sorted(sorted(cycle) for cycle in nx.simple_cycles(graph))
            circuits = list(_circuits(cascade, loop))
            assert sorted(sorted(e.reader.name for e in c) for c in circuits) == expected, name
            found += len(circuits)
    assert found > 30
