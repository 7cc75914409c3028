"""What all charts share: bands with gaps, ranges, plain lists, and every property checked."""

from typing import Any

import numpy as np
import pytest

from premem_core.dashboard.figures.palette import LIGHT
from premem_core.dashboard.figures.style import across, around, as_is, band, figure, upright

AXES: dict[str, Any] = {"xaxis": {"range": [0, 1]}, "yaxis": {"range": [0, 1]}}


def test_a_chart_is_plotlys_plain_content_without_arrays():
    chart = figure(
        [{"type": "scatter", "x": np.arange(3), "y": [1, 2, 3]}], LIGHT, 100, top=8, **AXES
    )
    content = chart.to_dict()
    assert content["data"][0]["x"] == [0, 1, 2]
    assert content["layout"]["height"] == 100
    assert "template" not in content["layout"]


def test_a_property_that_plotly_does_not_have_is_an_error_in_tests():
    with pytest.raises(ValueError, match="colour"):
        figure([{"type": "scatter", "colour": "red"}], LIGHT, 100, top=8, **AXES)


def test_every_axis_needs_a_range():
    with pytest.raises(AssertionError, match="xaxis has no range"):
        figure([], LIGHT, 100, top=8, xaxis={"title": {"text": "step"}})


def test_a_band_is_a_closed_shape_per_stretch_that_is_known():
    x, middle = np.arange(5, dtype=np.float64), np.array([0.5, 0.6, np.nan, 0.7, 0.8])
    shape = band(x, middle, np.full(5, 0.1), "red")
    np.testing.assert_allclose(shape["x"], [0, 1, 1, 0, np.nan, 3, 4, 4, 3])
    np.testing.assert_allclose(shape["y"], [0.6, 0.7, 0.5, 0.4, np.nan, 0.8, 0.9, 0.7, 0.6])
    nothing = band(x, np.full(5, np.nan), np.full(5, 0.1), "red")
    assert (nothing["x"], nothing["y"]) == ([], [])


def test_a_range_has_room_around_its_values_also_around_a_single_one():
    low, high = around(np.array([10.0, 20.0]))
    assert low < 10 < 20 < high
    assert around(np.array([5.0])) == [4.0, 6.0]


def test_a_name_has_neither_tags_nor_placeholders():
    assert as_is("<b>a</b> & %{x}") == "&lt;b&gt;a&lt;/b&gt; &amp; &#37;{x}"
    assert as_is("lr 1e-05 · 'q'") == "lr 1e-05 · 'q'"


def test_lines_cross_the_whole_chart():
    level, line = across(0.5, "y2", width=1), upright(3, width=1)
    assert (level["x0"], level["x1"], level["xref"], level["yref"]) == (0, 1, "x domain", "y2")
    assert (line["y0"], line["y1"], line["yref"], line["x0"]) == (0, 1, "y domain", 3)
