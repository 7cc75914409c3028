"""Sample counts: how many samples of each pair were drawn, and how many of them are correct.

Axes: C checkpoints of one run in training order, N training examples. A *pair* is one example at
one checkpoint.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem_core.metrics.pre_memorization import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """How many samples of one run's training examples were drawn, and how many are correct.

    Attributes:
        samples: (C, N) samples drawn.
        correct: (C, N) correct samples.
        wanted: (C, N) K, the samples of a pair that is sampled in full. A pair with fewer is
            *partial*.

    Raises:
        ValueError: the shapes differ.
    """

    samples: Ints
    correct: Ints
    wanted: Ints

    def __post_init__(self) -> None:
        if not self.samples.shape == self.correct.shape == self.wanted.shape:
            raise ValueError("samples, correct and wanted must have one shape")

    @classmethod
    def of(cls, samples: Ints, correct: Ints, wanted: int) -> "SampleCounts":
        """Counts with the same K, `wanted`, for every pair."""
        return cls(np.asarray(samples), np.asarray(correct), np.full(np.shape(samples), wanted))

    @property
    def partial(self) -> NDArray[np.bool_]:
        """(C, N): True where the plan left samples of the pair out, or it was never sampled."""
        return (self.samples < self.wanted) | (self.wanted == 0)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Two (C, N): the accuracy if all missing samples were wrong, and if all were right."""
        k = np.maximum(self.wanted, 1)
        missing = np.where(self.wanted == 0, 1, self.wanted - self.samples)
        return self.correct / k, (self.correct + missing) / k

    @property
    def ends(self) -> tuple[Floats, ...]:
        """`bounds`, or only `accuracy` where no sample is missing."""
        return self.bounds if self.partial.any() else (self.accuracy,)

    @property
    def accuracy(self) -> Floats:
        """(C, N): A_c(i), NaN where the pair is partial."""
        return np.where(self.partial, np.nan, self.correct / np.maximum(self.wanted, 1))

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """(N,): True where any sample of the example was drawn.

        The others are those that the plan `last` leaves out of its share of the examples.
        """
        return np.asarray(self.samples.any(axis=0))

    @property
    def only_unmasked(self) -> bool:
        """Whether the samples are those of the plan `last`: none of memorized pairs.

        Every other plan samples an example at the last checkpoint where a sample of an earlier
        checkpoint is correct.
        """
        return bool((~self.samples[-1:].astype(bool) & self.correct[:-1].any(axis=0)).any())
