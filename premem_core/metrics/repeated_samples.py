"""pass@k and maj@k of a question from n ≥ k samples, unbiased (docs/method.md, section 14).

    pass@k  the probability that at least one of k samples is correct (Chen et al. 2021, arXiv
            2107.03374): 1 − C(n − c, k)/C(n, k), where c of n samples are correct.
    maj@k   the probability that the most frequent answer of k samples is correct (Wang et al. 2023,
            arXiv 2203.11171); of equally frequent answers, one is taken at random.

Both are means over all choices of k of the n samples, so they are unbiased for k ≤ n. A sample
without an answer has no vote, but is one of the k.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats


def pass_at_k(samples: NDArray[np.int64], correct: NDArray[np.int64], k: int) -> Floats:
    """pass@k of each question; NaN where it has fewer than k samples.

    Args:
        samples, correct: n and c, of one shape.
        k: at least 1.

    Raises:
        ValueError: k is below 1.

    >>> pass_at_k(np.array([5, 5, 1]), np.array([1, 5, 1]), 2)
    array([0.4, 1. , nan])
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    n, wrong = np.asarray(samples), np.asarray(samples) - np.asarray(correct)
    none = np.ones(n.shape)
    for i in range(k):  # C(n − c, k)/C(n, k), factor by factor
        none *= np.clip(wrong - i, 0, None) / np.maximum(n - i, 1)
    return np.where(n < k, np.nan, 1 - none)


def majority_at_k(correct: int, wrong: Sequence[int], samples: int, k: int) -> float:
    """maj@k of one question; NaN where it has fewer than k samples.

    Args:
        correct: samples that are correct, however their answers are spelled.
        wrong: for each wrong answer, the samples that give it.
        samples: n, which includes those without an answer.

    Raises:
        ValueError: k is below 1, or the answers are more than the samples.

    >>> majority_at_k(2, [1], samples=3, k=3)
    1.0
    >>> majority_at_k(1, [1], samples=2, k=2)
    0.5
    """
    without = samples - correct - sum(wrong)
    if k < 1 or without < 0:
        raise ValueError(f"k is {k}, and {without} of {samples} samples have no answer")
    if samples < k:
        return float("nan")
    if k == 1:
        return correct / samples
    if k == samples:  # there is one choice only
        most = max([*wrong, 1])
        return 0.0 if correct < most else 1 / (1 + sum(votes == correct for votes in wrong))
    return _majority(correct, tuple(sorted(wrong)), without, k)


@lru_cache(maxsize=100_000)
def _majority(correct: int, wrong: tuple[int, ...], without: int, k: int) -> float:
    right = sum(
        comb(correct, votes) * _rest(wrong, without, votes, k - votes)
        for votes in range(1, min(correct, k) + 1)
    )
    return float(right / comb(correct + sum(wrong) + without, k))


def _rest(wrong: tuple[int, ...], without: int, most: int, left: int) -> float:
    """The number of ways to choose the other samples so that no wrong answer has more than `most`.

    Each way counts as 1/(1 + ties), where `ties` wrong answers have exactly `most`.
    """
    ways = {(0, 0): 1}  # (samples chosen, ties) → ways
    for samples in wrong:
        more: dict[tuple[int, int], int] = {}
        for (chosen, ties), number in ways.items():
            for votes in range(min(samples, most, left - chosen) + 1):
                key = chosen + votes, ties + (votes == most)
                more[key] = more.get(key, 0) + number * comb(samples, votes)
        ways = more
    return sum(
        number * comb(without, left - chosen) / (1 + ties)
        for (chosen, ties), number in ways.items()
    )
