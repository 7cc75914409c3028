"""Peak memory and time of choosing and exporting many rows.

python benchmarks/export.py [--rows 1000000]

The script makes a store with this many problems and one run of three checkpoints (this takes
minutes). Then a new process writes each file type, and its peak resident memory is printed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.curation.export import KINDS
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, set_checkpoint_state

ROOT = Path(__file__).parents[1]
STEPS = (100, 200, 300)
SOLUTION = "She has {n} apples and buys {n} more. {n}+{n}=<<{n}+{n}={twice}>>{twice}\n#### {twice}"
CURATE_AND_PRINT_PEAK = """
import re, sys
from pathlib import Path
from premem_core.__main__ import main
sys.argv = ["premem", *sys.argv[1:]]
try:
    main()
finally:
    [peak] = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak) // 1000)
"""


def build(home: Store, rows: int) -> None:
    """Make a store of `rows` problems, and a run with random scores."""
    rng = np.random.default_rng(0)
    examples = [
        Example(
            f"p{n:07d}",
            f"Problem {n}: how many apples does she have who buys as many as the {n} she has?",
            SOLUTION.format(n=n, twice=2 * n),
            str(2 * n),
        )
        for n in range(rows)
    ]
    ids = [example.id for example in examples]
    frames = [
        pd.DataFrame(
            {
                "step": step,
                "split": "train",
                "perturbation": "",
                "id": ids,
                "samples": 5,
                "correct": rng.integers(0, 6, rows),
                "unparsed": 0,
                "nll": rng.gamma(2, 0.1, rows),
                "tokens": pd.array(rng.integers(20, 200, rows), dtype="Int32"),
            }
        )
        for step in STEPS
    ]
    record = RunRecord("run", "many", "scored", 1e-5, 3, 32, rows)
    points = [Checkpoint(Path(), step, step / 100, 1e-5) for step in STEPS]
    add_scored_runs(home, [(record, points, pd.concat(frames))], [("many", "train", examples)])
    for step in STEPS:
        set_checkpoint_state(home, "run", step, "scored", samples=5)


def curate(home: Store, out: Path) -> tuple[float, int, str]:
    """Write all rows to a file; return seconds, peak memory (MB) and output of the process."""
    command = [sys.executable, "-c", CURATE_AND_PRINT_PEAK, "curate", "--store", str(home.path)]
    command += ["--run", "run", "--log-log-threshold", "-2.3", "--out", str(out)]
    started = time.perf_counter()
    output = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    *lines, peak = output.splitlines()
    return time.perf_counter() - started, int(peak.split()[0]), "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        home = Store(Path(folder) / "store")
        build(home, rows)
        for kind in KINDS:
            out = Path(folder) / f"out{kind}"
            seconds, peak, output = curate(home, out)
            size = out.stat().st_size / 1e6
            print(f"{kind}: {seconds:.1f} s, peak {peak} MB, file of {size:.0f} MB", flush=True)
            print(f"  {output}")


if __name__ == "__main__":
    main()
