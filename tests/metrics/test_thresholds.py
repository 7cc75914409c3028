import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from premem_core.metrics import pre_memorization, thresholds
from premem_core.metrics.estimators import premem_steps
from premem_core.metrics.r2 import identity_r2, linear_r2
from premem_core.metrics.sample_counts import SampleCounts
from tests.helpers.drawn import runs


def counts(run):
    correct = np.array(run[0])
    return SampleCounts.of(np.full(correct.shape, 5), correct, 5)


@given(runs)
def test_the_steps_of_mean_premem_are_its_value_at_every_threshold(run):
    accuracy, nll = np.array(run[0]) / 5, np.array(run[1])
    pieces = premem_steps("plain", counts(run), nll, np.argsort(nll, axis=0))
    at, rank = thresholds.breakpoints(nll)
    means = thresholds.mean_premem_steps(pieces, np.sort(rank, axis=0), len(at))
    for tau in (0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0):
        expected = pre_memorization.premem_accuracy(accuracy, nll, np.log(tau))[-1].mean()
        # exp(log(tau)) may round above tau; the steps are asked at what it rounds to.
        assert means[np.searchsorted(at, np.exp(np.log(tau)))] == pytest.approx(expected)


@settings(max_examples=60)
@given(st.lists(runs, min_size=1, max_size=3))
def test_no_threshold_beats_the_exact_optimum(several):
    accuracies = [np.array(r[0]) / 5 for r in several]
    nlls = [np.array(r[1]) for r in several]
    tests = [np.array(r[2]) for r in several]
    y = np.concatenate(tests)
    assume(len(y) >= 2 and np.ptp(y) >= 1e-3)
    assume(any((a > 0).any() for a in accuracies))

    def r2(threshold):
        x = np.concatenate(
            [pre_memorization.premem_accuracy(a, n, threshold).mean(axis=1)
             for a, n in zip(accuracies, nlls, strict=True)]
        )  # fmt: skip
        return identity_r2(x, y)

    best = thresholds.steps([counts(r) for r in several], nlls, tests).best()
    candidates = np.log([1e-9, 0.005, 0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0])
    scale = 1 / np.sum((y - y.mean()) ** 2)
    assert best.r2 == pytest.approx(r2(best.log_log_threshold), abs=1e-9 * scale)
    assert best.r2 >= max(r2(t) for t in candidates) - 1e-9 * scale


def test_a_perplexity_that_was_not_measured_is_never_masked():
    nll = np.array([[np.nan]])
    four_of_five = SampleCounts.of(np.array([[5]]), np.array([[4]]), 5)
    at, rank = thresholds.breakpoints(nll)
    pieces = premem_steps("plain", four_of_five, nll, np.argsort(nll[:1], axis=0))
    means = thresholds.mean_premem_steps(pieces, np.sort(rank, axis=0), len(at))
    assert (len(at), means.tolist()) == (0, [0.8])


def test_without_a_correct_train_sample_no_threshold_is_claimed():
    none_correct = SampleCounts.of(np.full((2, 3), 5), np.zeros((2, 3), dtype=int), 5)
    with pytest.raises(ValueError, match="train accuracy is 0"):
        thresholds.steps([none_correct], [np.ones((2, 3))], [np.array([0.1, 0.2])]).best()


@settings(max_examples=40)
@given(st.lists(runs, min_size=2, max_size=4), st.sampled_from([-3.0, -1.5, -0.5]))
def test_sums_at_a_threshold_are_those_of_each_runs_checkpoints(several, t):
    nlls, tests = [np.array(r[1]) for r in several], [np.array(r[2]) for r in several]
    [at_t] = thresholds.steps([counts(r) for r in several], nlls, tests).sums_at(np.array([t]))
    for r, nll, y, sums in zip(several, nlls, tests, at_t, strict=True):
        x = pre_memorization.premem_accuracy(np.array(r[0]) / 5, nll, t).mean(axis=1)
        assert sums == pytest.approx([x.sum(), (x * x).sum(), (x * y).sum(), 0])


def test_the_plateau_holds_every_threshold_that_is_about_as_good():
    rng = np.random.default_rng(3)
    correct, nll = rng.integers(0, 6, (4, 50)), rng.exponential(0.3, (4, 50))
    tests = np.linspace(0.2, 0.5, 4)
    of_run = SampleCounts.of(np.full(correct.shape, 5), correct, 5)
    steps = thresholds.steps([of_run], [nll], [tests])
    best = steps.best()
    low, high = best.plateau
    assert low <= best.lowest < best.log_log_threshold < best.highest <= high

    def r2(t):
        return identity_r2(
            pre_memorization.premem_accuracy(correct / 5, nll, t).mean(axis=1), tests
        )

    inside = np.linspace(low, high, 40)[1:-1]
    assert min(r2(t) for t in inside) >= best.r2 - thresholds.PLATEAU - 1e-9
    assert r2(low - 1e-6) < best.r2 - thresholds.PLATEAU
    assert r2(high + 1e-6) < best.r2 - thresholds.PLATEAU


