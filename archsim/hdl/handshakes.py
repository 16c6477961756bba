"""Proofs by induction that handshakes keep their promises, with yosys and z3.

The blocks of rtl/ hold assertions for this (`ifdef FORMAL`). yosys turns a module into a transition
relation, with free values in place of what its arithmetic computes; z3 then shows that k cycles
without a violation cannot be followed by one, and that none follows a reset.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archsim.errors import ArchError
from einsum_cascade.errors import Problem, Source

# What computes values: no handshake depends on them.
_ARITHMETIC = ("alu", "fp_word")


@dataclass(frozen=True)
class Proof:
    """What was found about a module: `violation` is the cycle after a reset, if there is one."""

    module: str
    depth: int
    holds: bool
    violation: int | None = None


def prove(
    module: str,
    sources: Sequence[Path],
    *,
    depth: int = 3,
    parameters: dict[str, int] | None = None,
    words: bool = False,
    search: int = 0,
) -> Proof:
    """Prove the assertions of a module and of everything in it.

    Args:
        module: the top.
        sources: files of all modules.
        depth: cycles without a violation from which the next one follows.
        parameters: of the top.
        words: also follow single words through queues; for one block at a time.
        search: cycles more after a reset in which to look for a violation if there is no proof.

    Raises:
        ArchError: yosys or z3 is not installed.
    """
    try:
        import pyosys  # noqa: F401
        import z3
    except ImportError as error:
        hint = "pip install einsum-archsim[rtl]"
        raise ArchError(Problem(Source("rtl"), f"{error.name} is missing", hint=hint)) from None
    text = _relation(module, sources, parameters or {}, words=words)

    def satisfiable(lines: list[str]) -> bool:
        solver = z3.Solver()
        solver.from_string("\n".join([text, *lines]))
        found = solver.check()
        if found == z3.unknown:
            raise ArchError(Problem(Source(module), f"z3 gave up: {solver.reason_unknown()}"))
        return bool(found == z3.sat)

    def steps(count: int) -> list[str]:
        states = [f"(declare-const s{k} |{module}_s|)" for k in range(count)]
        moves = [f"(assert (|{module}_t| s{k} s{k + 1}))" for k in range(count - 1)]
        legal = [f"(assert (|{module}_u| s{k}))" for k in range(count)]
        return states + moves + legal

    def violation(cycles: range) -> int | None:
        for cycle in cycles:
            reset = [f"(assert (|{module}_n rst| s0))", f"(assert (not (|{module}_a| s{cycle})))"]
            if satisfiable([*steps(cycle + 1), *reset]):
                return cycle
        return None

    found = violation(range(1, depth + 2))
    if found is not None:
        return Proof(module, depth, holds=False, violation=found)
    fine = [f"(assert (|{module}_a| s{k}))" for k in range(depth)]
    if not satisfiable([*steps(depth + 1), *fine, f"(assert (not (|{module}_a| s{depth})))"]):
        return Proof(module, depth, holds=True)
    found = violation(range(depth + 2, depth + 2 + search))
    return Proof(module, depth, holds=False, violation=found)


def _relation(
    module: str, sources: Sequence[Path], parameters: dict[str, int], *, words: bool
) -> str:
    """The transition relation of a module in SMT-LIB."""
    defines = "-DFORMAL -DFORMAL_WORDS" if words else "-DFORMAL"
    commands = [f"read_verilog -sv -formal {defines} {path}" for path in sources]
    commands += [f"chparam -set {name} {value} {module}" for name, value in parameters.items()]
    commands.append(f"hierarchy -check -top {module}")
    commands += [f"blackbox {name}" for name in _ARITHMETIC]
    # Outputs without their ports: what no assertion depends on goes.
    commands += ["proc", "flatten", "cutpoint -blackbox", "delete -output o:*", "opt_clean -purge"]
    commands += ["memory_map", "async2sync"]
    commands += ["chformal -lower", "opt -full", "dffunmap", "opt_clean -purge"]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "relation.smt2"
        commands.append(f"write_smt2 {target}")
        # In a process of its own: yosys prints, and ends the process when a file is wrong.
        code = "import sys; from pyosys import libyosys; design = libyosys.Design()\n"
        code += "for command in sys.argv[1:]: libyosys.run_pass(command, design)"
        done = subprocess.run(
            [sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False
        )
        if done.returncode:
            what = f"yosys could not read {module}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
            raise ArchError(Problem(Source("rtl"), what))
        return target.read_text(encoding="utf-8")
