"""Random small cascades: chains and DAGs of maps, reductions, scans, windows, filters and gathers.

A cascade grows Einsum by Einsum over a long rank M (plain, or split into M1*M0), a free rank P, a
contracted rank E, windows W, picks K and steps T. Every step takes tensors that are there already
or new inputs; one in two steps reuses something tied to M together with something reduced over M,
since that is what passes are made of.
"""

import contextlib
import re
from dataclasses import dataclass, field

from hypothesis import strategies as st

import einsum_cascade as ec

# Steps of iterations over another rank.
STEPS = 2
# Of one Einsum; a split rank counts once.
MOST_VARIABLES = 4
TWO = ("{a}*{b}", "exp({a} - {b})", "{a}/(2 + {b})", "{a} + {b}", "max({a}, {b})")
ONE = ("exp({a})", "{a}*{a}", "2*{a}", "{a}")


class TooWideError(Exception):
    """An Einsum over so many ranks that an explicit graph of it would be large."""


@dataclass(frozen=True)
class Known:
    """A tensor and the index variables of its axes; `state` is the variable of a recurrence."""

    name: str
    indices: tuple[str, ...]
    state: str = ""
    descending: bool = False

    def read(self, **changed: str) -> str:
        """Write an access; `m="m+1"` changes the index of an axis."""
        text = ",".join(changed.get(v, v) for v in self.indices)
        return f"{self.name}[{text}]" if text else self.name


