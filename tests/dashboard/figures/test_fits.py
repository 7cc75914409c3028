"""A predictor against test accuracy: points, symbols, and the identity line."""

import numpy as np
import pytest

from premem_core.analysis import curves
from premem_core.dashboard import figures
from tests.helpers import simulated


@pytest.fixture(scope="module")
def points():
    runs, _ = simulated.study(3, seed=1)
    return curves.points([curves.curve(run, -2.3) for run in runs])


LABELS = {f"run {i}": f"label {i}" for i in range(3)}
SYMBOLS = dict.fromkeys(LABELS, "circle")


def drawn(points, predictor="premem", legend=False):
    chart = figures.fit_figure(
        points, LABELS, SYMBOLS, predictor, "a name", figures.LIGHT, legend
    )  # fmt: skip
    return chart.to_dict()


def test_every_checkpoint_is_a_point_and_the_identity_line_goes_through_both_axes(points):
    identity, dots = drawn(points)["data"]
    assert dots["x"] == points["premem"].tolist()
    assert dots["y"] == points["test_accuracy"].tolist()
    assert dots["error_x"]["array"] == points["premem_half"].tolist()
    assert identity["x"] == identity["y"]
    layout = drawn(points)["layout"]
    assert layout["xaxis"]["range"] == layout["yaxis"]["range"] == identity["x"]


def test_a_run_with_tags_in_its_name_is_shown_as_it_is(points):
    chart = figures.fit_figure(
        points.replace({"run": dict.fromkeys(LABELS, "<b>x</b>")}), {"<b>x</b>": "<b>x</b>"},
        {"<b>x</b>": "circle"}, "premem", "a name", figures.LIGHT, True,
    )  # fmt: skip
    assert "<b>" not in str(chart.to_dict())
    assert "&lt;b&gt;x&lt;/b&gt;" in str(chart.to_dict())


def test_with_a_legend_each_run_is_a_trace_with_the_colour_that_it_has_without(points):
    _, together = drawn(points)["data"]
    _, *separate = drawn(points, legend=True)["data"]
    assert [trace["name"] for trace in separate] == list(LABELS.values())
    apart = [color for trace in separate for color in trace["marker"]["color"]]
    assert apart == together["marker"]["color"]
    assert len(set(apart)) == 3


def test_only_the_chart_of_pm_has_its_intervals_and_the_memorized_share(points):
    _, premem = drawn(points)["data"]
    _, train = drawn(points, "train_accuracy")["data"]
    assert "memorized" in premem["hovertemplate"]
    assert "memorized" not in train["hovertemplate"]
    assert train["error_x"] is None
    assert train["error_y"]["array"] == points["test_half"].tolist()


def test_runs_of_equal_length_and_size_share_a_symbol():
    groups = {"a": (5.0, 100), "b": (5.0, 200), "c": (5.0, 100), "d": (2.0, 100)}
    symbols = figures.run_symbols(groups)
    assert symbols["a"] == symbols["c"]
    assert len({symbols[run] for run in "abd"}) == 3


def test_a_predictor_that_is_not_known_somewhere_leaves_the_axes_finite(points):
    some = points.assign(premem=points["premem"].where(points["step"] > 1))
    low, high = drawn(some)["layout"]["xaxis"]["range"]
    assert np.isfinite([low, high]).all()
