"""The hardware of a Program as a folder: generated files, their blocks, a list, a manifest."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from archsim.hdl.top import Design
from archsim.program import Program


def rtl_folder() -> Path:
    """The folder of checked-in blocks."""
    return Path(str(resources.files("archsim.rtl")))


def contents(program: Program, design: Design, *, blocks: bool = True) -> dict[str, str]:
    """Every file of the folder by name; nothing in it depends on where or when it is written."""
    found = dict(design.files)
    leaves = {
        f"{leaf}.sv": (rtl_folder() / f"{leaf}.sv").read_text("utf-8") for leaf in design.leaves
    }
    every = {**leaves, **found}
    if blocks:
        found = dict(every)
    found[f"{design.name}.f"] = "".join(f"{name}\n" for name in every)
    found[f"{design.name}.json"] = json.dumps(_manifest(program, design, every), indent=2) + "\n"
    return found


def _manifest(program: Program, design: Design, files: dict[str, str]) -> dict[str, Any]:
    rows, cols = program.shape
    return {
        "name": design.name,
        "cascade": program.cascade.name,
        "architecture": program.architecture.name,
        "mapping": program.placed.mapping.name,
        "sizes": dict(program.placed.workload.sizes),
        "rows": rows,
        "cols": cols,
        "latency": design.contract,
        "units": {
            unit: {
                "registers": body.registers,
                "queues": list(body.queues),
                "outputs": list(body.outputs),
                "functions": sorted(body.functions),
                "body": [f"{item.task.name} lag {item.lag}" for item in body.items],
            }
            for unit, body in (("array", design.array), ("lanes", design.lanes))
        },
        "ports": _ports(design.files[f"{design.name}.sv"]),
        "modules": [
            {
                "file": name,
                "module": Path(name).stem,
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
            }
            for name, text in files.items()
        ],
    }


def _ports(text: str) -> list[dict[str, Any]]:
    """Name, direction and width of each port of a module."""
    head = text[text.index("(") : text.index(");")]
    found = re.findall(r"(input|output)\s+(?:wire|reg)\s+(?:\[(\d+):0\]\s+)?(\w+)", head)
    return [
        {"name": name, "direction": direction, "width": int(last or 0) + 1}
        for direction, last, name in found
    ]
