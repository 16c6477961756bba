"""The study of attention in hardware numbers: what it measures, prints and draws."""

import pytest

from archsim.accuracy_study import FORMATS_SHOWN, UNITS_SHOWN, Accuracy, draw, measured, table
from einsum_cascade.exp_units import UNITS, exp2

ROWS = [
    Accuracy("softmax-3pass", kind, unit, length, 2.0**-9 if kind == "bf16" else 2.0**-20, 0.5)
    for kind in FORMATS_SHOWN
    for unit in UNITS_SHOWN
    for length in (64, 256)
]


def test_table_has_a_line_for_each_format_and_unit():
    lines = table(ROWS).splitlines()
    assert len(lines) == 3 + 6
    assert lines[2].split()[-2:] == ["64", "256"]
    assert lines[3].split() == ["softmax-3pass", "fp32", "chord8", "9.5e-07", "9.5e-07"]


def test_figure(tmp_path):
    written = draw(ROWS, tmp_path / "new")
    assert ["accuracy.png", "accuracy.svg"] == [path.name for path in written]
    assert all(path.stat().st_size > 1000 for path in written)


def test_a_unit_that_forgets():
    """What the documentation says of 64 tiles: (2^0 as poly3 gives it)^64 is half a percent off."""
    one = float(exp2(0.0, UNITS["poly3"], "fp32"))
    assert 1 - one**64 == pytest.approx(0.0046, abs=1e-4)
    assert all(float(exp2(0.0, UNITS[unit], "fp32")) == 1 for unit in ("chord8", "poly6"))


@pytest.mark.slow
def test_errors_are_those_of_the_formats():
    said = []
    rows = measured(["softmax-3pass"], [64], said.append)
    assert len(said) == len(rows) == 6
    for row in rows:
        limit = 2.0**-7 if row.format == "bf16" else 2.0**-10
        assert 0 < row.rms_error < limit
    by_unit = {row.unit: row.rms_error for row in rows if row.format == "fp32"}
    assert by_unit["poly6"] < by_unit["poly3"] < by_unit["chord8"]
