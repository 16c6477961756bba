"""Random cascades of odd forms, and arrays for them: what `random_cascades` leaves out.

A cascade grows Einsum by Einsum, and each axis of what it reads is indexed on its own: by one of
several variables over the rank (a bias between tokens has two), shifted, halved, from the other
end, by what an index tensor or a top-k holds, or by a part of a concatenated rank. Axes of results
are in any order. Values are such that sums are exact, so that comparisons and selections of what
was computed in another order are the same.
"""

import contextlib
import random
import re
from dataclasses import dataclass, field

import numpy as np

import einsum_cascade as ec
from einsum_cascade.array_shapes import array_ranks

INF, NAN = float("inf"), float("nan")
# Variables of each rank.
VARIABLES = {
    "M": ("m", "n", "q"),
    "P": ("p", "r"),
    "E": ("e",),
    "F": ("f",),
    "W": ("w",),
    "K": ("k",),
    "M1": ("m1",),
    "M0": ("m0",),
    "T": ("t",),
    "U": ("u",),
}
MOST_VARIABLES = 4
INPUTS = (
    *[("M",), ("P",), ("M", "M"), ("M", "P"), ("E", "M"), ("E", "P"), ("F", "M"), ("M", "E")],
    *[("P", "M"), ("W", "P"), ("W", "M"), ("E", "M"), ("E", "P"), ("P", "E"), ()],
)
PRODUCTS = ("{a}*{b}", "{a}*{b}", "{a}*{b}*{c}", "{a}*{b}/(1 + abs({c}))", "{a}*{b}/2", "3*{a}")
MAPS = (
    *("{a} + {b}", "exp({a} - {b})", "max({a}, {b})", "{a} - 2*{b}", "{a}*{b}", "exp({a})"),
    *("where({a} > {b}, {a}, 2*{b})", "{a}/(2 + abs({b}))", "relu({a})*{b}", "2*{a}", "-{a}"),
    *("min({a}, {b}) + {c}", "clamp({a}, -1, 1)*{b}"),
)
# What keeps quarters exact.
EXACT = re.compile(r"exp|/|sum|prod")


class UnfitError(Exception):
    """What was drawn is no legal cascade, or has too many variables."""


def need(fits) -> None:
    if not fits:
        raise UnfitError


@dataclass(frozen=True)
class Held:
    """A tensor and the ranks of its axes."""

    name: str
    ranks: tuple[str, ...]
    # Of values, of coordinates along M, or of small integers.
    kind: str = "value"
    is_exact: bool = True
    # The axis of a state, and whether it runs down.
    state: int | None = None
    is_descending: bool = False


