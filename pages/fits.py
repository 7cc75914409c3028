"""R² fits: how well PM predicts test accuracy, and whether simpler predictors do as well."""

import streamlit as st

from premem_core.analysis import baselines
from premem_core.analysis.run_scores import order_in_words
from premem_core.analysis.studies import leave_one_out
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.studies.study import Analysis
from premem_core.dashboard import cached_reads, elements, figures
from premem_core.dashboard.figures import html_report
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import (
    fit_in_words,
    interval,
    perplexity,
    plain,
    signed,
)
from premem_core.metrics import thresholds

SAME_RUN = "on the run that the threshold is fitted to"

st.header("R² fits")
headline = st.empty()
view = pick_view("several", eligible=lambda run: run.tested, choose_objective=True)
warnings = st.empty()


def fit_section(analysis: Analysis) -> None:
    """How well PM predicts test accuracy over the runs that have a test set.

    The numbers come first: what follows takes time, and a chart keeps the browser busy.
    """
    premem_notes = interval(analysis.identity_ci90), interval(analysis.linear_ci90)
    if analysis.points["run"].nunique() < 2:
        premem_notes = (SAME_RUN,) * 2
    panels = [("Pre-memorization accuracy", "fit", "premem", premem_notes)]
    if analysis.points["train_accuracy"].notna().any():  # a sampling plan may leave samples out
        panels.append(
            ("Train accuracy", "train-fit", "train_accuracy", ("\N{NO-BREAK SPACE}",) * 2)
        )
    r2s = (analysis.r2, analysis.train_r2)
    columns = st.columns([1.55, 1], gap="large")
    for column, (title, *_, notes), (identity, linear) in zip(columns, panels, r2s, strict=False):
        with column:
            st.subheader(title)
            elements.numbers(
                ("Identity R²", signed(identity), notes[0]),
                ("Linear R²", signed(linear), notes[1]),
            )
    resampled = ""
    if analysis.identity_ci90:
        resampled = f"{interval(analysis.identity_ci90)} over resampled runs"
    headline.markdown(fit_in_words(analysis.points, view.estimator, resampled))
    if analysis.caveats:
        warnings.warning("  \n".join(map(plain, analysis.caveats)))
    runs = analysis.study.runs
    labels = {run.run: view.labels[run.run] for run in runs}
    symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in runs})
    charts = [
        figures.fit_figure(
            analysis.points, labels, symbols, predictor, title.lower(), elements.palette(), n == 0
        )
        for n, (title, _, predictor, _) in enumerate(panels)
    ]
    for column, chart, (title, name, *_) in zip(columns, charts, panels, strict=False):
        with column:
            elements.chart(
                chart,
                name,
                analysis.points,
                alt=f"{title} against test accuracy, one point per checkpoint",
            )
    st.caption(
        "Each point is a checkpoint; bars are 90 % intervals over questions. On the dashed line, "
        "the prediction equals the test accuracy. Identity R² measures how close the points are to "
        f"this line, linear R² to the best straight line. Colour: {order_in_words(runs)}. Shape: "
        f"number of epochs and of training examples. PM uses the {view.estimator} estimator. "
        + view.threshold_note()
    )


def threshold_section(analysis: Analysis) -> None:
    """R² at every threshold, and predictions of the runs left out of the fit."""
    left, right = st.columns([1.55, 1], gap="large")
    study, fit = analysis.study, analysis.study.fit
    with left:
        st.subheader(f"{view.objective.title()} R² at every threshold")
        if fit is None:
            st.caption("No threshold can be fitted to these runs.")
        else:
            table = study.by_threshold
            elements.chart(
                figures.threshold_figure(
                    table, fit.plateau, analysis.log_log_threshold, elements.palette()
                ),
                "threshold",
                table,
                alt=f"{view.objective.title()} R² against the threshold",
            )
            low, high = fit.plateau
            st.caption(
                f"Shaded: the thresholds whose R² is within {thresholds.PLATEAU} of the best, "
                f"t = {signed(low, 2)} to {signed(high, 2)} (perplexity {perplexity(low)} "
                f"to {perplexity(high)}). Dotted line: the current threshold."
            )
    with right:
        st.subheader("Runs left out")
        if study.errors_by_run is None:
            st.caption(
                "This needs at least two runs with test problems, and a threshold that can still "
                "be fitted when one of them is left out."
            )
            return
        sentences = []
        for group, rows in (("run", study.left_out), ("learning rate", study.rate_left_out)):
            if rows is not None:
                off = leave_one_out.prediction_errors(rows)
                sentences.append(
                    f"Each {group} left out in turn: mean absolute error "
                    f"**{100 * off.mae:.1f} points** (root mean square {100 * off.rmse:.1f}), "
                    f"R² {signed(off.r2)}."
                )
        st.markdown("\n\n".join(sentences))
        elements.small_table(
            study.errors_by_run.replace({"run": view.labels}),
            {
                "run": "Run left out",
                "log_log_threshold": ("t of the others", lambda t: signed(t, 2)),
                "mae": ("Error, points", lambda mae: signed(100 * mae, 1)),
            },
            alt="For each run left out: the threshold of the other runs, and the mean error",
        )


