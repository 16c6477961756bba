"""Ways to stream a cascade through a buffer of S words, and what each loads and stores.

All of them work on row blocks (`row_blocks`): P_0 rows at a time, as many as fit. They differ in
what becomes of an input that later passes need again:

- re-read: it is loaded again in each pass, for each block;
- keep: its image (the logits QK of the block) stays on chip, which leaves room for fewer rows;
- spill: its image is written once and loaded in each later pass;
- hold: all swept inputs stay on chip, whole, for all blocks.

`traffic` counts words in both directions; what is loaded once or written once is in it. Each is a
schedule that can be run, hence an upper bound on the least traffic; `traffic_bounds` bounds it
from below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_cascade.cascade import Cascade
from einsum_cascade.pass_analysis import PassReport
from einsum_cascade.rank_symbols import Size, buffer_name, exact, size_of, symbol
from einsum_cascade.row_blocks import RowBlocks, ranks_of, words_of

RE_READ, KEEP, SPILL, HOLD = "re-read", "keep", "spill", "hold"


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to stream: sizes are formulas, or exact numbers once sizes are known."""

    name: str
    # What happens, in a few words.
    what: str
    # Rows in a block as a formula in S: the largest that fit. Their symbol in the other two.
    rows: Size
    block: str
    # Words on chip, and words loaded and stored, for blocks of that many rows.
    live: Size
    traffic: Size
    # Words of the smallest block, and of a single block with all rows.
    least: Size
    most: Size
    # Why it can't be done in this buffer; empty if it can.
    reason: str = ""

    def at(self, values: Mapping[str, int], buffer: int) -> Alternative:
        """Compute it for sizes and a buffer in words; rows, live and traffic None if too small."""
        least = exact(self.least, values)
        most = exact(self.most, values)
        if least > buffer:
            reason = f"needs {least} words, the buffer has {buffer}"
            return replace(
                self, rows=None, live=None, traffic=None, least=least, most=most, reason=reason
            )
        rows = exact(self.rows, values)
        chosen = {**values, self.block: int(rows)}
        live, traffic = exact(self.live, chosen), exact(self.traffic, chosen)
        return replace(self, rows=rows, live=live, traffic=traffic, least=least, most=most)


def alternatives(
    cascade: Cascade, report: PassReport, blocks: RowBlocks
) -> tuple[Alternative, ...]:
    """List the ways to stream a cascade, as formulas in rank sizes, S and rows of a block."""
    import sympy

    again = [name for name, number in blocks.passes if number > 1]
    images = {name: image for name, image in blocks.images if image is not None}
    chosen = list(dict.fromkeys(images.values()))
    is_imaged = bool(again) and len(images) == len(again)
    names, kept = " and ".join(again), " and ".join(chosen)
    found = [
        _alternative(
            cascade,
            blocks,
            RE_READ,
            "inputs are loaded for every block" + (f", {names} in every pass" if again else ""),
            _sweeps(cascade, blocks, dict(blocks.passes)),
        )
    ]
    if is_imaged:
        once = {name: 1 if name in images else number for name, number in blocks.passes}
        room = sympy.Add(*(words_of(cascade, i, {*blocks.rows, *blocks.outer}) for i in chosen))
        spilled = sympy.Add(
            *(
                report.tensors[image] * words_of(cascade, image) * _missing(cascade, blocks, image)
                for image in chosen
            )
        )
        sweeps = _sweeps(cascade, blocks, once)
        what = f"{kept} of the block on chip; {names} loaded once a block"
        found.append(_alternative(cascade, blocks, KEEP, what, sweeps, per_row=room))
        what = f"{kept} written once, loaded in every later pass; {names} loaded once a block"
        found.append(_alternative(cascade, blocks, SPILL, what, sweeps + spilled))
    held = [(name, _fiber(cascade, blocks, name)) for name, _ in blocks.swept]
    of_rows = {name for name, _ in held if _has_rows(cascade, blocks, name)}
    found.append(
        _alternative(
            cascade,
            blocks,
            HOLD,
            " and ".join(name for name, _ in held) + " on chip for all blocks",
            sympy.Add(*(_once(cascade, blocks, name) for name, _ in held)),
            per_row=sympy.Add(*(words for name, words in held if name in of_rows)),
            position=sympy.Add(*(words for name, words in held if name not in of_rows)),
        )
    )
    return tuple(found)


