"""`archsim bounds`: what it prints, its JSON, its picture, and its errors."""

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import einsum_cascade as ec
from archsim.bound_plots import curves, draw_bounds
from archsim.cli import app
from einsum_cascade import bound_report
from einsum_cascade.errors import SourceError

SIZES = "M=4096,P=4096,E=64,F=64"
SMALL = {"M": 12, "P": 6, "E": 3, "F": 2}


def call(*words):
    done = CliRunner().invoke(app, ["bounds", *words], catch_exceptions=True)
    if isinstance(done.exception, SourceError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_formulas_without_sizes():
    text = call("softmax-3pass")
    assert "K      E*M + 2*Max(0, M - S)\n" in text
    assert "traffic  3*E*M*ceiling(P/P_0) + E*P + F*M*ceiling(P/P_0) + F*P\n" in text
    assert "exp  M*P\n" in text
    assert "keep beats re-read for M < 2*E*(E + F + 2)/(E + F)\n" in text
    assert "capacities" not in text


def test_numbers_beside_formulas():
    text = call("softmax-3pass", "--set", SIZES, "--buffer", "1 MiB")
    assert text.startswith(
        "softmax-3pass over M, a buffer of 524,288 words (1 MiB, 2 bytes each)\n"
    )
    assert "re-read  4,032  524,288   2,621,440   5 MiB   2.5 times the bound  <- best\n" in text
    assert "hold needs 524418 words, the buffer has 524288\n" in text
    assert "keep fits                            4,354  8.504 KiB\n" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_words_of_another_size():
    """With 4 bytes a word, 1 MiB holds half as many."""
    text = call("softmax-3pass", "--set", SIZES, "--buffer", "1 MiB", "--word", "4")
    assert "a buffer of 262,144 words (1 MiB, 4 bytes each)" in text


def test_json_of_formulas():
    found = json.loads(call("softmax-1pass", "--json"))
    assert "E*M + Max(0, M0 - S)" == found["formulas"]["traffic"]["K"]
    assert "M0" == found["formulas"]["footprint"]["K"]
    assert "sizes" not in found


def test_json_of_numbers():
    words = ["softmax-3pass", "--set", SIZES, "--buffer", "2 KiB", "--json"]
    found = json.loads(call(*words))
    assert 1024 == found["buffer_words"]
    assert 64 * 4096 + 2 * (4096 - 1024) == found["traffic"]["K"]
    assert 4096 == found["footprint"]["K"]
    assert 4096 * 4096 == found["ops"]["exp"]
    assert {"M": 4096, "P": 4096, "E": 64, "F": 64, "S": 1024} == found["sizes"]
    assert "spill" == found["best"]
    keep = next(one for one in found["alternatives"] if one["name"] == "keep")
    assert keep["traffic"] is None
    assert "needs 4354 words, the buffer has 1024" == keep["reason"]
    assert 130.0 == found["crossover"]


def test_what_does_not_stream_is_said():
    text = call("toy-iterative", "--rank", "K")
    assert "re-read: inputs are loaded for every block\n" in text
    cascade = "projection"
    assert "in ranks and S_words words of buffer" in call(cascade)


def test_filters_without_a_closed_form_are_marked(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ncascade: |\n  Z[m] = A[m]*2 where A[m] > 0\n  Y = sum[m](Z[m])\n")
    text = call(str(path))
    assert "scalar operations (at most: not every filter has a closed form)\n" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "M=4", "--buffer", "1 KiB"], "the size of E, F, P is not set"),
        (["--set", SIZES + ",Pp=3", "--buffer", "1 KiB"], "did you mean 'P'?"),
        (["--set", SIZES], 'say --buffer "1 MiB"'),
        (["--set", SIZES, "--buffer", "1024"], "--buffer: '1024': not a number with a unit"),
        (["--set", SIZES, "--buffer", "1 B"], "1 bytes hold no word of 2 bytes"),
        (["--buffer", "1 KiB"], "--buffer: wants sizes of ranks"),
        (["-o", "figures"], "--output: wants sizes of ranks"),
        (["--rank", "N"], "no rank 'N'"),
    ],
)
def test_errors(words, message):
    with pytest.raises(SourceError) as caught:
        call("softmax-3pass", *words)
    assert message in str(caught.value)


def test_picture(tmp_path):
    text = call("softmax-1pass", "--set", SIZES, "--buffer", "1 MiB", "-o", str(tmp_path / "here"))
    assert text
    files = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert ["bounds-softmax-1pass.png", "bounds-softmax-1pass.svg"] == files


def test_curves_drop_exactly_at_the_capacities():
    formulas = ec.bounds(ec.load("softmax-3pass"))
    found = formulas.at(**SMALL, S=40)
    data = curves(formulas, found, 2)
    assert data.buffers == sorted(set(data.buffers))
    for cliff in found.cliffs:
        at = data.buffers.index(2 * cliff.words)
        assert data.buffers[at - 1] == 2 * cliff.words - 2
        heights = [data.bound, *data.ways.values()]
        assert any(line[at - 1] is None or line[at] < line[at - 1] for line in heights)
    for bound, best in zip(data.bound, data.best, strict=True):
        assert best is None or bound <= best


def test_a_picture_without_ways(tmp_path):
    """A cascade that does not stream still has its lower bound."""
    text = "var n, p in N\ninput X[n]\nZ[p] = max[w](X[p+w-W//2])\nY = sum[n](Z[n])"
    formulas = ec.bounds(ec.parse(text, "window"), "N")
    found = formulas.at(N=50, W=3, S=20)
    assert not found.alternatives
    assert 2 == len(draw_bounds(formulas, found, 2, tmp_path))


PAGE = Path(__file__).parents[1] / "docs" / "bounds.md"


def test_documentation_shows_what_is_printed():
    page = PAGE.read_text("utf-8")
    (block,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    command, _, expected = block.partition("\n")
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
    assert call(*words[3:]).startswith(expected)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert re.findall(r"# (.*)", code) == done.stdout.splitlines()


def test_documentation_names_the_buffers_at_which_the_best_changes():
    """Spill up to 11 KiB, then re-read; hold just above 1 MiB."""
    formulas = ec.bounds(ec.load("softmax-3pass"))
    sizes = {"M": 4096, "P": 4096, "E": 64, "F": 64}
    best = {kib: formulas.best(**sizes, S=kib * 512).name for kib in (10, 12, 1024, 1025)}
    assert {10: "spill", 12: "re-read", 1024: "re-read", 1025: "hold"} == best
    assert (PAGE.parent / "bounds-softmax-3pass.png").is_file()


def test_docstring_example():
    failed, tried = doctest.testmod(bound_report)
    assert (0, 4) == (failed, tried)
