"""The command that derives cascades."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from archsim.command_line import Cascade, Json, app, bad, print_json, writable


@app.command()
def derive(
    cascade: Cascade,
    reduce: Annotated[str, typer.Option(help="Variable of the rank to save passes over: m.")],
    tile: Annotated[
        bool, typer.Option("--tile", help="Step through tiles of the rank, not elements.")
    ] = False,
    split: Annotated[
        bool, typer.Option("--split", help="Let parts of the rank run apart, and merge them.")
    ] = False,
    reference: Annotated[
        str, typer.Option(help="Where running sums are kept: prefix, lazy or power-of-two.")
    ] = "prefix",
    proof: Annotated[
        bool, typer.Option("--proof", help="Print the certificate of every rewrite, too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="The YAML file to write.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Derive a cascade with fewer passes over a rank, with certificates, and check it."""
    from einsum_cascade import catalog
    from einsum_cascade.derivation import pipeline

    if out is not None:
        writable(out, cascade)
    if out is not None and out.suffix not in (".yaml", ".yml"):
        raise bad(str(out), "a cascade is a YAML file", f"write -o {out.with_suffix('.yaml')}")
    source = catalog.load(cascade)
    found = pipeline.derive(source, reduce, tile, split=split, reference=reference)
    if out is not None:
        # The file's name is what reports will call it.
        name = out.stem if re.fullmatch(r"[A-Za-z0-9_.-]+", out.stem) else found.cascade.name
        catalog.write_cascade(replace(found.cascade, name=name), out)
    if as_json:
        print_json(
            {
                "cascade": source.name,
                "reduce": found.reduce,
                "passes_before": found.passes_before,
                "passes_after": found.passes_after,
                "rules": [list(rule) for rule in found.rules],
                "refused": [{"einsum": e, "reason": reason} for e, reason in found.refused],
                "text": found.text,
                "certificates": [asdict(one) for one in found.certificates],
                "max_error": found.max_error,
            }
        )
    else:
        print(found)
        if proof:
            print("\n" + "\n\n".join(str(one) for one in found.certificates))
    if out is not None:
        print(f"wrote {out}", file=sys.stderr)
