"""Evidence that every gate fails when it should.

Each test runs a gate, under the configuration of this repository, in a small project: clean, it
passes; with one violation, it fails and says why.
"""

import base64
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LAYERS = {
    contract["containers"][0]: contract["layers"]
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
}


def modules(layer: str) -> list[str]:
    """Split a layer of the import contract, such as `"a | (b)"`, into module names."""
    return re.findall(r"\w+", layer)


def module_path(package: str, module: str) -> str:
    return f"{package.replace('.', '/')}/{module}.py"


def write(project: Path, path: str, text: str) -> None:
    file = project / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def run(project: Path, *command: str | Path) -> tuple[int, str]:
    """Run a command in `project` and return its exit status and all its output."""
    # Neither the options of an outer make or pytest, nor colours, may get in.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    env |= {"NO_COLOR": "1", "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clean project: this configuration, and a docstring for each module that it names."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package, layers in LAYERS.items():
        for module in ["__init__", *(name for layer in layers for name in modules(layer))]:
            if f"{package}.{module}" not in LAYERS:
                text = f'"""Stand-in for {package}.{module}."""\n'
                write(tmp_path, module_path(package, module), text)
    write(tmp_path, "tests/test_it.py", "def test_it() -> None:\n    assert 2 == 1 + 1\n")
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    return tmp_path


# ---- ruff ----

HEAD = '"""A module."""\n\n'
LINT = {
    "unused import": ("F401", HEAD + "import os\n"),
    "no docstring": ("D103", HEAD + "def public() -> None:\n    return\n"),
    "commented-out code": ("ERA001", HEAD + "# value = compute(3)\n"),
    "print": ("T201", HEAD + "print(1)\n"),
    "os.path": ("PTH118", HEAD + 'import os\n\nNAME = os.path.join("a", "b")\n'),
    "eval": ("S307", HEAD + 'VALUE = eval("1")\n'),
    "banned name": ("TID251", HEAD + "import sys\n\nsys.exit(1)\n"),
    "long line": ("E501", HEAD + "# " + "long " * 20 + "\n"),
    "useless noqa": ("RUF100", HEAD + "VALUE = 1  # noqa: F401\n"),
}


@pytest.mark.parametrize("name", LINT)
def test_ruff_reports(project: Path, name: str) -> None:
    rule, code = LINT[name]
    write(project, "archsim/added.py", code)
    status, output = run(project, BIN / "ruff", "check", "--output-format=concise", ".")
    assert status == 1
    assert re.search(rf"^archsim/added\.py:\d+:\d+: {rule} ", output, re.MULTILINE), output


def test_ruff_accepts_clean_code_and_mathematical_names(project: Path) -> None:
    maths = '"""Maths."""\n\n\ndef tile(M0: int, K: int) -> int:\n    """Return M0 × K."""\n'
    write(project, "archsim/added.py", maths + "    Q = M0 * K\n    return Q\n")
    write(project, "archsim/cli.py", '"""The command line."""\n\nprint(1)\n')
    assert run(project, BIN / "ruff", "check", ".") == (0, "All checks passed!\n")


def test_every_ignored_rule_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    ignored = [
        *PYPROJECT["tool"]["ruff"]["lint"]["ignore"],
        *itertools.chain(*PYPROJECT["tool"]["ruff"]["lint"]["per-file-ignores"].values()),
    ]
    assert [] == [rule for rule in ignored if not re.search(rf'"{rule}"[^#\n]* # \S+', text)]


def test_ruff_format_reports(project: Path) -> None:
    command = (BIN / "ruff", "format", "--check", ".")
    assert run(project, *command)[0] == 0
    write(project, "archsim/added.py", '"""A module."""\nVALUE = {  1 :2}\n')
    status, output = run(project, *command)
    assert status == 1
    assert "archsim/added.py" in output


# ---- mypy ----


def test_mypy_reports(project: Path) -> None:
    assert run(project, BIN / "mypy")[0] == 0
    write(
        project,
        "archsim/added.py",
        "def untyped(x): return x\n"
        "def wrong() -> int: return 'text'\n"
        "def bare(x: dict) -> None: ...\n"
        "from pydantic import BaseModel\n"
        "class Spec(BaseModel):\n"
        "    rows: int\n"
        "    columns = 2\n"
        "Spec(rows=1, colums=2)\n",
    )
    status, output = run(project, BIN / "mypy")
    assert status == 1
    for code in (
        "[no-untyped-def]",
        "[return-value]",
        "[type-arg]",
        "[call-arg]",
        "[pydantic-field]",
    ):
        assert code in output


# ---- import-linter ----


def test_lint_imports_accepts_downward_imports(project: Path) -> None:
    high, low = (modules(LAYERS["archsim"][i])[0] for i in (0, -1))
    write(project, f"archsim/{high}.py", f"import archsim.{low}\nimport einsum_cascade\n")
    status, output = run(project, BIN / "lint-imports")
    assert status == 0, output


@pytest.mark.parametrize("package", LAYERS)
def test_lint_imports_reports_an_upward_import(project: Path, package: str) -> None:
    high, low = (modules(LAYERS[package][i])[0] for i in (0, -1))
    write(project, module_path(package, low), f"import {package}.{high}\n")
    status, output = run(project, BIN / "lint-imports")
    assert status == 1
    assert f"{package}.{low} is not allowed to import {package}.{high}" in output


