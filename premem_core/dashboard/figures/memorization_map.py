"""Examples by checkpoint → the memorization map, and what its colours mean."""

from collections.abc import Sequence

import numpy as np
from plotly.colors import hex_to_rgb, label_rgb

from premem_core.analysis.example_table import Cells
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, figure
from premem_core.metrics.pre_memorization import Floats

LEVELS = 6  # of either dimension of the map's colours
REACH = 1.0  # in t = log log PPL, to either side of the threshold, that the map tells apart


def map_figure(of: Cells, log_log_threshold: float, palette: Palette) -> Chart:
    """Examples across, checkpoints up; colour is accuracy and, towards orange, memorization.

    A heat map reports no clicks: invisible squares over its cells do. The place of a point in its
    trace is row · columns + column.
    """
    codes = np.where(
        np.isnan(of.accuracy),
        np.nan,
        _codes(of.accuracy, of.log_log_perplexity, log_log_threshold),
    )
    columns, rows = len(of.members), len(of.steps)
    colors = {
        "type": "heatmap",
        "z": codes,
        "zmin": 0,
        "zmax": LEVELS * LEVELS - 1,
        "colorscale": _steps_of(_colors(palette)),
        "showscale": False,
        "hoverinfo": "skip",
    }
    across, up = np.meshgrid(np.arange(columns), np.arange(rows))
    squares = {
        "type": "scatter",
        "x": across.ravel(),
        "y": up.ravel(),
        "customdata": np.column_stack(
            [
                np.repeat(of.steps, columns),
                np.tile([len(each) for each in of.members], rows),
                np.round(of.accuracy.ravel(), 3),
                np.round(np.exp(np.exp(of.log_log_perplexity.ravel())), 3),
                np.round(of.memorized.ravel(), 3),
            ]
        ),
        "mode": "markers",
        "marker": {"symbol": "square", "size": 10, "opacity": 0, "maxdisplayed": 1},
        "showlegend": False,
        "hovertemplate": "step %{customdata[0]}, %{customdata[1]} examples<br>accuracy "
        "%{customdata[2]:.0%}, perplexity %{customdata[3]:.3f}<br>%{customdata[4]:.0%} "
        "memorized<extra></extra>",
    }
    return figure(
        [colors, squares],
        palette,
        max(240, 46 * rows + 40),
        top=12,
        left=74,
        bottom=8,
        showlegend=False,
        clickmode="event+select",
        hoverdistance=40,
        xaxis={"showticklabels": False, "showgrid": False, "range": [-0.5, columns - 0.5]},
        yaxis={
            "title": {"text": "step"},
            "tickvals": np.arange(rows),
            "ticktext": of.steps,
            "range": [-0.5, rows - 0.5],
            "showgrid": False,
        },
    )


def map_legend(palette: Palette) -> Chart:
    """What `map_figure`'s colours mean."""
    colors = {
        "type": "heatmap",
        "z": np.arange(LEVELS * LEVELS).reshape(LEVELS, LEVELS),
        "colorscale": _steps_of(_colors(palette)),
        "showscale": False,
        "hoverinfo": "skip",
    }
    ends = {"tickvals": [0, LEVELS - 1], "range": [-0.5, LEVELS - 0.5], "showgrid": False}
    return figure(
        [colors],
        palette,
        200,
        top=12,
        xaxis={"title": {"text": "perplexity"}, "ticktext": ["high", "low"], **ends},
        yaxis={"title": {"text": "accuracy"}, "ticktext": ["0%", "100%"], **ends},
    )


def _codes(accuracy: Floats, log_log_perplexity: Floats, log_log_threshold: float) -> Floats:
    """accuracy level · LEVELS + memorization level, whose middle is the threshold."""
    near = np.clip((log_log_threshold - log_log_perplexity) / (2 * REACH) + 0.5, 0, 1)
    codes: Floats = np.rint(accuracy * (LEVELS - 1)) * LEVELS + np.rint(near * (LEVELS - 1))
    return codes


def _colors(palette: Palette) -> list[str]:
    """LEVELS² colours between four: wrong and right, each not memorized and memorized."""
    corners = np.array([hex_to_rgb(color) for color in palette.map_corners]).reshape(2, 2, 3)
    share = np.linspace(0, 1, LEVELS)
    mixed = [
        (1 - a) * ((1 - m) * corners[0, 0] + m * corners[0, 1])
        + a * ((1 - m) * corners[1, 0] + m * corners[1, 1])
        for a in share
        for m in share
    ]
    return [label_rgb(color.round().astype(int).tolist()) for color in mixed]


def _steps_of(colors: Sequence[str]) -> list[tuple[float, str]]:
    """A colour scale on which whole numbers from 0 on have these colours, and none between."""
    last = len(colors) - 1
    edges = [max(0.0, (n - 0.5) / last) for n in range(len(colors))] + [1.0]
    return [(edge, c) for n, c in enumerate(colors) for edge in (edges[n], edges[n + 1])]
