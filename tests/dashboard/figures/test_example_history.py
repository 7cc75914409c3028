"""One example's accuracy and perplexity by checkpoint."""

import numpy as np
import pandas as pd
import pytest

from premem_core.dashboard import figures

HISTORY = pd.DataFrame(
    {"step": [10, 20, 30], "accuracy": [0.2, np.nan, 1.0], "nll": [0.9, 0.3, 0.01]}
)


def test_perplexities_have_an_axis_of_their_own_on_which_the_threshold_is_a_line():
    chart = figures.example_history_figure(HISTORY, -2.0, figures.LIGHT).to_dict()
    accuracy, perplexity = chart["data"]
    np.testing.assert_array_equal(accuracy["y"], HISTORY["accuracy"])
    np.testing.assert_allclose(perplexity["y"], np.exp(HISTORY["nll"]))
    assert perplexity["yaxis"] == "y2"
    [line] = chart["layout"]["shapes"]
    assert (line["yref"], line["y0"]) == ("y2", pytest.approx(np.exp(np.exp(-2.0))))


@pytest.mark.parametrize("nll", [[0.9, 0.3, 0.01], [0.01, 0.02, 0.01], [np.nan] * 3])
def test_the_threshold_is_always_inside_the_axis(nll):
    chart = figures.example_history_figure(HISTORY.assign(nll=nll), -1.0, figures.LIGHT).to_dict()
    low, high = chart["layout"]["yaxis2"]["range"]  # powers of ten
    assert low < np.exp(-1.0) / np.log(10) < high
