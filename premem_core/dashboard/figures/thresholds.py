"""R² as a function of the threshold."""

import numpy as np
import pandas as pd

from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, figure, upright


def threshold_figure(
    table: pd.DataFrame, plateau: tuple[float, float], threshold: float, palette: Palette
) -> Chart:
    """R² at every threshold, the plateau around the best one, and the current threshold.

    Args:
        table: `Study.by_threshold`.
        plateau: the ends of the thresholds whose R² is close to the best; infinite where open.
        threshold: the current t = log log PPL.
        palette: the current colours.
    """
    t, r2 = table["log_log_threshold"].to_numpy(), table["r2"].to_numpy()
    curve = {
        "type": "scatter",
        "x": t,
        "y": r2,
        "customdata": table["perplexity"].to_numpy(),
        "mode": "lines",
        "line": {"color": palette.premem, "width": 2.2, "shape": "hv"},
        "hovertemplate": "t = %{x:.2f} (perplexity %{customdata:.4f})<br>R² %{y:.3f}"
        "<extra></extra>",
    }
    start, end = t[0], t[-1]
    low, high = np.clip(plateau, start, end)
    plateau_area = {
        "type": "rect",
        "x0": low,
        "x1": high,
        "xref": "x",
        "y0": 0,
        "y1": 1,
        "yref": "y domain",
        "fillcolor": palette.memorized_band,
        "line": {"width": 0},
        "layer": "below",
    }
    best = float(np.nanmax(r2)) if not np.isnan(r2).all() else 1.0
    return figure(
        [curve],
        palette,
        260,
        top=12,
        left=58,
        bottom=48,
        showlegend=False,
        shapes=[plateau_area, upright(threshold, color=palette.text, width=1, dash="dot")],
        xaxis={"title": {"text": "threshold t = log log PPL"}, "range": [start, end], "dtick": 1},
        yaxis={
            "title": {"text": "R²"},
            "range": [min(0.0, best - 0.5), 1.02],
            "tickformat": ".1f",
        },
    )
