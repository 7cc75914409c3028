"""Curves and points → charts. One meaning, one colour, on every page (DESIGN: visual language)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import hex_to_rgb, label_rgb, sample_colorscale
from plotly.subplots import make_subplots

from premem_core import comparison
from premem_core.curves import Curve, RunScores
from premem_core.example_table import Cells
from premem_core.metrics import Floats
from premem_core.robustness import SIGNALS, Robustness

PANEL_HEIGHT = 260
LEVELS = 6  # of either dimension of the map's colours
REACH = 1.0  # in t = log log PPL, to either side of the threshold, that the map tells apart
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "x")


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours in force; `runs` names a sequential, colour-blind-safe scale and its range."""

    premem: str
    premem_band: str
    test: str
    test_band: str
    train: str
    memorized: str
    memorized_band: str
    grid: str
    text: str
    runs: tuple[str, float, float]
    map_corners: tuple[str, str, str, str]  # wrong, wrong memorized, right, right memorized
    kinds: tuple[str, ...]  # of perturbations: Okabe and Ito's, told apart by the colour-blind


LIGHT = Palette(
    premem="#1D5FD1",
    premem_band="rgba(29,95,209,0.14)",
    test="#16181D",
    test_band="rgba(22,24,29,0.10)",
    train="#858C99",
    memorized="#C2620A",
    memorized_band="rgba(226,140,45,0.16)",
    grid="#E8EAEE",
    text="#4A505C",
    runs=("viridis", 0.0, 0.9),
    map_corners=("#EDEFF3", "#8A6A54", "#1D5FD1", "#F08A24"),
    kinds=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7A5195"),
)
DARK = Palette(
    premem="#7FB0FF",
    premem_band="rgba(127,176,255,0.18)",
    test="#F4F5F7",
    test_band="rgba(244,245,247,0.12)",
    train="#7A8291",
    memorized="#F0A04B",
    memorized_band="rgba(240,160,75,0.18)",
    grid="#262A33",
    text="#B4BAC6",
    runs=("viridis", 0.3, 1.0),
    map_corners=("#2A2F3A", "#7A5A46", "#7FB0FF", "#F0A04B"),
    kinds=("#56B4E9", "#F0844A", "#2CC295", "#E39AC3", "#E3C04A", "#A9D8F5", "#B79AD3"),
)


def curves_figure(
    curves: Sequence[Curve], titles: Sequence[str], palette: Palette, by_epoch: bool
) -> go.Figure:
    """Small multiples, one panel per run on one accuracy axis: train, masked, PM, test, memorized.

    The memorized share is the warm area; bands are 90 % intervals over questions.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[title.replace(" · ", "<br>", 1) for title in titles],
        horizontal_spacing=0.03,
        vertical_spacing=min(0.5 / max(1, rows - 1), 80 / (PANEL_HEIGHT * rows)) if rows > 1 else 0,
    )
    for index, curve in enumerate(curves):
        place = {"row": index // columns + 1, "col": index % columns + 1}
        for trace in _curve_traces(curve, palette, by_epoch, legend=index == 0):
            figure.add_trace(trace, **place)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", dtick=0.25)
    unit = "epoch" if by_epoch else "step"
    last = max(float(_x(curve, by_epoch)[-1]) for curve in curves)
    figure.update_xaxes(range=[0, last * 1.04])
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text=unit, title_standoff=4, row=rows, col=column)
    figure.update_annotations(font_size=12, align="left", xanchor="left", font_color=palette.text)
    for number, annotation in enumerate(figure.layout.annotations):
        axis = figure.layout["xaxis" if number == 0 else f"xaxis{number + 1}"]
        annotation.x = axis.domain[0]
    return _dressed(figure, palette, PANEL_HEIGHT * rows + 134)


def _curve_traces(curve: Curve, palette: Palette, by_epoch: bool, legend: bool) -> list[go.Scatter]:
    x = _x(curve, by_epoch)
    where = "epoch" if by_epoch else "step"

    def line(name: str, y: Floats, half: Floats | None, **style: object) -> go.Scatter:
        interval = " ± %{customdata:.1%}" if half is not None else ""
        return go.Scatter(
            x=x,
            y=y,
            customdata=half,
            name=name,
            legendgroup=name,
            showlegend=legend,
            mode="lines+markers",
            hovertemplate=f"{curve.scores.run}<br>{where} %{{x}}<br>{name} %{{y:.1%}}{interval}"
            "<extra></extra>",
            **style,
        )

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
        _band(x, curve.premem, curve.premem_half, palette.premem_band),
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
            _band(x, curve.test, curve.test_half, palette.test_band),
            line(
                "test accuracy",
                curve.test,
                curve.test_half,
                line={"color": palette.test, "width": 2},
                marker={"size": 6, "symbol": "diamond"},
            ),
        ]
    return traces


def _best_marked(premem: Floats) -> dict[str, object]:
    """Markers of a run's checkpoints; a star at the highest pre-memorization accuracy."""
    best = int(np.nanargmax(premem)) if not np.isnan(premem).all() else -1
    return {
        "size": [13 if c == best else 6 for c in range(len(premem))],
        "symbol": ["star" if c == best else "circle" for c in range(len(premem))],
    }


