"""One run's memorization curves: scores of the store → arrays per checkpoint.

Axes: C checkpoints in training order, N training examples, M test problems.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.analysis.calibrating_runs import calibrating_runs, run_weights, takes_part
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import DataError
from premem_core.metrics import estimators, intervals, pre_memorization, thresholds
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Remaining, remaining
from premem_core.metrics.thresholds import Objective, Steps, ThresholdFit


@dataclass(frozen=True, slots=True)
class Curve:
    """Means over examples, each (C,), and the half-width of the 90 % interval beside it.

    A train-side mean is NaN where any example's value is not known, for those left are no random
    part: `unknown` (C,) counts the examples without PM, `missing` bounds the samples to draw.
    """

    scores: RunScores
    log_log_threshold: float
    estimator: Estimator
    train: Floats
    train_half: Floats
    masked: Floats
    premem: Floats
    premem_half: Floats
    test: Floats
    test_half: Floats
    memorized: Floats
    unknown: NDArray[np.int64]
    missing: Remaining


def premem(scores: RunScores, log_log_threshold: float, estimator: Estimator = "plain") -> Floats:
    """(C, N): pre-memorization accuracy of every example up to each checkpoint; NaN: not known.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    try:
        return estimators.premem(estimator, scores.counts, scores.nll, log_log_threshold)
    except ValueError as error:
        raise DataError(f"run '{scores.run}': {error}; use the plain estimator") from error


