"""R² fits: how well PM predicts test accuracy, what to expect of a run, and simpler numbers."""

import streamlit as st

from premem_core.analysis import baselines, leave_one_out, prediction
from premem_core.analysis.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.calibration import Calibration
from premem_core.analysis.run_scores import order_in_words
from premem_core.analysis.study import Analysis
from premem_core.dashboard import cached_reads, elements, figures, pickers
from premem_core.dashboard.figures import html_report
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, fit_in_words, interval, perplexity, plain, signed
from premem_core.errors import PrememError
from premem_core.metrics import thresholds

OF_ONE_RUN = "of the run that the threshold is fitted to"

st.header("R² fits")
headline = st.empty()
view = pick_view("several", which=lambda run: run.tested, choose_objective=True)
warnings = st.empty()


def fit_section(done: Analysis) -> None:
    """How well PM predicts test accuracy over the runs that have a test set.

    The numbers come first: what follows takes time, and a chart keeps the browser busy.
    """
    of_premem = interval(done.identity_ci90), interval(done.linear_ci90)
    if done.points["run"].nunique() < 2:
        of_premem = (OF_ONE_RUN,) * 2
    panels = (
        ("Pre-memorization accuracy", "fit", "premem", of_premem),
        ("Plain train accuracy", "train-fit", "train_accuracy", ("\N{NO-BREAK SPACE}",) * 2),
    )
    r2s = ((done.identity_r2, done.linear_r2), done.train_accuracy_r2())
    columns = st.columns([1.55, 1], gap="large")
    for column, (title, *_, notes), of_both in zip(columns, panels, r2s, strict=True):
        with column:
            st.subheader(title)
            elements.numbers(
                ("Identity R²", signed(of_both[0]), notes[0]),
                ("Linear R²", signed(of_both[1]), notes[1]),
            )
    resampled = f"{interval(done.identity_ci90)} over resampled runs" if done.identity_ci90 else ""
    headline.markdown(fit_in_words(done.points, view.estimator, resampled))
    if done.caveats:
        warnings.warning("  \n".join(map(plain, done.caveats)))
    labels = {run.run: view.labels[run.run] for run in done.study.runs}
    symbols = figures.run_symbols(
        {run.run: (run.epochs, run.trained_on) for run in done.study.runs}
    )
    drawn = [
        figures.fit_figure(
            done.points, labels, symbols, predictor, title.lower(), elements.palette(), number == 0
        )
        for number, (title, _, predictor, _) in enumerate(panels)
    ]
    for column, figure, (title, name, *_) in zip(columns, drawn, panels, strict=True):
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
        f"whether some line through it would be. Colour: {order_in_words(done.study.runs)}. Shape: "
        f"epochs and number of training examples. PM by the {view.estimator} estimator. "
        + view.threshold_note()
    )


def threshold_section(done: Analysis) -> None:
    """R² at every threshold, and how the threshold of some runs does on others."""
    left, right = st.columns([1.55, 1], gap="large")
    study, fit = done.study, done.study.fit
    with left:
        st.subheader(f"{view.objective.title()} R² at every threshold")
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
                alt=f"{view.objective.title()} R² against the threshold",
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
            study.off_by_run.replace({"run": view.labels}),
            {
                "run": "Left out",
                "log_log_threshold": ("t of the others", lambda t: signed(t, 2)),
                "mae": ("Off by, points", lambda mae: signed(100 * mae, 1)),
            },
            alt="Every run left out: the threshold of the others, and how far off it was",
        )


def prediction_section() -> None:
    """What test accuracy to expect of a run, from the others or from a saved calibration."""
    st.subheader("What to expect on new problems")
    tested = [run.run for run in view.runs if run.tested]
    of = {run.run: run for run in sorted(view.runs, key=lambda run: run.tested)}
    longest = max(of, key=lambda name: len(of[name].steps))
    with elements.controls():
        name = pickers.pick_name(
            "Run to predict", list(of), "predict", display=view.labels, width=350,
            default=longest if len(tested) == len(of) else None,
        )  # fmt: skip
        with st.popover("Calibration"):
            picked = pickers.pick_names(
                "Runs that it learns from", tested, "calibrate", display=view.labels,
                placeholder="those shown above",
            )  # fmt: skip
            upload = st.file_uploader(
                "or a saved calibration.json of the same base model and data set", type="json"
            )
        learned_from = picked or [run.run for run in view.shown]
        others = [of[run] for run in learned_from if run != name]
        try:
            if upload is not None:
                learned = Calibration.from_json(upload.getvalue().decode(), upload.name)
            else:
                learned = cached_reads.calibration(view.task, others, view.estimator)
        except (PrememError, UnicodeDecodeError) as error:
            st.info(f"No prediction yet: {error}")
            return
        st.download_button(
            "Export this calibration",
            learned.to_json(),
            file_name="calibration.json",
            mime="application/json",
        )
    run = of[name]
    try:
        rows, choice = prediction.predict(run, learned), prediction.choose(run, learned)
    except PrememError as error:
        st.info(str(error))
        return
    if choice:
        st.markdown(choice.in_words(rows))
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
    if notes := prediction.notes(view.task, rows, learned):
        st.warning("  \n".join(map(plain, notes)))


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


def report_section(done: Analysis) -> None:
    """All of it to keep, or to send to someone without this dashboard."""
    st.download_button(
        "The whole analysis as one HTML file",
        lambda: html_report.report(view.task, done),
        file_name=f"premem-{view.task}.html",
        mime="text/html",
        on_click="ignore",
    )


found = None
if calibrating_runs(view.shown):
    found = cached_reads.analysed(
        view.task, view.shown, view.estimator, view.objective, view.threshold
    )
    fit_section(found)
    threshold_section(found)
elif view.shown:
    headline.markdown(plain(" ".join(what_counts_less(view.shown))))
else:
    headline.markdown("No run of this task has test problems; give a test file on the Score page.")
prediction_section()
if found is not None:
    baselines_section(found)
    report_section(found)
