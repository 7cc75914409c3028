"""Memorization curves: a chart with one panel per run.

The panels of a column share one pair of axes and stand one above the other on a long y axis. So
plotly draws about twenty lines; with axes and seven lines per panel it takes three times as long.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from premem_core.analysis.base_model import BaseModel
from premem_core.analysis.curves import Curve
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Attributes, Chart, as_is, band, figure
from premem_core.metrics.pre_memorization import Floats

COLUMNS = 3
PANEL_HEIGHT, GAP_DOWN = 190, 74  # pixels; the gap has a title of two lines
GAP_ACROSS = 0.03  # between panels, of the whole width
TOP, BOTTOM = 100, 40  # pixels: legend and title above, ticks and unit below
HIGHEST = 1.02  # accuracy at a panel's upper end
PITCH = HIGHEST * (1 + GAP_DOWN / PANEL_HEIGHT)  # from one panel's zero to the next, in accuracy
TICKS = (0, 0.25, 0.5, 0.75, 1)
DASH = 0.012  # half of a dash, as a share of the x axis


def curves_figure(
    curves: Sequence[Curve],
    titles: Sequence[str],
    palette: Palette,
    by_epoch: bool,
    bases: Mapping[str, BaseModel] = MappingProxyType({}),
) -> Chart:
    """One panel per run: train, masked, pre-memorization and test accuracy, and memorized share.

    The memorized share is the orange area; bands are 90 % intervals over questions.

    Args:
        titles: the panels' titles.
        by_epoch: whether the x axis is the epoch; False: the step.
        bases: the runs' base models by run, which are marks at the beginning of the x axis.
    """
    columns = min(COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    height = rows * (PANEL_HEIGHT + GAP_DOWN) - GAP_DOWN
    width = (1 - GAP_ACROSS * (columns - 1)) / columns
    x_end = max(float(_x(curve, by_epoch)[-1]) for curve in curves) * 1.04
    data: list[Attributes] = []
    axes: Attributes = {}
    for column in range(columns):
        stacked = curves[column::columns]
        below = rows - len(stacked)  # panels missing at the end of this column
        number = column + 1
        left = column * (width + GAP_ACROSS)
        axes[f"xaxis{number}"] = {
            "anchor": f"y{number}",
            "domain": [left, left + width],
            "range": [0, x_end],
            "showgrid": False,
            "title": {"text": "epoch" if by_epoch else "step", "standoff": 4},
        }
        axes[f"yaxis{number}"] = {
            "anchor": f"x{number}",
            "domain": [below * (PANEL_HEIGHT + GAP_DOWN) / height, 1],
            "range": [_zero(len(stacked) - 1), HIGHEST],
            "fixedrange": True,
            "tickvals": [_zero(row) + tick for row in range(len(stacked)) for tick in TICKS],
            "ticktext": [f"{tick:.0%}" for tick in TICKS] * len(stacked),
            "showticklabels": column == 0,
        }
        data += [
            {**trace, "xaxis": f"x{number}", "yaxis": f"y{number}"}
            for trace in [
                *_traces(stacked, palette, by_epoch, x_end, legend=column == 0),
                *_base_marks(stacked, bases, palette, legend=not _has_base_marks(data)),
            ]
        ]
        # Titles are one trace: plotly takes longer to draw annotations.
        data.append(
            {
                "type": "scatter",
                "x": [0] * len(stacked),
                "y": [_zero(row) + HIGHEST for row in range(len(stacked))],
                "text": [
                    as_is(title).replace(" · ", "<br>", 1) for title in titles[column::columns]
                ],
                "mode": "text",
                "textposition": "top right",
                "textfont": {"size": 12, "color": palette.text},
                "cliponaxis": False,
                "hoverinfo": "skip",
                "showlegend": False,
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
            }
        )
    return figure(
        data,
        palette,
        height + TOP + BOTTOM,
        top=TOP,
        left=44,
        bottom=BOTTOM,
        **axes,
    )


def _zero(row: int) -> float:
    """The place of a panel's zero on the y axis of its column; row 0 is the highest."""
    return -PITCH * row