def perplexity_figure(run: RunScores, log_log_threshold: float, palette: Palette) -> go.Figure:
    """How the perplexities of a run's training solutions are spread, at each checkpoint."""
    with np.errstate(divide="ignore"):
        depth = np.log(run.nll)
    known = depth[np.isfinite(depth)]
    low, high = np.quantile(known, [0.002, 0.998]) if len(known) else (-5.0, 0.5)
    low, high = min(low, log_log_threshold - 0.5), max(high, log_log_threshold + 0.5)
    edges = np.linspace(low, high, 49)
    shares = np.stack(
        [np.histogram(np.clip(row, low, high), edges)[0] / max(1, len(row)) for row in depth]
    )
    middles = (edges[1:] + edges[:-1]) / 2
    figure = go.Figure(
        go.Heatmap(
            z=np.round(shares.T, 4),
            x=[f"{step}" for step in run.steps],
            y=middles,
            customdata=np.round(np.repeat(np.exp(np.exp(middles))[:, None], len(run.steps), 1), 4),
            colorscale=[(0, "rgba(0,0,0,0)"), (1, palette.memorized)],
            showscale=False,
            hovertemplate="step %{x}<br>perplexity about %{customdata}<br>%{z:.1%} of the examples"
            "<extra></extra>",
        )
    )
    figure.add_hline(log_log_threshold, line={"color": palette.text, "width": 1.2, "dash": "dash"})
    figure.update_xaxes(title_text="step", type="category", showgrid=False)
    figure.update_yaxes(title_text="log log perplexity", zeroline=False)
    dressed = _dressed(figure, palette, 340)
    dressed.update_layout(margin_t=12)
    return dressed


def _x(curve: Curve, by_epoch: bool) -> Floats:
    return curve.scores.epoch if by_epoch else curve.scores.steps.astype(np.float64)


