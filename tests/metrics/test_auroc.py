"""The area under the ROC curve and its interval."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from premem_core.metrics.auroc import auroc


def test_auroc_is_sklearns_and_its_interval_covers_the_truth_nine_times_in_ten():
    rng = np.random.default_rng(0)
    inside, truth = [], 0.760  # P(N(1, 1) > N(0, 1))
    for _ in range(400):
        positive = rng.random(200) < 0.3
        values = rng.normal(positive, 1)
        area, half = auroc(values, positive)
        inside.append(abs(area - truth) <= half)
    assert area == pytest.approx(roc_auc_score(positive, values))
    assert 0.86 < np.mean(inside) < 0.94
    tied = np.round(values)
    assert auroc(tied, positive)[0] == pytest.approx(roc_auc_score(positive, tied))
    assert np.isnan(auroc(values, np.zeros(200, bool))).all()


def test_swapping_the_classes_turns_the_area_around_one_half():
    rng = np.random.default_rng(5)
    values, positive = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.5
    (area, half), (turned, turned_half) = auroc(values, positive), auroc(values, ~positive)
    assert turned == pytest.approx(1 - area)
    assert turned_half == pytest.approx(half)


def test_a_single_positive_has_an_area_and_no_interval():
    area, half = auroc(np.array([0.1, 0.5, 0.4]), np.array([False, True, False]))
    assert area == 1
    assert np.isnan(half)