@pytest.mark.parametrize("package", LAYERS)
def test_lint_imports_reports_an_import_between_siblings(project: Path, package: str) -> None:
    one, other = next(modules(layer)[:2] for layer in LAYERS[package] if "|" in layer)
    write(project, module_path(package, one), f"import {package}.{other}\n")
    status, output = run(project, BIN / "lint-imports")
    assert status == 1
    assert f"{package}.{one} is not allowed to import {package}.{other}" in output


@pytest.mark.parametrize("package", LAYERS)
def test_lint_imports_reports_a_module_without_a_layer(project: Path, package: str) -> None:
    write(project, module_path(package, "added"), "")
    status, output = run(project, BIN / "lint-imports")
    assert status == 1
    assert f"- {package}.added\n" in output


def test_lint_imports_reports_hardware_in_einsum_cascade(project: Path) -> None:
    low = modules(LAYERS["einsum_cascade"][-1])[0]
    write(project, f"einsum_cascade/{low}.py", "import archsim\n")
    status, output = run(project, BIN / "lint-imports")
    assert status == 1
    assert "einsum_cascade is not allowed to import archsim" in output


def test_lint_imports_reports_the_engine_in_max_plus_matrices(project: Path) -> None:
    """A witness that used what it is compared with would be none."""
    write(project, "archsim/matrix_run.py", "import archsim.engine_kernel\n")
    status, output = run(project, BIN / "lint-imports")
    assert status == 1
    assert "archsim.matrix_run is not allowed to import archsim.engine_kernel" in output


# ---- pytest ----

SUITE = {
    "failure": ("assert 3 == 1 + 1", 1, "1 failed"),
    "warning": (
        "import warnings; warnings.warn('old', DeprecationWarning)",
        1,
        "DeprecationWarning",
    ),
    "skip": ("import pytest; pytest.skip('no PyTorch')", 1, "test_it.py::test_it: no PyTorch"),
    "importorskip": ("import pytest; pytest.importorskip('absent')", 1, "unexpected skips"),
    "expected failure": ("import pytest; pytest.xfail('known')", 0, "1 xfailed"),
}


@pytest.mark.parametrize("name", SUITE)
def test_suite_reports(project: Path, name: str) -> None:
    body, status, message = SUITE[name]
    write(project, "tests/test_it.py", f"def test_it() -> None:\n    {body}\n")
    assert_pytest(project, status, message)


def assert_pytest(project: Path, status: int, message: str) -> None:
    got, output = run(project, sys.executable, "-m", "pytest", "-m", "not slow")
    assert status == got, output
    assert message in output


def test_suite_passes_when_clean(project: Path) -> None:
    assert_pytest(project, 0, "1 passed")


def test_suite_reports_a_skipped_file(project: Path) -> None:
    code = "import pytest\n\npytest.importorskip('absent')\n"
    write(project, "tests/test_more.py", code)
    assert_pytest(project, 1, "tests/test_more.py: could not import 'absent'")


def test_suite_accepts_a_skip_that_is_allowed(project: Path) -> None:
    code = "import pytest\n\n@pytest.mark.parametrize('x', [1])\n@pytest.mark.skip\n"
    write(project, "tests/test_more.py", code + "def test_more(x): ...\n")
    conftest = (ROOT / "tests/conftest.py").read_text("utf-8")
    allow = 'ALLOWED_SKIPS["tests/test_more.py::test_more"] = "an example"\n'
    write(project, "tests/conftest.py", conftest + allow)
    assert_pytest(project, 0, "1 skipped")


def test_suite_reports_an_unknown_marker(project: Path) -> None:
    code = "import pytest\n\n@pytest.mark.slwo\ndef test_it(): ...\n"
    write(project, "tests/test_it.py", code)
    assert_pytest(project, 2, "'slwo' not found in `markers`")


def test_suite_reports_an_unknown_option(project: Path) -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = "[tool.pytest.ini_options]\n"
    write(project, "pyproject.toml", text.replace(section, section + "tetspaths = 1\n"))
    assert_pytest(project, 4, "Unknown config option: tetspaths")


def test_suite_reports_that_it_is_empty(project: Path) -> None:
    (project / "tests/test_it.py").unlink()
    assert_pytest(project, 5, "no tests ran")


# ---- the wheel ----


def test_check_wheel_contents_accepts_the_wheel(project: Path, wheel: Path) -> None:
    status, output = run(project, BIN / "check-wheel-contents", wheel)
    assert status == 0, output


def test_check_wheel_contents_reports_a_third_name(project: Path, wheel: Path) -> None:
    more = project / wheel.name
    content = b'"""Not to be installed."""\n'
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(more, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/RECORD"):
                data += f"tests/__init__.py,sha256={digest},{len(content)}\n".encode()
            new.writestr(name, data)
        new.writestr("tests/__init__.py", content)
    status, output = run(project, BIN / "check-wheel-contents", more)
    assert status == 1
    assert "tests" in output


# ---- the commands that run the gates ----


def test_make_test_runs_every_gate() -> None:
    status, output = run(ROOT, "make", "--dry-run", "test")
    assert status == 0, output
    gates = ["ruff check", "ruff format --check", "mypy", "lint-imports", "check-wheel-contents"]
    places = [output.index(f".venv/bin/{gate}") for gate in gates]
    assert places == sorted(places)
    assert 'pytest -n 2 -m "not slow"' in output


@pytest.mark.parametrize("status", [0, 3])
def test_ci_fails_when_make_test_fails(tmp_path: Path, status: int) -> None:
    write(tmp_path, "Makefile", f"test:\n\t@exit {status}\n")
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    got, output = run(tmp_path.parent, tmp_path / ".ci/run")
    assert (status != 0) == (got != 0), output
