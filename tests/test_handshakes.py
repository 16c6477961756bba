"""Handshakes and skew, proven for all time by induction; and wrong hardware, which can't be."""

from dataclasses import replace
from pathlib import Path

import pytest

import einsum_cascade as ec
from archsim.arch import load_architecture, with_shape
from archsim.hdl.handshakes import prove
from archsim.hdl.package import rtl_folder
from archsim.hdl.top import Design, generate
from archsim.lowering import lower


@pytest.mark.parametrize(
    ("block", "parameters"),
    [
        ("skid_buffer", {"W": 8}),
        ("sync_fifo", {"W": 8, "DEPTH": 1}),
        ("sync_fifo", {"W": 8, "DEPTH": 2}),
        ("sync_fifo", {"W": 8, "DEPTH": 5}),
    ],
)
def test_every_word_leaves_once_and_in_order(block, parameters):
    proof = prove(block, [rtl_folder() / f"{block}.sv"], parameters=parameters, words=True)
    assert proof.holds


@pytest.mark.parametrize(
    ("block", "right", "wrong"),
    [
        # It says that it is ready when both registers are full.
        ("skid_buffer", "in_ready  = ~spare_full;", "in_ready  = 1'b1;"),
        # It forgets the word behind the one that is taken.
        ("skid_buffer", "full       <= spare_full | put;", "full       <= put;"),
        ("sync_fifo", "if (put) words[next] <= in_data;", "if (put) words[first] <= in_data;"),
    ],
)
def test_a_wrong_queue_cannot_be_proven(tmp_path, block, right, wrong):
    text = (rtl_folder() / f"{block}.sv").read_text(encoding="utf-8")
    assert text.count(right) == 1
    path = tmp_path / f"{block}.sv"
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    proof = prove(block, [path], parameters={"W": 8}, words=True, search=4)
    assert not proof.holds
    # It is not only too hard to prove: something goes wrong soon after a reset.
    assert proof.violation is not None


def machine(mapping: str) -> Design:
    """2 x 2 PEs with short queues: what words they hold does not matter here."""
    small = with_shape(load_architecture("fusemax-4x4"), 2, 2)
    arrays = tuple(replace(a, landing_entries=4, return_entries=2) for a in small.arrays)
    sizes = ec.workload(M=4, P=2, E=2, F=2)
    return generate(lower("softmax-1pass", sizes, replace(small, arrays=arrays), mapping))


def files(design: Design, folder: Path, leaf: str = "", right: str = "", wrong: str = ""):
    """Every file of a design, one of the blocks changed."""
    found = []
    for name in design.leaves:
        text = (rtl_folder() / f"{name}.sv").read_text(encoding="utf-8")
        if name == leaf:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        found.append(folder / f"{name}.sv")
        found[-1].write_text(text, encoding="utf-8")
    for name, text in design.files.items():
        found.append(folder / name)
        found[-1].write_text(text, encoding="utf-8")
    return found


@pytest.mark.parametrize(
    "mapping", ["fusemax-ahead", pytest.param("fusemax-serial", marks=pytest.mark.slow)]
)
def test_no_column_but_the_first_ever_has_to_wait(tmp_path, mapping):
    design = machine(mapping)
    assert prove(design.name, files(design, tmp_path), depth=2).holds


@pytest.mark.parametrize(
    ("leaf", "right", "wrong"),
    [
        # Instructions fall one register slower than the valid bits beside them.
        ("grid", ".N(HOP)) fall", ".N(HOP + 1)) fall"),
        # What is meant for one queue enters another.
        pytest.param("column_head", ".put(put[q])", ".put(put[0])", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_array_cannot_be_proven(tmp_path, leaf, right, wrong):
    design = machine("fusemax-serial")
    found = files(design, tmp_path, leaf, right, wrong)
    proof = prove(design.name, found, depth=2, search=5)
    assert not proof.holds
    assert proof.violation is not None
