"""Memorization map: accuracy and perplexity of every training example at every checkpoint."""

import streamlit as st

from premem_core.analysis import example_table
from premem_core.dashboard import cached_reads, elements, figures
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, percent, plain

st.header("Memorization map")
headline = st.empty()
view = pick_view("one")
run = view.run
incomplete = run.counts.partial.any()
table = cached_reads.example_table(view.task, run, view.threshold, view.estimator)
with view.controls:
    by_metadata = {name: f"by {name}" for name in example_table.metadata_fields(table)}
    sorts = {**example_table.SORTS, **by_metadata}
    sort = st.selectbox(
        "Order", list(sorts), format_func=sorts.__getitem__, key="sort", bind="query-params",
        width=200,
    )  # fmt: skip

table = example_table.sort_examples(table, sort)
cells = example_table.cells(run, table.index.tolist(), view.threshold)
if (clicked := elements.selected("chart-map")) and clicked.points:
    members = cells.members[clicked.points[0]["point_index"] % len(cells.members)]
    chosen_ids = table.loc[members, "id"].tolist()
    st.switch_page("pages/examples.py", query_params={"ids": chosen_ids})
shares = example_table.learned_shares(run, table)
headline.markdown(
    f"By step {cells.steps[-1]}, **{percent(shares.learned)}** of the "
    f"{count(len(table), 'scored example')} of {view.label} were answered right at some "
    f"checkpoint, and **{percent(shares.memorized)}** were memorized; "
    f"{percent(shares.memorized_first)} were memorized no later than at the first checkpoint that "
    "answered them right."
)
left, right = st.columns([5, 1], gap="medium")
with left:
    elements.chart(
        figures.map_figure(cells, view.threshold, elements.palette()),
        "map",
        view.with_settings(table.drop(columns=["accuracies", "question", "solution"])),
        alt="Training examples by checkpoint, coloured by accuracy and perplexity",
        select=True,
    )
with right:
    elements.chart(
        figures.map_legend(elements.palette()), "map-legend", None, alt="What the colours mean"
    )
st.caption(
    f"Each column is {len(table) / len(cells.members):.0f} neighbouring examples, "
    f"{plain(sorts[sort])}; click a cell to open them. Colours show means: the bluer, the more "
    "samples are correct; orange means a perplexity below the threshold (memorized). "
    + view.threshold_note()
    + (" The sampling plan left samples out, so some values are not known." if incomplete else "")
)
