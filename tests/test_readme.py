"""What the README and the documentation show is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from archsim import arch, mapping
from einsum_cascade.operators import FUNCTIONS, REDUCTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "27,918,336" in done.stdout


def test_console_example_is_what_the_command_prints():
    (block,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    command, _, expected = block.partition("\n")
    words = command.removeprefix("$ archsim ").split()
    code = "from archsim.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert expected == done.stdout


def test_console_examples_of_the_schedule_page():
    """They may stop early: the page shows the drawing, the command goes on."""
    page = (ROOT / "docs" / "schedule.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        command, _, expected = block.partition("\n")
        words = command.removeprefix("$ archsim ").split()
        code = "from archsim.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )
        assert done.stdout.startswith(expected)


def test_the_two_commands_come_first():
    head = README[: README.index("## ")]
    assert head.index("make demo") < head.index("make test")


def test_language_page_names_every_operator():
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    for name in (*FUNCTIONS, *REDUCTIONS):
        assert re.search(rf"\b{name}\b", page), name


@pytest.mark.parametrize("package", ["einsum_cascade", "archsim"])
def test_architecture_page_names_every_module(package):
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [path.stem for path in (ROOT / package).glob("*.py") if path.stem != "__init__"]
    missing = [name for name in modules if f"`{name}`" not in page]
    assert set(missing) <= {"errors"}


def test_model_page_knows_the_shipped_files():
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    assert "mappings/flat.yaml" in page
    assert {"fusemax", "flat"} <= set(arch.names())
    assert {"fusemax", "flat", "unfused"} <= set(mapping.names())


def test_docstring_examples():
    import doctest
    import importlib

    ran = 0
    for name in (
        "einsum_cascade.legality",
        "einsum_cascade.interpreter",
        "einsum_cascade.catalog",
        "einsum_cascade.pass_analysis",
        "einsum_cascade.neighborhood",
        "einsum_cascade.neighborhood_tiles",
        "archsim.quantities",
        "archsim.stride_sweep",
        "archsim.tile_search",
        "archsim.token_permutation",
    ):
        failed, attempted = doctest.testmod(importlib.import_module(name))
        assert failed == 0, name
        ran += attempted
    assert ran >= 14
