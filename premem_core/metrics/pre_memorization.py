"""Pre-memorization accuracy and the quantities it is made of (docs/method.md, section 1).

Axes: C checkpoints of one run in training order, N training examples.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def accuracy(correct: NDArray[np.integer], samples: NDArray[np.integer]) -> Floats:
    """Mean correctness of each example's samples; NaN where an example has no sample.

    Args:
        correct, samples: counts, of one shape.

    >>> accuracy(np.array([1, 0]), np.array([4, 0]))
    array([0.25,  nan])
    """
    samples = np.asarray(samples, dtype=np.float64)
    return np.divide(correct, samples, out=np.full(samples.shape, np.nan), where=samples > 0)


def memorized(nll: Floats, log_log_threshold: float) -> NDArray[np.bool_]:
    """True where a target's perplexity is below the threshold: NLL < e^t (paper, section 4).

    An NLL that was never measured (NaN) is not memorized.

    >>> memorized(np.array([0.05, 0.11, 0.2]), np.log(0.1))
    array([ True, False, False])
    """
    return np.asarray(nll) < np.exp(log_log_threshold)


def masked_accuracy(accuracy: Floats, nll: Floats, log_log_threshold: float) -> Floats:
    """Accuracy where the example is not memorized at the checkpoint, and 0 where it is.

    Args:
        accuracy, nll: of one shape; the NLL in nats.
        log_log_threshold: t; an example is memorized where NLL < e^t.

    >>> masked_accuracy(np.array([0.8, 1.0]), np.array([0.3, 0.05]), np.log(0.1))
    array([0.8, 0. ])
    """
    return np.where(memorized(nll, log_log_threshold), 0.0, accuracy)


def premem_accuracy(accuracy: Floats, nll: Floats, log_log_threshold: float) -> Floats:
    """PM_c(i) = min(max over c' ≤ c of masked accuracy, A_c(i)) (paper, section 4).

    Args:
        accuracy: (C, N) mean correctness of the samples.
        nll: (C, N) mean NLL per target token, nats.
        log_log_threshold: t; an example is memorized where NLL < e^t.

    Returns:
        (C, N). In the example below, the second checkpoint has memorized the only training
        example, so its PM is the accuracy of the first checkpoint.

    >>> premem_accuracy(np.array([[0.6], [1.0]]), np.array([[0.9], [0.01]]), -2.3)
    array([[0.6],
           [0.6]])
    """
    masked = masked_accuracy(accuracy, nll, log_log_threshold)
    return np.minimum(np.maximum.accumulate(masked, axis=0), accuracy)
