"""Calibrating runs: which runs a threshold and its R² rest on, and how much each counts.

A run takes part when it has test problems and its job is finished. Each of its checkpoints is one
point, and a point counts by how exactly its two accuracies are known. Every default threshold, R²
and calibration of pages, commands and reports uses these two functions.
"""

from collections.abc import Sequence

import numpy as np

from premem_core.analysis.run_scores import RunScores
from premem_core.metrics.pre_memorization import Floats

MODEL_SD = 0.03  # typical error of PM as a prediction of test accuracy (docs/method.md, section 2)
LARGEST_VARIANCE = 0.25  # of one answer: right or wrong with probability one half
MENTIONED_BELOW = 0.5  # weight of a run below which a page says that it counts less


def takes_part(run: RunScores) -> bool:
    """Whether a run has test problems and no checkpoint that still waits to be scored."""
    return run.tested and run.waiting == 0


def calibrating_runs(runs: Sequence[RunScores]) -> list[RunScores]:
    """The runs that take part, in their order."""
    return [run for run in runs if takes_part(run)]


def run_weights(runs: Sequence[RunScores]) -> Floats:
    """(R,): how much one checkpoint of each run counts, the run with most questions counting 1.

    The inverse of the variance of test accuracy minus PM: MODEL_SD² + .25 / n, where n is the
    number of test problems or of training examples, whichever is smaller.
    """
    questions = np.array([min(len(r.test_examples), len(r.examples)) for r in runs], dtype=float)
    variances = MODEL_SD**2 + LARGEST_VARIANCE / np.maximum(questions, 1)
    return variances.min(initial=np.inf) / variances


def what_counts_less(runs: Sequence[RunScores]) -> list[str]:
    """In sentences: which tested runs do not take part and why, and which count less."""
    found = [
        f"The run '{run.run}' does not take part in the threshold and R²: {run.waiting} of its "
        f"{run.waiting + run.failed + len(run.steps)} checkpoints wait to be scored."
        for run in runs
        if run.tested and not takes_part(run)
    ]
    taking_part = calibrating_runs(runs)
    for run, weight in zip(taking_part, run_weights(taking_part), strict=True):
        if weight < MENTIONED_BELOW:
            found.append(
                f"The run '{run.run}' counts {weight:.2f} times as much as the largest: its "
                f"accuracies come from {len(run.test_examples):,} test problems and "
                f"{len(run.examples):,} training examples."
            )
    return found