def test_resampling_runs_gives_what_repeating_their_points_gives():
    rng = np.random.default_rng(5)
    several = [
        (rng.integers(0, 6, (3, 40)), rng.exponential(0.3, (3, 40)), rng.uniform(0.1, 0.6, 3))
        for _ in range(4)
    ]
    steps = thresholds.steps(
        [SampleCounts.of(np.full((3, 40), 5), correct, 5) for correct, _, _ in several],
        [nll for _, nll, _ in several],
        [tests for _, _, tests in several],
    )
    done = thresholds.resample(steps, log_log_threshold=-1.0, resamples=20)
    weights = np.random.default_rng(0).multinomial(4, np.full(4, 0.25), 20)
    for weight, identity, linear in zip(weights, done.identity, done.linear, strict=True):
        chosen = [several[i] for i in np.repeat(np.arange(4), weight)]
        x, y = (np.concatenate(parts) for parts in zip(
            *((pre_memorization.premem_accuracy(c / 5, n, -1.0).mean(axis=1), tests)
              for c, n, tests in chosen), strict=True))  # fmt: skip
        assert identity == pytest.approx(identity_r2(x, y))
        assert linear == pytest.approx(linear_r2(x, y))


def test_a_refitted_resample_is_never_worse_than_the_given_threshold():
    rng = np.random.default_rng(6)
    correct, nll = rng.integers(0, 6, (5, 60)), rng.exponential(0.3, (5, 60))
    half = [SampleCounts.of(np.full((5, 60), 5), correct, 5)] * 2
    steps = thresholds.steps(half, [nll, nll * 1.2], [np.linspace(0.1, 0.4, 5)] * 2)
    t = steps.best().log_log_threshold
    fitted = thresholds.resample(steps, resamples=50)
    given_ = thresholds.resample(steps, log_log_threshold=t, resamples=50)
    assert (fitted.identity >= given_.identity - 1e-3).all()


def steps_of(*runs):
    """The steps of some of three runs, by number."""
    rng = np.random.default_rng(8)
    correct, nll = rng.integers(0, 6, (3, 3, 30)), rng.exponential(0.3, (3, 3, 30))
    tests = rng.uniform(0.1, 0.6, (3, 3))
    counted = [SampleCounts.of(np.full((3, 30), 5), correct[run], 5) for run in runs]
    return thresholds.steps(counted, [nll[run] for run in runs], [tests[run] for run in runs])


@pytest.mark.parametrize("objective", thresholds.OBJECTIVES)
def test_a_runs_weight_counts_its_checkpoints_as_often_as_it_says(objective):
    weighted = steps_of(0, 1, 2).weighted(np.array([1.0, 3.0, 2.0]))
    repeated = steps_of(0, 1, 1, 1, 2, 2)
    for t in (-4.0, -2.0, -1.0, 0.0):
        at = [np.searchsorted(steps.breakpoints, np.exp(t)) for steps in (weighted, repeated)]
        assert weighted.r2(objective)[at[0]] == pytest.approx(repeated.r2(objective)[at[1]])
    best, expected = weighted.best(objective), repeated.best(objective)
    assert best.log_log_threshold == pytest.approx(expected.log_log_threshold)
    assert best.r2 == pytest.approx(expected.r2)
    assert best.plateau == pytest.approx(expected.plateau)


def test_a_run_of_weight_0_counts_as_one_that_is_not_there():
    steps = steps_of(0, 1, 2)
    without = steps.select_runs(np.array([True, False, True]))
    best, expected = steps.weighted(np.array([1.0, 0.0, 1.0])).best(), without.best()
    assert best.r2 == pytest.approx(expected.r2)
    assert expected.lowest <= best.log_log_threshold <= expected.highest


def test_a_sample_that_is_missing_makes_r2_unknown_whatever_its_runs_weight():
    few = SampleCounts(np.full((2, 4), 1), np.ones((2, 4), dtype=int), np.full((2, 4), 5))
    nll = np.array([[0.5] * 4, [0.1] * 4])
    steps = thresholds.steps([few], [nll], [np.array([0.1, 0.6])])
    unknown = np.isnan(steps.r2())
    assert unknown.any()
    for weight in (0.001, 1.0, 50.0):
        np.testing.assert_array_equal(np.isnan(steps.weighted(np.array([weight])).r2()), unknown)