def predictors_section(analysis: Analysis) -> None:
    """The errors of the predictors on runs that are left out, and which one they suggest."""
    st.subheader("Which predictor is best on runs that are left out?")
    comparison = cached_reads.comparison(view.task, analysis.study.runs)
    elements.small_table(
        comparison.table.assign(
            **{name: 100 * comparison.table[name] for name in ("mae", "rate_mae")},
            label=[text[0].upper() + text[1:] for text in comparison.table["label"]],
        ),
        {
            "label": "Predictor",
            "mae": ("Error, points: each run left out", lambda error: signed(error, 1)),
            "r2": ("R²", signed),
            "rate_mae": ("Each learning rate left out", lambda error: signed(error, 1)),
            "rate_r2": ("R² then", signed),
        },
        alt="Errors of the predictors on left-out runs",
    )
    st.caption(plain(comparison.in_words()))


def baselines_section(analysis: Analysis) -> None:
    """How well simpler predictors do."""
    st.subheader("Do simpler predictors work as well?")
    table = analysis.baselines.assign(
        label=[baselines.PREDICTORS[name].label for name in analysis.baselines["predictor"]],
        needs=[
            "" if points else baselines.PREDICTORS[name].needs
            for name, points in analysis.baselines[["predictor", "points"]].itertuples(index=False)
        ],
    )
    elements.small_table(
        table,
        {
            "label": "Predictor",
            "points": ("Checkpoints", str),
            "identity_r2": ("Identity R²", signed),
            "linear_r2": ("Linear R²", signed),
            "gap_pearson": ("r with gap", signed),
            "gap_r2": ("R² with gap", signed),
            **({"needs": "How to get it"} if table["needs"].any() else {}),
        },
        alt="How well simpler predictors predict test accuracy and the generalization gap",
    )
    st.download_button(
        "Numbers as CSV",
        lambda: view.with_settings(analysis.baselines).to_csv(index=False),
        "premem-baselines.csv",
        "text/csv",
        type="tertiary",
        key="csv-baselines",
    )
    st.caption(
        "“Gap” is the generalization gap, train accuracy − test accuracy. A predictor of test "
        "accuracy is compared with it as train accuracy − predictor."
    )


def report_section(analysis: Analysis) -> None:
    """The page as a file, to keep or to send to someone without this dashboard."""
    st.download_button(
        "The whole analysis as one HTML file",
        lambda: html_report.report(
            view.task, analysis, view.labels, cached_reads.verdicts(view.task, view.runs)
        ),
        file_name=f"premem-{view.task}.html",
        mime="text/html",
        on_click="ignore",
    )


shown_analysis = None
if calibrating_runs(view.shown):
    shown_analysis = cached_reads.analysis(
        view.task, view.shown, view.estimator, view.objective, view.threshold
    )
    fit_section(shown_analysis)
    threshold_section(shown_analysis)
elif view.shown:
    headline.markdown(plain(" ".join(what_counts_less(view.shown))))
else:
    headline.markdown("No run of this task has test problems; give a test file on the Score page.")
if shown_analysis is not None:
    predictors_section(shown_analysis)
    baselines_section(shown_analysis)
    report_section(shown_analysis)
