"""One run's memorization curves: scores of the store → arrays per checkpoint.

Axes: C checkpoints in training order, N training examples, M test problems.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core import estimators, metrics, thresholds
from premem_core.errors import DataError, UsageError
from premem_core.estimators import Estimator, SampleCounts
from premem_core.metrics import Floats
from premem_core.sampling_plan import Remaining, remaining
from premem_core.store import Store
from premem_core.thresholds import Objective, Steps, ThresholdFit

Rows = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RunScores:
    """What was measured of one run. `test_accuracy` is (C, M); M = 0 without a test set."""

    run: str
    learning_rate: float
    epochs: float
    trained_on: int  # training examples of the run, of which `examples` may be a sample
    steps: NDArray[np.int64]  # (C,)
    epoch: Floats  # (C,)
    examples: NDArray[np.int64]  # (N,) numbers in the store
    counts: SampleCounts  # (C, N), of the train examples
    nll: Floats  # (C, N), nats per target token
    test_examples: NDArray[np.int64]  # (M,) numbers in the store
    test_accuracy: Floats  # (C, M)
    grader: str | None = None  # whose grades count; None: not known, an import

    @property
    def accuracy(self) -> Floats:
        """(C, N): train accuracy; NaN where the sampling plan did not need every sample."""
        return self.counts.accuracy

    # Kept: a page asks for these two at every move of the threshold, which they know nothing of.
    @cached_property
    def train_interval(self) -> tuple[Floats, Floats]:
        """(C,) each: mean train accuracy and half its interval; NaN as in `accuracy`."""
        return metrics.whole_mean_interval(self.accuracy)

    @cached_property
    def test_interval(self) -> tuple[Floats, Floats]:
        """(C,) each: mean test accuracy and half its interval."""
        return metrics.mean_interval(self.test_accuracy)

    @property
    def tested(self) -> bool:
        """Whether test problems were scored."""
        return self.test_accuracy.shape[1] > 0

    @property
    def samples(self) -> int:
        """K: the samples wanted of a train example."""
        return int(self.counts.wanted.max())


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


def read_task(store: Store, task: str) -> list[RunScores]:
    """What the store has of a task's scored runs, ordered by learning rate and size.

    Raises:
        UsageError: the store has no scored run of this task.
    """
    runs = store.runs().set_index("run")
    about_steps = dict(list(store.task_checkpoints(task).set_index("step").groupby("run")))
    read = []
    by_run = groupby(store.checkpoint_scores(task), key=itemgetter(0))
    for run, checkpoints in by_run:
        of_steps = {step: rows for _, step, rows in checkpoints}
        if any(not rows["test"].all() for rows in of_steps.values()):
            read.append(_run_scores(run, of_steps, dict(runs.loc[run]), about_steps[run]))
    if not read:
        known = ", ".join(f"'{name}'" for name in store.tasks()) or "none yet"
        raise UsageError(f"task '{task}' has no scored run in {store.path}; it has: {known}")
    return sorted(
        read, key=lambda r: (np.nan_to_num(r.learning_rate, nan=np.inf), r.trained_on, r.run)
    )


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
    masked = metrics.masked_accuracy(scores.accuracy, scores.nll, log_log_threshold)
    train_mean, train_half = scores.train_interval
    premem_mean, premem_half = metrics.whole_mean_interval(of_examples)
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
        memorized=metrics.memorized(scores.nll, log_log_threshold).mean(axis=1),
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


def labels(runs: Sequence[RunScores]) -> dict[str, str]:
    """Run → what tells it from the others in few words; its own name where that is not enough."""
    short = {
        run.run: f"lr {run.learning_rate:g} · {run.epochs:g} epoch{'' if run.epochs == 1 else 's'}"
        f" · {_examples(run.trained_on)}"
        for run in runs
    }
    counts = pd.Series(list(short.values())).value_counts()
    return {
        name: label if counts[label] == 1 and "nan" not in label else name
        for name, label in short.items()
    }


def _examples(n: int) -> str:
    return f"{n:,} example{'' if n == 1 else 's'}"


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
    """R² over these runs' checkpoints at every threshold.

    Raises:
        DataError: the estimator is not defined for these runs.
    """
    tests = [metrics.mean_interval(run.test_accuracy)[0] for run in runs]
    try:
        return thresholds.steps([r.counts for r in runs], [r.nll for r in runs], tests, estimator)
    except ValueError as error:
        raise DataError(f"no threshold can be fitted: {error}; use the plain estimator") from error


def best_threshold(
    runs: Sequence[RunScores],
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> ThresholdFit:
    """The exact R²-optimal threshold over the runs that have test accuracies.

    Raises:
        DataError: as `threshold_steps` and `best_step`.
    """
    return best_step(threshold_steps(runs, estimator), objective)


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


def _run_scores(
    run: str, of_steps: Mapping[int, Rows], about: Mapping[Any, Any], about_steps: pd.DataFrame
) -> RunScores:
    """One run's record of its checkpoints' rows (`Store.checkpoint_scores`).

    Args:
        about: its row of `Store.runs`; about_steps: its rows of `Store.task_checkpoints`.
    """
    trained = {step: int((~rows["test"]).sum()) for step, rows in of_steps.items()}
    train = {step: _of(of_steps[step], slice(n)) for step, n in trained.items() if n}
    test = {step: _of(of_steps[step], slice(trained[step], None)) for step in train}
    steps = np.array(list(train), dtype=np.int64)
    examples, places = _places(train.values())
    test_examples, test_places = _places(test.values())
    test_accuracies = [metrics.accuracy(rows["correct"], rows["samples"]) for rows in test.values()]
    samples, correct = (
        _grid([rows[name] for rows in train.values()], places, len(examples), 0)
        for name in ("samples", "correct")
    )
    own = about_steps.astype({"epoch": np.float64, "samples": np.float64}).reindex(steps)
    # A checkpoint's `samples` is NaN where each row is whole as it is.
    scored_to = np.nan_to_num(own["samples"].to_numpy()).astype(np.int32)
    return RunScores(
        run=run,
        learning_rate=float(about["learning_rate"]),
        epochs=float(about["epochs"]),
        trained_on=int(about["train_examples"]),
        steps=steps,
        epoch=own["epoch"].to_numpy(),
        examples=examples,
        counts=SampleCounts(samples, correct, np.maximum(samples, scored_to[:, None])),
        nll=_grid([rows["nll"] for rows in train.values()], places, len(examples), np.nan),
        test_examples=test_examples,
        test_accuracy=_grid(test_accuracies, test_places, len(test_examples), np.nan),
        grader=None if pd.isna(about["grader"]) else str(about["grader"]),
    )


def _of(rows: Rows, wanted: slice) -> Rows:
    return {name: values[wanted] for name, values in rows.items()}


def _places(of_steps: Iterable[Rows]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """All examples that any checkpoint has, and where those of each stand among them."""
    each = [rows["example"] for rows in of_steps]
    examples = np.unique(np.concatenate(each)) if each else np.array([], dtype=np.int64)
    return examples, [np.searchsorted(examples, own) for own in each]


def _grid(
    values: Sequence[NDArray[Any]], places: Sequence[NDArray[np.int64]], n: int, empty: float
) -> NDArray[Any]:
    """Each checkpoint's values as (steps, n); `empty` where there is none."""
    kind = values[0].dtype if values else np.float64
    grid = np.full((len(values), n), empty, dtype=kind)
    for row, own, at in zip(grid, values, places, strict=True):
        row[at] = own
    return grid


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
                "premem_curve": c.premem[~np.isnan(c.premem)].tolist() if c else [],
                "train_percent": 100 * c.train[-1] if c else np.nan,
                "premem_percent": 100 * c.premem[-1] if c else np.nan,
                "test_percent": 100 * c.test[-1] if c else np.nan,
                "memorized_percent": 100 * c.memorized[-1] if c else np.nan,
            }
        )
    return pd.DataFrame(rows)
