"""One example: its accuracy and perplexity at each checkpoint."""

import numpy as np
import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, across, around, figure


def example_history_figure(
    history: pd.DataFrame, log_log_threshold: float, palette: Palette
) -> Chart:
    """One example's accuracy and perplexity by checkpoint; the dashed line is the threshold.

    Args:
        history: `example_table.example_history`: step, accuracy, nll.
        log_log_threshold: t; the example is memorized where its log log PPL is below it.
        palette: the current colours.
    """
    steps, nll = history["step"].to_numpy(), history["nll"].to_numpy()
    threshold = np.exp(log_log_threshold)
    accuracy = {
        "type": "scatter",
        "x": steps,
        "y": history["accuracy"].to_numpy(),
        "name": "accuracy",
        "mode": "lines+markers",
        "line": {"color": palette.premem, "width": 2.4},
        "hovertemplate": "step %{x}<br>accuracy %{y:.0%}<extra></extra>",
    }
    perplexity = {
        "type": "scatter",
        "x": steps,
        "y": np.exp(nll),
        "yaxis": "y2",
        "name": "perplexity",
        "mode": "lines+markers",
        "line": {"color": palette.memorized, "width": 2, "dash": "dot"},
        "marker": {"symbol": "diamond"},
        "hovertemplate": "step %{x}<br>perplexity %{y:.4f}<extra></extra>",
    }
    highest = float(np.nanmax(np.append(nll, threshold)))
    return figure(
        [accuracy, perplexity],
        palette,
        300,
        top=44,
        left=60,
        bottom=48,
        shapes=[
            across(float(np.exp(threshold)), "y2", color=palette.memorized, width=1, dash="dash")
        ],
        xaxis={
            "title": {"text": "step"},
            "tickvals": steps,
            "range": around(steps),
            "domain": [0, 0.88],
        },
        yaxis={"title": {"text": "accuracy"}, "range": [-0.03, 1.03], "tickformat": ".0%"},
        yaxis2={
            "title": {"text": "perplexity"},
            "overlaying": "y",
            "side": "right",
            "type": "log",
            "showgrid": False,
            "tickformat": ".3~f",
            "range": [-0.03 * highest / np.log(10), 1.03 * highest / np.log(10)],
        },
    )