def curve(scores: RunScores, log_log_threshold: float, estimator: Estimator = "plain") -> Curve:
    """The run's curves at threshold t = log log PPL.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    of_examples = premem(scores, log_log_threshold, estimator)
    masked = pre_memorization.masked_accuracy(scores.accuracy, scores.nll, log_log_threshold)
    train_mean, train_half = scores.train_interval
    premem_mean, premem_half = intervals.whole_mean_interval(of_examples)
    test, test_half = scores.test_interval
    return Curve(
        scores=scores,
        log_log_threshold=log_log_threshold,
        estimator=estimator,
        train=train_mean,
        train_half=train_half,
        masked=masked.mean(axis=1),
        premem=premem_mean,
        premem_half=premem_half,
        test=test,
        test_half=test_half,
        memorized=pre_memorization.memorized(scores.nll, log_log_threshold).mean(axis=1),
        unknown=np.isnan(of_examples).sum(axis=1),
        missing=_missing(scores, log_log_threshold),
    )


def _missing(scores: RunScores, log_log_threshold: float) -> Remaining:
    """What the lazy plan would still draw at this threshold."""
    counts = scores.counts
    if not counts.partial.any():
        return Remaining(0, 0)
    return remaining(
        "lazy", scores.samples, log_log_threshold, scores.nll, counts.samples, counts.correct
    )


def points(curves: Sequence[Curve]) -> pd.DataFrame:
    """`table`, only the checkpoints that have a test accuracy."""
    rows = table(curves)
    return rows[rows["test_accuracy"].notna()]


def weighted_points(lines: Sequence[Curve]) -> pd.DataFrame:
    """`points` of the runs that take part, and how much each counts (weight)."""
    runs = [line.scores for line in lines if takes_part(line.scores)]
    weights = dict(zip((run.run for run in runs), run_weights(runs), strict=True))
    rows = points(lines)
    rows = rows.assign(weight=rows["run"].map(weights).astype(np.float64))
    return rows[rows["weight"].notna()]


def not_known(curves: Sequence[Curve]) -> str:
    """In words, which means are not known and why; empty where all are."""
    checkpoints = sum(len(c.premem) for c in curves)
    sentences = []
    if premem := int(sum((c.unknown > 0).sum() for c in curves)):
        low, high = (
            sum(getattr(c.missing, end) for c in curves) for end in ("at_least", "at_most")
        )
        sentences.append(
            f"Pre-memorization accuracy is not known at {premem} of {checkpoints} checkpoints: the "
            f"sampling plan left out samples that this threshold needs ({low:,}"
            f"{f' to {high:,}' if high > low else ''})."
        )
    if train := sum(int(c.scores.counts.partial.any(axis=1).sum()) for c in curves):
        sentences.append(
            f"Train accuracy is not known at {train} of {checkpoints} checkpoints: the sampling "
            "plan did not need all of their samples."
        )
    return " ".join(sentences)


def threshold_steps(runs: Sequence[RunScores], estimator: Estimator = "plain") -> Steps:
    """R² over these runs' checkpoints at every threshold, each run by its weight.

    Raises:
        DataError: the estimator is not defined for these runs.
    """
    tests = [intervals.mean_interval(run.test_accuracy)[0] for run in runs]
    counts, nlls = [run.counts for run in runs], [run.nll for run in runs]
    try:
        return thresholds.steps(counts, nlls, tests, estimator).weighted(run_weights(runs))
    except ValueError as error:
        raise DataError(f"no threshold can be fitted: {error}; use the plain estimator") from error


def best_threshold(
    runs: Sequence[RunScores],
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> ThresholdFit:
    """The exact R²-optimal threshold over those of the runs that take part (`calibrating_runs`).

    This is the default threshold of a task, on every page and in every command.

    Raises:
        DataError: as `threshold_steps` and `best_step`.
    """
    return best_step(threshold_steps(calibrating_runs(runs), estimator), objective)


def best_step(of_runs: Steps, objective: Objective = "identity") -> ThresholdFit:
    """`Steps.best`.

    Raises:
        DataError: there are too few checkpoints with a test accuracy to choose one, or too many
            samples are missing.
    """
    try:
        return of_runs.best(objective)
    except ValueError as error:
        raise DataError(f"no threshold can be fitted: {error}; give a threshold") from error


def table(curves: Sequence[Curve]) -> pd.DataFrame:
    """Every number behind the curves, one row per checkpoint."""
    lengths = [len(c.scores.steps) for c in curves]

    def of_runs(values: Sequence[object]) -> NDArray[Any]:
        return np.repeat(np.array(values), lengths)

    def of_checkpoints(values: Callable[[Curve], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([values(c) for c in curves])

    return pd.DataFrame(
        {
            "run": of_runs([c.scores.run for c in curves]),
            "step": of_checkpoints(lambda c: c.scores.steps),
            "epoch": of_checkpoints(lambda c: c.scores.epoch),
            "log_log_threshold": of_runs([c.log_log_threshold for c in curves]),
            "estimator": of_runs([c.estimator for c in curves]),
            "train_accuracy": of_checkpoints(lambda c: c.train),
            "masked_accuracy": of_checkpoints(lambda c: c.masked),
            "premem": of_checkpoints(lambda c: c.premem),
            "premem_half": of_checkpoints(lambda c: c.premem_half),
            "test_accuracy": of_checkpoints(lambda c: c.test),
            "test_half": of_checkpoints(lambda c: c.test_half),
            "memorized_share": of_checkpoints(lambda c: c.memorized),
            "premem_unknown_examples": of_checkpoints(lambda c: c.unknown),
        }
    )


def perplexities(run: RunScores) -> pd.DataFrame:
    """step, example (the store's number) and perplexity of every training solution."""
    return pd.DataFrame(
        {
            "step": np.repeat(run.steps, len(run.examples)),
            "example": np.tile(run.examples, len(run.steps)),
            "perplexity": np.exp(run.nll).ravel(),
        }
    )


def overview(curves: Sequence[Curve], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: what it is, how far it is scored, and its last scored checkpoint (step).

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
                "premem_curve": c.premem[~np.isnan(c.premem)].tolist() if c else [],
                "step": int(c.scores.steps[-1]) if c else None,
                "train_percent": 100 * c.train[-1] if c else np.nan,
                "premem_percent": 100 * c.premem[-1] if c else np.nan,
                "test_percent": 100 * c.test[-1] if c else np.nan,
                "memorized_percent": 100 * c.memorized[-1] if c else np.nan,
            }
        )
    return pd.DataFrame(rows)
