"""The memorization map: one colour per accuracy and perplexity, and what the pointer reads."""

import numpy as np
import pytest

from premem_core.analysis.example_table import Cells
from premem_core.dashboard import figures
from premem_core.dashboard.figures.memorization_map import LEVELS

T = -2.0


def cells(accuracy, log_log_perplexity) -> Cells:
    accuracy = np.array(accuracy, dtype=np.float64)
    perplexity = np.array(log_log_perplexity, dtype=np.float64)
    rows, columns = accuracy.shape
    return Cells(
        steps=np.arange(1, rows + 1) * 10,
        members=tuple(np.array([column]) for column in range(columns)),
        accuracy=accuracy,
        log_log_perplexity=perplexity,
        memorized=(perplexity < T).astype(np.float64),
    )


def colour_of(accuracy: float, log_log_perplexity: float, palette=figures.LIGHT) -> str:
    """What the heat map's colour scale gives the value of the only cell."""
    [colors, _] = figures.map_figure(
        cells([[accuracy]], [[log_log_perplexity]]), T, palette
    ).to_dict()["data"]
    place = colors["z"][0][0] / colors["zmax"]
    return next(c for edge, c in reversed(colors["colorscale"]) if edge <= place)


def test_the_corners_have_the_four_colours_of_the_palette():
    wrong, wrong_memorized, right, right_memorized = figures.LIGHT.map_corners
    far = 5.0
    rgb = {
        color: f"rgb({int(color[1:3], 16)}, {int(color[3:5], 16)}, {int(color[5:], 16)})"
        for color in figures.LIGHT.map_corners
    }
    assert colour_of(0, T + far) == rgb[wrong]
    assert colour_of(0, T - far) == rgb[wrong_memorized]
    assert colour_of(1, T + far) == rgb[right]
    assert colour_of(1, T - far) == rgb[right_memorized]


def test_colours_change_within_reach_of_the_threshold_only():
    steps = {colour_of(1, T + shift) for shift in np.linspace(-1, 1, 81)}
    assert len(steps) == LEVELS
    assert colour_of(1, T + 1.1) == colour_of(1, T + 6)
    assert colour_of(1, T - 1.1) == colour_of(1, T - 6)


def test_a_square_over_every_cell_says_what_the_cell_is():
    accuracy = [[0.0, 0.5, 1.0], [0.25, 0.75, np.nan]]
    chart = figures.map_figure(cells(accuracy, np.full((2, 3), -3.0)), T, figures.DARK).to_dict()
    colors, squares = chart["data"]
    assert (squares["x"], squares["y"]) == ([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1])
    steps, sizes, shown, perplexities, memorized = zip(*squares["customdata"], strict=True)
    assert (steps, sizes) == ((10, 10, 10, 20, 20, 20), (1,) * 6)
    np.testing.assert_array_equal(shown, [0, 0.5, 1, 0.25, 0.75, np.nan])
    assert perplexities == pytest.approx([round(float(np.exp(np.exp(-3))), 3)] * 6)
    assert memorized == (1,) * 6
    assert np.isnan(colors["z"][1][2])  # where nothing is known there is no colour


def test_the_legend_has_every_colour_once():
    [colors] = figures.map_legend(figures.LIGHT).to_dict()["data"]
    assert np.ravel(colors["z"]).tolist() == list(range(LEVELS * LEVELS))
    assert len({color for _, color in colors["colorscale"]}) == LEVELS * LEVELS
