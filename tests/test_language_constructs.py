"""Choices, whole-numbered operators, conditions on tensors, grouped heads, concatenated ranks.

Every construct is compared with plain Python or NumPy that knows nothing of cascades, on sizes
that don't divide each other, and every mistake is told with its place.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from einsum_cascade.cascade import affine, part_at
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import Apply, Compare, Line, Name, Number, Select, to_text
from einsum_cascade.interpreter import evaluate
from einsum_cascade.language import parse_expression, parse_line
from einsum_cascade.legality import parse

M, P = Name("m"), Name("p")
SIZES = st.integers(1, 7)


def draw(seed, *shape):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def run(text, sizes=None, **arrays):
    """Evaluate a text with one output; return its values. What it prints must read back."""
    cascade = parse(text)
    again = parse(str(cascade))
    assert cascade == again
    assert str(cascade) == str(again)
    (out,) = evaluate(cascade, sizes=sizes, **arrays).values()
    return out


def softmax(logits):
    """Softmax over the first axis; a column of -inf gives 0."""
    top = logits.max(axis=0)
    weights = np.exp(logits - np.where(np.isneginf(top), 0.0, top))
    total = weights.sum(axis=0)
    return weights / np.where(total, total, 1.0)


# ---- where: the function and the filter ----

CHOICE = Select(Compare("<", M, Number(3)), Number(1), Number(0))
FILTER = Compare("<", M, Number(5))
PLACES = [
    ("where(m < 3, 1, 0)", CHOICE, None),
    ("where (m < 3, 1, 0) where m < 5", CHOICE, FILTER),
    ("A[m]*where(m<3, 1, 0) where m < 5", "A[m]*where(m < 3, 1, 0)", FILTER),
    ("A[m] * where(m<3, 1, 0)", "A[m]*where(m < 3, 1, 0)", None),
    ("(where(m<3, 1, 0)) where(m < 5)", CHOICE, FILTER),
    ("max(A[m], where(m < 3, 1, 0)) where (m < 5)", "max(A[m], where(m < 3, 1, 0))", FILTER),
    ("- where(m < 3, 1, 0)", Apply("neg", (CHOICE,)), None),
    ("A[m] where where(m<3, 1, 0) == 1", "A[m]", Compare("==", CHOICE, Number(1))),
    ("A[m] where 1 == where(m<3, 1, 0)", "A[m]", Compare("==", Number(1), CHOICE)),
    ("A[m]where m < 5", "A[m]", FILTER),
    (
        "where(m < 3 and where(m<3, 1, 0) == 1, A[m], 0)",
        "where(m < 3 and where(m < 3, 1, 0) == 1, A[m], 0)",
        None,
    ),
    (
        "where(not where(m<3, 1, 0) == 1 or m > 2, A[m], 0)",
        "where(not (where(m < 3, 1, 0) == 1) or m > 2, A[m], 0)",
        None,
    ),
]


@pytest.mark.parametrize(("text", "value", "condition"), PLACES, ids=[row[0] for row in PLACES])
def test_where_is_a_filter_behind_an_operand_and_a_function_elsewhere(text, value, condition):
    read = parse_line(Line(f"Z[m] = {text}", "cascade", 1))
    assert (parse_expression(value) if isinstance(value, str) else value) == read.map
    assert condition == read.where
    assert read == parse_line(Line(f"Z[m] = {to_text(read.map)}", "cascade", 1)) or read.where


def test_a_choice_reads_what_its_condition_and_both_branches_read():
    """Four accesses; m, p, q and n are variables of the Einsum, though only the map names them."""
    einsum = parse("Z[m,p,q,n] = where(A[m] > B[p], C[q], where(n > 1, D[m], 0))").einsums[0]
    assert ["A", "B", "C", "D"] == [read.tensor for read in einsum.reads]
    assert ("m", "p", "q", "n") == einsum.variables


def test_a_bare_scalar_in_a_condition_is_read():
    out = run("input C, A[m]\nZ[m] = where(A[m] > C, C, A[m])", A=[1, 5, 3], C=np.array(2.0))
    assert [1, 2, 2] == out.tolist()


def test_a_choice_is_no_product_so_its_sum_is_named():
    with pytest.raises(CascadeError, match="'m' is on the right side only"):
        parse("Z = where(m < 3, 1, 0)*A[m]")


def test_the_branch_that_is_not_chosen_empties_nothing():
    assert [7, 1, 2] == run("Z[m] = where(m > 0, K[m-1], 7)", K=[1, 2, 3]).tolist()
    # Nor does a choice in a choice that is not chosen: K[m+1] is outside at m = 2 alone.
    text = "Z[m] = where(m > 0, K[m-1], where(m == 0, K[m], K[m+9]))"
    assert [1, 1, 2] == run(text, K=[1, 2, 3]).tolist()


def test_the_chosen_branch_empties_as_any_read_does():
    """At m = 0 the point is empty, and so is the element: the sum over it is that of 5 and 6."""
    text = "Y[m] = where(m < 3, K[m-1], 0)\nZ = sum[m](Y[m] + 4)"
    assert 4 + 1 + 4 + 2 == run(text, K=[1, 2, 3])


def test_emptiness_that_depends_on_a_reduced_variable_through_the_condition():
    """At m = 0 only k > 0 reads outside: the sum there is that of k = 0, which is 5*10."""
    out = run("Z[m] = sum[k](where(k > 0, A[m-1], 5)*B[k])", A=[1, 2], B=[10, 20, 30])
    assert [50, 50 + 20 + 30] == out.tolist()


def test_a_condition_is_read_whole():
    """K[m-1] empties m = 0, though `m == 0` alone would decide."""
    out = run("Z[m] = where(m == 0 or K[m-1] > 1, 8, 9)", K=[1, 2, 3])
    assert [0, 9, 8] == out.tolist()


def test_a_choice_in_a_recurrence():
    """S starts anew after every third step."""
    text = "S[0] = 0\nS[n+1] = where(n % 3 == 0, A[n], S[n] + A[n])\nZ[n] = S[n+1]"
    assert [1, 2, 3, 1, 2, 3, 1] == run(text, A=np.ones(7)).tolist()


@settings(max_examples=40)
@given(SIZES, SIZES, SIZES)
def test_a_causal_mask_by_choice_is_the_mask_by_filter(e, m, p):
    """Choosing -inf for later keys gives the weights that skipping them gives."""
    rest = "G[p] = max[m](L[m,p])\nW[m,p] = exp(L[m,p] - G[p])\nD[p] = sum[m](W[m,p])\n"
    rest += "Z[m,p] = W[m,p]/D[p]"
    q, k = draw(1, e, p), draw(2, e, m)
    chosen = run("X[m,p] = Q[e,p]*K[e,m]\nL[m,p] = where(m <= p, X[m,p], -inf)\n" + rest, Q=q, K=k)
    skipped = run("L[m,p] = Q[e,p]*K[e,m] where m <= p\n" + rest, Q=q, K=k)
    earlier = np.arange(m)[:, None] <= np.arange(p)
    expected = softmax(np.where(earlier, k.T @ q, -np.inf))
    np.testing.assert_allclose(expected, chosen, atol=1e-14)
    np.testing.assert_allclose(expected, skipped, atol=1e-14)


# ---- % // clamp ----


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("m % 2 + p", "m%2 + p"),
        ("m % (2 + p)", "m%(2 + p)"),
        ("(m % 2) * p", "m%2*p"),
        ("m * (p % 2)", "m*(p%2)"),
        ("-m % 2", "-m%2"),
        ("m % 2 ** p", "m%2**p"),
        ("clamp(m, 0, M - 1)", "clamp(m, 0, M - 1)"),
        ("K[(m-p)%M, clamp(m,0,2)]", "K[(m-p)%M,clamp(m,0,2)]"),
    ],
)
def test_whole_operators_print_and_read_back(text, printed):
    tree = parse_expression(text)
    assert printed == to_text(tree)
    assert tree == parse_expression(printed)


@settings(max_examples=40)
@given(st.lists(st.integers(-20, 20), min_size=1), st.integers(-5, 5).filter(bool))
def test_division_and_remainder_round_as_in_python(numbers, divisor):
    out = run("Z[m] = A[m] % B + 1000*(A[m] // B)\ninput A[m], B", A=numbers, B=np.array(divisor))
    assert [n % divisor + 1000 * (n // divisor) for n in numbers] == out.tolist()


def test_clamp():
    out = run("Z[m] = clamp(A[m], -1, 2)", A=[-5, -1, 0.5, 2, 9, -np.inf])
    assert [-1, -1, 0.5, 2, 2, -1] == out.tolist()
    # The upper bound wins where the bounds cross, as in numpy.clip.
    assert [1, 1] == run("Z[m] = clamp(A[m], 3, 1)", A=[0, 5]).tolist()


@settings(max_examples=40)
@given(SIZES, SIZES, st.integers(1, 4))
def test_whole_operators_in_indices(m, p, step):
    """A ring, a stride, a border that repeats, and the nearer of two neighbours."""
    k = draw(3, m)
    text = f"""
        input K[m], X[p]
        Z[p] = K[(p - {step}) % M] + K[p*{step} // P % M] + K[clamp(p - {step}, 0, M-1)]
        Z2[p] = K[min(p, M - 1)]*K[max(p - P, 0)] + X[p]
    """
    out = evaluate(parse(text), K=k, X=np.zeros(p))
    for i in range(p):
        ring, stride = k[(i - step) % m], k[i * step // p % m]
        border = k[min(max(i - step, 0), m - 1)]
        assert ring + stride + border == out["Z"][i]
        assert k[min(i, m - 1)] * k[0] == out["Z2"][i]


# ---- conditions ----


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 10))
def test_disk_window_with_and_or_not(m, p, sinks, radius):
    """Keys within a disk of the query, plus the first ones, but no multiple of 4 beyond."""
    text = """
        input A[m], R, B
        param keep = 4
        Z[p] = sum[m](A[m]*X[p]) where (p-m)**2 <= R or m < B and not (m % keep == 0 and m > 0)
    """
    a = draw(4, m)
    out = run(text, A=a, X=np.ones(p), R=np.array(radius), B=np.array(sinks))
    for i, found in enumerate(out):
        kept = [
            a[j] for j in range(m) if (i - j) ** 2 <= radius or (j < sinks and not (j % 4 == 0 < j))
        ]
        np.testing.assert_allclose(sum(kept), found, atol=1e-14)


@settings(max_examples=40)
@given(SIZES, SIZES, st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_a_window_for_each_head(m, p, windows):
    """The widths are an input; a head without a window attends to nothing and gives 0."""
    h, e = len(windows), 3
    text = """
        input WH[h]
        L[h,m,p] = Q[h,e,p]*K[h,e,m] where m > p - WH[h] and m <= p
        G[h,p] = max[m](L[h,m,p])
        W[h,m,p] = exp(L[h,m,p] - G[h,p])
        D[h,p] = sum[m](W[h,m,p])
        Z[h,f,p] = sum[m](W[h,m,p]*V[h,f,m])/D[h,p]
    """.replace("sum[m](W[h,m,p]*V[h,f,m])/D[h,p]", "W[h,m,p]*V[h,f,m]/D[h,p]")
    q, k, v = draw(5, h, e, p), draw(6, h, e, m), draw(7, h, 2, m)
    out = run(text, Q=q, K=k, V=v, WH=windows)
    for head, i in itertools.product(range(h), range(p)):
        kept = [j for j in range(m) if i - windows[head] < j <= i]
        logits = np.array([q[head, :, i] @ k[head, :, j] for j in kept])
        expected = v[head][:, kept] @ softmax(logits) if kept else np.zeros(2)
        np.testing.assert_allclose(expected, out[head, :, i], atol=1e-13)


def test_an_extent_for_each_head():
    """Offsets w run up to the head's own width; the rank W is as large as the widest."""
    widths, a = [1, 3, 2], draw(8, 3, 5)
    text = "input WH[h], A[h,p]\nZ[h,p] = sum[w](A[h,p-w]) where w < WH[h]"
    out = run(text, sizes={"W": 3}, A=a, WH=widths)
    for h, p in itertools.product(range(3), range(5)):
        expected = sum(a[h, p - w] for w in range(widths[h]) if p >= w)
        assert expected == pytest.approx(out[h, p], abs=1e-14)


@settings(max_examples=40)
@given(st.integers(2, 7), st.integers(1, 7), st.integers(1, 5))
def test_a_condition_on_gathered_positions(m, p, k):
    """Of the k best keys only those not behind the query count."""
    scores, values = draw(9, m, p), draw(10, m)
    text = "I[p,k] = argtopk[m](S[m,p])\nZ[p] = sum[k](V[I[p,k]]) where I[p,k] <= p"
    out = run(text, sizes={"K": k}, S=scores, V=values)
    for i in range(p):
        best = sorted(range(m), key=lambda j: -scores[j, i])[:k]
        np.testing.assert_allclose(sum(values[j] for j in best if j <= i), out[i], atol=1e-14)


# ---- grouped heads ----


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), SIZES, SIZES)
def test_grouped_heads_by_floor_division_and_by_a_split_rank(g, j, m, p):
    """Heads h = g*J + j share the keys of their group g."""
    h, e = g * j, 2
    q, k = draw(11, h, e, p), draw(12, g, e, m)
    expected = np.array([k[i // j].T @ q[i] for i in range(h)])
    by_shapes = run("input K[g,e,m]\nZ[h,m,p] = Q[h,e,p]*K[h//(H//G),e,m]", Q=q, K=k)
    by_number = run(f"input K[g,e,m]\nZ[h,m,p] = Q[h,e,p]*K[h//{j},e,m]", Q=q, K=k)
    split = run("rank H = G*J\nZ[g,j,m,p] = Q[g,j,e,p]*K[g,e,m]", Q=q, K=k)
    np.testing.assert_allclose(expected, by_shapes, atol=1e-14)
    np.testing.assert_allclose(expected, by_number, atol=1e-14)
    np.testing.assert_allclose(expected, split.reshape(h, m, p), atol=1e-14)


# ---- concatenated ranks ----

JOINT = """
rank M = T + N + X
input V[f,m]
L[t,p] = Q[e,p]*KT[e,t]
L[T+n,p] = Q[e,p]*KN[e,n]/2 where n <= p
L[T+N+x,p] = Q[e,p]*KX[e,x] + B[x]*0
G[p] = max[m](L[m,p])
W[m,p] = exp(L[m,p] - G[p])
D[p] = sum[m](W[m,p])
Z[f,p] = W[m,p]*V[f,m]/D[p]
""".replace("Q[e,p]*KX[e,x] + B[x]*0", "Q[e,p]*KX[e,x]")


@settings(max_examples=40)
@given(SIZES, SIZES, SIZES, SIZES)
def test_one_softmax_over_three_key_sources(t, n, x, p):
    q, kt, kn, kx = draw(13, 2, p), draw(14, 2, t), draw(15, 2, n), draw(16, 2, x)
    v = draw(17, 3, t + n + x)
    out = run(JOINT, Q=q, KT=kt, KN=kn, KX=kx, V=v)
    late = np.arange(n)[:, None] > np.arange(p)
    logits = np.concatenate([kt.T @ q, np.where(late, -np.inf, kn.T @ q / 2), kx.T @ q])
    np.testing.assert_allclose(v @ softmax(logits), out, atol=1e-13)


@settings(max_examples=40)
@given(SIZES, SIZES)
def test_parts_are_read_from_wholes(t, n):
    """Of an input over M as of a tensor made in pieces; any other arithmetic is as ever."""
    text = """
        rank M = T + N
        input A[m]
        L[T+n] = A[T+n]*2
        L[t] = A[t]
        Z[t,n] = A[t]*L[T+n]*10 + L[n+T]*L[t]
    """
    a = draw(18, t + n)
    out = run(text, sizes={"T": t}, A=a)
    np.testing.assert_allclose(np.outer(a[:t], a[t:]) * 22, out, atol=1e-13)


def test_an_undeclared_input_read_in_parts_is_over_the_whole():
    cascade = parse("rank M = T + N\nZ[t,n] = A[t]*A[T+n]")
    assert ("M",) == cascade.tensor("A").ranks
    assert [[3], [6]] == evaluate(cascade, sizes={"N": 1}, A=[1, 2, 3])["Z"].tolist()


def test_a_part_may_depend_on_another_without_being_a_recurrence():
    """The extra key of a row is the mean of the others: L[T] from L[0..T-1]."""
    text = "rank M = T + C\nL[T+c,p] = sum[t](L[t,p]*B[c])\nL[t,p] = A[t,p]\nZ[m,p] = L[m,p]*1"
    a = draw(19, 4, 3)
    out = run(text, A=a, B=[0.25])
    np.testing.assert_allclose(np.vstack([a, a.mean(axis=0)]), out)
    with pytest.raises(CascadeError, match="circular definition: L -> L"):
        parse(text.replace("sum[t](L[t,p]", "sum[x](L[T+x,p]").replace("+ C", "+ C\nvar x in C"))


def test_a_recurrence_over_another_rank_writes_pieces():
    """Both parts of the state step along P together: each adds what the other was."""
    text = """
        rank M = T + N
        S[t,0] = 1
        S[T+n,0] = 2
        S[t,p+1] = S[t,p] + sum[n](S[T+n,p])*A[p]
        S[T+n,p+1] = S[T+n,p] + sum[t](S[t,p])*A[p]
        Z[m] = S[m,P]
    """
    text = text.replace("S[t,p] + sum[n](S[T+n,p])*A[p]", "S[t,p] + Y[p]*A[p]")
    text = text.replace("S[T+n,p] + sum[t](S[t,p])*A[p]", "S[T+n,p] + X[p]*A[p]")
    text += "Y[p] = sum[n](S[T+n,p])\nX[p] = sum[t](S[t,p])"
    out = run(text, sizes={"T": 2, "N": 3}, A=[1, 1])
    state = np.array([1.0, 1, 2, 2, 2])
    for _ in range(2):
        state = state + np.where(np.arange(5) < 2, state[2:].sum(), state[:2].sum())
    assert state.tolist() == out.tolist()


def test_a_concatenation_is_part_of_the_cascade():
    cascade = parse("rank M = T + N\nvar u in T\nvar w in N\nL[u] = A[u]\nL[T+w] = B[w]")
    assert (("M", ("T", "N")),) == cascade.concatenations
    assert (("T", "N"), ()) == (cascade.concatenated("M"), cascade.concatenated("T"))
    assert {"M", "T", "N"} == set(cascade.ranks)
    assert ("M",) == cascade.tensor("L").ranks
    assert ["rank M = T + N", "var u in T", "var w in N"] == str(cascade).splitlines()[:3]
    assert cascade == parse(str(cascade))


def test_a_part_without_reads_keeps_its_variable_when_printed():
    cascade = parse("rank M = T + N\nvar n in N\ninput A[m]\nZ[t] = A[t]")
    assert cascade == parse(str(cascade))
    assert [1, 2] == evaluate(cascade, sizes={"N": 1}, A=[1, 2, 3])["Z"].tolist()


@pytest.mark.parametrize(
    ("index", "offset", "part"),
    [
        ("t", (), "T"),
        ("T+n", ("T",), "N"),
        ("T+N+x", ("T", "N"), "X"),
        ("m", (), None),
        ("n", (), None),
        ("N+t", ("N",), None),
        ("T+t", ("T",), None),
        ("t+1", (), None),
        ("n+T", (), None),
        ("T+n+1", (), None),
        ("T", (), None),
        ("0", (), None),
    ],
)
def test_which_part_an_index_addresses(index, offset, part):
    form = affine(parse_expression(index))
    assert offset == form.offset
    assert part == part_at(form, ("T", "N", "X"), {v: v.upper() for v in "tnxm"})
    # An offset makes no plain index: recurrences go by those.
    assert not (form.offset and form.is_plain)


def test_sizes_follow_from_each_other():
    cascade = parse("rank M = T + N\nZ[t,n] = A[m]*B[t]*C[n]")
    a, b, c = np.ones(5), np.ones(2), np.ones(3)
    assert (2, 3) == evaluate(cascade, A=a, B=b, C=c)["Z"].shape
    with pytest.raises(CascadeError, match=r"rank M is 5, but T=2 \+ N=4 is 6$"):
        evaluate(cascade, A=a, B=b, C=np.ones(4))
    part = parse("rank M = T + N\nvar n in N\ninput A[m], B[t]\nZ[t] = A[t]*B[t]")
    with pytest.raises(CascadeError, match=r"T=7 leaves nothing for N of M=5$"):
        evaluate(part, A=a, B=np.ones(7))
    with pytest.raises(CascadeError, match=r"rank M is 5, but T=2 \+ N=1 is 3$"):
        evaluate(part, sizes={"N": 1}, A=a, B=b)
    # M is 9 by default, so N is 4, and its own default comes too late.
    text = "rank M = T + N\nvar n in N\nZ[m] = sum[t](B[t]*m)"
    assert (9,) == evaluate(parse(text, sizes={"M": 9, "N": 2}), B=np.ones(5))["Z"].shape


def test_both_parts_may_come_from_defaults():
    cascade = parse(
        "rank M = T + N\nvar t in T\nvar n in N\nZ = sum[m](A*m)\ninput A", sizes={"T": 2, "N": 3}
    )
    assert 0 + 1 + 2 + 3 + 4 == evaluate(cascade, A=np.array(1.0))["Z"]


# ---- mistakes ----

TWO = "rank M = T + N\nL[t,p] = A[t,p]\n"
MISTAKES = [
    (
        "Z = sum[m](A[m] where m < 3)",
        1,
        17,
        "a filter stands behind the whole expression, outside its brackets",
    ),
    ("Z[m] = where(m, 1, 2)", 1, 14, "the condition of where must be a comparison"),
    ("Z[m] = where(m in 3, 1, 2)", 1, 14, "unknown comparison in the condition of where"),
    ("Z[m] = where(m < 3, 1)", 1, 8, "where takes a condition and two values"),
    ("Z[m] = where(m < 3, 1, y=2)", 1, 8, "where takes a condition and two values"),
    ("Z[m] = where*A[m]", 1, 8, "'where' is an operator and needs arguments"),
    ("Z[m] = A[m] + (m < 3)", 1, 16, "a comparison is legal in a filter or where(...) only"),
    ("Z[m] = A[where(m < 1, 0, 1)]", 1, 10, "'where(m < 1, 0, 1)' is not legal in an index"),
    ("Z[m] = A[m/2]", 1, 10, "'m/2' is not legal in an index"),
    ("Z[m] = A[m**2]", 1, 10, "'m**2' is not legal in an index"),
    ("T[m%2] = A[m]", 1, 3, "'m%2' is no legal index on the left side"),
    ("Z[m] = clamp(A[m], 1)", 1, 8, "clamp takes 3 arguments, not 2"),
    ("where(m < 1, 0, 1) = A[m]", 1, 1, "'where' without an Einsum"),
    ("rank M = T + N*P\nL[t] = A[t]", 1, 15, "a rank is either split (*) or concatenated (+)"),
    ("rank M = T*N + P\nL[t] = A[t]", 1, 14, "a rank is either split (*) or concatenated (+)"),
    ("rank M = T +\nL[t] = A[t]", 1, 13, "a name is missing in 'rank'"),
    ("rank M = T + T\nL[t] = A[t]", 1, 14, "rank T is already a part of M"),
    ("rank M = T + M\nL[t] = A[t]*B[m]", 1, 14, "rank M is already a part of M"),
    (TWO + "L[T+n,p] = B[n,p]\nrank M = N + T", 4, 6, "rank M is concatenated twice"),
    (TWO + "L[T+n,p] = B[n,p]\nrank N = N1*N0", 1, 14, "rank N is both split and concatenated"),
    (TWO + "L[T+n,p] = B[n,p]\nrank N = C + D", 1, 14, "rank N is concatenated itself"),
    ("rank M = T + NN\nL[t] = A[t]", 1, 14, "no index ranges over NN"),
    (
        TWO + "L[N+t,p] = B[t,p]*C[n]",
        3,
        3,
        "wrong offset 'N + t' in L[N+t,p]: in M = T + N, part T starts at 0",
    ),
    (
        TWO + "L[N+n,p] = B[n,p]",
        3,
        3,
        "wrong offset 'N + n' in L[N+n,p]: in M = T + N, part N starts at T",
    ),
    (
        TWO + "L[n,p] = B[n,p]",
        3,
        3,
        "wrong offset 'n' in L[n,p]: in M = T + N, part N starts at T",
    ),
    (
        TWO + "L[T+k,p] = B[k,p]*C[n]",
        3,
        3,
        "wrong offset 'T + k' in L[T+k,p]: K is no part of M = T + N",
    ),
    (
        TWO + "L[T+n,p] = B[n,p]\nZ[p] = sum[t](L[T+t,p])",
        4,
        17,
        "wrong offset 'T + t' in L[T+t,p]: in M = T + N, part T starts at 0",
    ),
    (TWO + "L[T+n,p] = B[n,p]\nL[T+n,p] = C[n,p]", 4, 1, "L is already defined in line 3"),
    (TWO + "L[m,p] = B[m,p]*C[n]", 3, 1, "L is already defined in line 2"),
    ("L[T+n] = B[n]*C[t]", 1, 3, "'T + n' is no legal index on the left side"),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"), MISTAKES, ids=[row[0] for row in MISTAKES]
)
def test_mistake(text, line, column, message):
    with pytest.raises(CascadeError) as caught:
        parse(text)
    found = [(p.source.line, p.source.column, p.message) for p in caught.value.problems]
    assert [(line, column, message)] == found
    assert all(problem.hint for problem in caught.value.problems)


def test_a_wrong_offset_in_full():
    """Place, reason, carets below the index, and the index that was meant."""
    with pytest.raises(CascadeError) as caught:
        parse(TWO + "L[n,p] = B[n,p]", file="joint.yaml", first_line=3, indent=2)
    assert str(caught.value) == (
        "joint.yaml:5:5: wrong offset 'n' in L[n,p]: in M = T + N, part N starts at T\n"
        "      L[n,p] = B[n,p]\n"
        "        ^\n"
        "  write T+n"
    )


def test_the_whole_of_a_concatenated_rank_may_be_split():
    """Pieces stay whole; what reads them goes tile by tile, the last tile ragged."""
    text = """
rank M = T + N
rank M = M1*M0
L[t] = A[t]
L[T+n] = B[n]
Z[m1] = sum[m0](L[m1*M0+m0])
"""
    joined = parse(text)
    assert parse(str(joined)) == joined
    a, b = np.arange(1.0, 4.0), np.arange(10.0, 15.0)
    found = evaluate(joined, A=a, B=b, sizes={"M0": 3})["Z"]
    np.testing.assert_array_equal(found, [6, 10 + 11 + 12, 13 + 14])