@dataclass
class Grower:
    """A cascade while it is being drawn."""

    rng: random.Random
    layout: str
    lines: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    inputs: list[Held] = field(default_factory=list)
    count: int = 0

    def choose(self, options):
        return self.rng.choice(options)

    def chance(self, one_in: int = 2) -> bool:
        return self.rng.randrange(one_in) == 0

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def shuffled(self, items) -> list[str]:
        return self.rng.sample(items := list(items), len(items))

    def input(self, ranks: tuple[str, ...], kind: str = "value") -> Held:
        letter = {"value": "A", "place": "I", "bound": "X"}[kind]
        if self.layout == "split" and "M" in ranks and self.chance():
            at = ranks.index("M")
            ranks = (*ranks[:at], "M1", "M0", *ranks[at + 1 :])
        made = Held(self.name(letter), ranks, kind)
        self.inputs.append(made)
        self.held.append(made)
        return made

    def any(self) -> Held:
        """Something to read: the latest most often, else anything, else a new input."""
        values = [held for held in self.held if held.kind == "value"]
        if not values or self.chance(4):
            return self.input(self.choose(INPUTS))
        return self.choose([*values, values[-1], values[-1]])

    def exact(self, ranks: tuple[str, ...] = ("M",)) -> Held:
        found = [
            h for h in self.held if h.is_exact and h.kind == "value" and set(ranks) <= {*h.ranks}
        ]
        return self.choose(found) if found and not self.chance(4) else self.input(ranks)

    # ---- accesses ----

    def variable(self, rank: str, used: list[str]) -> str:
        """One of the variables over a rank: of those in use, or the next."""
        own = VARIABLES[rank]
        there = [v for v in own if v in used]
        fresh = [v for v in own if v not in used]
        if there and (not fresh or len(used) >= MOST_VARIABLES or not self.chance(4)):
            return self.choose(there)
        need(fresh and len(used) < MOST_VARIABLES + (rank == "M0"))
        # Not always the same of two.
        used.append(fresh[0] if len(fresh) == 1 or not self.chance(4) else fresh[1])
        return used[-1]

    def read(self, tensor: Held, used: list[str]) -> str:
        """An access; its variables are added to those in use."""
        indices: list[str] = []
        own: list[str] = []
        for axis, rank in enumerate(tensor.ranks):
            if axis == tensor.state:
                v = self.variable(rank, used)
                end = "0" if tensor.is_descending else rank
                indices.append(self.choose([v, f"{v}+1", end, end]))
                continue
            if rank == "M" and self.chance(4):
                indices.append(self.far(used))
                continue
            if self.chance(25):
                indices.append(self.choose(["0", f"{rank}-1"]))
                continue
            v = self.variable(rank, used)
            if v in own and self.chance(3) is False:
                # Two axes of a rank mostly have an index each.
                others = [o for o in VARIABLES[rank] if o not in own]
                if others and len({*used, others[0]}) <= MOST_VARIABLES:
                    v = others[0]
                    used += [v] if v not in used else []
            own.append(v)
            indices.append(v)
        return f"{tensor.name}[{','.join(indices)}]" if indices else tensor.name

    def far(self, used: list[str]) -> str:
        """An index along M that is not a variable."""
        places = [held for held in self.held if held.kind == "place"]
        kind = self.choose(["shift", "window", "place", "place", "other", "part"])
        if kind == "place":
            ranks = self.choose([("P",), ("K",), ("P", "K"), ("W", "P"), ("M",)])
            is_known = places and not self.chance(4)
            pointer = self.choose(places) if is_known else self.input(ranks, "place")
            # Indices of indices are plain.
            own = [self.variable(rank, used) for rank in pointer.ranks]
            found = f"{pointer.name}[{','.join(own)}]"
            if self.chance(4) and len(used) < MOST_VARIABLES:
                return f"{found} + {self.variable('W', used)}"
            return found
        if kind == "part" and self.layout == "joined":
            return self.choose([self.variable("T", used), f"T+{self.variable('U', used)}"])
        v = self.variable("M", used)
        if kind == "window":
            w = self.variable("W", used)
            return self.choose(
                [f"{v}+{w}-1", f"{v}-{w}", f"{v}+{w}", f"({v}+{w})%M", f"{v} - {v}%3 + {w}"]
            )
        if kind == "shift":
            return self.choose([f"{v}-1", f"{v}+1", f"{v}-2"])
        return self.choose([f"{v}//2", f"M-1-{v}", f"min({v}+1,M-1)", f"{v}%3", f"max({v}-1,0)"])

    # ---- conditions ----

    def condition(self, used: list[str]) -> str:
        """A filter on variables that are in use, or nothing."""
        if not self.chance(3) or not used:
            return ""
        terms = [self.term(used) for _ in range(1 if self.chance() else 2)]
        found = terms[0]
        if len(terms) == 2:
            found = f"{terms[0]} {self.choose(['and', 'and', 'or'])} {terms[1]}"
        return f" where {found}"

    def term(self, used: list[str]) -> str:
        first = self.choose(used)
        second = self.choose(used)
        sign = self.choose(["<=", "<", ">=", ">", "!=", "=="])
        kinds = ["pair", "pair", "size", "data", "bound", "place", "odd"]
        kind = self.choose(kinds)
        if kind == "pair" and first != second:
            return f"{first} {sign} {second}{self.choose(['', '', ' + 1', ' - 2'])}"
        held = [h for h in self.held if set(h.ranks) <= {self.rank(v) for v in used}]
        if kind == "bound":
            rank = self.rank(second)
            if rank not in ("M", "P", "E"):
                return f"{first} {sign} 1"
            bounds = [h for h in held if h.kind == "bound"]
            bound = self.choose(bounds) if bounds else self.input((rank,), "bound")
            if not set(bound.ranks) <= {self.rank(v) for v in used}:
                return f"{first} {sign} 1"
            return f"{first} {sign} {self.plain(bound, used)}{self.choose(['', ' + 1', ''])}"
        if kind == "place":
            places = [h for h in held if h.kind == "place"]
            if places:
                return f"{self.plain(self.choose(places), used)} {sign} {first}"
        if kind == "data":
            values = [h for h in held if h.kind == "value" and h.is_exact and h.state is None]
            if values:
                value = self.plain(self.choose(values), used)
                return f"{value} {sign} {self.choose(['0', '0.5', first])}"
        if kind == "odd":
            return self.choose(
                [
                    f"{first}%2 {sign} 1",
                    f"not {first} {sign} {second}",
                    f"{first}*{first} {sign} {second} + 2",
                ]
            )
        return f"{first} {sign} {self.choose(['1', '2', '0', self.rank(first) + '//2'])}"

    def rank(self, variable: str) -> str:
        return next(rank for rank, own in VARIABLES.items() if variable in own)

    def plain(self, tensor: Held, used: list[str]) -> str:
        """Read with variables that are in use."""
        indices = [self.choose([v for v in VARIABLES[rank] if v in used]) for rank in tensor.ranks]
        if tensor.kind == "value" and self.chance(3):
            steps = ["-1", "+1", "//2", "+7", "-7"]
            indices = [v + self.choose(steps) if self.chance() else v for v in indices]
        return f"{tensor.name}[{','.join(indices)}]" if indices else tensor.name

    # ---- Einsums ----

    def define(
        self, letter: str, kept, right: str, condition: str, is_exact: bool, kind="value"
    ) -> Held:
        made = Held(self.name(letter), tuple(self.rank(v) for v in kept), kind, is_exact)
        left = f"{made.name}[{','.join(kept)}]" if kept else made.name
        self.lines.append(f"{left} = {right}{condition}")
        self.held.append(made)
        return made

    def cut(self, used: list[str], letter_odds: int = 2) -> tuple[list[str], list[str]]:
        """Variables that are kept, in any order, and those that are not."""
        order = self.shuffled(used)
        kept = [v for v in order if not self.chance(letter_odds)]
        if not kept and order and not self.chance(4):
            kept = order[:1]
        return kept, [v for v in order if v not in kept]


