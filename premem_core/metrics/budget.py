"""Budget: how many examples and samples the plan `last` needs for a standard error, and back.

The standard error is that of a checkpoint's last-unmasked accuracy, as an estimate of what all
examples and very many samples would give (docs/method.md, section 10). With K samples of each of n
of the N examples, and whatever the examples' accuracies are, it is at most

    SE = 1/2 · (n·K)^(−1/2), where K = 1 or n = N,

because the variance of one sample is p(1 − p) ≤ 1/4. So n·K is chosen with no knowledge of the run.
"""

import math
from dataclasses import dataclass

from premem_core.errors import UsageError
from premem_core.metrics.intervals import Z90


@dataclass(frozen=True, slots=True)
class Design:
    """How many examples are sampled, and how often each.

    Attributes:
        examples: N.
        rows: n, at most N; all of them where K > 1.
        samples: K.
    """

    examples: int
    rows: int
    samples: int

    @property
    def fraction(self) -> float:
        """The share of the examples that is sampled."""
        return self.rows / self.examples

    @property
    def standard_error(self) -> float:
        """The largest standard error that a checkpoint's accuracy can have, from 0 to 1.

        >>> Design(examples=7473, rows=2500, samples=1).standard_error
        0.01
        """
        return 0.5 / math.sqrt(self.rows * self.samples)

    def in_words(self) -> str:
        """What is sampled of a checkpoint, and how precise its accuracy becomes, as a sentence.

        >>> Design(examples=7473, rows=2500, samples=1).in_words()[:38]
        '2,500 of 7,473 problems, 1 sample each'
        """
        some = "" if self.rows == self.examples else f"{self.rows:,} of "
        each = f"{self.samples:,} sample{'' if self.samples == 1 else 's'} each"
        points = 100 * self.standard_error
        return (
            f"{some}{self.examples:,} problems, {each}: a checkpoint's accuracy has a standard "
            f"error of at most {points:.2g} points (± {Z90 * points:.2g} at 90 %)"
        )


def for_precision(standard_error: float, examples: int) -> Design:
    """The smallest design whose standard error is at most this one, from 0 to 1.

    >>> for_precision(0.01, examples=7473)
    Design(examples=7473, rows=2500, samples=1)
    >>> for_precision(0.01, examples=1000)
    Design(examples=1000, rows=1000, samples=3)
    """
    return _with(math.ceil(round(0.25 / standard_error**2, 6)), examples)


def for_generations(generations: int, examples: int, checkpoints: int, test: int = 0) -> Design:
    """The largest design that never draws more completions than this in all.

    Memorized pairs are not sampled, so fewer are drawn where there are any.

    Args:
        generations: completions of training and test problems, at all checkpoints together.
        examples: N, of each checkpoint.
        test: test problems, which are sampled as often as a training example.

    Raises:
        UsageError: not even one training example could be sampled at every checkpoint.

    >>> for_generations(20_000, examples=7473, checkpoints=6)
    Design(examples=7473, rows=3333, samples=1)
    """
    samples = generations // (checkpoints * (examples + test))
    if samples >= 1:
        return Design(examples, examples, samples)
    rows = generations // checkpoints - test
    if rows < 1:
        needed = checkpoints * (test + 1)
        raise UsageError(
            f"{generations:,} generations are too few: {checkpoints} checkpoints with {test:,} "
            f"test problems need at least {needed:,}; give more, or leave the test problems out"
        )
    return Design(examples, rows, 1)


def _with(rows_times_samples: int, examples: int) -> Design:
    if rows_times_samples <= examples:
        return Design(examples, rows_times_samples, 1)
    return Design(examples, examples, math.ceil(rows_times_samples / examples))
