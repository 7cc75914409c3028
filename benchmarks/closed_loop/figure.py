"""Figure: test accuracy against data size, one line per strategy."""

import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import SYMBOLS, Chart, around, figure

APART = 0.012  # distance between the marks of two strategies at one size, as a share of the axis


def experiment_figure(table: pd.DataFrame, labels: dict[str, str], palette: Palette) -> Chart:
    """Draw mean test accuracies with their 90 % intervals over seeds.

    Args:
        table: `loop.summary`.
        labels: a label for each strategy, in the order in which they are drawn.
        palette: the colours.
    """
    width = float(table["problems"].max() - table["problems"].min()) or 1.0
    lines = []
    for number, (strategy, label) in enumerate(labels.items()):
        rows = table[table["strategy"] == strategy].sort_values("problems")
        shift = APART * width * (number - (len(labels) - 1) / 2)
        lines.append(
            {
                "type": "scatter",
                "x": (rows["problems"] + shift).to_numpy(),
                "y": rows["test_accuracy"].to_numpy(),
                "error_y": {"type": "data", "array": rows["half"].to_numpy(), "thickness": 1.2},
                "mode": "lines+markers",
                "name": label,
                "line": {"color": palette.kinds[number], "width": 2},
                "marker": {"symbol": SYMBOLS[number], "size": 8},
                "customdata": rows["problems"].to_numpy(),
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
