"""Last-unmasked accuracy against its definition, and the honesty of its uncertainty."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.metrics import estimators, intervals, thresholds
from premem_core.metrics.budget import Design
from premem_core.metrics.last_unmasked import last_unmasked_means
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.metrics.sampling_plan import Share, to_draw

T = float(np.log(0.1))


def a_run(checkpoints=4, examples=600, seed=0):
    """NLL and true accuracies (C, N) of a run that memorizes more and more."""
    rng = np.random.default_rng(seed)
    age = np.arange(1, checkpoints + 1)[:, None]
    nll = 0.6 * np.exp(-0.5 * age * rng.uniform(0.2, 2, examples))
    accuracy = np.clip(rng.beta(0.8, 1.2, examples) * (0.5 + 0.12 * age), 0, 1)
    return nll, accuracy


def drawn(nll, accuracy, k, rng, share):
    """The counts of the plan `last` with K samples."""
    none = np.zeros(nll.shape, dtype=np.int64)
    samples = to_draw("last", k, T, nll, none, none, share)
    return SampleCounts.of(samples, rng.binomial(samples, accuracy), k)


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_lu_is_the_accuracy_at_the_last_checkpoint_that_is_not_memorized(seed, k):
    rng = np.random.default_rng(seed)
    nll = rng.choice([0.05, 0.3, np.nan], size=(4, 6))
    correct = rng.integers(0, k + 1, size=(4, 6))
    counts = SampleCounts.of(np.full((4, 6), k), correct, k)
    found = estimators.premem("lu", counts, nll, T)
    for c in range(4):
        for i in range(6):
            unmasked = [b for b in range(c + 1) if not nll[b, i] < 0.1]
            expected = correct[unmasked[-1], i] / k if unmasked else 0.0
            assert found[c, i] == expected


def test_the_plan_last_draws_no_sample_of_a_memorized_pair_and_lu_misses_none():
    nll, accuracy = a_run()
    counts = drawn(nll, accuracy, 2, np.random.default_rng(1), Share())
    assert not counts.samples[nll < np.exp(T)].any()
    assert not np.isnan(estimators.premem("lu", counts, nll, T)).any()
    assert counts.only_unmasked
    # At a higher threshold every sample that LU needs is there; at a lower one it is not.
    assert not np.isnan(estimators.premem_means("lu", counts, nll, T + 0.3).mean).any()
    assert np.isnan(estimators.premem_means("lu", counts, nll, T - 0.3).mean).any()


@pytest.mark.parametrize(("k", "fraction"), [(1, 1.0), (3, 1.0), (1, 0.5), (1, 0.2)])
def test_the_mean_over_many_draws_is_lu_of_all_samples_and_its_spread_is_as_said(k, fraction):
    nll, accuracy = a_run()
    rng = np.random.default_rng(2)
    last = np.maximum.accumulate(np.where(nll < 0.1, -1, np.arange(len(nll))[:, None]), axis=0)
    at_last = np.take_along_axis(accuracy, np.maximum(last, 0), axis=0)
    truth = np.where(last < 0, 0, at_last).mean(axis=1)
    repeats = [
        last_unmasked_means(drawn(nll, accuracy, k, rng, Share(fraction, rng.random())), nll, T)
        for _ in range(400)
    ]
    means = np.array([r.mean for r in repeats])
    error = means.std(axis=0, ddof=1)
    assert (np.abs(means.mean(axis=0) - truth) < 3 * error / np.sqrt(400)).all()
    said = np.mean([r.sampling_error for r in repeats], axis=0)
    if k == 1:  # an upper bound, because one sample does not show how much samples differ
        assert (said > 0.95 * error).all()
        assert (said < 1.6 * error).all()
    else:
        np.testing.assert_allclose(said, error, rtol=0.15)


def test_with_all_examples_the_interval_is_that_of_any_mean_over_questions():
    nll, accuracy = a_run()
    counts = drawn(nll, accuracy, 2, np.random.default_rng(3), Share())
    found = last_unmasked_means(counts, nll, T)
    mean, half = intervals.mean_interval(estimators.premem("lu", counts, nll, T))
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.half, half)
    part = drawn(nll, accuracy, 2, np.random.default_rng(3), Share(0.3))
    assert (last_unmasked_means(part, nll, T).half > 1.2 * half).all()


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_at_every_threshold_a_fit_uses_the_mean_that_a_curve_shows(fraction):
    nll, accuracy = a_run(examples=80)
    counts = drawn(nll, accuracy, 1, np.random.default_rng(4), Share(fraction))
    tests = np.array([0.2, 0.3, 0.35, 0.4])
    steps = thresholds.steps([counts], [nll], [tests], "lu")
    for t in (T - 0.2, T, T + 0.1, T + 0.5, 0.0, 3.0):
        means = estimators.premem_means("lu", counts, nll, t).mean
        [[sums]] = steps.sums_at(np.array([t]))
        assert sums[3] == np.isnan(means).sum()
        known = np.nan_to_num(means)
        assert sums[:3] == pytest.approx([known.sum(), known @ known, known @ tests])


def test_a_checkpoint_at_which_everything_was_always_memorized_has_lu_zero():
    counts = SampleCounts.of(np.zeros((1, 3), int), np.zeros((1, 3), int), 1)
    found = last_unmasked_means(counts, np.full((1, 3), 0.01), T)
    assert (found.mean.item(), found.half.item(), found.sampling_error.item()) == (0, 0, 0)


def test_without_any_sample_lu_is_not_known():
    counts = SampleCounts.of(np.zeros((1, 3), int), np.zeros((1, 3), int), 1)
    assert np.isnan(last_unmasked_means(counts, np.full((1, 3), 0.9), T).mean)


@pytest.mark.parametrize(("n", "k", "correct"), [(3, 5, 3), (7, 10, 1), (19, 10, 7)])
def test_equal_accuracies_have_an_interval_of_no_width(n, k, correct):
    counts = SampleCounts.of(np.full((1, n), k), np.full((1, n), correct), k)
    found = last_unmasked_means(counts, np.full((1, n), 0.9), T)
    np.testing.assert_allclose(found.mean, correct / k)
    assert found.half < 1e-6


def test_the_sampling_error_is_at_most_what_a_budget_promises():
    correct = np.arange(40)[None] % 2
    counts = SampleCounts.of(np.ones((1, 40), dtype=np.int64), correct, 1)
    means = last_unmasked_means(counts, np.ones((1, 40)), T)
    assert means.sampling_error[0] == pytest.approx(Design(40, 40, 1).standard_error)


@pytest.mark.parametrize("correct", [0, 1])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_interval_has_a_width_where_all_samples_are_alike(correct, share):
    nll = np.full((2, 50), 0.3)
    samples = (np.arange(50) < 50 * share).astype(int) * np.ones((2, 1), dtype=int)
    counts = SampleCounts.of(samples, correct * samples, 1)
    means = last_unmasked_means(counts, nll, T)
    least = intervals.half_of_alike(np.array(50 * share))
    np.testing.assert_allclose(means.mean, correct)
    np.testing.assert_allclose(means.half, least)
    np.testing.assert_allclose(means.sampling_error, least / intervals.Z90)
    _, error = estimators.premem_change("lu", counts, nll, T, 1, 0)
    assert error == pytest.approx(least / intervals.Z90)
