"""Overview: what this is, the runs, and where each stands."""

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

lines = cached_reads.lines(view.runs, view.threshold, view.estimator)
st.caption(f"{view.threshold_note()} {curves.not_known(lines)}")
headline.markdown(fit_in_words(curves.weighted_points(lines), view.estimator))

about = cached_reads.read(read_runs)
table = curves.overview(lines, about[about["task"] == view.task])
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
        "step": number("Last scored", format="%d", help="The numbers beside it are of this step."),
        "train_percent": number("Train", format="%.1f %%"),
        "premem_percent": number("PM", format="%.1f %%"),
        "test_percent": number("Test", format="%.1f %%"),
        "memorized_percent": number("Memorized", format="%.1f %%"),
    },
)