def _band(x: Floats, middle: Floats, half: Floats, color: str) -> go.Scatter:
    # A gap in the line is a gap in its band: one closed shape per stretch, NaN between them.
    known = ~np.isnan(middle + half)
    stretches = np.split(np.arange(len(x)), np.flatnonzero(known[1:] != known[:-1]) + 1)
    across, up = [], []
    for at in stretches:
        if known[at[0]]:
            across += [*x[at], *np.flip(x[at]), np.nan]
            up += [*(middle + half)[at], *np.flip((middle - half)[at]), np.nan]
    return go.Scatter(
        x=across[:-1],
        y=up[:-1],
        fill="toself",
        fillcolor=color,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def fit_figure(
    points: pd.DataFrame,
    labels: dict[str, str],
    symbols: dict[str, str],
    predictor: str,
    predictor_name: str,
    palette: Palette,
    legend: bool,
) -> go.Figure:
    """Every checkpoint: a predictor against test accuracy, with the identity line.

    Args:
        points: `curves.points`.
        labels: run → the text that stands for it, in the order of the colour scale.
        symbols: run → marker symbol.
        predictor: the column on the x axis.
        legend: name the runs beside the chart.
    """
    figure = go.Figure()
    everything = points[[predictor, "test_accuracy"]].to_numpy()
    known = everything[~np.isnan(everything)]
    low, high = max(0.0, known.min() - 0.05), min(1.02, known.max() + 0.05)
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": palette.train, "width": 1, "dash": "dash"},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    scale, start, end = palette.runs
    at = np.linspace(start, end, max(2, len(labels)))
    colors = dict(zip(labels, sample_colorscale(scale, list(at)), strict=False))
    for run, label in labels.items():
        rows = points[points["run"] == run]
        half = rows["premem_half"].to_numpy() if predictor == "premem" else None
        figure.add_trace(
            go.Scatter(
                x=rows[predictor].to_numpy(),
                y=rows["test_accuracy"].to_numpy(),
                error_x={"array": half, "width": 0, "thickness": 1} if half is not None else None,
                error_y={"array": rows["test_half"].to_numpy(), "width": 0, "thickness": 1},
                customdata=rows[["step", "memorized_share"]].to_numpy(),
                mode="markers",
                name=label,
                showlegend=legend,
                marker={
                    "color": colors[run],
                    "symbol": symbols[run],
                    "size": 9,
                    "line": {"width": 0.5, "color": palette.grid},
                },
                hovertemplate=f"{run}<br>step %{{customdata[0]}}<br>{predictor_name} %{{x:.1%}}"
                "<br>test accuracy %{y:.1%}<br>memorized %{customdata[1]:.0%}<extra></extra>",
            )
        )
    ticks = {"range": [low, high], "tickformat": ".0%", "dtick": 0.2 if high - low > 0.7 else 0.1}
    figure.update_xaxes(title_text=predictor_name, **ticks)
    figure.update_yaxes(title_text="test accuracy", **ticks)
    dressed = _dressed(figure, palette, 460)
    dressed.update_layout(margin_t=16)
    if legend:
        dressed.update_layout(
            legend={"orientation": "v", "x": 1.02, "y": 1, "yref": "paper", "yanchor": "top"}
        )
    return dressed


def threshold_figure(
    table: pd.DataFrame, plateau: tuple[float, float], in_force: float, palette: Palette
) -> go.Figure:
    """R² as a function of the threshold, the plateau around its optimum and the one in force.

    Args:
        table: `analysis.threshold_table`.
        plateau: between which thresholds R² is about as good; infinite where open.
        in_force: t.
        palette: the colours in force.
    """
    t, r2 = table["log_log_threshold"].to_numpy(), table["r2"].to_numpy()
    figure = go.Figure(
        go.Scatter(
            x=t,
            y=r2,
            customdata=table["perplexity"].to_numpy(),
            mode="lines",
            line={"color": palette.premem, "width": 2.2, "shape": "hv"},
            hovertemplate="t = %{x:.2f} (perplexity %{customdata:.4f})<br>R² %{y:.3f}"
            "<extra></extra>",
        )
    )
    start, end = t[0], t[-1]
    low, high = np.clip(plateau, start, end)
    figure.add_vrect(low, high, fillcolor=palette.memorized_band, line_width=0, layer="below")
    figure.add_vline(in_force, line={"color": palette.text, "width": 1, "dash": "dot"})
    best = float(np.nanmax(r2)) if not np.isnan(r2).all() else 1.0
    figure.update_yaxes(range=[min(0.0, best - 0.5), 1.02], tickformat=".1f", title_text="R²")
    figure.update_xaxes(range=[start, end], title_text="threshold t = log log PPL", dtick=1)
    dressed = _dressed(figure, palette, 260)
    dressed.update_layout(margin_t=12, showlegend=False)
    return dressed


def prediction_figure(rows: pd.DataFrame, palette: Palette) -> go.Figure:
    """A run's predicted test accuracy per checkpoint with its interval, and what was measured.

    Args:
        rows: `prediction.predict`.
        palette: the colours in force.
    """
    x, predicted = rows["step"].to_numpy(dtype=np.float64), rows["predicted"].to_numpy()
    low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
    tests = rows["test_accuracy"].to_numpy()
    figure = go.Figure()
    figure.add_trace(_band(x, (low + high) / 2, (high - low) / 2, palette.premem_band))
    figure.add_trace(
        go.Scatter(
            x=x,
            y=predicted,
            customdata=np.stack([low, high], axis=1),
            name="predicted test accuracy",
            mode="lines+markers",
            line={"color": palette.premem, "width": 2.6},
            marker={"size": 7},
            error_y={
                "array": high - predicted,
                "arrayminus": predicted - low,
                "width": 0,
                "thickness": 1,
            },
            hovertemplate="step %{x}<br>predicted %{y:.1%}, 90 %: %{customdata[0]:.1%} to "
            "%{customdata[1]:.1%}<extra></extra>",
        )
    )
    if not np.isnan(tests).all():
        figure.add_trace(
            go.Scatter(
                x=x,
                y=tests,
                name="measured test accuracy",
                mode="markers",
                marker={"color": palette.test, "size": 8, "symbol": "diamond"},
                hovertemplate="step %{x}<br>measured %{y:.1%}<extra></extra>",
            )
        )
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="step", tickvals=x)
    dressed = _dressed(figure, palette, 320)
    dressed.update_layout(margin_t=44)
    return dressed


