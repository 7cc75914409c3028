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
    threshold = ui.pick_threshold(task, counted)
st.caption(ui.threshold_note(task, counted))

points = curves.points([curves.curve(run, threshold) for run in counted])
premem, train, test = (
    points[name].to_numpy() for name in ("premem", "train_accuracy", "test_accuracy")
)
headline.markdown(
    f"Over {ui.count(len(points), 'checkpoint')} of {ui.count(len(counted), 'run')}, "
    f"pre-memorization accuracy equals test accuracy with identity R² "
    f"**{ui.signed(fits.identity_r2(premem, test))}**; "
    f"plain train accuracy reaches {ui.signed(fits.identity_r2(train, test))}."
)

labels = ui.run_labels(counted)
symbols = figures.run_symbols({run.run: (run.epochs, run.trained_on) for run in counted})
left, right = st.columns([1.55, 1], gap="large")
with left:
    st.subheader("Pre-memorization accuracy")
    a, b, _ = st.columns([1, 1, 1.2])
    a.metric("Identity R²", ui.signed(fits.identity_r2(premem, test)))
    b.metric("Linear R²", ui.signed(fits.linear_r2(premem, test)))
    ui.chart(
        figures.fit_figure(
            points, labels, symbols, "premem", "pre-memorization accuracy", ui.palette(), True
        ),
        "fit",
        points,
        alt="Pre-memorization accuracy against test accuracy, one point per checkpoint",
    )
with right:
    st.subheader("Plain train accuracy")
    a, b, _ = st.columns([1, 1, 0.4])
    a.metric("Identity R²", ui.signed(fits.identity_r2(train, test)))
    b.metric("Linear R²", ui.signed(fits.linear_r2(train, test)))
    ui.chart(
        figures.fit_figure(
            points, labels, symbols, "train_accuracy", "train accuracy", ui.palette(), False
        ),
        "train-fit",
        points,
        alt="Plain train accuracy against test accuracy, one point per checkpoint",
    )
st.caption(
    "Each point is a checkpoint; bars are 90 % intervals over questions; the dashed line is "
    "perfect prediction. Identity R² asks whether the number *is* the test accuracy, linear R² "
    "whether some line through it would be. Colour: learning rate, low to high. Shape: epochs and "
    "number of training examples. Plain estimator."
)
