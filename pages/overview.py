"""Overview: what Premem measures, and a table of the task's runs."""

import streamlit as st

from premem_core.analysis import curves
from premem_core.dashboard import cached_reads
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import WHAT_IT_IS, fit_in_words
from premem_core.store.runs import read_runs

st.header("Overview")
st.markdown(WHAT_IT_IS)
headline = st.empty()
view = pick_view()

run_curves = cached_reads.run_curves(view.runs, view.threshold, view.estimator)
st.caption(f"{view.threshold_note()} {curves.missing_in_words(run_curves)}")
headline.markdown(fit_in_words(curves.weighted_points(run_curves), view.estimator))

all_runs = cached_reads.read(read_runs)
table = curves.overview(run_curves, all_runs[all_runs["task"] == view.task])
number = st.column_config.NumberColumn
st.dataframe(
    table,
    hide_index=True,
    height="content",
    placeholder="–",
    column_config={
        "run": st.column_config.TextColumn("Run", width=170),
        "learning_rate": number("Learning rate", format="%.1e", width=95),
        "epochs": number("Epochs", format="%g", width=60),
        "train_examples": number("Examples", format="localized", width=75),
        "scored": st.column_config.TextColumn("Scored", width=75),
        "premem_curve": st.column_config.LineChartColumn(
            "PM by checkpoint", y_min=0, y_max=1, width=110
        ),
        "step": number(
            "Step",
            format="%d",
            width=60,
            help="The step that the numbers to the right belong to.",
        ),
        "train_percent": number("Train", format="%.1f %%", width=65),
        "premem_percent": number("PM", format="%.1f %%", width=65),
        "test_percent": number("Test", format="%.1f %%", width=65),
        "memorized_percent": number("Memorized", format="%.1f %%", width=85),
    },
)
