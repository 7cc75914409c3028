"""Memorization map: every training example at every checkpoint, by accuracy and perplexity."""

import streamlit as st

from premem_core import curves, example_table, figures, ui

st.header("Memorization map")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    run = ui.pick_run(everything)
    estimator = ui.pick_estimator()
    threshold = ui.pick_threshold(task, everything, estimator)
    table = ui.example_table(task, run, threshold, estimator)
    by_metadata = {name: f"by {name}" for name in example_table.metadata(table)}
    sorts = {**example_table.SORTS, **by_metadata}
    sort = st.selectbox(
        "Sorted", list(sorts), format_func=sorts.__getitem__, key="sort", bind="query-params",
        width=200,
    )  # fmt: skip

table = example_table.ordered(table, sort)
cells = example_table.cells(run, table.index.tolist(), threshold)
if (clicked := ui.selected("chart-map")) and clicked.points:
    members = cells.members[clicked.points[0]["point_index"] % len(cells.members)]
    chosen_ids = table.loc[members, "id"].tolist()
    st.switch_page("pages/examples.py", query_params={"ids": chosen_ids})
last = cells.steps[-1]
whole = not run.counts.partial.any()
learned = table["learned"].notna().mean() if whole else float("nan")
before = example_table.copied_first(table).mean() if whole else float("nan")
headline.markdown(
    f"By step {last}, **{ui.percent(learned)}** of the {ui.count(len(table), 'scored example')} of "
    f"{ui.plain(curves.labels(everything)[run.run])} were answered right at some checkpoint, and "
    f"**{ui.percent(table['memorized'].notna().mean())}** were memorized; "
    f"{ui.percent(before)} were memorized before, or at, the "
    "first checkpoint that answered them right."
)
left, right = st.columns([5, 1], gap="medium")
with left:
    ui.chart(
        figures.map_figure(cells, threshold, ui.palette()),
        "map",
        table.drop(columns=["accuracies", "question", "solution"]),
        alt="Training examples by checkpoint, coloured by accuracy and perplexity",
        select=True,
    )
with right:
    ui.chart(figures.map_legend(ui.palette()), "map-legend", None, alt="What the colours mean")
st.caption(
    f"Each column is {len(table) / len(cells.members):.0f} neighbouring examples, "
    f"{ui.plain(sorts[sort])}; a click on a cell opens them. Colours are means: towards blue, "
    "more samples are right; towards orange, perplexity is below the threshold (memorized). "
    + ui.threshold_note(task, everything, estimator)
    + ("" if whole else " The sampling plan left samples out: what they would say is not known.")
)
