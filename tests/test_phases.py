"""Mappings with several phases: two and three passes, through memory, at both levels."""

from dataclasses import replace

import pytest
from agreement import agree

import archsim
import einsum_cascade as ec
from archsim.chain import Chain
from archsim.lowering import lower_whole
from archsim.mapping import mappings_folder as mapping_folder
from archsim.simulation import simulate

# The worked sizes of docs/schedule.md; nothing but ones; remainders in both ranks, two heads.
TINY = {"M": 8, "P": 4, "E": 4, "F": 4}
SIZES = [
    {"M": 1, "P": 1, "E": 1, "F": 1},
    {"M": 7, "P": 5, "E": 3, "F": 2, "H": 2},
    {"M": 13, "P": 9, "E": 5, "F": 3},
]
CASCADES = {
    "spilled-3pass": "softmax-3pass",
    "spilled-3pass-deferred": "softmax-3pass-deferred",
    "spilled-2pass": "softmax-2pass",
    "spilled-naive": "softmax-naive",
    "streamed-naive": "softmax-naive-deferred",
    "linear-attention": "linear-attention",
    "linear-attention-stationary": "linear-attention",
    "relu-attention": "relu-attention",
    "sigmoid-attention": "sigmoid-attention",
}


def lowered(mapping: str, **sizes: int):
    return archsim.lower(CASCADES[mapping], ec.workload(**sizes), "fusemax-4x4", mapping)


@pytest.mark.parametrize("mapping", CASCADES)
@pytest.mark.parametrize("sizes", SIZES, ids=["ones", "heads", "primes"])
def test_levels_agree(mapping, sizes):
    agree(lowered(mapping, **sizes))


@pytest.mark.parametrize(
    ("mapping", "cycles"),
    [
        # Two tiles of 4 x 4. QK 4, GM 1, QK.drain 4: 18 array slots; the last word of the drain,
        # slot 18, is in lane 0 four rows later, slot 22, and in lane 3 in cycle 25.
        # QK.load 4, SN 7, SD 1, SN.drain 4: 32 slots, + 4 + 3.
        # SD.load 1 and 4 words a tile: 9 slots, + 3. A.load 4 and AV 4: 16 slots, + 4 + 3.
        ("spilled-3pass", [25, 39, 12, 23]),
        # QK.load 4, SN 7, SD 1, SNV 4: 32 slots; the last word lands in 36, is added in 36, and
        # AV takes 4 more slots, + 3.
        ("spilled-3pass-deferred", [25, 43]),
        # QK 4, SN 6, SD 1, SNV 4: 30 slots; the last lands in 34, AV takes 4 more, + 3.
        ("streamed-naive", [41]),
        # K.load 4, LK.load 4, PK 9 (max, min, exp, add), KS 1, KV 4: 22 slots a tile, two tiles,
        # + 4 + 3. Q.load 4, LQ.load 4, PQ 9, D 1, NV 4: 22; NV lands from 23 on, one word a slot,
        # and is taken in the next; AV follows behind the last: 26 + 4, + 3.
        ("linear-attention", [51, 33]),
        # KV adds a key a slot: 8, then drains 4: 12, + 4 + 3. PK is drained, too: 4 more a tile,
        # of which KV's 4 are saved.
        ("linear-attention-stationary", [51, 19, 33]),
        # QK 4, W 1, AV 4: 18 slots, + 4 + 3.
        ("relu-attention", [25]),
        # QK 4 and drain 4: 16, + 4 + 3. W 9 slots (0 - x, exp, add, div) for 8 words: 72, + 3.
        ("sigmoid-attention", [23, 75, 23]),
    ],
)
def test_cycles_by_hand(mapping, cycles):
    """Without waiting for memory, as the comments count."""
    found = lowered(mapping, **TINY)
    programs = found.programs if isinstance(found, Chain) else (found,)
    assert cycles == [simulate(program.compute_only()).cycles for program in programs]


def test_phases_add_up():
    found = lowered("spilled-3pass", **TINY)
    assert isinstance(found, Chain)
    timeline = simulate(found)
    report = archsim.report(timeline)
    assert timeline.cycles == sum(phase.cycles for phase in timeline.phases) == report.cycles
    bound = archsim.bound("softmax-3pass", ec.workload(**TINY), "fusemax-4x4", "spilled-3pass")
    assert bound.traffic_bytes == report.traffic_bytes
    # Each of logits, exponentials and weights, 8 x 4 words of 2 bytes, out and back.
    for name in ("QK", "SN", "A"):
        assert report.traffic_bytes["by_tensor"][name] == 2 * 64
    idle = sum(report.stall_cycles["array_2d"].values())
    slots = sum(
        p.totals.slots["array_2d"][t] for p in timeline.phases for t in p.totals.slots["array_2d"]
    )
    assert idle + slots == report.cycles
    assert (
        archsim.run(
            "softmax-3pass", ec.workload(**TINY), "fusemax-4x4", "spilled-3pass", level="pe"
        ).cycles
        == report.cycles
    )


