"""The distribution of a run's perplexities."""

import numpy as np
from plotly.colors import hex_to_rgb

from premem_core.analysis.run_scores import RunScores
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Chart, across, figure


def perplexity_figure(run: RunScores, log_log_threshold: float, palette: Palette) -> Chart:
    """The distribution of the perplexities of a run's training solutions, at each checkpoint."""
    with np.errstate(divide="ignore"):
        log_nll = np.log(run.nll)
    finite = log_nll[np.isfinite(log_nll)]
    low, high = np.quantile(finite, [0.002, 0.998]) if len(finite) else (-5.0, 0.5)
    low, high = min(low, log_log_threshold - 0.5), max(high, log_log_threshold + 0.5)
    edges = np.linspace(low, high, 49)
    shares = np.stack(
        [np.histogram(np.clip(row, low, high), edges)[0] / max(1, len(row)) for row in log_nll]
    )
    middles = (edges[1:] + edges[:-1]) / 2
    spread = {
        "type": "heatmap",
        "z": np.round(shares.T, 4),
        "x": [f"{step}" for step in run.steps],
        "y": middles,
        "customdata": np.round(np.repeat(np.exp(np.exp(middles))[:, None], len(run.steps), 1), 4),
        "colorscale": [(0, _transparent(palette.memorized)), (1, palette.memorized)],
        "showscale": False,
        "hovertemplate": "step %{x}<br>perplexity about %{customdata}<br>%{z:.1%} of the examples"
        "<extra></extra>",
    }
    return figure(
        [spread],
        palette,
        340,
        top=12,
        left=58,
        bottom=48,
        xaxis={
            "title": {"text": "step"},
            "type": "category",
            "range": [-0.5, len(run.steps) - 0.5],
            "showgrid": False,
        },
        yaxis={"title": {"text": "log log perplexity"}, "range": [low, high]},
        shapes=[across(log_log_threshold, color=palette.text, width=1.2, dash="dash")],
    )


def _transparent(color: str) -> str:
    return f"rgba({','.join(map(str, hex_to_rgb(color)))},0)"