def operands(g: Grower, form: str, used: list[str]) -> tuple[str, bool]:
    """A form with its accesses, and whether what it computes is exact."""
    found, is_exact = {}, not EXACT.search(form)
    for letter in "abc":
        if f"{{{letter}}}" in form:
            tensor = g.any()
            found[letter] = g.read(tensor, used)
            is_exact = is_exact and tensor.is_exact
            if ">" in form:
                need(tensor.is_exact)
    return form.format(**found), is_exact


def grow_product(g: Grower) -> None:
    used: list[str] = []
    right, is_exact = operands(g, g.choose(PRODUCTS), used)
    kept, over = g.cut(used)
    condition = g.condition(used)
    if g.chance(3) and over:
        op = g.choose(["sum", "sum", "max", "min", "prod"])
        g.define(
            "B", kept, f"{op}[{','.join(over)}]({right})", condition, is_exact and op != "prod"
        )
    else:
        g.define("B", kept, right, condition, is_exact)


def grow_map(g: Grower) -> None:
    used: list[str] = []
    right, is_exact = operands(g, g.choose(MAPS), used)
    if g.chance(8) and {"m", "n"} <= {*used}:
        right = f"{right}*gam**(m - n)"
        is_exact = False
    kept, over = g.cut(used) if g.chance() else (g.shuffled(used), [])
    condition = g.condition(used)
    if over:
        op = g.choose(["sum", "sum", "max", "min"])
        right = f"{op}[{','.join(over)}]({right})"
    g.define("C", kept, right, condition, is_exact)


def grow_reduction(g: Grower) -> None:
    used: list[str] = []
    tensor = g.any()
    right = g.read(tensor, used)
    need(used)
    kept, over = g.cut(used)
    condition = g.condition(used)
    if over:
        right = f"{g.choose(['sum', 'max', 'min', 'max'])}[{','.join(over)}]({right})"
    g.define("R", kept, right, condition, tensor.is_exact)