OVER_TILES = """
name: over-tiles
cascade: projection
partition: {N: N1*N0, S: S1*S0, D: D1*D0}
tiles: {N0: ROWS, S0: COLS, D0: 3}
loops: [n1, s1, d1]
placement: {Z: {array: array_2d, rows: n0, cols: s0}}
passing: [X, W]
order:
  array_2d: [Z lag 0, Z.drain lag 0]
  array_1d: [Z.out lag 0]
"""


def mapped(tmp_path, text: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return archsim.load_mapping(str(path))


@pytest.mark.parametrize("accumulate", [1, 4, 60])
@pytest.mark.parametrize("loops", ["n1, s1, d1", "d1, n1, s1", "n1, d1, s1"])
def test_sums_go_on_from_tile_to_tile_in_the_pes(tmp_path, accumulate, loops):
    chip = archsim.load_architecture("fusemax-4x4")
    array, lanes = chip.arrays
    array = replace(array, register_entries=99)
    latency = replace(chip.latency, accumulate=accumulate)
    chip = replace(chip, latency=latency, arrays=(array, lanes))
    mapping = mapped(tmp_path, OVER_TILES.replace("n1, s1, d1", loops))
    for sizes in ({"N": 1, "D": 3, "S": 1}, {"N": 7, "D": 9, "S": 5, "H": 2}):
        found = archsim.lower("projection", ec.workload(**sizes), chip, mapping)
        (cycles,) = agree(found)
        if accumulate == 1 and sizes["N"] == 7:
            # Four tiles of rows and columns: 9 words and a drain of 4; two heads.
            assert cycles == 2 * 4 * (9 + 4) + 4 + 3


DECODE = [
    {"M": 1, "P": 1, "E": 1, "F": 1, "M0": 1},
    # Two splits of three tiles, two heads; several queries, output words on two tiles of lanes;
    # rows that hold nothing.
    {"M": 24, "P": 1, "E": 3, "F": 5, "M1": 3, "H": 2},
    {"M": 6, "P": 2, "E": 5, "F": 9, "M0": 2, "M1": 1},
    {"M": 21, "P": 1, "E": 2, "F": 2, "M0": 1, "M1": 7},
]


@pytest.mark.parametrize("sizes", DECODE, ids=["ones", "heads", "queries", "tall"])
def test_decode(sizes):
    agree(archsim.lower("softmax-split-k", ec.workload(**sizes), "fusemax-4x4", "decode"))


def test_decode_by_hand():
    """8 keys on 4 rows and 2 columns.

    QK loads 4 rows and adds, for each of 2 words: 10 slots; LM 11, RM 15, back at the top in 17.
    SLN 17-23, SLD 24, SLNV 3 (4 + 1): 25-39. The last word lands in 43, SM, SS and 3 words of SV
    follow: 48, + 3. Then GM 2, PM 14, SD 2, NV 2, AV 1: 21, + 3.
    """
    found = archsim.lower(
        "softmax-split-k", ec.workload(M=8, P=1, E=2, F=3), "fusemax-4x4", "decode"
    )
    assert isinstance(found, Chain)
    assert [simulate(p.compute_only()).cycles for p in found.programs] == [51, 24]


def test_a_derived_cascade_is_decoded():
    derived = ec.derive(ec.load("softmax-3pass"), "m", tile=True, split=True).cascade
    sizes = {"M": 24, "P": 1, "E": 3, "F": 2, "M1": 2}
    found = archsim.lower(derived, ec.workload(**sizes), "fusemax-4x4", "decode")
    assert agree(found) == agree(
        archsim.lower("softmax-split-k", ec.workload(**sizes), "fusemax-4x4", "decode")
    )


def refused(cascade, mapping, **sizes: int) -> str:
    with pytest.raises(archsim.ArchError) as caught:
        archsim.lower(cascade, ec.workload(**sizes), "fusemax-4x4", mapping)
    return str(caught.value)


def test_ragged_splits_are_refused():
    text = refused("softmax-split-k", "decode", M=40, P=1, E=2, F=3)
    assert "decode.yaml:9:17: M = 40 is not M2 = 4 x M1 = 3 x M0 = 4" in text
    assert "take sizes whose product is M" in text
    text = refused("softmax-split-k", "decode", M=40, P=1, E=2, F=3, M0=4, M1=1)
    assert "M2 = 10 does not fit 4 cols of array_2d" in text


def edited(tmp_path, name: str, *changes: tuple[str, str]):
    text = (mapping_folder() / f"{name}.yaml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return mapped(tmp_path, text)


def test_what_needs_a_phase_of_its_own_says_so(tmp_path):
    mapping = edited(tmp_path, "spilled-3pass", ("[SQ, QK, GM], [SN, SD]", "[SQ, QK, GM, SN, SD]"))
    text = refused("softmax-3pass", mapping, **TINY)
    assert (
        "softmax-3pass.yaml:10:3: SN can't be lowered: it needs GM[p] in every tile of m1" in text
    )
    assert "phases: [[..., GM], [SN, ...]]" in text


def test_lanes_read_no_whole_tiles(tmp_path):
    mapping = edited(
        tmp_path, "sigmoid-attention", ("[[SQ, QK], [W], [AV]]", "[[SQ, QK, W], [AV]]")
    )
    text = refused("sigmoid-attention", mapping, **TINY)
    assert "QK can't be lowered: W reads it whole in the lanes" in text
    assert "give W a phase of its own, or place it on array_2d" in text


def test_nothing_is_summed_over_columns(tmp_path):
    mapping = edited(
        tmp_path,
        "linear-attention",
        ("KS: {array: array_2d, rows: m0, cols: e0}", "KS: {array: array_2d, rows: e0, cols: m0}"),
    )
    text = refused("linear-attention", mapping, **TINY)
    assert "mine.yaml:20:3: the rows of array_2d hold PK: m0, KS: e0" in text
    mapping = edited(
        tmp_path,
        "relu-attention",
        ("rows: m0, cols: p0", "rows: p0, cols: m0"),
    )
    text = refused("relu-attention", mapping, **TINY)
    assert "AV can't be lowered: m0 is spread over the columns, and nothing runs from" in text
    assert "sum over m0 in a phase whose columns hold another variable" in text


def test_recurrences_stay_in_their_phase(tmp_path):
    moved = edited(tmp_path, "decode", ("SM, SS, SV]", "SS, SV]"), ("[GM, PM", "[SM, GM, PM"))
    text = refused("softmax-split-k", moved, M=8, P=1, E=2, F=3)
    assert "RM is carried on from step to step, and other phases read it" in text
    assert "let an Einsum of the same phase take its last value: LRM[...] = RM[...]" in text


def test_phases_are_checked_in_place(tmp_path):
    mapping = edited(tmp_path, "linear-attention", ("loops: [p1, e1]", "loops: [p1, q1]"))
    text = refused("linear-attention", mapping, **TINY)
    assert "mine.yaml:16:12: unknown variable 'q1' in the loops" in text
    mapping = edited(tmp_path, "linear-attention", ("[LQ, PQ, D,", "[LQ, D,"))
    assert "every Einsum is in one phase, not so PQ" in refused("linear-attention", mapping, **TINY)
    with pytest.raises(archsim.ArchError, match="unknown key 'lops'") as caught:
        edited(tmp_path, "linear-attention", ("loops: [e1, m1]", "lops: [e1, m1]"))
    assert "mine.yaml:10:5" in str(caught.value)
    with pytest.raises(archsim.ArchError, match="'M' is no split of M") as caught:
        edited(tmp_path, "linear-attention", ("M: M1*M0, E", "M: M, E"))
    assert "mine.yaml:8:20" in str(caught.value)


def test_what_a_cascade_splits_itself_has_one_size(tmp_path):
    own = "{einsums: [A], tiles: {M0: 2, P0: COLS}}"
    mapping = edited(tmp_path, "spilled-2pass", ("[A], [AV]", f"{own}, [AV]"))
    text = refused("softmax-2pass", mapping, **TINY)
    assert "M0 has 2 and 4 elements in two phases, but softmax-2pass itself splits M" in text


def test_one_program_is_asked_for_where_one_is_needed():
    with pytest.raises(archsim.ArchError, match="is 4 programs, one for each phase"):
        lower_whole("softmax-3pass", ec.workload(**TINY), "fusemax-4x4", "spilled-3pass")


def test_commands_take_phases(archsim_command):
    run = ["softmax-3pass", "--arch", "fusemax-4x4", "--mapping", "spilled-3pass"]
    run += ["--set", "M=8,P=4,E=4,F=4"]
    text = archsim_command("lower", *run).stdout
    assert "phase 1: Q, K -> QK, GM" in text
    assert "phase 4: A, V -> AV" in text
    done = archsim_command("lower", *run, "-o", "chain.yaml")
    assert done.returncode == 2
    assert "a file holds one program, these are 4" in done.stderr
    text = archsim_command("explain", *run, "--waterfall").stdout
    assert text.count("of which on the critical chain") == 4
    assert "cycles        99" in archsim_command("run", *run, "--level", "pe").stdout
