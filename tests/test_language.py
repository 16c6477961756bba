"""One line of a cascade: what it reads as, that its printing reads back, where it may break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einsum_cascade.errors import CascadeError
from einsum_cascade.expression_reader import MAX_DEPTH
from einsum_cascade.expressions import (
    Access,
    Apply,
    Compare,
    Directive,
    Line,
    Logic,
    Name,
    Number,
    Select,
    Statement,
    accesses,
    rewrite,
    to_text,
    walk,
)
from einsum_cascade.language import parse_expression, parse_line
from einsum_cascade.operator_values import RELATIONS, VALUES
from einsum_cascade.operators import COMPARISONS, FUNCTIONS, OPERATORS

M, N, P = Name("m"), Name("n"), Name("p")


def statement(text):
    """Read a line that must be an Einsum."""
    read = parse_line(Line(text, "cascade", 1))
    assert isinstance(read, Statement)
    return read


def directive(text):
    """Read a line that must be a directive."""
    read = parse_line(Line(text, "cascade", 1))
    assert isinstance(read, Directive)
    return read


def where(condition):
    """Read a filter."""
    return statement(f"Z[m,n,p] = A[m,n,p] where {condition}").where


# ---- expressions ----

EXPRESSIONS = {
    "precedence": ("1 + 2*m", Apply("add", (Number(1), Apply("mul", (Number(2), M))))),
    "left to right": ("m - n - p", Apply("sub", (Apply("sub", (M, N)), P))),
    "parentheses": ("m - (n - p)", Apply("sub", (M, Apply("sub", (N, P))))),
    "power to the right": ("m**n**p", Apply("pow", (M, Apply("pow", (N, P))))),
    "power before minus": ("-m**2", Apply("neg", (Apply("pow", (M, Number(2))),))),
    "power of minus": ("(-m)**2", Apply("pow", (Apply("neg", (M,)), Number(2)))),
    "plus sign": ("+m", M),
    "infinity": ("-inf", Apply("neg", (Number(float("inf")),))),
    "whole division": ("M//2", Apply("floordiv", (Name("M"), Number(2)))),
    "function": ("max(m, 0)", Apply("max", (M, Number(0)))),
    "access": ("K[e,m1]", Access("K", (Name("e"), Name("m1")))),
    "affine index": ("K[p+1]", Access("K", (Apply("add", (P, Number(1))),))),
    "gather": ("K[I[p],e]", Access("K", (Access("I", (P,)), Name("e")))),
    "parameter": ("gamma", Name("gamma")),
}


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_expression_reads_as(text, expected):
    assert expected == parse_expression(text)


def _trees():
    """Every expression that can be written: non-negative numbers, names, accesses, operators."""
    numbers = st.one_of(
        st.integers(0, 10**30), st.floats(0, allow_nan=False, allow_infinity=True)
    ).map(Number)
    names = st.sampled_from(["m", "m1", "ab", "ab3", "M", "M1", "QK", "gamma", "eps0"]).map(Name)

    def grow(inner):
        rows = st.sampled_from(list(OPERATORS.values()))
        calls = rows.flatmap(
            lambda row: st.tuples(*[inner] * row.arity).map(lambda a: Apply(row.name, a))
        )
        reads = st.lists(inner, min_size=1, max_size=3).map(lambda i: Access("T_1", tuple(i)))
        one = st.builds(Compare, st.sampled_from(["<", "==", "!="]), inner, inner)
        two = st.builds(Logic, st.sampled_from(["and", "or"]), st.tuples(one, one))
        opposite = st.builds(Logic, st.just("not"), st.tuples(st.one_of(one, two)))
        choices = st.builds(Select, st.one_of(one, two, opposite), inner, inner)
        return st.one_of(calls, reads, choices)

    return st.recursive(st.one_of(numbers, names), grow, max_leaves=25)


TREES = _trees()


@given(TREES)
def test_printed_expression_reads_back(tree):
    assert tree == parse_expression(to_text(tree))


@given(TREES, TREES, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_printed_filter_reads_back(left, right, symbol):
    one = Compare(symbol, left, right)
    both = Logic("and", (one, Logic("or", (one, Logic("not", (one,)))), one))
    assert both == where(str(both))


@given(TREES)
def test_rewriting_with_identity_changes_nothing(tree):
    assert tree == rewrite(tree, lambda node: node)
    assert tree == next(walk(tree))


def test_spans_count_characters_not_bytes():
    """In `é` UTF-8 has two bytes; the name after it starts in column 11 all the same."""
    with pytest.raises(CascadeError) as caught:
        parse_line(Line("Z = 'é' + foo(1)", "cascade", 3, indent=2))
    problem = caught.value.problems[0]
    assert ("cascade:3:7", "'é'", 3) == (str(problem.source), problem.text[6:9], problem.width)


def test_accesses_come_left_to_right_with_gathered_ones():
    names = [a.tensor for a in accesses(parse_expression("A[I[m]] + exp(B[m])*C"))]
    assert ["A", "I", "B"] == names


# ---- Einsums ----


def test_einsum_parts():
    read = statement("  Z[p] = max[m,n](A[m,n] + B[p]) where m <= p  # the largest")
    assert Access("Z", (P,)) == read.target
    assert ("max", (M, N)) == (read.op, read.over)
    assert parse_expression("A[m,n] + B[p]") == read.map
    assert Compare("<=", M, P) == read.where


def test_scalar_target_and_plain_call():
    read = statement("Z = max(A, B)")
    assert (Access("Z", ()), None) == (read.target, read.op)


@pytest.mark.parametrize("op", ["sum", "max", "min", "prod", "topk", "argtopk"])
def test_every_reduction_is_read(op):
    read = statement(f"Z[p] = {op}[m](A[m,p])")
    assert (op, (M,)) == (read.op, read.over)


def test_every_function_is_read():
    for name in FUNCTIONS:
        arguments = ", ".join(["A[m]"] * OPERATORS[name].arity)
        assert f"{name}({arguments})" == to_text(statement(f"Z[m] = {name}({arguments})").map)


@pytest.mark.parametrize("text", ["", "   ", "# only a comment", "   # indented"])
def test_line_without_content(text):
    assert parse_line(Line(text, "cascade", 1)) is None


def test_filters_with_and_or_not():
    le, lt, ge = Compare("<=", M, P), Compare("<", N, P), Compare(">=", M, N)
    assert le == where("m <= p")
    assert Logic("and", (le, lt)) == where("m <= p and n < p")
    assert Logic("or", (le, Logic("and", (lt, ge)))) == where("m <= p or n < p and m >= n")
    assert Logic("not", (Logic("or", (le, lt)),)) == where("not (m <= p or n < p)")
    # A chain is what it is in mathematics.
    assert Logic("and", (ge, Compare("<", N, P))) == where("m >= n < p")


# ---- directives ----


def test_rank_directive():
    read = directive("rank M = M2*M1*M0")
    assert ["M", "M2", "M1", "M0"] == [name.name for name in read.names]


def test_var_directive():
    read = directive("var n, p in N  # queries and keys")
    assert ["n", "p", "N"] == [name.name for name in read.names]


def test_input_directive():
    read = directive("input K[n,e], B")
    assert (Access("K", (N, Name("e"))), Access("B", ())) == read.accesses


def test_output_directive():
    assert ["AV", "SD"] == [name.name for name in directive("output AV, SD").names]


@pytest.mark.parametrize(
    ("text", "value"), [("0.9", 0.9), ("-1", -1.0), ("1e-5", 1e-5), ("inf", 1e999)]
)
def test_param_directive(text, value):
    read = directive(f"param gamma = {text}")
    assert ("gamma", value) == (read.names[0].name, read.value)


def test_directive_words_are_free_as_left_sides_of_nothing_else():
    """`output` is a directive unless '=' or '[' follows, and then it is no tensor either."""
    with pytest.raises(CascadeError, match="the left side is not a tensor"):
        parse_line(Line("output = A[k]", "cascade", 1))


# ---- limits ----


def test_nesting_up_to_the_limit_is_read_and_printed():
    deep = "-" * (MAX_DEPTH - 8) + "m"
    assert deep == to_text(parse_expression(deep))


@pytest.mark.parametrize(
    "text",
    ["-" * 150 + "m", "+".join("m" * 900), "**".join("m" * 500), "(" * 10_000 + "m" + ")" * 10_000],
    ids=["signs", "sum", "powers", "parentheses"],
)
def test_deeper_nesting_is_an_error_not_a_crash(text):
    with pytest.raises(CascadeError, match="nested too deeply"):
        parse_expression(text)


@pytest.mark.parametrize("digits", [301, 5_000], ids=["beyond a float", "beyond Python's limit"])
def test_too_large_numbers(digits):
    with pytest.raises(CascadeError, match="this number is too large"):
        parse_expression("9" * digits)


def test_long_lines_are_shown_in_part():
    """The carets stay below the mistake, and the line fits a screen."""
    with pytest.raises(CascadeError) as caught:
        parse_line(Line("Z = " + "A[k] + " * 40 + "foo(B) + " + "A[k] + " * 40 + "1", "cascade", 1))
    _, shown, carets, _ = str(caught.value).splitlines()
    assert len(shown) < 140
    assert "foo" == shown[carets.index("^") : carets.rindex("^") + 1]


def test_tabs_keep_the_carets_in_place():
    with pytest.raises(CascadeError) as caught:
        parse_line(Line("Z\t=\tfoo(A)", "cascade", 1))
    _, shown, carets, _ = str(caught.value).splitlines()
    assert "foo" == shown[carets.index("^") : carets.rindex("^") + 1]


def test_every_operator_is_computed():
    """NumPy has a function for each operator and comparison of the language, and for no other."""
    assert list(VALUES) == list(OPERATORS)
    assert list(RELATIONS) == list(COMPARISONS)