def grow_softmax(g: Grower) -> None:
    """Scores of keys that may be fetched, their softmax, and values."""
    used: list[str] = []
    right, is_exact = operands(g, "{a}*{b}", used)
    need(len(used) > 1)
    condition = g.condition(used)
    inner = [v for v in used if g.rank(v) in ("E", "F")]
    kept = g.shuffled(v for v in used if v not in inner)
    need(len(kept) > 1)
    scores = g.define("S", kept, right, condition, is_exact)
    key = g.choose(kept)
    rows = g.shuffled(v for v in kept if v != key)
    own = ",".join(kept)
    highest = g.define("G", rows, f"max[{key}]({scores.name}[{own}])", "", is_exact)
    row = f"[{','.join(rows)}]" if rows else ""
    made = g.shuffled(kept)
    parts = g.define("N", made, f"exp({scores.name}[{own}] - {highest.name}{row})", "", False)
    total = g.define("D", rows, f"sum[{key}]({parts.name}[{','.join(made)}])", "", False)
    values = g.any()
    more = list(kept)
    value = g.read(values, more)
    left = g.shuffled(v for v in more if v != key)
    right = f"{parts.name}[{','.join(made)}]*{value}"
    g.define("V", left, right + (f"/{total.name}{row}" if g.chance() else ""), "", False)


def grow_window(g: Grower) -> None:
    """Attention to keys that each query fetches: logits, softmax and values of the same places."""
    base = g.choose(["p", "p", "m"])
    used = [base, "w"]
    start = g.choose([base, f"{base} - {base}%3", f"{base}//2", "L", "L", "far"])
    if start == "L":
        places = [h for h in g.held if h.kind == "place" and h.ranks == (g.rank(base),)]
        held = g.choose(places) if places else g.input((g.rank(base),), "place")
        start = f"{held.name}[{base}]"
    at = f"{start} + w" if g.chance() else f"{start} + w - 1"
    if start == "far":
        at = f"{g.input(tuple(g.shuffled([g.rank(base), 'W'])), 'place').name}"
        at += f"[{','.join(v for r in g.inputs[-1].ranks for v in used if g.rank(v) == r)}]"
    need("M1" not in str(g.held))
    key, query, value = [g.input(tuple(g.shuffled(["E", r]))) for r in ("M", g.rank(base), "M")]
    need("M" in key.ranks and "M" in value.ranks and g.rank(base) in query.ranks)

    def read(tensor: Held, index: str) -> str:
        return f"{tensor.name}[{','.join('e' if r == 'E' else index for r in tensor.ranks)}]"

    order = g.shuffled(used)
    condition = g.condition(used)
    scores = g.define("S", order, f"{read(query, base)}*{read(key, at)}", condition, True)
    own = f"[{','.join(order)}]"
    highest = g.define("G", [base], f"max[w]({scores.name}{own})", "", True)
    made = g.shuffled(used)
    right = f"exp({scores.name}{own} - {highest.name}[{base}])"
    parts = g.define("N", made, right, g.condition(used) if g.chance(3) else "", False)
    parts_read = f"{parts.name}[{','.join(made)}]"
    g.define("V", g.shuffled(["e", base]), f"{parts_read}*{read(value, at)}", "", False)


def grow_recurrence(g: Grower) -> None:
    """A state along a rank, at times with a sum inside of its loop."""
    rank = g.choose(["M", "M", "P"]) if g.layout != "split" else "M1"
    v = VARIABLES[rank][0]
    used = [v]
    tensor = g.any()
    right = g.read(tensor, used)
    more = g.shuffled(o for o in used if o != v)
    axis = g.rng.randrange(len(more) + 1) if g.chance(4) else 0
    is_descending = g.chance(4)
    name = g.name("S")

    def state(index: str) -> str:
        return f"{name}[{','.join([*more[:axis], index, *more[axis:]])}]"

    first, before, after = ("0", v, f"{v}+1") if not is_descending else (rank, f"{v}+1", v)
    start = g.choose(["0", "0", "1", "-inf"])
    rule = g.choose(
        ["max({s}, {a})", "{s} + {a}", "{s}/2 + {a}", "{s}*exp({a})", "{s}/2 + {b} + {a}"]
    )
    if start == "-inf":
        rule = "max({s}, {a})"
    body = state(before)
    extra = ""
    if "{b}" in rule or g.chance(4):
        # A sum of the state over one of its ranks, or of anything over the recurrence's own rank.
        extra = f"{g.name('Y')}[{v}]"
        if more and g.chance():
            g.lines.append(f"{extra} = sum[{','.join(more)}]({state(before)})")
        else:
            inner = [v]
            other = g.any()
            access = g.read(other, inner)
            over = ",".join(inner[1:])
            condition = g.choose(["", f" where {inner[1]} <= {v}"]) if over else ""
            g.lines.append(f"{extra} = {f'sum[{over}]({access})' if over else access}{condition}")
        g.held.append(Held(extra.split("[")[0], (rank,), is_exact=False))
    g.lines.append(f"{state(first)} = {start}")
    text = rule.format(s=body, a=right, b=extra)
    if extra and "{b}" not in rule:
        text = f"{text} - {extra}" if not rule.startswith("max") else text
    g.lines.append(f"{state(after)} = {text}")
    ranks = [g.rank(o) for o in more]
    ranks.insert(axis, rank)
    is_exact = tensor.is_exact and rule.startswith(("max", "{s} + {a}")) and not extra
    g.held.append(Held(name, tuple(ranks), "value", is_exact, axis, is_descending))


