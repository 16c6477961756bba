"""Whole cascades: printing, what is implied, and every rule with the place and message it gives."""

import pytest

from einsum_cascade import legality, rules
from einsum_cascade.catalog import load, names
from einsum_cascade.errors import MAX_PROBLEMS, CascadeError
from einsum_cascade.legality import parse

CASCADES = names("cascades")


def problems(text):
    """What `parse` says about a text: (line, column, message) of every problem."""
    with pytest.raises(CascadeError) as caught:
        parse(text)
    return [(p.source.line, p.source.column, p.message) for p in caught.value.problems]


# ---- printing ----


@pytest.mark.parametrize("name", CASCADES)
def test_shipped_cascade_reads_back_from_its_printing(name):
    cascade = load(name)
    again = parse(str(cascade), cascade.name, sizes=dict(cascade.default_sizes))
    assert cascade == again
    assert hash(cascade) == hash(again)
    assert str(cascade) == str(again)


EVERYTHING = """
rank N = N1*N0
var p, q in P
input K[m,e], B
output Z, T
param gamma = 0.5
S[0,p] = 0
S[n1+1,p] = gamma*S[n1,p] + sqrt(E)
T[p,q] = sum[n1,n0](A[n1,n0]*S[n1+1,p]*X[q]) where p <= q and not (n0 == 1)
Y[p,m] = Q[p,e]*K[m,e]
I[p,k] = argtopk[m](Y[p,m])
U[p] = max[k,e](K[I[p,k],e//2]) where e < B or (e > eps0 and k != 2)
Z[p] = U[p]*B/2
"""


def test_every_construct_reads_back_from_its_printing():
    cascade = parse(EVERYTHING)
    assert cascade == parse(str(cascade))
    directives = ["rank N = N1*N0", "var q in P", "input K[m,e], B", "output Z, T"]
    assert [*directives, "param gamma = 0.5"] == str(cascade).splitlines()[:5]


# ---- what is implied ----


@pytest.mark.parametrize(
    ("line", "over"),
    [
        ("Z = A[k]*B[k]", ("k",)),
        ("Z[m,p] = Q[e,p]*K[e,m]", ("e",)),
        ("Z[p] = A[m,p]*B[n]/C[m]", ("m", "n")),
        ("Z = -A[k]*2/sqrt(K)", ("k",)),
        ("Z = A[I[k]]*B[k]", ("k",)),
        ("Z[p] = A[p]*B[p]", ()),
    ],
)
def test_a_product_is_summed_over_what_the_left_side_lacks(line, over):
    einsum = parse(line).einsums[0]
    assert over == einsum.over
    assert einsum.is_implicit == bool(over)
    assert ("sum" if over else None) == einsum.op
    assert line == str(einsum)


@pytest.mark.parametrize(
    "line",
    ["Z = A[k] + B[k]", "Z = exp(A[k])", "Z = A[k]*(B[k] - 1)", "Z = A[k]**2", "Z = A[k]*k"],
)
def test_anything_else_has_to_name_its_reduction(line):
    (found,) = problems(line)
    assert (1, 5, "'k' is on the right side only, and nothing says how it is reduced") == found


def test_ranks_roles_and_parameters():
    cascade = parse("var n in M\nS[m] = A[m,n]*gamma\nZ[m] = S[m] + B\ninput B")
    assert (("m", "M"), ("n", "M")) == cascade.variables
    assert (("B", "A"), ("Z",)) == (cascade.inputs, cascade.outputs)
    assert "intermediate" == cascade.tensor("S").role
    assert ("M", "M") == cascade.tensor("A").ranks
    assert () == cascade.tensor("B").dims
    assert (("gamma", None),) == cascade.parameters


def test_declared_outputs_replace_the_implied_ones():
    assert ("Z",) == parse("Y = A[k]*B[k]\nZ = Y*2").outputs
    assert ("Y",) == parse("output Y\nY = A[k]*B[k]\nZ = Y*2").outputs


