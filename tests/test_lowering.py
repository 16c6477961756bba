"""Other cascades than attention, lowered by pattern: both engines and the naive values agree."""

import re
from dataclasses import replace

import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim.critical import explain
from archsim.elements import random_inputs
from archsim.formulas import read_formula
from archsim.issue import Body, read_entry
from archsim.mapping import Placement
from archsim.pe import simulate_pe
from archsim.simulation import simulate
from archsim.slots import execute
from einsum_cascade.errors import Source

PRODUCT = "Z[n,s] = X[n,d]*W[d,s]"


def machine(accumulate: int = 1, lacks: tuple[str, ...] = ()):
    """fusemax-4x4 with abs and min, another accumulator loop, and lanes without some operators."""
    chip = archsim.load_architecture("fusemax-4x4")
    array, lanes = chip.arrays
    extra = tuple(replace(array.cost("add"), operator=name) for name in ("abs", "phi"))
    kept = tuple(row for row in lanes.operators if row.operator not in lacks)
    arrays = (
        replace(array, operators=array.operators + extra, register_entries=64),
        replace(lanes, operators=kept + extra),
    )
    return replace(chip, arrays=arrays, latency=replace(chip.latency, accumulate=accumulate))


def mapped(name: str, **changes):
    return replace(archsim.load_mapping(name), **changes)


def lowered(text: str, mapping, chip=None, **sizes: int):
    return archsim.lower(
        ec.parse(text, name="mine"), ec.workload(**sizes), chip or machine(), mapping
    )


def agree(program) -> int:
    """Cycles, after every check between the engines and with the naive interpreter."""
    run = execute(program)
    inputs = random_inputs(program)
    registers = simulate_pe(program, inputs)
    for unit, issues in run.issued.items():
        assert [(i.op, i.at) for i in issues] == list(registers.issued[unit])
    assert registers.timeline.cycles == run.cycles
    for name, expected in ec.evaluate(program.cascade, **inputs).items():
        assert np.allclose(registers.outputs[name], expected, rtol=1e-12, atol=1e-12)
    assert simulate(program, "pe").cycles == simulate(program).cycles == run.cycles
    return run.cycles


SIZES = {"N": 9, "D": 5, "S": 6}


@pytest.mark.parametrize("accumulate", [1, 4, 60])
@pytest.mark.parametrize(
    "text",
    [
        PRODUCT,
        "Z[n,s] = sum[d](abs(X[n,d] - W[d,s]))",
        "Z[n,s] = min[d](X[n,d] + W[d,s])",
        "Z[n,s] = max[d](X[n,d]*W[d,s])",
    ],
)
def test_sums_over_anything_accumulate(text, accumulate):
    """An accumulator is added to once for each word, however many slots its map takes."""
    program = lowered(text, mapped("projection"), machine(accumulate), **SIZES)
    cycles = agree(program)
    words = {PRODUCT: 1}.get(text, 3 if "abs" in text else 2)
    # 3 x 2 tiles; each word takes its slots, or the loop if that is longer.
    slots = 5 * words + 4
    assert cycles >= 6 * slots
    if accumulate == 1:
        assert cycles == 6 * slots + 4 + 3


@pytest.mark.parametrize("text", [PRODUCT, "Z[n,s] = min[d](X[n,d] + W[d,s])"])
@pytest.mark.parametrize("sizes", [SIZES, {"N": 1, "D": 1, "S": 1}, {"N": 3, "D": 13, "S": 9}])
def test_rows_reduce_any_way(text, sizes):
    agree(lowered(text, mapped("projection-ws"), **sizes))


def test_lanes_that_lack_the_operator_are_named():
    with pytest.raises(archsim.ArchError, match="array_1d cannot compute add"):
        lowered(PRODUCT, mapped("projection-ws"), machine(lacks=("add",)), **SIZES)


def test_a_rank_may_be_called_h():
    text = "Z[n,s] = X[n,h]*W[h,s]"
    assert agree(lowered(text, mapped("projection"), N=9, H=5, S=6)) == agree(
        lowered(PRODUCT, mapped("projection"), **SIZES)
    )


def split_rows(loops: tuple[str, ...], tile: int):
    """projection-ws with the tokens in tiles, too."""
    found = mapped("projection-ws", loops=loops)
    size = read_formula(str(tile), Source("test"))
    return replace(
        found,
        partitions=(*found.partitions, ("N", ("N1", "N0"))),
        tiles=(*found.tiles, ("N0", size)),
    )


@pytest.mark.parametrize("loops", [("s1", "d1", "n1"), ("n1", "s1", "d1"), ("s1", "n1", "d1")])
def test_stationary_words_are_loaded_again_where_the_loops_ask_for_it(loops):
    if loops == ("s1", "d1", "n1"):
        # Partial sums of all token tiles would have to wait in the lanes.
        loops = ("s1", "n1", "d1")
    program = lowered(PRODUCT, split_rows(loops, 4), N=12, D=9, S=6)
    agree(program)
    assert {r.tensor: r.depth for r in program.registers if r.tensor == "W"} == {"W": 1}


def test_ragged_tiles_off_the_array_are_refused():
    with pytest.raises(archsim.ArchError) as caught:
        lowered(PRODUCT, split_rows(("n1", "s1", "d1"), 4), N=13, D=9, S=5)
    assert "N = 13 does not divide into tiles of 4, and n0 is not spread over PEs" in str(
        caught.value
    )


