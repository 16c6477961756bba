"""Is a sweep legal? Every path, and every value of every axis, is tried before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from archsim.batches import LEVELS
from archsim.errors import ArchError
from archsim.placement import BATCH_RANKS, known_ranks
from archsim.sweeps.axes import Value
from archsim.sweeps.definition import KINDS, Sweep
from archsim.sweeps.inputs import Inputs, field_names, named_in, sizes_of
from archsim.sweeps.overrides import whole_path
from archsim.sweeps.schema import neighborhood_model, numbers_model
from archsim.sweeps.special import TILES, WINDOWS
from einsum_cascade.cascade import Cascade
from einsum_cascade.documents import Document
from einsum_cascade.errors import CascadeError, Problem, legal_words

Place = tuple[str | int, ...]
# What may stand in front of the first dot of a path. A label says nothing but what to call a point.
PREFIXES = (*KINDS, "sizes", "neighborhood", "numbers", "label")
# Sections of the file whose fields are no sizes, and the levels that read them.
SECTIONS: dict[str, Callable[[], Any]] = {
    "neighborhood": neighborhood_model,
    "numbers": numbers_model,
}
LEVELS_OF = {"neighborhood": ("tile",), "numbers": LEVELS}
# Numbers of a report by their path; with a dot at the end names of the inputs follow.
REPORTED = (
    "latency_s", "cycles", "lower_bound_cycles",
    "energy_pj.total", "energy_pj.by_component.", "energy_pj.by_einsum.", "energy_pj.by_micro_op.",
    "area_um2.total", "area_um2.by_component.",
    "traffic_bytes.total", "traffic_bytes.dram_read", "traffic_bytes.dram_write",
    "traffic_bytes.by_tensor.",
    "buffer_bytes.needed", "buffer_bytes.capacity", "buffer_ports.asked", "buffer_ports.available",
    "utilization.", "utilization_by_einsum.", "stall_cycles.", "sizes.", "tiles.", "hardware.",
)  # fmt: skip
PASSES = ("passes", "traffic_bytes.", "buffer_bytes.capacity", "sizes.")
# What `numbers` adds.
ERRORS = ("error_rms", "error_max")


def check(sweep: Sweep, inputs: Inputs) -> None:
    """Try every value of every axis once, alone; ArchError with the places of those not legal."""
    problems: list[Problem] = []
    for axis in sweep.axes:
        for path in axis.paths:
            head = path.partition(".")[0]
            if head not in PREFIXES or (path == head and head not in (*KINDS, "label")):
                hint = legal_words(head, PREFIXES, "a path starts with")
                problems.append(
                    sweep.document.problem(axis.key, f"unknown path '{path}'", hint, at_key=True)
                )
    if problems:
        raise ArchError(problems)
    problems += [*_bad_sections(sweep), *_bad_numbers(sweep)]
    # Names that all points have, or that the first point has; no other values.
    named = {path: value for path, value in sweep.fixed if not path.startswith("sizes.")}
    first = sweep.at((0,) * len(sweep.axes))
    named |= {kind: first[kind] for kind in KINDS if kind in first}
    problems += _bad_sizes(sweep)
    for axis in sweep.axes:
        for index, values in enumerate(axis.values):
            own = dict(zip(axis.paths, values, strict=True))
            try:
                _try(inputs, named | own, axis.paths)
            except (ArchError, CascadeError) as error:
                problem = error.problems[0]
                place: Place = (*axis.key, index)
                problems.append(sweep.document.problem(place, problem.message, problem.hint))
    if not problems:
        problems += [*_same_fields(sweep, inputs, first), *_unknown_ranks(sweep, inputs, first)]
    if problems:
        # Values of a range stand at one place, and a path that is unknown is so for each of them.
        raise ArchError(list(dict.fromkeys(problems)))


def _try(inputs: Inputs, values: Mapping[str, Value], paths: Iterable[str]) -> None:
    """Make what the given paths are part of."""
    for head in dict.fromkeys(path.partition(".")[0] for path in paths):
        if head in ("sizes", "model"):
            inputs.workload(values)
        elif head in KINDS:
            inputs.made_of(values, head)


def _bad_sizes(sweep: Sweep) -> Iterable[Problem]:
    """Sizes that all points have and that are none."""
    for path, value in sweep.fixed:
        if path.startswith("sizes."):
            try:
                sizes_of({path: value})
            except CascadeError as error:
                problem = error.problems[0]
                rank = path.removeprefix("sizes.")
                yield sweep.document.problem(("sizes", rank), problem.message, problem.hint)


def _unknown_ranks(sweep: Sweep, inputs: Inputs, values: Mapping[str, Value]) -> Iterator[Problem]:
    """A size of a rank that nothing has is a slip of the pen."""
    names = {kind: [v for k, v, _ in named_in(sweep) if k == kind] for kind in KINDS}
    known: set[str] = set()
    for name in names["cascade"]:
        made = inputs.made_of({**values, "cascade": name}, "cascade")
        assert isinstance(made, Cascade)
        known |= {*made.ranks, *BATCH_RANKS}
        for other in names["mapping"]:
            known |= known_ranks(made, inputs.made_of({**values, "mapping": other}, "mapping"))
    for name in names["model"]:
        sizes = dict(inputs.workload({**values, "model": name}).sizes)
        known |= sizes.keys() - sizes_of(values).keys()
    for path, place in _paths(sweep, "sizes"):
        rank = path.removeprefix("sizes.")
        if rank not in known:
            hint = legal_words(rank, sorted(known), "known ranks")
            what = f"no cascade of the sweep has a rank {rank}"
            yield sweep.document.problem(place, what, hint, at_key=True)


def _same_fields(sweep: Sweep, inputs: Inputs, values: Mapping[str, Value]) -> Iterator[Problem]:
    """Two paths of which one is in the other, however they are spelt: the later would win."""
    for kind in KINDS:
        named = inputs.named({kind: values[kind]}, kind) if kind in values else None
        if named is None:
            continue
        taken: dict[tuple[str, ...], str] = {}
        for path, place in _paths(sweep, kind):
            whole = whole_path(named[0].data, path.removeprefix(f"{kind}."), field_names(kind))
            for other, name in taken.items():
                if whole[: len(other)] == other or other[: len(whole)] == whole:
                    what = f"'{path}' and '{name}' are of one field"
                    yield sweep.document.problem(place, what, "vary one of them", at_key=True)
            taken[whole] = path


def _paths(sweep: Sweep, head: str) -> Iterator[tuple[str, Place]]:
    """Paths that start with a word, and the places of their keys: varied ones, then fixed ones."""
    for axis in sweep.axes:
        yield from ((path, axis.key) for path in axis.paths if path.startswith(f"{head}."))
    for path, _ in sweep.fixed:
        if path.startswith(f"{head}.") and path not in sweep.varied:
            yield path, (head, path.removeprefix(f"{head}."))


def _bad_sections(sweep: Sweep) -> Iterator[Problem]:
    """Fields of `neighborhood` and `numbers` that are unknown, not legal, or that nothing reads."""
    document = sweep.document
    for head, make in SECTIONS.items():
        model, fixed = make(), _fields_of(sweep, head)
        for path, place in _paths(sweep, head):
            name = path.removeprefix(f"{head}.")
            if name not in model.model_fields:
                hint = legal_words(name, model.model_fields, "known keys")
                yield document.problem(place, f"{head} has no '{name}'", hint, at_key=True)
            elif not fixed:
                needed = [k for k, field in model.model_fields.items() if field.is_required()]
                what, hint = f"the sweep has no {head}", f"give it: {', '.join(needed)}"
                yield document.problem(place, what, hint, at_key=True)
            elif path not in sweep.varied:
                yield from _bad_field(document, head, name, fixed, place)
        for axis in sweep.axes if fixed else ():
            for index, values in enumerate(axis.values):
                own = zip(axis.paths, values, strict=True)
                given = {p.partition(".")[2]: v for p, v in own if p.startswith(f"{head}.")}
                for name in given.keys() & model.model_fields.keys():
                    where: Place = (*axis.key, index)
                    yield from _bad_field(document, head, name, fixed | given, where)
        if fixed and sweep.level not in LEVELS_OF[head]:
            what = f"level {sweep.level} takes no {head}"
            hint = f"levels that do: {', '.join(LEVELS_OF[head])}"
            yield document.problem(("level",), what, hint)
    if _fields_of(sweep, "neighborhood"):
        for path, place in _paths(sweep, "sizes"):
            if path in ("sizes.M", "sizes.P"):
                what = f"{path} follows from the shape of the neighborhood"
                yield document.problem(place, what, "leave it out", at_key=True)


def _fields_of(sweep: Sweep, head: str) -> dict[str, Value]:
    """What a section of the sweep gives to all points."""
    start = f"{head}."
    return {path.removeprefix(start): v for path, v in sweep.fixed if path.startswith(start)}


def _bad_field(
    document: Document,
    head: str,
    name: str,
    given: Mapping[str, Value],
    place: Place,
) -> Iterator[Problem]:
    """A value of a section that its model refuses, no shape, or no unit that computes 2^x."""
    from pydantic import ValidationError

    from einsum_cascade.exp_units import UNITS
    from einsum_cascade.neighborhood_tiles import read_shape

    hint = ""
    try:
        SECTIONS[head]().model_validate(given)
        if name in (*WINDOWS, *TILES):
            hint = "tokens in each dimension, such as 4x8x8"
            read_shape(str(given[name]))
        if name == "exp" and given[name] not in UNITS:
            hint = legal_words(str(given[name]), UNITS, "units for 2^x")
            raise ValueError(f"unknown unit '{given[name]}'")
    except ValidationError as error:
        for detail in error.errors():
            if detail["loc"][0] == name:
                yield document.problem(place, f"{name}: {detail['msg'].lower()}")
                return
    except ValueError as error:
        yield document.problem(place, str(error), hint)


def _bad_numbers(sweep: Sweep) -> Iterator[Problem]:
    """Objectives and constraints of what is no number of a report, nor of an axis."""
    asked: list[tuple[str, Place]] = [(path, ("objectives", path)) for path, _ in sweep.objectives]
    asked += [(limit.path, ("constraints", i)) for i, limit in enumerate(sweep.constraints)]
    known = (*(PASSES if sweep.level == "passes" else REPORTED), *ERRORS)
    cells: dict[str, list[Value]] = {path: [value] for path, value in sweep.fixed}
    for axis in sweep.axes:
        cells |= dict(zip(axis.paths, map(list, zip(*axis.values, strict=True)), strict=True))
    for path, place in asked:
        if path in cells:
            if all(isinstance(v, int | float) and not isinstance(v, bool) for v in cells[path]):
                continue
            what, hint = f"not all values of {path} are numbers", "name a number of the report"
        elif any(path.startswith(one) if one.endswith(".") else path == one for one in known):
            continue
        else:
            what, hint = f"a report has no number '{path}'", legal_words(path, known, "numbers")
        yield sweep.document.problem(place, what, hint, at_key=place[0] == "objectives")
