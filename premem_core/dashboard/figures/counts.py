"""Cross tables as heat maps: the grades of two graders, the accuracies at two checkpoints."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.analysis import checkpoint_comparison
from premem_core.dashboard.figures.palette import Palette
from premem_core.dashboard.figures.style import Attributes, Chart, across, as_is, figure, upright
from premem_core.metrics.pre_memorization import Floats

BARE = {"showgrid": False, "showline": False, "ticks": ""}


def grades_figure(cross: pd.DataFrame, grader_a: str, grader_b: str, palette: Palette) -> Chart:
    """The grades that two graders give to the same completions; disagreements are shaded.

    Args:
        cross: completions by grade; rows: grader A, columns: grader B, in the same order.
        grader_a: the name of grader A.
        grader_b: the name of grader B.
        palette: the current colours.
    """
    grader_a, grader_b = as_is(grader_a), as_is(grader_b)
    counts = cross.to_numpy(dtype=np.float64)
    disagree = (counts > 0) & ~np.eye(len(cross), dtype=bool)
    names = [str(name).lower() for name in cross.index]
    cells = {
        **_cells(counts, palette.text),
        "z": disagree.astype(np.float64),
        "zmin": 0,
        "zmax": 1,
        "x": names,
        "y": names,
        "customdata": counts,
        "colorscale": [(0, "rgba(0,0,0,0)"), (1, palette.grid)],
        "hovertemplate": f"{grader_a}: %{{y}}<br>{grader_b}: %{{x}}<br>%{{customdata:,}} "
        "completions<extra></extra>",
    }
    return figure(
        [cells],
        palette,
        76 + 44 * max(2, len(cross)),
        top=8,
        xaxis={
            "title": {"text": grader_b},
            "side": "top",
            "range": [-0.5, len(names) - 0.5],
            **BARE,
        },
        yaxis={"title": {"text": grader_a}, "range": [len(names) - 0.5, -0.5], **BARE},
    )


def flips_figure(counts: NDArray[np.int64], a: str, b: str, palette: Palette) -> Chart:
    """Questions by accuracy at A (x axis) and at B (y axis); two quarters hold the flips.

    Args:
        counts: (6, 6) of `checkpoint_comparison.cross_table`: accuracy i/5 at A and j/5 at B.
        a: the text for A, such as "A, step 567".
        b: the text for B.
        palette: the current colours.
    """
    a, b = as_is(a), as_is(b)
    levels = np.linspace(0, 1, len(counts))
    quarter = checkpoint_comparison.outcomes(*np.meshgrid(levels, levels))
    up = counts.T.astype(np.float64)  # the rows of a heat map go up
    cells = {
        **_cells(up, palette.test),
        "z": np.sqrt(up),  # else the many unchanged questions would hide the few that flip
        "x": levels,
        "y": levels,
        "customdata": np.dstack([up, quarter]),
        "colorscale": [(0, "rgba(128,128,128,0)"), (1, "rgba(128,128,128,0.4)")],
        "hovertemplate": f"{a}: %{{x:.0%}} right<br>{b}: %{{y:.0%}} right<br>"
        "%{customdata[1]}; questions: %{customdata[0]:,}<extra></extra>",
    }

    def label(name: str, x: int, y: int) -> Attributes:
        """A quarter's name and number of questions, at its corner of the chart."""
        return {
            "text": f"{name}: {up[quarter == name].sum():,.0f}",
            "showarrow": False,
            "x": x,
            "y": y,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "right" if x else "left",
            "yanchor": "bottom" if y else "top",
            "font": {
                "size": 13,
                "color": palette.test if name in checkpoint_comparison.FLIPS else palette.text,
            },
        }

    half: Attributes = {"color": palette.text, "width": 1.5}
    ticks = {"tickvals": levels, "tickformat": ".0%", "range": [-0.1, 1.1], **BARE}
    return figure(
        [cells],
        palette,
        440,
        top=48,
        shapes=[across(0.5, **half), upright(0.5, **half)],
        annotations=[
            label(checkpoint_comparison.WRONG_TO_RIGHT, 0, 1),
            label(checkpoint_comparison.RIGHT_AT_BOTH, 1, 1),
            label(checkpoint_comparison.WRONG_AT_BOTH, 0, 0),
            label(checkpoint_comparison.RIGHT_TO_WRONG, 1, 0),
        ],
        xaxis={"title": {"text": f"accuracy at {a}"}, "ticklabelstandoff": 20, **ticks},
        yaxis={"title": {"text": f"accuracy at {b}"}, **ticks},
    )


def _cells(counts: Floats, color: str) -> Attributes:
    """A heat map with the numbers written in its cells."""
    return {
        "type": "heatmap",
        "text": [[f"{count:,.0f}" if count else "·" for count in row] for row in counts],
        "texttemplate": "%{text}",
        "textfont": {"size": 14, "color": color},
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }
