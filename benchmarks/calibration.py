"""Time to find the best threshold: exactly, and on a grid as in the published notebooks.

python benchmarks/calibration.py kang2024
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import pre_memorization, r2, thresholds
from premem_core.store.database import Store

GRID = np.linspace(-3.5, -0.8, 28)  # t = log log PPL, in steps of 0.1
REPEATS = 5


def exact(runs: list[RunScores]) -> tuple[float, float]:
    best = curves.best_threshold(runs)
    return best.log_log_threshold, best.r2


def grid(runs: list[RunScores]) -> tuple[float, float]:
    """The method of the notebooks: compute PM, its mean and R² at every threshold of the grid."""
    tests = np.concatenate([run.test_accuracy.mean(axis=1) for run in runs])
    r2s = []
    for t in GRID:
        means = [
            pre_memorization.premem_accuracy(run.accuracy, run.nll, t).mean(axis=1) for run in runs
        ]
        r2s.append(r2.identity_r2(np.concatenate(means), tests))
    best = int(np.argmax(r2s))
    return float(GRID[best]), r2s[best]


def resampled(runs: list[RunScores]) -> tuple[float, float]:
    resamples = thresholds.resample(curves.threshold_steps(runs), resamples=1000)
    return tuple(np.quantile(resamples.identity, (0.05, 0.95)).tolist())


def print_time(
    method: Callable[[list[RunScores]], tuple[float, float]], runs: list[RunScores]
) -> None:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        first, second = method(runs)
        seconds.append(time.perf_counter() - started)
    names = ("from", "to R²") if method is resampled else ("t", "identity R²")
    print(
        f"{method.__name__:10} {1000 * min(seconds):8.1f} ms (best of {REPEATS})   "
        f"{names[0]} {first:.4f}   {names[1]} {second:.5f}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        import_published(store, Path(sys.argv[1]))
        runs = run_scores.read_task(store, "gsm8k")
    print(f"{len(runs)} runs, {sum(len(run.steps) for run in runs)} checkpoints")
    for method in (exact, grid, resampled):
        print_time(method, runs)


if __name__ == "__main__":
    main()
