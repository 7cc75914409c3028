"""The common look of all charts: traces and layout as plain dicts in, one chart out.

plotly's own figures check and copy every property, which takes longer than the rest of a page.

A chart has no template, and each of its axes a range, for streamlit_workarounds.plotly_chart.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.basedatatypes import BaseFigure

from premem_core.dashboard.figures.palette import Palette
from premem_core.metrics.pre_memorization import Floats

Attributes = dict[str, Any]  # of a trace, an axis, a shape: plotly's reference names them

FONT = '"Source Sans", sans-serif'  # the dashboard's
CHECKED = False  # whether plotly checks every property; tests set it
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x")


class Chart(BaseFigure):
    """Traces and layout in the form of plotly.js; Streamlit takes it for a plotly figure."""

    def __init__(self, data: list[Attributes], layout: Attributes) -> None:
        # BaseFigure's own __init__ and to_dict would each copy everything.
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
    """A chart of these traces in the dashboard's look.

    Args:
        data: the traces.
        palette: the current colours.
        height: in pixels.
        top: the margin above the axes, in pixels, for legend and titles.
        left, bottom: the margins for labels, in pixels. Without them plotly measures the labels and
            draws again.
        legend: plotly's options, where it is not one line along the top.
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
        "ticklabeloverflow": "allow",  # else plotly measures every label to hide some
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
            "legend": {**above, "font": font, **(legend or {})},
            **_lists(layout),
        },
    )


def as_is(name: object) -> str:
    """A name from the store as plotly shows it: without its tags and placeholders in effect."""
    return escape(str(name), quote=False).replace("%{", "&#37;{")


def around(values: Floats) -> list[float]:
    """The range of an axis with room around markers at these values."""
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.06 * (high - low) or 1.0
    return [low - room, high + room]


def across(y: float, axis: str = "y", **line: Any) -> Attributes:
    """A horizontal line over the whole width."""
    ends = {"x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y, "yref": axis}
    return {"type": "line", **ends, "line": line}


def upright(x: float, **line: Any) -> Attributes:
    """A vertical line over the whole height."""
    ends = {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
    return {"type": "line", **ends, "line": line}


def band(x: Floats, middle: Floats, half: Floats, color: str) -> Attributes:
    """A shaded band, middle ± half.

    Where values are not known the band has a gap: a closed shape per stretch, NaN between them.

    Args:
        x, middle, half: (C,); NaN where not known.
    """
    known = ~np.isnan(middle + half)
    stretches = np.split(np.arange(len(x)), np.flatnonzero(known[1:] != known[:-1]) + 1)
    along, up = [], []
    for places in stretches:
        if known[places[0]]:
            along += [*x[places], *np.flip(x[places]), np.nan]
            up += [*(middle + half)[places], *np.flip((middle - half)[places]), np.nan]
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
    """The same content with lists in place of arrays."""
    if isinstance(given, dict):
        return {name: _lists(value) for name, value in given.items()}
    if isinstance(given, list):
        return [_lists(value) for value in given]
    return given.tolist() if isinstance(given, np.ndarray | pd.Series) else given