def map_figure(of: Cells, log_log_threshold: float, palette: Palette) -> go.Figure:
    """Examples across, checkpoints up; colour is accuracy and, towards orange, memorization.

    A heat map reports no clicks: invisible squares over its cells do. The place of a point in its
    trace is row · columns + column.
    """
    codes = np.where(
        np.isnan(of.accuracy),
        np.nan,
        _map_codes(of.accuracy, of.log_log_perplexity, log_log_threshold),
    )
    columns, rows = len(of.members), len(of.steps)
    figure = go.Figure(
        go.Heatmap(
            z=codes,
            zmin=0,
            zmax=LEVELS * LEVELS - 1,
            colorscale=_steps_of(_map_colors(palette)),
            showscale=False,
            hoverinfo="skip",
        )
    )
    across, up = np.meshgrid(np.arange(columns), np.arange(rows))
    figure.add_trace(
        go.Scatter(
            x=across.ravel(),
            y=up.ravel(),
            customdata=np.column_stack(
                [
                    np.repeat(of.steps, columns),
                    np.tile([len(each) for each in of.members], rows),
                    np.round(of.accuracy.ravel(), 3),
                    np.round(np.exp(np.exp(of.log_log_perplexity.ravel())), 3),
                    np.round(of.memorized.ravel(), 3),
                ]
            ),
            mode="markers",
            marker={"symbol": "square", "size": 10, "opacity": 0},
            showlegend=False,
            hovertemplate="step %{customdata[0]}, %{customdata[1]} examples<br>accuracy "
            "%{customdata[2]:.0%}, perplexity %{customdata[3]:.3f}<br>%{customdata[4]:.0%} "
            "memorized<extra></extra>",
        )
    )
    figure.update_xaxes(showticklabels=False, showgrid=False, range=[-0.5, columns - 0.5])
    figure.update_yaxes(
        tickvals=np.arange(rows), ticktext=of.steps, showgrid=False, title_text="step"
    )
    dressed = _dressed(figure, palette, max(240, 46 * rows + 40))
    dressed.update_layout(margin_t=12, showlegend=False, clickmode="event+select", hoverdistance=40)
    return dressed


