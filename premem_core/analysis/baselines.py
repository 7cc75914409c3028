"""Simpler numbers that might predict test accuracy as well as PM does (docs/method.md, section 7).

Axes: C checkpoints of one run in training order, M test problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.metrics import r2
from premem_core.metrics.pre_memorization import Floats


@dataclass(frozen=True, slots=True)
class Predictor:
    """One number per checkpoint: a column of `evaluate`'s points.

    `needs` says what to do where it is not known; `is_accuracy`, that it is meant to equal test
    accuracy, not only to rise or fall with it.
    """

    name: str
    label: str
    needs: str
    is_accuracy: bool = False


PREDICTORS = {
    predictor.name: predictor
    for predictor in (
        Predictor(
            "premem",
            "pre-memorization accuracy",
            "draw the samples that this threshold needs: score the run again with --extend",
            is_accuracy=True,
        ),
        Predictor(
            "train_accuracy",
            "train accuracy",
            "draw every sample of the training problems: score the run again with --extend "
            "--plan full",
            is_accuracy=True,
        ),
        Predictor(
            "first_accuracy",
            "train accuracy at the first checkpoint",
            "draw every sample of the first checkpoint: score the run again with --extend "
            "--plan full",
            is_accuracy=True,
        ),
        Predictor(
            "train_nll",
            "mean NLL of the training solutions",
            "score the run, which measures the perplexity of every training solution",
        ),
        Predictor(
            "atc",
            "average thresholded confidence",
            "score test problems of two or more runs: agreement needs completions, which imported "
            "scores lack",
            is_accuracy=True,
        ),
        Predictor(
            "distance",
            "distance from initialization",
            "score with --weights --base FOLDER, or run `python -m premem_core baselines --run RUN "
            "--base FOLDER`",
        ),
        Predictor(
            "gradient_variance",
            "gradient variance",
            "score with --weights, or run `python -m premem_core baselines --run RUN --only "
            "gradient-variance`",
        ),
    )
}


def atc(source_confidence: Floats, source_accuracy: Floats, target_confidence: Floats) -> float:
    """Average Thresholded Confidence: accuracy read off confidences (Garg et al. 2022).

    The threshold θ is such that the share of source confidences below it is the source's error
    rate; the share of target confidences from θ on is the prediction. Shares of votes tie a lot:
    of the target's at exactly θ, the same part counts as below as of the source's.

    Args:
        source_confidence: (S,) of labelled problems, such as the share of samples that agree
            (`Store.agreement`); NaN leaves its problem out.
        source_accuracy: (S,) mean correctness of the same problems.
        target_confidence: (T,) of the problems whose accuracy is predicted.

    Returns:
        The predicted accuracy; NaN where source or target is empty.

    Two of the four labelled problems count as below: that at 0.2 and half of the two at θ = 0.4.

    >>> labelled = np.array([0.2, 0.4, 0.4, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    >>> atc(*labelled, np.array([0.4, 0.4, 0.6, 0.6]))
    0.75
    """
    known = ~np.isnan(source_confidence) & ~np.isnan(source_accuracy)
    source = np.sort(source_confidence[known])
    target = target_confidence[~np.isnan(target_confidence)]
    if not len(source) or not len(target):
        return float("nan")
    wrong = np.sum(1 - source_accuracy[known])
    # A sum of fifths may fall short of a whole number by rounding.
    theta = source[min(int(wrong + 1e-9), len(source) - 1)]
    tied_below = (wrong - np.sum(source < theta)) / np.sum(source == theta)
    kept = 1 - np.clip(tied_below, 0, 1)
    return float(np.mean((target > theta) + kept * (target == theta)))


def leave_out_atc(confidences: Sequence[Floats], accuracies: Sequence[Floats]) -> list[Floats]:
    """ATC of each run's checkpoints, its θ from the test problems of the other runs' checkpoints.

    θ must not come from the accuracies that it predicts.

    Args:
        confidences: per run (C, M); NaN where a problem has none.
        accuracies: per run (C, M).

    Returns:
        Per run (C,); NaN where there is no other run.
    """
    predictions = []
    for n, confidence in enumerate(confidences):
        others = [i for i in range(len(confidences)) if i != n]
        source, accuracy = (
            np.concatenate([np.empty(0), *(np.ravel(of_runs[i]) for i in others)])
            for of_runs in (confidences, accuracies)
        )
        predictions.append(np.array([atc(source, accuracy, own) for own in confidence]))
    return predictions


def evaluate(points: pd.DataFrame) -> pd.DataFrame:
    """How well each predictor does over checkpoints, each where it is known.

    Against the generalization gap, train − test accuracy, a predictor of accuracy stands as the
    gap that it expects, train accuracy − itself (paper, section 5: Pearson .986 for train − PM).

    Args:
        points: `curves.points`, with a column per predictor; one that is not there is not known.
            Its column `weight` says how much each point counts; without it, all count alike.

    Returns:
        One row per predictor: predictor, points (how many), identity_r2 (of accuracies only) and
        linear_r2 against test accuracy, gap_pearson and gap_r2; NaN where undefined.
    """
    test, train = (points[name].to_numpy(float) for name in ("test_accuracy", "train_accuracy"))
    weights = points["weight"].to_numpy(float) if "weight" in points else None
    rows = []
    for name, predictor in PREDICTORS.items():
        x = points[name].to_numpy(float) if name in points else np.full(len(points), np.nan)
        expected_gap = train - x if predictor.is_accuracy else x
        gap_pearson = r2.pearson(expected_gap, train - test, weights)
        rows.append(
            {
                "predictor": name,
                "points": int(np.sum(~np.isnan(x) & ~np.isnan(test))),
                "identity_r2": r2.identity_r2(x, test, weights)
                if predictor.is_accuracy
                else np.nan,
                "linear_r2": r2.linear_r2(x, test, weights),
                "gap_pearson": gap_pearson,
                "gap_r2": gap_pearson**2,
            }
        )
    return pd.DataFrame(rows)
