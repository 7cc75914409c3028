"""What all charts share: traces and layout as plain dicts in, one dressed chart out.

plotly's own figures check and copy each property; that takes longer than all else on a page.

plotly.js compares a chart with what it drew before, and draws all of it again where it finds an
array, or a template, that is another object. Streamlit hands it every chart twice: so there is no
template here, and arrays are lists under one `datarevision`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from premem_core.dashboard.figures.palette import Palette
from premem_core.metrics.pre_memorization import Floats

Attributes = dict[str, Any]  # of a trace, an axis, a shape: plotly's reference names them

FONT = '"Source Sans", sans-serif'  # the dashboard's
CHECKED = False  # whether plotly checks every property; tests do it
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x")


class Chart(BaseFigure):
    """Traces and layout as plotly.js takes them; for Streamlit, a plotly figure."""

    def __init__(self, data: list[Attributes], layout: Attributes) -> None:
        # Not BaseFigure's: it copies everything, and again when it is asked for it.
        self._content = {"data": data, "layout": layout}
        if CHECKED:
            go.Figure(self._content)

    def to_dict(self) -> Attributes:
        """`data` and `layout`."""
        return self._content


def figure(
    data: Sequence[Attributes],
    palette: Palette,
    height: int,
    *,
    top: int,
    left: int | None = None,
    bottom: int | None = None,
    legend: Attributes | None = None,
    **layout: Any,
) -> Chart:
    """A chart of these traces in the dashboard's looks.

    Args:
        data: the traces.
        palette: the colours in force.
        height: in pixels.
        top: the margin above the axes, in pixels, where legend and titles stand.
        left, bottom: the margins for labels, in pixels. Without them plotly measures the labels and
            draws again.
        legend: what differs from one line along the top.
        layout: the axes, by plotly's names (xaxis, yaxis, yaxis2, ...), each with its range, for
            one that plotly.js finds itself may be lost when Streamlit hands it the chart again;
            shapes, annotations and whatever else plotly's layout has.
    """
    font = {"family": FONT, "color": palette.text, "size": 12}
    axis = {
        "gridcolor": palette.grid,
        "zeroline": False,
        "linecolor": palette.grid,
        "tickfont": font,
        "automargin": left is None,
        "ticklabeloverflow": "allow",  # to see which to hide plotly measures each of them
    }
    for name, given in layout.items():
        if name.startswith(("xaxis", "yaxis")):
            assert "range" in given, f"{name} has no range"
            layout[name] = {**axis, **given, "title": {"font": font, **given.get("title", {})}}
    above = {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"}
    return Chart(
        data=_lists(data),
        layout={
            "height": height,
            "margin": {"l": left or 8, "r": 8, "t": top, "b": bottom or 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hovermode": "closest",
            "hoverlabel": {"bgcolor": palette.surface, "font": {**font, "size": 13}},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": palette.train},
            "font": font,
            "datarevision": 0,
            "legend": {**above, "font": font, **(legend or {})},
            **_lists(layout),
        },
    )


def around(values: Floats) -> list[float]:
    """The range of an axis for markers at these places."""
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.06 * (high - low) or 1.0
    return [low - room, high + room]


def across(y: float, axis: str = "y", **line: Any) -> Attributes:
    """A straight line over the whole width."""
    at = {"x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y, "yref": axis}
    return {"type": "line", **at, "line": line}


def upright(x: float, **line: Any) -> Attributes:
    """A straight line over the whole height."""
    at = {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
    return {"type": "line", **at, "line": line}


def band(x: Floats, middle: Floats, half: Floats, color: str) -> Attributes:
    """middle ± half, shaded.

    A gap in the line is a gap in its band: one closed shape per stretch, NaN between them.

    Args:
        x, middle, half: (C,); NaN where not known.
    """
    known = ~np.isnan(middle + half)
    stretches = np.split(np.arange(len(x)), np.flatnonzero(known[1:] != known[:-1]) + 1)
    along, up = [], []
    for at in stretches:
        if known[at[0]]:
            along += [*x[at], *np.flip(x[at]), np.nan]
            up += [*(middle + half)[at], *np.flip((middle - half)[at]), np.nan]
    return {
        "type": "scatter",
        "x": along[:-1],
        "y": up[:-1],
        "fill": "toself",
        "fillcolor": color,
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _lists(given: Any) -> Any:
    """The same with lists for arrays."""
    if isinstance(given, dict):
        return {name: _lists(value) for name, value in given.items()}
    if isinstance(given, list):
        return [_lists(value) for value in given]
    return given.tolist() if isinstance(given, np.ndarray | pd.Series) else given
