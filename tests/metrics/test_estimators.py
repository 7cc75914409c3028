import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from premem_core.metrics import estimators, pre_memorization
from premem_core.metrics.sample_counts import SampleCounts

T = float(np.log(0.1))

columns = st.integers(1, 3).flatmap(
    lambda c: st.tuples(
        st.integers(2, 4).flatmap(
            lambda k: st.tuples(st.just(k), st.lists(st.integers(0, k), min_size=c, max_size=c))
        ),
        st.lists(st.sampled_from([0.05, 0.3]), min_size=c, max_size=c),
    )
)


def premem(estimator, samples, correct, k, nll):
    """PM of the last checkpoint of one example."""
    counts = SampleCounts.of(np.array(samples)[:, None], np.array(correct)[:, None], k)
    return estimators.premem(estimator, counts, np.array(nll)[:, None], T)[-1, 0]


@given(columns)
def test_the_jackknife_is_its_definition_with_every_deletion_written_out(column):
    (k, correct), nll = column
    plain = premem("plain", [k] * len(nll), correct, k, nll)
    deleted = []
    for lost in itertools.product(range(k), repeat=len(nll)):
        left = [t - (at < t) for t, at in zip(correct, lost, strict=True)]
        deleted.append(premem("plain", [k - 1] * len(nll), left, k - 1, nll))
    expected = k * plain - (k - 1) * np.mean(deleted)
    assert premem("jackknife", [k] * len(nll), correct, k, nll) == pytest.approx(expected)


@given(columns, st.data())
def test_plain_pm_is_known_exactly_where_the_missing_samples_cannot_change_it(column, data):
    (k, correct), nll = column
    samples = [data.draw(st.integers(t, k)) for t in correct]
    possible = {
        premem("plain", [k] * len(nll), ends, k, nll)
        for ends in itertools.product(
            *(range(t, t + k - s + 1) for t, s in zip(correct, samples, strict=True))
        )
    }
    value = premem("plain", samples, correct, k, nll)
    assert {value} == possible if len(possible) == 1 else np.isnan(value)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_over_all_orders_a_lazily_stopped_pair_has_the_jackknife_of_all_its_samples(k):
    # Two unmasked checkpoints with M and M − 1 correct, then a masked one with T of K.
    nll = [0.3, 0.3, 0.05]
    for most, ties in itertools.product(range(1, k + 1), (1, 2)):
        before = [most, most if ties == 2 else most - 1]
        for t in range(k + 1):
            full = premem("jackknife", [k] * 3, [*before, t], k, nll)
            lazy = []
            for hits in itertools.combinations(range(k), t):
                s = hits[most - 1] + 1 if t >= most else k
                # A second example that its plan left out shows that the run was sampled lazily.
                counts = SampleCounts.of(
                    np.array([[k, k], [k, k], [s, 0]]),
                    np.array([[b, 0] for b in before] + [[min(t, most), 0]]),
                    k,
                )
                both = estimators.premem("jackknife", counts, np.array([nll, nll]).T, T)
                assert both[-1, 1] == 0
                lazy.append(both[-1, 0])
            assert np.mean(lazy) == pytest.approx(full)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.sampled_from(estimators.ESTIMATORS), st.booleans())
def test_the_steps_are_the_estimate_at_every_threshold(seed, estimator, partial):
    rng = np.random.default_rng(seed)
    k = 3
    nll = rng.choice([0.0, 0.01, 0.1, 0.2, 0.5, np.nan], size=(3, 8))
    samples = rng.integers(2, k + 1, size=(3, 8)) if partial else np.full((3, 8), k)
    counts = SampleCounts.of(samples, rng.integers(0, samples + 1), k)
    last = rng.integers(3)
    steps = estimators.premem_steps(estimator, counts, nll, np.argsort(nll[: last + 1], axis=0))
    for tau in (0.005, 0.05, 0.15, 0.3, 1.0):
        masked = (nll[: last + 1] < tau).sum(axis=0)
        expected = estimators.premem(estimator, counts, nll, np.log(tau))[last]
        np.testing.assert_allclose(steps[masked, np.arange(8)], expected)


def test_with_all_samples_plain_is_the_papers_formula():
    rng = np.random.default_rng(0)
    nll, correct = rng.gamma(1, 0.2, size=(4, 50)), rng.integers(0, 6, size=(4, 50))
    counts = SampleCounts.of(np.full((4, 50), 5), correct, 5)
    np.testing.assert_array_equal(
        estimators.premem("plain", counts, nll, T),
        pre_memorization.premem_accuracy(correct / 5, nll, T),
    )


def test_an_example_without_a_row_is_not_known_and_not_zero():
    counts = SampleCounts(np.array([[0]]), np.array([[0]]), np.array([[0]]))
    assert np.isnan(counts.accuracy[0, 0])
    assert np.isnan(estimators.premem("plain", counts, np.array([[np.nan]]), T)[0, 0])


def test_the_jackknife_says_what_it_needs():
    one = SampleCounts.of(np.ones((2, 1), dtype=int), np.ones((2, 1), dtype=int), 1)
    with pytest.raises(ValueError, match="at least 2 samples of every example, not 1"):
        estimators.premem("jackknife", one, np.ones((2, 1)), T)
    k = np.array([[5], [10]])
    with pytest.raises(ValueError, match="between 5 and 10"):
        estimators.premem("jackknife", SampleCounts(k, k, k), np.ones((2, 1)), T)
