"""Commands that write hardware for a Program, and test it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.command_line import Json, Model, SetSizes, app, bad, print_json, sizes

if TYPE_CHECKING:
    from archsim.arch import Architecture
    from archsim.program import Program

# Programs of up to so many micro-ops are simulated before hardware is written for them.
CHECKED = 500_000
Rows = Annotated[int | None, typer.Option(min=1, help="Rows of the array, instead of its own.")]
Cols = Annotated[int | None, typer.Option(min=1, help="Columns and lanes, instead of its own.")]


@app.command()
def rtl(
    arch: Annotated[str, typer.Argument(help="A shipped architecture or a YAML file.")],
    cascade: Annotated[str | None, typer.Option(help="Default: softmax-1pass.")] = None,
    mapping: Annotated[str | None, typer.Option(help="Default: fusemax.")] = None,
    model: Model = None,
    set_: SetSizes = None,
    program: Annotated[
        Path | None, typer.Option(help="A program that `archsim lower -o` wrote, instead.")
    ] = None,
    rows: Rows = None,
    cols: Cols = None,
    area: Annotated[
        bool, typer.Option("--area", help="Count the gates of each block with yosys, too.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="The folder to write.")] = None,
    as_json: Json = False,
) -> None:
    """Write the hardware of a program: SystemVerilog, a file list and a manifest.

    Without sizes: two tiles of keys and one of queries, and heads of four elements.
    """
    from archsim.hdl.package import contents
    from archsim.hdl.top import generate

    if out is None:
        raise bad("--output", "the folder to write is missing", "add: -o build/rtl")
    if program is not None and any((cascade, mapping, model, set_, rows, cols)):
        what = "a program file holds its cascade, mapping and sizes"
        raise bad("--program", what, "leave the other options out")
    found = _program(arch, cascade, mapping, model, set_, program, rows, cols)
    _check(found)
    design = generate(found)
    files = contents(found, design)
    gates: dict[str, Any] = {}
    if area:
        from archsim.hdl.gates import area_report

        gates = area_report(design)
    if out.exists() and not out.is_dir():
        raise bad("--output", f"{out} is a file")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        partial = out / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(out / name)
    if as_json:
        data = {"name": design.name, "folder": str(out), "files": list(files)}
        print_json({**data, "area": gates} if area else data)
        return
    print(f"{design.name}: {len(files)} files in {out}")
    print(f"  {found.shape[0]} x {found.shape[1]} PEs, {design.array.registers} registers each")
    print(f"  {found.shape[1]} lanes, {design.lanes.registers} registers each")
    for stream, words in design.streams.items():
        print(f"  stream {stream}: {words} words of 16 bit a row")
    for output in design.lanes.outputs:
        print(f"  output {output}: {found.shape[1]} words of 32 bit a row")
    if area:
        print("\n".join(gates["text"]))


def _program(
    arch: str,
    cascade: str | None,
    mapping: str | None,
    model: str | None,
    set_: list[str] | None,
    program: Path | None,
    rows: int | None,
    cols: int | None,
) -> Program:
    from archsim.arch import load_architecture, with_shape
    from archsim.lowering import lower_whole
    from archsim.program_file import load_program
    from einsum_cascade import catalog

    chip = load_architecture(arch)
    if program is not None:
        return load_program(program, chip)
    if rows is not None or cols is not None:
        chip = with_shape(chip, rows, cols)
    given = sizes(set_)
    if not given and model is None:
        given = _small(chip)
    workload = catalog.workload(model, **given)
    return lower_whole(cascade or "softmax-1pass", workload, chip, mapping or "fusemax")


def _check(program: Program) -> None:
    """Refuse what the simulator refuses: deadlocks, overflows, registers that are overwritten."""
    from archsim import slots
    from archsim.hazards import check_registers

    count = sum(program.slots(task) for task in program.tasks) * len(program.tiles)
    if count > CHECKED:
        text = f"{count:,} micro-ops: not simulated; `archsim run --level tile` does it"
        print(text, file=sys.stderr)
        return
    slots.simulate(program)
    check_registers(program)


def _small(chip: Architecture) -> dict[str, int]:
    """Sizes to begin with."""
    axes = {axis: size for array in chip.arrays for axis, size in array.axes}
    return {"M": 2 * axes.get("rows", 4), "P": axes.get("cols", 4), "E": 4, "F": 4}


@app.command("rtl-test")
def rtl_test(
    arch: Annotated[
        str, typer.Argument(help="A shipped architecture or a YAML file.")
    ] = "fusemax-4x4",
    as_json: Json = False,
) -> None:
    """Simulate generated hardware in Icarus: cycles, bits, stalls; and prove its handshakes.

    Arrays of more than 64 PEs are tested at 4 x 4.
    """
    from archsim.arch import load_architecture
    from archsim.hdl.checks import checks, tested

    chip = load_architecture(arch)
    small = tested(chip)
    if small is not chip:
        print(f"{chip.name} is too large for Icarus: tested at 4 x 4", file=sys.stderr)
    tests, cycles = [], []
    for check, taken in checks(chip):
        tests.append(check)
        if taken is not None:
            cycles.append(taken)
        print(f"{check.outcome:7} {check.name} ({check.simulator})", file=sys.stderr)
        if check.outcome != "passed":
            print(check.detail, file=sys.stderr)
    if as_json:
        data = [{k: v for k, v in asdict(check).items() if k != "detail"} for check in tests]
        print_json({"tests": data, "cycles": [asdict(taken) for taken in cycles]})
    else:
        for taken in cycles:
            where = ", ".join(f"{rank}={size}" for rank, size in taken.sizes.items())
            text = f"{taken.mapping:15} {taken.simulated:5} simulated {taken.rtl:5} in hardware"
            print(f"{text}  {where}")
    if not cycles or any(check.outcome == "failed" for check in tests):
        raise typer.Exit(1)
