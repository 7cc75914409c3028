"""Peak memory and seconds of choosing and exporting many rows.

python benchmarks/export.py [--rows 1000000]

A store of that many problems and one run of three checkpoints is made (minutes), then each kind of
file is written by a fresh process, whose peak resident memory counts.
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
ONE = """
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
    """As many problems, and a run whose scores are drawn at random."""
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
    ids = [each.id for each in examples]
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
    """Seconds and peak memory (MB) of a process that writes all of them to a file; what it said."""
    command = [sys.executable, "-c", ONE, "curate", "--store", str(home.path), "--run", "run"]
    command += ["--log-log-threshold", "-2.3", "--out", str(out)]
    started = time.perf_counter()
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    *told, peak = said.splitlines()
    return time.perf_counter() - started, int(peak.split()[0]), "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        home = Store(Path(folder) / "store")
        build(home, rows)
        for kind in KINDS:
            out = Path(folder) / f"out{kind}"
            seconds, peak, told = curate(home, out)
            size = out.stat().st_size / 1e6
            print(
                f"{kind}: {seconds:.1f} s, {peak} MB at its peak, file of {size:.0f} MB", flush=True
            )
            print(f"  {told}")


if __name__ == "__main__":
    main()
