"""One encoder layer: attention plus its six linear layers.

Each linear layer is the cascade `projection` on the 2D array. Tokens of all batches are its rows;
layers follow each other, and nothing overlaps with attention, as in the FuseMax paper.
"""

from __future__ import annotations

from collections.abc import Iterator

from archsim.arch import Architecture
from archsim.mapping import Mapping
from archsim.reporting import Report, run
from einsum_cascade.cascade import Cascade, Workload, workload_from


def linear_layers(workload: Workload) -> Iterator[tuple[str, Workload]]:
    """Yield the linear layers of an encoder: name, and sizes N tokens, D inputs, S outputs.

    Needs the ranks B, H, E, F, P, D (model width) and S (hidden width) of the workload.
    """
    tokens = workload.size("B", 1) * workload.size("P")
    width, hidden = workload.size("D"), workload.size("S")
    queries = workload.size("H", 1) * workload.size("E")
    values = workload.size("H", 1) * workload.size("F")
    for name, inner, outer in (
        ("Q", width, queries),
        ("K", width, queries),
        ("V", width, values),
        ("Z", values, width),
        ("FFN1", width, hidden),
        ("FFN2", hidden, width),
    ):
        sizes = {"N": tokens, "D": inner, "S": outer}
        yield name, workload_from(f"{workload.name}-{name}", sizes, name)


def run_linear_layers(
    projection: Cascade,
    workload: Workload,
    architecture: Architecture,
    mapping: Mapping,
    accounting: str,
) -> list[Report]:
    """Run every linear layer of an encoder through the published closed form."""
    return [
        run(projection, layer, architecture, mapping, level="published", accounting=accounting)
        for _, layer in linear_layers(workload)
    ]
