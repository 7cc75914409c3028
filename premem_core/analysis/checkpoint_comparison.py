"""Two checkpoints, A and B, on the same questions: their difference and the flipped questions.

The K samples of one question are not independent, so the statistical tests compare pairs of
questions and do not count samples (docs/method.md, section 4). A question counts as right where
more than half of its samples are correct.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.metrics.intervals import mean_interval
from premem_core.metrics.pre_memorization import Floats
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_counts

WRONG_TO_RIGHT = "wrong → right"
RIGHT_TO_WRONG = "right → wrong"
RIGHT_AT_BOTH = "right at both"
WRONG_AT_BOTH = "wrong at both"
FLIPS = (WRONG_TO_RIGHT, RIGHT_TO_WRONG)
FIFTHS = 5  # accuracies are counted in fifths, as the paper's five samples give them


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Mean accuracies on the same questions, half-widths of 90 % intervals, and two tests.

    Attributes:
        difference: mean of B − A; its interval and `p_value` are those of the paired t test.
        flips_p_value: of the exact sign test (McNemar's), whose hypothesis is that flips in both
            directions are equally likely.
        equal: whether every question has the same accuracy at A and B.

    An undefined number is NaN.
    """

    accuracy_a: float
    half_a: float
    accuracy_b: float
    half_b: float
    difference: float
    difference_half: float
    p_value: float
    wrong_to_right: int
    right_to_wrong: int
    right_at_both: int
    wrong_at_both: int
    flips_p_value: float
    equal: bool

    def in_words(self, a: str, b: str, questions: str) -> str:
        """One sentence: which checkpoint is better, by how much, how certain, and how many flips.

        Args:
            a: the name of A, such as "step 567".
            b: the name of B.
            questions: such as "500 training questions".
        """
        b = b[:1].upper() + b[1:]
        if self.equal:
            return f"{b} has the same accuracy as {a} on each of the {questions}."
        half = "" if np.isnan(self.difference_half) else f" ± {100 * self.difference_half:.1f}"
        points = f"**{100 * abs(self.difference):.1f}{half} points**"
        test = (
            "no interval and no test, because the change is the same on every question"
            if np.isnan(self.p_value)
            else f"paired t test, {_p_value_in_words(self.p_value)}"
        )
        flips = (
            "no question changed from wrong to right or from right to wrong"
            if np.isnan(self.flips_p_value)
            else f"**{self.wrong_to_right:,}** questions changed from wrong to right, "
            f"**{self.right_to_wrong:,}** from right to wrong "
            f"(sign test, {_p_value_in_words(self.flips_p_value)})"
        )
        more = "more" if self.difference >= 0 else "less"
        return f"{b} is {points} {more} accurate than {a} on the {questions} ({test}): {flips}."


def compare_checkpoints(accuracy_a: Floats, accuracy_b: Floats) -> PairedComparison:
    """Compare the accuracies of A and B, and test whether they differ.

    Args:
        accuracy_a: (N,) mean correctness of each question's samples at A.
        accuracy_b: (N,) likewise at B, of the same questions.

    Raises:
        ValueError: there is no question, or the numbers of questions differ.

    >>> a, b = np.array([0.0, 0.2, 1.0, 0.4]), np.array([0.8, 0.2, 0.4, 0.8])
    >>> compared = compare_checkpoints(a, b)
    >>> print(f"{compared.difference:.2f} ± {compared.difference_half:.2f}")
    0.15 ± 0.70
    >>> compared.wrong_to_right, compared.right_to_wrong, compared.wrong_at_both
    (2, 1, 1)
    """
    from scipy import stats

    if accuracy_a.shape != accuracy_b.shape or not accuracy_a.size:
        raise ValueError(
            "both checkpoints must have accuracies of the same questions, at least one, "
            f"not {accuracy_a.size} with {accuracy_b.size}"
        )
    change = accuracy_b - accuracy_a
    difference_half, p_value = _paired_t_test(change)
    (mean_a, half_a), (mean_b, half_b) = mean_interval(accuracy_a), mean_interval(accuracy_b)
    outcome = outcomes(accuracy_a, accuracy_b)
    gained, lost = (int((outcome == flip).sum()) for flip in FLIPS)
    sign_test = stats.binomtest(gained, gained + lost).pvalue if gained + lost else float("nan")
    return PairedComparison(
        accuracy_a=float(mean_a),
        half_a=float(half_a),
        accuracy_b=float(mean_b),
        half_b=float(half_b),
        difference=float(change.mean()),
        difference_half=difference_half,
        p_value=p_value,
        wrong_to_right=gained,
        right_to_wrong=lost,
        right_at_both=int((outcome == RIGHT_AT_BOTH).sum()),
        wrong_at_both=int((outcome == WRONG_AT_BOTH).sum()),
        flips_p_value=float(sign_test),
        equal=bool(np.allclose(change, 0)),
    )


