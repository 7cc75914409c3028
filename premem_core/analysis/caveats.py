"""Caveats: sentences that say why the numbers of a fit may be wrong or say little."""

from collections.abc import Mapping, Sequence

import numpy as np

from premem_core.analysis import curves
from premem_core.analysis.base_model import BaseModel, contamination_in_words
from premem_core.analysis.curves import Curve
from premem_core.grading.grader_texts import grader_label
from premem_core.metrics.thresholds import PLATEAU, ThresholdFit

FEWEST_CHECKPOINTS = 6
MEMORIZED_SHARE = 0.05  # if no checkpoint has more, the threshold masks almost nothing
TEST_SPAN = 0.10  # test accuracies must differ by this much for R² to say something
PLATEAU_WIDTH = 1.0  # in t = log log PPL


def base_caveats(bases: Sequence[BaseModel], labels: Mapping[str, str]) -> list[str]:
    """A sentence for each base model that has seen questions of its run before fine-tuning.

    Args:
        bases: of the runs that are shown; what is the same of several is said once.
        labels: the runs' display labels.
    """
    runs_of: dict[str, list[str]] = {}
    for base in bases:
        if sentence := contamination_in_words(base):
            runs_of.setdefault(sentence, []).append(labels[base.run])
    if len(runs_of) == 1:
        return list(runs_of)
    return [f"{', '.join(runs)}: {sentence}" for sentence, runs in runs_of.items()]


def caveats(lines: Sequence[Curve], fit: ThresholdFit | None) -> list[str]:
    """Sentences about what these runs cannot show; an empty list where there is no caveat.

    Args:
        lines: curves of the runs that are used, at the threshold in use.
        fit: their best threshold; None where there is none.
    """
    tested = [line for line in lines if not np.isnan(line.test).all()]
    tests = np.concatenate([line.test for line in tested] or [np.empty(0)])
    tests = tests[~np.isnan(tests)]
    sentences = []
    if len(tested) == 1:
        sentences.append(
            "There is one run only, so it is not known how well its threshold works for another "
            "run. Add runs with other learning rates or numbers of epochs."
        )
    if len(tests) < FEWEST_CHECKPOINTS:
        sentences.append(
            f"Only {len(tests)} checkpoints have a test accuracy. R² over fewer than "
            f"{FEWEST_CHECKPOINTS} says little."
        )
    if len(tests) and np.ptp(tests) < TEST_SPAN:
        sentences.append(
            f"The test accuracies differ by {100 * np.ptp(tests):.1f} points at most. Below "
            f"{100 * TEST_SPAN:.0f} points, R² is mostly noise. Add earlier checkpoints or other "
            "runs."
        )
    if tested and (most := max(float(c.memorized.max()) for c in tested)) < MEMORIZED_SHARE:
        sentences.append(
            f"No checkpoint has memorized more than {100 * most:.1f} % of the training examples, "
            "so these runs do not show at which perplexity memorization begins."
        )
    graders = sorted({line.scores.grader for line in tested if line.scores.grader})
    if len(graders) > 1:
        names = ", ".join(map(grader_label, graders))
        sentences.append(
            f"The runs are graded by different graders ({names}), so their accuracies "
            "cannot be compared. Use one grader for all of them, on the Grades page or with "
            "`regrade`."
        )
    if fit is not None:
        sentences += _fit_caveats(fit)
    if missing := curves.missing_in_words(lines):
        sentences.append(missing)
    return sentences


def _fit_caveats(fit: ThresholdFit) -> list[str]:
    low, high = fit.plateau
    sentences = []
    if np.isinf(low) or np.isinf(high) or high - low > PLATEAU_WIDTH:
        ends = (
            f"from t = {low:.2f} to {high:.2f}"
            if np.isfinite(low) and np.isfinite(high)
            else f"above t = {low:.2f}"
            if np.isfinite(low)
            else f"below t = {high:.2f}"
            if np.isfinite(high)
            else "at every threshold"
        )
        sentences.append(
            f"R² is within {PLATEAU} of its best value {ends}: the data hardly determine the "
            "threshold."
        )
    if fit.restricted:
        sentences.append(
            "The sampling plan left samples out. The threshold was chosen only among those for "
            "which PM does not need these samples."
        )
    return sentences
