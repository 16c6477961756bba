"""Generated text made short, without another meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from einsum_cascade.compiled_tidy import moved_bits, summed, without_unused


def test_what_nobody_reads():
    """Chains of it, whole blocks but for a line, and not what a later line reads or adds to."""
    text = """\
n = s[0]
some = n > 0
acc = np.empty(n)
rows = np.ones(n)
for i in range(n):
    v_m = i
    x = rows[i]
    t[i] = x
for j in range(n):
    lost = j
lo, hi = 0, n
c |= 1
u7 = k.square(u8)
u8 = n*n"""
    gone = ("some", "acc", "v_m", "u7", "u8")
    kept = [line for line in text.splitlines() if line.split()[0] not in gone]
    # A block is never left empty.
    assert without_unused(text.splitlines()) == kept
    assert "    lost = j" in kept


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("0", "0"),
        ("(0)*t_K.shape[1] + (1) - ((0)*t_K.shape[1] + 0)", "1"),
        ("((v_j)*n_G + (v_g + 1))*n_E + 0 - ((v_j*n_G + v_g)*n_E + 0)", "n_E"),
        ("(z_p + lo)*2 - z_p", "z_p + 2*lo"),
        ("j4[i]*n_M + int(x) - -(p // 2)", "j4[i]*n_M + int(x) + (p // 2)"),
        ("3 - v_m", "3 - v_m"),
        ("-v_m*2", "- 2*v_m"),
        ("a*b - b*a", "0"),
    ],
)
def test_sums(text, short):
    assert summed(text) == short


NAMES = ("a", "b", "c")
EXPRESSIONS = st.recursive(
    st.sampled_from((*NAMES, "0", "1", "2", "7")),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(
        lambda parts: f"({' '.join(parts)})"
    ),
    max_leaves=12,
)


def value(text, known):
    return eval(text, {}, known)  # noqa: S307


@given(EXPRESSIONS, st.lists(st.integers(-9, 9), min_size=3, max_size=3))
def test_sums_have_the_same_value(text, numbers):
    known = dict(zip(NAMES, numbers, strict=True))
    try:
        expected = value(text, known)
    except ZeroDivisionError:
        return
    assert value(summed(text), known) == expected


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5),
    st.integers(0, 1023),
)
def test_moved_bits(moves, word):
    expected = sum({1 << to for source, to in moves if word >> source & 1})
    assert value(" | ".join(["0", *moved_bits("w", moves)]), {"w": word}) == expected
