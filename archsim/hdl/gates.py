"""Gates of a design's blocks, counted by yosys: relative figures, no claim about a technology.

A gate equivalent is a NAND of two inputs; weights are those of a plain static CMOS library. Blocks
are synthesised one by one and multiplied by how often they occur; wires are not counted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from archsim.errors import ArchError
from archsim.hdl.package import rtl_folder
from archsim.hdl.top import Design
from einsum_cascade.errors import Problem, Source

# Gate equivalents of yosys' cells (transistors over four); flip-flops with 23 transistors.
WEIGHTS = {
    "NOT": 0.5, "BUF": 1.0, "NAND": 1.0, "NOR": 1.0, "AND": 1.5, "OR": 1.5, "ANDNOT": 1.5,
    "ORNOT": 1.5, "XOR": 2.5, "XNOR": 2.5, "MUX": 2.5, "DFF": 5.75,
}  # fmt: skip


def area_report(design: Design) -> dict[str, Any]:
    """Gate equivalents and flip-flops of each block of a design, with `text` as lines.

    Raises:
        ArchError: yosys is not installed.
    """
    top = design.files[f"{design.name}.sv"]
    rows: list[tuple[str, int, str, dict[str, str]]] = []
    for unit in ("array", "lanes"):
        parameters = _parameters(top, "grid", unit)
        height, width = int(parameters.pop("ROWS")), int(parameters.pop("COLS"))
        one = {"array": "PE", "lanes": "lane"}[unit]
        pe = {k: v for k, v in parameters.items() if k not in ("QUEUES", "DEPTH", "HOLDS")}
        rows.append((one, height * width, "pe", pe))
        head = {k: v for k, v in parameters.items() if k in ("QUEUES", "DEPTH", "POOL")}
        rows.append((f"queues of a {one}'s column", width, "column_head", head))
        rows.append((f"walker of the {unit}", 1, f"{design.name}_{unit}_walker", {}))
        rows.append((f"table of the {unit}", 1, f"{design.name}_{unit}_table", {}))
        sizes = _parameters(top, "sequencer", f"{unit}_sequencer")
        rows.append((f"sequencer of the {unit}", 1, "sequencer", sizes))
    found = [(name, count, *_count(design, module, given)) for name, count, module, given in rows]
    total = sum(count * gates for _, count, gates, _ in found)
    text = [f"  {'block':28}{'count':>6}{'gates':>9}{'flip-flops':>12}{'share':>8}"]
    for name, count, gates, bits in found:
        share = gates * count / total
        text.append(f"  {name:28}{count:6}{gates:9,.0f}{bits:12,}{share:8.1%}")
    text.append("  gates: equivalents of a two-input NAND, relative figures without wires")
    blocks = [
        {"block": name, "count": count, "gates": round(gates), "flip_flops": bits}
        for name, count, gates, bits in found
    ]
    return {"blocks": blocks, "total_gates": round(total), "text": text}


def _parameters(top: str, module: str, name: str) -> dict[str, str]:
    """What the top sets of an instance."""
    instance = re.search(module + r" #\(([^#]*?)\n    \) " + name + r" \(", top)
    assert instance is not None, name
    return dict(re.findall(r"\.(\w+)\(([^()]*)\)", instance[1]))


def _count(design: Design, module: str, parameters: dict[str, str]) -> tuple[float, int]:
    """Gate equivalents and flip-flops of one module with everything in it."""
    with tempfile.TemporaryDirectory() as folder:
        files = [rtl_folder() / f"{leaf}.sv" for leaf in design.leaves]
        for name, text in design.files.items():
            if name != f"{design.name}.sv":
                (Path(folder) / name).write_text(text, encoding="utf-8")
                files.append(Path(folder) / name)
        commands = [f"read_verilog -sv {path}" for path in files]
        given = " ".join(f"-set {name} {value}" for name, value in parameters.items())
        commands += [f"chparam {given} {module}"] if given else []
        commands.append(f"synth -flatten -noabc -top {module}")
        commands += [
            "dfflegalize -cell $_DFF_P_ 01",
            "abc -g AND,NAND,OR,NOR,XOR,XNOR,MUX -script +strash;ifraig;scorr;dc2;map",
        ]
        commands += ["opt_clean -purge", f"tee -q -o {folder}/stat.json stat -json"]
        code = "import sys; from pyosys import libyosys as ys; design = ys.Design()\n"
        code += "for command in sys.argv[1:]: ys.run_pass(command, design)"
        done = subprocess.run(
            [sys.executable, "-c", code, *commands], capture_output=True, text=True, check=False
        )
        path = Path(folder) / "stat.json"
        if done.returncode or not path.exists():
            what = f"yosys could not synthesise {module}\n{(done.stdout + done.stderr)[-1500:]}"
            raise ArchError(
                Problem(Source("rtl"), what, hint="pip install einsum-archsim[rtl] brings yosys")
            )
        found = json.loads(path.read_text(encoding="utf-8"))["design"]["num_cells_by_type"]
    gates, bits = 0.0, 0
    for cell, count in found.items():
        kind = cell.strip("$_").split("_")[0]
        gates += WEIGHTS[kind] * count
        bits += count if kind == "DFF" else 0
    return gates, bits
