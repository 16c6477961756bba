"""Actions of PEs, lanes and buffer: the table, a run counted by hand, registers, and placement.

Three ways to the same numbers: slots of a Program times PE-slots of a run, what the register model
counts while it executes, and what placement says without any run.
"""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_programs import CASCADE, SERIAL, Case, machine, programs

import archsim
import einsum_cascade as ec
from archsim.action_counts import count_actions, spend
from archsim.actions import actions_of
from archsim.elements import random_inputs
from archsim.energy import energy
from archsim.errors import ArchError
from archsim.issue import read_entry
from archsim.lower_bound import lower_bound
from archsim.pe import simulate_pe
from archsim.ports import ports_asked
from archsim.program import Program
from archsim.simulation import simulate
from archsim.slots import simulate as simulate_slots

DOCUMENT = Path(__file__).parents[1] / "docs" / "energy.md"


def worked(mapping: str = "fusemax-serial", ports: int = 4) -> Program:
    """Two key tiles and one query tile of 4 by 4, E = F = 4."""
    chip = archsim.load_architecture("fusemax-4x4")
    dram, buffer = chip.memories
    chip = replace(chip, memories=(dram, replace(buffer, ports=ports)))
    return archsim.lower("softmax-1pass", ec.workload(M=8, P=4, E=4, F=4), chip, mapping)


def registers(program: Program):
    return simulate_pe(program, random_inputs(program))


def by_component(spent) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for one in spent:
        found[one.component] = found.get(one.component, Fraction(0)) + one.actions
    return {name: actions for name, actions in found.items() if actions}


def placed(program: Program) -> dict[str, Fraction]:
    """What placement formulas say of the same run."""
    return by_component(energy(program.placed, lower_bound(program.placed)))


def vectors(rows) -> str:
    ways = Counter(row.way for row in rows)
    return ", ".join(f"{count} {way}" for way, count in ways.items()) or "-"


def number(value: Fraction) -> str:
    return str(value)


# What one PE or lane does for one word of a task, and vectors of the buffer: per word, per tile.
TABLE = """
| QK   | mac 1        | 1  | 1 | 2 | 2 read          | - |
| LM   | max 1        | 1  | 0 | 1 | -               | - |
| SLN  | add 1, mac 6 | 13 | 8 | 7 | -               | - |
| SLD  | add 1        | 1  | 0 | 1 | -               | - |
| SLNV | mac 1        | 1  | 0 | 2 | 1 read          | - |
| RM   | max 1        | 0  | 1 | 0 | 1 read, 1 write | - |
| PRM  | add 1, mac 6 | 14 | 8 | 0 | -               | - |
| SPD  | mac 1        | 1  | 1 | 0 | 1 read          | - |
| RD   | add 1        | 1  | 1 | 0 | 1 write         | - |
| SPNV | mac 1        | 1  | 1 | 0 | 1 read          | - |
| RNV  | add 1        | 1  | 1 | 0 | 1 write         | - |
| AV   | divide 1     | 1  | 1 | 0 | 1 read, 1 write | 1 read |
""".strip()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("line", TABLE.splitlines(), ids=lambda line: cells(line)[0])
def test_the_table(line):
    program = worked()
    found = actions_of(program, program.task(cells(line)[0]))
    actions: Counter[str] = Counter()
    for slot in found.slots:
        actions.update(dict(slot.actions))
    expected = [
        found.task.name,
        ", ".join(f"{action} {amount}" for action, amount in actions.items()),
        number(sum(slot.reads for slot in found.slots)),
        number(sum(slot.writes for slot in found.slots)),
        number(sum(slot.hops for slot in found.slots)),
        vectors(row for slot in found.slots for row in slot.rows),
        vectors(found.ahead),
    ]
    assert expected == cells(line)
    assert line in DOCUMENT.read_text()


def test_slots_of_exp():
    """Running value and argument in, running value out; the first also keeps the split range."""
    program = worked()
    slots = actions_of(program, program.task("SLN")).slots
    assert [slot.function for slot in slots] == ["sub", *["exp"] * 6]
    assert [slot.part for slot in slots] == [0, 0, 1, 2, 3, 4, 5]
    assert [slot.reads for slot in slots] == [1, 2, 2, 2, 2, 2, 2]
    assert [slot.writes for slot in slots] == [1, 2, 1, 1, 1, 1, 1]
    assert [slot.hops for slot in slots] == [1] * 7


