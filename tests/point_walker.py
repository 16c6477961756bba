"""Every point of every Einsum, one after the other: an oracle of counts, slow and obvious."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

from einsum_cascade.cascade import variables_in
from einsum_cascade.expressions import Access, Apply, Compare, Logic, Name, Number, Select
from einsum_cascade.ordering import Loop, plan

COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "neg": lambda a: -a,
    "abs": abs,
    "min": min,
    "max": max,
    "pow": lambda a, b: a**b,
}


@dataclass
class Walk:
    """What was met: points of each line, operators, and the elements of inputs that were read."""

    sizes: dict
    present: dict = field(default_factory=dict)
    varying: dict = field(default_factory=dict)
    points: Counter = field(default_factory=Counter)
    ops: Counter = field(default_factory=Counter)
    read: dict = field(default_factory=dict)


def walk_points(cascade, sizes):
    """Walk a cascade without gathers and conditions on data; `sizes` has every rank."""
    found = Walk(sizes)
    for name in cascade.inputs:
        ranks = cascade.tensor(name).ranks
        everything = itertools.product(*(range(sizes[rank]) for rank in ranks))
        found.present[name] = {c for c in everything if inside(cascade, ranks, c, sizes)}
        found.read[name] = set()
        split = {p for _, parts in cascade.splits for p in parts if {*parts} <= {*ranks}}
        found.varying[name] = {axis for axis, rank in enumerate(ranks) if rank in split}
    run(cascade, plan(cascade.einsums, dict(cascade.variables)), {}, found)
    return found


def inside(cascade, ranks, coordinates, sizes):
    """False behind the end of a ragged tile."""
    at = dict(zip(ranks, coordinates, strict=True))
    for whole, parts in cascade.splits:
        if {*parts} <= at.keys():
            place = 0
            for part in parts:
                place = place * sizes[part] + at[part]
            if place >= sizes[whole]:
                return False
    return True


def run(cascade, steps, fixed, found):
    for step in steps:
        if isinstance(step, Loop):
            coordinates = range(found.sizes[step.rank])
            for i in reversed(coordinates) if step.is_descending else coordinates:
                run(cascade, step.body, {**fixed, step.rank: i}, found)
        else:
            einsum(cascade, step, fixed, found)


def einsum(cascade, line, fixed, found):
    elements = found.present.setdefault(line.name, set())
    varying = found.varying.setdefault(line.name, set())
    ranges = [
        [fixed[rank]] if rank in fixed and v in line.left else range(found.sizes[rank])
        for v in line.variables
        for rank in [cascade.rank_of(v)]
    ]
    for point in itertools.product(*ranges):
        at = dict(zip(line.variables, point, strict=True))
        empty = list(emptied(cascade, line, at, found))
        target = tuple(value(cascade, i, at, found.sizes) for i in line.target.indices)
        lasting = [names for names in empty if not names & {*line.over}]
        if not lasting:
            elements.add(target)
        for names in lasting:
            axes = enumerate(line.target.indices)
            varying |= {axis for axis, i in axes if names & {*variables_in(i)}}
        if not empty:
            found.points[str(line)] += 1
            count(line, found)
            for access in line.reads:
                where = tuple(value(cascade, i, at, found.sizes) for i in access.indices)
                found.read.setdefault(access.tensor, set()).add(where)


def emptied(cascade, line, at, found):
    """For each reason why a point is empty, the variables that it depends on."""
    if line.where is not None:
        terms = [line.where]
        while terms:
            term = terms.pop()
            if isinstance(term, Logic) and term.word == "and":
                terms += term.terms
            elif not truth(cascade, term, at, found.sizes):
                yield {*variables_in(term)}
    for access in line.reads:
        place = tuple(value(cascade, i, at, found.sizes) for i in access.indices)
        dims = cascade.tensor(access.tensor).dims
        outside = False
        for where, index, dim in zip(place, access.indices, dims, strict=True):
            size = found.sizes.get(dim.rank, math.inf) + dim.extra
            if not 0 <= where < size:
                outside = True
                yield {*variables_in(index)}
        if not outside and place not in found.present[access.tensor]:
            causes = found.varying[access.tensor]
            yield {v for axis in causes for v in variables_in(access.indices[axis])}


def truth(cascade, condition, at, sizes):
    if isinstance(condition, Compare):
        left = value(cascade, condition.left, at, sizes)
        return COMPARE[condition.symbol](left, value(cascade, condition.right, at, sizes))
    parts = [truth(cascade, term, at, sizes) for term in condition.terms]
    return {"and": all(parts), "or": any(parts), "not": not parts[0]}[condition.word]


def value(cascade, expr, at, sizes):
    match expr:
        case Number(value=number):
            return number
        case Name(name=name):
            return at[name] if name in at else sizes[name]
        case Apply(operator=operator, arguments=arguments):
            return ARITHMETIC[operator](*(value(cascade, a, at, sizes) for a in arguments))
    raise AssertionError(expr)


def count(line, found):
    """Operators of one point, written down from the text once more."""

    def varies(expr):
        match expr:
            case Access():
                return True
            case Name(name=name):
                return name in line.variables
            case Apply(arguments=arguments):
                return any(map(varies, arguments))
            case Select():
                return True
        return False

    def visit(expr):
        match expr:
            case Apply(operator=operator, arguments=arguments) if varies(expr):
                found.ops[operator] += 1
                for argument in arguments:
                    visit(argument)
            case Select(condition=condition, then=then, otherwise=otherwise):
                found.ops["where"] += 1
                comparisons(condition)
                visit(then)
                visit(otherwise)

    def comparisons(condition):
        if isinstance(condition, Compare):
            found.ops["compare"] += 1
            visit(condition.left)
            visit(condition.right)
        else:
            for term in condition.terms:
                comparisons(term)

    visit(line.map)
    combine = {"sum": "add", "prod": "mul", None: None}.get(line.op, line.op)
    if combine:
        found.ops[combine] += 1
