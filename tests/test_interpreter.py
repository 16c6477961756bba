"""The interpreter's values: derivable on paper, or compared with plain Python.

`BruteForce` evaluates small cascades one point at a time, and must agree with the grids of the
interpreter on random ones.
"""

import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_cascade import interpreter
from einsum_cascade.cascade import variables_in
from einsum_cascade.catalog import load
from einsum_cascade.expressions import Apply, Compare, Logic, Name, Number, Select
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

INF = float("inf")


def random(*shape):
    return np.random.default_rng(shape).normal(size=shape)


def run(text, sizes=None, **arrays):
    """Evaluate a text with one output; return its values as a list."""
    (out,) = evaluate(parse(text), sizes=sizes, **arrays).values()
    return out.tolist()


# ---- worked examples ----


def test_toys_agree():
    """Y = 1*3 + 2*4 = 11; Z = 11*(1 + 2) = 33."""
    for name in ("toy-two-pass", "toy-deferred", "toy-iterative"):
        assert 33.0 == evaluate(load(name), A=[1, 2], B=[3, 4])["Z"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("sum", 6.0), ("max", 3.0), ("min", 1.0), ("prod", 6.0)],
)
def test_reductions(line, expected):
    assert expected == run(f"Z = {line}[k](A[k])", A=[1, 3, 2])


@pytest.mark.parametrize(
    ("op", "expected"), [("sum", 0.0), ("max", -INF), ("min", INF), ("prod", 1.0)]
)
def test_a_reduction_of_nothing_is_the_identity(op, expected):
    """No k is below 0; row 1 of the second is filtered away by p alone, so it is empty: 0."""
    assert expected == run(f"Z = {op}[k](A[k]) where k < 0", A=[1, 2])
    assert [3.0, 0.0] == run("Z[p] = sum[k](A[p,k]) where p < 1", A=[[1, 2], [4, 8]])


def test_filters():
    """Cells of a 3x3 table of ones counted: m <= p is 6, without the diagonal 3, and so on."""
    counts = {
        "m <= p": 6,
        "m <= p and m != p": 3,
        "m == p or m == 0": 5,
        "not (m <= p or p == 0)": 1,
        "0 < m <= p": 3,
        "A[m,p] > 1": 0,
    }
    for condition, count in counts.items():
        text = f"Z = sum[m,p](A[m,p]) where {condition}"
        assert count == run(text, A=np.ones((3, 3))), condition


def test_gather():
    """What points outside, or nowhere, is empty: 0 in an output, left out of a sum."""
    A = [10, 20, 30]
    assert [30.0, 10.0, 0.0, 0.0] == run("Z[p] = A[I[p]]", A=A, I=[2, 0, 3, -1])
    assert [20.0, 0.0, 0.0] == run("Z[p] = A[I[p]]", A=A, I=[1, float("nan"), INF])
    assert 40.0 == run("Z = sum[p](A[I[p]])", A=A, I=[2, 0, 3])


def test_topk_breaks_ties_by_coordinate_and_fills_up_with_empty():
    """Of 1 3 3 2 the best three are 3 3 2, at 1 2 3; a fifth and sixth don't exist."""
    S = [[1, 3, 3, 2]]
    assert [[3.0, 3.0, 2.0]] == run("T[p,k] = topk[m](S[p,m])", S=S, sizes={"K": 3})
    assert [[1.0, 2.0, 3.0]] == run("T[p,k] = argtopk[m](S[p,m])", S=S, sizes={"K": 3})
    text = "I[p,k] = argtopk[m](S[p,m])\nZ[p] = sum[k](I[p,k] + 1)"
    assert [10.0] == run(text, S=S, sizes={"K": 6})
    # Filtered elements can't be chosen, and a present -inf comes before them.
    text = "T[k,p] = argtopk[m](S[p,m]) where m > 1"
    assert [[3.0], [2.0], [0.0]] == run(text, S=[[9, 9, -INF, 1]], sizes={"K": 3})


def test_scans_up_and_down():
    """Prefix sums of 1 2 3 are 1 3 6, suffix sums 6 5 3."""
    up = "S[0] = 0\nS[n+1] = S[n] + A[n]\nZ[n] = S[n+1]*1"
    down = "S[N] = 0\nS[n] = S[n+1] + A[n]\nZ[n] = S[n]*1"
    assert [1.0, 3.0, 6.0] == run(up, A=[1, 2, 3])
    assert [6.0, 5.0, 3.0] == run(down, A=[1, 2, 3])


