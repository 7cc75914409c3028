"""Two checkpoints, A and B, on the same questions: the difference, and which questions flipped.

The question is the unit: its K samples share their fate, so the tests pair questions and never
count samples (docs/method.md, section 4). A question counts as right where more than half of its
samples are correct.
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
FIFTHS = 5  # the paper's five samples give exactly these accuracies


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Mean accuracies of the same questions, 90 % half-widths beside them, and the two tests.

    Attributes:
        difference: mean of B − A; its interval and `p_value` are those of the paired t test.
        flips_p_value: of the exact sign test (McNemar's): would as many flips either way be likely
            by chance? NaN, like the others, where it is undefined.
        equal: every question has the same accuracy at both.
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
        """One sentence: which is better, by how much, how sure, and what flipped.

        Args:
            a: what stands for A, such as "step 567".
            b: what stands for B.
            questions: such as "500 training questions".
        """
        b = b[:1].upper() + b[1:]
        if self.equal:
            return f"{b} answers each of the {questions} right exactly as often as {a}."
        half = "" if np.isnan(self.difference_half) else f" ± {100 * self.difference_half:.1f}"
        points = f"**{100 * abs(self.difference):.1f}{half} points**"
        test = (
            "no interval and no test: there is no spread between questions"
            if np.isnan(self.p_value)
            else f"paired t test, {_p(self.p_value)}"
        )
        flips = (
            "none went from wrong to right or back"
            if np.isnan(self.flips_p_value)
            else f"**{self.wrong_to_right:,}** went wrong → right, **{self.right_to_wrong:,}** "
            f"right → wrong (sign test, {_p(self.flips_p_value)})"
        )
        more = "more" if self.difference >= 0 else "fewer"
        return f"{b} answers {points} {more} of the {questions} right than {a} ({test}): {flips}."


def compare_checkpoints(accuracy_a: Floats, accuracy_b: Floats) -> PairedComparison:
    """Test whether B answers the questions better than A.

    Args:
        accuracy_a: (N,) mean correctness of each question's samples at A.
        accuracy_b: (N,) likewise at B, of the same questions.

    Raises:
        ValueError: there is no question, or not as many at A as at B.

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
            f"the same questions are compared, not {accuracy_a.size} with {accuracy_b.size}"
        )
    change = accuracy_b - accuracy_a
    difference_half, p_value = _paired_t_test(change)
    (mean_a, half_a), (mean_b, half_b) = mean_interval(accuracy_a), mean_interval(accuracy_b)
    found = outcomes(accuracy_a, accuracy_b)
    gained, lost = (int((found == flip).sum()) for flip in FLIPS)
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
        right_at_both=int((found == RIGHT_AT_BOTH).sum()),
        wrong_at_both=int((found == WRONG_AT_BOTH).sum()),
        flips_p_value=float(sign_test),
        equal=bool(np.allclose(change, 0)),
    )


def outcomes(accuracy_a: Floats, accuracy_b: Floats) -> NDArray[np.str_]:
    """What became of each question from A to B, (N,).

    >>> outcomes(np.array([0.4, 0.6, 0.5]), np.array([0.6, 0.4, 0.5])).tolist()
    ['wrong → right', 'right → wrong', 'wrong at both']
    """
    right_a, right_b = accuracy_a > 0.5, accuracy_b > 0.5
    return np.select(
        [~right_a & right_b, right_a & ~right_b, right_a & right_b],
        [WRONG_TO_RIGHT, RIGHT_TO_WRONG, RIGHT_AT_BOTH],
        WRONG_AT_BOTH,
    )


def cross(accuracy_a: Floats, accuracy_b: Floats) -> NDArray[np.int64]:
    """How many questions have accuracy i/5 at A and j/5 at B, to the nearest fifth: (6, 6).

    A tie goes down, so that every question stands on the side of one half that `outcomes` gives it.

    >>> cross(np.array([0.0, 1.0, 1.0]), np.array([0.5, 1.0, 0.98]))[[0, 5], [2, 5]]
    array([1, 2])
    """
    counts = np.zeros((FIFTHS + 1, FIFTHS + 1), dtype=np.int64)
    np.add.at(counts, (_fifth(accuracy_a), _fifth(accuracy_b)), 1)
    return counts


def question_accuracy(store: Store, run: str, step: int, split: str) -> pd.Series:
    """Example → mean correctness of its samples; NaN where the plan left some of them out."""
    counts = read_counts(store, run).set_index("example").sort_index()
    rows = counts[
        (counts["step"] == step) & (counts["split"] == split) & (counts["perturbation"] == "")
    ]
    scored_to = read_checkpoints(store, run).set_index("step")["samples"].astype(np.float64)
    wanted = scored_to.fillna(1.0)[step]  # an import says nothing: its rows are whole as they are
    return rows["correct"] / rows["samples"].where(rows["samples"] >= max(wanted, 1.0))


def by_question(accuracy_a: pd.Series, accuracy_b: pd.Series) -> pd.DataFrame:
    """accuracy_a, accuracy_b, change, outcome of each question of both; largest change first.

    Args:
        accuracy_a: example → accuracy at A, as `question_accuracy`.
        accuracy_b: likewise at B. Where either is NaN, change is NaN and outcome missing.
    """
    rows = pd.concat(
        {"accuracy_a": accuracy_a, "accuracy_b": accuracy_b}, axis=1, join="inner"
    ).astype(np.float64)
    rows["change"] = (rows["accuracy_b"] - rows["accuracy_a"]).round(9)
    found = outcomes(rows["accuracy_a"].to_numpy(), rows["accuracy_b"].to_numpy())
    rows["outcome"] = pd.Series(found, rows.index, dtype=object).where(rows["change"].notna())
    return rows.sort_index().sort_values("change", key=abs, ascending=False, kind="stable")


def _paired_t_test(change: Floats) -> tuple[float, float]:
    """Half-width of the mean's 90 % interval, and the p-value; NaN without spread."""
    from scipy import stats

    if np.allclose(change, change[0]):
        return float("nan"), float("nan")
    test = stats.ttest_1samp(change, 0.0)
    interval = test.confidence_interval(0.9)
    return float(interval.high - interval.low) / 2, float(test.pvalue)


def _fifth(accuracy: Floats) -> NDArray[np.int64]:
    return np.ceil(FIFTHS * accuracy - 0.5).astype(np.int64)


def _p(value: float) -> str:
    text = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")
