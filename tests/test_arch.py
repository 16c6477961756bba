"""Architecture files: what they become, that every value has a source, and their errors."""

from pathlib import Path

import pytest

import archsim
from archsim import arch, mapping
from archsim.arch import architecture_from, load_architecture
from archsim.mapping import load_mapping
from einsum_cascade.documents import read_text


def test_fusemax_in_base_units():
    found = load_architecture("fusemax")
    assert found.clock_hz == 940_000_000
    assert found.outer.bandwidth_bytes_per_s == 400 * 2**30
    assert found.buffer is not None
    assert (found.buffer.capacity_bytes, found.buffer.width_bits) == (16 * 2**20, 4096)
    array, lanes = found.arrays
    assert (array.pes, lanes.pes) == (65536, 256)
    assert array.cost("div") is None
    assert str(found).startswith("fusemax: 940 MHz, 16-bit words")


def test_exp_is_a_row_of_the_operator_table():
    """Six multiply-accumulates on FuseMax, one slot of a pipelined unit on FLAT."""
    macs = load_architecture("fusemax").array("array_2d").cost("exp")
    unit = load_architecture("flat").array("array_1d").cost("exp")
    assert (macs.unit, macs.slots, dict(macs.actions)) == ("mac", 6, {"mac": 6})
    assert (unit.unit, unit.slots, dict(unit.actions)) == ("exp", 1, {"exp": 1})


def _entries(node, path=()):
    """Every value of an architecture file: mappings with a value, and operator rows."""
    if isinstance(node, dict):
        if "value" in node or "actions" in node:
            yield path, node
        for key, child in node.items():
            yield from _entries(child, (*path, key))


@pytest.mark.parametrize("name", arch.names())
def test_every_shipped_value_has_source_and_status(name):
    data = load_architecture(name).document.data
    entries = list(_entries(data))
    assert len(entries) > 25
    for path, entry in entries:
        assert entry.get("source"), path
        assert entry.get("status") in ("published", "derived", "fitted", "assumed"), path
    # No bare numbers beside them.
    for section in (*data["arrays"].values(), *data["memories"].values()):
        assert not any(isinstance(value, int | float) for value in section.values())


@pytest.mark.parametrize("name", mapping.names())
def test_mappings_hold_no_hardware_numbers(name):
    data = load_mapping(name).document.data
    assert all(isinstance(size, str) for size in data.get("tiles", {}).values())
    for key in ("choices", "published", "buffer_limit"):
        assert key not in data or data[key]["source"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("rows: {value: 256", "rows: {vale: 256", "mine.yaml:16:12: unknown key 'vale'"),
        ("rows: {value: 256", "rows: {value: 2.5", "mine.yaml:16:19: arrays.array_2d.rows.value"),
        ("rows: {value: 256", "rows: {value: -4", "a positive whole number is due here"),
        ("clock: {value: 940 MHz", "clock: {value: 940", "a unit is due here (Hz, kHz, MHz, GHz)"),
        ("400 GiB/s", "400 GiB", "unknown unit 'GiB'"),
        ("16 MiB", "16 Mib", "did you mean 'MiB'?"),
        ("parent: dram", "parent: drum", "did you mean 'dram'?"),
        ("    parent: dram\n", "", "exactly one memory has no parent"),
        ("    lanes: {", "    lane: {", "did you mean 'lanes'?"),
        (
            "    cols: {value: 256, source: *specs, status: published}\n",
            "",
            "rows and cols, or lanes",
        ),
        ("slots: 6", "slots: 0", "greater than or equal to 1"),
        ("status: published}\nword", "status: guessed}\nword", "clock.status"),
        ("memories:", "memory:", "the key 'memories' is missing"),
        ("actions: {mac: 6}", "actions: {mac: six}", "actions.mac"),
        ("name: fusemax", "name: fuse max", "mine.yaml:1:7"),
        ("*specs", "*spec", "undefined alias"),
        ("arrays:", "arrays: &a\n  x: [", "not YAML"),
    ],
)
def test_errors_point_at_the_value(old, new, expected):
    text = "\n".join(load_architecture("fusemax").document.lines)
    assert old in text
    with pytest.raises(archsim.ArchError) as error:
        architecture_from(read_text(text.replace(old, new), "mine.yaml", archsim.ArchError))
    assert expected in str(error.value)
    assert "mine.yaml:" in str(error.value)


def test_a_bare_value_is_allowed_in_own_files(tmp_path: Path):
    text = "\n".join(load_architecture("fusemax").document.lines)
    own = tmp_path / "own.yaml"
    own.write_text(
        text.replace(
            '{value: 400 GiB/s, source: *specs, status: published, note: "HBM2; pure bandwidth"}',
            "1 TiB/s",
        )
    )
    assert load_architecture(str(own)).outer.bandwidth_bytes_per_s == 2**40
