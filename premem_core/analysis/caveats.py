"""Why the numbers of a fit should not be trusted, where they should not, in sentences."""

from collections.abc import Sequence

import numpy as np

from premem_core.analysis import curves
from premem_core.analysis.curves import Curve
from premem_core.metrics.thresholds import PLATEAU, ThresholdFit

FEWEST_CHECKPOINTS = 6
MEMORIZED_SHARE = 0.05  # below it in every checkpoint, the threshold masks next to nothing
TEST_SPAN = 0.10  # of accuracies that a relation can be seen over
PLATEAU_WIDTH = 1.0  # in t = log log PPL


def caveats(lines: Sequence[Curve], fit: ThresholdFit | None) -> list[str]:
    """What these runs cannot show.

    Args:
        lines: of the runs that count, at the threshold in force.
        fit: their best threshold; None where there is none.
    """
    tested = [line for line in lines if not np.isnan(line.test).all()]
    tests = np.concatenate([line.test for line in tested] or [np.empty(0)])
    tests = tests[~np.isnan(tests)]
    found = []
    if len(tested) == 1:
        found.append(
            "One run only: nothing tells how its threshold does on another. Add runs with other "
            "learning rates or numbers of epochs."
        )
    if len(tests) < FEWEST_CHECKPOINTS:
        found.append(
            f"{len(tests)} checkpoints with a test accuracy: R² over fewer than "
            f"{FEWEST_CHECKPOINTS} says little."
        )
    if len(tests) and np.ptp(tests) < TEST_SPAN:
        found.append(
            f"Test accuracy spans {100 * np.ptp(tests):.1f} points: over less than "
            f"{100 * TEST_SPAN:.0f}, R² is mostly noise. Add earlier checkpoints or other runs."
        )
    if tested and (most := max(float(c.memorized.max()) for c in tested)) < MEMORIZED_SHARE:
        found.append(
            f"At most {100 * most:.1f} % of the training examples are memorized in any checkpoint: "
            "these runs cannot tell where memorization begins."
        )
    graders = sorted({line.scores.grader for line in tested if line.scores.grader})
    if len(graders) > 1:
        found.append(
            f"The runs are graded by different graders ({', '.join(graders)}): their accuracies do "
            "not compare. Grade them alike on the Grades page, or with `regrade`."
        )
    if fit is not None:
        found += _of_the_fit(fit)
    if unknown := curves.not_known(lines):
        found.append(unknown)
    return found


def _of_the_fit(fit: ThresholdFit) -> list[str]:
    low, high = fit.plateau
    found = []
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
        found.append(
            f"R² is within {PLATEAU} of its best {ends}: the data hardly tell the threshold."
        )
    if fit.restricted:
        found.append(
            "The sampling plan left samples out: the threshold was chosen among those at which "
            "none of them matters."
        )
    return found
