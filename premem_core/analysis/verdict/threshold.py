"""The threshold of one run, and the source that it comes from (docs/method.md, sections 11 and 12).

The sources in the order of their evidence:

    unseen      solutions that the run was not trained on: one that is less perplexing than 99 % of
                them is memorized. Those of other runs of the task serve where one asks for them.
                Solutions that are too alike serve only where one asks for them.
    other_runs  the threshold that fits other runs with a test set, or a saved calibration.
    this_run    a rule for a run alone, from the accuracy at its first checkpoint.
    given       by a person, or by nobody's better knowledge the paper's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibration import Calibration, calibrate
from premem_core.errors import DataError
from premem_core.metrics import threshold_rules
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats

Source = Literal["unseen", "other_runs", "this_run", "given"]
SOURCES: tuple[Source, ...] = get_args(Source)
SOURCE_NAMES: dict[Source, str] = {
    "unseen": "unseen solutions",
    "other_runs": "other runs",
    "this_run": "this run alone",
    "given": "given",
}


def source_in_words(source: Source) -> str:
    """Such as 'from other runs'."""
    return "given" if source == "given" else f"from {SOURCE_NAMES[source]}"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold of one run.

    Attributes:
        log_log_threshold: t of the run.
        why: one sentence that says where it comes from, and why from there.
        unseen_nll: the NLLs of unseen solutions that it comes from, (C, U); (0, 0) for the other
            sources.
        calibration: what it comes from where the source is `other_runs`; else None.
    """

    log_log_threshold: float
    source: Source
    why: str
    estimator: Estimator
    unseen_nll: Floats
    calibration: Calibration | None = None


NO_NLL = np.empty((0, 0))


def choose_threshold(
    task: str,
    run: RunScores,
    runs: Sequence[RunScores],
    *,
    source: Source | None = None,
    given: float | None = None,
    calibration: Calibration | None = None,
    estimator: Estimator | None = None,
) -> Threshold:
    """The threshold of a run, from the best evidence there is.

    Args:
        runs: all scored runs of the task.
        source: None for the best one that is there; `given` where a threshold is given.
        given: t, for the source `given`.
        calibration: for the source `other_runs`; None to calibrate on the task's other runs.
        estimator: None for the one that the run's samples are for, or that of the calibration.

    Raises:
        DataError: the source that was asked for is not there, or none is.
    """
    if given is not None:
        curves.check_threshold(given)
        return Threshold(
            given,
            "given",
            "The threshold was given.",
            estimator or run_scores.default_estimator([run]),
            NO_NLL,
        )
    evidence = _Evidence(task, run, runs, calibration, estimator)
    if calibration is not None or source == "other_runs":
        return evidence.other_runs()
    if source == "unseen":
        return evidence.unseen(asked=True)
    if source == "this_run":
        return evidence.this_run()
    reasons = []
    for way in (evidence.unseen, evidence.other_runs, evidence.this_run):
        try:
            return way()
        except DataError as error:
            reasons.append(str(error))
    raise DataError(f"there is nothing that a threshold could come from: {'; '.join(reasons)}")


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a threshold can come from; each way raises a DataError where it is not there."""

    task: str
    run: RunScores
    runs: Sequence[RunScores]
    calibration: Calibration | None
    estimator: Estimator | None

    def unseen(self, *, asked: bool = False) -> Threshold:
        """By the run's own unseen solutions; where that is asked for, also by others and alike."""
        run = self.run
        nll, of = run.unseen_nll, "solutions that this run was not trained on"
        if nll.shape[1] < threshold_rules.FEWEST_UNSEEN:
            others = [o.unseen_nll for o in self.runs if asked and o.run != run.run]
            enough = [o for o in others if o.shape[1] >= threshold_rules.FEWEST_UNSEEN]
            if not enough:
                most = max((o.shape[1] for o in (nll, *others)), default=0)
                raise DataError(
                    f"the NLL of {most:,} unseen solutions is measured, and at least "
                    f"{threshold_rules.FEWEST_UNSEEN:,} are needed to say what is usual of them"
                )
            nll = np.concatenate([other.reshape(1, -1) for other in enough], axis=1)
            of = "solutions that other runs of the task were not trained on"
        if not asked and threshold_rules.unseen_reach(nll) < threshold_rules.LEAST_REACH:
            raise DataError("the unseen solutions are too alike to tell copied from learned ones")
        return Threshold(
            threshold_rules.from_unseen(nll),
            "unseen",
            f"A solution counts as memorized where it is less perplexing than "
            f"{1 - threshold_rules.UNSEEN_QUANTILE:.1%} of {nll.shape[1]:,} {of}: that needs no "
            "other run and no test accuracy.",
            self.estimator or run_scores.default_estimator([run]),
            nll,
        )

    def other_runs(self) -> Threshold:
        calibration = self.calibration
        if calibration is None:
            others = [other for other in self.runs if other.run != self.run.run]
            estimator = self.estimator or run_scores.default_estimator(self.runs)
            calibration = calibrate(self.task, others, estimator)
        n, task = len(calibration.runs), calibration.task
        of = f"{n} other runs of the task '{task}', which have a test set"
        if n == 1:
            of = f"another run of the task '{task}', which has a test set"
        relative = ", relative to the spread of each run" if calibration.relative else ""
        return Threshold(
            calibration.threshold_of(self.run),
            "other_runs",
            f"The threshold was fitted to {of}{relative}.",
            calibration.estimator,
            NO_NLL,
            calibration,
        )

    def this_run(self) -> Threshold:
        run = self.run
        accuracy, sampled = first_accuracy(run), int((run.counts.samples[0] > 0).sum())
        if np.isnan(accuracy):
            raise DataError("no training example has a sample at the run's first checkpoint")
        return Threshold(
            threshold_rules.from_first_accuracy(accuracy, sampled),
            "this_run",
            "The threshold follows a rule for a run alone, which fits published runs: the worse a "
            "model solves the task, the higher the perplexity at which memorizing begins. The "
            f"first checkpoint answers {accuracy:.1%} of its training questions.",
            self.estimator or run_scores.default_estimator([run]),
            NO_NLL,
        )


def first_accuracy(run: RunScores) -> float:
    """A₁: mean accuracy at the first checkpoint, of the training examples with samples there."""
    samples, correct = run.counts.samples[0], run.counts.correct[0]
    sampled = samples > 0
    return float((correct[sampled] / samples[sampled]).mean()) if sampled.any() else float("nan")
