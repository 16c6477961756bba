"""Random programs of FuseMax's cascade: machines, orders, filters, sizes.

Engines and hardware run them.
"""

from dataclasses import replace

from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim.arch import Architecture, Latency
from archsim.issue import Body, Item
from archsim.lowering import lower
from archsim.program import Program

CASCADE = ec.load("softmax-1pass")
CASCADES = [
    CASCADE,
    *(ec.load(f"{kind}-1pass") for kind in ("causal", "window", "causal-gqa", "window-gqa")),
]
SMALL = archsim.load_architecture("fusemax-4x4")
SERIAL = archsim.load_mapping("fusemax-serial")
FILTERED = [ec.load(name) for name in ("causal-1pass", "window-1pass")]
ORDERS = [archsim.load_mapping(name) for name in ("fusemax", "fusemax-ahead", "fusemax-serial")]
# What each task needs of the same tile, and what runs where.
NEEDS = {
    "QK": (),
    "LM": ("QK",),
    "RM": ("LM",),
    "SLN": ("QK", "RM"),
    "SLD": ("SLN",),
    "SLNV": ("SLN",),
    "PRM": ("RM",),
    "SPD": ("PRM",),
    "RD": ("SPD", "SLD"),
    "SPNV": ("PRM",),
    "RNV": ("SPNV", "SLNV"),
    "AV": ("RNV", "RD"),
}
ARRAY = ("QK", "LM", "SLN", "SLD", "SLNV")


def machine(draw, longest: int = 4, *, in_hardware: bool = False) -> Architecture:
    """A small array with latencies of 1 to `longest` and slots of exp of 1 to 7.

    In hardware, an exp of one slot is a unit for a whole polynomial.
    """
    cycles = st.integers(1, longest)
    arrays = []
    hop = 1
    for array in SMALL.arrays:
        rows = []
        for row in array.operators:
            # Rows combine in one slot on the way down; anything else may take several.
            several = row.operator == "sub" or "lanes" in dict(array.axes)
            slots = draw(st.sampled_from([1, 1, 2])) if several else 1
            slots = draw(st.integers(1, 7)) if row.operator == "exp" else slots
            whole = row.operator == "exp" and slots == 1 and in_hardware
            method = draw(st.sampled_from(["poly3", "poly6"])) if whole else row.method
            latency = slots * draw(cycles)
            rows.append(replace(row, slots=slots, latency_cycles=latency, method=method))
        if "rows" in dict(array.axes):
            shape = (("rows", draw(st.integers(1, 4))), ("cols", draw(st.integers(1, 4))))
            down = [r.latency_cycles for r in rows if r.operator in ("mac", "max", "add")]
            hop = max(down) + draw(st.integers(0, 1))
        else:
            shape = (("lanes", dict(arrays[0].axes)["cols"]),)
        arrays.append(
            replace(
                array,
                axes=shape,
                operators=tuple(rows),
                register_entries=64,
                landing_entries=draw(st.sampled_from([6, 64, 64])),
                return_entries=draw(st.sampled_from([3, 8, 8])),
            )
        )
    latency = Latency(draw(cycles), hop, draw(st.integers(0, 3)))
    memories = tuple(
        replace(
            memory,
            # From never late to always late: a tile of 4 keys takes 1/16 to 300 cycles to fetch.
            bandwidth_bytes_per_s=int(draw(st.sampled_from([400, 4, 1, 0.3, 0.1])) * 2**30),
            latency_ns=draw(st.sampled_from([0, 0, 5, 40])),
        )
        if memory.parent is None
        else memory
        for memory in SMALL.memories
    )
    return replace(SMALL, arrays=tuple(arrays), latency=latency, memories=memories)


