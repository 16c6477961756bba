"""Values put into a YAML document by path: `arch.array_2d.rows`, `mapping.order.array_1d`, ...

A path goes through the keys of the file. In an architecture the words `arrays.` and `memories.` may
be left out, and so may `.value` where the file gives a value with its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archsim.errors import ArchError
from archsim.sweeps.axes import Value
from einsum_cascade.documents import Document
from einsum_cascade.errors import Problem, Source, legal_words

# Sections of an architecture file whose entries a path may name at once.
SECTIONS = ("arrays", "memories")


def overridden(document: Document, changes: Mapping[str, Value], keys: tuple[str, ...]) -> Document:
    """A document with other values; `keys` are those that its kind of file may have.

    Raises:
        ArchError: a path through something that is no mapping, or that starts with no key.
    """
    data = document.data
    for path, value in changes.items():
        data = _put(data, _full(data, path.split("."), keys), path, value)
    return replace(document, data=data)


def whole_path(data: dict[str, Any], path: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    """A path with the section that it leaves out, and without the `.value` that it need not say.

    Raises:
        ArchError: it starts with no key.
    """
    parts = _full(data, path.split("."), keys)
    return tuple(parts[:-1] if parts[-1] == "value" else parts)


def _full(data: dict[str, Any], parts: list[str], keys: tuple[str, ...]) -> list[str]:
    """A path with the section that it leaves out."""
    if parts[0] in keys:
        return parts
    known = {name: section for section in SECTIONS for name in data.get(section) or ()}
    if parts[0] not in known:
        hint = legal_words(parts[0], [*known, *keys], "known here")
        name = data.get("name", "the file")
        raise ArchError(Problem(Source("path"), f"{name} has no '{parts[0]}'", hint=hint))
    return [known[parts[0]], *parts]


def _put(node: Any, parts: list[str], path: str, value: Value) -> Any:
    """A copy of a node with a value at a path; what is not on the way is shared."""
    if not parts:
        if isinstance(node, dict) and "value" in node and not isinstance(value, dict):
            return {"value": value, "source": "sweep", "status": "assumed"}
        return value
    first, rest = parts[0], parts[1:]
    if isinstance(node, list):
        if not first.isdigit() or int(first) >= len(node):
            what = f"'{first}' in {path} is no entry of a list of {len(node)}"
            raise ArchError(Problem(Source("path"), what, hint="entries count from 0"))
        index = int(first)
        return [*node[:index], _put(node[index], rest, path, value), *node[index + 1 :]]
    if node is not None and not isinstance(node, dict):
        hint = f"'{node}' stands there, which has no parts"
        raise ArchError(Problem(Source("path"), f"{path} goes on after a value", hint=hint))
    whole = dict(node or {})
    # YAML may have read a key as a number.
    key = next((known for known in whole if str(known) == first), first)
    whole[key] = _put(whole.get(key), rest, path, value)
    return whole
