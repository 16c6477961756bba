"""From the values of a point to what is evaluated: cascade, sizes, architecture and mapping.

Every input is the content of a YAML document with values put into it. A point's key is a digest of
that content and of the source of both packages, so that a result is never taken for that of other
inputs; points that differ only in the speed of the outer memory and the clock are of one family.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from archsim.arch import architecture_from, architecture_model, architectures_folder
from archsim.batches import Point
from archsim.errors import ArchError
from archsim.mapping import cascade_file, mapping_from, mappings_folder
from archsim.mapping_schema import mapping_model
from archsim.sweeps.axes import Value, cell
from archsim.sweeps.definition import KINDS, Sweep
from archsim.sweeps.overrides import overridden
from einsum_cascade.cascade import Workload, workload_from
from einsum_cascade.catalog import (
    cascade_from,
    cascade_model,
    find,
    folder,
    workload,
    workload_from_document,
    workload_model,
)
from einsum_cascade.documents import Document, read_document
from einsum_cascade.errors import CascadeError, Problem, Source

# Inputs that are kept for points to come.
KEPT = 2_000
# Cascade and mapping of a neighbourhood, if the sweep names none.
NEIGHBORHOOD = {"cascade": "softmax-1pass", "mapping": "gna"}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of input: its file's model, its shipped folder, and what is made of a document."""

    model: Callable[[], Any]
    folder: Callable[[], Path]
    make: Callable[[Document], Any]
    error: type[CascadeError] | type[ArchError]


KIND: dict[str, Kind] = {
    "cascade": Kind(
        cascade_model,
        lambda: folder("einsum_cascade.workloads", "cascades", CascadeError),
        cascade_from,
        CascadeError,
    ),
    "model": Kind(
        workload_model,
        lambda: folder("einsum_cascade.workloads", "models", CascadeError),
        lambda document: workload_from_document(document, {}),
        CascadeError,
    ),
    "arch": Kind(architecture_model, architectures_folder, architecture_from, ArchError),
    "mapping": Kind(mapping_model, mappings_folder, mapping_from, ArchError),
}


def field_names(kind: str) -> tuple[str, ...]:
    """Keys that a file of a kind may have."""
    return tuple(KIND[kind].model().model_fields)


@dataclass(frozen=True, slots=True)
class Bases:
    """The documents that a sweep's points start from, and what all points have in common."""

    documents: dict[tuple[str, str], Document]
    level: str
    accounting: str


def bases(sweep: Sweep) -> Bases:
    """Read the documents of a sweep, as they are before values are put in.

    Raises:
        ArchError: one is missing or not legal: its place in the sweep, and in its file.
    """
    documents: dict[tuple[str, str], Document] = {}
    problems: list[Problem] = []
    for kind, name, place in named_in(sweep):
        if (kind, name) == ("mapping", "search"):
            what = "searching for a mapping comes later"
            hint = "name a mapping, or vary several: mapping: [fusemax-arch, fusemax]"
            problems.append(sweep.document.problem(place, what, hint))
            continue
        try:
            documents[kind, str(name)] = _read(sweep, kind, str(name))
            KIND[kind].make(documents[kind, str(name)])
        except (ArchError, CascadeError) as error:
            first = error.problems[0]
            hint = first.hint if first.source.line == 0 else str(first)
            problems.append(sweep.document.problem(place, first.message, hint))
    if problems:
        raise ArchError(problems)
    return Bases(documents, sweep.level, sweep.accounting)


def _read(sweep: Sweep, kind: str, name: str) -> Document:
    """Read a file by shipped name, or by path as seen from the sweep's folder or from here."""
    what, error = KIND[kind], KIND[kind].error
    beside = Path(sweep.document.file).parent / name
    if beside.suffix in (".yaml", ".yml") and beside.is_file():
        return read_document(beside, error)
    noun = "architecture" if kind == "arch" else kind
    return read_document(find(name, what.folder(), noun, error), error)


def named_in(sweep: Sweep) -> Iterable[tuple[str, Value, tuple[str | int, ...]]]:
    """Kind, name and place of every cascade, model, architecture and mapping that is named."""
    fixed = dict(sweep.fixed)
    if "neighborhood.shape" in fixed:
        for kind, name in NEIGHBORHOOD.items():
            if kind not in fixed and kind not in sweep.varied:
                yield kind, name, ()
    for kind in KINDS:
        if kind in fixed:
            yield kind, fixed[kind], (kind,)
    for axis in sweep.axes:
        for position, path in enumerate(axis.paths):
            for index, value in enumerate(axis.values):
                if path in KINDS:
                    inner = (position,) if len(axis.paths) > 1 else ()
                    at: tuple[str | int, ...] = (*axis.key, index, *inner)
                    yield path, value[position], at