def map_legend(palette: Palette) -> go.Figure:
    """What `map_figure`'s colours mean."""
    figure = go.Figure(
        go.Heatmap(
            z=np.arange(LEVELS * LEVELS).reshape(LEVELS, LEVELS),
            colorscale=_steps_of(_map_colors(palette)),
            showscale=False,
            hoverinfo="skip",
        )
    )
    figure.update_xaxes(
        title_text="perplexity", tickvals=[0, LEVELS - 1], ticktext=["high", "low"], showgrid=False
    )
    figure.update_yaxes(
        title_text="accuracy", tickvals=[0, LEVELS - 1], ticktext=["0%", "100%"], showgrid=False
    )
    dressed = _dressed(figure, palette, 200)
    dressed.update_layout(margin_t=12)
    return dressed


def _map_codes(accuracy: Floats, log_log_perplexity: Floats, log_log_threshold: float) -> Floats:
    """accuracy level · LEVELS + memorization level, whose middle is the threshold."""
    near = np.clip((log_log_threshold - log_log_perplexity) / (2 * REACH) + 0.5, 0, 1)
    codes: Floats = np.rint(accuracy * (LEVELS - 1)) * LEVELS + np.rint(near * (LEVELS - 1))
    return codes


def _map_colors(palette: Palette) -> list[str]:
    """LEVELS² colours between four: wrong and right, each not memorized and memorized."""
    corners = np.array([hex_to_rgb(color) for color in palette.map_corners]).reshape(2, 2, 3)
    share = np.linspace(0, 1, LEVELS)
    mixed = [
        (1 - a) * ((1 - m) * corners[0, 0] + m * corners[0, 1])
        + a * ((1 - m) * corners[1, 0] + m * corners[1, 1])
        for a in share
        for m in share
    ]
    return [label_rgb(color.round().astype(int).tolist()) for color in mixed]


def _steps_of(colors: Sequence[str]) -> list[tuple[float, str]]:
    """A colour scale on which whole numbers from 0 on have these colours, and none between."""
    last = len(colors) - 1
    edges = [max(0.0, (n - 0.5) / last) for n in range(len(colors))] + [1.0]
    return [(edge, c) for n, c in enumerate(colors) for edge in (edges[n], edges[n + 1])]


def life_figure(life: pd.DataFrame, log_log_threshold: float, palette: Palette) -> go.Figure:
    """One example's accuracy and perplexity by checkpoint.

    Args:
        life: step, accuracy, nll.
        log_log_threshold: below it, the example is memorized.
        palette: the colours in force.
    """
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    steps = life["step"].to_numpy()
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=life["accuracy"].to_numpy(),
            name="accuracy",
            mode="lines+markers",
            line={"color": palette.premem, "width": 2.4},
            hovertemplate="step %{x}<br>accuracy %{y:.0%}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=steps,
            y=np.exp(life["nll"].to_numpy()),
            name="perplexity",
            mode="lines+markers",
            line={"color": palette.memorized, "width": 2, "dash": "dot"},
            marker={"symbol": "diamond"},
            hovertemplate="step %{x}<br>perplexity %{y:.4f}<extra></extra>",
        ),
        secondary_y=True,
    )
    figure.add_hline(
        float(np.exp(np.exp(log_log_threshold))),
        secondary_y=True,
        line={"color": palette.memorized, "width": 1, "dash": "dash"},
    )
    dressed = _dressed(figure, palette, 300)
    dressed.update_xaxes(title_text="step", tickvals=steps)
    dressed.update_yaxes(
        range=[-0.03, 1.03], tickformat=".0%", title_text="accuracy", secondary_y=False
    )
    highest = float(np.nanmax(np.append(life["nll"].to_numpy(), np.exp(log_log_threshold))))
    dressed.update_yaxes(
        type="log",
        title_text="perplexity",
        showgrid=False,
        tickformat=".3~f",
        range=[-0.03 * highest / np.log(10), 1.03 * highest / np.log(10)],
        secondary_y=True,
    )
    dressed.update_layout(margin_t=44)
    return dressed


