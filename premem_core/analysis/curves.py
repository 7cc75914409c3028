"""Curves: train accuracy, PM, test accuracy and memorized share of a run at each checkpoint.

Axes: C checkpoints in training order, N training examples, M test problems.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.analysis.run_scores import RunScores, default_estimator
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, run_weights, takes_part
from premem_core.errors import DataError, UsageError
from premem_core.metrics import estimators, intervals, pre_memorization, r2, thresholds
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.last_unmasked import Means
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Remaining, remaining
from premem_core.metrics.thresholds import Objective, Steps, ThresholdFit


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's curves at one threshold: means over examples, each (C,).

    A name that ends in `_half` is the half-width of a mean's 90 % interval. A mean over training
    examples is NaN where the value of any example is unknown, because the examples that a sampling
    plan completed are not a random part of all.

    Attributes:
        sampling_error: (C,), the standard error of mean PM that comes from the samples alone; known
            for the estimator `lu` only.
        unknown: (C,), how many examples lack a PM that the mean needs.
        missing: how many samples must still be drawn, at least and at most, to know every PM.
    """

    scores: RunScores
    log_log_threshold: float
    estimator: Estimator
    train: Floats
    train_half: Floats
    masked: Floats
    premem: Floats
    premem_half: Floats
    sampling_error: Floats
    test: Floats
    test_half: Floats
    memorized: Floats
    unknown: NDArray[np.int64]
    missing: Remaining


def check_threshold(log_log_threshold: float) -> None:
    """UsageError: the threshold is not a finite number."""
    if not np.isfinite(log_log_threshold):
        raise UsageError(f"the threshold t must be a finite number, not {log_log_threshold}")


def premem(scores: RunScores, log_log_threshold: float, estimator: Estimator = "plain") -> Floats:
    """Pre-memorization accuracy of every example at every checkpoint, (C, N); NaN where unknown.

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
    premem_of_examples = premem(scores, log_log_threshold, estimator)
    masked = pre_memorization.masked_accuracy(scores.accuracy, scores.nll, log_log_threshold)
    train_mean, train_half = scores.train_interval
    means = _premem_means(scores, log_log_threshold, estimator)
    unknown = np.isnan(premem_of_examples) & (scores.counts.drawn if estimator == "lu" else True)
    test, test_half = scores.test_interval
    return Curve(
        scores=scores,
        log_log_threshold=log_log_threshold,
        estimator=estimator,
        train=train_mean,
        train_half=train_half,
        masked=masked.mean(axis=1),
        premem=means.mean,
        premem_half=means.half,
        sampling_error=means.sampling_error,
        test=test,
        test_half=test_half,
        memorized=pre_memorization.memorized(scores.nll, log_log_threshold).mean(axis=1),
        unknown=unknown.sum(axis=1),
        missing=_missing(scores, log_log_threshold, estimator),
    )


def premem_change(
    scores: RunScores, log_log_threshold: float, estimator: Estimator, checkpoint: int, other: int
) -> tuple[float, float]:
    """As `estimators.premem_change`.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    try:
        return estimators.premem_change(
            estimator, scores.counts, scores.nll, log_log_threshold, checkpoint, other
        )
    except ValueError as error:
        raise DataError(f"run '{scores.run}': {error}; use the plain estimator") from error


def _premem_means(scores: RunScores, log_log_threshold: float, estimator: Estimator) -> Means:
    return estimators.premem_means(estimator, scores.counts, scores.nll, log_log_threshold)


def _missing(scores: RunScores, log_log_threshold: float, estimator: Estimator) -> Remaining:
    """How many samples a plan would still draw, so that every PM is known at this threshold."""
    counts = scores.counts
    if not counts.partial.any():
        return Remaining(0, 0)
    drawn = counts.drawn if estimator == "lu" else np.ones(len(scores.examples), dtype=bool)
    return remaining(
        "last" if estimator == "lu" else "lazy",
        scores.samples,
        log_log_threshold,
        scores.nll[:, drawn],
        counts.samples[:, drawn],
        counts.correct[:, drawn],
    )


def points(curves: Sequence[Curve]) -> pd.DataFrame:
    """The rows of `table` whose checkpoint has a test accuracy."""
    rows = table(curves)
    return rows[rows["test_accuracy"].notna()]


def weighted_points(lines: Sequence[Curve]) -> pd.DataFrame:
    """`points` of the runs that take part (`calibrating_runs`), with the column weight."""
    runs = [line.scores for line in lines if takes_part(line.scores)]
    weights = dict(zip((run.run for run in runs), run_weights(runs), strict=True))
    rows = points(lines)
    rows = rows.assign(weight=rows["run"].map(weights).astype(np.float64))
    return rows[rows["weight"].notna()]


class R2(NamedTuple):
    """Identity and linear R²; NaN where undefined."""

    identity: float
    linear: float


def points_r2(points: pd.DataFrame, predictor: str = "premem") -> R2:
    """R² of a predictor against test accuracy, over the points where both are known.

    Args:
        points: has the column test_accuracy. The column weight says how much each point counts;
            without it, all count alike.
        predictor: the column of the predictor.
    """
    x, y = (points[name].to_numpy(float) for name in (predictor, "test_accuracy"))
    weights = points["weight"].to_numpy(float) if "weight" in points else None
    return R2(r2.identity_r2(x, y, weights), r2.linear_r2(x, y, weights))


def no_r2_in_words(points: pd.DataFrame) -> str | None:
    """Why R² over these checkpoints says nothing; None where it says something.

    Args:
        points: `points`, with the checkpoints whose PM is known.
    """
    runs = points["run"].nunique()
    if runs > 1:
        return None
    checkpoints = f"{len(points):,} checkpoint{'' if len(points) == 1 else 's'}"
    return (
        f"With {checkpoints} of {runs} run{'' if runs == 1 else 's'}, it is not known how well "
        "pre-memorization accuracy predicts test accuracy: R² says something over several runs "
        "only."
    )


