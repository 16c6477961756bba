"""How fast sweeps are: `python benchmarks/sweeps.py`.

A thousand points at the levels of formulas, with hardware that has little in common; a thousand at
tile level, of lengths, array sizes and bandwidths; and every sweep that ships. Each is run as a
user does, in a process of its own, with results on disk: seconds from start to end.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from archsim.sweeps.definition import names

HEAD = "name: timed\ncascade: softmax-1pass\nmodel: bert\narch: fusemax\nmapping: fusemax\n"
GRIDS = {
    "1,000 analytic points": """level: bound
over:
  arch.array_2d.rows: {log2: [64, 512]}
  arch.buffer.capacity: {log2: [4 MiB, 64 MiB]}
  sizes.M,sizes.P: {range: [1024, 51200, 1024]}
""",
    "1,000 tile-level points": """level: tile
over:
  arch.array_2d.rows: [128, 256]
  sizes.M,sizes.P: [[1024, 1024], [4096, 4096], [8192, 8192], [16384, 16384], [65536, 65536]]
  arch.buffer.capacity: [8 MiB, 16 MiB]
  arch.dram.bandwidth: [%s]
""",
}
ARCHSIM = str(Path(sys.executable).with_name("archsim"))


def seconds(sweep: str, folder: Path) -> float:
    """One run of a sweep into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    subprocess.run([ARCHSIM, "sweep", sweep, "-o", str(folder)], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each sweep."""
    rates = ", ".join(f"{rate} GiB/s" for rate in range(100, 600, 10))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, text in GRIDS.items():
            file = folder / "timed.yaml"
            file.write_text(HEAD + (text % rates if "%s" in text else text))
            runs = [seconds(str(file), folder / "out") for _ in range(3)]
            count = len((folder / "out" / "results.jsonl").read_text().splitlines())
            print(f"{name:28} {count:6,} points  {median(runs):6.2f} s (median of 3)", flush=True)
        for name in names():
            took = seconds(name, folder / "out")
            count = len((folder / "out" / "results.jsonl").read_text().splitlines())
            print(f"{name:28} {count:6,} points  {took:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