def grow_pick(g: Grower) -> None:
    """A top-k along M, and what reads it."""
    used: list[str] = []
    tensor = g.exact()
    right = g.read(tensor, used)
    ranks = [v for v in used if g.rank(v) == "M"]
    need(ranks and "k" not in used)
    over = g.choose(ranks)
    condition = g.condition(used)
    kept = g.shuffled([*(v for v in used if v != over), "k"])
    if g.chance(3):
        g.define("Q", kept, f"topk[{over}]({right})", condition, tensor.is_exact)
        return
    pointer = g.define("J", kept, f"argtopk[{over}]({right})", condition, True, "place")
    if g.chance(4):
        return
    used = list(kept)
    other = g.any()
    if "M" not in other.ranks or other.state is not None:
        other = g.input(g.choose([("M",), ("E", "M"), ("M", "E")]))
    need("M" in other.ranks)
    at = other.ranks.index("M")
    indices = [
        f"{pointer.name}[{','.join(kept)}]" if i == at else g.variable(rank, used)
        for i, rank in enumerate(other.ranks)
    ]
    condition = ""
    if g.chance():
        v = g.choose(used)
        condition = f" where {pointer.name}[{','.join(kept)}] {g.choose(['<=', '>', '!='])} {v}"
    fetched = f"{other.name}[{','.join(indices)}]"
    third = g.any()
    right = f"{fetched}*{g.read(third, used)}" if g.chance() else f"2*{fetched}"
    left, _ = g.cut(used, 3)
    g.define("H", left, right, condition, other.is_exact and third.is_exact)


def grow_places(g: Grower) -> None:
    """Where windows begin, from sizes or from data."""
    v = g.choose(["p", "m"])
    right = g.choose([f"{v}//2", f"{v} - {v}%3", f"min({v}, 2)", f"{v}//4*4", "X"])
    if right == "X":
        bound = g.input((g.rank(v),), "bound")
        right = f"{bound.name}[{v}] + {g.choose(['0', '1', v])}"
    g.define("L", [v], right, "", True, "place")


def grow_pieces(g: Grower) -> None:
    """A tensor along a concatenated rank, in pieces."""
    if g.layout != "joined":
        return
    more = g.choose([[], ["p"], ["e"]])
    first = g.input(("T", *(g.rank(v) for v in more)))
    second = g.input((*(g.rank(v) for v in more), "U"))
    name = g.name("Z")
    axis = g.rng.randrange(len(more) + 1)

    def left(index: str) -> str:
        return f"{name}[{','.join([*more[:axis], index, *more[axis:]])}]"

    one = f"{first.name}[{','.join(['t', *more])}]"
    two = f"{second.name}[{','.join([*more, 'u'])}]"
    condition = g.choose(["", "", " where t > 0", " where t < 2"])
    g.lines.append(f"{left('t')} = {g.choose(['2*', '-', ''])}{one}{condition}")
    g.lines.append(f"{left('T+u')} = {g.choose(['2*', '-', ''])}{two}")
    ranks = [g.rank(v) for v in more]
    ranks.insert(axis, "M")
    g.held.append(Held(name, tuple(ranks)))


STEPS = (
    *[grow_product] * 4,
    *[grow_map] * 3,
    *[grow_reduction] * 2,
    *[grow_softmax] * 2,
    *[grow_window] * 2,
    *[grow_recurrence] * 2,
    *[grow_pick] * 2,
    grow_places,
    *[grow_pieces] * 2,
)


def random_form(rng: random.Random) -> ec.Cascade:
    """Draw a legal cascade of up to about ten Einsums."""
    while True:
        with contextlib.suppress(UnfitError, ec.CascadeError):
            return _drawn(rng)


