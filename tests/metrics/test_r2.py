import numpy as np

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
