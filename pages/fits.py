"""R² fits: how well PM predicts test accuracy, what to expect of a run, and simpler numbers."""

import streamlit as st

from premem_core import (
    baselines,
    curves,
    figures,
    fits,
    prediction,
    report,
    thresholds,
    ui,
)
from premem_core.analysis import Analysis
from premem_core.errors import PrememError
from premem_core.prediction import Calibration

st.header("R² fits")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    tested = [run for run in everything if run.tested]
    counted = ui.pick_runs(tested) if tested else []
    estimator = ui.pick_estimator()
    objective = ui.pick_objective()
    threshold = ui.pick_threshold(task, counted, estimator, objective) if tested else None
warnings = st.empty()


def fit_section(task: str, done: Analysis) -> None:
    """How well PM predicts test accuracy over the runs that have a test set.

    The numbers come first: what follows takes time, and a chart keeps the browser busy.
    """
    of_premem = ui.interval(done.identity_ci90), ui.interval(done.linear_ci90)
    panels = (
        ("Pre-memorization accuracy", "premem", "fit", of_premem),
        ("Plain train accuracy", "train_accuracy", "train-fit", ("\N{NO-BREAK SPACE}",) * 2),
    )
    columns = st.columns([1.55, 1], gap="large")
    for column, (title, predictor, _, (of_identity, of_linear)) in zip(
        columns, panels, strict=True
    ):
        x, test = done.points[predictor].to_numpy(), done.points["test_accuracy"].to_numpy()
        with column:
            st.subheader(title)
            ui.numbers(
                ("Identity R²", ui.signed(fits.identity_r2(x, test)), of_identity),
                ("Linear R²", ui.signed(fits.linear_r2(x, test)), of_linear),
            )
    known = done.points.dropna(subset=["premem"])
    runs = known["run"].nunique()
    if done.identity_ci90:
        headline.markdown(
            f"Over {ui.count(len(known), 'checkpoint')} of {ui.count(runs, 'run')}, "
            f"pre-memorization accuracy equals test accuracy with identity R² "
            f"**{ui.signed(done.identity_r2)}** ({ui.interval(done.identity_ci90)} over resampled "
            f"runs; {estimator} estimator); {ui.train_r2(known)}."
        )
    else:
        headline.markdown(
            f"With {ui.count(len(known), 'checkpoint')} of {ui.count(runs, 'run')} there is too "
            "little to say how well pre-memorization accuracy predicts test accuracy."
        )
    if done.caveats:
        warnings.warning("  \n".join(done.caveats))
    labels = curves.labels(counted)
    symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in counted})
    drawn = [
        figures.fit_figure(
            done.points, labels, symbols, predictor, title.lower(), ui.palette(), number == 0
        )
        for number, (title, predictor, *_) in enumerate(panels)
    ]
    for column, figure, (title, _, name, _) in zip(columns, drawn, panels, strict=True):
        with column:
            ui.chart(
                figure,
                name,
                done.points,
                alt=f"{title} against test accuracy, one point per checkpoint",
            )
    st.caption(
        "Each point is a checkpoint; bars are 90 % intervals over questions; the dashed line is "
        "perfect prediction. Identity R² asks whether the number *is* the test accuracy, linear R² "
        "whether some line through it would be. Colour: learning rate, low to high. Shape: epochs "
        f"and number of training examples. PM by the {estimator} estimator. "
        + ui.threshold_note(task, counted, estimator, objective)
    )


def threshold_section(done: Analysis) -> None:
    """R² at every threshold, and how the threshold of some runs does on others."""
    left, right = st.columns([1.55, 1], gap="large")
    study, fit = done.study, done.study.fit
    with left:
        st.subheader(f"{objective.title()} R² at every threshold")
        if fit is None:
            st.caption("No threshold can be fitted to these runs.")
        else:
            table = study.by_threshold
            ui.chart(
                figures.threshold_figure(table, fit.plateau, done.log_log_threshold, ui.palette()),
                "threshold",
                table,
                alt=f"{objective.title()} R² against the threshold",
            )
            low, high = fit.plateau
            st.caption(
                f"Shaded: thresholds with R² within {thresholds.PLATEAU} of the best, "
                f"t = {ui.signed(low, 2)} to {ui.signed(high, 2)} (perplexity {ui.perplexity(low)} "
                f"to {ui.perplexity(high)}). Dotted: the threshold in force."
            )
    with right:
        st.subheader("Runs left out")
        if study.off_by_run is None:
            st.caption(
                "Leaving a run out takes two or more runs with a test set, the others of which "
                "determine a threshold."
            )
            return
        told = []
        for what, rows in (("run", study.left_out), ("learning rate", study.rate_left_out)):
            if rows is not None:
                off = prediction.errors(rows)
                told.append(
                    f"One {what} left out, predicted with the threshold of the others: off by "
                    f"**{100 * off.mae:.1f} points** on average (root mean square "
                    f"{100 * off.rmse:.1f}), R² {ui.signed(off.r2)}."
                )
        st.markdown("\n\n".join(told))
        ui.small_table(
            study.off_by_run.replace({"run": curves.labels(counted)}),
            {
                "run": "Left out",
                "log_log_threshold": ("t of the others", lambda t: ui.signed(t, 2)),
                "mae": ("Off by, points", lambda mae: ui.signed(100 * mae, 1)),
            },
            alt="Every run left out: the threshold of the others, and how far off it was",
        )


