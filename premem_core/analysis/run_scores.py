"""Run scores: what the store has of one run, as arrays over checkpoints and examples.

Axes: C checkpoints in training order, N training examples, M test problems.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.errors import UsageError
from premem_core.metrics import intervals, pre_memorization
from premem_core.metrics.estimators import SampleCounts
from premem_core.metrics.pre_memorization import Floats
from premem_core.store.database import Store
from premem_core.store.runs import read_runs, read_task_checkpoints, read_tasks
from premem_core.store.scores import read_checkpoint_scores

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
    waiting: int = 0  # checkpoints that are not scored yet
    failed: int = 0  # checkpoints that could not be scored

    @property
    def accuracy(self) -> Floats:
        """(C, N): train accuracy; NaN where the sampling plan did not need every sample."""
        return self.counts.accuracy

    # Kept: a page asks for these two at every move of the threshold, which they know nothing of.
    @cached_property
    def train_interval(self) -> tuple[Floats, Floats]:
        """(C,) each: mean train accuracy and half its interval; NaN as in `accuracy`."""
        return intervals.whole_mean_interval(self.accuracy)

    @cached_property
    def test_interval(self) -> tuple[Floats, Floats]:
        """(C,) each: mean test accuracy and half its interval."""
        return intervals.mean_interval(self.test_accuracy)

    @property
    def tested(self) -> bool:
        """Whether test problems were scored."""
        return self.test_accuracy.shape[1] > 0

    @property
    def samples(self) -> int:
        """K: the samples wanted of a train example."""
        return int(self.counts.wanted.max())


def read_task(store: Store, task: str) -> list[RunScores]:
    """What the store has of a task's scored runs, ordered by learning rate and size.

    Raises:
        UsageError: the store has no scored run of this task.
    """
    runs = read_runs(store).set_index("run")
    about_steps = dict(list(read_task_checkpoints(store, task).set_index("step").groupby("run")))
    read = []
    by_run = groupby(read_checkpoint_scores(store, task), key=itemgetter(0))
    for run, checkpoints in by_run:
        of_steps = {step: rows for _, step, rows in checkpoints}
        if any(not rows["test"].all() for rows in of_steps.values()):
            read.append(_run_scores(run, of_steps, dict(runs.loc[run]), about_steps[run]))
    if not read:
        known = ", ".join(f"'{name}'" for name in read_tasks(store)) or "none yet"
        raise UsageError(f"task '{task}' has no scored run in {store.path}; it has: {known}")
    return sorted(
        read, key=lambda r: (np.nan_to_num(r.learning_rate, nan=np.inf), r.trained_on, r.run)
    )


def run_labels(runs: Sequence[RunScores]) -> dict[str, str]:
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


def samples_in_words(runs: Sequence[RunScores]) -> str:
    """'5 samples per training question', or from how many to how many where the runs differ."""
    fewest, most = min(run.samples for run in runs), max(run.samples for run in runs)
    if fewest < most:
        return f"{fewest} to {most} samples per training question, depending on the run"
    return f"{most} sample{'' if most == 1 else 's'} per training question"


def order_in_words(runs: Sequence[RunScores]) -> str:
    """What the runs' order, and so their colours, stand for."""
    rates = [run.learning_rate for run in runs]
    if np.isnan(rates).any() or len(set(rates)) < 2:
        return "the runs in their order"
    return "the runs by learning rate, low to high"


def _examples(n: int) -> str:
    return f"{n:,} example{'' if n == 1 else 's'}"


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
    test_accuracies = [
        pre_memorization.accuracy(rows["correct"], rows["samples"]) for rows in test.values()
    ]
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
        waiting=int(about["checkpoints"] - about["scored"] - about["failed"]),
        failed=int(about["failed"]),
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
