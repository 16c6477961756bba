"""The checks of `archsim rtl-test`: small machines in Icarus and a proof, for one architecture."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from archsim.arch import Architecture, with_shape
from archsim.errors import ArchError
from archsim.hdl.handshakes import prove
from archsim.hdl.package import rtl_folder
from archsim.hdl.simulator import Outcome, run_machine
from archsim.hdl.top import Design, generate
from archsim.lowering import lower_whole
from archsim.mapping import load_mapping
from archsim.program import Program
from einsum_cascade.cascade import workload_from
from einsum_cascade.errors import Problem

ATTENTION = "softmax-1pass"
# Arrays beyond this take minutes in Icarus; they are tested at 4 x 4.
LARGEST = 64


@dataclass(frozen=True)
class Check:
    """One test: "passed", "failed" or "skipped", and why."""

    name: str
    simulator: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Cycles:
    """What a program takes: as simulated, and in hardware."""

    arch: str
    cascade: str
    mapping: str
    sizes: dict[str, int]
    simulated: int
    rtl: int


def tested(architecture: Architecture) -> Architecture:
    """The architecture, at 4 x 4 if it is too large to be simulated."""
    array = next((a for a in architecture.arrays if "rows" in dict(a.axes)), None)
    return with_shape(architecture, 4, 4) if array and array.pes > LARGEST else architecture


def checks(architecture: Architecture) -> Iterator[tuple[Check, Cycles | None]]:
    """Run every check, one after the other."""
    small = tested(architecture)
    if not any("rows" in dict(a.axes) for a in small.arrays):
        what = f"{architecture.name} has no array with rows and columns"
        raise ArchError(Problem(architecture.place("arrays"), what))
    array = next(a for a in small.arrays if "rows" in dict(a.axes))
    rows, cols = dict(array.axes)["rows"], dict(array.axes)["cols"]
    sizes = {"M": 2 * rows, "P": cols, "E": 4, "F": 4}
    ragged = {"M": 3 * rows - 1, "P": 2 * cols - 1, "E": 3, "F": 5, "H": 2}
    causal = {"M": 3 * rows - 1, "P": 3 * cols - 2, "E": 3, "F": 2, "H": 2}
    window = {"M": 4 * rows - 1, "P": 2 * cols - 1, "E": 2, "F": 3, "H": 2, "W": rows + 1}
    grouped = {"M": 2 * rows + 1, "P": cols, "E": 2, "F": 2, "H": 4, "KV": 2}
    product = {"N": 2 * rows - 1, "D": rows + 1, "S": cols + 1}
    cases = (
        (ATTENTION, "fusemax-serial", "even tiles", sizes),
        (ATTENTION, "fusemax-ahead", "even tiles", sizes),
        (ATTENTION, "fusemax", "ragged tiles, two heads", ragged),
        ("causal-1pass", "fusemax-ahead", "ragged triangle, two heads", causal),
        ("window-1pass", "fusemax", "ragged window, two heads", window),
        ("causal-1pass", "fusemax", "heads that share keys", grouped),
        ("projection", "projection", "ragged tiles", product),
        ("projection", "projection-ws", "ragged tiles", product),
    )
    # Simulators are processes of their own: two at a time.
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_case, architecture.name, small, *case) for case in cases]
        jobs.append(pool.submit(lambda: (_stalling(small, sizes), None)))
        jobs.append(pool.submit(lambda: (_proof(small), None)))
        for job in jobs:
            yield job.result()


def _case(
    arch: str, small: Architecture, cascade: str, mapping: str, name: str, sizes: dict[str, int]
) -> tuple[Check, Cycles | None]:
    """One program: generated, simulated in Icarus, compared."""
    label = f"{cascade} through {mapping}, {name}"
    try:
        program = _program(small, cascade, mapping, sizes)
        design = generate(program)
    except ArchError as error:
        return Check(label, "icarus", "skipped", str(error)), None
    try:
        outcome = _run(program, design)
    except ArchError as error:
        return Check(label, "icarus", "failed", str(error)), None
    cycles = Cycles(arch, cascade, mapping, sizes, outcome.simulated, outcome.cycles)
    word = "passed" if outcome.cycles_hold and outcome.values_hold else "failed"
    return Check(label, "icarus", word, str(outcome)), cycles


def _program(
    architecture: Architecture, cascade: str, mapping: str, sizes: dict[str, int]
) -> Program:
    return lower_whole(cascade, workload_from("sizes", sizes), architecture, load_mapping(mapping))


def _run(program: Program, design: Design, idle: float = 0.0, stall: float = 0.0) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return run_machine(program, design, Path(folder), idle=idle, stall=stall)


def _stalling(architecture: Architecture, sizes: dict[str, int]) -> Check:
    name = "values with a memory that stalls"
    try:
        program = _program(architecture, ATTENTION, "fusemax-ahead", sizes)
        design = generate(program)
    except ArchError as error:
        return Check(name, "icarus", "skipped", str(error))
    try:
        outcome = _run(program, design, 0.4, 0.5)
    except ArchError as error:
        return Check(name, "icarus", "failed", str(error))
    return Check(name, "icarus", "passed" if outcome.values_hold else "failed", str(outcome))


def _proof(architecture: Architecture) -> Check:
    name = "skew and handshakes at 2 x 2, by induction"
    sizes = {"M": 4, "P": 2, "E": 2, "F": 2}
    try:
        design = generate(
            _program(with_shape(architecture, 2, 2), ATTENTION, "fusemax-serial", sizes)
        )
    except ArchError as error:
        return Check(name, "yosys, z3", "skipped", str(error))
    with tempfile.TemporaryDirectory() as folder:
        files = [rtl_folder() / f"{leaf}.sv" for leaf in design.leaves]
        for file, text in design.files.items():
            (Path(folder) / file).write_text(text, encoding="utf-8")
            files.append(Path(folder) / file)
        try:
            proof = prove(design.name, files, depth=2)
        except ArchError as error:
            return Check(name, "yosys, z3", "failed", str(error))
    return Check(name, "yosys, z3", "passed" if proof.holds else "failed", str(proof))
