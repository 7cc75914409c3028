"""The best threshold over runs whose results are arrays of the user's own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from premem_core.errors import DataError
from premem_core.metrics import thresholds
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.metrics.thresholds import Objective, ThresholdFit


def best_threshold(
    correct: Sequence[NDArray[np.integer]],
    samples: int,
    nll: Sequence[Floats],
    test_accuracy: Sequence[Floats],
    *,
    estimator: Estimator = "plain",
    objective: Objective = "identity",
) -> ThresholdFit:
    """The threshold t = log log PPL at which mean PM predicts test accuracy best, exactly.

    One array per run; C checkpoints in training order, N training examples. Every checkpoint
    counts alike, whichever run it is of.

    Args:
        correct: (C, N) integers: how many of an example's samples are correct.
        samples: how many samples each example has.
        nll: (C, N): mean negative log-likelihood per token of the solution, nats.
        test_accuracy: (C,), from 0 to 1; NaN leaves a checkpoint out.
        estimator: of PM: "plain", "jackknife" or "lu".
        objective: the R² that is highest there: "identity" or "linear".

    Raises:
        DataError: the shapes do not fit, or no threshold can be fitted.

    >>> correct, nll = np.array([[3, 2], [5, 4]]), np.array([[0.9, 0.8], [0.02, 0.3]])
    >>> fit = best_threshold([correct], 5, [nll], [np.array([0.5, 0.7])])
    >>> round(fit.r2, 3), fit.lowest < fit.log_log_threshold < fit.highest
    (1.0, True)
    """
    try:
        counts = [
            SampleCounts.of(np.full(c.shape, samples), c.astype(np.int64), samples) for c in correct
        ]
        for of_run, likelihoods, tests in zip(correct, nll, test_accuracy, strict=True):
            if of_run.shape != likelihoods.shape or tests.shape != of_run.shape[:1]:
                raise ValueError(
                    f"correct is {of_run.shape}, nll {likelihoods.shape} and test_accuracy "
                    f"{tests.shape}; expected (C, N), (C, N) and (C,)"
                )
        return thresholds.steps(counts, nll, test_accuracy, estimator).best(objective)
    except ValueError as error:
        raise DataError(f"no threshold can be fitted: {error}") from error
