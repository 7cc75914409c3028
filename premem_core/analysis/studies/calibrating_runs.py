"""Calibrating runs: the runs from which a threshold and its R² are computed, and their weights.

A run takes part when it has test problems and its scoring job is finished. Each of its checkpoints
is one point. The more precisely a point's two accuracies are measured, the more it counts. Every
default threshold, R² and calibration on pages, in commands and in reports uses `calibrating_runs`
and `run_weights`.
"""

from collections.abc import Sequence

import numpy as np

from premem_core.analysis.run_scores import RunScores
from premem_core.metrics.pre_memorization import Floats

MODEL_SD = 0.03  # typical error of PM as a prediction of test accuracy (docs/method.md, section 2)
LARGEST_VARIANCE = 0.25  # of one answer that is right or wrong with probability one half
MENTIONED_BELOW = 0.5  # a page mentions a run whose weight is smaller


def takes_part(run: RunScores) -> bool:
    """Whether a run has test problems, and no checkpoint that is not scored yet."""
    return run.tested and run.waiting == 0


def calibrating_runs(runs: Sequence[RunScores]) -> list[RunScores]:
    """The runs that take part, in the given order."""
    return [run for run in runs if takes_part(run)]


def run_weights(runs: Sequence[RunScores]) -> Floats:
    """The weight of one checkpoint of each run, (R,); it is 1 for the run with the most questions.

    A weight is proportional to 1 / variance of (test accuracy − PM). The variance is
    MODEL_SD² + .25 / n, where n is the number of test problems or of training examples, whichever
    is smaller.
    """
    questions = np.array([min(len(r.test_examples), len(r.examples)) for r in runs], dtype=float)
    variances = MODEL_SD**2 + LARGEST_VARIANCE / np.maximum(questions, 1)
    return variances.min(initial=np.inf) / variances


def what_counts_less(runs: Sequence[RunScores]) -> list[str]:
    """Sentences that say which tested runs do not take part, and which count less than others."""
    sentences = [
        f"The run '{run.run}' is not used for the threshold and R², because its scoring is not "
        f"finished ({run.waiting} of {run.waiting + run.failed + len(run.steps)} checkpoints left)."
        for run in runs
        if run.tested and not takes_part(run)
    ]
    taking_part = calibrating_runs(runs)
    for run, weight in zip(taking_part, run_weights(taking_part), strict=True):
        if weight < MENTIONED_BELOW:
            sentences.append(
                f"The run '{run.run}' counts {weight:.2f} times as much as the largest run, "
                f"because its accuracies come from only {len(run.test_examples):,} test problems "
                f"and {len(run.examples):,} training examples."
            )
    return sentences
