"""Few labels: against ppi-python, and on simulated questions whose true accuracy is known."""

import numpy as np
import pytest

from premem_core.metrics import few_labels
from premem_core.metrics.few_labels import Estimate
from premem_core.metrics.intervals import Z90


def draw(rng: np.random.Generator, n: int, others: int) -> tuple[np.ndarray, ...]:
    """n questions with labels and predictions, and predictions of others; the mean is .45."""
    chance = rng.beta(0.9, 1.1, n + others)
    predicted = np.clip(0.3 + 0.5 * chance + rng.normal(0, 0.1, n + others), 0, 1)
    labels = rng.binomial(1, chance[:n]).astype(float)
    return labels, predicted[:n], predicted[n:]


@pytest.mark.parametrize("seed", range(5))
def test_prediction_powered_means_are_those_of_ppi_python(seed):
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    labels, predicted, others = draw(np.random.default_rng(seed), 120, 2000)
    found = few_labels.prediction_powered_mean(labels, predicted, others)
    assert found.value == pytest.approx(ppi_mean_pointestimate(labels, predicted, others).item())
    low, high = (end.item() for end in ppi_mean_ci(labels, predicted, others, alpha=0.1))
    # ppi-python divides the squared deviations by n, and we by n - 1.
    assert (high - low) / 2 == pytest.approx(found.half, rel=1 / 120)


def test_the_joined_estimate_is_unbiased_and_its_interval_holds():
    """A hundred labels, 1,000 questions without, and a prediction that is off by three points."""
    rng, truth, error = np.random.default_rng(0), 0.45, 0.03
    plain, powered, joined, held = [], [], [], []
    for _ in range(1000):
        labels, predicted, others = draw(rng, 100, 1000)
        plain.append(few_labels.labelled_mean(labels))
        powered.append(few_labels.prediction_powered_mean(labels, predicted, others))
        joined.append(few_labels.join(powered[-1], Estimate(rng.normal(truth, error), error)))
        held.append([abs(e.value - truth) <= e.half for e in (powered[-1], joined[-1])])
    for estimates in (powered, joined):
        errors = np.array([each.value - truth for each in estimates])
        assert abs(errors.mean()) < 2 * errors.std() / np.sqrt(1000)
    assert all(0.87 <= share <= 0.93 for share in np.mean(held, axis=0))
    spreads = [np.std([each.value for each in some]) for some in (plain, powered, joined)]
    assert spreads[0] > 1.1 * spreads[1] > 1.5 * spreads[2]
    print("standard deviation of labels alone, with predictions, joined:", spreads)
    print("90 % intervals held:", np.mean(held, axis=0))


def test_the_number_of_labels_decides_four_times_in_five():
    """Two checkpoints whose answers to a question go together; the predicted difference helps."""
    rng, truth, prior = np.random.default_rng(1), 0.05, 0.03
    first = np.array([0.75, 0.25, 0.0, 0.9])  # four kinds of question
    second = first - np.array([0.1, 0.05, 0.0, 0.05])
    spread = np.sqrt((first * (1 - first) + second * (1 - second)).mean() + (first - second).var())
    needed = few_labels.labels_to_decide(truth, spread, prior)
    right = []
    for _ in range(2000):
        kind = rng.integers(0, 4, needed)
        each = rng.binomial(1, first[kind]) - rng.binomial(1, second[kind])
        found = few_labels.join(
            few_labels.labelled_mean(each.astype(float)), Estimate(rng.normal(truth, prior), prior)
        )
        right.append(found.value - found.half > 0)
    assert np.mean(right) == pytest.approx(few_labels.POWER, abs=2 * np.sqrt(0.16 / 2000))
    print(f"{needed} labels decide in {np.mean(right):.1%}")


def test_the_number_of_labels_by_hand():
    assert few_labels.labels_to_decide(0.1, 0.5, np.nan) == np.ceil(25 * (Z90 + 0.84162123) ** 2)
    assert few_labels.labels_to_decide(0.0, 0.5, 0.02) is None
    assert few_labels.labels_to_decide(0.001, 0.5, 0.02) is None  # a million and a half
    assert few_labels.labels_to_decide(0.2, 0.5, 0.02) == 0  # the prediction alone decides


def test_predictions_that_say_nothing_are_left_out():
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    for predicted, others in (
        (np.full(4, 0.5), np.array([0.1, 0.9])),
        (np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.1, 0.9])),  # it is worse than chance
        (labels, np.empty(0)),
    ):
        found = few_labels.prediction_powered_mean(labels, predicted, others)
        alone = few_labels.labelled_mean(labels)
        assert (found.value, found.error) == pytest.approx((alone.value, alone.error))


def test_an_estimate_without_an_error_counts_for_nothing():
    known, unknown = Estimate(0.4, 0.02), Estimate(0.9, np.nan)
    assert few_labels.join(known, unknown) == few_labels.join(unknown, known) == known
    assert few_labels.join(known, Estimate(0.5, 0.0)) == Estimate(0.5, 0.0)
