"""Curves → small multiples, one panel per run."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from premem_core.curves import Curve
from premem_core.figures.palette import Palette
from premem_core.figures.style import Attributes, band, figure
from premem_core.metrics import Floats

COLUMNS = 3
PANEL_HEIGHT = 260
GAP_ACROSS = 0.03  # between panels, of the whole width
GAP_DOWN = 80  # between panels, in pixels of PANEL_HEIGHT's: a title of two lines


def curves_figure(
    curves: Sequence[Curve], titles: Sequence[str], palette: Palette, by_epoch: bool
) -> go.Figure:
    """Small multiples, one panel per run on one accuracy axis: train, masked, PM, test, memorized.

    The memorized share is the warm area; bands are 90 % intervals over questions.
    """
    rows = -(-len(curves) // COLUMNS)
    last = max(float(_x(curve, by_epoch)[-1]) for curve in curves)
    panels = _panels(len(curves), [0, last * 1.04], "epoch" if by_epoch else "step")
    data = [
        {**trace, "xaxis": f"x{number}", "yaxis": f"y{number}"}
        for number, curve in enumerate(curves, start=1)
        for trace in _traces(curve, palette, by_epoch, legend=number == 1)
    ]
    annotations = [
        {
            "text": title.replace(" · ", "<br>", 1),
            "showarrow": False,
            "x": panels[f"xaxis{number}"]["domain"][0],
            "y": panels[f"yaxis{number}"]["domain"][1],
            "xref": "paper",
            "yref": "paper",
            "xanchor": "left",
            "yanchor": "bottom",
            "align": "left",
            "font": {"size": 12, "color": palette.text},
        }
        for number, title in enumerate(titles, start=1)
    ]
    height = PANEL_HEIGHT * rows + 134
    return figure(
        data, palette, height, top=100, left=44, bottom=40, annotations=annotations, **panels
    )


def _panels(number: int, x_range: list[float], unit: str) -> dict[str, Attributes]:
    """The axes of so many panels, in rows from the top; their unit where none is below."""
    columns = min(COLUMNS, number)
    rows = -(-number // columns)
    gap = min(0.5 / (rows - 1), GAP_DOWN / (PANEL_HEIGHT * rows)) if rows > 1 else 0
    width = (1 - GAP_ACROSS * (columns - 1)) / columns
    height = (1 - gap * (rows - 1)) / rows
    axes: dict[str, Attributes] = {}
    for place in range(number):
        row, column = divmod(place, columns)
        left = column * (width + GAP_ACROSS)
        bottom = (rows - 1 - row) * (height + gap)
        x_axis: Attributes = {
            "anchor": f"y{place + 1}",
            "domain": [left, left + width],
            "range": x_range,
        }
        if place + columns >= number:
            x_axis["title"] = {"text": unit, "standoff": 4}
        else:
            x_axis["showticklabels"] = False
        y_axis: Attributes = {
            "anchor": f"x{place + 1}",
            "domain": [bottom, bottom + height],
            "range": [0, 1.02],
            "tickformat": ".0%",
            "dtick": 0.25,
        }
        if column > 0:  # it is the axis of the row's first panel
            y_axis |= {"matches": f"y{place - column + 1}", "showticklabels": False}
        axes |= {f"xaxis{place + 1}": x_axis, f"yaxis{place + 1}": y_axis}
    return axes


def _traces(curve: Curve, palette: Palette, by_epoch: bool, legend: bool) -> list[Attributes]:
    x = _x(curve, by_epoch)
    where = "epoch" if by_epoch else "step"

    def line(name: str, y: Floats, half: Floats | None, **style: object) -> Attributes:
        interval = " ± %{customdata:.1%}" if half is not None else ""
        return {
            "type": "scatter",
            "x": x,
            "y": y,
            "customdata": half,
            "name": name,
            "legendgroup": name,
            "showlegend": legend,
            "mode": "lines+markers",
            "hovertemplate": f"{curve.scores.run}<br>{where} %{{x}}<br>{name} %{{y:.1%}}{interval}"
            "<extra></extra>",
            **style,
        }

    traces = [
        line(
            "memorized share",
            curve.memorized,
            None,
            fill="tozeroy",
            fillcolor=palette.memorized_band,
            line={"color": palette.memorized, "width": 1},
            marker={"size": 3},
        ),
        line(
            "train accuracy",
            curve.train,
            curve.train_half,
            line={"color": palette.train, "width": 2},
            marker={"size": 5},
        ),
        line(
            "masked accuracy",
            curve.masked,
            None,
            line={"color": palette.premem, "width": 1.2, "dash": "dot"},
            marker={"size": 3},
        ),
        band(x, curve.premem, curve.premem_half, palette.premem_band),
        line(
            "pre-memorization accuracy",
            curve.premem,
            curve.premem_half,
            line={"color": palette.premem, "width": 2.6},
            marker=_best_marked(curve.premem),
        ),
    ]
    if not np.isnan(curve.test).all():
        traces += [
            band(x, curve.test, curve.test_half, palette.test_band),
            line(
                "test accuracy",
                curve.test,
                curve.test_half,
                line={"color": palette.test, "width": 2},
                marker={"size": 6, "symbol": "diamond"},
            ),
        ]
    return traces


def _best_marked(premem: Floats) -> Attributes:
    """Markers of a run's checkpoints; a star at the highest pre-memorization accuracy."""
    best = int(np.nanargmax(premem)) if not np.isnan(premem).all() else -1
    return {
        "size": [13 if c == best else 6 for c in range(len(premem))],
        "symbol": ["star" if c == best else "circle" for c in range(len(premem))],
    }


def _x(curve: Curve, by_epoch: bool) -> Floats:
    return curve.scores.epoch if by_epoch else curve.scores.steps.astype(np.float64)