def _alternative(
    cascade: Cascade,
    blocks: RowBlocks,
    name: str,
    what: str,
    sweeps: Size,
    *,
    per_row: Size = 0,
    position: Size | None = None,
) -> Alternative:
    """Put one together: state and position words give live words and rows; the rest is traffic."""
    import sympy

    all_rows = size_of(cascade, blocks.rows)
    rows = symbol(block_name(blocks))
    state = sympy.Add(*(words for _, words in blocks.state)) + per_row
    if position is None:
        position = sympy.Add(*(words for _, words in blocks.swept))
    fixed = sympy.Add(*(words for _, words in blocks.shared)) + position
    fitting: Size = sympy.Integer(1)
    if blocks.rows:
        room = symbol(buffer_name(cascade)) - fixed
        fitting = sympy.Min(all_rows, sympy.floor(room / state)) if state != 0 else all_rows
    else:
        fixed, state = fixed + state, 0
    traffic = sweeps + _others(cascade, blocks)
    return Alternative(
        name,
        what,
        fitting,
        rows.name,
        rows * state + fixed,
        traffic,
        state + fixed,
        all_rows * state + fixed,
    )


def block_name(blocks: RowBlocks) -> str:
    """Return the symbol of the rows in a block: P_0 for rows of P."""
    return f"{blocks.rows[0]}_0" if len(blocks.rows) == 1 else "rows_0"


def _has_rows(cascade: Cascade, blocks: RowBlocks, name: str) -> bool:
    return bool(blocks.rows) and {*blocks.rows} <= set(ranks_of(cascade, name))


def _missing(cascade: Cascade, blocks: RowBlocks, name: str) -> Size:
    """How many slices share a tensor, which each of them loads for itself."""
    carried = ranks_of(cascade, name)
    return size_of(cascade, [rank for rank in blocks.outer if rank not in carried])


def _once(cascade: Cascade, blocks: RowBlocks, name: str) -> Size:
    """Words to load a tensor once for each slice."""
    return words_of(cascade, name) * _missing(cascade, blocks, name)


def _sweeps(cascade: Cascade, blocks: RowBlocks, times: Mapping[str, int]) -> Size:
    """Words of the swept inputs; those without rows are loaded for every block."""
    import sympy

    total: Size = sympy.Integer(0)
    for name, number in times.items():
        words = number * _once(cascade, blocks, name)
        if blocks.rows and not _has_rows(cascade, blocks, name):
            rows = symbol(block_name(blocks))
            words *= sympy.ceiling(size_of(cascade, blocks.rows) / rows)
        total += words
    return total


def _others(cascade: Cascade, blocks: RowBlocks) -> Size:
    """Words of inputs that are not swept, each loaded once, and of outputs."""
    import sympy

    swept = dict(blocks.swept)
    shared = dict(blocks.shared)
    words = []
    for name in cascade.inputs:
        if name in swept:
            continue
        # What no slice has a part of stays on chip from the first to the last.
        stays = name in shared and not {*blocks.outer} & set(ranks_of(cascade, name))
        words.append(words_of(cascade, name) if stays else _once(cascade, blocks, name))
    for name in cascade.outputs:
        dims = cascade.tensor(name).dims
        extra = [d for d in dims if d.extra]
        plain = size_of(cascade, [d.rank for d in dims if d.rank and not d.extra])
        words.append(plain * sympy.Mul(*(symbol(d.rank or "") + d.extra for d in extra)))
    return sympy.Add(*words)


def _fiber(cascade: Cascade, blocks: RowBlocks, name: str) -> Size:
    return words_of(cascade, name, {*blocks.rows, *blocks.outer})


def crossover(cascade: Cascade, blocks: RowBlocks, found: tuple[Alternative, ...]) -> Size | None:
    """Return the extent of the rank below which keeping the image beats reading again.

    With blocks that fill the buffer and many of them, re-read moves a/P_0 with P_0 = S/s words a
    row, keep b/P_0 with P_0 = S/(s + i M), if the image takes i M words a row. Keeping pays while
    b (s + i M) < a s, that is for M < (a - b) s / (b i). None if there is nothing to keep, or if
    the image does not grow with the rank alone.
    """
    import sympy

    chosen = {image for _, image in blocks.images if image is not None}
    if KEEP not in {one.name for one in found} or not blocks.rows:
        return None
    extent = symbol(blocks.rank)
    image = sympy.Add(*(words_of(cascade, i, {*blocks.rows, *blocks.outer}) for i in chosen))
    slope = sympy.cancel(image / extent)
    swept = [name for name, _ in blocks.swept if not _has_rows(cascade, blocks, name)]
    each = {name: sympy.cancel(_once(cascade, blocks, name) / extent) for name in swept}
    images = dict(blocks.images)
    state = sympy.Add(*(words for _, words in blocks.state))
    again = sympy.Add(*(number * each[n] for n, number in blocks.passes if n in each))
    once = sympy.Add(
        *((1 if images.get(n) else number) * each[n] for n, number in blocks.passes if n in each)
    )
    growing = {extent, *(symbol(part) for part in cascade.parts_of(blocks.rank))}
    if any(growing & formula.free_symbols for formula in (slope, state, again, once)):
        return None
    return sympy.factor((again - once) * state / (once * slope))
