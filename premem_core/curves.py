"""One run's memorization curves: scores of the store → arrays per checkpoint.

Axes: C checkpoints in training order, N training examples, M test problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core import fits, metrics
from premem_core.errors import DataError, UsageError
from premem_core.metrics import Floats
from premem_core.store import Store


@dataclass(frozen=True, slots=True)
class RunScores:
    """What was measured of one run. `test_accuracy` is (C, M); M = 0 without a test set."""

    run: str
    learning_rate: float
    epochs: float
    trained_on: int  # training examples of the run, of which `examples` may be a sample
    steps: NDArray[np.int64]  # (C,)
    epoch: Floats  # (C,)
    examples: NDArray[np.int64]  # (N,) numbers in the store
    accuracy: Floats  # (C, N)
    nll: Floats  # (C, N), nats per target token
    test_accuracy: Floats  # (C, M)
    samples: int  # most samples of any train example


@dataclass(frozen=True, slots=True)
class Curve:
    """Means over examples, each (C,), and the half-width of the 90 % interval beside it."""

    scores: RunScores
    log_log_threshold: float
    train: Floats
    train_half: Floats
    masked: Floats
    premem: Floats
    premem_half: Floats
    test: Floats
    test_half: Floats
    memorized: Floats


def read_task(store: Store, task: str) -> list[RunScores]:
    """`run_scores` of a task.

    Raises:
        UsageError: the store has no scored run of this task.
    """
    scores = store.scores(task)
    if scores.empty:
        known = ", ".join(f"'{name}'" for name in store.tasks()) or "none yet"
        raise UsageError(f"task '{task}' has no scored run in {store.path}; it has: {known}")
    return run_scores(scores, store.task_checkpoints(task), store.runs())


def run_scores(
    scores: pd.DataFrame, checkpoints: pd.DataFrame, runs: pd.DataFrame
) -> list[RunScores]:
    """The store's scores of a task, one record per run, ordered by learning rate and size.

    Args:
        scores: `Store.scores`.
        checkpoints: `Store.task_checkpoints`.
        runs: `Store.runs`.
    """
    about = runs.set_index("run")[["learning_rate", "epochs", "train_examples"]].astype(np.float64)
    epochs = checkpoints.set_index(["run", "step"])["epoch"]
    result = []
    for name, rows in scores.groupby("run", sort=False):
        train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
        steps = np.unique(train["step"].to_numpy())
        if not len(steps):
            continue
        accuracy, examples = _grid(train, steps, _accuracy(train))
        nll, _ = _grid(train, steps, train["nll"].to_numpy(dtype=np.float64))
        test_accuracy, _ = _grid(test, steps, _accuracy(test))
        result.append(
            RunScores(
                run=str(name),
                learning_rate=float(about["learning_rate"][name]),
                epochs=float(about["epochs"][name]),
                trained_on=int(about["train_examples"][name]),
                steps=steps,
                epoch=epochs.loc[name].reindex(steps).to_numpy(dtype=np.float64),
                examples=examples,
                accuracy=accuracy,
                nll=nll,
                test_accuracy=test_accuracy,
                samples=int(train["samples"].max()),
            )
        )
    return sorted(
        result, key=lambda r: (np.nan_to_num(r.learning_rate, nan=np.inf), r.trained_on, r.run)
    )


def curve(scores: RunScores, log_log_threshold: float) -> Curve:
    """The run's curves at threshold t = log log PPL."""
    train, train_half = metrics.mean_interval(scores.accuracy)
    premem, premem_half = metrics.mean_interval(
        metrics.premem_accuracy(scores.accuracy, scores.nll, log_log_threshold)
    )
    masked, _ = metrics.mean_interval(
        metrics.masked_accuracy(scores.accuracy, scores.nll, log_log_threshold)
    )
    test, test_half = metrics.mean_interval(scores.test_accuracy)
    return Curve(
        scores=scores,
        log_log_threshold=log_log_threshold,
        train=train,
        train_half=train_half,
        masked=masked,
        premem=premem,
        premem_half=premem_half,
        test=test,
        test_half=test_half,
        memorized=metrics.memorized(scores.nll, log_log_threshold).mean(axis=1),
    )


def points(curves: Sequence[Curve]) -> pd.DataFrame:
    """`table`, only the checkpoints that have a test accuracy."""
    return table(curves).dropna(subset=["test_accuracy"])


def best_threshold(runs: Sequence[RunScores]) -> fits.ThresholdFit:
    """The exact identity-R²-optimal threshold over the runs that have test accuracies.

    Raises:
        DataError: there are too few checkpoints with a test accuracy to choose one.
    """
    tests = [metrics.mean_interval(run.test_accuracy)[0] for run in runs]
    try:
        return fits.best_threshold([r.accuracy for r in runs], [r.nll for r in runs], tests)
    except ValueError as error:
        raise DataError(
            f"no threshold can be fitted: {error}; score test problems too, or give a threshold"
        ) from error


def _accuracy(rows: pd.DataFrame) -> Floats:
    return metrics.accuracy(rows["correct"].to_numpy(), rows["samples"].to_numpy())


def _grid(
    rows: pd.DataFrame, steps: NDArray[np.int64], values: Floats
) -> tuple[Floats, NDArray[np.int64]]:
    """`values` of long rows as (steps, examples); NaN where there is none."""
    examples, columns = np.unique(rows["example"].to_numpy(), return_inverse=True)
    grid = np.full((len(steps), len(examples)), np.nan)
    grid[np.searchsorted(steps, rows["step"].to_numpy()), columns] = values
    return grid, examples


def table(curves: Sequence[Curve]) -> pd.DataFrame:
    """Every number behind the curves, one row per checkpoint."""
    frames = [
        pd.DataFrame(
            {
                "run": c.scores.run,
                "step": c.scores.steps,
                "epoch": c.scores.epoch,
                "log_log_threshold": c.log_log_threshold,
                "train_accuracy": c.train,
                "masked_accuracy": c.masked,
                "premem": c.premem,
                "premem_half": c.premem_half,
                "test_accuracy": c.test,
                "test_half": c.test_half,
                "memorized_share": c.memorized,
            }
        )
        for c in curves
    ]
    return pd.concat(frames, ignore_index=True)


def overview(curves: Sequence[Curve], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: what it is, how far it is scored, and where its last checkpoint stands.

    Args:
        curves: of the runs that have a scored checkpoint; the others stand without numbers.
        runs: the task's rows of `Store.runs`.
    """
    of = {c.scores.run: c for c in curves}
    rows = []
    for run in runs.to_dict("records"):
        c = of.get(run["run"])
        failed = f", {run['failed']} failed" if run["failed"] else ""
        rows.append(
            {
                "run": run["run"],
                "learning_rate": run["learning_rate"],
                "epochs": run["epochs"],
                "train_examples": run["train_examples"],
                "scored": f"{run['scored']} of {run['checkpoints']}{failed}",
                "premem_curve": c.premem.tolist() if c else [],
                "train_percent": 100 * c.train[-1] if c else np.nan,
                "premem_percent": 100 * c.premem[-1] if c else np.nan,
                "test_percent": 100 * c.test[-1] if c else np.nan,
                "memorized_percent": 100 * c.memorized[-1] if c else np.nan,
            }
        )
    return pd.DataFrame(rows)