def _traces(
    curves: Sequence[Curve], palette: Palette, by_epoch: bool, x_end: float, legend: bool
) -> list[Attributes]:
    """The lines and bands of the panels of one column."""
    x = _end_to_end([_x(curve, by_epoch) for curve in curves])
    zero = _end_to_end([np.full(len(c.premem), _zero(row)) for row, c in enumerate(curves)])
    run = np.concatenate([[as_is(curve.scores.run)] * len(curve.premem) + [""] for curve in curves])
    where = "epoch" if by_epoch else "step"

    def joined(values: Callable[[Curve], Floats]) -> Floats:
        return _end_to_end([values(curve) for curve in curves])

    def line(name: str, y: Floats, half: Floats | None, **style: Any) -> Attributes:
        interval = " ± %{customdata[3]:.1%}" if half is not None else ""
        hover = [run, x, y] if half is None else [run, x, y, half]
        marked = "marker" in style
        # A checkpoint that no line leads to is a dash: markers would take long to draw.
        places, shift = _dashes(np.full_like(y, np.nan) if marked else y)
        return {
            "type": "scatter",
            "x": x[places] + DASH * x_end * shift,
            "y": (zero + y)[places],
            "customdata": np.stack([column.astype(object) for column in hover], axis=1)[places],
            "name": name,
            "legendgroup": name,
            "showlegend": legend,
            "mode": "lines+markers" if marked else "lines",
            "hovertemplate": f"%{{customdata[0]}}<br>{where} %{{customdata[1]:.4~g}}<br>"
            f"{name} %{{customdata[2]:.1%}}{interval}<extra></extra>",
            **style,
        }

    memorized, premem, test = (
        joined(lambda c: c.memorized),
        joined(lambda c: c.premem),
        joined(lambda c: c.test),
    )
    premem_half, test_half = joined(lambda c: c.premem_half), joined(lambda c: c.test_half)
    return [
        band(x, zero + memorized / 2, memorized / 2, palette.memorized_band),
        line("memorized share", memorized, None, line={"color": palette.memorized, "width": 1}),
        line(
            "train accuracy",
            joined(lambda c: c.train),
            joined(lambda c: c.train_half),
            line={"color": palette.train, "width": 2},
        ),
        line(
            "masked accuracy",
            joined(lambda c: c.masked),
            None,
            line={"color": palette.premem, "width": 1.2, "dash": "dot"},
        ),
        band(x, zero + premem, premem_half, palette.premem_band),
        line(
            "pre-memorization accuracy",
            premem,
            premem_half,
            line={"color": palette.premem, "width": 2.6},
            marker=_best_marked(curves),
        ),
        band(x, zero + test, test_half, palette.test_band),
        line(
            "test accuracy",
            test,
            test_half,
            line={"color": palette.test, "width": 2},
            marker={"size": 6, "symbol": "diamond"},
        ),
    ]


def _base_marks(
    curves: Sequence[Curve], bases: Mapping[str, BaseModel], palette: Palette, legend: bool
) -> list[Attributes]:
    """The train and test accuracy of the base models of one column's runs, as marks at x = 0."""
    marks = [
        (_zero(row) + value, [as_is(base.run), name, value, half], symbol, color)
        for row, curve in enumerate(curves)
        if (base := bases.get(curve.scores.run)) is not None and not base.is_checkpoint
        for name, value, half, symbol, color in (
            ("train", base.train, base.train_half, "circle-open", palette.train),
            ("test", base.test, base.test_half, "diamond-open", palette.test),
        )
        if not np.isnan(value)
    ]
    if not marks:
        return []
    places, hover, symbols, colors = zip(*marks, strict=True)
    return [
        {
            "type": "scatter",
            "x": np.zeros(len(marks)),
            "y": np.array(places),
            "customdata": np.array(hover, dtype=object),
            "name": "base model",
            "legendgroup": "base model",
            "showlegend": legend,
            "mode": "markers",
            "marker": {"size": 7, "symbol": list(symbols), "color": list(colors)},
            "cliponaxis": False,
            "hovertemplate": "%{customdata[0]}<br>base model<br>%{customdata[1]} accuracy "
            "%{customdata[2]:.1%} ± %{customdata[3]:.1%}<extra></extra>",
        }
    ]


def _has_base_marks(data: Sequence[Attributes]) -> bool:
    return any(trace.get("name") == "base model" for trace in data)


def _end_to_end(parts: Sequence[Floats]) -> Floats:
    """The arrays in one, with a NaN after each: lines break at a NaN."""
    return np.concatenate([end for part in parts for end in (part, [np.nan])])


def _dashes(y: Floats) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Where to draw a line's points, so that a point without neighbours becomes a short dash.

    Returns:
        Indices into y, that of a point without neighbours twice; and by how many DASHes each point
        is shifted: -1 and 1 at such a point, 0 elsewhere.
    """
    known = np.concatenate([[False], ~np.isnan(y), [False]])
    single = known[1:-1] & ~known[:-2] & ~known[2:]
    shift = np.stack([-1 * single, single], axis=1)
    places = np.repeat(np.arange(len(y)), 1 + single)
    return places, shift[np.stack([single | True, single], axis=1)]


def _best_marked(curves: Sequence[Curve]) -> Attributes:
    """Markers of checkpoints; a star at each run's highest pre-memorization accuracy."""
    best = []
    for curve in curves:
        known = ~np.isnan(curve.premem).all()
        highest = int(np.nanargmax(curve.premem)) if known else -1
        best += [c == highest for c in range(len(curve.premem) + 1)]
    return {
        "size": [13 if is_best else 6 for is_best in best],
        "symbol": ["star" if is_best else "circle" for is_best in best],
    }


def _x(curve: Curve, by_epoch: bool) -> Floats:
    return curve.scores.epoch if by_epoch else curve.scores.steps.astype(np.float64)
