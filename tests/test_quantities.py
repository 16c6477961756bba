"""Quantities with units."""

import re

import pytest

from archsim.quantities import parse_quantity, show_bytes, show_seconds


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("16 MiB", "bytes", 16 * 2**20),
        ("16MiB", "bytes", 16 * 2**20),
        ("400 GiB/s", "bytes/s", 400 * 2**30),
        ("400 GB/s", "bytes/s", 400 * 10**9),
        ("940 MHz", "hertz", 940_000_000),
        ("1.2 GHz", "hertz", 1_200_000_000),
        ("0.5 KiB", "bytes", 512),
        ("4096 bit", "bits", 4096),
        ("2 B", "bits", 16),
        ("0 ns", "nanoseconds", 0),
        ("1e3 B", "bytes", 1000),
    ],
)
def test_values(text, dimension, expected):
    assert expected == parse_quantity(text, dimension)


@pytest.mark.parametrize(
    ("text", "dimension", "message"),
    [
        (16777216, "bytes", "a unit is due here"),
        ("16", "bytes", "not a number with a unit"),
        ("16 mib", "bytes", "did you mean 'MiB'?"),
        ("16 MiB/s", "bytes", "unknown unit 'MiB/s'"),
        ("16 Mbit", "bytes", "unknown unit 'Mbit'"),
        ("1.5 B", "bytes", "not a whole number"),
        ("-1 MiB", "bytes", "not a number with a unit"),
        ("fast", "hertz", "not a number with a unit"),
    ],
)
def test_errors(text, dimension, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_quantity(text, dimension)


def test_showing():
    assert show_bytes(16 * 2**20) == "16 MiB"
    assert show_bytes(3) == "3 B"
    assert show_seconds(0.2142) == "214.2 ms"
    assert show_seconds(3e-9) == "3 ns"
