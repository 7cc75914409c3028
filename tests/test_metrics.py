import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core import fits, metrics


def by_hand(accuracy, nll, threshold, c, i):
    """Pre-memorization accuracy as METHOD section 1 spells it, one example at a time."""
    best = 0.0
    for earlier in range(c + 1):
        if nll[earlier][i] >= np.exp(threshold):
            best = max(best, accuracy[earlier][i])
    return min(best, accuracy[c][i])


runs = st.integers(1, 4).flatmap(
    lambda c: st.tuples(
        st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=c, max_size=c),
        st.lists(
            st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.2, 0.5, 2.0]), min_size=6, max_size=6),
            min_size=c,
            max_size=c,
        ),
        st.lists(st.floats(0, 1), min_size=c, max_size=c),
    )
)


@given(runs, st.floats(-6, 1))
def test_premem_accuracy_is_the_papers_formula(run, threshold):
    accuracy, nll = np.array(run[0]) / 5, np.array(run[1])
    premem = metrics.premem_accuracy(accuracy, nll, threshold)
    for c in range(len(accuracy)):
        for i in range(accuracy.shape[1]):
            assert premem[c, i] == by_hand(accuracy, nll, threshold, c, i)


@given(runs)
def test_the_steps_of_mean_premem_are_its_value_at_every_threshold(run):
    accuracy, nll = np.array(run[0]) / 5, np.array(run[1])
    at, means = fits.mean_premem_steps(accuracy, nll)
    for tau in (0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0):
        expected = metrics.premem_accuracy(accuracy, nll, np.log(tau))[-1].mean()
        # exp(log(tau)) may round above tau; the steps are asked at what it rounds to.
        assert means[np.searchsorted(at, np.exp(np.log(tau)))] == pytest.approx(expected)


@settings(max_examples=60)
@given(st.lists(runs, min_size=1, max_size=3))
def test_no_threshold_beats_the_exact_optimum(several):
    accuracies = [np.array(r[0]) / 5 for r in several]
    nlls = [np.array(r[1]) for r in several]
    tests = [np.array(r[2]) for r in several]
    y = np.concatenate(tests)
    if len(y) < 2 or np.ptp(y) < 1e-3:
        return

    if not any((a > 0).any() for a in accuracies):
        return

    def r2(threshold):
        x = np.concatenate(
            [metrics.premem_accuracy(a, n, threshold)[:].mean(axis=1)
             for a, n in zip(accuracies, nlls, strict=True)]
        )  # fmt: skip
        return fits.identity_r2(x, y)

    best = fits.best_threshold(accuracies, nlls, tests)
    candidates = np.log([1e-9, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0])
    scale = 1 / np.sum((y - y.mean()) ** 2)
    assert best.identity_r2 == pytest.approx(r2(best.log_log_threshold), abs=1e-9 * scale)
    assert best.identity_r2 >= max(r2(t) for t in candidates) - 1e-9 * scale


def test_without_varying_test_accuracy_r2_is_undefined_and_not_zero():
    x = np.array([0.1, 0.2])
    assert np.isnan(fits.identity_r2(x, np.array([0.3, 0.3])))
    assert np.isnan(fits.linear_r2(np.array([0.2, 0.2]), x))
    assert np.isnan(fits.identity_r2(x[:1], x[:1]))


def test_an_unmeasured_perplexity_is_not_memorized():
    assert not metrics.memorized(np.array([np.nan]), 5.0)[0]
    at, means = fits.mean_premem_steps(np.array([[0.8]]), np.array([[np.nan]]))
    assert (len(at), means.tolist()) == (0, [0.8])


def test_a_perplexity_of_exactly_one_is_memorized_at_every_threshold():
    assert metrics.memorized(np.array([0.0]), -50.0)[0]


@pytest.mark.parametrize("n", [30, 300])
def test_the_interval_covers_the_truth_about_nine_times_in_ten(n):
    rng = np.random.default_rng(0)
    difficulty = rng.beta(0.6, 0.6, size=(2000, n))
    values = rng.binomial(5, difficulty) / 5
    mean, half = metrics.mean_interval(values)
    assert 0.87 < np.mean(np.abs(mean - 0.5) <= half) < 0.93


def test_without_a_correct_train_sample_no_threshold_is_claimed():
    with pytest.raises(ValueError, match="train accuracy is 0"):
        fits.best_threshold([np.zeros((2, 3))], [np.ones((2, 3))], [np.array([0.1, 0.2])])
