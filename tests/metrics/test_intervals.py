"""Means over questions and their 90 % intervals."""

import numpy as np
import pytest
from scipy import stats

from premem_core.metrics import intervals


@pytest.mark.parametrize("n", [30, 300])
def test_the_interval_covers_the_truth_about_nine_times_in_ten(n):
    rng = np.random.default_rng(0)
    difficulty = rng.beta(0.6, 0.6, size=(2000, n))
    values = rng.binomial(5, difficulty) / 5
    mean, half = intervals.mean_interval(values)
    assert 0.87 < np.mean(np.abs(mean - 0.5) <= half) < 0.93


def test_the_half_width_is_that_of_the_textbook():
    values = np.random.default_rng(1).random((3, 40))
    mean, half = intervals.mean_interval(values)
    np.testing.assert_allclose(mean, values.mean(axis=1))
    np.testing.assert_allclose(half, stats.norm.ppf(0.95) * stats.sem(values, axis=1))


def test_questions_that_are_not_known_are_left_out_of_a_mean_but_make_a_whole_mean_unknown():
    values = np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 1.0], [np.nan] * 3])
    mean, half = intervals.mean_interval(values)
    assert mean[:2].tolist() == pytest.approx([0.5, 2 / 3])
    assert np.isnan([mean[2], half[2]]).all()
    whole, whole_half = intervals.whole_mean_interval(values)
    assert np.isnan(whole).tolist() == np.isnan(whole_half).tolist() == [True, False, True]
    assert (whole[1], whole_half[1]) == (mean[1], half[1])


def test_one_question_has_a_mean_and_no_interval():
    mean, half = intervals.mean_interval(np.array([0.3]))
    assert mean == 0.3
    assert np.isnan(half)
