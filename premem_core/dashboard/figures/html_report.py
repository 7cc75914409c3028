"""HTML report: a task's analysis as one file that needs no server and no network."""

from collections.abc import Mapping, Sequence
from html import escape

import pandas as pd
import plotly.io

from premem_core.analysis import baselines
from premem_core.analysis.studies.study import Analysis
from premem_core.analysis.verdict.verdict import Verdict
from premem_core.dashboard import figures

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #16181D; max-width: 1100px; margin: 40px auto;
       padding: 0 24px; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin-top: 36px; }
li { margin: 4px 0; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 4px 10px; border-bottom: 1px solid #E8EAEE; text-align: right; }
th:first-child, td:first-child { text-align: left; }
"""


def report(
    task: str, analysis: Analysis, labels: Mapping[str, str], verdicts: Sequence[Verdict] = ()
) -> str:
    """The analysis of a task's runs as an HTML document.

    Args:
        labels: run → the text that stands for it.
        verdicts: on the task's runs.
    """
    study, palette = analysis.study, figures.LIGHT
    symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in study.runs})
    parts = [f"<p>{escape(sentence)}</p>" for sentence in analysis.in_words()]
    if analysis.caveats:
        notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in analysis.caveats)
        parts += ["<h2>Limits of these results</h2>", f"<ul>{notes}</ul>"]
    for verdict in verdicts:
        parts += [f"<h2>{escape(labels.get(verdict.run, verdict.run))}</h2>", *_sentences(verdict)]
    charts: list[tuple[str, figures.Chart]] = []
    for predictor, title in (
        ("premem", "Pre-memorization accuracy"),
        ("train_accuracy", "Train accuracy"),
    ):
        figure = figures.fit_figure(
            analysis.points, labels, symbols, predictor, title.lower(), palette, legend=True
        )
        charts.append((f"{title} against test accuracy", figure))
    if study.fit:
        figure = figures.threshold_figure(
            study.by_threshold, study.fit.plateau, analysis.log_log_threshold, palette
        )
        charts.append((f"{study.objective.capitalize()} R² at every threshold", figure))
    names = [labels[curve.scores.run] for curve in analysis.lines]
    figure = figures.curves_figure(analysis.lines, names, palette, by_epoch=False)
    charts.append(("Memorization curves", figure))
    for n, (title, figure) in enumerate(charts):
        parts += [f"<h2>{escape(title)}</h2>", chart(figure, first=n == 0)]
    if study.errors_by_run is not None:
        parts += [
            "<h2>Each run predicted with the threshold of the other runs</h2>",
            table(study.errors_by_run),
        ]
    simpler = analysis.baselines.assign(
        predictor=[baselines.PREDICTORS[name].label for name in analysis.baselines["predictor"]]
    )
    parts += [
        "<h2>Simpler predictors</h2>",
        table(simpler),
        "<h2>Every checkpoint</h2>",
        table(analysis.points.drop(columns=["log_log_threshold", "estimator"])),
    ]
    return document(f"Premem: {task}", parts)


VERDICT_COLUMNS = (
    *("step", "premem", "lu", "predicted", "low", "high", "labelled", "joined", "joined_low"),
    *("joined_high", "test_accuracy", "memorized_share", "test_nll", "finished"),
    *("completion_tokens", "k", "pass_at_k", "maj_at_k", "entropy"),
)


def verdict_report(verdict: Verdict) -> str:
    """The verdict on one run as an HTML document."""
    rows = verdict.checkpoints
    known = [name for name in VERDICT_COLUMNS if name in rows and rows[name].notna().any()]
    known += [str(name) for name in rows if str(name).startswith("limem_")]
    figure = figures.prediction_figure(rows, figures.LIGHT, verdict.interval)
    parts = [
        *_sentences(verdict),
        "<h2>Expected accuracy on new problems</h2>",
        chart(figure, first=True),
        "<h2>Every checkpoint</h2>",
        table(rows[known]),
        f"<p>{escape(COLUMNS_IN_WORDS)}</p>",
    ]
    return document(f"Premem: verdict on {verdict.run}", parts)


COLUMNS_IN_WORDS = (
    "premem: pre-memorization accuracy; lu: the same at the last checkpoint before each example "
    "was memorized; predicted: expected accuracy on new problems, low to high its interval; "
    "labelled: by labelled test questions; joined: labels and prediction together; test_nll: NLL "
    "per token of test solutions, nats; finished and completion_tokens: of completions of training "
    "questions; pass_at_k, maj_at_k and entropy (nats): of k samples; limem: how often a right "
    "answer is lost under a perturbation."
)


def _sentences(verdict: Verdict) -> list[str]:
    """The verdict's sentences and cautions as HTML."""
    parts = [f"<p>{escape(sentence)}</p>" for sentence in verdict.in_words() if sentence]
    if verdict.cautions:
        notes = "".join(f"<li>{escape(sentence)}</li>" for sentence in verdict.cautions)
        parts.append(f"<ul>{notes}</ul>")
    return parts


def document(title: str, parts: Sequence[str]) -> str:
    """An HTML document of these parts."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )


def chart(figure: figures.Chart, first: bool) -> str:
    """A chart as HTML; the first one of a document contains plotly.js."""
    html: str = plotly.io.to_html(
        figure.to_dict(), full_html=False, include_plotlyjs=first, validate=False
    )
    return html


def table(rows: pd.DataFrame) -> str:
    """A table as HTML, numbers with three decimals."""
    html: str = rows.to_html(index=False, border=0, na_rep="–", float_format="{:.3f}".format)
    return html