def robustness_figure(found: Sequence[Robustness], palette: Palette) -> go.Figure:
    """Accuracy under each perturbation by pre-memorization accuracy, and as the questions are.

    Args:
        found: of one checkpoint.
        palette: the colours in force.
    """
    figure = go.Figure()
    most = max(found, key=lambda each: len(each.examples))
    lines = [("as they are", most.by_premem, "original", palette.train)]
    lines += [
        (each.perturbation, each.by_premem, "perturbed", palette.kinds[n % len(palette.kinds)])
        for n, each in enumerate(found)
    ]
    for n, (name, rows, column, color) in enumerate(lines):
        shift = (n - len(lines) / 2) * 0.008  # bars side by side, not on each other
        figure.add_trace(
            go.Scatter(
                x=rows["premem"].to_numpy() + shift,
                y=rows[column].to_numpy(),
                error_y={
                    "array": rows[f"{column}_half"].to_numpy(),
                    "width": 0,
                    "thickness": 1,
                },
                customdata=rows[["premem", "examples"]].to_numpy(),
                name=name,
                mode="lines+markers",
                line={"color": color, "width": 2},
                marker={"size": 7, "symbol": SYMBOLS[n % len(SYMBOLS)]},
                hovertemplate=f"{name}<br>pre-memorization accuracy %{{customdata[0]:.0%}}<br>"
                "accuracy %{y:.1%} of %{customdata[1]:,} questions<extra></extra>",
            )
        )
    figure.update_xaxes(
        title_text="pre-memorization accuracy", tickformat=".0%", dtick=0.2, range=[-0.06, 1.06]
    )
    figure.update_yaxes(title_text="accuracy", tickformat=".0%", range=[0, 1.03])
    dressed = _dressed(figure, palette, 420)
    dressed.update_layout(margin_t=60)
    return dressed


