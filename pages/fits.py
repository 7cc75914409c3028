"""R² fits: how well PM predicts test accuracy, what to expect of a run, and simpler numbers."""

import streamlit as st

from premem_core.analysis import baselines, leave_one_out, prediction, run_scores
from premem_core.analysis.calibration import Calibration
from premem_core.analysis.study import Analysis
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.figures import html_report
from premem_core.dashboard.wording import count, interval, perplexity, signed, train_r2
from premem_core.errors import PrememError
from premem_core.metrics import r2, thresholds

st.header("R² fits")
headline = st.empty()
with elements.controls():
    task = pickers.pick_task()
    if task is None:
        st.stop()
    everything = cached_reads.task_runs(task)
    tested = [run for run in everything if run.tested]
    counted = pickers.pick_runs(tested) if tested else []
    estimator = pickers.pick_estimator()
    objective = pickers.pick_objective()
    threshold = pickers.pick_threshold(task, counted, estimator, objective) if tested else None
warnings = st.empty()


def fit_section(task: str, done: Analysis) -> None:
    """How well PM predicts test accuracy over the runs that have a test set.

    The numbers come first: what follows takes time, and a chart keeps the browser busy.
    """
    of_premem = interval(done.identity_ci90), interval(done.linear_ci90)
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
            elements.numbers(
                ("Identity R²", signed(r2.identity_r2(x, test)), of_identity),
                ("Linear R²", signed(r2.linear_r2(x, test)), of_linear),
            )
    known = done.points.dropna(subset=["premem"])
    runs = known["run"].nunique()
    if done.identity_ci90:
        headline.markdown(
            f"Over {count(len(known), 'checkpoint')} of {count(runs, 'run')}, "
            f"pre-memorization accuracy equals test accuracy with identity R² "
            f"**{signed(done.identity_r2)}** ({interval(done.identity_ci90)} over resampled "
            f"runs; {estimator} estimator); {train_r2(known)}."
        )
    else:
        headline.markdown(
            f"With {count(len(known), 'checkpoint')} of {count(runs, 'run')} there is too "
            "little to say how well pre-memorization accuracy predicts test accuracy."
        )
    if done.caveats:
        warnings.warning("  \n".join(done.caveats))
    labels = run_scores.run_labels(counted)
    symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in counted})
    drawn = [
        figures.fit_figure(
            done.points, labels, symbols, predictor, title.lower(), elements.palette(), number == 0
        )
        for number, (title, predictor, *_) in enumerate(panels)
    ]
    for column, figure, (title, _, name, _) in zip(columns, drawn, panels, strict=True):
        with column:
            elements.chart(
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
        + pickers.threshold_note(task, counted, estimator, objective)
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
            elements.chart(
                figures.threshold_figure(
                    table, fit.plateau, done.log_log_threshold, elements.palette()
                ),
                "threshold",
                table,
                alt=f"{objective.title()} R² against the threshold",
            )
            low, high = fit.plateau
            st.caption(
                f"Shaded: thresholds with R² within {thresholds.PLATEAU} of the best, "
                f"t = {signed(low, 2)} to {signed(high, 2)} (perplexity {perplexity(low)} "
                f"to {perplexity(high)}). Dotted: the threshold in force."
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
                off = leave_one_out.errors(rows)
                told.append(
                    f"One {what} left out, predicted with the threshold of the others: off by "
                    f"**{100 * off.mae:.1f} points** on average (root mean square "
                    f"{100 * off.rmse:.1f}), R² {signed(off.r2)}."
                )
        st.markdown("\n\n".join(told))
        elements.small_table(
            study.off_by_run.replace({"run": run_scores.run_labels(counted)}),
            {
                "run": "Left out",
                "log_log_threshold": ("t of the others", lambda t: signed(t, 2)),
                "mae": ("Off by, points", lambda mae: signed(100 * mae, 1)),
            },
            alt="Every run left out: the threshold of the others, and how far off it was",
        )


def prediction_section(task: str) -> None:
    """What test accuracy to expect of a run, from the others or from a saved calibration."""
    st.subheader("What to expect on new problems")
    untested = [run for run in everything if not run.tested]
    names = {run.run: run for run in [*untested, *tested]}
    longest = max(names, key=lambda name: len(names[name].steps))
    labels = run_scores.run_labels(everything)
    with elements.controls():
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
                learned = cached_reads.calibration(task, others, estimator)
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
    elements.chart(
        figures.prediction_figure(rows, elements.palette()),
        "prediction",
        rows,
        alt=f"Predicted test accuracy of {name}, per checkpoint",
    )
    st.caption(
        f"Calibrated on {count(len(learned.runs), 'run')} at t = "
        f"{signed(learned.log_log_threshold)} (perplexity "
        f"{perplexity(learned.log_log_threshold)}), {learned.estimator} estimator. The band is "
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
    elements.small_table(
        table,
        {
            "label": "Predictor",
            "points": ("Checkpoints", str),
            "identity_r2": ("Identity R²", signed),
            "linear_r2": ("Linear R²", signed),
            "gap_pearson": ("r with gap", signed),
            "gap_r2": ("R² with gap", signed),
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
        lambda: html_report.report(task, done),
        file_name=f"premem-{task}.html",
        mime="text/html",
        on_click="ignore",
    )


if threshold is not None:
    found = cached_reads.analysed(task, counted, estimator, objective, threshold)
    fit_section(task, found)
    threshold_section(found)
else:
    headline.markdown("No run of this task has test problems; give a test file on the Score page.")
prediction_section(task)
if threshold is not None:
    baselines_section(found)
    report_section(task, found)
