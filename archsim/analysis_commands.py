"""Commands that analyse a cascade before any hardware is chosen."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsim.command_line import Cascade, Json, SetSizes, app, bad, buffer_bytes, print_json, sizes

if TYPE_CHECKING:
    from einsum_cascade.bound_report import Bounds


@app.command()
def bounds(
    cascade: Cascade,
    set_: SetSizes = None,
    buffer: Annotated[
        str | None, typer.Option(help='Buffer capacity with its unit: "1 MiB".')
    ] = None,
    word: Annotated[int, typer.Option(min=1, help="Bytes of a word.")] = 2,
    rank: Annotated[
        str | None,
        typer.Option(help="Rank to stream along, whole or part: M. Default: the reduced one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for traffic against buffer size.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bound a cascade's traffic and count its operations; formulas only without --set."""
    from einsum_cascade import bound_report, catalog

    given = sizes(set_)
    capacity = buffer_bytes(buffer)
    found = catalog.load(cascade)
    # How many steps a recurrence makes is a size like any other.
    formulas = bound_report.bounds(found, rank, sizes=given)
    if not given:
        for option, value in (("--buffer", buffer), ("--output", out)):
            if value is not None:
                raise bad(option, "wants sizes of ranks", "say --set M=4096,P=4096,E=64,F=64")
        numbers = None
    else:
        if capacity is None:
            raise bad("--set", "wants a buffer, too", 'say --buffer "1 MiB"')
        if capacity < word:
            raise bad("--buffer", f"{capacity} bytes hold no word of {word} bytes")
        numbers = formulas.at(**given, **{formulas.buffer_name: capacity // word})
    if as_json:
        print_json(_as_dict(formulas, numbers, word))
    else:
        print("\n".join(_lines(formulas, numbers, word)))
    if out is not None and numbers is not None:
        from archsim.bound_plots import draw_bounds

        for path in draw_bounds(formulas, numbers, word, out):
            print(f"wrote {path}", file=sys.stderr)


def _lines(formulas: Bounds, numbers: Bounds | None, word: int) -> Iterator[str]:
    """The report: a table for each kind of bound, formulas beside numbers."""
    yield f"{formulas.cascade} over {formulas.rank}" + _buffer_text(formulas, numbers, word)
    yield ""
    yield "words that must move, whatever the schedule"
    rows = [
        (name, str(formula), *_words(numbers and numbers.traffic[name], word))
        for name, formula in formulas.traffic.items()
    ]
    # The sum counts only the largest surplus: reading one thing again may serve several.
    yield from _table(
        [*rows, ("total", str(formulas.total), *_words(numbers and numbers.total, word))]
    )
    yield ""
    yield "words on chip to load an input only once"
    yield from _table(
        (name, str(formula), *_words(numbers and numbers.footprint[name], word))
        for name, formula in formulas.footprint.items()
    )
    yield ""
    exact = "" if formulas.exact_ops else " (at most: not every filter has a closed form)"
    yield f"scalar operations{exact}"
    yield from _table(
        (name, str(formula), *([f"{numbers.ops[name]:,}"] if numbers else []))
        for name, formula in formulas.ops.items()
    )
    yield ""
    yield from _ways(formulas, numbers, word)
    if numbers is not None:
        yield ""
        yield "capacities at which less moves"
        yield from _table((cliff.what, *_words(cliff.words, word)) for cliff in numbers.cliffs)


def _buffer_text(formulas: Bounds, numbers: Bounds | None, word: int) -> str:
    from archsim.quantities import show_bytes

    if numbers is None:
        return f", in ranks and {formulas.buffer_name} words of buffer"
    words = numbers.buffer_words
    return f", a buffer of {words:,} words ({show_bytes(words * word)}, {word} bytes each)"


def _ways(formulas: Bounds, numbers: Bounds | None, word: int) -> Iterator[str]:
    """Ways to stream, with formulas in rows of a block, then what they come to."""
    if not formulas.alternatives:
        yield f"no way to stream it in blocks of rows: {formulas.reason}"
        return
    block = formulas.alternatives[0].block
    has_blocks = any(block in str(one.traffic) for one in formulas.alternatives)
    yield "ways to stream" + (f", {block} rows at a time" if has_blocks else "")
    for one in formulas.alternatives:
        yield f"  {one.name}: {one.what}"
        yield f"    on chip  {one.live}"
        if has_blocks:
            yield f"    {block:7}  {one.rows}"
        yield f"    traffic  {one.traffic}"
    if formulas.crossover is not None:
        meeting = None if numbers is None else numbers.crossover
        limit = "" if meeting is None else f" = {float(meeting):.4g}"
        rank = formulas.rank
        yield f"  with many blocks, keep beats re-read for {rank} < {formulas.crossover}{limit}"
    if numbers is not None:
        yield ""
        yield from _results(numbers, word)


def _results(numbers: Bounds, word: int) -> Iterator[str]:
    """What every way comes to in this buffer, and which one is best."""
    best = numbers.best()
    rows: list[tuple[str, ...]] = []
    for one in numbers.alternatives:
        if one.traffic is not None:
            over = f"{one.traffic / numbers.total:.3g} times the bound"
            row = (one.name, f"{one.rows:,}", f"{one.live:,}", *_words(one.traffic, word))
            rows.append((*row, over, "<- best" if one == best else ""))
    if rows:
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        titles = ("", "rows", "on chip", "traffic")
        rows.insert(0, tuple(f"{t:>{w}}" for t, w in zip(titles, widths, strict=True)))
    yield from _table(rows)
    for one in numbers.alternatives:
        if one.traffic is None:
            yield f"  {one.name} {one.reason}"


def _words(words: Any, word: int) -> tuple[str, ...]:
    from archsim.quantities import show_bytes

    return () if words is None else (f"{words:,}", show_bytes(words * word))


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Align columns: names and formulas to the left, numbers to the right."""
    lines = list(rows)
    count = max(map(len, lines), default=0)
    widths = [max((len(r[i]) for r in lines if i < len(r)), default=0) for i in range(count)]
    for line in lines:
        cells = [
            f"{cell:>{width}}" if cell[:1].isdigit() else f"{cell:{width}}"
            for cell, width in zip(line, widths, strict=False)
        ]
        yield ("  " + "  ".join(cells)).rstrip()


def _as_dict(formulas: Bounds, numbers: Bounds | None, word: int) -> dict[str, Any]:
    """The JSON object: formulas as text, and numbers where there are sizes."""
    found: dict[str, Any] = {
        "cascade": formulas.cascade,
        "rank": formulas.rank,
        "exact_ops": formulas.exact_ops,
        "formulas": _numbers_of(formulas, str),
        "reason": formulas.reason,
    }
    if numbers is None:
        return found
    best = numbers.best()
    return {
        **found,
        "sizes": numbers.sizes,
        "buffer_words": numbers.buffer_words,
        "word_bytes": word,
        **_numbers_of(numbers, lambda value: value),
        "best": None if best is None else best.name,
    }


def _numbers_of(found: Bounds, show: Any) -> dict[str, Any]:
    meeting = found.crossover
    return {
        "traffic": {name: show(words) for name, words in found.traffic.items()},
        "total": show(found.total),
        "footprint": {name: show(words) for name, words in found.footprint.items()},
        "ops": {name: show(number) for name, number in found.ops.items()},
        "alternatives": [
            {
                "name": one.name,
                "what": one.what,
                "rows": show(one.rows),
                "live": show(one.live),
                "traffic": show(one.traffic),
                "least": show(one.least),
                "reason": one.reason,
            }
            for one in found.alternatives
        ],
        "crossover": None
        if meeting is None
        else show(meeting)
        if found.sizes == {}
        else float(meeting),
        "cliffs": [{"words": show(cliff.words), "what": cliff.what} for cliff in found.cliffs],
    }