def prediction_section(task: str) -> None:
    """What test accuracy to expect of a run, from the others or from a saved calibration."""
    st.subheader("What to expect on new problems")
    untested = [run for run in everything if not run.tested]
    names = {run.run: run for run in [*untested, *tested]}
    longest = max(names, key=lambda name: len(names[name].steps))
    labels = curves.labels(everything)
    with ui.controls():
        name = st.selectbox(
            "Run to predict", names, index=0 if untested else list(names).index(longest),
            format_func=labels.__getitem__, key="predict",
            bind="query-params", width=350,
        )  # fmt: skip
        with st.popover("Calibration"):
            picked = st.multiselect(
                "Runs that it learns from",
                [run.run for run in tested],
                format_func=labels.__getitem__,
                placeholder="those shown above",
                key="calibrate",
                bind="query-params",
            )
            upload = st.file_uploader(
                "or a saved calibration.json of the same base model and data set", type="json"
            )
        learned_from = [run for run in tested if run.run in picked] or counted
        others = [run for run in learned_from if run.run != name]
        try:
            if upload is not None:
                learned = Calibration.from_json(upload.getvalue().decode(), upload.name)
            else:
                learned = ui.calibration(task, others, estimator)
        except (PrememError, UnicodeDecodeError) as error:
            st.info(f"No prediction yet: {error}")
            return
        st.download_button(
            "Export this calibration",
            learned.to_json(),
            file_name="calibration.json",
            mime="application/json",
        )
    run = names[name]
    try:
        rows, choice = prediction.predict(run, learned), prediction.choose(run, learned)
    except PrememError as error:
        st.info(str(error))
        return
    if choice:
        st.markdown(choice.in_words())
    ui.chart(
        figures.prediction_figure(rows, ui.palette()),
        "prediction",
        rows,
        alt=f"Predicted test accuracy of {name}, per checkpoint",
    )
    st.caption(
        f"Calibrated on {ui.count(len(learned.runs), 'run')} at t = "
        f"{ui.signed(learned.log_log_threshold)} (perplexity "
        f"{ui.perplexity(learned.log_log_threshold)}), {learned.estimator} estimator. The band is "
        "a 90 % interval: sampling noise over questions, and what the threshold was off by on runs "
        "that it was not chosen from."
    )
    if notes := prediction.notes(task, rows, learned):
        st.warning("  \n".join(notes))


def baselines_section(done: Analysis) -> None:
    """Whether a simpler number does as well."""
    st.subheader("Does a simpler number do as well?")
    table = done.baselines.assign(
        label=[baselines.PREDICTORS[name].label for name in done.baselines["predictor"]],
        needs=[
            "" if points else baselines.PREDICTORS[name].needs
            for name, points in done.baselines[["predictor", "points"]].itertuples(index=False)
        ],
    )
    ui.small_table(
        table,
        {
            "label": "Predictor",
            "points": ("Checkpoints", str),
            "identity_r2": ("Identity R²", ui.signed),
            "linear_r2": ("Linear R²", ui.signed),
            "gap_pearson": ("r with gap", ui.signed),
            "gap_r2": ("R² with gap", ui.signed),
            **({"needs": "To have it"} if table["needs"].any() else {}),
        },
        alt="How well simpler numbers predict test accuracy and the generalization gap",
    )
    st.download_button(
        "Numbers as CSV", done.baselines.to_csv(index=False), "premem-baselines.csv", "text/csv",
        type="tertiary", key="csv-baselines",
    )  # fmt: skip
    st.caption(
        "Against test accuracy, and against the generalization gap, train − test accuracy; there "
        "an accuracy stands as the gap it expects, train accuracy − itself."
    )


def report_section(task: str, done: Analysis) -> None:
    """All of it to keep, or to send to someone without this dashboard."""
    st.download_button(
        "The whole analysis as one HTML file",
        lambda: report.report(task, done),
        file_name=f"premem-{task}.html",
        mime="text/html",
        on_click="ignore",
    )


if threshold is not None:
    found = ui.analysed(task, counted, estimator, objective, threshold)
    fit_section(task, found)
    threshold_section(found)
else:
    headline.markdown("No run of this task has test problems; give a test file on the Score page.")
prediction_section(task)
if threshold is not None:
    baselines_section(found)
    report_section(task, found)
