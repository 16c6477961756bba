"""Broken files, and what a user is told about each: place, line with carets, what would be right.

`golden/broken/NAME.yaml` is a cascade (a model if its name says so), `NAME.txt` the whole message.
To accept new messages after reading them, run this in that folder:

    import pathlib, sys; sys.path.insert(0, "../.."); import test_broken_inputs as broken
    for path in pathlib.Path().glob("*.yaml"):
        text = str(broken.complaint(path.name)) + "\\n"
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
"""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from einsum_cascade.catalog import load, names, workload
from einsum_cascade.errors import CascadeError
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

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
