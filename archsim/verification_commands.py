"""The command that compares cascades with PyTorch: `archsim verify`."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.command_line import Json, app, bad, print_json
from einsum_cascade.errors import legal_words

if TYPE_CHECKING:
    from archsim.references import Oracle
    from archsim.verification import Row
    from einsum_cascade.cascade import Cascade


@app.command()
def verify(
    cascade: Annotated[str, typer.Argument(help="A shipped cascade, a YAML file, or all.")],
    against: Annotated[
        str | None,
        typer.Option(help="The shipped cascade whose reference a file of your own must meet."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Cascades at a time; as many as processors if left out."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a cascade's numbers with PyTorch, in float64, float32 and bf16; forward only.

    The first run compiles a kernel for each cascade and dtype, which takes some seconds each; they
    are kept for later runs. Exit code 1 says that a row failed.
    """
    from archsim.references import ORACLES
    from einsum_cascade import catalog

    if cascade == "all":
        if against is not None:
            raise bad("--against", "is for one cascade, not for all")
        chosen = [catalog.load(name) for name in catalog.names("cascades")]
    else:
        chosen = [catalog.load(cascade)]
    if against is not None and against not in ORACLES:
        raise bad("--against", f"no reference '{against}'", legal_words(against, ORACLES, "names"))
    given = [(one, _oracle(one, against)) for one in chosen]
    if any(oracle is not None for _, oracle in given):
        _need_torch()
    rows = [row for found in _compared(given, jobs or os.cpu_count() or 1) for row in found]
    if as_json:
        print_json({"results": [_as_dict(row) for row in rows]})
    else:
        _print(rows)
    if not all(row.passed for row in rows):
        raise typer.Exit(1)


def _oracle(cascade: Cascade, against: str | None) -> Oracle | None:
    """The reference that is asked for, or that of the shipped cascade with the same interface."""
    from archsim.references import ORACLES
    from einsum_cascade import catalog

    name = cascade.name if against is None else against
    if name not in ORACLES:
        return None
    shipped = catalog.load(name)
    if {*cascade.inputs} == {*shipped.inputs} and {*shipped.outputs} <= {*cascade.outputs}:
        return ORACLES[name]
    if against is None:
        return None
    raise bad(
        "--against",
        f"{name} has inputs {', '.join(shipped.inputs)} and outputs {', '.join(shipped.outputs)}",
        f"{cascade.name} has {', '.join(cascade.inputs)} and {', '.join(cascade.outputs)}",
    )


def _need_torch() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise bad("verify", "PyTorch is the oracle, and is not installed", 'pip install ".[torch]"')


def _compared(given: list[tuple[Cascade, Oracle | None]], jobs: int) -> Iterator[list[Row]]:
    """Compare cascades in order, several at a time, and say on standard error how far it is."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    def told(results: Iterator[list[Row]]) -> Iterator[list[Row]]:
        for number, ((cascade, _), rows) in enumerate(zip(given, results, strict=True), 1):
            what = "ok" if all(row.passed for row in rows) else "FAILED"
            print(f"[{number}/{len(given)}] {cascade.name}: {what}", file=sys.stderr, flush=True)
            yield rows

    if min(jobs, len(given)) == 1:
        yield from told(map(_rows, given))
        return
    # Fresh processes: a forked one would inherit threads of PyTorch and numba.
    with ProcessPoolExecutor(min(jobs, len(given)), get_context("spawn")) as pool:
        yield from told(pool.map(_rows, given))


def _rows(given: tuple[Cascade, Oracle | None]) -> list[Row]:
    from archsim import verification

    cascade, oracle = given
    if oracle is None:
        return list(verification.alone(cascade))
    return list(verification.verify(cascade, oracle, verification.ENGINES))


def _as_dict(row: Row) -> dict[str, Any]:
    worst = row.worst
    return {
        "cascade": row.cascade,
        "passed": row.passed,
        "dtype": row.dtype,
        "max_error": None if worst is None else _finite(worst.max_error),
        "tolerance": None if worst is None else worst.tolerance,
        "reference": row.reference,
        "inputs": None if worst is None else worst.inputs,
        "engine": None if worst is None else worst.engine,
        "cases": [
            {
                "inputs": one.inputs,
                "engine": one.engine,
                "passed": one.passed,
                "max_error": _finite(one.max_error),
                "tolerance": one.tolerance,
                "max_ulp": _finite(one.ulp),
                "condition": one.condition,
                "torch_error": one.torch_error,
            }
            for one in row.comparisons
        ],
        "excluded": dict(row.excluded),
        "direction": "forward",
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print(rows: list[Row]) -> None:
    """A table, and under it what was left out and why."""
    from archsim.rich_tables import new_console, new_table

    words, figures = ("cascade", "dtype", "", "closest"), ("error", "allowed", "ulp", "cases")
    table = new_table("", *words, *figures, words=len(words))
    reasons: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        worst = row.worst
        verdict = "ok" if row.passed else "FAILED"
        if worst is None:
            table.add_row(row.cascade, row.dtype, verdict, "", "-", "-", "-", "0")
        else:
            table.add_row(
                *(row.cascade, row.dtype, verdict, f"{worst.inputs}, {worst.engine}"),
                *(f"{worst.max_error:.1e}", f"{worst.tolerance:.1e}", f"{worst.ulp:.0f}"),
                str(len(row.comparisons)),
            )
        for family, reason in row.excluded.items():
            who = reasons.setdefault((family, reason), {})
            who.setdefault(row.cascade, []).append(row.dtype)
    new_console().print(table)
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows)} rows, {failed} failed; forward computations only")
    print("error: largest difference over the largest |reference|, where it is closest to what is")
    print("allowed: condition number * sqrt(roundings) * unit roundoff; ulp: largest of an element")
    for cascade, reference in {row.cascade: row.reference for row in rows}.items():
        print(f"  {cascade}: {reference}")
    if reasons:
        print("left out:")
    for (family, reason), who in reasons.items():
        print(f"  {family}: {reason}")
        for cascade, dtypes in who.items():
            print(f"    {cascade} ({', '.join(dtypes)})")
