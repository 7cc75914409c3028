import numpy as np
import pytest

from premem_core.metrics import r2


def test_without_varying_test_accuracy_r2_is_undefined_and_not_zero():
    x = np.array([0.1, 0.2])
    assert np.isnan(r2.identity_r2(x, np.array([0.3, 0.3])))
    assert np.isnan(r2.linear_r2(np.array([0.2, 0.2, 0.2]), np.array([0.1, 0.2, 0.3])))
    assert np.isnan(r2.identity_r2(x[:1], x[:1]))


def test_a_point_that_is_not_known_is_left_out_of_r2():
    x, y = np.array([0.1, np.nan, 0.4, 0.3]), np.array([0.1, 0.9, 0.5, np.nan])
    assert r2.identity_r2(x, y) == r2.identity_r2(x[[0, 2]], y[[0, 2]])
    assert np.isnan(r2.linear_r2(x, y))  # two points are left, and have a line through them


@pytest.mark.parametrize("measure", [r2.identity_r2, r2.linear_r2, r2.pearson])
def test_a_weight_counts_a_point_as_often_as_it_says(measure):
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 8))
    x[3] = np.nan  # it is left out together with its weight
    weights = np.array([1, 2, 3, 9, 1, 4, 0, 2])
    repeated = measure(np.repeat(x, weights), np.repeat(y, weights))
    assert measure(x, y, weights) == pytest.approx(repeated)
    assert measure(x, y, 0.1 * weights) == pytest.approx(repeated)  # only ratios count


def test_points_of_one_weight_count_alike():
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 8))
    for measure in (r2.identity_r2, r2.linear_r2, r2.pearson):
        assert measure(x, y, np.full(8, 0.3)) == pytest.approx(measure(x, y))


def test_identity_r2_is_below_0_where_the_mean_predicts_better():
    y = np.array([0.2, 0.4, 0.6])
    assert r2.identity_r2(y, y) == 1
    assert r2.identity_r2(np.full(3, 0.4), y) == pytest.approx(0)
    assert r2.identity_r2(y + 0.5, y) < 0
    assert r2.linear_r2(y + 0.5, y) == pytest.approx(1)


def test_pearson_is_numpys_and_has_a_sign():
    x, y = np.random.default_rng(4).random((2, 9))
    assert r2.pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert r2.pearson(x, -x) == pytest.approx(-1)
