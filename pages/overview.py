"""Overview: what this is, the runs, and where each stands."""

import streamlit as st

from premem_core import curves, fits, ui

st.header("Overview")
st.markdown(ui.WHAT_IT_IS)
top = st.columns([1.2, 2.4, 3], gap="medium")
with top[0]:
    task = ui.pick_task()
if task is None:
    st.page_link("pages/score.py", label="Score a run")
    st.stop()
runs = ui.task_runs(task)
with top[1]:
    threshold = ui.pick_threshold(task, runs)

lines = [curves.curve(run, threshold) for run in runs]
points = curves.points(lines)
a, b, c, d = st.columns(4)
a.metric("Runs", len(runs))
b.metric("Checkpoints", sum(len(run.steps) for run in runs))
if len(points):
    test = points["test_accuracy"].to_numpy()
    premem_r2 = fits.identity_r2(points["premem"].to_numpy(), test)
    train_r2 = fits.identity_r2(points["train_accuracy"].to_numpy(), test)
    c.metric("Identity R² of PM against test", ui.signed(premem_r2))
    d.metric("The same of plain train accuracy", ui.signed(train_r2))

st.dataframe(
    curves.overview(lines, ui.run_table(*ui.key())),
    hide_index=True,
    column_config={
        "run": st.column_config.TextColumn("Run", width="medium"),
        "learning_rate": st.column_config.NumberColumn("Learning rate", format="%.1e"),
        "epochs": st.column_config.NumberColumn("Epochs", format="%g"),
        "train_examples": st.column_config.NumberColumn("Train examples", format="localized"),
        "checkpoints": st.column_config.TextColumn("Checkpoints"),
        "premem_curve": st.column_config.LineChartColumn("PM by checkpoint", y_min=0, y_max=1),
        "train_percent": st.column_config.NumberColumn("Train, last", format="%.1f %%"),
        "premem_percent": st.column_config.NumberColumn("PM, last", format="%.1f %%"),
        "test_percent": st.column_config.NumberColumn("Test, last", format="%.1f %%"),
        "memorized_percent": st.column_config.NumberColumn("Memorized, last", format="%.1f %%"),
    },
)
