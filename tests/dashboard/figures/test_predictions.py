"""Predicted test accuracies with their intervals, and measured ones where there are some."""

import numpy as np
import pandas as pd

from premem_core.dashboard import figures

ROWS = pd.DataFrame(
    {"step": [10, 20, 30], "predicted": [0.3, 0.5, np.nan], "low": [0.25, 0.4, np.nan],
     "high": [0.35, 0.6, np.nan], "test_accuracy": [0.32, np.nan, 0.5]}
)  # fmt: skip


def test_predictions_have_their_interval_as_a_band_and_as_bars():
    band, line, measured = figures.prediction_figure(ROWS, figures.LIGHT).to_dict()["data"]
    np.testing.assert_allclose(band["y"], [0.35, 0.6, 0.4, 0.25])
    np.testing.assert_allclose(line["error_y"]["array"], [0.05, 0.1, np.nan])
    np.testing.assert_allclose(line["error_y"]["arrayminus"], [0.05, 0.1, np.nan])
    np.testing.assert_array_equal(measured["y"], ROWS["test_accuracy"])


def test_without_a_test_set_there_is_nothing_measured_to_draw():
    untested = ROWS.assign(test_accuracy=np.nan)
    chart = figures.prediction_figure(untested, figures.LIGHT).to_dict()
    assert [trace.get("name") for trace in chart["data"]] == [None, "predicted test accuracy"]
    assert chart["layout"]["yaxis"]["range"][1] > 0.6


def test_without_an_interval_the_line_is_drawn_all_the_same():
    rows = ROWS.assign(low=np.nan, high=np.nan)
    band, line, _ = figures.prediction_figure(rows, figures.LIGHT).to_dict()["data"]
    assert band["x"] == []
    np.testing.assert_array_equal(line["y"], rows["predicted"])
