"""Examples: search and filter a run's training examples, and open one of them."""

import streamlit as st

from premem_core.analysis import example_table, run_scores
from premem_core.dashboard import cached_reads, elements
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, percent, plain
from premem_core.store.scores import GRADE_NAMES, read_grade_totals

st.header("Examples")
headline = st.empty()
view = pick_view("one")
run = view.run
last_step = int(run.steps[-1])  # the last one that is scored
table = cached_reads.example_table(view.task, run, view.threshold, view.estimator)
ids = st.query_params.get_all("ids")
shown = table[table["id"].isin(ids)] if ids else table


def show_all() -> None:
    """Remove the choice made on the map from the address."""
    del st.query_params["ids"]


with elements.controls():
    words = st.text_input(
        "Search", key="q", bind="query-params", placeholder="words in question or solution",
        width=260,
    )  # fmt: skip
    premem = st.slider(
        "Pre-memorization accuracy, %", 0, 100, (0, 100), 5, key="pm", bind="query-params",
        width=210,
    )  # fmt: skip
    accuracy = st.slider(
        f"Accuracy at step {last_step}, %", 0, 100, (0, 100), 5, key="acc",
        bind="query-params", width=210,
    )  # fmt: skip
    since = st.multiselect(
        "Memorized from", [*map(str, run.steps.tolist()), example_table.NEVER], key="since",
        bind="query-params", width=220,
    )  # fmt: skip
    flips = st.number_input(
        "Flips, at least", 0, len(run.steps), key="flips", bind="query-params", width=120
    )
    grades = st.multiselect(
        "Grades", GRADE_NAMES, key="grades", bind="query-params", width=220,
        help=f"Keep examples with a completion at step {last_step} that has one of these grades.",
    )  # fmt: skip
    fields = example_table.metadata_choices(table)
    metadata = {}
    if fields:
        with st.popover("Metadata"):
            for name, values in fields.items():
                metadata[name] = st.multiselect(
                    plain(name), values, key=f"meta-{name}", bind="query-params"
                )
shown = example_table.filter_examples(
    shown,
    words=words,
    premem=(premem[0] / 100, premem[1] / 100),
    accuracy=(accuracy[0] / 100, accuracy[1] / 100),
    memorized=since,
    flips=flips,
    grades=grades,
    graded=cached_reads.read(read_grade_totals, run.run, last_step) if grades else None,
    metadata=metadata,
)
st.session_state["neighbours"], st.session_state["ids"] = shown["id"].tolist(), ids
rows_key = f"examples-{run.run}"
if (clicked := elements.selected(rows_key)) and clicked.rows and clicked.rows[0] < len(shown):
    example = shown["id"].iloc[clicked.rows[0]]
    st.switch_page("pages/example.py", query_params={"example": example})

known = int(shown["premem"].notna().sum())
mean = f"Their mean pre-memorization accuracy is {percent(shown['premem'].mean())}"
if known < len(shown):  # those that the plan completed are not a random part of all
    mean = (
        f"Pre-memorization accuracy is known for {known:,} of them, because the sampling plan left "
        "out samples that it needs at this threshold, so they have no mean"
    )
headline.markdown(
    f"**{count(len(shown), 'example')}** of {len(table):,} scored. {mean}; "
    f"{percent(shown['memorized'].notna().mean())} were memorized at some checkpoint."
    if len(shown)
    else "No example matches these filters; widen them."
)
if ids:
    st.button(
        f"Show all, not only the {len(ids)} chosen on the map",
        on_click=show_all,
        type="tertiary",
    )
number, text_column = st.column_config.NumberColumn, st.column_config.TextColumn
of_base = [name for name in example_table.BASE_COLUMNS if name in table]
columns = [
    *("id", "question", "accuracies", "premem", "accuracy", "perplexity", "learned"),
    *("memorized", "flips", *of_base, "words", *fields),
]
st.dataframe(
    elements.table_of(shown.assign(**100 * shown[["premem", "accuracy"]]), columns),
    hide_index=True,
    height=560,
    placeholder="–",
    column_config={
        "id": text_column("Example", width=95),
        "question": text_column("Question", width=190) if table["question"].any() else None,
        "accuracies": st.column_config.LineChartColumn(
            "By checkpoint", y_min=0, y_max=1, width=110, help="Accuracy at each checkpoint"
        ),
        "premem": number("PM", format="%.0f %%", width=58),
        "accuracy": number("Accuracy", format="%.0f %%", width=70),
        "perplexity": number("Perplexity", format="%.3f", width=75),
        "learned": number("Right from", format="%d", width=80, help="First step that is right"),
        "memorized": number("Memorized from", format="%d", width=115, help="First memorized step"),
        "flips": number("Flips", width=55, help="Changes from right to wrong, or back"),
        "relative_nll": number(
            "NLL − base",
            format="%.3f",
            width=90,
            help=f"NLL of the solution at step {last_step}, less that under the base model",
        ),
        "known": st.column_config.CheckboxColumn(
            "Known", width=65, help="The base model completes the question word by word"
        ),
        "words": number("Words", width=65, help="Words of the solution")
        if table["words"].any()
        else None,
    },
    on_select="rerun",
    selection_mode="single-row",
    key=rows_key,
)
st.caption(
    f"PM, accuracy and perplexity are those of step {last_step}, the last one that is "
    "scored. An example is right where more than half of its samples are correct. "
    f"Select a row to open the example. {run_scores.single_sample_note(run)}{view.threshold_note()}"
)
st.download_button(
    "Numbers as CSV",
    lambda: view.with_settings(shown.drop(columns="accuracies")).to_csv(index=False),
    file_name="premem-examples.csv",
    mime="text/csv",
    type="tertiary",
    on_click="ignore",
)
