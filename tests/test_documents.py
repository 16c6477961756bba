"""YAML with places: where keys and values stand, and where the lines of a block text do."""

import pytest
from pydantic import BaseModel, ConfigDict

from einsum_cascade.catalog import cascade_from
from einsum_cascade.documents import block_place, read_document, read_text, validate
from einsum_cascade.errors import CascadeError

TEXT = """\
# a comment first
name: mine
"quoted key": 'a value'
sizes: {M: 4, "N": [1, 22]}
nested:
  list:
    - one
    - two: deep
"""


def document(text=TEXT):
    return read_text(text, "mine.yaml", CascadeError)


@pytest.mark.parametrize(
    ("path", "line", "column", "width"),
    [
        (("name",), 2, 7, 4),
        (("quoted key",), 3, 15, 9),
        (("sizes",), 4, 8, 20),
        (("sizes", "M"), 4, 12, 1),
        (("sizes", "N"), 4, 20, 7),
        (("sizes", "N", 1), 4, 24, 2),
        (("nested", "list", 0), 7, 7, 3),
        (("nested", "list", 1, "two"), 8, 12, 4),
    ],
)
def test_place_of_a_value(path, line, column, width):
    found = document().problem(path, "wrong")
    assert (line, column, width) == (found.source.line, found.source.column, found.width)
    assert f"mine.yaml:{line}:{column}" == str(document().place(*path))


@pytest.mark.parametrize(
    ("path", "line", "column", "width"),
    [
        (("name",), 2, 1, 4),
        (("quoted key",), 3, 1, 12),
        (("sizes", "N"), 4, 15, 3),
        (("nested", "list", 1, "two"), 8, 7, 3),
    ],
)
def test_place_of_a_key(path, line, column, width):
    found = document().problem(path, "wrong", at_key=True)
    assert (line, column, width) == (found.source.line, found.source.column, found.width)


def test_what_is_not_written_is_placed_at_its_parent():
    assert "mine.yaml:4:8" == str(document().place("sizes", "P"))
    assert "mine.yaml:2:1" == str(document().place("missing"))


def test_a_problem_shows_the_line_and_the_value():
    assert str(document().problem(("sizes", "N", 1), "too large", "at most 9")) == (
        "mine.yaml:4:24: too large\n"
        '    sizes: {M: 4, "N": [1, 22]}\n'
        "                           ^^\n"
        "  at most 9"
    )


def test_values_are_plain_data():
    expected = {
        "name": "mine",
        "quoted key": "a value",
        "sizes": {"M": 4, "N": [1, 22]},
        "nested": {"list": ["one", {"two": "deep"}]},
    }
    assert expected == document().data


def test_an_alias_stands_where_its_anchor_does():
    found = document("base: &b {M: 4}\nsizes: *b\nname: x\n")
    assert {"M": 4} == found.data["sizes"]
    assert "mine.yaml:1:14" == str(found.place("sizes", "M"))


def test_duplicate_keys_at_any_depth():
    with pytest.raises(CascadeError) as caught:
        document("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert ["mine.yaml:2:11", "mine.yaml:3:1"] == [str(p.source) for p in caught.value.problems]
    assert "it stands in line 1 already" == caught.value.problems[1].hint


# ---- block texts ----

# How the text of a cascade may be written; line and column of the mistake `foo` in it.
BLOCKS = {
    "block": ("name: x\ncascade: |\n  Y = A[k]\n  Z = foo(Y)\n", 4, 7),
    "deeply indented": ("name: x\ncascade: |\n      Y = A[k]\n      Z = foo(Y)\n", 4, 11),
    "stripped": ("name: x\ncascade: |-\n  Z = foo(Y)\n", 3, 7),
    "empty lines first": ("name: x\ncascade: |\n\n\n  Z = foo(Y)\n", 5, 7),
    "a comment behind the bar": ("name: x\ncascade: | # mine\n  Z = foo(Y)\n", 3, 7),
    "an anchor before the bar": ("name: x\ncascade: &c |\n  Z = foo(Y)\n", 3, 7),
    "an indented line": ("name: x\ncascade: |\n  Y = A[k]\n    Z = foo(Y)\n", 4, 9),
    "given indentation": ("name: x\ncascade: |1\n   Z = foo(Y)\n", 3, 8),
    "the value on the next line": ("name: x\ncascade:\n  |\n  Z = foo(Y)\n", 4, 7),
    "plain": ("name: x\ncascade: Z = foo(Y)\n", 2, 14),
    "plain on the next line": ("name: x\ncascade:\n    Z = foo(Y)\n", 3, 9),
    "single quotes": ("name: x\ncascade: 'Z = foo(Y)'\n", 2, 15),
    "double quotes": ('name: x\ncascade: "Z = foo(Y)"\n', 2, 15),
    "flow": ("{name: x, cascade: 'Z = foo(Y)'}\n", 1, 25),
}


@pytest.mark.parametrize(("text", "line", "column"), BLOCKS.values(), ids=BLOCKS.keys())
def test_place_inside_a_text(text, line, column):
    with pytest.raises(CascadeError, match="unknown function 'foo'") as caught:
        cascade_from(document(text))
    problem = caught.value.problems[0]
    assert (line, column) == (problem.source.line, problem.source.column)
    # The line shown is the one in the file, as far as it belongs to the cascade.
    shown = text.splitlines()[line - 1]
    assert "foo" == shown[column - 1 : column + 2]
    assert "foo" == problem.text[column - 1 : column + 2]


def test_block_place():
    assert (3, 2) == block_place(document("name: x\ncascade: |\n  Z = A\n"), "cascade")
    assert (2, 9) == block_place(document("name: x\ncascade: Z = A\n"), "cascade")


# ---- reading and validating ----


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: int
    unit: str | None = None


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    parts: dict[str, Inner] = {}
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x", ["1:1 unknown key 'nam'", "1:1 the key 'name' is missing"]),
        ("name: x\ninner: {siz: 1}", ["2:9 unknown key 'siz'", "2:8 the key 'size' is missing"]),
        ("name: x\nparts: {a: {size: x}}", ["2:19 parts.a.size: "]),
        ("name: 3", ["1:7 name: "]),
    ],
)
def test_what_pydantic_finds_gets_a_place(text, expected):
    with pytest.raises(CascadeError) as caught:
        validate(document(text), Outer, CascadeError)
    found = sorted(f"{p.source.line}:{p.source.column} {p.message}" for p in caught.value.problems)
    assert len(expected) == len(found)
    for start, message in zip(sorted(expected), found, strict=True):
        assert message.startswith(start)


def test_unknown_keys_are_told_what_is_legal_there():
    text = "name: x\nparts: {a: {size: 1, units: m}}"
    with pytest.raises(CascadeError, match=r"known keys: size, unit; did you mean 'unit'\?"):
        validate(document(text), Outer, CascadeError)


def test_a_legal_document_becomes_the_model():
    found = validate(document("name: x\nparts: {a: {size: 1}}"), Outer, CascadeError)
    assert Outer(name="x", parts={"a": Inner(size=1)}) == found


def test_reading_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    found = read_document(path, CascadeError)
    assert document().data == found.data
    assert f"{path}:2:7" == str(found.place("name"))
    path.write_bytes(b"\xef\xbb\xbfname: mine\n")
    assert "mine" == read_document(path, CascadeError).data["name"]
    with pytest.raises(CascadeError, match="cannot read the file"):
        read_document(tmp_path, CascadeError)