@dataclass
class Inputs:
    """Makes points of values; what points share is made once."""

    bases: Bases
    made: dict[str, Any] = field(default_factory=dict)
    # Documents with values put in, and their digests, by kind, name and values.
    documents: dict[tuple[str, str, str], tuple[Document, str]] = field(default_factory=dict)

    # By the digest of an architecture, that of what is left without its speed.
    slow: dict[str, str] = field(default_factory=dict)

    def make_room(self) -> None:
        """Forget all that was made before it gets too much: architectures, mostly."""
        if max(len(self.made), len(self.documents)) > KEPT:
            self.made.clear()
            self.documents.clear()
            self.slow.clear()

    def named(self, values: Mapping[str, Value], kind: str) -> tuple[Document, str] | None:
        """The document of a kind with the values of a point put in, and its digest."""
        name = values.get(kind)
        if name is None and "neighborhood.shape" in values:
            name = NEIGHBORHOOD.get(kind)
        if name is None:
            return None
        changes = {short: values[path] for path, short in _inside(kind, tuple(values))}
        known = (kind, str(name), repr(changes))
        if known not in self.documents:
            base = self.bases.documents[kind, str(name)]
            document = overridden(base, changes, field_names(kind))
            self.documents[known] = document, digest([document.data, *_beyond(kind, document)])
        return self.documents[known]

    def key(self, values: Mapping[str, Value]) -> str:
        """What tells a point apart: the content of its inputs and of its cells, and the version."""
        found = [self.named(values, kind) for kind in KINDS]
        cells = sorted((path, cell(value)) for path, value in values.items())
        parts = [named and named[1] for named in found]
        return _short(repr((parts, cells, self.bases.level, self.bases.accounting, version())))

    def family(self, values: Mapping[str, Value]) -> str:
        """The same for points of which one costs little once another is known."""
        found = {kind: self.named(values, kind) for kind in KINDS}
        hardware = found.pop("arch")
        assert hardware is not None
        if hardware[1] not in self.slow:
            self.slow[hardware[1]] = digest(_without_speed(hardware[0].data))
        paths = tuple(values)
        sections = ("sizes", "neighborhood", "numbers")
        rest = {path: values[path] for head in sections for path, _ in _inside(head, paths)}
        parts = [named and named[1] for named in found.values()]
        return repr((parts, rest, self.slow[hardware[1]]))

    def point(self, values: Mapping[str, Value]) -> Point:
        """The inputs of a point; CascadeError or ArchError where a value is not legal."""
        cascade, chip, mapping = (self.made_of(values, k) for k in ("cascade", "arch", "mapping"))
        return Point(cascade, self.workload(values), chip, mapping)

    def workload(self, values: Mapping[str, Value]) -> Workload:
        """The sizes of a point."""
        sizes = sizes_of(values)
        if self.named(values, "model") is None:
            return workload(None, **sizes)
        model = self.made_of(values, "model")
        return workload_from(model.name, {**dict(model.sizes), **sizes}, model.title)

    def made_of(self, values: Mapping[str, Value], kind: str) -> Any:
        """The cascade, architecture or mapping of a point, made once for each content."""
        named = self.named(values, kind)
        if named is None:
            what = f"{kind} is missing"
            raise ArchError(Problem(Source("sweep"), what, hint=f"name a {kind}"))
        document, content = named
        if content not in self.made:
            self.made[content] = KIND[kind].make(document)
        return self.made[content]


@lru_cache(maxsize=256)
def _inside(head: str, paths: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Those of some paths that start with a word, and what follows it: all points have the same."""
    start = head + "."
    return tuple((path, path.removeprefix(start)) for path in paths if path.startswith(start))


def _beyond(kind: str, document: Document) -> Iterator[str]:
    """What a document takes from another file: a mapping says of which cascade it speaks."""
    spoken_of = cascade_file(document) if kind == "mapping" else None
    if spoken_of is not None:
        yield spoken_of.read_text("utf-8")


def sizes_of(values: Mapping[str, Value]) -> dict[str, int]:
    """Sizes of ranks among the values of a point; CascadeError for what is none."""
    found = {}
    for path, rank in _inside("sizes", tuple(values)):
        value = values[path]
        if not isinstance(value, int) or value < 1 or not rank[:1].isupper():
            hint = "sizes.M: [1024, 4096], positive whole numbers for a rank in capitals"
            what = f"{rank}: {value} is no size"
            raise CascadeError(Problem(Source("sizes"), what, hint=hint))
        found[rank] = value
    return found


def _without_speed(data: dict[str, Any]) -> dict[str, Any]:
    """An architecture's content but for what `batches.without_speed` leaves out."""
    memories = {
        name: entry if entry.get("parent") else {**entry, "bandwidth": None, "latency": None}
        for name, entry in (data.get("memories") or {}).items()
        if isinstance(entry, dict)
    }
    return {**data, "clock": None, "memories": memories}


def digest(content: Any) -> str:
    """A short name for content."""
    return _short(json.dumps(content, sort_keys=True, default=str))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def version() -> str:
    """The version of both packages, down to their source."""
    import einsum_cascade

    found = hashlib.sha256(einsum_cascade.__version__.encode())
    for package in ("einsum_cascade", "archsim"):
        root = Path(str(resources.files(package)))
        for path in sorted(root.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]