def missing_in_words(curves: Sequence[Curve]) -> str:
    """Sentences that say which means are unknown and why; empty where all are known."""
    checkpoints = sum(len(c.premem) for c in curves)
    sentences = []
    if without_premem := int(sum((c.unknown > 0).sum() for c in curves)):
        fewest = sum(c.missing.at_least for c in curves)
        most = sum(c.missing.at_most for c in curves)
        sentences.append(
            f"Pre-memorization accuracy is not known at {without_premem} of {checkpoints} "
            "checkpoints, because the sampling plan left out samples that it needs at this "
            f"threshold ({fewest:,}{f' to {most:,}' if most > fewest else ''})."
        )
        if any(c.estimator != "lu" and default_estimator([c.scores]) == "lu" for c in curves):
            sentences.append("Last-unmasked accuracy (the estimator lu) needs none of them.")
    if without_train := sum(int(c.scores.counts.partial.any(axis=1).sum()) for c in curves):
        sentences.append(
            f"Train accuracy is not known at {without_train} of {checkpoints} checkpoints, because "
            "the sampling plan did not draw all of their samples."
        )
    return " ".join(sentences)


def threshold_steps(runs: Sequence[RunScores], estimator: Estimator = "plain") -> Steps:
    """R² over these runs' checkpoints at every threshold, weighted by `run_weights`.

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
    """The threshold with the highest R² over the runs that take part (`calibrating_runs`).

    It is exact, and the default threshold of a task on every page and in every command.

    Raises:
        DataError: the estimator is not defined for these runs, or no threshold can be fitted.
    """
    return best_step(threshold_steps(calibrating_runs(runs), estimator), objective)


def best_step(steps: Steps, objective: Objective = "identity") -> ThresholdFit:
    """`Steps.best`, with a DataError where there is none.

    Raises:
        DataError: too few checkpoints have a test accuracy, or too many samples are missing.
    """
    if not steps.fixed.any():
        raise DataError(
            "no threshold can be fitted: no run has a test set and a finished scoring job; give a "
            "threshold"
        )
    try:
        return steps.best(objective)
    except ValueError as error:
        raise DataError(f"no threshold can be fitted: {error}; give a threshold") from error


def table(curves: Sequence[Curve]) -> pd.DataFrame:
    """All numbers of the curves as a table, one row per checkpoint."""
    lengths = [len(c.scores.steps) for c in curves]

    def per_run(values: Sequence[object]) -> NDArray[Any]:
        return np.repeat(np.array(values), lengths)

    def per_checkpoint(values: Callable[[Curve], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([values(c) for c in curves])

    return pd.DataFrame(
        {
            "run": per_run([c.scores.run for c in curves]),
            "step": per_checkpoint(lambda c: c.scores.steps),
            "epoch": per_checkpoint(lambda c: c.scores.epoch),
            "log_log_threshold": per_run([c.log_log_threshold for c in curves]),
            "estimator": per_run([c.estimator for c in curves]),
            "train_accuracy": per_checkpoint(lambda c: c.train),
            "masked_accuracy": per_checkpoint(lambda c: c.masked),
            "premem": per_checkpoint(lambda c: c.premem),
            "premem_half": per_checkpoint(lambda c: c.premem_half),
            "sampling_error": per_checkpoint(lambda c: c.sampling_error),
            "test_accuracy": per_checkpoint(lambda c: c.test),
            "test_half": per_checkpoint(lambda c: c.test_half),
            "memorized_share": per_checkpoint(lambda c: c.memorized),
            "premem_unknown_examples": per_checkpoint(lambda c: c.unknown),
        }
    )


def lengths(
    run: RunScores, measured: pd.DataFrame, segments: Sequence[RunScores], log_log_threshold: float
) -> pd.DataFrame:
    """The lengths of a run's completions at each checkpoint, and the memorized share by segment.

    Args:
        measured: `store.scores.read_lengths` of the run's task.
        segments: the same run, read once for each segment of interest.

    Returns:
        step; of the completions of training questions `finished` (the share), completion_tokens
        and completion_trace_tokens (means); and memorized_<segment>, the share of solutions that
        are memorized by that segment.
    """
    of_run = measured[(measured["run"] == run.run) & (measured["split"] == "train")]
    names = ["finished", "completion_tokens", "completion_trace_tokens"]
    table = of_run.set_index("step")[names].reindex(run.steps)
    for scores in segments:
        memorized = pre_memorization.memorized(scores.nll, log_log_threshold)
        table[f"memorized_{scores.segment}"] = memorized.mean(axis=1)
    return table.reset_index(names="step")


def perplexities(run: RunScores) -> pd.DataFrame:
    """The perplexity of every training solution at every checkpoint.

    Returns:
        step, example (its number in the store) and perplexity; C · N rows.
    """
    return pd.DataFrame(
        {
            "step": np.repeat(run.steps, len(run.examples)),
            "example": np.tile(run.examples, len(run.steps)),
            "perplexity": np.exp(run.nll).ravel(),
        }
    )


def overview(curves: Sequence[Curve], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per run: its settings, how many checkpoints are scored, and the last scored one.

    Args:
        curves: of the runs that have a scored checkpoint; the other runs get empty cells.
        runs: the task's rows of `read_runs`.
    """
    curve_of = {c.scores.run: c for c in curves}
    rows = []
    for run in runs.to_dict("records"):
        c = curve_of.get(run["run"])
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
