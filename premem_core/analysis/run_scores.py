"""Run scores: the scores of one run, read from the store as arrays.

Axes: C checkpoints in training order, N training examples, M test problems, U unseen solutions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.errors import UsageError
from premem_core.metrics import intervals, pre_memorization, threshold_rules
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.records import SEGMENT_NAMES, Segment
from premem_core.scoring import job_files
from premem_core.scoring.spec import read_spec
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import read_runs, read_task_checkpoints, read_tasks
from premem_core.store.scores import read_checkpoint_scores

Rows = Mapping[str, NDArray[Any]]
_TRAIN, _TEST = 0, 1  # values of `split` in `read_checkpoint_scores`


@dataclass(frozen=True)
class RunScores:
    """The scores of one run at its scored checkpoints. M = 0 without a test set."""

    run: str
    learning_rate: float
    epochs: float
    trained_on: int  # number of training examples of the run; `examples` may be a part of them
    steps: NDArray[np.int64]  # (C,)
    epoch: Floats  # (C,)
    examples: NDArray[np.int64]  # (N,) numbers in the store
    counts: SampleCounts  # (C, N), of the train examples
    nll: Floats  # (C, N), nats per token of the segment
    test_examples: NDArray[np.int64]  # (M,) numbers in the store
    test_accuracy: Floats  # (C, M)
    grader: str | None = None  # the grader whose grades are used; None if unknown (an import)
    waiting: int = 0  # checkpoints that are not scored yet
    failed: int = 0  # checkpoints that could not be scored
    segment: Segment = "target"  # the part of the solutions that `nll` is of
    planned_threshold: float | None = None  # t of the sampling plan; None if the plan has none
    # (C, U), as `nll`, of solutions that the run was not trained on: test solutions, and training
    # rows that were held back. (0, 0) where none is measured.
    unseen_nll: Floats = field(default_factory=lambda: np.empty((0, 0)))
    # (U,) numbers in the store
    unseen_examples: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    rewarded: bool = False  # whether it learned from rewards or preferences

    @property
    def accuracy(self) -> Floats:
        """Train accuracy, (C, N); NaN where the sampling plan left samples out."""
        return self.counts.accuracy

    # Cached, because a page uses these two at every change of the threshold, on which they do not
    # depend.
    @cached_property
    def train_interval(self) -> tuple[Floats, Floats]:
        """Mean train accuracy (C,), and the half-width of its 90 % interval (C,).

        NaN where the accuracy of any example is NaN.
        """
        return intervals.whole_mean_interval(self.accuracy)

    @cached_property
    def test_interval(self) -> tuple[Floats, Floats]:
        """Mean test accuracy (C,), and the half-width of its 90 % interval (C,)."""
        return intervals.mean_interval(self.test_accuracy)

    @property
    def tested(self) -> bool:
        """Whether test problems were scored."""
        return self.test_accuracy.shape[1] > 0

    @property
    def samples(self) -> int:
        """K: the number of samples of a training example that is sampled in full."""
        return int(self.counts.wanted.max())


def read_task(store: Store, task: str, segment: Segment = "target") -> list[RunScores]:
    """Read the scores of a task's scored runs, sorted by learning rate and training set size.

    Args:
        segment: the part of a solution by whose perplexity it counts as memorized.

    Raises:
        UsageError: the store has no scored run of this task.
    """
    runs = read_runs(store).set_index("run")
    checkpoints_of = dict(list(read_task_checkpoints(store, task).set_index("step").groupby("run")))
    scored_runs = []
    by_run = groupby(read_checkpoint_scores(store, task, segment), key=itemgetter(0))
    for run, checkpoints in by_run:
        scores = {step: rows for _, step, rows in checkpoints}
        if any((rows["split"] == _TRAIN).any() for rows in scores.values()):
            read = _run_scores(run, scores, dict(runs.loc[run]), checkpoints_of[run])
            of_job = _of_job(store, run, segment)
            scored_runs.append(replace(read, segment=segment, **of_job))
    if not scored_runs:
        tasks = ", ".join(f"'{name}'" for name in read_tasks(store)) or "none yet"
        raise UsageError(
            f"task '{task}' has no scored run in {store.path}; the tasks of this store are: {tasks}"
        )
    return sorted(
        scored_runs, key=lambda r: (np.nan_to_num(r.learning_rate, nan=np.inf), r.trained_on, r.run)
    )


def _of_job(store: Store, run: str, segment: Segment) -> dict[str, Any]:
    """`RunScores.planned_threshold` and `rewarded`, from the job of a run if it has one."""
    folder = JobFolder.of(store, run)
    if not folder.holds_job:
        return {}
    described = job_files.read_description(folder)
    spec = read_spec(described)
    t = spec.log_log_threshold if spec.segment == segment and spec.plan != "full" else None
    return {"planned_threshold": t, "rewarded": bool(described.get("rewarded"))}


def find_run(runs: Sequence[RunScores], name: str) -> RunScores | None:
    """The run with this name; None if it is not among these scored runs."""
    return next((run for run in runs if run.run == name), None)


def relative_scores(run: RunScores) -> RunScores:
    """The run with its NLLs times e^s₁, so that one u for all runs applies to them.

    NLL < e^(u − s₁) where NLL·e^s₁ < e^u: a threshold of these NLLs is relative to the spread s₁ of
    the run (docs/method.md, section 11).
    """
    return replace(run, nll=run.nll * np.exp(threshold_rules.first_spread(run.nll[0])))


def run_labels(runs: Sequence[RunScores]) -> dict[str, str]:
    """A short display label of each run, by run name.

    The label is learning rate, epochs and number of examples. It is the run's name where another
    run has the same label.
    """
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
    """Such as '5 samples per training question'; a range if the runs differ.

    Where only a share of a run's questions is sampled, that is said.
    """
    fewest, most = min(run.samples for run in runs), max(run.samples for run in runs)
    if fewest < most:
        return f"{fewest} to {most} samples per training question, depending on the run"
    samples = f"{most} sample{'' if most == 1 else 's'}"
    if not any(map(_is_share, runs)):
        return f"{samples} per training question"
    if len(runs) > 1:
        return f"{samples} per training question; of some runs, only a share of the questions"
    drawn, questions = int(runs[0].counts.drawn.sum()), len(runs[0].examples)
    return f"{samples} each of {drawn:,} of {questions:,} training questions"


def single_sample_note(run: RunScores) -> str:
    """A sentence about values of single examples that come from one sample; "" otherwise."""
    if run.samples != 1:
        return ""
    return (
        "Each value of an example comes from one sample, which is right or wrong partly by chance. "
    )


def planned_threshold(runs: Sequence[RunScores]) -> float | None:
    """The threshold of the plan by which these runs were sampled; None if there is not one only."""
    planned = {run.planned_threshold for run in runs}
    return planned.pop() if len(planned) == 1 else None


def default_estimator(runs: Sequence[RunScores]) -> Estimator:
    """The estimator that nobody chose: plain, or lu where a run has only its samples."""
    only_lu = any(run.counts.only_unmasked or _is_share(run) for run in runs)
    return "lu" if only_lu else "plain"


def _is_share(run: RunScores) -> bool:
    """Whether the samples are of a share of the examples, as only the plan `last` draws them.

    Every other plan samples an example that is not memorized at some checkpoint. At the first one,
    none that is memorized is sampled where any is left out.
    """
    counts, first = run.counts, run.nll[0, run.counts.samples[0] > 0]
    left_out = run.nll[:, ~counts.drawn]
    first, left_out = first[~np.isnan(first)], left_out[~np.isnan(left_out)]
    return bool(len(first) and len(left_out) and left_out.max() >= first.min())


def segment_note(segment: Segment) -> str:
    """Which part of a solution the threshold is for; "" where it is the whole solution."""
    return "" if segment == "target" else f" for the perplexity of {SEGMENT_NAMES[segment]}"


def order_in_words(runs: Sequence[RunScores]) -> str:
    """What the order of the runs, and so of their colours, means."""
    rates = [run.learning_rate for run in runs]
    if np.isnan(rates).any() or len(set(rates)) < 2:
        return "the runs in their order"
    return "the runs by learning rate, low to high"


def _examples(n: int) -> str:
    return f"{n:,} example{'' if n == 1 else 's'}"


def _run_scores(
    run: str, scores: Mapping[int, Rows], record: Mapping[Any, Any], checkpoints: pd.DataFrame
) -> RunScores:
    """Make one run's `RunScores`.

    Args:
        scores: the rows of `read_checkpoint_scores` by step; training examples come first.
        record: the run's row of `read_runs`.
        checkpoints: the run's rows of `read_task_checkpoints`, indexed by step.
    """
    train, test, unseen = (
        {step: _select(rows, wanted(rows)) for step, rows in scores.items() if _trained(rows).any()}
        for wanted in (_trained, _tested, _is_unseen)
    )
    steps = np.array(list(train), dtype=np.int64)
    examples, columns = _all_examples(train.values())
    test_examples, test_columns = _all_examples(test.values())
    test_accuracies = [
        pre_memorization.accuracy(rows["correct"], rows["samples"]) for rows in test.values()
    ]
    unseen_examples, unseen_columns = _all_examples(unseen.values())
    samples, correct = (
        _grid([rows[name] for rows in train.values()], columns, len(examples), 0)
        for name in ("samples", "correct")
    )
    about = checkpoints.astype({"epoch": np.float64, "samples": np.float64}).reindex(steps)
    # A checkpoint's `samples` is NaN where no sample of any example is missing (an import).
    planned = np.nan_to_num(about["samples"].to_numpy()).astype(np.int32)
    return RunScores(
        run=run,
        learning_rate=float(record["learning_rate"]),
        epochs=float(record["epochs"]),
        trained_on=int(record["train_examples"]),
        steps=steps,
        epoch=about["epoch"].to_numpy(),
        examples=examples,
        counts=SampleCounts(samples, correct, np.maximum(samples, planned[:, None])),
        nll=_grid([rows["nll"] for rows in train.values()], columns, len(examples), np.nan),
        test_examples=test_examples,
        test_accuracy=_grid(test_accuracies, test_columns, len(test_examples), np.nan),
        grader=None if pd.isna(record["grader"]) else str(record["grader"]),
        waiting=int(record["checkpoints"] - record["scored"] - record["failed"]),
        failed=int(record["failed"]),
        unseen_nll=_grid(
            [rows["nll"] for rows in unseen.values()], unseen_columns, len(unseen_examples), np.nan
        ),
        unseen_examples=unseen_examples,
    )


def _trained(rows: Rows) -> NDArray[np.bool_]:
    return rows["split"] == _TRAIN


def _tested(rows: Rows) -> NDArray[np.bool_]:
    return (rows["split"] == _TEST) & (rows["samples"] > 0)


def _is_unseen(rows: Rows) -> NDArray[np.bool_]:
    return (rows["split"] != _TRAIN) & ~np.isnan(rows["nll"])


def _select(rows: Rows, part: NDArray[np.bool_]) -> Rows:
    return {name: values[part] for name, values in rows.items()}


def _all_examples(
    checkpoints: Iterable[Rows],
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The examples of all checkpoints together, and the columns of each checkpoint's examples."""
    numbers = [rows["example"] for rows in checkpoints]
    examples = np.unique(np.concatenate(numbers)) if numbers else np.array([], dtype=np.int64)
    return examples, [np.searchsorted(examples, some) for some in numbers]


def _grid(
    values: Sequence[NDArray[Any]], columns: Sequence[NDArray[np.int64]], n: int, empty: float
) -> NDArray[Any]:
    """The values of all checkpoints as (C, n); `empty` where an example has no value."""
    kind = values[0].dtype if values else np.float64
    grid = np.full((len(values), n), empty, dtype=kind)
    for row, row_values, row_columns in zip(grid, values, columns, strict=True):
        row[row_columns] = row_values
    return grid
