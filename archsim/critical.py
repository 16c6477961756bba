"""What a run's length is made of: its critical circuit, and what would shorten it.

From the last result backwards, every micro-op was issued when it was because of one other: the one
before it in its unit, or the one it waited for. That chain adds up to the cycles. What would help
is measured: the same program is run again with one figure of the architecture improved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from archsim.arch import Architecture, Array, Memory, OperatorCost
from archsim.errors import ArchError
from archsim.program import Program
from archsim.slots import Run, execute

# Programs with more micro-ops than this are not run again for every improvement.
LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Link:
    """One stretch of the chain: micro-ops of a task one after the other, then a wait."""

    task: str
    tile: int
    # Slots of issuing it back to back.
    slots: int
    # Why the next stretch started when it did, and the slots that took: "" and 0 at the end.
    cause: str
    delay: int


@dataclass(frozen=True)
class Explanation:
    """The chain from the first issue to the last result, and what would help."""

    program: Program
    cycles: int
    chain: tuple[Link, ...]
    # Cycles from the first issue at column 0 to the last result in the last column.
    skew: int
    # The part of the chain that repeats in the steady state, and tiles it advances by.
    circuit: tuple[Link, ...]
    tiles: int
    # (what, cycles with it), best first; None if the program is too long to be run again.
    improvements: tuple[tuple[str, int], ...] | None

    def __str__(self) -> str:
        """Print the chain by reason, the circuit, and the improvements."""
        lines = [f"{self.program.name}: {self.cycles} cycles, of which on the critical chain:"]
        for reason, slots in by_reason(self.chain).items():
            lines.append(f"  {slots:8} {slots / self.cycles:6.1%}  {reason}")
        lines.append(
            f"  {self.skew:8} {self.skew / self.cycles:6.1%}  crossing the columns at the end"
        )
        if self.circuit:
            period = sum(link.slots + link.delay for link in self.circuit)
            lines.append(f"critical circuit: {period} slots for {self.tiles} tile(s)")
            for reason, slots in by_reason(self.circuit).items():
                lines.append(f"  {slots:8} {slots / period:6.1%}  {reason}")
        if self.improvements is None:
            lines.append("too long to try improvements; take fewer heads or shorter ranks")
        elif self.improvements:
            lines.append("what would help, each alone:")
            for what, cycles in self.improvements:
                lines.append(f"  {cycles:8} cycles ({cycles - self.cycles:+})  {what}")
        else:
            lines.append(
                "no single latency or operator would make it faster; the order would have to"
            )
        return "\n".join(lines)


def by_reason(links: tuple[Link, ...]) -> dict[str, int]:
    """Slots by what they were spent on, most first; a whole chain and the skew are the cycles."""
    found: dict[str, int] = {}
    for link in links:
        key = f"issuing {link.task}"
        found[key] = found.get(key, 0) + link.slots
        if link.delay:
            key = f"{link.task} to its reader ({link.cause})"
            found[key] = found.get(key, 0) + link.delay
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def explain(program: Program) -> Explanation:
    """Find the critical chain of a program; ArchError as for `slots.simulate`."""
    run = execute(program)
    run.occupancy()
    chain, skew = _chain(run)
    circuit, tiles = _circuit(chain)
    count = sum(len(issues) for issues in run.issued.values())
    improvements = None
    if count <= LIMIT:
        found = []
        for what, architecture in _improved(program):
            placed = replace(program.placed, architecture=architecture)
            try:
                better = execute(replace(program, placed=placed))
                better.occupancy()
            except ArchError:
                continue
            if better.cycles < run.cycles:
                found.append((what, better.cycles))
        improvements = tuple(sorted(found, key=lambda item: item[1]))
    return Explanation(program, run.cycles, chain, skew, circuit, tiles, improvements)


def _chain(run: Run) -> tuple[tuple[Link, ...], int]:
    """The links from first to last, and what remains of the cycles after the last issue."""
    place = {}
    last, end = None, 0
    for unit, issues in run.issued.items():
        for i, issue in enumerate(issues):
            place[issue.op.task.name, issue.op.tile.index, issue.op.slot] = (unit, i)
            ready = run.finish(issue)
            if ready > end:
                end, last = ready, (unit, i)
    links: list[Link] = []
    cause, delay, slots = "", 0, 0
    assert last is not None
    unit, i = last
    after = run.cycles - run.issued[unit][i].at
    while True:
        issue = run.issued[unit][i]
        task, tile = issue.op.task.name, issue.op.tile.index
        slots += 1
        wait = issue.wait
        if wait is None and i and _key(run, unit, i - 1) == (task, tile):
            i -= 1
            continue
        # Before a stretch: the unit's order, or a wait. Its delay includes the producer's slot.
        links.append(Link(task, tile, slots, cause, delay))
        if wait is None and not i:
            break
        slots = 0
        if wait is None:
            cause, delay, i = "", 0, i - 1
        elif wait.cause in ("memory", "store"):
            # What the channel did before is not followed: it is all time spent on memory.
            links.append(Link(wait.task, wait.tile, 0, wait.cause, issue.at - 1))
            break
        else:
            unit, i = place[wait.task, wait.tile, wait.slot]
            cause, delay = wait.cause, wait.delay - 1
    return tuple(reversed(links)), after


def _key(run: Run, unit: str, i: int) -> tuple[str, int]:
    op = run.issued[unit][i].op
    return op.task.name, op.tile.index


def _circuit(chain: tuple[Link, ...]) -> tuple[tuple[Link, ...], int]:
    """The shortest stretch that repeats around the middle of the chain, some tiles on each time."""
    middle = len(chain) // 2
    for length in range(1, middle // 2 + 1):
        first, second = chain[middle - length : middle], chain[middle : middle + length]
        shift = {b.tile - a.tile for a, b in zip(first, second, strict=False)}
        same = all(
            (a.task, a.slots, a.cause, a.delay) == (b.task, b.slots, b.cause, b.delay)
            for a, b in zip(first, second, strict=False)
        )
        if len(first) == len(second) and same and len(shift) == 1 and min(shift) > 0:
            return first, min(shift)
    return (), 0


def _improved(program: Program) -> Iterator[tuple[str, Architecture]]:
    """Architectures with one figure improved, among those that the program uses."""
    architecture = program.architecture
    latency = architecture.latency
    if latency.return_registers:
        better = replace(latency, return_registers=0)
        yield "no return registers", replace(architecture, latency=better)
    if latency.accumulate > 1:
        better = replace(latency, accumulate=1)
        yield "an accumulator loop of 1 cycle", replace(architecture, latency=better)
    outer = architecture.outer
    assert outer.bandwidth_bytes_per_s is not None
    better_memory = replace(outer, bandwidth_bytes_per_s=2 * outer.bandwidth_bytes_per_s)
    yield f"{outer.name} with twice the bandwidth", _with_memory(architecture, better_memory)
    if outer.latency_ns:
        better_memory = replace(outer, latency_ns=0)
        yield f"{outer.name} without latency", _with_memory(architecture, better_memory)
    used = {(task.unit, step.operator) for task in program.tasks for step in task.steps}
    for array in architecture.arrays:
        for row in array.operators:
            if (array.name, row.operator) not in used:
                continue
            if row.latency_cycles > row.slots:
                quick = replace(row, latency_cycles=row.slots)
                yield (
                    f"{row.operator} of {array.name} in 1 cycle a slot",
                    _with(architecture, array, row.operator, quick),
                )
            if row.slots > 1:
                quick = replace(row, slots=1, latency_cycles=row.latency_cycles // row.slots)
                yield (
                    f"{row.operator} of {array.name} in 1 slot instead of {row.slots}",
                    _with(architecture, array, row.operator, quick),
                )


def _with_memory(architecture: Architecture, memory: Memory) -> Architecture:
    memories = (memory if old.name == memory.name else old for old in architecture.memories)
    return replace(architecture, memories=tuple(memories))


def _with(
    architecture: Architecture, array: Array, operator: str, row: OperatorCost
) -> Architecture:
    rows = tuple(row if old.operator == operator else old for old in array.operators)
    changed = replace(array, operators=rows)
    arrays = tuple(changed if old.name == array.name else old for old in architecture.arrays)
    return replace(architecture, arrays=arrays)
