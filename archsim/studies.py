"""Studies that the documentation shows: each is a command, `archsim study NAME`.

`flat-lanes`: how far FuseMax's headline depends on FLAT having as few lanes as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

from archsim.arch import Architecture, load_architecture
from archsim.ladder import run
from archsim.mapping import Mapping, Placement, load_mapping
from archsim.reproduction import LENGTHS, MODELS
from einsum_cascade.cascade import Cascade
from einsum_cascade.catalog import load, workload
from einsum_cascade.expressions import Expr
from einsum_cascade.language import parse_expression


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to treat FLAT: mean speedups of FuseMax over it."""

    what: str
    mean: float
    mean_up_to_64k: float


def with_lanes(architecture: Architecture, lanes: int) -> Architecture:
    """Return an architecture with another number of lanes."""
    arrays = tuple(
        replace(array, axes=(("lanes", lanes),)) if array.name == "array_1d" else array
        for array in architecture.arrays
    )
    return replace(architecture, arrays=arrays)


def _placed(mapping: Mapping, changes: dict[str, Placement | None], cycles: str) -> Mapping:
    """Return a mapping with Einsums placed anew (None: removed) and another closed form."""
    placements = {**dict(mapping.placements), **changes}
    kept = tuple((name, where) for name, where in placements.items() if where is not None)
    form = mapping.published
    assert form is not None
    own = {name for name, _ in kept}

    def known(entries: tuple[tuple[str, Expr], ...]) -> tuple[tuple[str, Expr], ...]:
        return tuple((name, text) for name, text in entries if name in (*own, "Q", "K", "V"))

    return replace(
        mapping,
        placements=kept,
        spilled=known(mapping.spilled),
        passing=tuple(name for name in mapping.passing if name in own),
        forwarded=(),
        published=replace(form, cycles=(parse_expression(cycles),), write=known(form.write)),
    )


def _deferred(mapping: Mapping, divisions: str) -> Mapping:
    """FLAT for the cascade that divides last: exponentials take the place of the weights."""
    where = dict(mapping.placements)
    lanes = Placement("array_1d", (("lanes", ("p0",)),), ())
    changed = _placed(
        mapping,
        {"A": None, "AV": lanes, "SNV": where["AV"]},
        f"max(QK + SNV, GM + SN + SD{divisions})",
    )
    old, form = mapping.published, changed.published
    assert old is not None
    assert form is not None
    weights = {"SN": dict(old.read)["A"]}
    read = {name: formula for name, formula in form.read if name != "A"} | weights
    write = dict(form.write) | {"SN": dict(old.write)["A"]}
    return replace(
        changed, published=replace(form, read=tuple(read.items()), write=tuple(write.items()))
    )


def flat_lanes() -> list[Variant]:
    """Mean attention speedup of FuseMax over FLAT, under fairer and less fair FLATs."""
    flat, cascade = load_mapping("flat"), load("softmax-3pass")
    base = load_architecture("flat")
    where = dict(flat.placements)
    separate = replace(where["SN"], pipelined=())
    unpipelined = _placed(flat, {"SN": separate}, "max(QK + AV, GM + SN + SD + A)")
    # The weighted sum with keys on the rows, as the unfused mapping has it: all PEs are busy.
    better = _placed(flat, {"AV": where["QK"]}, "max(QK + AV, GM + SN + SD + A)")
    late = load("softmax-3pass-deferred")
    rows: list[tuple[str, Cascade, Architecture, Mapping]] = [
        ("as published: 256 lanes", cascade, base, flat),
        ("exp and subtraction in separate slots", cascade, base, unpipelined),
        ("division deferred, not counted", late, base, _deferred(flat, "")),
        ("division deferred to the output", late, base, _deferred(flat, " + AV")),
        ("512 lanes", cascade, with_lanes(base, 512), flat),
        ("1024 lanes", cascade, with_lanes(base, 1024), flat),
        ("2048 lanes and a full array for AV", cascade, with_lanes(base, 2048), better),
    ]
    return [_variant(*row) for row in rows]


def _variant(what: str, cascade: Cascade, architecture: Architecture, mapping: Mapping) -> Variant:
    speedups = []
    for model in MODELS:
        for length in LENGTHS:
            sizes = workload(model, M=length, P=length)
            theirs = run(cascade, sizes, architecture, mapping, level="published")
            ours = run("softmax-1pass", sizes, "fusemax", "fusemax", level="published")
            speedups.append((length, theirs.latency_s / ours.latency_s))
    return Variant(
        what,
        fmean(speedup for _, speedup in speedups),
        fmean(speedup for length, speedup in speedups if length <= 65536),
    )


STUDIES: dict[str, Callable[[], list[Variant]]] = {"flat-lanes": flat_lanes}