# Task, executions, actions, register reads and writes, hops, vectors of the buffer. QK issues E = 4
# slots a tile on 16 PEs, so 128 in two tiles, each with a sum read and written and a word from the
# left and from above. SLN takes 7 slots: 224 executions, 32 logits with 13 reads, 8 writes and 7
# hops. There are 4 lanes, so RM and RD 8 times; F = 4 words make SPNV and RNV 32, and AV, once, 16.
# QK takes a vector of Q and one of K in each of its 8 slots, AV one of RD before its 4 slots.
HAND = """
QK    128  mac 128         128  128  256  16 read
LM     32  max 32           32    0   32  -
SLN   224  add 32, mac 192 416  256  224  -
SLD    32  add 32           32    0   32  -
SLNV  128  mac 128         128    0  256  8 read
RM      8  max 8             0    8    0  2 read, 2 write
PRM    56  add 8, mac 48   112   64    0  -
SPD     8  mac 8             8    8    0  2 read
RD      8  add 8             8    8    0  2 write
SPNV   32  mac 32           32   32    0  8 read
RNV    32  add 32           32   32    0  8 write
AV     16  divide 16        16   16    0  5 read, 4 write
"""


@pytest.mark.parametrize("mapping", ["fusemax-serial", "fusemax-ahead"])
def test_the_worked_example_by_hand(mapping):
    program = worked(mapping)
    timeline = simulate(program)
    counted, executed, spent = count_actions(timeline), registers(program).counts, spend(timeline)
    lines = [""]
    for task in program.tasks:
        count = counted[task.name]
        assert count == executed[task.name]
        here = [one for one in spent if one.micro_op.startswith(f"{task.name}[")]
        actions: Counter[str] = Counter()
        for one in here:
            kind = one.component.split(".")[1]
            if kind not in ("registers", "read", "write"):
                actions["mac" if kind == "exp" else kind] += one.actions
        rows = {
            way: sum(s.actions for s in here if s.component == f"buffer.{way}")
            for way in ("read", "write")
        }
        lines.append(
            f"{task.name:5} {count.executions:3}  "
            f"{', '.join(f'{action} {amount}' for action, amount in actions.items()):15} "
            f"{count.reads:3} {count.writes:4} {count.hops:4}  "
            + (", ".join(f"{amount} {way}" for way, amount in rows.items() if amount) or "-")
        )
    assert HAND == "\n".join([*lines, ""])


def test_memory_of_the_worked_example():
    """Of Q, K, V 16 + 32 + 32 words of 2 bytes come in, 16 of AV go out; 4 words are a row."""
    spent = spend(simulate(worked()))
    moved = {(one.cause, one.component): one.actions for one in spent if "." in one.micro_op}
    assert moved == {
        ("Q", "dram"): 4, ("Q", "buffer.write"): 4,
        ("K", "dram"): 8, ("K", "buffer.write"): 8,
        ("V", "dram"): 8, ("V", "buffer.write"): 8,
        ("AV", "dram"): 4, ("AV", "buffer.read"): 4,
    }  # fmt: skip


def test_engines_count_the_same_on_random_programs():
    """A hundred programs that run: simulated actions are those that the registers count."""
    ran = Counter()

    @settings(max_examples=130, suppress_health_check=list(HealthCheck))
    @given(programs())
    def agree(case):
        program = case.program
        try:
            timeline = simulate_slots(program)
        except ArchError:
            return
        ran["ran"] += 1
        run = registers(program)
        assert count_actions(timeline) == run.counts
        assert spend(timeline) == spend(run.timeline)

    agree()
    assert ran["ran"] >= 100


@st.composite
def cases(draw, whole: bool) -> Case:
    """Programs on random machines without fused Einsums; `whole`: all tiles are full."""
    chip = machine(draw)
    rows, cols = dict(chip.arrays[0].axes).values()
    tiles = [draw(st.integers(1, 3)) for _ in range(2)]
    inner, lines = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    sizes = {
        "E": draw(st.integers(1, 4)), "F": draw(st.integers(1, 4)), "H": lines, "P1": inner,
        "M": rows * tiles[0], "P": cols * inner * tiles[1],
    }  # fmt: skip
    if not whole:
        sizes["M"] += draw(st.integers(0, rows - 1))
        sizes["P"] += draw(st.integers(0, cols - 1))
    return Case(archsim.lower(CASCADE, ec.workload(**sizes), chip, SERIAL))


def expected_of(program: Program) -> dict[str, Fraction]:
    """Placement, with what it takes one register read an operator for: PRM reads both of its
    operands in registers, RM, between buffer and landing FIFO, none.
    """
    expected = placed(program)
    parts = dict(program.placed.tiling.extents)
    times = program.placed.batch * program.sizes["P"] * parts["M1"]
    one_slot = {row.operator: row.slots == 1 for row in program.lanes.operators}
    expected["array_1d.registers"] += times * (one_slot["sub"] - one_slot["max"])
    return expected


