"""R² by threshold, with its plateau and the threshold in use."""

import numpy as np
import pandas as pd
import pytest

from premem_core.dashboard import figures

TABLE = pd.DataFrame(
    {"log_log_threshold": [-5.0, -2.0, 0.5], "perplexity": [1.007, 1.145, 5.2],
     "r2": [-3.0, 0.9, 0.4]}
)  # fmt: skip


def test_the_plateau_is_shaded_and_the_threshold_in_use_is_a_line():
    chart = figures.threshold_figure(TABLE, (-2.5, -1.5), -2.2, figures.LIGHT).to_dict()
    plateau, line = chart["layout"]["shapes"]
    assert (plateau["x0"], plateau["x1"]) == (-2.5, -1.5)
    assert (line["x0"], line["x1"]) == (-2.2, -2.2)
    assert chart["data"][0]["y"] == [-3.0, 0.9, 0.4]


def test_an_open_plateau_ends_with_the_chart():
    chart = figures.threshold_figure(TABLE, (-np.inf, np.inf), -2.2, figures.LIGHT).to_dict()
    assert (chart["layout"]["shapes"][0]["x0"], chart["layout"]["shapes"][0]["x1"]) == (-5.0, 0.5)


@pytest.mark.parametrize(("best", "lowest"), [(0.9, 0.0), (0.3, -0.2), (-2.0, -2.5)])
def test_the_axis_shows_the_best_and_not_the_depths(best, lowest):
    table = TABLE.assign(r2=[-30.0, best, best - 1])
    axis = figures.threshold_figure(table, (-2.5, -1.5), -2, figures.LIGHT).to_dict()["layout"][
        "yaxis"
    ]
    assert axis["range"] == pytest.approx([lowest, 1.02])


def test_where_r2_is_known_nowhere_there_is_a_chart_all_the_same():
    chart = figures.threshold_figure(TABLE.assign(r2=np.nan), (-3, -1), -2, figures.LIGHT)
    assert chart.to_dict()["layout"]["yaxis"]["range"] == [0.0, 1.02]
