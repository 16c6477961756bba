"""How fast a matrix product is simulated: `python benchmarks/products.py [PYTHON]`.

Register by register with values (whole call: tables, clock, outputs), next to SCALE-Sim 3.0.0,
which counts cycles and moves no values. SCALE-Sim runs a smaller product, which takes it seconds;
ours runs that one, too, and the ratio is within this run. PYTHON is an interpreter
that can import scalesim (it wants numpy below 2.4), by default this one; without it the row says
what is missing. Medians of several runs after one to warm up; times are measured, never asserted.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from engines import median_s

import archsim
import einsum_cascade as ec
from archsim.arch import with_shape
from archsim.elements import random_inputs
from archsim.wave import simulate_waves

SMALL = 128
CONFIG = """[general]
run_name = product
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {rows}
IfmapSramSzkB: 1024
FilterSramSzkB: 1024
OfmapSramSzkB: 1024
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: os
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
SCRIPT = """
import statistics, sys, time
from scalesim.scale_sim import scalesim
times = []
for run in range(4):
    start = time.perf_counter()
    tool = scalesim(save_disk_space=True, verbose=False, input_type_gemm=True,
                    config="config.cfg", topology="topology.csv", layout="layout.csv")
    tool.run_scale(top_path="out")
    times.append(time.perf_counter() - start)
print("median", statistics.median(times[1:]))
"""


def scalesim_s(python: str, rows: int, size: int) -> float | str:
    """Median time of SCALE-Sim for a cube of a product, or what went wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.cfg").write_text(CONFIG.format(rows=rows))
        topology = f"Layer,M,N,K,Sparsity,\nproduct,{size},{size},{size},1:1,\n"
        (folder / "topology.csv").write_text(topology)
        (folder / "layout.csv").write_text("Layer,\nproduct," + "1," * 24 + "\n")
        try:
            done = subprocess.run(
                [python, "-c", SCRIPT], cwd=folder, capture_output=True, text=True, timeout=600
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    for line in lines:
        if line.startswith("median "):
            return float(line.split()[1])
    return lines[-1] if lines else f"exit status {done.returncode}"


def register_level_s(rows: int, size: int, numbers: str) -> float:
    """Median time of a cube of a product, register by register."""
    chip = with_shape(archsim.load_architecture("fusemax"), rows, rows)
    program = archsim.lower("projection", ec.workload(N=size, D=size, S=size), chip, "projection")
    inputs = random_inputs(program)
    return median_s(lambda: simulate_waves(program, inputs, numbers))


def main() -> None:
    """Measure and print one line for each way and array."""
    print(f"{'product':>8} {'array':>9} {'median s':>9} {'MAC/s':>9}  how")
    for rows in (128, 32):
        for numbers in ("float64", "hardware"):
            row(rows, 1024, register_level_s(rows, 1024, numbers), f"every register, {numbers}")
    x = random_inputs(
        archsim.lower("projection", ec.workload(N=1024, D=1024, S=1024), "fusemax", "projection")
    )
    values = x["X"][0, 0], x["W"][0, 0]
    took = median_s(lambda: archsim.gemm(1024, 1024, 1024, rows=128, cols=128, values=values))
    row(128, 1024, took, "archsim.gemm, cycles of a formula and values")
    ours = register_level_s(32, SMALL, "float64")
    row(32, SMALL, ours, "every register, float64")
    other = scalesim_s(sys.argv[1] if len(sys.argv) > 1 else sys.executable, 32, SMALL)
    if isinstance(other, str):
        print(f"{SMALL:7}^3 {'32 x 32':>9} {'-':>9} {'-':>9}  SCALE-Sim did not run: {other}")
    else:
        row(32, SMALL, other, f"SCALE-Sim, no values: {other / ours:.0f} times as long")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


def row(rows: int, size: int, seconds: float, how: str) -> None:
    """Print one line."""
    rate = size**3 / seconds
    print(f"{size:7}^3 {f'{rows} x {rows}':>9} {seconds:9.3f} {rate:9.2e}  {how}")


if __name__ == "__main__":
    main()