def test_full_tiles_cost_what_placement_says():
    """Component by component; only outputs, which placement lets bypass the buffer, come on top."""
    ran = Counter()

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(cases(whole=True))
    def agree(case):
        program = case.program
        try:
            timeline = simulate_slots(program)
        except ArchError:
            assume(False)
        ran["ran"] += 1
        placement = program.placed
        words = placement.batch * program.sizes["F"] * program.sizes["P"]
        output = Fraction(words * 16, program.architecture.buffer.width_bits)
        expected = expected_of(program)
        expected["buffer.read"] += output
        expected["buffer.write"] += output
        assert expected == by_component(spend(timeline))

    agree()
    assert ran["ran"] >= 40


@pytest.mark.parametrize("name", ["causal-1pass", "window-1pass"])
def test_tiles_that_a_filter_leaves_out_ask_for_nothing(name):
    """The buffer serves the tiles that are there, with and without a run; outputs come on top."""
    sizes = {"B": 1, "H": 2, "M": 32, "P": 32, "E": 4, "F": 4}
    workload = ec.workload(**sizes, **({"W": 6} if name == "window-1pass" else {}))
    program = archsim.lower(name, workload, "fusemax-4x4", "fusemax")
    found = by_component(spend(simulate(program)))
    placement = program.placed
    expected = by_component(energy(placement, lower_bound(placement)))
    output = Fraction(2 * 4 * 32 * 16, program.architecture.buffer.width_bits)
    for way in ("buffer.read", "buffer.write"):
        assert expected[way] + output == found[way]


def test_ragged_tiles_ask_for_whole_vectors():
    """PEs, lanes and memory cost what placement says; the buffer reads and writes no less."""

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(cases(whole=False))
    def agree(case):
        program = case.program
        try:
            timeline = simulate_slots(program)
        except ArchError:
            assume(False)
        expected, found = expected_of(program), by_component(spend(timeline))
        assert expected.keys() == found.keys()
        for name, actions in expected.items():
            assert actions <= found[name]
            assert actions == found[name] or name.startswith("buffer.")

    agree()


def test_vectors_of_a_ragged_tile_by_hand():
    """M = 5 on 4 rows: K takes 2 x 4 whole vectors of 4 words, 8 rows; it has 20 words, 5 rows."""
    program = archsim.lower(
        "softmax-1pass", ec.workload(M=5, P=4, E=4, F=4), "fusemax-4x4", "fusemax-serial"
    )
    spent = spend(simulate(program))
    read = [s.actions for s in spent if (s.cause, s.component) == ("QK", "buffer.read")]
    assert read == [8, 8]
    assert sum(s.actions for s in spent if s.micro_op == "K.fetch" and s.component == "dram") == 5


def test_fused_einsums_save_what_they_fuse():
    """SPNV+RNV: 32 multiply-accumulates, not 32 products and 32 sums; one read and write each."""
    program = worked()
    lanes = program.bodies[1]
    entries = [e for e in lanes.entries if e[0].task not in ("SPNV", "AV")]
    entries += [read_entry("SPNV+RNV"), read_entry("AV")]
    order = (program.bodies[0], replace(lanes, entries=tuple(entries)))
    mapping = replace(program.placed.mapping, order=order)
    workload = ec.workload(M=8, P=4, E=4, F=4)
    fused = archsim.lower("softmax-1pass", workload, "fusemax-4x4", mapping)
    before, after = (by_component(spend(simulate(p))) for p in (program, fused))
    saved = {k: before[k] - after[k] for k in before if before[k] != after[k]}
    assert saved == {"array_1d.add": 32, "array_1d.registers": 64}
    assert count_actions(simulate(fused)) == registers(fused).counts


@pytest.mark.parametrize(
    ("mapping", "more"),
    [
        # 16 sums are read row by row, land, and are written by the lanes.
        ("projection", {"array_2d.registers": 16, "array_1d.registers": 16}),
        # 32 weights are written into PEs; lanes add 4 x 4 partial sums of each of 2 tiles.
        (
            "projection-ws",
            {"array_2d.registers": 32, "array_1d.registers": 64, "array_1d.add": 32},
        ),
    ],
)
def test_what_products_do_beyond_their_placement(mapping, more):
    program = archsim.lower("projection", ec.workload(N=4, S=4, D=8), "fusemax-4x4", mapping)
    timeline = simulate(program)
    assert count_actions(timeline) == registers(program).counts
    expected, found = placed(program), by_component(spend(timeline))
    assert more == {
        name: actions - expected.get(name, 0)
        for name, actions in found.items()
        if actions != expected.get(name, 0) and "buffer" not in name
    }


