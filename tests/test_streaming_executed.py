"""Schedules executed word by word, with a buffer that counts: live words and traffic are exact."""

import itertools
import math

import numpy as np
import pytest

import einsum_cascade as ec

SHIPPED = {name: ec.bounds(ec.load(name)) for name in ("softmax-3pass", "softmax-1pass")}


class Buffer:
    """A memory of so many words that counts what crosses its boundary."""

    def __init__(self, words):
        self.words, self.held, self.moved, self.peak = words, {}, 0, 0
        self.outside = {}

    def put(self, key, value=0.0):
        self.held[key] = value
        self.peak = max(self.peak, len(self.held))
        assert len(self.held) <= self.words, "the buffer is full"

    def load(self, key):
        self.moved += 1
        self.put(key, self.outside[key])

    def store(self, key, value):
        self.moved += 1
        self.outside[key] = value

    def drop(self, *names):
        self.held = {key: v for key, v in self.held.items() if key[0] not in names}

    def __getitem__(self, key):
        return self.held[key]


def filled(words, sizes):
    """A buffer whose outside holds random K, Q and V, already scaled."""
    rng = np.random.default_rng(0)
    buffer = Buffer(words)
    m, p, e, f = (sizes[rank] for rank in "MPEF")
    buffer.outside |= {("K", i, j): rng.normal() for i in range(e) for j in range(m)}
    buffer.outside |= {("Q", i, j): rng.normal() for i in range(e) for j in range(p)}
    buffer.outside |= {("V", i, j): rng.normal() for i in range(f) for j in range(m)}
    return buffer


def attention(buffer, sizes):
    def table(name, first, second):
        return np.array([[buffer.outside[name, i, j] for j in range(second)] for i in range(first)])

    m, p, e, f = (sizes[rank] for rank in "MPEF")
    logits = table("K", e, m).T @ table("Q", e, p) / math.sqrt(e)
    weights = np.exp(logits - logits.max(axis=0))
    return table("V", f, m) @ (weights / weights.sum(axis=0)), table("AV", f, p)


def stream_three_passes(buffer, sizes, block, way):
    """Three sweeps over the keys for each block of rows, every word by name."""
    m, p, e, f = (sizes[rank] for rank in "MPEF")

    def logit(j, i):
        return sum(buffer["Q", x, i] * buffer["K", x, j] for x in range(e)) / math.sqrt(e)

    def words(name, size, j):
        if way != "hold":
            for x in range(size):
                buffer.load((name, x, j))

    if way == "hold":
        for name, size in (("K", e), ("V", f)):
            for x, j in itertools.product(range(size), range(m)):
                buffer.load((name, x, j))
    for start in range(0, p, block):
        rows = range(start, min(start + block, p))
        for i in rows:
            for x in range(e):
                buffer.load(("Q", x, i))
            buffer.put(("GM", i), -math.inf)
            buffer.put(("SD", i))
            for x in range(f):
                buffer.put(("AV", x, i))
        for sweep, j in itertools.product((1, 2, 3), range(m)):
            fresh = sweep == 1 or way == "re-read"
            if fresh:
                words("K", e, j)
            if sweep == 3:
                words("V", f, j)
            for i in rows:
                if fresh or way == "hold":
                    value = logit(j, i)
                elif way == "keep":
                    value = buffer["QK", j, i]
                else:
                    # One word at a time goes through a register.
                    buffer.moved += 1
                    value = buffer.outside["QK", j, i]
                if sweep == 1:
                    buffer.put(("GM", i), max(buffer["GM", i], value))
                    if way == "keep":
                        buffer.put(("QK", j, i), value)
                    if way == "spill":
                        buffer.store(("QK", j, i), value)
                    continue
                numerator = math.exp(value - buffer["GM", i])
                if sweep == 2:
                    buffer.put(("SD", i), buffer["SD", i] + numerator)
                    continue
                share = numerator / buffer["SD", i]
                for x in range(f):
                    buffer.put(("AV", x, i), buffer["AV", x, i] + share * buffer["V", x, j])
            if way != "hold":
                buffer.drop("K", "V")
        for i, x in itertools.product(rows, range(f)):
            buffer.store(("AV", x, i), buffer["AV", x, i])
        buffer.drop("Q", "GM", "SD", "AV", "QK")


def stream_one_pass(buffer, sizes, block, way):
    """One sweep of tiles; a row's running maximum, denominator and numerators are corrected."""
    m, p, e, f = (sizes[rank] for rank in "MPEF")
    tiles = [range(a, min(a + sizes["M0"], m)) for a in range(0, m, sizes["M0"])]

    def logit(j, i):
        return sum(buffer["Q", x, i] * buffer["K", x, j] for x in range(e)) / math.sqrt(e)

    def load(keys):
        for name, size in (("K", e), ("V", f)):
            for x, j in itertools.product(range(size), keys):
                buffer.load((name, x, j))

    if way == "hold":
        load(range(m))
    for start in range(0, p, block):
        rows = range(start, min(start + block, p))
        for i in rows:
            for x in range(e):
                buffer.load(("Q", x, i))
            buffer.put(("RM", i), -math.inf)
            buffer.put(("RD", i))
            for x in range(f):
                buffer.put(("RNV", x, i))
        for keys in tiles:
            if way != "hold":
                load(keys)
            for i in rows:
                high = max(buffer["RM", i], *(logit(j, i) for j in keys))
                old = math.exp(buffer["RM", i] - high)
                total = sum(math.exp(logit(j, i) - high) for j in keys)
                buffer.put(("RD", i), buffer["RD", i] * old + total)
                for x in range(f):
                    part = sum(math.exp(logit(j, i) - high) * buffer["V", x, j] for j in keys)
                    buffer.put(("RNV", x, i), buffer["RNV", x, i] * old + part)
                buffer.put(("RM", i), high)
            if way != "hold":
                buffer.drop("K", "V")
        for i, x in itertools.product(rows, range(f)):
            buffer.store(("AV", x, i), buffer["RNV", x, i] / buffer["RD", i])
        buffer.drop("Q", "RM", "RD", "RNV")


def check(name, sizes, words, stream):
    found = SHIPPED[name].at(**sizes, S=words)
    for one in found.alternatives:
        if one.traffic is None:
            assert one.least > words
            continue
        buffer = filled(words, sizes)
        stream(buffer, sizes, one.rows, one.name)
        assert one.traffic == buffer.moved, one.name
        # With the logits at hand, a key and a value are never on chip together.
        spare = min(sizes["E"], sizes["F"]) if one.name in ("keep", "spill") else 0
        assert one.live - spare == buffer.peak, one.name
        expected, result = attention(buffer, sizes)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        assert found.total <= buffer.moved


@pytest.mark.parametrize("words", [14, 15, 23, 31, 40, 64, 100, 200])
@pytest.mark.parametrize("keys", [1, 4, 7])
def test_three_passes_executed(words, keys):
    sizes = {"M": keys, "P": 5, "E": 3, "F": 2}
    check("softmax-3pass", sizes, words, stream_three_passes)


@pytest.mark.parametrize("words", [12, 22, 31, 40, 64, 100])
@pytest.mark.parametrize("tile", [1, 3])
def test_one_pass_executed(words, tile):
    sizes = {"M": 6, "P": 5, "E": 3, "F": 2, "M0": tile}
    check("softmax-1pass", sizes, words, stream_one_pass)
