"""What a Program is made of: operands, steps, tasks, registers and moves."""

from __future__ import annotations

from dataclasses import dataclass

from einsum_cascade.expressions import Access

# Where a micro-op finds an operand. Edges: words that arrive from the left (one for each row) or
# from the top (one for each column); flow: the value that comes down a column; landing and
# returned: FIFOs between array and lanes.
SOURCES = (
    "constant",
    "temporary",
    "accumulator",
    "register",
    "left",
    "top",
    "flow",
    "landing",
    "returned",
)

# What PEs and lanes can compute; pe_operators numbers them in this order.
FUNCTIONS = (
    "mac", "add", "sub", "mul", "div", "max", "min", "exp", "copy", "neg", "log", "sqrt", "abs",
    "relu", "sigmoid", "tanh", "cos", "sin", "phi", "step", "pow", "floordiv", "drain", "load",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operand:
    """What one micro-op reads: `name` is a tensor, `number` a constant or a temporary's index."""

    source: str
    name: str = ""
    number: float = 0.0
    # For data from the edges: the element, in variables of the tile.
    access: Access | None = None
    # Loop variable -> how far back the tile lies that made the value, and its value before the
    # first one.
    back: tuple[tuple[str, int], ...] = ()
    initial: float | None = None

    def __str__(self) -> str:
        """Print as assembly."""
        if self.source == "constant":
            return f"{self.number:g}"
        if self.source == "temporary":
            return f"t{int(self.number)}"
        if self.source in ("accumulator", "flow"):
            return {"accumulator": "acc", "flow": "above"}[self.source]
        if self.source in ("left", "top"):
            return f"{self.access}@{self.source}"
        back = "".join(f"[{loop}-{steps}]" for loop, steps in self.back)
        return f"{self.name}{back}" + ("" if self.source == "register" else f"@{self.source}")


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a task: the row of the array's table that executes it, and its operands."""

    operator: str
    function: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What a unit does for one Einsum in one tile.

    `kind` is "accumulate" (into a register of each PE), "reduce" (down the rows), "map" (in
    place), "load" (rows take words from the top), "drain" (rows give words to the lanes) or "lane".
    """

    name: str
    unit: str
    kind: str
    text: str
    # Variables it runs through inside a tile, outermost first.
    words: tuple[str, ...]
    steps: tuple[Step, ...]
    # Tensor it makes, and where that goes: "register", "landing" or "output".
    tensor: str
    goes: str
    is_returned: bool = False
    # Neutral element of its reduction; None if it reduces nothing.
    identity: float | None = None
    # Loop variables of which it acts on the first or last tile only.
    when: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Register:
    """Registers of each PE or lane for a tensor: index = tile mod depth, then the word."""

    tensor: str
    unit: str
    words: int
    depth: int


@dataclass(frozen=True, slots=True)
class Move:
    """What crosses the outer memory's boundary, one granule of a tensor at a time.

    A granule is what one tile of the tensor holds; `loops` are the loops of the nest whose
    coordinates name it. It is fetched for the first tile that needs it, or stored behind the last
    tile that makes it, `lag` epochs later; the order of all moves is that of their epochs. The
    buffer holds `entries` granules: the next one may come when the oldest has been read, or may be
    made when the oldest has been stored.
    """

    kind: str
    tensor: str
    loops: tuple[str, ...]
    # Further variables of the tensor inside a granule.
    words: tuple[str, ...]
    entries: int
    lag: int
    # Tasks that read a fetched granule, or the one that makes a stored one.
    tasks: tuple[str, ...]
    # The task of the array that waits for room for a stored granule; lanes never wait for memory.
    gate: str = ""

    @property
    def name(self) -> str:
        """As assembly calls it."""
        return f"{self.tensor}.{self.kind}"
