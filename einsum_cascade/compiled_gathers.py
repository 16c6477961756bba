"""Sums of products in which an operand is fetched where each lane says, by `compiled_fetches`.

One variable x runs along rows of the fetched operand and does not decide where they are: the
reduced one of logits (`dots`), or a kept one of outputs (`mixes`). All others that the fetch is
about are *keys*. Where each row is, or that it is empty, is found for all keys and lanes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_cascade.cascade import variables_in
from einsum_cascade.compiled_contraction import Contraction
from einsum_cascade.compiled_empty import is_safe
from einsum_cascade.compiled_presence import linear
from einsum_cascade.compiled_tidy import summed
from einsum_cascade.expressions import Access, Apply


@dataclass(frozen=True, slots=True)
class Form:
    """The operand that lies still, the fetched one, x, whether x is reduced, and the keys."""

    still: Access
    fetched: Access
    along: str
    is_dot: bool
    keys: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Gather(Contraction):
    """The loops of one Einsum, which may be a gathered product."""

    def compute(self) -> None:
        """Write the loops."""
        form = self.form() if self.operands() is None else None
        if form is None:
            # A class with slots is made anew, which `super()` does not know.
            Contraction.compute(self)
            return
        self.find_empty()
        self.fetch(form)
        self.leave_nothing()

    def form(self) -> Form | None:
        """How this is a gathered product, if it is one."""
        match self.einsum.map:
            case Apply(operator="mul", arguments=(Access() as a, Access() as b)):
                pass
            case _:
                return None
        if self.numbers is not None or self.einsum.op != "sum":
            return None
        if self.lane not in variables_in(self.einsum.target.indices[-1]):
            return None
        pairs = [(still, other) for still, other in ((a, b), (b, a)) if self.lies_still(still)]
        forms = [self.form_of(*pair, x) for pair in pairs for x in self.plain(pair[1])]
        return next((form for form in forms if form is not None), None)

    def lies_still(self, access: Access) -> bool:
        """True if an access is linear, so that lanes are a step apart."""
        return not any(place.bent for place in self.places[access]) and all(
            linear(index) is not None for index in access.indices
        )

    def plain(self, access: Access) -> list[str]:
        """Variables that are an index of an access alone, and in no other index and no check."""
        found = []
        for axis, index in enumerate(access.indices):
            names = variables_in(index)
            if len(names) == 1 and is_safe(self.cascade, access, axis):
                others = [i for at, i in enumerate(access.indices) if at != axis]
                is_alone = not any(names[0] in variables_in(other) for other in others)
                is_checked = any(names[0] in check.variables for check in self.checks)
                if is_alone and not is_checked and names[0] != self.lane:
                    found.append(names[0])
        return found

    def form_of(self, still: Access, fetched: Access, along: str) -> Form | None:
        """The form with these roles, if it is one."""
        kept, over = self.loops()
        if self.lane not in variables_in(fetched):
            return None
        own = set(variables_in(still))
        if over == [along] and along in own:
            keys = tuple(v for v in kept if v in variables_in(fetched) and v not in own)
            return Form(still, fetched, along, True, keys) if keys else None
        if along in kept and along not in own and over:
            return Form(still, fetched, along, False, tuple(over))
        return None

    def fetch(self, form: Form) -> None:
        """Write where rows are, and the call for them, in loops over what is neither key nor x."""
        text, depth, along = self.text, self.text.depth, form.along
        kept, _ = self.loops((along, *form.keys))
        outer = [*kept, *form.keys]
        counts = {v: self.chunk.count(v, self.cascade.rank_of(v)) for v in self.einsum.variables}
        total = "*".join(counts[v] for v in form.keys)
        text.line(f"places = np.empty(({total}, lanes + 8), np.int64)")
        text.line(f"begin = np.empty({total}, np.int64)")
        text.line("inside = np.empty(lanes, np.bool_)")
        self.prepare(outer, self.checks)
        for level in range(len(outer) + 1):
            if level:
                self.open(outer[level - 1])
            if level == len(kept):
                text.line("key = 0")
                inner = text.depth
            for check in self.checks:
                last = max((outer.index(v) + 1 for v in check.variables if v in outer), default=0)
                if last == level:
                    self.find(check)
        text.line("k.start(inside, True)")
        for check in self.checks:
            if check.row:
                text.line(f"k.exclude(inside, {check.row})")
            else:
                text.line(f"k.outside(inside, {check.low or '0'}, {check.high})")
        of_fetched = self.offset(form.fetched)
        text.line("row = places[key]")
        # A dot of no terms is 0 wherever its row is.
        holds = "inside[i] or not some" if form.is_dot else "inside[i]"
        with text.block("for i in range(lanes):"):
            text.line(f"v_{self.lane} = {self.chunk.at(self.lane, 'i')}")
            text.line(f"row[i] = {summed(self.start(of_fetched, (along,)))} if {holds} else -1")
        # What the key moves in memory: the result of a dot, the weight in a mix.
        moved = self.of_target() if form.is_dot else self.offset(form.still)
        text.line(f"begin[key] = {summed(self.start(moved, (self.lane,)))}")
        text.line("key += 1")
        text.depth = inner
        still, target = self.offset(form.still), self.of_target()
        axes = (along, self.lane)
        result = f"t_{self.einsum.name}"
        row = f"t_{form.still.tensor}"
        step = self.step(still, self.lane, axes)
        where = f"t_{form.fetched.tensor}, 0, {self.step(of_fetched, along, axes)}"
        places = "places, lanes + 8"
        size = f"key, lanes, {counts[along]}"
        if form.is_dot:
            own = (
                f"{row}, {summed(self.start(still, axes))}, {step}, {self.step(still, along, axes)}"
            )
            text.line(f"f.dots({own}, {where}, {places}, {result}, 0, begin, {size})")
        else:
            goal = f"{result}, {summed(self.start(target, axes))}, {self.step(target, along, axes)}"
            text.line(f"f.mixes({row}, 0, {step}, begin, {where}, {places}, {goal}, {size})")
        text.depth = depth

    def offset(self, access: Access) -> str:
        """Text of where an access is in its flat array."""
        return self.flat(access.tensor, self.places[access])

    def of_target(self) -> str:
        """The same of the target."""
        return self.flat(self.einsum.name, tuple(self.goal()))

    def step(self, offset: str, variable: str, axes: tuple[str, str]) -> str:
        """Text of what a step of a variable adds to an offset."""
        others = tuple(v for v in axes if v != variable)
        one = self.start(self.at_zero(offset, variable, 1), others)
        return summed(f"({one}) - ({self.start(offset, axes)})")