def _drawn(rng: random.Random) -> ec.Cascade:
    g = Grower(rng, rng.choice(["plain", "plain", "plain", "plain", "joined", "split"]))
    for _ in range(rng.randint(2, 4)):
        rng.choice(STEPS)(g)
        if len(g.lines) >= 7:
            break
    need(g.lines)
    text = "\n".join(g.lines)
    head = ["var m, n, q in M", "var p, r in P"]
    head += ["rank M = M1*M0"] if "m0" in text and "m1" in text else []
    head += ["rank M = T + U"] if re.search(r"\bu\b", text) and re.search(r"\bt\b", text) else []
    head += ["param gam = 0.5"] if "gam" in text else []
    for known in g.inputs:
        if not re.search(rf"\b{known.name}\b", text):
            continue
        own = [VARIABLES[rank] for rank in known.ranks]
        names = [v[known.ranks[:i].count(known.ranks[i])] for i, v in enumerate(own)]
        head.append(f"input {known.name}[{','.join(names)}]" if names else f"input {known.name}")
    made = [held.name for held in g.held if held not in g.inputs]
    if g.chance(3):
        shown = [name for name in dict.fromkeys(made) if g.chance()] or made[-1:]
        head.append(f"output {', '.join(shown)}")
    return ec.parse("\n".join([*head, text]), "random")


# ---- arrays ----


def draw_call(cascade: ec.Cascade, rng: np.random.Generator, kind: str):
    """Arrays and sizes of one call: small ones, long rows, nothing at all, odd values, batches."""
    ranks = {
        rank
        for name in cascade.inputs
        for rank in array_ranks(cascade, cascade.tensor(name), False)
    }
    sizes: dict[str, int] = {
        rank: int(rng.integers(1, 7)) for rank in (*cascade.ranks, *ranks) if rank
    }
    if kind == "long":
        for rank in ("M", "P"):
            sizes[rank] = (
                int(rng.choice([17, 20, 33])) if rng.random() < 0.7 else sizes.get(rank, 3)
            )
    if kind == "ones":
        sizes = dict.fromkeys(sizes, 1)
    if kind == "none":
        sizes[str(rng.choice([r for r in ("M", "P", "E", "T") if r in sizes] or ["M"]))] = 0
    for whole, parts in cascade.concatenations:
        sizes[whole] = sum(sizes[part] for part in parts)
    batch: tuple[int, ...] = {
        "batch": (2,),
        "batches": (2, 4),
        "none": (0,) if rng.random() < 0.3 else (),
    }.get(kind, ())
    given = {}
    for name in cascade.inputs:
        shown = array_ranks(cascade, cascade.tensor(name), False)
        own = batch
        if batch and rng.random() < 0.4 and 0 not in batch:
            own = tuple(int(rng.choice([1, b])) for b in batch)[int(rng.integers(0, 2)) :]
        shape = (*own, *(sizes[rank] if rank else 1 for rank in shown))
        given[name] = draw_values(name, shape, sizes, rng, kind)
    for _, parts in cascade.splits:
        tile = int(rng.integers(1, 6))
        for part in parts:
            sizes.pop(part, None)
        sizes[parts[-1]] = tile
    left = {rank for rank in cascade.ranks if rank not in ranks}
    left -= {part for _, parts in cascade.splits for part in parts[:-1]}
    return given, {rank: sizes[rank] for rank in sorted(left) if sizes.get(rank)}


def draw_values(name, shape, sizes, rng, kind):
    if name.startswith("I"):
        found = rng.integers(-1, sizes.get("M", 3) + 1, shape).astype(float)
        if kind == "odd" and found.size:
            found.reshape(-1)[rng.integers(0, found.size)] = NAN
        return found
    if name.startswith("X"):
        found = rng.integers(-1, 8, shape).astype(float)
        return found + 0.5 if rng.random() < 0.1 else found
    found = rng.integers(-8, 9, shape) / 4
    if kind == "odd":
        # Contractions take -0.0 for nothing, even where it meets NaN.
        odd = rng.choice([INF, -INF, 0.0, rng.choice([NAN, -0.0])], shape)
        found = np.where(rng.random(shape) < 0.1, odd, found)
    elif kind == "ties":
        found = np.round(found)
    return found


KINDS = ("long", "small", "batch", "none", "odd", "ones", "batches", "ties")
