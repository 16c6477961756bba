"""What an installation puts where, and what may stand in the repository's files."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("einsum_cascade", "archsim")
# Repository folder of data -> where it travels in the wheel.
DATA = {
    "workloads": "einsum_cascade/workloads",
    "mappings": "archsim/mappings",
    "rtl": "archsim/rtl",
    "archsim/architectures": "archsim/architectures",
}
MAX_LINES = 450
# Slow to import: loaded by the functions that need them.
LAZY = ("numpy", "numba", "sympy", "matplotlib", "pandas", "networkx", "pydantic")
# One letter of each is in brackets, so that the patterns don't match this file.
FORBIDDEN = {
    "machine path": r"(?<![\w.~-])/(wor[k]|roo[t]|hom[e]/\w+|User[s]/\w+)/",
    "registry host": r"pyp[i]\.org|pythonhoste[d]\.org|pytorc[h]\.org/whl|debia[n]\.org",
    "how the text was made": r"(?i)\b(this|previous|next|last|earlier|another) sessio[n]\b"
    r"|sub-?agen[t]|co-authored-b[y]",
}


def run_elsewhere(code: str, cwd: Path) -> str:
    """Run Python code outside the repository, where only what is installed can be imported."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository_files() -> list[Path]:
    """List what is, or would be, committed; in an unpacked sdist there is no git to ask."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if (ROOT / ".git").exists():
        assert listed.returncode == 0, listed.stderr
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        made = {".venv", "build", "dist", "__pycache__", "PKG-INFO", "setup.cfg"}
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(
                part in made or part.endswith(("_cache", ".egg-info", ".pyc"))
                for part in path.relative_to(ROOT).parts
            )
        ]
    return sorted(path for path in paths if path.is_file())


def test_wheel_installs_two_names_only(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"einsum_cascade", "archsim", "einsum_archsim-0.1.0.dist-info"} == top


@pytest.mark.parametrize("folder", DATA)
def test_wheel_carries_every_data_file(wheel: Path, folder: str) -> None:
    endings = (".yaml", ".sv")
    found = (p for p in (ROOT / folder).rglob("*") if p.suffix in endings)
    files = {path.relative_to(ROOT / folder).as_posix() for path in found}
    inside = f"{DATA[folder]}/"
    packed = {
        name.removeprefix(inside)
        for name in zipfile.ZipFile(wheel).namelist()
        if name.startswith(inside) and name.endswith(endings)
    }
    assert files, f"{folder} has no data"
    assert files == packed


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_carries_every_module(wheel: Path, package: str) -> None:
    """Sub-packages are listed by hand in pyproject.toml, and one could be forgotten."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert modules | {f"{package}/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("name", ["rtl", "mappings", "workloads", "tests"])
def test_folder_is_not_importable_at_top_level(tmp_path: Path, name: str) -> None:
    code = f"import importlib.util; print(importlib.util.find_spec({name!r}))"
    assert run_elsewhere(code, tmp_path) == "None"


@pytest.mark.parametrize("package", ["einsum_cascade.workloads", "archsim.mappings"])
def test_installed_data_is_found(tmp_path: Path, package: str) -> None:
    code = f"import importlib.resources as r; print(*r.files({package!r}).rglob('*.yaml'))"
    assert ".yaml" in run_elsewhere(code, tmp_path)


def test_console_script_is_archsim() -> None:
    scripts = {entry.name: entry.value for entry in entry_points(group="console_scripts")}
    assert scripts["archsim"] == "archsim.cli:main"


def test_import_loads_nothing_slow(tmp_path: Path) -> None:
    code = f"import sys, einsum_cascade, archsim; print([m for m in {LAZY} if m in sys.modules])"
    assert run_elsewhere(code, tmp_path) == "[]"


@pytest.mark.parametrize("command", ["run --level bound", "run --level published", "sweep"])
def test_formulas_load_no_numpy(tmp_path: Path, command: str) -> None:
    """It takes as long to load as hundreds of points at the levels of formulas."""
    one = "softmax-1pass --model bert --arch fusemax --mapping fusemax --set M=1024 --set P=1024"
    arguments = f"{command} fusemax-area -o found" if command == "sweep" else f"{command} {one}"
    code = f"""
import atexit, sys
from archsim.cli import main
sys.argv[1:] = {arguments.split()}
atexit.register(lambda: print('numpy' in sys.modules))
main()
"""
    assert run_elsewhere(code, tmp_path).splitlines()[-1] == "False"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_function_bears_a_module_name(tmp_path: Path, package: str) -> None:
    """Importing `package.name` would replace the function `package.name` by the module."""
    modules = {path.stem for path in (ROOT / package).glob("*.py")}
    code = f"import {package}; print(*getattr({package}, '__all__', ()))"
    public = set(run_elsewhere(code, tmp_path).split())
    assert set() == public & modules


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_files_speak_of_the_project_only(kind: str) -> None:
    pattern = re.compile(FORBIDDEN[kind].encode())
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in repository_files()
        for match in pattern.finditer(path.read_bytes())
    ]
    assert not found


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("machine path", "see " + "/".join(("", "work", "main"))),
        ("machine path", "/".join(("file://", "root", "x"))),
        ("registry host", "https://" + "pypi" + ".org/simple"),
        ("how the text was made", "in the previous " + "session"),
    ],
)
def test_forbidden_patterns_find_what_they_should(kind: str, text: str) -> None:
    assert re.search(FORBIDDEN[kind], text)


@pytest.mark.parametrize("text", ["workloads/models/x.yaml", "a/work/b", "rootless", "session"])
def test_forbidden_patterns_let_pass(text: str) -> None:
    assert not any(re.search(pattern, text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_stay_short(package: str) -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in (ROOT / package).rglob("*.py")
    }
    assert {} == {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