def test_unrolled_iteration():
    """Halving (1, 2) twice; with three steps, step 2 is still read."""
    text = "X[0,e] = Y[e]\nX[t+1,e] = X[t,e]/2\nO[e] = X[2,e]*1"
    assert [0.25, 0.5] == run(text, Y=[1, 2], sizes={"T": 2})
    assert [0.25, 0.5] == run(text, Y=[1, 2], sizes={"T": 3})


EDIT_DISTANCE = """
    D[0,0] = 0
    D[i+1,0] = D[i,0] + 1
    D[0,j+1] = D[0,j] + 1
    D[i+1,j+1] = min(min(D[i,j+1], D[i+1,j]) + 1, D[i,j] + X[i,j])
    Z = D[I,J]"""


@pytest.mark.parametrize(("a", "b"), [("kitten", "sitting"), ("a", ""), ("flaw", "lawn")])
def test_recurrences_along_two_ranks(a, b):
    """The edit distance of two words, against the textbook loop in plain Python."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a):
        row = [i + 1]
        for j, y in enumerate(b):
            row.append(min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (x != y)))
        rows.append(row)
    different = np.array([[x != y for y in b] for x in a]).reshape(len(a), len(b))
    assert rows[-1][-1] == run(EDIT_DISTANCE, X=different)


def test_total_arithmetic():
    """Nothing stays nothing: 0*inf = 0, 0/0 = 0, -inf - (-inf) = -inf; the rest is IEEE."""
    nan = float("nan")
    a, b = [0, INF, 0, 1, nan, -INF], [INF, 0, 0, 0, 0, -INF]
    np.testing.assert_equal([0, 0, 0, 0, nan, INF], run("Z[k] = A[k]*B[k]", A=a, B=b))
    np.testing.assert_equal([0, INF, 0, INF, nan, nan], run("Z[k] = A[k]/B[k]", A=a, B=b))
    np.testing.assert_equal([-INF, INF, 0, 1, nan, -INF], run("Z[k] = A[k] - B[k]", A=a, B=b))
    assert 0.0 == run("Z = exp(A - B)\ninput A, B", A=-INF, B=-INF)


def test_numbers_beyond_64_bits_and_shapes():
    assert [1e30] == run(f"Z[k] = A[k]*1{'0' * 30}", A=[1])
    assert [3.0, 3.5] == run("Z[k] = K + k/2 + 1", sizes={"K": 2})
    assert [2.0**100] == run("Z[k] = A[k]**100", A=[2])


@pytest.mark.parametrize("points", [1, 7, 50])
def test_slicing_changes_nothing(points, monkeypatch):
    """Slices are cut along a kept variable, never along what a reduction or a top-k runs over."""
    window = "var n, p in N\ninput K[n]\nZ[p] = sum[w](K[p+w-W//2]) where w <= p"
    causal = str(load("softmax-1pass")).replace("K[e,m1,m0]", "K[e,m1,m0] where m1*M0 + m0 < p")
    cases = [
        (causal, {"M0": 3}, {"Q": random(3, 9), "K": random(3, 7), "V": random(2, 7)}),
        (window, {"W": 5}, {"K": random(11)}),
        ("T[p,k] = topk[m](S[p,m])", {"K": 9}, {"S": random(2, 5)}),
        ("Z[p,q] = A[p]*B[m,q] where m != p", {}, {"A": random(4), "B": random(5, 3)}),
        (EDIT_DISTANCE, {}, {"X": random(3, 4)}),
    ]
    cases = [(parse(text), sizes, arrays) for text, sizes, arrays in cases]
    expected = [evaluate(c, sizes=sizes, **arrays) for c, sizes, arrays in cases]
    monkeypatch.setattr(interpreter, "SLICE_POINTS", points)
    for (cascade, sizes, arrays), whole in zip(cases, expected, strict=True):
        for name, values in evaluate(cascade, sizes=sizes, **arrays).items():
            assert np.array_equal(whole[name], values)


# ---- against a loop over points ----


def _times(a, b):
    return 0.0 if 0 in (a, b) and INF in (abs(a), abs(b)) else a * b


SCALAR = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: -INF if a == b == -INF else a - b,
    "mul": _times,
    "max": lambda a, b: a if a != a else b if b != b else max(a, b),
    "min": lambda a, b: a if a != a else b if b != b else min(a, b),
    "neg": lambda a: -a,
    "mod": lambda a, b: a - b * math.floor(a / b),
    "floordiv": lambda a, b: float(math.floor(a / b)),
    "clamp": lambda a, low, high: high if a > high or low > high else max(a, low),
}
REDUCE = {"sum": ("add", 0.0), "prod": ("mul", 1.0), "max": ("max", -INF), "min": ("min", INF)}
COMPARE = {"<=": lambda a, b: a <= b, "!=": lambda a, b: a != b, ">": lambda a, b: a > b}


class BruteForce:
    """Evaluate a cascade without splits point by point, again and again until nothing changes.

    A tensor is a dict of its elements that are not empty, its shape, and the axes along which
    emptiness varies. The repetition needs no order of Einsums, and no notion of a recurrence.
    """

    def __init__(self, cascade, extents, **arrays):
        self.cascade, self.extents = cascade, extents
        given = {n: (dict(np.ndenumerate(a)), a.shape, set()) for n, a in arrays.items()}
        for name in {e.name for e in cascade.einsums}:
            dims = cascade.tensor(name).dims
            given[name] = ({}, tuple(extents[d.rank] + d.extra for d in dims), set())
        self.tensors, before = given, None
        while before != repr(self.tensors):
            before, fresh = repr(self.tensors), dict(given)
            for name in {e.name for e in cascade.einsums}:
                fresh[name] = ({}, given[name][1], set())
            for einsum in cascade.einsums:
                self.einsum(einsum, fresh[einsum.name][0], fresh[einsum.name][2])
            self.tensors = fresh

    def value(self, node, at, empty):
        """A node's value at a point; `empty` collects the variables of what is missing there."""
        match node:
            case Number(value=number):
                return float(number)
            case Name(name=name):
                return float(at.get(name, self.extents.get(name, INF)))
            case Apply(operator=operator, arguments=arguments):
                return SCALAR[operator](*(self.value(a, at, empty) for a in arguments))
            case Select(condition=condition):
                branch = node.then if self.holds(condition, at, empty) else node.otherwise
                missing = []
                value = self.value(branch, at, missing)
                empty += [found | set(variables_in(condition)) for found in missing]
                return value
        elements, shape, varying = self.tensors[node.tensor]
        place = tuple(self.value(i, at, empty) for i in node.indices)
        inside = [0 <= p < size for p, size in zip(place, shape, strict=True)]
        for index, fits in zip(node.indices, inside, strict=True):
            if not fits:
                empty.append(set(variables_in(index)))
        # Emptiness is the same all along the other axes, also where an index points outside.
        place = tuple(p if fits else 0.0 for p, fits in zip(place, inside, strict=True))
        if place not in elements:
            empty.append({v for a in varying for v in variables_in(node.indices[a])})
        return float(elements.get(place, 0.0))

    def holds(self, condition, at, empty):
        """Whether a condition holds at a point; all of it is read."""
        if isinstance(condition, Compare):
            sides = (self.value(side, at, empty) for side in (condition.left, condition.right))
            return COMPARE[condition.symbol](*sides)
        terms = [self.holds(term, at, empty) for term in condition.terms]
        return {"and": all(terms), "or": any(terms), "not": not terms[0]}[condition.word]

    def einsum(self, einsum, elements, varying):
        """Set every element of a definition that is not empty."""
        selects = einsum.op in ("topk", "argtopk")
        new = [v for v in einsum.left if selects and v not in variables_in(einsum.map)]
        left = [v for v in einsum.left if v not in new]
        causes = set()
        for kept in self.space(left):
            values, is_empty = [], False
            for reduced in self.space(einsum.over):
                at, empty = {**kept, **reduced}, []
                value = self.value(einsum.map, at, empty)
                where = einsum.where
                terms = () if where is None else (where,)
                if isinstance(where, Logic) and where.word == "and":
                    terms = where.terms
                for term in terms:
                    if not self.holds(term, at, empty):
                        empty.append(set(variables_in(term)))
                for found in empty:
                    if not found & set(einsum.over):
                        causes, is_empty = causes | found, True
                if not empty:
                    values.append((value, *reduced.values()))
            if is_empty:
                continue
            if selects:
                best = sorted(values, key=lambda pair: -pair[0])[: self.extents[new[0].upper()]]
                results = [
                    (pair[einsum.op == "argtopk"], {new[0]: i}) for i, pair in enumerate(best)
                ]
            else:
                op, start = REDUCE.get(einsum.op, ("add", 0.0))
                results = [(functools.reduce(SCALAR[op], [v[0] for v in values], start), {})]
            for result, more in results:
                place = [self.value(i, {**kept, **more}, []) for i in einsum.target.indices]
                elements[tuple(place)] = result
        for axis, index in enumerate(einsum.target.indices):
            if selects or set(variables_in(index)) & causes:
                varying.add(axis)

    def space(self, variables):
        """Every point of the space of some variables."""
        ranges = [range(self.extents[self.cascade.rank_of(v)]) for v in variables]
        return [dict(zip(variables, point, strict=True)) for point in itertools.product(*ranges)]

    def array(self, name):
        """A tensor as an array, empty elements as 0."""
        out = np.zeros(self.tensors[name][1])
        for place, value in self.tensors[name][0].items():
            out[tuple(int(p) for p in place)] = value
        return out


