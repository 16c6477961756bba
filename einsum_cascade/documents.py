"""YAML files that remember where everything stands, checked against a pydantic model.

`read_document` gives plain data plus the place of every key and value; `validate` turns what
pydantic says about the data into Problems with line, column and a suggestion. Both packages read
all of their files through here. Duplicate keys, which YAML drops silently, are problems.

Decision: PyYAML's node graph (`compose`) has the marks and its safe constructor the values, so no
other parser is needed; libyaml's scanner is used where PyYAML was built with it, for speed.
"""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from yaml.reader import Reader

from einsum_cascade.errors import Problem, Source, SourceError, legal_words

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

# Values whose places are kept although they are repeats through an alias: repeats multiply.
MAX_ALIASED = 10_000
Path_ = tuple[str | int, ...]
Model = TypeVar("Model", bound="BaseModel")


@dataclass(frozen=True, slots=True)
class Mark:
    """Place and width of one node in a file; 1-based line and column."""

    line: int
    column: int
    width: int


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML mapping, its file name and lines, and the marks of its keys and values."""

    file: str
    data: dict[str, Any]
    lines: tuple[str, ...]
    values: dict[Path_, Mark]
    keys: dict[Path_, Mark]

    def problem(
        self, path: Path_, message: str, hint: str = "", *, at_key: bool = False
    ) -> Problem:
        """Make a Problem at a path, or at its nearest parent that is written in the file."""
        marks = self.keys if at_key else self.values
        for end in range(len(path), -1, -1):
            # Keys are known by their text; YAML may have read a number.
            written = tuple(str(part) for part in path[:end])
            known = (
                place.get(key) for place in (marks, self.values) for key in (path[:end], written)
            )
            mark = next((one for one in known if one is not None), None)
            if mark is not None:
                text = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
                place = Source(self.file, mark.line, mark.column)
                return Problem(place, message, text, mark.width, hint)
        return Problem(Source(self.file, 1, 1), message, "", 1, hint)

    def place(self, *path: str | int) -> Source:
        """Return the place of a value, or of its nearest parent that is written."""
        return self.problem(path, "").source


def read_document(path: Path, error: type[SourceError]) -> Document:
    """Read a YAML file that holds one mapping; raises `error` with places if it does not."""
    try:
        raw = path.read_bytes()
        # Windows line ends and the mark that some editors put first are as good as none.
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as reason:
        what = f"cannot read the file: {reason.strerror}"
        hint = "give the path of a YAML file that you may read"
        raise error(Problem(Source(str(path)), what, hint=hint)) from None
    except UnicodeDecodeError as reason:
        before = reason.object[: reason.start].decode(errors="replace").split("\n")
        place = Source(str(path), len(before), len(before[-1]) + 1)
        what = f"not UTF-8 text (byte 0x{reason.object[reason.start]:02x})"
        hint = "save the file in the encoding UTF-8"
        raise error(Problem(place, what, before[-1], hint=hint)) from None
    return read_text(text, str(path), error)


def read_text(text: str, file: str, error: type[SourceError]) -> Document:
    """Read YAML text that holds one mapping, as `read_document` does."""
    lines = tuple(text.splitlines())
    values: dict[Path_, Mark] = {}
    keys: dict[Path_, Mark] = {}
    problems: list[Problem] = []
    seen: set[int] = set()
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    illegal = Reader.NON_PRINTABLE.search(text)
    if illegal:
        before = text[: illegal.start()].splitlines() or [""]
        place = Source(file, len(before), len(before[-1]) + 1)
        what = f"illegal character U+{ord(illegal[0]):04X}"
        hint = "a YAML file holds printable text, blanks, tabs and line ends only"
        raise error(Problem(place, what, lines[len(before) - 1], hint=hint))

    def mark(node: yaml.Node) -> Mark:
        start, end = node.start_mark, node.end_mark
        one_line = end.line == start.line
        width = end.column - start.column if one_line else len(lines[start.line]) - start.column
        return Mark(start.line + 1, start.column + 1, max(1, width))

    def check(node: yaml.Node) -> None:
        """Note a scalar that YAML cannot turn into a value, such as a date of month 13."""
        try:
            if isinstance(node, yaml.ScalarNode):
                loader.construct_object(node)
        except (ValueError, LookupError) as reason:
            place = mark(node)
            what = f"'{node.value}' is no legal value: {reason}"
            hint = "text that looks like a date or a number needs quotes"
            where = Source(file, place.line, place.column)
            problems.append(Problem(where, what, lines[place.line - 1], place.width, hint))

    def collect(node: yaml.Node, path: Path_) -> None:
        values[path] = mark(node)
        if id(node) in seen and len(values) > MAX_ALIASED:
            return
        seen.add(id(node))
        check(node)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                collect(item, (*path, index))
        if not isinstance(node, yaml.MappingNode):
            return
        for key_node, value_node in node.value:
            check(key_node)
            child = (*path, str(key_node.value))
            if child in keys:
                place = mark(key_node)
                what = f"the key '{key_node.value}' is repeated"
                where = Source(file, place.line, place.column)
                earlier = f"it stands in line {keys[child].line} already"
                problems.append(Problem(where, what, lines[place.line - 1], place.width, earlier))
            keys[child] = mark(key_node)
            collect(value_node, child)

    try:
        loader = base(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                hint = "a file starts for example with: name: mine"
                first = lines[0] if lines else ""
                what = "the file must hold keys and values"
                raise error(Problem(Source(file, 1, 1), what, first, max(1, len(first)), hint))
            collect(node, ())
            if problems:
                raise error(problems)
            data = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as reason:
        raise error(_complaint(reason, file, lines)) from None
    except SourceError:
        raise
    except RecursionError:
        hint = "no more than a few levels are needed; an alias may not refer to itself"
        what = "the file is nested too deeply"
        raise error(Problem(Source(file, 1, 1), what, lines[0], hint=hint)) from None
    return Document(file, data, lines, values, keys)


def _complaint(reason: yaml.MarkedYAMLError, file: str, lines: tuple[str, ...]) -> Problem:
    """What the YAML parser says, placed where the mistake is rather than where it shows."""
    at = reason.problem_mark or reason.context_mark
    context, what = reason.context or "", reason.problem or reason.context or ""
    opened = {
        "while scanning a quoted": "the closing quote is missing",
        "while scanning a simple key": "a line reads 'key: value'",
        "while parsing a flow": "a comma or the closing bracket is missing",
    }
    unclosed = next((hint for start, hint in opened.items() if context.startswith(start)), "")
    if unclosed and reason.context_mark:
        at = reason.context_mark
    line, column = (at.line, at.column) if at else (0, 0)
    text = lines[line] if line < len(lines) else ""
    special = {
        "tab character": "indent with blanks",
        "another document": "one file holds one document, without '---' inside",
        "alias": "*name stands for what &name marks before it; text with * in front needs quotes",
        "the tag": "leave out the tag: values are plain text, numbers, lists and mappings",
    }
    hint = next((hint for word, hint in special.items() if word in what), unclosed)
    hint = hint or "a line reads 'key: value'; a value with ': ' or ' #' in it needs quotes"
    what = what.removeprefix("but ")
    return Problem(Source(file, line + 1, column + 1), f"not YAML: {what}", text, 1, hint)


def validate(document: Document, model: type[Model], error: type[SourceError]) -> Model:
    """Check a document against a pydantic model; raises `error` with a Problem for each finding."""
    from pydantic import ValidationError

    try:
        return model.model_validate(document.data)
    except ValidationError as found:
        details = found.errors(include_url=False)
        raise error([_problem(document, model, detail) for detail in details]) from None


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    path = _written(document, tuple(detail["loc"]))
    last = str(path[-1]) if path else ""
    fields = _fields(model, path[:-1])
    legal = [field.alias or name for name, field in fields.items()]
    kind = detail["type"]
    if kind == "invalid_key":
        name = str(path[-2] if last == "[key]" else path[-1])
        hint = f'a key is a word; a number in its place needs quotes: "{name}"'
        place = path[:-1] if last == "[key]" else path
        return document.problem(place, f"the key {name} is not a word", hint, at_key=True)
    if kind == "extra_forbidden":
        hint = legal_words(last, legal, "known keys")
        return document.problem(path, f"unknown key '{last}'", hint, at_key=True)
    if kind == "missing":
        needed = [f.alias or name for name, f in fields.items() if f.is_required()]
        hint = "required here: " + ", ".join(needed)
        return document.problem(path[:-1], f"the key '{last}' is missing", hint)
    message = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
    where = ".".join(str(part) for part in path)
    # The nearest key that the model describes says what is meant.
    described = ""
    for end in range(1, len(path) + 1):
        field = _fields(model, path[: end - 1]).get(str(path[end - 1]))
        if field is not None and field.description:
            described = f"{path[end - 1]}: {field.description}"
    return document.problem(path, f"{where}: {message[:1].lower()}{message[1:]}{shown}", described)


def _written(document: Document, path: Path_) -> Path_:
    """A path without names of alternatives, which pydantic puts in and no file holds."""
    found: Path_ = ()
    for part in path[:-1]:
        if (*found, part) in document.values or (*found, str(part)) in document.values:
            found = (*found, part)
    return (*found, *path[-1:])


def _fields(model: type[BaseModel], path: Path_) -> dict[str, FieldInfo]:
    """Fields of the model that stands at a path inside another model."""
    from pydantic import BaseModel as Base

    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, Base):
            found = current.model_fields.get(str(part))
            current = found.annotation if found else None
        else:
            # A dict or a tuple: its last type argument is what it holds.
            arguments = [a for a in typing.get_args(current) if a is not Ellipsis]
            current = arguments[-1] if arguments else None
        current = _model_in(current)
    if isinstance(current, type) and issubclass(current, Base):
        return dict(current.model_fields)
    return {}


def _model_in(annotation: Any) -> Any:
    """Strip None and Annotated from an annotation such as `Buffer | None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _model_in(typing.get_args(annotation)[0])
    if origin in (dict, tuple, list) or origin is None:
        return annotation
    arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
    return _model_in(arguments[0]) if arguments else annotation


def block_place(document: Document, key: str) -> tuple[int, int]:
    """Return (line, indent) of the first line of a block text `key: |`; 1-based line."""
    mark = document.values[(key,)]
    header = document.lines[mark.line - 1][mark.column - 1 :]
    # An anchor or a tag may stand before the bar, an indentation behind it.
    block = re.match(r"(?:[&!]\S*\s+)*[|>][-+]?([1-9])?", header)
    if not block:
        return mark.line, mark.column - 1 + header.startswith(("'", '"'))
    body = document.lines[mark.line :]
    indent = next((len(line) - len(line.lstrip(" ")) for line in body if line.strip()), 0)
    # Keys of the file itself are not indented, so the number counts from the margin.
    indent = int(block[1]) if block[1] else indent
    return mark.line + 1, indent
