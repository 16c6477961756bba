"""Any cascade as functions, one for each Einsum: over rows or points, of whole tensors or chunks.

Each takes extents n, parameters par, chunks z, and the tensors it reads and makes; s holds, for
each tensor, a bit for each axis along which its presence may vary (`compiled_points`). Where
something may be empty in some calls only, there is a function for each case, and those that are
called are compiled. A recurrence is one function. `compiled_run` calls them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_chunks import Chunk
from einsum_cascade.compiled_empty import (
    FILTER,
    GAP,
    empty_causes,
    is_safe,
    is_sized,
    split_ranks,
)
from einsum_cascade.compiled_gathers import Gather
from einsum_cascade.compiled_groups import Group, groups
from einsum_cascade.compiled_plan import Stage
from einsum_cascade.compiled_points import Points
from einsum_cascade.compiled_reductions import Reduction, folded_of
from einsum_cascade.compiled_rows import lane_of
from einsum_cascade.compiled_text import Text
from einsum_cascade.compiled_tidy import moved_bits, without_unused
from einsum_cascade.expressions import accesses
from einsum_cascade.hardware_numbers import Numbers
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, Plan

JIT = '@njit(nogil=True, cache=True, error_model="numpy")'
# What a recurrence calls is kept in its own cache entry.
INNER = '@njit(error_model="numpy")'
# Ends of names: something that is read may be empty; also because of a ragged tile.
EMPTY, RAGGED = "_empty", "_ragged"
# The bit of a function's result that says that something is empty.
ANY = 40


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a group: which tensors it takes, and when something it reads may be empty."""

    name: str
    # With their presence, if they have it.
    tensors: tuple[str, ...]
    made: tuple[str, ...]
    # In all calls, in no call, or if one of these tensors or split ranks has something empty.
    always: bool = True
    partial: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    @property
    def cases(self) -> list[str]:
        """Ends of the names of its functions."""
        found = [] if self.always else [""]
        if self.always or self.partial:
            found.append(EMPTY)
        return [*found, RAGGED] if self.splits else found


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything that runs a part of a cascade which is not tiled."""

    groups: tuple[tuple[Group, tuple[Call, ...]], ...]
    # Computed tensors in the order of s, and what may be empty in them.
    names: tuple[str, ...]
    causes: Mapping[str, frozenset[str]]
    # Ranks that lanes mostly run along, of each group.
    lanes: tuple[str, ...]
    # Tensors that are not written everywhere, and those whose empty rows are not.
    gaps: frozenset[str]
    flagged: frozenset[str]
    # Whether batch elements have the same empty elements, which are then found once in a chunk.
    is_shared: bool


@functools.cache
def steps_of(cascade: Cascade, name: str, given: frozenset[str] = frozenset()) -> Steps:
    """Plan what `write_steps` writes; `given` inputs follow from sizes."""
    causes = empty_causes(cascade)
    found, lanes = [], []
    whole = groups(cascade, causes)
    is_alone = len(whole) == 1 and bool(whole[0].chunks)
    is_shared = (
        is_alone and is_sized(cascade, given) and any(FILTER in why for why in causes.values())
    )
    for i, group in enumerate(whole):
        calls = tuple(
            _call(cascade, step, f"{name}_{i}_{j}", causes) for j, step in enumerate(group.steps)
        )
        found.append((group, calls))
        lanes.append(_main_lane(cascade, group))
    selected = {e.name for e in cascade.einsums if e.op is not None and REDUCTIONS[e.op].selects}
    gaps = selected | {tensor for tensor, why in causes.items() if GAP in why}
    names = tuple(dict.fromkeys(einsum.name for einsum in cascade.einsums))
    flagged = {
        tensor
        for group, _ in found
        for tensor in group.local
        if causes[tensor] and GAP not in causes[tensor] and _is_flagged(cascade, tensor)
    }
    return Steps(
        groups=tuple(found),
        names=names,
        causes=causes,
        lanes=tuple(lanes),
        gaps=frozenset(gaps),
        flagged=frozenset(flagged),
        is_shared=is_shared,
    )


def _is_flagged(cascade: Cascade, tensor: str) -> bool:
    """True if a tensor is made and read in rows of lanes only, so that a flag tells of each row."""
    readers = [(e, read) for e in cascade.einsums for read in e.reads if read.tensor == tensor]
    makers = [(e, e.target) for e in cascade.defining(tensor)]
    # A filter reads what is empty, too, so all of it must be written.
    if any(tensor == read.tensor for e, _ in readers for read in accesses(e.where)):
        return False
    for einsum, access in (*makers, *readers):
        lane = lane_of(cascade, einsum, ())
        *others, last = access.indices
        if not others or lane is None or str(last) != lane:
            return False
        if any(lane in variables_in(index) for index in others):
            return False
        if not all(is_safe(cascade, access, axis) for axis in range(len(access.indices))):
            return False
    # What is folded is made number by number.
    return len(makers) == 1 and folded_of(cascade, makers[0][0], ()) is None


def _main_lane(cascade: Cascade, group: Group) -> str:
    """The rank of chunks that most lanes run along, else the last."""
    ranks = [rank for rank, _ in group.chunks]
    found = []
    for step in group.steps:
        lane = lane_of(cascade, step, ()) if isinstance(step, Einsum) and ranks else None
        if lane is not None and isinstance(step, Einsum) and lane in group.chunked(step):
            found.append(ranks[group.chunked(step).index(lane)])
    return max(reversed(ranks), key=found.count, default="")


def _call(
    cascade: Cascade, step: Einsum | Loop, name: str, causes: Mapping[str, frozenset[str]]
) -> Call:
    if isinstance(step, Loop):
        made = tuple(dict.fromkeys(e.name for e in step.einsums))
        read = dict.fromkeys(access.tensor for e in step.einsums for access in e.reads)
        return Call(f"{name}_loop", tuple(dict.fromkeys((*read, *made))), made)
    read = dict.fromkeys(access.tensor for access in step.reads)
    tensors = tuple(dict.fromkeys((*read, step.name)))
    name = f"{name}_{step.name}"
    if lane_of(cascade, step, ()) is None and folded_of(cascade, step, ()) is None:
        return Call(name, tensors, (step.name,))
    always = any(GAP in causes.get(tensor, frozenset()) for tensor in read)
    partial = tuple(tensor for tensor in read if causes.get(tensor))
    splits = tuple(rank for tensor in read for rank in split_ranks(cascade, tensor))
    return Call(name, tensors, (step.name,), always, partial, tuple(dict.fromkeys(splits)))


def write_steps(
    whole: Cascade, stage: Stage, name: str, numbers: Numbers | None, text: Text
) -> None:
    """Write the functions of all Einsums.

    Args:
        whole: the cascade whose ranks and parameters are numbered.
        stage: what is computed, a part of it.
        name: in front of the names of functions.
        numbers: hardware numbers, if it computes in those.
        text: where it goes.
    """
    steps = steps_of(stage.cascade, name, stage.given)
    writer = _Writer(whole, stage.cascade, numbers, steps)
    for group, calls in steps.groups:
        for step, call in zip(group.steps, calls, strict=True):
            if isinstance(step, Loop):
                writer.loop(step, call, text)
                continue
            chunk = Chunk(
                group.chunked(step),
                {tensor: group.axes(tensor) for tensor in group.local},
                steps.is_shared,
            )
            for suffix in call.cases:
                writer.single(step, call, chunk, suffix, text)


def write_head(cascade: Cascade, text: Text, body: str | None = None) -> None:
    """Write the names of extents and parameters; only those that a body has, if there is one."""
    for i, rank in enumerate(cascade.ranks):
        if body is None or re.search(rf"\bn_{rank}\b", body):
            text.line(f"n_{rank} = n[{i}]")
    for i, (name, _) in enumerate(cascade.parameters):
        if body is None or re.search(rf"\bp_{name}\b", body):
            text.line(f"p_{name} = par[{i}]")


@dataclass(frozen=True, slots=True)
class _Writer:
    """What all functions share."""

    whole: Cascade
    cascade: Cascade
    numbers: Numbers | None
    steps: Steps

    @property
    def partial(self) -> frozenset[str]:
        """Tensors that may have empty elements at all."""
        return frozenset(name for name, found in self.steps.causes.items() if found)

    def arguments(self, tensors: tuple[str, ...]) -> list[str]:
        """Names of tensors and of their presence."""
        names = []
        for tensor in tensors:
            names.append(f"t_{tensor}")
            if self.steps.causes.get(tensor):
                names.append(f"o_{tensor}")
            if tensor in self.steps.flagged:
                names.append(f"a_{tensor}")
        return names

    def single(self, einsum: Einsum, call: Call, chunk: Chunk, suffix: str, text: Text) -> None:
        """Write the function of an Einsum."""
        text.line(JIT)
        arguments = ", ".join(self.arguments(call.tensors))
        with text.block(f"def {call.name}{suffix}(n, par, z, s, {arguments}):"):
            text.line(f"# {einsum}")
            body = text.apart(text.depth)
            self.einsum(einsum, (), chunk, suffix, body)
            body.lines = without_unused(body.lines)
            found = str(body)
            is_varied = einsum.name in self.partial and re.search(r"\bc \|= ", found) is not None
            write_head(self.whole, text, found)
            for i, variable in enumerate(chunk.variables):
                text.line(f"z_{variable}, y_{variable} = z[{2 * i}], z[{2 * i + 1}]")
            if re.search(r"\bagain\b", found):
                text.line(f"again = z[{2 * len(chunk.variables)}]")
            for i, name in enumerate(self.steps.names):
                if re.search(rf"\bs_{name}\b", found):
                    text.line(f"s_{name} = s[{i}]")
            if re.search(r"\bc\b", found):
                text.line("c = 0")
            text.lines += body.lines
            if is_varied:
                text.line(f"s[{self.steps.names.index(einsum.name)}] |= {self.varying(einsum)}")
        text.line("")

    def varying(self, einsum: Einsum) -> str:
        """Text of the axes along which presence varies."""
        moves = [
            (einsum.variables.index(variables_in(index)[0]), axis)
            for axis, index in enumerate(einsum.target.indices)
            if variables_in(index)
        ]
        return " | ".join(moved_bits("c", [*moves, (ANY, ANY)]))

    def einsum(
        self, einsum: Einsum, fixed: tuple[str, ...], chunk: Chunk, suffix: str, text: Text
    ) -> None:
        """Write an Einsum row by row if it can; else by points."""
        lane = lane_of(self.cascade, einsum, fixed)
        folded = folded_of(self.cascade, einsum, fixed)
        if folded is not None and self.numbers is None and not suffix:
            Reduction(
                cascade=self.cascade,
                einsum=einsum,
                fixed=fixed,
                lane=folded,
                numbers=None,
                text=text,
                partial=self.partial,
                flagged=self.steps.flagged,
                chunk=chunk,
                has_empty=False,
                is_ragged=False,
            ).write()
            return
        if lane is None:
            Points(self.cascade, einsum, fixed, self.numbers, text, self.partial, chunk).write()
            return
        Gather(
            cascade=self.cascade,
            einsum=einsum,
            fixed=fixed,
            lane=lane,
            numbers=self.numbers,
            text=text,
            partial=self.partial,
            flagged=self.steps.flagged,
            chunk=chunk,
            has_empty=suffix != "",
            is_ragged=suffix == RAGGED,
        ).write()

    # ---- recurrences ----

    def loop(self, loop: Loop, call: Call, text: Text) -> None:
        """Write the functions of the Einsums of a recurrence, and the one that calls them."""
        names = {id(einsum): f"{call.name}_{i}" for i, einsum in enumerate(loop.einsums)}
        for einsum, fixed in _nested((loop,), ()):
            text.line(INNER)
            arguments = ", ".join(self.inner(einsum, fixed))
            with text.block(f"def {names[id(einsum)]}({arguments}):"):
                text.line(f"# {einsum}")
                body = text.apart(text.depth)
                self.both(einsum, fixed, body)
                body.lines = without_unused(body.lines)
                write_head(self.whole, text, str(body))
                text.line("c = 0")
                text.lines += body.lines
                text.line(f"return {self.varying(einsum)}")
            text.line("")
        made = [(i, name) for i, name in enumerate(self.steps.names) if name in call.tensors]
        text.line(JIT)
        arguments = ", ".join(self.arguments(call.tensors))
        with text.block(f"def {call.name}{EMPTY}(n, par, z, s, {arguments}):"):
            write_head(self.whole, text)
            for i, name in made:
                text.line(f"s_{name} = s[{i}]")
            self.calls((loop,), (), names, text)
            for i, name in made:
                text.line(f"s[{i}] = s_{name}")
        text.line("")

    def inner(self, einsum: Einsum, fixed: tuple[str, ...]) -> list[str]:
        """Arguments of a function that a recurrence calls."""
        names = ["n", "par", *(f"f_{rank}" for rank in fixed)]
        for tensor in dict.fromkeys((*(access.tensor for access in einsum.reads), einsum.name)):
            names += self.arguments((tensor,))
            if self.steps.causes.get(tensor):
                names.append(f"s_{tensor}")
        return names

    def both(self, einsum: Einsum, fixed: tuple[str, ...], text: Text) -> None:
        """Write an Einsum with and without empty elements."""
        call = _call(self.cascade, einsum, "", self.steps.causes)
        tests = [f"s_{tensor} != 0" for tensor in call.partial]
        for rank in call.splits:
            sizes = "*".join(f"n_{part}" for part in self.cascade.parts_of(rank))
            tests.append(f"{sizes} > n_{rank}")
        if call.always or tests:
            with nullcontext() if call.always else text.block(f"if {' or '.join(tests)}:"):
                self.einsum(einsum, fixed, Chunk(), RAGGED, text)
        if not call.always:
            with text.block("else:") if tests else nullcontext():
                self.einsum(einsum, fixed, Chunk(), "", text)

    def calls(self, steps: Plan, fixed: tuple[str, ...], names: dict[int, str], text: Text) -> None:
        """Write the loops of recurrences and what they call."""
        for step in steps:
            if isinstance(step, Loop):
                count = f"n_{step.rank}"
                span = f"{count} - 1, -1, -1" if step.is_descending else count
                with text.block(f"for f_{step.rank} in range({span}):"):
                    self.calls(step.body, (*fixed, step.rank), names, text)
                continue
            call = f"{names[id(step)]}({', '.join(self.inner(step, fixed))})"
            text.line(f"s_{step.name} |= {call}")


def _nested(steps: Plan, fixed: tuple[str, ...]) -> Iterator[tuple[Einsum, tuple[str, ...]]]:
    """Einsums of recurrences, with the ranks of the loops around each."""
    for step in steps:
        if isinstance(step, Loop):
            yield from _nested(step.body, (*fixed, step.rank))
        else:
            yield step, fixed