def small_cascades():
    """Five Einsums over m and p (both of rank M) that filter, gather, look back, select, reduce."""
    inputs = ["A[m,p]", "A[p,m]", "B[m]", "B[p+1]", "B[m-p]", "B[m*2]", "B[I[p]]", "A[I[m],p]"]
    inputs += ["p", "M", "2", "C"]
    inputs += ["B[(m - p)%M]", "B[p//2]", "B[clamp(p - 2,0,M - 1)]", "B[m]%3", "m//2"]
    inputs += ["where(m > p, B[m - 1], 7)", "where(not (B[p] > 0) or m > 2, B[p + 1], A[m,p])"]
    inputs += ["where(I[m] != p and m > 0, where(p > 1, B[p - 2], B[m - 1]), p)"]

    def sums(names):
        term = st.sampled_from(names)
        text = "{0} {3} {1}*({2} - m) + A[m,p]*0 + {4}(p, {0})"
        parts = (term, term, term, st.sampled_from("+-"), st.sampled_from(["min", "max"]))
        return st.tuples(*parts).map(lambda t: text.format(*t))

    sides = ["m", "p", "1", "M - p", "B[p]", "I[m]", "C"]
    compare = st.tuples(*map(st.sampled_from, (sides, [*COMPARE], sides)))
    one = compare.map(lambda t: "{} {} {}".format(*t))
    two = st.tuples(one, st.sampled_from(["and", "or", "and not"]), one)
    terms = st.one_of(one, two.map(lambda t: "{} {} ({})".format(*t)))
    where = st.one_of(st.just(""), terms.map(lambda t: f" where {t}"))
    lines = {
        "Y[m,p] = {}{}": [sums(inputs), where],
        "X[p] = {}[m]({}){}": [
            st.sampled_from([*REDUCE]),
            sums([*inputs, "Y[m,p]", "Y[p,m]", "Y[m+1,p]"]),
            where,
        ],
        "S[p+1] = S[p]*0.5 + X[p]{}": [st.sampled_from(["", " where p != 1", " where B[p] > 0"])],
        "T[p,k] = {}[m]({}){}": [
            st.sampled_from(["topk", "argtopk"]),
            sums([*inputs, "Y[m,p]"]),
            where,
        ],
        "Z[m] = {}[p,k]({} + {}*k + T[p,k]*m + Y[m,p])": [
            st.sampled_from([*REDUCE]),
            *[st.sampled_from(["X[p]", "S[p]", "S[M]", "T[m,k]", "2"])] * 2,
        ],
    }
    head = "var p in M\ninput A[m,p], B[m], I[m], C\noutput Y, X, S, T, Z, U\n"
    head += "U = A[m,p]*B[m]*I[m]*C\nS[0] = 1\n"
    made = [
        st.tuples(*parts).map(lambda t, text=text: text.format(*t)) for text, parts in lines.items()
    ]
    return st.tuples(*made).map(lambda found: head + "\n".join(found))


@settings(max_examples=150)
@given(small_cascades(), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32))
def test_random_cascades_against_a_loop_over_points(text, m, k, seed):
    """Inputs are small integers: what is compared or sorted is exact in any order of summing."""
    cascade, draw = parse(text), np.random.default_rng(seed)
    shapes = {"A": (m, m), "B": (m,), "I": (m,), "C": ()}
    arrays = {n: draw.integers(-2, 4, shape).astype(float) for n, shape in shapes.items()}
    slow = BruteForce(cascade, {"M": m, "K": k}, **{n: np.asarray(a) for n, a in arrays.items()})
    fast = evaluate(cascade, sizes={"K": k}, **arrays)
    for name in cascade.outputs:
        expected, message = slow.array(name), f"{name} of\n{text}"
        np.testing.assert_allclose(expected, fast[name], rtol=1e-14, err_msg=message)
