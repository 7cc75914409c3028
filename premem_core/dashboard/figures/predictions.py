"""A run's predicted test accuracy, and the measured one."""

import numpy as np
import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, around, band, figure


def prediction_figure(rows: pd.DataFrame, palette: Palette, interval: str | None = "90 %") -> Chart:
    """A run's predicted test accuracy by checkpoint with its interval, and the measured one.

    Args:
        rows: `expect`.
        palette: the current colours.
        interval: what the intervals are called; None where there are none.
    """
    x, predicted = rows["step"].to_numpy(dtype=np.float64), rows["predicted"].to_numpy()
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    tests = rows["test_accuracy"].to_numpy()
    ends = "%{customdata[0]:.1%} to %{customdata[1]:.1%}"
    between = f"<br>{interval} interval {ends}" if interval else ""
    data = [
        band(x, (low + high) / 2, (high - low) / 2, palette.premem_band),
        {
            "type": "scatter",
            "x": x,
            "y": predicted,
            "customdata": np.stack([low, high], axis=1),
            "name": "predicted test accuracy",
            "mode": "lines+markers",
            "line": {"color": palette.premem, "width": 2.6},
            "marker": {"size": 7},
            "error_y": {
                "array": high - predicted,
                "arrayminus": predicted - low,
                "width": 0,
                "thickness": 1,
            },
            "hovertemplate": f"step %{{x}}<br>predicted %{{y:.1%}}{between}<extra></extra>",
        },
    ]
    if not np.isnan(tests).all():
        measured = {
            "type": "scatter",
            "x": x,
            "y": tests,
            "name": "measured test accuracy",
            "mode": "markers",
            "marker": {"color": palette.test, "size": 8, "symbol": "diamond"},
            "hovertemplate": "step %{x}<br>measured %{y:.1%}<extra></extra>",
        }
        data.append(measured)
    highest = float(np.nanmax(np.append(high, tests), initial=0.1))
    return figure(
        data,
        palette,
        320,
        top=44,
        left=58,
        bottom=48,
        xaxis={"title": {"text": "step"}, "tickvals": x, "range": around(x)},
        yaxis={"tickformat": ".0%", "range": [0, 1.05 * highest]},
    )
