"""Two checkpoints on the same questions, held against loops and formulas written out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from premem_core.analysis import checkpoint_comparison
from premem_core.grading.graded_completions import read_graded_completions
from premem_core.records import Grade
from premem_core.store.completions import read_completions
from premem_core.store.scores import read_counts
from tests.helpers import planned

RUN, STEPS = "lr1e-3_ep5_n1000", (63, 315)
K = 5

counts = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, K), min_size=n, max_size=n)] * 2)
)


def accuracies(pair):
    return tuple(np.array(correct) / K for correct in pair)


def by_hand(a, b):
    """How many questions flipped up, flipped down, are right at both, are wrong at both."""
    tally = {(False, True): 0, (True, False): 0, (True, True): 0, (False, False): 0}
    for before, after in zip(a, b, strict=True):
        tally[before > 0.5, after > 0.5] += 1
    return tuple(tally.values())


def of(compared):
    return (
        compared.wrong_to_right,
        compared.right_to_wrong,
        compared.right_at_both,
        compared.wrong_at_both,
    )


@given(counts)
def test_every_question_flips_one_way_or_the_other_or_stays(pair):
    a, b = accuracies(pair)
    compared = checkpoint_comparison.compare_checkpoints(a, b)
    assert of(compared) == by_hand(a, b)
    assert sum(of(compared)) == len(a)


@given(counts)
def test_swapping_the_sides_turns_every_sign_and_no_p_value(pair):
    a, b = accuracies(pair)
    one, other = (
        checkpoint_comparison.compare_checkpoints(a, b),
        checkpoint_comparison.compare_checkpoints(b, a),
    )
    assert one.difference == pytest.approx(-other.difference)
    assert (one.wrong_to_right, one.right_to_wrong) == (other.right_to_wrong, other.wrong_to_right)
    assert (one.right_at_both, one.wrong_at_both) == (other.right_at_both, other.wrong_at_both)
    for name in ("difference_half", "p_value", "flips_p_value"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), nan_ok=True)
    np.testing.assert_array_equal(
        checkpoint_comparison.cross_table(a, b), checkpoint_comparison.cross_table(b, a).T
    )


@given(counts)
def test_the_tests_are_the_textbooks_formulas(pair):
    a, b = accuracies(pair)
    compared = checkpoint_comparison.compare_checkpoints(a, b)
    change, n = b - a, len(a)
    assert compared.difference == pytest.approx(b.mean() - a.mean(), abs=1e-12)
    if n > 1 and np.ptp(change) > 1e-9:
        error = math.sqrt(sum((c - change.mean()) ** 2 for c in change) / (n - 1) / n)
        assert compared.difference_half == pytest.approx(stats.t.ppf(0.95, n - 1) * error)
        p = 2 * stats.t.sf(abs(change.mean()) / error, n - 1)
        assert compared.p_value == pytest.approx(p, abs=1e-12)
        assert compared.p_value == pytest.approx(stats.ttest_rel(b, a).pvalue, abs=1e-9)
    else:
        assert math.isnan(compared.p_value)
        assert math.isnan(compared.difference_half)
    up, down = compared.wrong_to_right, compared.right_to_wrong
    if up + down:
        tail = sum(math.comb(up + down, i) for i in range(min(up, down) + 1)) / 2 ** (up + down)
        assert compared.flips_p_value == pytest.approx(min(1.0, 2 * tail))
    else:
        assert math.isnan(compared.flips_p_value)


@given(counts)
def test_the_cross_table_counts_each_question_once_on_its_side_of_one_half(pair):
    a, b = accuracies(pair)
    table = checkpoint_comparison.cross_table(a, b)
    expected = np.zeros((6, 6), dtype=int)
    for i, j in zip(*pair, strict=True):
        expected[i, j] += 1
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 10, 50])
def test_with_any_number_of_samples_the_cross_table_agrees_with_the_flips(samples):
    a, b = (grid.ravel() for grid in np.meshgrid(*[np.arange(samples + 1) / samples] * 2))
    table = checkpoint_comparison.cross_table(a, b)
    compared = checkpoint_comparison.compare_checkpoints(a, b)
    quarters = table[:3, 3:], table[3:, :3], table[3:, 3:], table[:3, :3]
    assert tuple(quarter.sum() for quarter in quarters) == of(compared)


def test_the_paired_test_errs_one_time_in_ten_where_nothing_changed():
    rng = np.random.default_rng(0)
    difficulty = rng.beta(0.6, 0.6, size=(1000, 80))
    a, b = (rng.binomial(K, difficulty) / K for _ in range(2))
    p = np.array(
        [
            checkpoint_comparison.compare_checkpoints(*pair).p_value
            for pair in zip(a, b, strict=True)
        ]
    )
    assert 0.07 < np.mean(p < 0.1) < 0.13


def test_what_is_undefined_is_said_and_no_number():
    def words(a, b):
        return checkpoint_comparison.compare_checkpoints(np.array(a), np.array(b)).in_words(
            "step 1", "step 2", "questions"
        )

    assert words([0.4, 0.8], [0.4, 0.8]) == (
        "Step 2 has the same accuracy as step 1 on each of the questions."
    )
    for lone in (words([0.2], [1.0]), words([0.0, 0.2], [0.8, 1.0])):
        assert "**80.0 points** more accurate" in lone
        assert "no interval and no test, because the change is the same on every question" in lone
        assert "nan" not in lone
    still = words([0.0, 0.2, 1.0], [0.4, 0.2, 0.6])
    assert still.endswith(": no question changed from wrong to right or from right to wrong.")
    with pytest.raises(ValueError, match="not 0 with 0"):
        checkpoint_comparison.compare_checkpoints(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="not 1 with 2"):
        checkpoint_comparison.compare_checkpoints(np.zeros(1), np.zeros(2))


def test_the_sentence_says_which_side_is_better_by_how_much_and_how_sure():
    a = np.array([0.0] * 30 + [1.0] * 10)
    b = np.array([1.0] * 20 + [0.0] * 10 + [0.8] * 10)
    up, down = (
        checkpoint_comparison.compare_checkpoints(*pair).in_words(
            "step 5", "step 9 of lr 0.001", "40 test questions"
        )
        for pair in ((a, b), (b, a))
    )
    half = 100 * stats.t.ppf(0.95, 39) * (b - a).std(ddof=1) / math.sqrt(40)
    assert up.replace("\N{NO-BREAK SPACE}", " ") == (
        f"Step 9 of lr 0.001 is **45.0 ± {half:.1f} points** more accurate than step 5 on the 40 "
        "test questions (paired t test, p < 0.001): **20** questions changed from wrong to right, "
        "**0** from right to wrong (sign test, p < 0.001)."
    )
    assert f"is **45.0 ± {half:.1f} points** less accurate than" in down


def test_questions_of_both_come_largest_change_first_and_unknown_ones_last():
    a = pd.Series({7: 0.2, 1: 1.0, 4: 0.4, 9: 0.0, 2: 0.6})
    b = pd.Series({1: 0.0, 2: 0.6, 4: np.nan, 7: 0.8, 5: 1.0})
    rows = checkpoint_comparison.by_question(a, b)
    assert rows.index.tolist() == [1, 7, 2, 4]
    assert rows["change"].tolist()[:3] == [-1.0, 0.6, 0.0]
    assert rows["outcome"].tolist()[:3] == [
        checkpoint_comparison.RIGHT_TO_WRONG,
        checkpoint_comparison.WRONG_TO_RIGHT,
        checkpoint_comparison.RIGHT_AT_BOTH,
    ]
    assert rows.loc[4, ["change", "outcome"]].isna().all()
    assert checkpoint_comparison.by_question(a, a.iloc[:0]).empty


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_questions_accuracy_is_the_mean_of_its_graded_completions(demo_store, split):
    accuracy = checkpoint_comparison.question_accuracy(demo_store, RUN, STEPS[1], split)
    rows = read_completions(demo_store, RUN, STEPS[1], split)
    expected = (rows["grade"] == Grade.CORRECT).groupby(rows["example"]).mean()
    pd.testing.assert_series_equal(accuracy, expected, check_names=False, check_dtype=False)
    one = rows[rows["example"] == accuracy.index[3]]
    shown = read_graded_completions(demo_store, RUN, split, int(accuracy.index[3])).query(
        "step == @STEPS[1]"
    )
    assert shown["completion"].tolist() == one["completion"].tolist()
    assert shown["grade"].tolist() == [Grade(g).name.lower() for g in one["grade"]]


def test_a_question_whose_samples_a_plan_left_out_has_no_accuracy(tmp_path):
    home = planned.store(tmp_path, "lazy")
    rows = read_counts(home, "slow").query("step == 30 and split == 'train'").set_index("example")
    accuracy = checkpoint_comparison.question_accuracy(home, "slow", 30, "train")
    partial = (rows["samples"] < planned.K).sort_index()
    assert 0 < partial.sum() < len(partial)
    pd.testing.assert_series_equal(accuracy.isna(), partial, check_names=False)
    assert not checkpoint_comparison.question_accuracy(home, "slow", 30, "test").isna().any()
    assert read_graded_completions(home, "slow", "train", int(rows.index[0])).empty
