"""Results of a sweep in a folder: one line of JSON for each point, written as it is found.

`results.jsonl` grows by whole lines, each on disk before the next chunk is taken up, so that a run
that is killed loses only what was not finished. At the end it is written anew in the order of the
points, with `results.csv` beside it. Lines of an earlier sweep in the same folder that are no
points of this one move to `stale.jsonl`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchError
from archsim.sweeps.definition import Sweep
from einsum_cascade.errors import Problem, Source

if TYPE_CHECKING:
    import pandas as pd

RESULTS, STALE, COPY = "results.jsonl", "stale.jsonl", "sweep.yaml"


class Store:
    """Lines by key, in a folder or, without one, in memory."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.lines: dict[str, str] = {}
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
        self._read(path)
        given, copy = Path(sweep.document.file), self.folder / COPY
        if given.is_file() and given.resolve() != copy.resolve():
            shutil.copyfile(given, copy)
        self._file = path.open("a", encoding="utf-8")

    def _read(self, path: Path) -> None:
        """Take over lines; cut off one that was being written when its run was killed."""
        if not path.exists():
            return
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        for number, text in enumerate(whole.decode().splitlines(), 1):
            try:
                self.lines[json.loads(text)["key"]] = text
            except (ValueError, KeyError, TypeError):
                what, hint = "this is no line of results", "remove the line, or the file"
                raise ArchError(
                    Problem(Source(str(path), number, 1), what, text, hint=hint)
                ) from None

    def add(self, found: Iterable[tuple[str, str]]) -> int:
        """Keep new lines, each once, and return how many were new."""
        new = {key: text for key, text in found if key not in self.lines}
        self.lines |= new
        if self._file is not None and new:
            self._file.write("".join(f"{text}\n" for text in new.values()))
            self._file.flush()
            os.fsync(self._file.fileno())
        return len(new)

    def close(self) -> None:
        """Let go of the file; what was added stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of a finished sweep, in order; its files are written anew."""
        self.close()
        rows = [json.loads(self.lines[key]) for key in keys]
        if self.folder is not None:
            mine = set(keys)
            stale = [text for key, text in self.lines.items() if key not in mine]
            if stale:
                with (self.folder / STALE).open("a", encoding="utf-8") as file:
                    file.write("".join(f"{text}\n" for text in stale))
            _replace(self.folder / RESULTS, "".join(f"{self.lines[key]}\n" for key in keys))
            _replace(self.folder / "results.csv", _csv(rows))
        return rows


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
    names = dict.fromkeys(name for row in rows for name in row)
    names.pop("error", None)
    return [*names, "error"]


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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
    rows = []
    text = file.read_text(encoding="utf-8")
    for number, one in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            row = json.loads(one)
        except ValueError:
            row = None
        if not isinstance(row, dict) or "key" not in row:
            what, hint = "this is no line of results", f"results lie in {RESULTS}"
            raise ArchError(Problem(Source(str(file), number, 1), what, one, hint=hint))
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a pandas table."""
    import pandas as pd

    return pd.DataFrame(rows, columns=columns(rows))


def write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows as a Parquet file; ArchError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        hint = "pip install 'einsum-archsim[report]'; results.csv holds the same"
        what = "Parquet needs pyarrow, which is not installed"
        raise ArchError(Problem(Source("--parquet"), what, hint=hint)) from None
    partial = path.with_suffix(".parquet.partial")
    table(rows).to_parquet(partial, index=False)
    partial.replace(path)
