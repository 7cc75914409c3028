"""Memorization curves and fits of runs that a plan left incomplete."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.dashboard import figures
from premem_core.dashboard.figures.curves import PITCH
from premem_core.store.database import Store
from tests.helpers import planned


@pytest.fixture(scope="module")
def studies(stores):
    return {
        plan: run_scores.read_task(Store(stores / plan), "toy")
        for plan in ("full", "lazy", "final")
    }


@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
@pytest.mark.parametrize("t", [-5.0, -2.3, 0.5])
def test_charts_are_drawn_with_gaps_where_something_is_not_known(studies, plan, t):
    lines = [curves.curve(run, t) for run in studies[plan]]
    figure = figures.curves_figure(lines, ["a", "b"], figures.LIGHT, by_epoch=False)
    for trace in figure.to_dict()["data"]:
        if trace.get("fill") == "toself":  # a closed shape per stretch, never across a gap
            gaps = np.isnan(np.array(trace["y"], dtype=float))
            assert not gaps[:1].any()
            assert not gaps[-1:].any()
    points = curves.points(lines)
    labels = {run.run: run.run for run in studies[plan]}
    for predictor in ("premem", "train_accuracy"):
        figures.fit_figure(
            points, labels, dict.fromkeys(labels, "circle"), predictor, "x", figures.LIGHT, True
        )


def traces(chart, name):
    return [trace for trace in chart["data"] if trace.get("name") == name]


def test_panels_of_a_column_stand_on_one_axis_one_above_the_other(studies):
    lines = [curves.curve(run, planned.T) for run in studies["full"]] * 2
    chart = figures.curves_figure(
        lines, ["a", "b", "c", "d"], figures.LIGHT, by_epoch=False
    ).to_dict()
    columns = traces(chart, "test accuracy")
    assert [trace["xaxis"] for trace in columns] == ["x1", "x2", "x3"]
    first = np.array(columns[0]["y"], dtype=float)  # the first and the fourth run, a gap between
    np.testing.assert_allclose(first[:3], lines[0].test)
    np.testing.assert_allclose(first[4:7] - first[:3], lines[3].test - lines[0].test - PITCH)
    assert np.isnan(first[3])
    shown = np.array([row[2] for row in columns[0]["customdata"]], dtype=float)
    np.testing.assert_allclose(shown[4:7], lines[3].test)  # what the pointer reads is not shifted


def test_a_name_with_tags_is_shown_as_it_is(studies):
    curve = curves.curve(studies["full"][0], planned.T)
    curve = replace(curve, scores=replace(curve.scores, run="<b>x</b>"))
    chart = figures.curves_figure([curve], ["<b>x</b> · a"], figures.LIGHT, by_epoch=False)
    assert "<b>" not in str(chart.to_dict())
    assert "&lt;b&gt;x&lt;/b&gt;<br>a" in str(chart.to_dict())


def test_the_x_axis_is_the_step_or_the_epoch(studies):
    lines = [curves.curve(run, planned.T) for run in studies["full"]]
    for by_epoch, x, title in ((False, lines[0].scores.steps, "step"), (True, [1, 2, 3], "epoch")):
        chart = figures.curves_figure(lines, ["a", "b"], figures.LIGHT, by_epoch).to_dict()
        np.testing.assert_allclose(traces(chart, "test accuracy")[0]["x"][:3], x)
        assert chart["layout"]["xaxis1"]["title"]["text"] == title


def test_a_star_marks_each_runs_highest_pm(studies):
    lines = [curves.curve(run, planned.T) for run in studies["full"]]
    chart = figures.curves_figure(lines[:1], ["a"], figures.LIGHT, by_epoch=False).to_dict()
    symbols = traces(chart, "pre-memorization accuracy")[0]["marker"]["symbol"]
    assert symbols[:3].index("star") == int(np.argmax(lines[0].premem))
    assert symbols.count("star") == 1
    unknown = [curves.curve(run, -5.0) for run in studies["final"]][:1]
    assert np.isnan(unknown[0].premem[:-1]).all()


def test_a_checkpoint_without_neighbours_is_a_dash(studies):
    [line] = [curves.curve(run, planned.T) for run in studies["final"]][:1]
    assert np.isnan(line.train).tolist() == [True, True, False]
    chart = figures.curves_figure([line], ["a"], figures.LIGHT, by_epoch=False).to_dict()
    drawn = traces(chart, "train accuracy")[0]
    known = [(x, y) for x, y in zip(drawn["x"], drawn["y"], strict=True) if not np.isnan(y)]
    (left, y), (right, same) = known
    assert y == same == pytest.approx(line.train[2])
    assert left < line.scores.steps[2] < right