def test_outputs_of_zero_compare_with_zero():
    text = "Y[n,s] = X[n,d]*W[d,s]"
    program = lowered(text, renamed("projection", "Z", "Y"), **SIZES)
    inputs = {name: np.zeros_like(value) for name, value in random_inputs(program).items()}
    assert not simulate_pe(program, inputs).outputs["Y"].any()


def renamed(mapping: str, old: str, new: str):
    found = archsim.load_mapping(mapping)
    bodies = []
    for body in found.order:
        texts = [" | ".join(map(str, entry)).replace(old, new) for entry in body.entries]
        bodies.append(Body(body.unit, tuple(map(read_entry, texts))))
    placements = tuple((name.replace(old, new), where) for name, where in found.placements)
    return replace(found, placements=placements, order=tuple(bodies))


ATTENTION = str(ec.load("softmax-1pass"))


def attention(text: str, order: dict[str, list[str]], placements: dict[str, Placement]):
    found = archsim.load_mapping("fusemax-serial")
    bodies = tuple(Body(unit, tuple(map(read_entry, lines))) for unit, lines in order.items())
    mapping = replace(found, order=bodies, placements=(*found.placements, *placements.items()))
    return lowered(text, mapping, M=8, P=6, E=3, F=4, M0=4)


LANES = Placement("array_1d", (("lanes", ("p0",)),), ())
ORDER = {
    "array_2d": ["QK", "LM", "SLN", "SLD", "SLNV"],
    "array_1d": ["RM", "PRM", "SPD", "RD", "SPNV | RNV", "AV"],
}


def test_an_output_that_a_lane_reads_again_has_a_register():
    text = ATTENTION + "\nL[f,p] = AV[f,p]*AV[f,p]\noutput AV, L"
    order = {**ORDER, "array_1d": [*ORDER["array_1d"], "L"]}
    program = attention(text, order, {"L": LANES})
    assert "AV" in {register.tensor for register in program.registers}
    inputs = random_inputs(program)
    expected = ec.evaluate(program.cascade, sizes={"M0": 4}, **inputs)
    outputs = simulate_pe(program, inputs).outputs
    for name in ("AV", "L"):
        assert np.allclose(outputs[name], expected[name], rtol=1e-12)


def test_words_that_do_not_match_are_refused():
    text = ATTENTION + "\nL[f,g,p] = AV[f,p]*G[g,p]"
    order = {**ORDER, "array_1d": [*ORDER["array_1d"], "L"]}
    found = archsim.load_mapping("fusemax-serial")
    bodies = tuple(Body(unit, tuple(map(read_entry, lines))) for unit, lines in order.items())
    mapping = replace(found, order=bodies, placements=(*found.placements, ("L", LANES)))
    with pytest.raises(archsim.ArchError, match="L runs through f, g words of a tile, AV"):
        lowered(text, mapping, M=8, P=6, E=3, F=4, G=2, M0=4)


def test_load_can_only_read_inputs():
    found = archsim.load_mapping("fusemax-serial")
    placements = tuple(
        (name, Placement(None, (), ()) if name == "LM" else where)
        for name, where in found.placements
    )
    order = {**ORDER, "array_2d": ["QK", "SLN", "SLD", "SLNV"]}
    bodies = tuple(Body(unit, tuple(map(read_entry, lines))) for unit, lines in order.items())
    mapping = replace(found, placements=placements, order=bodies)
    with pytest.raises(archsim.ArchError, match="LM at load reads QK, which an array makes"):
        lowered(ATTENTION, mapping, M=8, P=6, E=3, F=4, M0=4)


def test_a_reduction_of_several_slots_is_refused():
    chip = machine()
    array, lanes = chip.arrays
    rows = tuple(
        replace(row, slots=2, latency_cycles=2) if row.operator == "add" else row
        for row in array.operators
    )
    chip = replace(
        chip,
        arrays=(replace(array, operators=rows), lanes),
        latency=replace(chip.latency, row_hop=2),
    )
    with pytest.raises(archsim.ArchError, match="add takes 2 slots, and a value comes down"):
        archsim.lower("softmax-1pass", ec.workload(M=8, P=4, E=4, F=4), chip, "fusemax-serial")


def test_levels_names_and_hazards():
    program = archsim.lower(
        "softmax-1pass", ec.workload(M=8, P=4, E=4, F=4), "fusemax-4x4", "fusemax-serial"
    )
    with pytest.raises(archsim.ArchError, match="unknown level 'foo'"):
        simulate(program, "foo")
    shallow = replace(
        program,
        registers=tuple(
            replace(register, depth=1) if register.tensor == "RM" else register
            for register in program.registers
        ),
    )
    for level in ("tile", "pe"):
        with pytest.raises(archsim.ArchError, match="RM"):
            simulate(shallow, level)
    # What `run` refuses, `explain` does not explain.
    with pytest.raises(archsim.ArchError, match="overflow"):
        explain(replace(program, landing_entries=1))


def test_a_run_too_large_for_registers_is_refused_before_it_takes_memory():
    program = archsim.lower(
        "softmax-1pass", ec.workload("bert", M=1024, P=4096, H=8), "fusemax", "fusemax"
    )
    with pytest.raises(archsim.ArchError, match=re.escape("they don't fit into memory")):
        simulate_pe(program, {})
