"""Build and simulate generated hardware in Icarus, and compare it with the simulator.

The cycle in which each micro-op is issued, the total and every bit of the outputs must be those of
the slot engine and of the functional model.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.hdl.feeds import feeds
from archsim.hdl.package import rtl_folder
from archsim.hdl.top import Design
from archsim.program import Program
from archsim.slots import Run, execute, timeline_of
from einsum_cascade.errors import Problem, Source


@dataclass(frozen=True)
class Outcome:
    """What the hardware did, and what the simulator says."""

    simulated: int
    cycles: int
    # Cycles in which a full output stopped everything.
    frozen: int
    # Unit -> (micro-op's place in its order, cycle due, cycle found), where they differ.
    late: dict[str, tuple[tuple[int, int, int], ...]]
    rows: dict[str, tuple[int, int]]
    wrong: tuple[str, ...]
    fault: bool
    done: bool

    @property
    def values_hold(self) -> bool:
        """Everything came out, to the bit."""
        every = all(found == due for found, due in self.rows.values())
        return self.done and not self.fault and every and not self.wrong

    @property
    def cycles_hold(self) -> bool:
        """Every micro-op was issued when the simulator says."""
        return self.cycles == self.simulated and not any(self.late.values())

    def __str__(self) -> str:
        """Say what differs."""
        if self.values_hold and self.cycles_hold:
            return f"{self.cycles} cycles, as simulated; every bit as modelled"
        lines = [f"{self.cycles} cycles, {self.simulated} simulated, {self.frozen} stopped"]
        lines += [f"done {self.done}, fault {self.fault}, rows {self.rows}"]
        for unit, rows in self.late.items():
            lines += [
                f"{unit} micro-op {n}: due in {due}, issued in {at}" for n, due, at in rows[:3]
            ]
        return "\n".join([*lines, *self.wrong[:5]])


def run_machine(
    program: Program,
    design: Design,
    folder: Path,
    *,
    inputs: Mapping[str, Any] | None = None,
    rtl: Path | None = None,
    idle: float = 0.0,
    stall: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Simulate the hardware of a Program in Icarus.

    Args:
        program: what it is made from.
        design: the hardware.
        folder: where to build; written over.
        inputs: the cascade's inputs; random ones if none are given.
        rtl: another folder of blocks.
        idle: how often the memory side has no word to give, of all cycles.
        stall: how often it takes no result.
        seed: of both.

    Raises:
        ArchError: there is no cocotb or Icarus, or the simulation does not come to an end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = rtl or rtl_folder()
    for name, text in design.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    sources = [blocks / f"{leaf}.sv" for leaf in design.leaves]
    sources += [folder / name for name in design.files]
    # The bench feeds words whenever they are taken: a memory that is never late.
    run = execute(program.compute_only())
    timeline = timeline_of(run)
    given = feeds(program, random_inputs(program, seed) if inputs is None else inputs)
    arrays: dict[str, Any] = {f"in_{name}": rows for name, rows in given.streams.items()}
    for name, (rows, counts) in given.outputs.items():
        arrays |= {f"out_{name}": rows, f"counts_{name}": counts}
    np.savez(folder / "feeds.npz", **arrays)
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    env = {
        "BENCH_FEEDS": str(folder / "feeds.npz"),
        "BENCH_RESULT": str(result),
        "BENCH_IDLE": str(idle),
        "BENCH_STALL": str(stall),
        "BENCH_SEED": str(seed),
    }
    _simulate(design.name, sources, folder, env)
    if not result.exists():
        log = (folder / "test.log").read_text(encoding="utf-8", errors="replace")
        raise ArchError(
            Problem(Source(design.name), "the simulation gave no result\n" + log[-2000:])
        )
    return _outcome(program, json.loads(result.read_text(encoding="utf-8")), run, timeline.cycles)


def _simulate(top: str, sources: list[Path], folder: Path, env: dict[str, str]) -> None:
    try:
        from cocotb_tools.runner import get_runner
    except ImportError:
        hint = "pip install einsum-archsim[rtl], and Icarus Verilog: apt-get install iverilog"
        raise ArchError(Problem(Source("rtl"), "cocotb is not installed", hint=hint)) from None
    if shutil.which("iverilog") is None:
        hint = "apt-get install iverilog"
        raise ArchError(Problem(Source("rtl"), "Icarus Verilog is not installed", hint=hint))
    runner = get_runner("icarus")
    try:
        runner.build(
            sources=sources,
            hdl_toplevel=top,
            build_dir=folder / "build",
            build_args=["-g2012", "-Wall", "-Wno-timescale"],
            timescale=("1ns", "1ps"),
            log_file=folder / "build.log",
        )
        runner.test(
            hdl_toplevel=top,
            test_module="machine_tests",
            test_dir=rtl_folder() / "testbenches",
            build_dir=folder / "build",
            results_xml=str(folder / "results.xml"),
            extra_env=env,
            log_file=folder / "test.log",
        )
    except (SystemExit, RuntimeError, subprocess.CalledProcessError) as error:
        logs = [folder / "build.log", folder / "test.log"]
        text = "".join(p.read_text("utf-8", "replace")[-2000:] for p in logs if p.exists())
        what = f"{top} could not be simulated: {error}\n{text}"
        raise ArchError(Problem(Source("rtl"), what)) from None


def _outcome(program: Program, found: dict[str, Any], run: Run, simulated: int) -> Outcome:
    late = {}
    for unit, name in (("array", program.array.name), ("lanes", program.lanes.name)):
        due = [issue.at for issue in run.issued[name]]
        at = found["issued"][unit]
        rows = [(n, d, a) for n, (d, a) in enumerate(zip(due, at, strict=False)) if d != a]
        if len(due) != len(at):
            rows.append((min(len(due), len(at)), len(due), len(at)))
        late[unit] = tuple(rows)
    return Outcome(
        simulated,
        found["cycles"],
        found["frozen"],
        late,
        {name: (count, found["due"][name]) for name, count in found["rows"].items()},
        tuple(found["wrong"]),
        found["fault"],
        found["done"],
    )
