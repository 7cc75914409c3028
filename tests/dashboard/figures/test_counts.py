"""Cross tables of grades and of accuracies."""

import numpy as np
import pandas as pd

from premem_core.analysis import checkpoint_comparison
from premem_core.dashboard import figures

K = 5


def test_the_chart_labels_its_quarters_with_the_numbers_of_flips():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, K + 1, (2, 500)) / K
    compared = checkpoint_comparison.compare_checkpoints(a, b)
    for palette in (figures.LIGHT, figures.DARK):
        figure = figures.flips_figure(
            checkpoint_comparison.cross_table(a, b), "step 1", "step 2", palette
        )
        labels = [annotation["text"] for annotation in figure.to_dict()["layout"]["annotations"]]
        assert labels == [
            f"wrong → right: {compared.wrong_to_right}",
            f"right at both: {compared.right_at_both}",
            f"wrong at both: {compared.wrong_at_both}",
            f"right → wrong: {compared.right_to_wrong}",
        ]
        drawn = figure.to_dict()["data"][0]
        assert drawn["text"][5][0] == str(((a == 0) & (b == 1)).sum())  # up the left side
        assert [str(n) for n in drawn["customdata"][5][0]][1] == "wrong → right"


def test_grades_that_differ_are_shaded_and_grades_that_never_occur_are_dots():
    names = ["CORRECT", "INCORRECT", "UNPARSED"]
    cross = pd.DataFrame([[80, 8, 0], [0, 5, 0], [4, 1200, 0]], names, names)
    chart = figures.grades_figure(cross, "gsm8k", "paper", figures.LIGHT).to_dict()
    [cells] = chart["data"]
    assert cells["z"] == [[0, 1, 0], [0, 0, 0], [1, 1, 0]]
    assert cells["text"] == [["80", "8", "·"], ["·", "5", "·"], ["4", "1,200", "·"]]
    assert cells["x"] == cells["y"] == ["correct", "incorrect", "unparsed"]
    assert chart["layout"]["xaxis"]["title"]["text"] == "paper"  # columns: grader B
    assert chart["layout"]["yaxis"]["title"]["text"] == "gsm8k"
    assert chart["layout"]["yaxis"]["range"] == [2.5, -0.5]  # the first row is on top
