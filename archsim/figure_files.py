"""Figures as files: a .png and a .svg each, the same from run to run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figures(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures as .png and .svg into a folder, made if it does not exist."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    # Ids and dates that do not change from run to run: some pictures are committed.
    with matplotlib.rc_context({"svg.hashsalt": "einsum-archsim"}):
        for name, figure in figures.items():
            for ending in ("png", "svg"):
                path = folder / f"{name}.{ending}"
                metadata = {"Date": None} if ending == "svg" else {}
                figure.savefig(path, dpi=130, metadata=metadata)
                written.append(path)
                # Laid out once; the second file has the same layout for half the time.
                figure.set_layout_engine("none")
    return written