@dataclass
class Growing:
    """A cascade while it is being drawn."""

    draw: st.DrawFn
    long: tuple[str, ...]
    lines: list[str] = field(default_factory=list)
    tensors: list[Known] = field(default_factory=list)
    inputs: list[Known] = field(default_factory=list)
    count: int = 0

    def name(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def choose(self, options):
        return options[self.draw(st.integers(0, len(options) - 1))]

    def chance(self, one_in: int = 2) -> bool:
        return self.draw(st.integers(1, one_in)) == 1

    def input(self, indices: tuple[str, ...]) -> Known:
        made = Known(self.name("A"), indices)
        self.inputs.append(made)
        self.tensors.append(made)
        return made

    def tied(self) -> Known:
        """A tensor along the whole long rank, now and then a new input."""
        there = [t for t in self.tensors if set(self.long) <= set(t.indices) and not t.state]
        if not there or self.chance(5):
            more = self.choose([(), ("p",), ("e",), ("p",)])
            return self.input((*self.long, *more))
        # The latest ones make chains, the earliest ones make reuse.
        return self.choose([*there, there[-1], there[0]])

    def reduced(self) -> Known | None:
        """A tensor that has lost part of the long rank, or is a state along it."""
        there = [t for t in self.tensors if not set(self.long) <= set(t.indices) or t.state]
        return self.choose([*there, there[-1]]) if there else None

    def define(self, letter: str, indices, right: str, condition: str = "") -> Known:
        used = set(re.findall(r"\b[a-z][0-9]?\b", f"{right}{condition}{indices}"))
        if len(used) > MOST_VARIABLES + len(self.long) - 1:
            raise TooWideError
        made = Known(self.name(letter), tuple(indices))
        self.lines.append(f"{made.read()} = {right}{condition}")
        self.tensors.append(made)
        return made

    def access(self, tensor: Known) -> tuple[str, tuple[str, ...]]:
        """Read a tensor plainly; a state before, after, or at the end of its steps."""
        if not tensor.state:
            return tensor.read(), tensor.indices
        v = tensor.state
        how = self.choose(["before", "after", "end"])
        if how == "end":
            end = "0" if tensor.descending else v.upper()
            return tensor.read(**{v: end}), tuple(i for i in tensor.indices if i != v)
        return tensor.read(**{v: v if how == "before" else f"{v}+1"}), tensor.indices


def grow_sources(g: Growing) -> None:
    """Two tensors one after the other along the long rank."""
    more = g.choose([(), ("p",)])
    first, second = g.input(("t", *more)), g.input(("n", *more))
    del g.tensors[-2:]
    made = Known(g.name("L"), ("m", *more))
    g.lines += [
        f"{made.read(m='t')} = {g.choose(['2*{a}', 'exp({a})']).format(a=first.read())}",
        f"{made.read(m='T+n')} = {g.choose(['3*{a}', '{a}']).format(a=second.read())}",
    ]
    g.tensors.append(made)


def _union(*lists):
    return tuple(dict.fromkeys(v for one in lists for v in one))


def grow_map(g: Growing) -> None:
    a = g.tied()
    b = g.reduced() if not g.chance(4) else g.tied()
    first, indices = g.access(a)
    if b is None or g.chance(6):
        g.define("B", indices, g.choose(ONE).format(a=first))
        return
    second, more = g.access(b)
    both = _union(indices, more)
    forms = list(TWO)
    if g.chance(6):
        forms = ["where({a} > {b}, {a}, 2*{b})"]
        forms += (
            ["where(m <= p, {a}*{b}, 0)", "where(p < m, {a}, {b})"] if {"m", "p"} <= {*both} else []
        )
    g.define("B", both, g.choose(forms).format(a=first, b=second), filtered(g, both))


def filtered(g: Growing, indices) -> str:
    if "m" in indices and "p" in indices and g.chance(5):
        return " where " + g.choose(["m <= p", "m < p", "p - m <= 2 and m <= p", "m >= p"])
    if "m" in indices and g.chance(12):
        return " where " + g.choose(["m < M//2", "m >= 2", "m != 1"])
    return ""


def grow_reduction(g: Growing) -> None:
    a = g.tied()
    first, indices = g.access(a)
    right = first
    b = g.reduced()
    if b is not None and not g.chance(3):
        second, more = g.access(b)
        indices = _union(indices, more)
        right = g.choose(TWO).format(a=first, b=second)
    cut = [v for v in g.long if v in indices]
    if len(cut) > 1 and g.chance():
        cut = cut[1:] if not g.chance(4) else cut[:1]
    cut += [v for v in ("e", "w", "k") if v in indices and g.chance()]
    if g.chance(8):
        cut = [v for v in indices if v not in g.long] or cut
    kept = [v for v in indices if v not in cut]
    condition = filtered(g, indices)
    g.define("R", kept, f"{g.choose(['sum', 'max'])}[{','.join(cut)}]({right})", condition)


def grow_scan(g: Growing) -> None:
    """A running value along the outermost part of the long rank, at times with a correction."""
    v = g.long[0]
    there = [t for t in g.tensors if v in t.indices and not t.state and len(t.indices) <= 2]
    there = [t for t in there if t.indices.count(v) == 1 and "m0" not in t.indices]
    a = g.choose(there) if there else None
    if a is None:
        if len(g.long) > 1:
            return
        a = g.tied()
    descending = g.chance(4)
    made = Known(g.name("S"), _union((v,), a.indices), v, descending)
    before, after = made.read(), made.read(**{v: f"{v}+1"})
    start, final = made.read(**{v: "0"}), made.read(**{v: v.upper()})
    rule = g.choose(["max({s}, {a})", "{s} + {a}", "{s}/2 + {a}", "{s}*exp({a})"])
    if descending:
        g.lines += [f"{final} = 0", f"{before} = {rule.format(s=after, a=a.read())}"]
    else:
        g.lines += [f"{start} = 0", f"{after} = {rule.format(s=before, a=a.read())}"]
    g.tensors.append(made)
    if not descending and g.chance():
        second = Known(g.name("S"), made.indices, v)
        g.lines += [
            f"{second.read(**{v: '0'})} = 0",
            f"{second.read(**{v: f'{v}+1'})} = {second.read()}*exp({before} - {after}) "
            f"+ exp({a.read()} - {after})",
        ]
        g.tensors.append(second)


def grow_window(g: Growing) -> None:
    """A window along the long rank, as a map or summed at once (convolution)."""
    if g.long != ("m",):
        return
    a = g.tied()
    if "w" in a.indices:
        return
    plain = ["m+w-W//2", "m+w", "m-w", "m+2*w-W"]
    edged = ["(m+w)%M", "min(m+w, M-1)", "clamp(m+w-W//2, 0, M-1)"]
    index = g.choose(plain * 2 + edged)
    first = a.read(m=index)
    right = first
    indices = _union(a.indices, ("w",))
    b = g.reduced()
    if b is not None and g.chance():
        second, more = g.access(b)
        indices = _union(indices, more)
        right = f"exp({first} - {second})"
    if g.chance():
        filter_weights = g.input(("w",))
        kept = [v for v in indices if v != "w"]
        g.define("C", kept, f"sum[w]({right}*{filter_weights.read()})")
    else:
        g.define("B", indices, right if right != first else f"2*{first}")


def grow_pick(g: Growing) -> None:
    """A top-k over the long rank, and what it selects; or a gather by an index that is given."""
    if g.long != ("m",):
        return
    a = g.tied()
    if "k" in a.indices:
        return
    if g.chance(3):
        pointer = g.input(("k",))
    else:
        kept = tuple(v for v in a.indices if v not in ("m", "e"))
        over = tuple(v for v in a.indices if v not in (*kept, "m"))
        source = a
        if over:
            source = g.define("R", ("m", *kept), f"sum[{','.join(over)}]({a.read()})")
        if g.chance(3):
            g.define("R", (*kept, "k"), f"topk[m]({source.read()})")
            return
        pointer = g.define("I", (*kept, "k"), f"argtopk[m]({source.read()})")
    target = g.tied()
    if "k" in target.indices:
        return
    indices = _union(pointer.indices, (v for v in target.indices if v != "m"))
    g.define("G", indices, f"2*{target.read(m=pointer.read())}")


def grow_iteration(g: Growing) -> None:
    """Two steps of a vector iteration that sums over the long rank each time."""
    # Of concatenated sources t is the first.
    if any("[t" in line or "t+1" in line for line in g.lines):
        return
    a = next((t for t in g.tensors if set(t.indices) == {*g.long, "p"} and not t.state), None)
    a = a or g.input((*g.long, "p"))
    v, r = g.name("V"), g.name("R")
    start = g.input(g.long)
    long = ",".join(g.long)
    g.lines += [
        f"{v}[0,{long}] = {start.read()}",
        f"{r}[t,p] = sum[{long}]({a.read()}*{v}[t,{long}])",
        f"{v}[t+1,{long}] = sum[p]({a.read()}/{r}[t,p])",
    ]
    g.define("B", a.indices, f"{a.read()}*{v}[{STEPS},{long}]*{r}[{STEPS - 1},p]")


STEPS_OF_GROWTH = (
    grow_map,
    grow_map,
    grow_map,
    grow_reduction,
    grow_reduction,
    grow_reduction,
    grow_scan,
    grow_scan,
    grow_window,
    grow_pick,
    grow_iteration,
)


@st.composite
def cascades(draw: st.DrawFn) -> ec.Cascade:
    """Draw a legal cascade of 3 to about 10 Einsums."""
    g = Growing(draw, draw(st.sampled_from([("m",), ("m",), ("m1", "m0")])))
    joined = g.long == ("m",) and g.chance(8)
    if joined:
        grow_sources(g)
    for _ in range(draw(st.integers(3, 6))):
        with contextlib.suppress(TooWideError):
            g.choose(STEPS_OF_GROWTH)(g)
        if len(g.lines) >= 10:
            break
    if not g.lines or g.chance():
        # What was there first meets what it was reduced to.
        with contextlib.suppress(TooWideError):
            grow_reduction(g)
            grow_map(g)
    if not g.lines:
        g.define("R", (), f"sum[{','.join(g.long)}]({g.input(g.long).read()})")
    head = ["rank M = M1*M0"] if len(g.long) > 1 else []
    head += ["rank M = T + N"] if joined else []
    text = "\n".join(g.lines)
    read = [known for known in g.inputs if f"{known.name}[" in text]
    head += ["input " + ", ".join(known.read() for known in read)] if read else []
    return ec.parse("\n".join([*head, text]), "random")
