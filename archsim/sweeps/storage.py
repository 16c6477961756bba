"""Results of a sweep in a folder: one line of JSON for each point, written as it is found.

`results.jsonl` grows by whole lines, each on disk before the next chunk is taken up, so that a run
that is killed loses only what was not finished. At the end it is written anew in the order of the
points, with `results.csv` beside it. Lines of an earlier sweep in the same folder that are no
points of this one move to `stale.jsonl`. Files that no sweep wrote are never written over, and two
sweeps never write to one folder at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchError
from archsim.sweeps.definition import Sweep
from einsum_cascade.errors import Problem, Source

if TYPE_CHECKING:
    import pandas as pd

RESULTS, TABLE, STALE, COPY = "results.jsonl", "results.csv", "stale.jsonl", "sweep.yaml"


class Store:
    """Lines by key, and what they say, in a folder or, without one, in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.lines: dict[str, str] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self._file: Any = None

    def open(self, sweep: Sweep, resume: bool) -> None:
        """Make the folder and read what an earlier run left; ArchError if that must not be."""
        if self.folder is None:
            return
        path = self.folder / RESULTS
        if path.exists() and not resume:
            hint = "add --resume to go on with it, or name another folder"
            raise ArchError(
                Problem(Source(str(self.folder)), "results of a sweep lie there already", hint=hint)
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise ArchError(Problem(Source(str(self.folder)), "this is no folder"))
        self.folder.mkdir(parents=True, exist_ok=True)
        given, copy = Path(sweep.document.file), self.folder / COPY
        own = copy.exists() and given.resolve() == copy.resolve()
        if not path.exists():
            for foreign in (self.folder / TABLE, *(() if own else (copy,))):
                if foreign.exists():
                    what = "this would be written over, and no results lie beside it"
                    raise ArchError(Problem(Source(str(foreign)), what, hint="name another folder"))
        self._file = path.open("a", encoding="utf-8")
        if not _locked(self._file):
            what, hint = "another sweep is writing here", "wait for it, or name another folder"
            raise ArchError(Problem(Source(str(self.folder)), what, hint=hint))
        self._take_over(path)
        if given.is_file() and not own:
            shutil.copyfile(given, copy)

    def _take_over(self, path: Path) -> None:
        """Read lines; cut off one that was being written when its run was killed."""
        for text, row in _lines(path):
            self.lines[row["key"]], self.rows[row["key"]] = text, row
        raw = path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            with path.open("r+b") as file:
                file.truncate(whole)

    def add(self, found: Iterable[tuple[str, str]]) -> int:
        """Keep new lines, each once, and return how many were new.

        Raises:
            ArchError: they can't be written.
        """
        new = {key: text for key, text in found if key not in self.lines}
        self.lines |= new
        if self._file is not None and new:
            try:
                self._file.write("".join(f"{text}\n" for text in new.values()))
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                hint = "what was written before is kept: make room, then --resume goes on"
                where = Source(self._file.name)
                raise ArchError(Problem(where, str(error.strerror), hint=hint)) from None
        # Others are at work meanwhile.
        self.rows |= {key: json.loads(text) for key, text in new.items()}
        return len(new)

    def close(self) -> None:
        """Let go of the file; what was added stays."""
        if self._file is not None:
            # Only what could not be written, and was complained of, may still wait in the buffer.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def finish(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of a finished sweep, in order; its files are written anew."""
        rows = [self.rows[key] for key in keys]
        if self.folder is not None:
            mine = set(keys)
            stale = [text for key, text in self.lines.items() if key not in mine]
            if stale:
                with (self.folder / STALE).open("a", encoding="utf-8") as file:
                    file.write("".join(f"{text}\n" for text in stale))
            _replace(self.folder / RESULTS, "".join(f"{self.lines[key]}\n" for key in keys))
            _replace(self.folder / TABLE, _csv(rows))
        return rows


def _locked(file: Any) -> bool:
    """Keep other sweeps off a file until it is closed; False if one keeps this one off."""
    try:
        import fcntl
    except ImportError:  # There is no such lock on Windows.
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # A file system without locks.
        return True
    return True


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole lines of a file of results, as text and as rows.

    Raises:
        ArchError: a line is none of results.
    """
    raw = path.read_bytes()
    for number, one in enumerate(raw[: raw.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        text = one.decode(errors="replace")
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not all(
            isinstance(row.get(name), str) for name in ("key", "error")
        ):
            what = "this is no line of results"
            hint = f"a line of {RESULTS} has a key and an error, if only an empty one"
            raise ArchError(Problem(Source(str(path), number, 1), what, text, hint=hint))
        yield text, row


def _replace(path: Path, text: str) -> None:
    """Write a file so that there is the old one or the new one, never half of it."""
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def columns(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Names of all columns, in order of their first row; `error` comes last."""
    names: dict[str, None] = {}
    for row in rows:
        # Most rows have the columns of those before.
        if not row.keys() <= names.keys():
            names |= dict.fromkeys(row)
    names.pop("error", None)
    return [*names, "error"]


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer, names = csv.writer(text, lineterminator="\n"), columns(rows)
    writer.writerow(names)
    writer.writerows([row.get(name) for name in names] for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a folder of results, or of its file.

    Raises:
        ArchError: there are none, or the file is not one of results.
    """
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        hint = "`archsim sweep SWEEP -o DIR` writes them"
        raise ArchError(Problem(Source(str(file)), "there are no results here", hint=hint))
    return [row for _, row in _lines(file)]


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a pandas table."""
    import pandas as pd

    return pd.DataFrame(rows, columns=columns(rows))


def need_parquet() -> None:
    """ArchError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        hint = "pip install 'einsum-archsim[report]'; results.csv holds the same"
        what = "Parquet needs pyarrow, which is not installed"
        raise ArchError(Problem(Source("--parquet"), what, hint=hint)) from None


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as a Parquet file; a column of numbers and text, which it has not, is all text."""
    found = table(rows)
    for name in found.columns:
        kinds = {type(row[name]) for row in rows if row.get(name) is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            cells = (row.get(name) for row in rows)
            found[name] = [None if cell is None else str(cell) for cell in cells]
    partial = path.with_suffix(".parquet.partial")
    found.to_parquet(partial, index=False)
    partial.replace(path)