def outcomes(accuracy_a: Floats, accuracy_b: Floats) -> NDArray[np.str_]:
    """Whether each question was right or wrong at A and B, as words: (N,).

    >>> outcomes(np.array([0.4, 0.6, 0.5]), np.array([0.6, 0.4, 0.5])).tolist()
    ['wrong → right', 'right → wrong', 'wrong at both']
    """
    right_a, right_b = accuracy_a > 0.5, accuracy_b > 0.5
    return np.select(
        [~right_a & right_b, right_a & ~right_b, right_a & right_b],
        [WRONG_TO_RIGHT, RIGHT_TO_WRONG, RIGHT_AT_BOTH],
        WRONG_AT_BOTH,
    )


def cross_table(accuracy_a: Floats, accuracy_b: Floats) -> NDArray[np.int64]:
    """The number of questions with accuracy i/5 at A and j/5 at B, as (6, 6).

    Accuracies are rounded to the nearest fifth. An accuracy halfway between two fifths is rounded
    down, so that 0.5 counts as wrong, as in `outcomes`.

    >>> cross_table(np.array([0.0, 1.0, 1.0]), np.array([0.5, 1.0, 0.98]))[[0, 5], [2, 5]]
    array([1, 2])
    """
    counts = np.zeros((FIFTHS + 1, FIFTHS + 1), dtype=np.int64)
    np.add.at(counts, (_fifth(accuracy_a), _fifth(accuracy_b)), 1)
    return counts


def question_accuracy(store: Store, run: str, step: int, split: str) -> pd.Series:
    """Mean correctness of each question's samples at one checkpoint, indexed by example number.

    NaN where the sampling plan left some of the question's samples out.
    """
    counts = read_counts(store, run).set_index("example").sort_index()
    rows = counts[
        (counts["step"] == step) & (counts["split"] == split) & (counts["perturbation"] == "")
    ]
    scored_to = read_checkpoints(store, run).set_index("step")["samples"].astype(np.float64)
    # An imported run has no number of planned samples: all its questions are complete.
    planned = scored_to.fillna(1.0)[step]
    return rows["correct"] / rows["samples"].where(rows["samples"] >= max(planned, 1.0))


def by_question(accuracy_a: pd.Series, accuracy_b: pd.Series) -> pd.DataFrame:
    """One row per question that both checkpoints have, the largest change first.

    Args:
        accuracy_a: accuracy at A by example number (`question_accuracy`).
        accuracy_b: the same at B.

    Returns:
        accuracy_a, accuracy_b, change and outcome. Where an accuracy is NaN, change is NaN and
        outcome is missing.
    """
    rows = pd.concat(
        {"accuracy_a": accuracy_a, "accuracy_b": accuracy_b}, axis=1, join="inner"
    ).astype(np.float64)
    rows["change"] = (rows["accuracy_b"] - rows["accuracy_a"]).round(9)
    outcome = outcomes(rows["accuracy_a"].to_numpy(), rows["accuracy_b"].to_numpy())
    rows["outcome"] = pd.Series(outcome, rows.index, dtype=object).where(rows["change"].notna())
    return rows.sort_index().sort_values("change", key=abs, ascending=False, kind="stable")


def _paired_t_test(change: Floats) -> tuple[float, float]:
    """The half-width of the mean's 90 % interval, and the p-value; NaN if all changes are equal."""
    from scipy import stats

    if np.allclose(change, change[0]):
        return float("nan"), float("nan")
    test = stats.ttest_1samp(change, 0.0)
    interval = test.confidence_interval(0.9)
    return float(interval.high - interval.low) / 2, float(test.pvalue)


def _fifth(accuracy: Floats) -> NDArray[np.int64]:
    return np.ceil(FIFTHS * accuracy - 0.5).astype(np.int64)


def _p_value_in_words(value: float) -> str:
    text = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")