def test_splits():
    cascade = parse("rank M = M2*M1*M0\nZ[m2] = A[m2,m1,m0]*B[m1]")
    assert ("M2", "M1", "M0") == cascade.parts_of("M")
    assert ["M"] * 3 == [cascade.whole_of(part) for part in cascade.parts_of("M")]
    assert ("E", ("E",)) == (cascade.whole_of("E"), cascade.parts_of("E"))
    assert ("M0", "M1", "M2", "M") == cascade.ranks


def test_iterative_rank_upwards():
    """S[n+1] sets coordinates 1..N and S[0] the first: N+1 in all."""
    cascade = parse("S[0] = 0\nS[n+1] = S[n] + A[n]\nZ = S[N]")
    (dim,) = cascade.tensor("S").dims
    assert ("N", 1) == (dim.rank, dim.extra)
    assert cascade.tensor("S").is_state
    assert [True, False, False] == [einsum.is_initial for einsum in cascade.einsums]


def test_iterative_rank_downwards():
    cascade = parse("S[N] = 0\nS[n] = S[n+1] + A[n]\nZ = S[0]")
    (dim,) = cascade.tensor("S").dims
    assert ("N", 1) == (dim.rank, dim.extra)


def test_written_order_means_nothing():
    one = parse("Z = Y*2\nY = A[k]*B[k]")
    assert ("Z",) == one.outputs


def test_windows_line_ends_and_tabs():
    assert parse("Y = A[k]*B[k]\nZ = Y*2") == parse("Y = A[k]*B[k]\r\n\tZ\t=\tY * 2\r\n")


# ---- rules ----

# Rule -> texts that break it, with the line, the column and the whole message.
BROKEN = [
    ("left_side", "T[m*2] = A[m]", 1, 3, "'m*2' is no legal index on the left side"),
    ("left_side", "Y = B[k]\nT[m-1] = A[m]", 2, 3, "'m - 1' is no legal index on the left side"),
    ("left_side", "T[-1] = A[m]", 1, 3, "'-1' is no legal index on the left side"),
    ("left_side", "T[I[m]] = A[m]", 1, 3, "'I[m]' is no legal index on the left side"),
    ("left_side", "T[m,m] = A[m]", 1, 5, "variable 'm' occurs twice on the left side"),
    ("index", "Z[m] = A[m*1.5]", 1, 12, "'1.5' is not legal in an index"),
    ("index", "Z[m] = A[exp(m)]", 1, 10, "'exp(m)' is not legal in an index"),
    ("index", "Z[m] = A[m+gamma]", 1, 12, "'gamma' is not legal in an index"),
    ("index", "Z[m] = A[m+inf]", 1, 12, "'inf' is not legal in an index"),
    ("index", "T[9999999999] = A[m]", 1, 3, "'9999999999' is not legal in an index"),
    (
        "arity",
        "Y[m,p] = A[m]*B[p]\nZ[m] = Y[m]*2",
        2,
        8,
        "Y has 2 ranks, but Y[m] gives 1 index",
    ),
    ("arity", "Z[m] = A[m] + A[m,m]", 1, 15, "A has 1 rank, but A[m,m] gives 2 indices"),
    (
        "ranks",
        "Y[m,p] = A[m]*B[p]\nZ[p] = sum[m](Y[p,m])",
        2,
        17,
        "unknown rank variable 'p' in Y[p,m]: Y has rank M there, but p ranges over P",
    ),
    ("names", "Z[p] = A[p]*B", 1, 13, "'B' is neither a rank nor a scalar tensor"),
    ("names", "Y[p] = A[p]\nZ[p] = Y*1", 2, 8, "'Y' is neither a rank nor a scalar tensor"),
    ("reduction", "Z[m] = sum[m](A[m])", 1, 12, "'m' is reduced and also kept on the left side"),
    ("reduction", "Z = sum[m,m](A[m])", 1, 11, "'m' is reduced twice"),
    ("reduction", "Z = sum[n](A[m])", 1, 9, "'n' is reduced but does not occur in the expression"),
    (
        "reduction",
        "Z[p] = exp(A[m,p])",
        1,
        8,
        "'m' is on the right side only, and nothing says how it is reduced",
    ),
    ("reduction", "I[p] = topk[m](A[m,p])", 1, 1, "topk reduces one rank and fills one new rank"),
    ("broadcast", "Z[p,x] = A[p]", 1, 5, "nothing determines the extent of 'x' (rank X)"),
    ("definitions", "Z[p] = A[p]\nZ[p] = B[p]", 2, 1, "Z is already defined in line 1"),
    ("definitions", "T[M] = 0\nT[m+1] = A[m]", 2, 1, "T is already defined in line 1"),
    ("definitions", "T[0] = 0\nT[m] = A[m]", 2, 1, "T is already defined in line 1"),
    ("directives", "input Z[p]\nZ[p] = A[p]", 1, 7, "Z is an input, but line 2 defines it"),
    ("directives", "input B[p]\nZ[p] = A[p]", 1, 7, "B is never read"),
    ("directives", "output Z, Y\nZ[p] = A[p]", 1, 11, "Y is never defined"),
    ("directives", "output Z, Z\nZ[p] = A[p]", 1, 11, "Z is already declared in line 1"),
    ("directives", "rank P = P1*P0\nZ[p1] = A[p1]", 1, 13, "no index ranges over P0"),
]


