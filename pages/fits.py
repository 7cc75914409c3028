"""R² fits: how well pre-memorization accuracy predicts test accuracy here."""

import streamlit as st

from premem_core import curves, figures, fits, ui

st.header("R² fits")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = [run for run in ui.task_runs(task) if run.test_accuracy.shape[1]]
    if not everything:
        st.info("No run of this task has test problems; give a test file on the Score page.")
        st.stop()
    counted = ui.pick_runs(everything)
    estimator = ui.pick_estimator()
    threshold = ui.pick_threshold(task, counted, estimator)

lines = ui.lines(counted, threshold, estimator)
st.caption(f"{ui.threshold_note(task, counted, estimator)} {curves.not_known(lines)}")
points = curves.points(lines)
known = points.dropna(subset=["premem"])
r2 = fits.identity_r2(known["premem"].to_numpy(), known["test_accuracy"].to_numpy())
headline.markdown(
    f"Over {ui.count(len(known), 'checkpoint')} of {ui.count(known['run'].nunique(), 'run')}, "
    f"pre-memorization accuracy equals test accuracy with identity R² "
    f"**{ui.signed(r2)}** ({estimator} estimator); {ui.train_r2(known)}."
)

labels = ui.run_labels(counted)
symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in counted})


def panel(title: str, predictor: str, name: str, legend: bool) -> None:
    """One predictor against test accuracy: both R², the chart, its numbers."""
    st.subheader(title)
    x, test = points[predictor].to_numpy(), points["test_accuracy"].to_numpy()
    identity, linear, _ = st.columns([1, 1, 1.2 if legend else 0.4])
    identity.metric("Identity R²", ui.signed(fits.identity_r2(x, test)))
    linear.metric("Linear R²", ui.signed(fits.linear_r2(x, test)))
    ui.chart(
        figures.fit_figure(points, labels, symbols, predictor, title.lower(), ui.palette(), legend),
        name,
        points,
        alt=f"{title} against test accuracy, one point per checkpoint",
    )


left, right = st.columns([1.55, 1], gap="large")
with left:
    panel("Pre-memorization accuracy", "premem", "fit", legend=True)
with right:
    panel("Plain train accuracy", "train_accuracy", "train-fit", legend=False)
st.caption(
    "Each point is a checkpoint; bars are 90 % intervals over questions; the dashed line is "
    "perfect prediction. Identity R² asks whether the number *is* the test accuracy, linear R² "
    "whether some line through it would be. Colour: learning rate, low to high. Shape: epochs and "
    f"number of training examples. PM by the {estimator} estimator."
)