def auroc_figure(areas: pd.DataFrame, palette: Palette) -> go.Figure:
    """Each signal's area under the ROC curve with its interval; the line is that of no signal.

    Args:
        areas: `Robustness.auroc`.
        palette: the colours in force.
    """
    known = areas.dropna(subset=["auroc"]).iloc[::-1]
    figure = go.Figure(
        go.Scatter(
            x=known["auroc"].to_numpy(),
            y=[SIGNALS[signal] for signal in known["signal"]],
            error_x={
                "array": (known["high"] - known["auroc"]).to_numpy(),
                "arrayminus": (known["auroc"] - known["low"]).to_numpy(),
                "color": palette.text,
                "width": 0,
                "thickness": 1.5,
            },
            mode="markers",
            marker={
                "size": 9,
                "color": [
                    palette.premem if signal == "premem" else palette.train
                    for signal in known["signal"]
                ],
            },
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.add_vline(0.5, line={"color": palette.text, "width": 1, "dash": "dash"})
    low = min(0.4, float(known["low"].min())) if len(known) else 0.4
    figure.update_xaxes(
        title_text="area under the ROC curve", range=[low - 0.02, 1.02], tickformat=".1f", dtick=0.1
    )
    figure.update_yaxes(showgrid=False)
    dressed = _dressed(figure, palette, 230)
    dressed.update_layout(margin_t=12, showlegend=False)
    return dressed


def grades_figure(cross: pd.DataFrame, one: str, other: str, palette: Palette) -> go.Figure:
    """Two graders' grades of the same completions: counts, shaded where the two differ.

    Args:
        cross: completions by grade; rows: the one's, columns: the other's, in the same order.
        one: the name of the one.
        other: the name of the other.
        palette: the colours in force.
    """
    counts = cross.to_numpy(dtype=np.float64)
    apart = (counts > 0) & ~np.eye(len(cross), dtype=bool)
    names = [str(name).lower() for name in cross.index]
    figure = go.Figure(
        go.Heatmap(
            z=apart.astype(np.float64),
            zmin=0,
            zmax=1,
            x=names,
            y=names,
            customdata=counts,
            text=[[f"{count:,.0f}" if count else "·" for count in row] for row in counts],
            texttemplate="%{text}",
            textfont={"size": 14, "color": palette.text},
            colorscale=[(0, "rgba(0,0,0,0)"), (1, palette.grid)],
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate=f"{one}: %{{y}}<br>{other}: %{{x}}<br>%{{customdata:,}} completions"
            "<extra></extra>",
        )
    )
    dressed = _dressed(figure, palette, 76 + 44 * max(2, len(cross)))
    dressed.update_xaxes(title_text=other, side="top", showgrid=False, showline=False)
    dressed.update_yaxes(title_text=one, autorange="reversed", showgrid=False, showline=False)
    dressed.update_layout(xaxis_ticks="", yaxis_ticks="", margin_t=8)
    return dressed


def run_symbols(groups: dict[str, tuple[float, int]]) -> dict[str, str]:
    """A marker symbol per run: one per (epochs, training examples), the paper's convention."""
    kinds = sorted(set(groups.values()))
    return {run: SYMBOLS[kinds.index(kind) % len(SYMBOLS)] for run, kind in groups.items()}


def _dressed(figure: go.Figure, palette: Palette, height: int) -> go.Figure:
    axis = {
        "gridcolor": palette.grid,
        "zeroline": False,
        "linecolor": palette.grid,
        "tickfont": {"color": palette.text, "size": 12},
        "title_font": {"color": palette.text, "size": 12},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 100, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "font": {"color": palette.text, "size": 12},
        },
    )
    return figure


def flips_figure(counts: NDArray[np.int64], a: str, b: str, palette: Palette) -> go.Figure:
    """Questions by their accuracy at A (across) and at B (up); two of the quarters are the flips.

    Args:
        counts: (6, 6) of `comparison.cross`: accuracy i/5 at A and j/5 at B.
        a: what stands for A, such as "A, step 567".
        b: what stands for B.
        palette: the colours in force.
    """
    levels = np.linspace(0, 1, len(counts))
    quarter = comparison.outcomes(*np.meshgrid(levels, levels))
    up = counts.T.astype(np.float64)  # the rows of a heat map go up
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(up),  # the many that stay as they are must not hide the few that change
            x=levels,
            y=levels,
            customdata=np.dstack([up, quarter]),
            text=[[f"{count:,.0f}" if count else "·" for count in row] for row in up],
            texttemplate="%{text}",
            textfont={"size": 14, "color": palette.test},
            colorscale=[(0, "rgba(128,128,128,0)"), (1, "rgba(128,128,128,0.4)")],
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate=f"{a}: %{{x:.0%}} right<br>{b}: %{{y:.0%}} right<br>"
            "%{customdata[1]}; questions: %{customdata[0]:,}<extra></extra>",
        )
    )
    for half in (figure.add_hline, figure.add_vline):
        half(0.5, line={"color": palette.text, "width": 1.5})
    corners = {
        comparison.WRONG_TO_RIGHT: (0, 1),
        comparison.RIGHT_AT_BOTH: (1, 1),
        comparison.WRONG_AT_BOTH: (0, 0),
        comparison.RIGHT_TO_WRONG: (1, 0),
    }
    for name, (x, y) in corners.items():
        figure.add_annotation(
            text=f"{name}: {up[quarter == name].sum():,.0f}",
            showarrow=False,
            x=x,
            y=y,
            xref="paper",
            yref="paper",
            xanchor="right" if x else "left",
            yanchor="bottom" if y else "top",
            font={"size": 13, "color": palette.test if name in comparison.FLIPS else palette.text},
        )
    dressed = _dressed(figure, palette, 440)
    ticks = {"tickvals": levels, "tickformat": ".0%", "showgrid": False, "showline": False}
    dressed.update_xaxes(title_text=f"accuracy at {a}", ticklabelstandoff=20, **ticks)
    dressed.update_yaxes(title_text=f"accuracy at {b}", **ticks)
    dressed.update_layout(xaxis_ticks="", yaxis_ticks="", margin_t=48)
    return dressed
