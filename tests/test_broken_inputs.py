r"""Broken files, and what a user is told about each: place, line with carets, what would be right.

`golden/broken/NAME.yaml` is a cascade (a model if its name says so), `NAME.txt` the whole message.
To accept new messages after reading them, run this in that folder:

    import pathlib, sys; sys.path.insert(0, "../.."); import test_broken_inputs as broken
    for path in pathlib.Path().glob("*.yaml"):
        text = str(broken.complaint(path.name)) + "\n"
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from einsum_cascade.catalog import cascade_from, load, names, workload, workload_from_document
from einsum_cascade.documents import read_text
from einsum_cascade.errors import CascadeError
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

SHIPPED = Path(__file__).parents[1] / "workloads"
FOLDER = Path(__file__).parent / "golden" / "broken"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def complaint(file):
    """The error that a broken file gives."""
    with pytest.raises(CascadeError) as caught:
        (workload if file.startswith("model-") else load)(file)
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_broken_file(name, monkeypatch):
    monkeypatch.chdir(FOLDER)
    error = complaint(f"{name}.yaml")
    assert (FOLDER / f"{name}.txt").read_text(encoding="utf-8") == f"{error}\n"
    lines = Path(f"{name}.yaml").read_bytes().decode(errors="replace").splitlines()
    for problem in error.problems:
        assert re.fullmatch(rf"{name}\.yaml:\d+(:\d+)?", str(problem.source))
        assert problem.source.line <= max(1, len(lines))
        assert problem.hint, "every message says what would be right"


def test_every_message_belongs_to_a_file():
    assert NAMES == sorted(path.stem for path in FOLDER.glob("*.txt"))
    assert len(NAMES) >= 40


# ---- what only looks broken ----


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    text = "name: mine\ncascade: |\n  Y = A[k]*B[k]  # summed\n  Z = Y*2\n"
    expected = parse("Y = A[k]*B[k]\nZ = Y*2", "mine")
    path = tmp_path / "mine.yaml"
    for written in (text, text.replace("\n", "\r\n"), "\ufeff" + text, text.rstrip("\n")):
        path.write_bytes(written.encode())
        assert expected == load(str(path))


def test_places_are_the_same_with_windows_line_ends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: mine\r\ncascade: |\r\n  Y = A[k]*B[k]\r\n  Z = foo(Y)\r\n")
    assert f"{path}:4:7: unknown function 'foo'" == str(complaint(str(path))).splitlines()[0]


def test_aliases_of_aliases_are_quick(tmp_path):
    """Nine levels of nine aliases each stand for 387 million values."""
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    path = tmp_path / "mine.yaml"
    path.write_text("l0: &l0 one\n" + "\n".join(levels) + "\nname: mine\n", encoding="utf-8")
    assert "unknown key 'l0'" in str(complaint(str(path)))


# ---- nothing but a CascadeError comes out ----

SEEDS = [str(load(name)) for name in names("cascades")] + [
    "var p in M\ninput K[m,e], C\nZ[p,m] = K[m+p,e]*C where m <= p and not (p == 1 or m > 2)",
    "I[p,k] = argtopk[m](S[p,m])\nZ[p] = sum[k](V[I[p,k]] - phi(gamma))\nparam gamma = 0.5",
    "rank M = T + N + X\nL[t] = A[t%3]\nL[T+n] = where(n < T and n > 0, B[n-1], 0)\n"
    "L[T+N+x] = clamp(C[x//2], 0, M) where x != 1\nZ = sum[m](L[m])",
]
PIECES = [
    "[",
    "]",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "=",
    "<=",
    "%",
    ".",
    ";",
    ":",
    "\\",
]
PIECES += ["m", "m1", "p", "M", "QK", "gamma", "inf", "0", "1", "1.5", "1e999", "9" * 30, "'", '"']
PIECES += ["sum[m]", "max", "topk[m]", "where", "and", "not", "in", "rank", "var", "input", "if"]
PIECES += [
    "\n",
    "\t",
    " ",
    "\0",
    "\x0c",
    "\u2028",
    "#",
    "α",
    "\uff21",
    "é",
    "\ud800",
    "@",
    "{",
    "$",
]


@st.composite
def mutated(draw):
    """A legal cascade with up to four pieces deleted, doubled, moved or put in."""
    tokens = re.findall(r"\w+|\s|[^\w\s]", draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(tokens) - 1))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.sampled_from(tokens), st.just("")))
        tokens[at : at + draw(st.integers(0, 2))] = [piece]
    return "".join(tokens)


@settings(max_examples=600)
@given(st.one_of(mutated(), st.text(max_size=40)))
@example("T[inf] = A[k]")
@example("Z = " + "-" * 600 + "A")
@example("Z = A\0[k]")
def test_parse_gives_a_cascade_or_says_what_is_wrong(text):
    problems = ()
    try:
        cascade = parse(text)
    except CascadeError as error:
        problems = error.problems
    else:
        assert cascade == parse(str(cascade))
    assert all(problem.message and problem.hint for problem in problems)


FILES = [str(p) for kind in ("cascades", "models") for p in sorted((SHIPPED / kind).glob("*.yaml"))]
YAML_PIECES = [
    "\t",
    "\n",
    " ",
    "  ",
    ":",
    ": ",
    "- ",
    "|",
    ">",
    "&a ",
    "*a",
    "{",
    "}",
    "[",
    "]",
    '"',
]
YAML_PIECES += [
    "'",
    "#",
    "!!int ",
    "<<: ",
    "---\n",
    "? ",
    "null",
    "1e999",
    "0x",
    "2024-02-30",
    "\x00",
]


@settings(max_examples=300)
@given(st.sampled_from(FILES), st.data())
def test_a_file_gives_what_it_holds_or_says_what_is_wrong(path, data):
    """A shipped file with up to three pieces put in, or put in place of a few characters."""
    text = Path(path).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        end = at + data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(st.sampled_from(YAML_PIECES)) + text[end:]
    read = cascade_from if "cascades" in path else partial(workload_from_document, sizes={})
    problems = ()
    try:
        read(read_text(text, "mine.yaml", CascadeError))
    except CascadeError as error:
        problems = error.problems
    assert all(problem.message and problem.hint for problem in problems)


# ---- arrays that don't fit ----

Q, K, V = np.ones((3, 5)), np.ones((3, 7)), np.ones((2, 7))
MISTAKES = {
    "missing": ({"Q": Q, "K": K}, "softmax-1pass needs V"),
    "misspelt": ({"Q": Q, "K": K, "v": V}, "has no input 'v'; .* did you mean 'V'?"),
    "superfluous": ({"Q": Q, "K": K, "V": V, "MASK": K}, "has no input 'MASK'"),
    "sizes disagree": ({"Q": Q[:2], "K": K, "V": V}, "rank E is 2 in Q and 3 in K"),
    "several names": ({"Q": Q, "X": K}, "(?s)has no input 'X'.*softmax-1pass needs K, V"),
    "several sizes": (
        {"Q": Q[:2], "K": K, "V": V[:, :5]},
        "(?s)rank E is 2 in Q and 3 in K.*rank M is 7 in K and 5 in V",
    ),
    "batches disagree": ({"Q": [Q] * 3, "K": [K] * 2, "V": V}, "batch axis 0 is 2 in K and 3"),
    "too few axes": ({"Q": Q[0], "K": K, "V": V}, r"Q has ranks E, P, but .* shape \(5,\)"),
    "text": ({"Q": Q.astype(str), "K": K, "V": V}, "Q has dtype <U32; real numbers"),
    "complex": ({"Q": Q + 0j, "K": K, "V": V}, "Q has dtype complex128"),
    "none": ({"Q": None, "K": K, "V": V}, "Q has dtype object"),
    "ragged": ({"Q": [[1], [2, 3]], "K": K, "V": V}, "Q is no array: its rows"),
}
SIZE_MISTAKES = {
    "unknown rank": ({"N0": 2}, "has no rank 'N0'; .* did you mean 'M0'?"),
    "contradiction": ({"M": 8}, "rank M is 7 in K, not 8"),
    "too few tiles": ({"M0": 2, "M1": 3}, "M1=3 x M0=2 do not cover M=7"),
    "zero": ({"M0": 0}, "size of rank M0 is a positive integer, not 0"),
    "negative": ({"M0": -1}, "size of rank M0 is a positive integer, not -1"),
    "fraction": ({"M0": 2.5}, "size of rank M0 is a positive integer, not 2.5"),
    "word": ({"M0": "4"}, "size of rank M0 is a positive integer, not '4'"),
}


@pytest.mark.parametrize(("arrays", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_in_arrays(arrays, message):
    with pytest.raises(CascadeError, match=message):
        evaluate(load("softmax-1pass"), **arrays)


@pytest.mark.parametrize(("sizes", "message"), SIZE_MISTAKES.values(), ids=SIZE_MISTAKES.keys())
def test_mistakes_in_sizes(sizes, message):
    with pytest.raises(CascadeError, match=message):
        evaluate(load("softmax-1pass"), sizes=sizes, Q=Q, K=K, V=V)


def test_split_arrays_must_agree_with_whole_ones():
    """Three tiles of two hold six keys; V has seven."""
    with pytest.raises(CascadeError, match="rank M is 7 in V, but M1=3 x M0=2 in K"):
        evaluate(load("softmax-1pass"), Q=Q, K=np.ones((3, 3, 2)), V=V)


def test_mistakes_in_parameters_and_open_sizes():
    cascade = parse("Z[p] = A[p]*gamma")
    assert [2.0, 4.0] == evaluate(cascade, A=[1, 2], gamma=2)["Z"].tolist()
    for value, message in [("x", "dtype"), ([1, 2], "gamma is one number")]:
        with pytest.raises(CascadeError, match=message):
            evaluate(cascade, A=[1, 2], gamma=value)
    with pytest.raises(CascadeError, match="needs gamma"):
        evaluate(cascade, A=[1, 2])
    steps = parse("X[0] = Y\ninput Y\nX[t+1] = X[t]/2\nO = X[2]")
    with pytest.raises(CascadeError, match=r"nothing says how large T is; give sizes=\{'T'"):
        evaluate(steps, Y=1)
    with pytest.raises(CascadeError, match=r"coordinate 5 of S\[P\] is beyond its 4"):
        evaluate(parse("S[n] = A[n]\nS[P] = 0\nZ = S[0]*B[p]"), A=[1, 2, 3], B=[1] * 5)
