"""Checkpoints of many runs: a predictor against test accuracy."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import SYMBOLS, Attributes, Chart, as_is, figure


def run_symbols(groups: dict[str, tuple[float, int]]) -> dict[str, str]:
    """A marker symbol per run: runs with equal epochs and training examples share one (paper)."""
    kinds = sorted(set(groups.values()))
    return {run: SYMBOLS[kinds.index(kind) % len(SYMBOLS)] for run, kind in groups.items()}


def fit_figure(
    points: pd.DataFrame,
    labels: Mapping[str, str],
    symbols: dict[str, str],
    predictor: str,
    predictor_name: str,
    palette: Palette,
    legend: bool,
) -> Chart:
    """A point per checkpoint: a predictor against test accuracy, with the identity line.

    Args:
        points: `curves.points`.
        labels: run → the text that stands for it, in the order of the colour scale.
        symbols: run → marker symbol.
        predictor: the column of `points` on the x axis.
        predictor_name: the title of the x axis.
        palette: the current colours.
        legend: whether the runs are named beside the chart.
    """
    run_of = points["run"].to_numpy()
    x, test = points[predictor].to_numpy(), points["test_accuracy"].to_numpy()
    half, test_half = points["premem_half"].to_numpy(), points["test_half"].to_numpy()
    columns, memorized = ["run", "step"], ""
    if predictor == "premem":  # the other charts do not change with the threshold
        columns, memorized = [*columns, "memorized_share"], "<br>memorized %{customdata[2]:.0%}"
    hover = points[columns].assign(run=points["run"].map(as_is)).to_numpy()
    values = np.concatenate([x, test])
    values = values[~np.isnan(values)]
    low, high = max(0.0, values.min() - 0.05), min(1.02, values.max() + 0.05)
    identity = {
        "type": "scatter",
        "x": [low, high],
        "y": [low, high],
        "mode": "lines",
        "line": {"color": palette.train, "width": 1, "dash": "dash"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    colors = dict(zip(labels, _colors(palette.runs, max(2, len(labels))), strict=False))

    def checkpoints(rows: NDArray[np.bool_], name: str | None, bar: str) -> Attributes:
        bars = {"array": half[rows], "color": bar, "width": 0, "thickness": 1}
        return {
            "type": "scatter",
            "x": x[rows],
            "y": test[rows],
            "error_x": bars if predictor == "premem" else None,
            "error_y": {**bars, "array": test_half[rows]},
            "customdata": hover[rows],
            "mode": "markers",
            "name": name,
            "showlegend": legend,
            "marker": {
                "color": [colors[run] for run in run_of[rows]],
                "symbol": [symbols[run] for run in run_of[rows]],
                "size": 9,
                "line": {"width": 0.5, "color": palette.grid},
            },
            "hovertemplate": "%{customdata[0]}<br>step %{customdata[1]}<br>"
            f"{predictor_name} %{{x:.1%}}<br>test accuracy %{{y:.1%}}{memorized}<extra></extra>",
        }

    if legend:
        data = [checkpoints(run_of == run, as_is(labels[run]), colors[run]) for run in labels]
    else:  # one trace for all runs takes half the time to draw
        data = [checkpoints(np.ones(len(points), dtype=bool), None, palette.train)]
    ticks = {"range": [low, high], "tickformat": ".0%", "dtick": 0.2 if high - low > 0.7 else 0.1}
    # Leave room for the legend: plotly draws the axes twice where the legend has to move them.
    width = 0.62 if legend else 1.0
    place = {"orientation": "v", "x": width + 0.02, "y": 1, "yref": "paper", "yanchor": "top"}
    return figure(
        [identity, *data],
        palette,
        460,
        top=16,
        left=66,
        bottom=48,
        legend=place if legend else None,
        xaxis={"title": {"text": predictor_name}, "domain": [0, width], **ticks},
        yaxis={"title": {"text": "test accuracy"}, **ticks},
    )


@lru_cache
def _colors(runs: tuple[str, float, float], n: int) -> list[str]:
    scale, start, end = runs
    colors: list[str] = sample_colorscale(scale, list(np.linspace(start, end, n)))
    return colors
