"""What every test relies on: no silent skips, reproducible properties, one freshly built wheel."""

import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]

# Skips that are expected: test id (without parameters) or file -> why it can't run everywhere.
ALLOWED_SKIPS: dict[str, str] = {}

# The same examples everywhere and every time; no deadline, since a busy machine is not a defect.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


class UnexpectedSkips:
    """Fail the run when a test or a whole file was skipped that `ALLOWED_SKIPS` doesn't name.

    A skipped oracle looks like a passed one in a long log, so a skip has to be asked for by name.
    """

    def __init__(self) -> None:
        self.skips: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # An expected failure is reported as skipped too, and isn't one.
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        if report.nodeid.partition("[")[0] not in ALLOWED_SKIPS:
            # A skip's report holds (file, line, reason).
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            self.skips.append((report.nodeid, str(why).removeprefix("Skipped: ")))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skips and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.skips:
            return
        terminalreporter.section("unexpected skips", red=True)
        for nodeid, why in self.skips:
            terminalreporter.line(f"{nodeid}: {why}")
        terminalreporter.line("Make them run, or add them to ALLOWED_SKIPS in tests/conftest.py.")


def forget_old_kernels() -> None:
    """Remove compiled kernels that are older than any module.

    numba asks for the file of a function, not for those of the functions that it calls, so a change
    in these would be tested as it was before.
    """
    packages = [ROOT / "einsum_cascade", ROOT / "archsim"]
    modules = [file for package in packages for file in package.glob("*.py")]
    newest = max((file.stat().st_mtime for file in modules), default=0)
    for package in packages:
        for kernel in package.glob("__pycache__/*.nb[ic]"):
            if kernel.stat().st_mtime < newest:
                kernel.unlink(missing_ok=True)


def pytest_configure(config: pytest.Config) -> None:
    # Workers share what is compiled, so only the process that starts them clears it.
    if not hasattr(config, "workerinput"):
        forget_old_kernels()
    config.pluginmanager.register(UnexpectedSkips(), "unexpected-skips")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, offline, in a copy: leftovers of earlier builds would get into it."""
    copy = tmp_path_factory.mktemp("source") / "repository"
    unrelated = shutil.ignore_patterns(".*", "build", "dist", "tests", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, copy, ignore=unrelated)
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture
def resized():
    """Return a function that makes a shipped architecture of another size."""
    from dataclasses import replace

    from archsim.arch import Architecture, load_architecture

    def make(name: str, **sizes: int) -> Architecture:
        shipped = load_architecture(name)
        arrays = tuple(
            replace(array, axes=tuple((axis, sizes.get(axis, size)) for axis, size in array.axes))
            for array in shipped.arrays
        )
        memories = tuple(
            replace(
                memory,
                **{
                    key: sizes[key]
                    for key in ("capacity_bytes", "bandwidth_bytes_per_s")
                    if key in sizes and getattr(memory, key) is not None
                },
            )
            for memory in shipped.memories
        )
        return replace(shipped, arrays=arrays, memories=memories)

    return make


@pytest.fixture
def archsim_command():
    """Return a function that runs the installed command."""

    def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("archsim"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)

    return run
