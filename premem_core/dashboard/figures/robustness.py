"""Robustness: accuracy on perturbed queries, and signals that predict wrong answers."""

from collections.abc import Sequence

import pandas as pd

from premem_core.analysis.perturbed.robustness import SIGNALS, Robustness
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import SYMBOLS, Chart, as_is, figure, upright
from premem_core.problems.perturbations import perturbation_label


def robustness_figure(results: Sequence[Robustness], palette: Palette) -> Chart:
    """Accuracy by pre-memorization accuracy: a line per perturbation, one for original queries.

    Args:
        results: one checkpoint under each of its perturbations.
        palette: the current colours.
    """
    most_examples = max(results, key=lambda result: len(result.examples))
    lines = [("original", most_examples.by_premem, "original", palette.train)]
    lines += [
        (
            as_is(perturbation_label(result.perturbation)),
            result.by_premem,
            "perturbed",
            palette.kinds[n % len(palette.kinds)],
        )
        for n, result in enumerate(results)
    ]
    data = []
    for n, (name, rows, column, color) in enumerate(lines):
        shift = (n - len(lines) / 2) * 0.008  # bars side by side, not on each other
        line = {
            "type": "scatter",
            "x": rows["premem"].to_numpy() + shift,
            "y": rows[column].to_numpy(),
            "error_y": {"array": rows[f"{column}_half"].to_numpy(), "width": 0, "thickness": 1},
            "customdata": rows[["premem", "examples"]].to_numpy(),
            "name": name,
            "mode": "lines+markers",
            "line": {"color": color, "width": 2},
            "marker": {"size": 7, "symbol": SYMBOLS[n % len(SYMBOLS)]},
            "hovertemplate": f"{name}<br>pre-memorization accuracy %{{customdata[0]:.0%}}<br>"
            "accuracy %{y:.1%} of %{customdata[1]:,} questions<extra></extra>",
        }
        data.append(line)
    return figure(
        data,
        palette,
        420,
        top=60,
        left=66,
        bottom=48,
        xaxis={
            "title": {"text": "pre-memorization accuracy"},
            "tickformat": ".0%",
            "dtick": 0.2,
            "range": [-0.06, 1.06],
        },
        yaxis={"title": {"text": "accuracy"}, "tickformat": ".0%", "range": [0, 1.03]},
    )


def auroc_figure(areas: pd.DataFrame, palette: Palette) -> Chart:
    """The area under the ROC curve of each signal with its interval; the dashed line is chance.

    Args:
        areas: `Robustness.auroc`.
        palette: the current colours.
    """
    rows = areas.dropna(subset=["auroc"]).iloc[::-1]
    area = {
        "type": "scatter",
        "x": rows["auroc"].to_numpy(),
        "y": [SIGNALS[signal] for signal in rows["signal"]],
        "error_x": {
            "array": (rows["high"] - rows["auroc"]).to_numpy(),
            "arrayminus": (rows["auroc"] - rows["low"]).to_numpy(),
            "color": palette.text,
            "width": 0,
            "thickness": 1.5,
        },
        "mode": "markers",
        "marker": {
            "size": 9,
            "color": [
                palette.premem if signal == "premem" else palette.train for signal in rows["signal"]
            ],
        },
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    low = min(0.4, float(rows["low"].min())) if len(rows) else 0.4
    return figure(
        [area],
        palette,
        230,
        top=12,
        left=150,
        bottom=48,
        showlegend=False,
        shapes=[upright(0.5, color=palette.text, width=1, dash="dash")],
        xaxis={
            "title": {"text": "area under the ROC curve"},
            "range": [low - 0.02, 1.02],
            "tickformat": ".1f",
            "dtick": 0.1,
        },
        yaxis={"showgrid": False, "range": [-0.5, len(rows) - 0.5]},
    )
