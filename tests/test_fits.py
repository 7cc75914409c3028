import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core import fits, metrics
from premem_core.estimators import SampleCounts, premem_steps

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


def counts(run):
    correct = np.array(run[0])
    return SampleCounts.of(np.full(correct.shape, 5), correct, 5)


@given(runs)
def test_the_steps_of_mean_premem_are_its_value_at_every_threshold(run):
    accuracy, nll = np.array(run[0]) / 5, np.array(run[1])
    pieces = premem_steps("plain", counts(run), nll, len(nll) - 1)
    at, means = fits.mean_premem_steps(pieces, nll)
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

    best = fits.best_threshold([counts(r) for r in several], nlls, tests)
    candidates = np.log([1e-9, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0])
    scale = 1 / np.sum((y - y.mean()) ** 2)
    assert best.identity_r2 == pytest.approx(r2(best.log_log_threshold), abs=1e-9 * scale)
    assert best.identity_r2 >= max(r2(t) for t in candidates) - 1e-9 * scale


def test_without_varying_test_accuracy_r2_is_undefined_and_not_zero():
    x = np.array([0.1, 0.2])
    assert np.isnan(fits.identity_r2(x, np.array([0.3, 0.3])))
    assert np.isnan(fits.linear_r2(np.array([0.2, 0.2, 0.2]), np.array([0.1, 0.2, 0.3])))
    assert np.isnan(fits.identity_r2(x[:1], x[:1]))


def test_a_point_that_is_not_known_is_left_out_of_r2():
    x, y = np.array([0.1, np.nan, 0.4, 0.3]), np.array([0.1, 0.9, 0.5, np.nan])
    assert fits.identity_r2(x, y) == fits.identity_r2(x[[0, 2]], y[[0, 2]])
    assert np.isnan(fits.linear_r2(x, y))  # two points are left, and have a line through them


def test_a_perplexity_that_was_not_measured_is_never_masked():
    nll = np.array([[np.nan]])
    four_of_five = SampleCounts.of(np.array([[5]]), np.array([[4]]), 5)
    at, means = fits.mean_premem_steps(premem_steps("plain", four_of_five, nll, 0), nll)
    assert (len(at), means.tolist()) == (0, [0.8])


def test_without_a_correct_train_sample_no_threshold_is_claimed():
    none_correct = SampleCounts.of(np.full((2, 3), 5), np.zeros((2, 3), dtype=int), 5)
    with pytest.raises(ValueError, match="train accuracy is 0"):
        fits.best_threshold([none_correct], [np.ones((2, 3))], [np.array([0.1, 0.2])])
