"""Memorization map: every training example at every checkpoint, by accuracy and perplexity."""

import streamlit as st

from premem_core.analysis import example_table
from premem_core.dashboard import cached_reads, elements, figures
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, percent, plain

st.header("Memorization map")
headline = st.empty()
view = pick_view("one")
run = view.run
table = cached_reads.example_table(view.task, run, view.threshold, view.estimator)
with view.controls:
    by_metadata = {name: f"by {name}" for name in example_table.metadata(table)}
    sorts = {**example_table.SORTS, **by_metadata}
    sort = st.selectbox(
        "Sorted", list(sorts), format_func=sorts.__getitem__, key="sort", bind="query-params",
        width=200,
    )  # fmt: skip

table = example_table.ordered(table, sort)
cells = example_table.cells(run, table.index.tolist(), view.threshold)
if (clicked := elements.selected("chart-map")) and clicked.points:
    members = cells.members[clicked.points[0]["point_index"] % len(cells.members)]
    chosen_ids = table.loc[members, "id"].tolist()
    st.switch_page("pages/examples.py", query_params={"ids": chosen_ids})
last = cells.steps[-1]
whole = not run.counts.partial.any()
learned = table["learned"].notna().mean() if whole else float("nan")
before = example_table.copied_first(table).mean() if whole else float("nan")
headline.markdown(
    f"By step {last}, **{percent(learned)}** of the {count(len(table), 'scored example')} of "
    f"{view.label} were answered right at some checkpoint, "
    "and "
    f"**{percent(table['memorized'].notna().mean())}** were memorized; "
    f"{percent(before)} were memorized before, or at, the "
    "first checkpoint that answered them right."
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
    f"{plain(sorts[sort])}; a click on a cell opens them. Colours are means: towards blue, "
    "more samples are right; towards orange, perplexity is below the threshold (memorized). "
    + view.threshold_note()
    + ("" if whole else " The sampling plan left samples out: what they would say is not known.")
)
