"""Overview: what this is, the runs, and where each stands."""

import streamlit as st

from premem_core.analysis import curves
from premem_core.dashboard import cached_reads, elements, pickers
from premem_core.dashboard.wording import WHAT_IT_IS, count, signed, train_r2
from premem_core.metrics.r2 import identity_r2
from premem_core.store.runs import read_runs

st.header("Overview")
st.markdown(WHAT_IT_IS)
headline = st.empty()
with elements.controls():
    task = pickers.pick_task()
    if task is None:
        st.page_link("pages/score.py", label="Score a run")
        st.stop()
    runs = cached_reads.task_runs(task)
    estimator = pickers.pick_estimator()
    threshold = pickers.pick_threshold(task, runs, estimator)

lines = cached_reads.lines(runs, threshold, estimator)
st.caption(f"{pickers.threshold_note(task, runs, estimator)} {curves.not_known(lines)}")
points = curves.points(lines)
known = points.dropna(subset=["premem"])
if len(known) > 1:
    r2 = identity_r2(known["premem"].to_numpy(), known["test_accuracy"].to_numpy())
    headline.markdown(
        f"Over {count(len(known), 'checkpoint')} of {count(known['run'].nunique(), 'run')} "
        f"it gives the test accuracy with identity R² **{signed(r2)}** "
        f"({estimator} estimator); {train_r2(known)}."
    )

about = cached_reads.read(read_runs)
table = curves.overview(lines, about[about["task"] == task])
number = st.column_config.NumberColumn
st.dataframe(
    table,
    hide_index=True,
    height="content",
    placeholder="–",
    column_config={
        "run": st.column_config.TextColumn("Run", width="medium"),
        "learning_rate": number("Learning rate", format="%.1e"),
        "epochs": number("Epochs", format="%g"),
        "train_examples": number("Train examples", format="localized"),
        "scored": st.column_config.TextColumn("Checkpoints scored"),
        "premem_curve": st.column_config.LineChartColumn("PM by checkpoint", y_min=0, y_max=1),
        "train_percent": number("Train, last", format="%.1f %%"),
        "premem_percent": number("PM, last", format="%.1f %%"),
        "test_percent": number("Test, last", format="%.1f %%"),
        "memorized_percent": number("Memorized, last", format="%.1f %%"),
    },
)