def bodies(draw) -> tuple[Body, ...]:
    """Orders that mostly can run: readers after makers of the same epoch, lags that grow."""
    lags: dict[str, int] = {}
    for task, needs in NEEDS.items():
        least = max((lags[n] for n in needs), default=0)
        lags[task] = least + draw(st.sampled_from([0, 0, 0, 0, 1, 1, 2]))
    # What reads the value of the tile before may not run ahead of what makes it; mostly.
    for reader, maker in (("SPD", "RD"), ("SPNV", "RNV")):
        if draw(st.integers(0, 19)):
            lags[reader] = lags[maker]
    found = []
    for unit, names in (
        ("array_2d", ARRAY),
        ("array_1d", tuple(task for task in NEEDS if task not in ARRAY)),
    ):
        # Any order in which a task stands behind all it needs, directly or not, in its epoch.
        left, order = list(names), []
        while left:
            ready = [t for t in left if not any(o in _all_needs(t, lags) for o in left if o != t)]
            order.append(draw(st.sampled_from(ready)))
            left.remove(order[-1])
        if draw(st.integers(0, 29)) == 0:
            order = draw(st.permutations(order))
        items = [Item(task, lags[task]) for task in order]
        items = _fused(draw, items)
        entries = []
        while items:
            count = draw(st.sampled_from([1, 1, 2]))
            pair = items[:count]
            if len(pair) == 2 and draw(st.integers(0, 19)):
                # Only tasks that go word by word can take turns with what they read.
                needs = _all_needs(pair[1].task.split("+")[0], lags)
                words = {pair[0].task, pair[1].task} == {"SPNV", "RNV"}
                pair = pair if words or pair[0].task.split("+")[-1] not in needs else pair[:1]
            entries.append(tuple(pair))
            items = items[len(pair) :]
        found.append(Body(unit, tuple(entries)))
    return tuple(found)


def _all_needs(task: str, lags: dict[str, int]) -> set[str]:
    """Everything a task needs in its own epoch."""
    found = set()
    for need in NEEDS[task]:
        found |= {need} | _all_needs(need, lags)
    return {need for need in found if lags[need] == lags[task]}


def _fused(draw, items: list[Item]) -> list[Item]:
    """Now and then a product and the sum that reads it become one multiply-accumulate."""
    for first, second in (("SPNV", "RNV"), ("SPD", "RD")):
        names = [item.task for item in items]
        if first in names and draw(st.integers(0, 3)) == 0:
            at = names.index(second)
            items[at] = Item(f"{first}+{second}", items[at].lag)
            items = [item for item in items if item.task != first]
    return items


class Case:
    """A program that shows as assembly when a test fails."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def __repr__(self) -> str:
        latencies = [(r.operator, r.slots, r.latency_cycles) for r in self.program.array.operators]
        lanes = [(r.operator, r.slots, r.latency_cycles) for r in self.program.lanes.operators]
        return f"{self.program}\n{self.program.architecture.latency} {latencies} {lanes}"


@st.composite
def programs(draw, longest: int = 4, *, in_hardware: bool = False) -> Case:
    """Programs of every task kind, with remainders, several heads and query tiles."""
    architecture = machine(draw, longest, in_hardware=in_hardware)
    sizes = {
        "E": draw(st.integers(1, 4)),
        "F": draw(st.integers(1, 5)),
        "M": draw(st.integers(1, 11)),
        "P": draw(st.integers(1, 9)),
        "H": draw(st.integers(1, 2)),
        "P1": draw(st.integers(1, 2)),
        "G": draw(st.integers(1, 3)),
        "W": draw(st.integers(1, 8)),
    }
    mapping = replace(
        SERIAL, order=bodies(draw), drain=draw(st.sampled_from(["never", "never", "head"]))
    )
    cascade = draw(st.sampled_from([CASCADE, *CASCADES]))
    return Case(lower(cascade, ec.workload(**sizes), architecture, mapping))


@st.composite
def long_programs(draw, keys: int = 70, queries: int = 30) -> Case:
    """Programs long enough to repeat: shipped and random orders, heads, slow memories."""
    architecture = machine(draw)
    shipped = draw(st.booleans())
    order = draw(st.sampled_from(ORDERS)).order if shipped else bodies(draw)
    sizes = {
        "E": draw(st.integers(1, 3)),
        "F": draw(st.integers(1, 3)),
        "M": draw(st.integers(1, keys)),
        "P": draw(st.integers(1, queries)),
        "H": draw(st.integers(1, 4)),
        "B": draw(st.integers(1, 2)),
        "P1": draw(st.integers(1, 4)),
    }
    mapping = replace(SERIAL, order=order, drain=draw(st.sampled_from(["never", "never", "head"])))
    if draw(st.booleans()):
        # Queries outside: a row of tiles is what one query tile sees.
        mapping = replace(mapping, loops=("p2", "p1", "m1"))
    cascade = draw(st.sampled_from([CASCADE, CASCADE, *FILTERED]))
    if cascade.name == "window-1pass":
        sizes["W"] = draw(st.integers(1, keys))
    return Case(lower(cascade, ec.workload(**sizes), architecture, mapping))


def expected(program: Program, inputs: dict) -> dict:
    """What the naive interpreter says."""
    ranks = [rank for rank in ("M0", "G", "W") if rank in program.cascade.ranks]
    return ec.evaluate(program.cascade, sizes={r: program.sizes[r] for r in ranks}, **inputs)
