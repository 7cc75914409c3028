"""Baselines: other predictors of test accuracy, to compare with PM (docs/method.md, section 7).

Axes: C checkpoints of one run in training order, M test problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis.curves import points_r2
from premem_core.metrics import r2
from premem_core.metrics.pre_memorization import Floats


@dataclass(frozen=True, slots=True)
class Predictor:
    """One number per checkpoint: a column of the table that `evaluate` takes.

    Attributes:
        needs: what to do where the number is missing, in words.
        is_accuracy: whether it should equal test accuracy, and not only rise or fall with it.
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
            "draw the samples that are missing at this threshold: score the run again with "
            "--extend",
            is_accuracy=True,
        ),
        Predictor(
            "train_accuracy",
            "train accuracy",
            "draw all samples of the training problems: score the run again with --extend "
            "--plan full",
            is_accuracy=True,
        ),
        Predictor(
            "first_accuracy",
            "train accuracy at the first checkpoint",
            "draw all samples of the first checkpoint: score the run again with --extend "
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
            "score two or more runs with test problems: this predictor compares completions, and "
            "imported scores have none",
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
    """Average Thresholded Confidence: accuracy predicted from confidences (Garg et al. 2022).

    θ is chosen so that the share of source confidences below it equals the error rate on the
    source problems. The prediction is the share of target confidences that are at least θ. Shares
    of votes are often equal to θ: of these, the same fraction counts as below θ in the target as
    in the source.

    Args:
        source_confidence: (S,) of problems with known accuracy, such as the share of samples that
            agree (`read_agreement`). Problems with NaN are left out.
        source_accuracy: (S,) mean correctness of the same problems.
        target_confidence: (T,) of the problems whose accuracy is predicted.

    Returns:
        The predicted accuracy; NaN where source or target is empty.

    In the example, two of the four source problems are answered wrong, so two confidences count as
    below θ = 0.4: the one at 0.2, and one of the two that equal θ.

    >>> labelled = np.array([0.2, 0.4, 0.4, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    >>> atc(*labelled, np.array([0.4, 0.4, 0.6, 0.6]))
    0.75
    """
    has_values = ~np.isnan(source_confidence) & ~np.isnan(source_accuracy)
    source = np.sort(source_confidence[has_values])
    target = target_confidence[~np.isnan(target_confidence)]
    if not len(source) or not len(target):
        return float("nan")
    wrong = np.sum(1 - source_accuracy[has_values])
    # Rounding can make a sum of fifths slightly smaller than the whole number that it should be.
    theta = source[min(int(wrong + 1e-9), len(source) - 1)]
    tied_below = (wrong - np.sum(source < theta)) / np.sum(source == theta)
    kept = 1 - np.clip(tied_below, 0, 1)
    return float(np.mean((target > theta) + kept * (target == theta)))


def leave_out_atc(confidences: Sequence[Floats], accuracies: Sequence[Floats]) -> list[Floats]:
    """Predict each run's checkpoints by ATC, with θ chosen on the other runs' test problems.

    θ must not be chosen on the accuracies that it predicts.

    Args:
        confidences: one array (C, M) per run; NaN where a problem has no confidence.
        accuracies: one array (C, M) per run.

    Returns:
        One array (C,) per run; NaN where there is no other run.
    """
    predictions = []
    for n, confidence in enumerate(confidences):
        others = [i for i in range(len(confidences)) if i != n]
        source, accuracy = (
            np.concatenate([np.empty(0), *(np.ravel(values[i]) for i in others)])
            for values in (confidences, accuracies)
        )
        predictions.append(np.array([atc(source, accuracy, target) for target in confidence]))
    return predictions


def evaluate(points: pd.DataFrame) -> pd.DataFrame:
    """How well each predictor agrees with test accuracy over checkpoints.

    Each predictor is also compared with the generalization gap, train − test accuracy. For this, a
    predictor p of accuracy becomes the gap train accuracy − p (paper, section 5: Pearson .986 for
    train − PM).

    Args:
        points: `curves.points`, with one column per predictor. A column that is missing counts as
            NaN. The column `weight` says how much each point counts; without it, all count alike.

    Returns:
        One row per predictor: predictor, points (how many checkpoints have a value), identity_r2
        (of accuracies only) and linear_r2 against test accuracy, gap_pearson and gap_r2; NaN where
        undefined.
    """
    test, train = (points[name].to_numpy(float) for name in ("test_accuracy", "train_accuracy"))
    weights = points["weight"].to_numpy(float) if "weight" in points else None
    rows = []
    for name, predictor in PREDICTORS.items():
        known = points if name in points else points.assign(**{name: np.nan})
        x, fit = known[name].to_numpy(float), points_r2(known, name)
        expected_gap = train - x if predictor.is_accuracy else x
        gap_pearson = r2.pearson(expected_gap, train - test, weights)
        rows.append(
            {
                "predictor": name,
                "points": int(np.sum(~np.isnan(x) & ~np.isnan(test))),
                "identity_r2": fit.identity if predictor.is_accuracy else np.nan,
                "linear_r2": fit.linear,
                "gap_pearson": gap_pearson,
                "gap_r2": gap_pearson**2,
            }
        )
    return pd.DataFrame(rows)
