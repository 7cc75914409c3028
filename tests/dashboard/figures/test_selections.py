"""All examples and the chosen ones, by a strategy's value."""

import pandas as pd

from premem_core.dashboard import figures

TABLE = pd.DataFrame(
    {"low": [0.0, 0.5], "high": [0.5, 1.0], "examples": [30, 12], "chosen": [10, 0]}
)


def test_chosen_examples_stand_in_front_of_all_on_the_same_bars():
    chart = figures.selection_figure(TABLE, "PM", figures.LIGHT).to_dict()
    everyone, chosen = chart["data"]
    assert chart["layout"]["barmode"] == "overlay"
    assert (everyone["y"], chosen["y"]) == ([30, 12], [10, 0])
    assert everyone["x"] == chosen["x"] == [0.25, 0.75]
    assert chart["layout"]["xaxis"]["range"] == [0.0, 1.0]
    assert chart["layout"]["yaxis"]["range"][1] > 30


def test_bars_of_nothing_have_an_axis():
    chart = figures.selection_figure(TABLE.assign(examples=0, chosen=0), "PM", figures.LIGHT)
    assert chart.to_dict()["layout"]["yaxis"]["range"] == [0, 1.06]
