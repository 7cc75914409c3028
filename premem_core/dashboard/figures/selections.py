"""A selection: the distribution of all examples and of the chosen ones."""

import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, as_is, figure


def selection_figure(table: pd.DataFrame, title: str, palette: Palette) -> Chart:
    """Bars of all examples by a strategy's value, with the chosen ones in front.

    Args:
        table: `selection.value_histogram`.
        title: the title of the x axis.
        palette: the current colours.
    """
    middle = (table["low"] + table["high"]).to_numpy() / 2
    bars = [
        {
            "type": "bar",
            "x": middle,
            "y": table[name].to_numpy(),
            "width": (table["high"] - table["low"]).to_numpy() * 0.94,
            "name": label,
            "marker": {"color": color},
            "customdata": table[["low", "high"]].to_numpy(),
            "hovertemplate": "%{customdata[0]:.4~g} to %{customdata[1]:.4~g}<br>"
            f"{label} %{{y:,}}<extra></extra>",
        }
        for name, label, color in (
            ("examples", "all examples", palette.grid),
            ("chosen", "chosen", palette.premem),
        )
    ]
    return figure(
        bars,
        palette,
        300,
        top=36,
        left=56,
        bottom=44,
        barmode="overlay",
        xaxis={
            "title": {"text": as_is(title), "standoff": 6},
            "range": [float(table["low"].iloc[0]), float(table["high"].iloc[-1])],
            "showgrid": False,
        },
        yaxis={
            "title": {"text": "examples"},
            "range": [0, 1.06 * max(1, int(table["examples"].max()))],
            "tickformat": ",d",
        },
    )
