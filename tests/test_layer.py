"""A whole encoder layer on one rung: attention, six linear layers and their sum."""

import json

import pytest

import archsim
import einsum_cascade as ec
from archsim.encoder import linear_layers

# Remainders everywhere: 2 x 5 tokens, 6 inputs, 7 hidden, heads of 3 and 5.
SIZES = {"B": 2, "H": 2, "E": 3, "F": 5, "M": 5, "P": 5, "D": 6, "S": 7}
LAYERS = ["Q", "K", "V", "Z", "FFN1", "FFN2"]


@pytest.mark.parametrize("level", ["bound", "tile", "pe"])
def test_parts_add_up(level):
    found = archsim.run_layer(
        "softmax-1pass", ec.workload(**SIZES), "fusemax-4x4", "fusemax-serial", level=level
    )
    assert [name for name, _ in found.linear] == LAYERS
    alone = archsim.run(
        "softmax-1pass", ec.workload(**SIZES), "fusemax-4x4", "fusemax-serial", level=level
    )
    assert found.attention == alone
    total = found.total()
    assert found.cycles == total["cycles"] == sum(r.cycles for _, r in found.parts)
    assert total["lower_bound_cycles"] <= total["cycles"]
    assert total["energy_pj"] == pytest.approx(sum(r.energy_pj["total"] for _, r in found.parts))
    assert str(found).splitlines()[-1].split()[1] == f"{found.cycles:,}"


def test_a_linear_layer_by_hand():
    """Q: 10 tokens x 6 inputs x 6 outputs on 4 x 4: 3 x 2 tiles of 6 words and a drain of 4.

    60 array slots; the last word crosses 4 rows, and 3 columns.
    """
    found = archsim.run_layer(
        "softmax-1pass", ec.workload(**SIZES), "fusemax-4x4", "fusemax-serial", level="tile"
    )
    assert dict(found.linear)["Q"].cycles == 60 + 4 + 3
    sizes = {name: dict(layer.sizes) for name, layer in linear_layers(ec.workload(**SIZES))}
    assert sizes["Z"] == {"N": 10, "D": 10, "S": 6}
    assert sizes["FFN2"] == {"N": 10, "D": 7, "S": 6}


def test_command(archsim_command):
    arguments = ["layer", "softmax-1pass", "--arch", "fusemax", "--mapping", "fusemax"]
    arguments += ["--model", "bert", "--set", "M=1024,P=1024"]
    done = archsim_command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert list(data) == ["attention", "linear", "total"]
    assert list(data["linear"]) == LAYERS
    parts = [data["attention"], *data["linear"].values()]
    assert data["total"]["cycles"] == sum(part["cycles"] for part in parts)
    done = archsim_command(*arguments)
    assert f"{data['total']['cycles']:,}" in done.stdout.splitlines()[-1]
    done = archsim_command(*arguments[:-2], "--set", "M=8,P=8,X=3")
    assert done.returncode == 2
    assert "softmax-1pass has no rank X" in done.stderr


def test_widths_are_needed(archsim_command):
    done = archsim_command(
        *["layer", "softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax-serial"],
        *["--set", "M=8,P=4,E=4,F=4"],
    )
    assert done.returncode == 2
    assert "the size of rank D is not set" in done.stderr


def test_shared_keys_need_smaller_projections():
    """Llama 3 8B: 32 heads of queries, 8 of keys and values, 128 wide."""
    sizes = {name: dict(w.sizes) for name, w in linear_layers(ec.workload("llama-3-8b", M=64, P=3))}
    assert sizes["Q"] == {"N": 3, "D": 4096, "S": 4096}
    assert sizes["K"] == sizes["V"] == {"N": 3, "D": 4096, "S": 1024}
    assert sizes["Z"] == {"N": 3, "D": 4096, "S": 4096}
