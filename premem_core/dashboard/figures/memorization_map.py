"""Memorization map: examples by checkpoint, and a legend of its colours."""

from collections.abc import Sequence

import numpy as np
from plotly.colors import hex_to_rgb, label_rgb

from premem_core.analysis.example_table import Cells
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, figure
from premem_core.metrics.pre_memorization import Floats

LEVELS = 6  # of accuracy, and of perplexity, that have colours of their own
REACH = 1.0  # in log log PPL: colours change up to this far from the threshold


def map_figure(cells: Cells, log_log_threshold: float, palette: Palette) -> Chart:
    """A heat map, x axis: examples, y axis: checkpoints; the more orange, the more memorized.

    A heat map reports no clicks, so invisible squares lie over its cells. The index of a square in
    its trace is row · columns + column.
    """
    codes = np.where(
        np.isnan(cells.accuracy),
        np.nan,
        _codes(cells.accuracy, cells.log_log_perplexity, log_log_threshold),
    )
    columns, rows = len(cells.members), len(cells.steps)
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
                np.repeat(cells.steps, columns),
                np.tile([len(members) for members in cells.members], rows),
                np.round(cells.accuracy.ravel(), 3),
                np.round(np.exp(np.exp(cells.log_log_perplexity.ravel())), 3),
                np.round(cells.memorized.ravel(), 3),
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
            "ticktext": cells.steps,
            "range": [-0.5, rows - 0.5],
            "showgrid": False,
        },
    )


def map_legend(palette: Palette) -> Chart:
    """The legend of `map_figure`: its colours by perplexity and accuracy."""
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
    """accuracy level · LEVELS + perplexity level, whose middle is the threshold."""
    near = np.clip((log_log_threshold - log_log_perplexity) / (2 * REACH) + 0.5, 0, 1)
    codes: Floats = np.rint(accuracy * (LEVELS - 1)) * LEVELS + np.rint(near * (LEVELS - 1))
    return codes


def _colors(palette: Palette) -> list[str]:
    """LEVELS² colours, mixed from the four of `Palette.map_corners`."""
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
    """A colour scale that gives the whole numbers 0, 1, … exactly these colours."""
    last = len(colors) - 1
    edges = [max(0.0, (n - 0.5) / last) for n in range(len(colors))] + [1.0]
    return [(edge, c) for n, c in enumerate(colors) for edge in (edges[n], edges[n + 1])]