@pytest.mark.parametrize(
    ("rule", "text", "line", "column", "message"), BROKEN, ids=[f"{b[0]}-{b[1]}" for b in BROKEN]
)
def test_rule(rule, text, line, column, message, monkeypatch):
    assert (line, column, message) in problems(text)
    # It is this rule that says so.
    monkeypatch.setattr(legality, "RULES", (getattr(rules, f"rule_{rule}"),))
    assert (line, column, message) in problems(text)


def test_every_rule_has_a_broken_text():
    assert {rule.__name__ for rule in rules.RULES} == {f"rule_{b[0]}" for b in BROKEN}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1, 0, "the cascade is empty")),
        ("rank M = M1*M1\nZ = A[m1]", (1, 13, "rank M1 is already a part of M")),
        ("rank M = A*B\nrank N = B*C\nZ = X[m]", (2, 10, "rank B is already a part of M")),
        ("rank M = A*B\nrank M = C*D\nZ = X[m]", (2, 6, "rank M is split twice")),
        ("var m in M\nvar m in N\nZ = X[m]", (2, 5, "variable m already ranges over M")),
        ("Y = X\nX = Y", (2, 1, "circular definition: Y -> X -> Y")),
        ("S[m+1] = S[m+2]*A[m]\nS[0] = S[m]", (2, 1, "circular definition: S -> S")),
    ],
)
def test_mistakes_found_outside_the_table(text, expected):
    assert expected in problems(text)


def test_the_message_in_full():
    """Place, what is wrong, the line, carets below the mistake, what was probably meant."""
    text = "QK[m,p] = Q[e,p]*K[e,m]\nvar m2 in N\nZ[p] = max[m2](QK[m2,p])"
    with pytest.raises(CascadeError) as caught:
        parse(text, file="mine.yaml", first_line=4, indent=2)
    assert str(caught.value) == (
        "mine.yaml:6:21: unknown rank variable 'm2' in QK[m2,p]: QK has rank M there, but m2 "
        "ranges over N\n"
        "      Z[p] = max[m2](QK[m2,p])\n"
        "                        ^^\n"
        "  QK has ranks M, P; did you mean 'm'? (two variables share a rank with: var m2 in M)"
    )


def test_several_mistakes_are_reported_together_in_order():
    found = problems("output Y\nZ[p,x] = A[p]\nT[m*2] = B[m]\nU = exp(C[k])")
    assert [1, 2, 3, 4] == [line for line, _, _ in found]
    # Lines that can't be read are all reported before anything is said about meaning.
    assert [1, 3] == [line for line, _, _ in problems("Z = \nY = A[k\nX = foo(1)")][::2]


def test_more_than_ten_mistakes_are_counted():
    with pytest.raises(CascadeError) as caught:
        parse("\n".join(f"Z{i} = exp(A[k])" for i in range(13)))
    assert MAX_PROBLEMS == len(caught.value.problems)
    assert str(caught.value).endswith("\n... and 3 more")
