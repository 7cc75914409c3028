"""Test accuracy against data size, a line per strategy."""

import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import SYMBOLS, Chart, around, figure

APART = 0.012  # of the axis: between the marks of two strategies at one size


def experiment_figure(table: pd.DataFrame, labels: dict[str, str], palette: Palette) -> Chart:
    """Means and their 90 % intervals over seeds.

    Args:
        table: `experiment.summary`.
        labels: of the strategies, in the order in which they are drawn.
        palette: the colours in force.
    """
    width = float(table["problems"].max() - table["problems"].min()) or 1.0
    lines = []
    for number, (strategy, label) in enumerate(labels.items()):
        of = table[table["strategy"] == strategy].sort_values("problems")
        place = APART * width * (number - (len(labels) - 1) / 2)
        lines.append(
            {
                "type": "scatter",
                "x": (of["problems"] + place).to_numpy(),
                "y": of["test_accuracy"].to_numpy(),
                "error_y": {"type": "data", "array": of["half"].to_numpy(), "thickness": 1.2},
                "mode": "lines+markers",
                "name": label,
                "line": {"color": palette.kinds[number], "width": 2},
                "marker": {"symbol": SYMBOLS[number], "size": 8},
                "customdata": of["problems"].to_numpy(),
                "hovertemplate": f"{label}<br>%{{customdata:,}} problems<br>"
                "test accuracy %{y:.1%}<extra></extra>",
            }
        )
    mean, half = table["test_accuracy"], table["half"].fillna(0)
    ends = pd.concat([mean - half, mean + half])
    return figure(
        lines,
        palette,
        420,
        top=40,
        left=60,
        bottom=48,
        xaxis={
            "title": {"text": "problems trained on", "standoff": 6},
            "range": around(table["problems"].to_numpy()),
            "tickvals": sorted(table["problems"].unique().tolist()),
            "tickformat": ",d",
        },
        yaxis={
            "title": {"text": "test accuracy"},
            "range": around(ends.to_numpy()),
            "tickformat": ".0%",
        },
    )