def test_a_head_of_fusemax():
    """1K keys and queries on 256 by 256 PEs: outputs through the buffer are all that is on top."""
    tile, bound = (
        archsim.run(
            "softmax-1pass",
            ec.workload(M=1024, P=1024, E=64, F=64),
            "fusemax",
            "fusemax",
            level=level,
        ).energy_pj
        for level in ("tile", "bound")
    )
    parts = {k: pj / bound["by_component"][k] for k, pj in tile["by_component"].items()}
    assert {"buffer.read", "buffer.write"} == {k for k, r in parts.items() if r > 1 + 1e-9}
    assert min(parts.values()) > 1 - 1e-9
    assert tile["total"] / bound["total"] == pytest.approx(1.00276, abs=1e-5)


@pytest.mark.parametrize("level", ["tile", "pe"])
def test_reports_add_up(level):
    report = archsim.run(
        "softmax-1pass",
        ec.workload(M=7, P=6, E=3, F=5),
        "fusemax-4x4",
        "fusemax-ahead",
        level=level,
    )
    found = report.energy_pj
    for name in ("by_component", "by_einsum", "by_micro_op"):
        assert found["total"] == pytest.approx(sum(found[name].values()), rel=1e-12)
    assert {"QK[0] mac", "SLN[0] sub", "SLN[6] exp", "K.fetch", "AV.store"} <= set(
        found["by_micro_op"]
    )
    assert report.buffer_ports == {"asked": 4, "available": 4}
    assert ", 4 of 4 ports at most\n" in str(report)


def test_accounting_of_the_paper_stays_as_it_is():
    chip = archsim.load_architecture("fusemax-4x4")
    mapping = replace(archsim.load_mapping("fusemax"), limit_bytes=None)
    workload = ec.workload(M=8, P=4, E=4, F=4)
    run = {
        level: archsim.run(
            "softmax-1pass", workload, chip, mapping, level=level, accounting="paper"
        ).energy_pj
        for level in ("bound", "tile")
    }
    assert run["bound"] == run["tile"]


def test_hops_cost_energy_where_the_table_has_it():
    program = worked()
    chip = program.architecture
    priced = replace(chip, energy_pj=(*chip.energy_pj, ("hop", 0.5)))
    report = [
        archsim.run(
            "softmax-1pass", ec.workload(M=8, P=4, E=4, F=4), one, "fusemax-serial", level="tile"
        )
        for one in (chip, priced)
    ]
    # 256 of QK and of SLNV, 224 of SLN, 32 of LM and of SLD.
    assert report[1].energy_pj["by_component"]["array_2d.hops"] == 400
    assert report[1].energy_pj["total"] == pytest.approx(report[0].energy_pj["total"] + 400)


@pytest.mark.parametrize(
    ("mapping", "ports", "asked"),
    [("fusemax-serial", 4, 4), ("fusemax-serial", 3, 3), ("fusemax-ahead", 4, 4)],
)
def test_ports_asked(mapping, ports, asked):
    """Serial: QK (2) meets SPNV and RNV (1 each) in slots 23 to 26, but never RM or AV (2)."""
    assert asked == ports_asked(simulate(worked(mapping, ports)))


@pytest.mark.parametrize("level", ["tile", "pe"])
def test_too_few_ports(level):
    """RM of tile 0 in slot 9 meets the last slot of QK of tile 1, in 6 to 9."""
    with pytest.raises(ArchError) as error:
        simulate(worked("fusemax-ahead", ports=3), level)
    message = str(error.value)
    line = next(
        n
        for n, text in enumerate(
            Path(archsim.arch.architectures_folder(), "fusemax-4x4.yaml").read_text().splitlines(),
            1,
        )
        if text.startswith("    ports: {value: 4")
    )
    assert f"fusemax-4x4.yaml:{line}:" in message
    assert (
        "QK of tile 1 (read SQ, read K) and RM of tile 0 (read RM, write RM) ask buffer for 4 row "
        "vectors in slot 9; it has 3 ports"
    ) in message
    assert "give it 4 ports, or another order or lag to RM so that the two don't meet" in message


def test_one_task_alone_may_ask_for_too_much():
    chip = worked(ports=1).architecture
    with pytest.raises(ArchError) as error:
        simulate(archsim.lower("projection", ec.workload(N=4, S=4, D=4), chip, "projection"))
    message = str(error.value)
    assert "Z of tile 0 (read X, read W) asks buffer for 2 row vectors in slot 1;" in message
    assert "it has 1 port\n  give it 2 ports" in message


def test_without_facts_the_largest_demands_decide():
    timeline = replace(simulate(worked()), facts=())
    assert ports_asked(timeline) == 4
    few = replace(timeline, program=worked(ports=3))
    with pytest.raises(
        ArchError, match=r"QK \(read SQ, read K\) and RM .* in one slot, if they meet"
    ):
        ports_asked(few)
