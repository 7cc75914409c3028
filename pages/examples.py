"""Examples: search and filter a run's training examples; a row opens one example."""

import pandas as pd
import streamlit as st

from premem_core import ui

NEVER = "never"
MOST_VALUES = 20  # of a metadata field that can be filtered by

st.header("Examples")
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
ids = st.query_params.get_all("ids")
shown = table[table["id"].isin(ids)] if ids else table


def between(label: str, key: str, column: str, of: pd.DataFrame) -> pd.DataFrame:
    """Rows with a value in the range that is chosen, in percent; all of them when it is all."""
    low, high = st.slider(label, 0, 100, (0, 100), 5, key=key, bind="query-params", width=210)
    if (low, high) == (0, 100):
        return of
    return of[(100 * of[column] >= low - 1e-9) & (100 * of[column] <= high + 1e-9)]


def show_all() -> None:
    """Forget the choice that came from the map."""
    del st.query_params["ids"]


with ui.controls():
    words = st.text_input(
        "Search", key="q", bind="query-params", placeholder="words of question or solution",
        width=260,
    )  # fmt: skip
    shown = between("Pre-memorization accuracy, %", "pm", "premem", shown)
    shown = between("Accuracy at the last checkpoint, %", "acc", "accuracy", shown)
    since = st.multiselect(
        "Memorized since", [*map(str, run.steps.tolist()), NEVER], key="since",
        bind="query-params", width=220,
    )  # fmt: skip
    flips = st.number_input(
        "Flips, at least", 0, len(run.steps), key="flips", bind="query-params", width=120
    )
    fields = {
        name: sorted(table[name].dropna().astype(str).unique())
        for name in table.columns[list(table.columns).index("flips") + 1 :]
        if 1 < table[name].nunique() <= MOST_VALUES
    }
    if fields:
        with st.popover("Metadata"):
            for name, values in fields.items():
                wanted = st.multiselect(name, values, key=f"meta-{name}", bind="query-params")
                if wanted:
                    shown = shown[shown[name].astype(str).isin(wanted)]
if words:
    text = (shown["question"] + "\n" + shown["solution"]).str.lower()
    for word in words.lower().split():
        shown = shown[text.loc[shown.index].str.contains(word, regex=False)]
if since:
    at = shown["memorized"].map(lambda step: NEVER if pd.isna(step) else f"{step:.0f}")
    shown = shown[at.isin(since)]
shown = shown[shown["flips"] >= flips]

headline.markdown(
    f"**{ui.count(len(shown), 'example')}** of {len(table):,}: pre-memorization accuracy "
    f"{ui.percent(shown['premem'].mean())} on average, "
    f"{ui.percent(shown['memorized'].notna().mean())} memorized at some checkpoint."
    if len(shown)
    else "No example is as asked for; widen the filters."
)
if ids:
    st.button(
        f"Show all, not only the {len(ids)} chosen on the map",
        on_click=show_all,
        type="tertiary",
    )
number, text_column = st.column_config.NumberColumn, st.column_config.TextColumn
event = st.dataframe(
    shown.assign(**100 * shown[["premem", "accuracy"]]),
    hide_index=True,
    height=560,
    column_order=[
        *("id", "question", "accuracies", "premem", "accuracy", "perplexity", "learned"),
        *("memorized", "flips", "words", *fields),
    ],
    column_config={
        "id": text_column("Example", width=110),
        "question": text_column("Question", width=360) if table["question"].any() else None,
        "accuracies": st.column_config.LineChartColumn(
            "Accuracy by checkpoint", y_min=0, y_max=1, width=130
        ),
        "premem": number("PM", format="%.0f %%", width=70),
        "accuracy": number("Accuracy", format="%.0f %%", width=80),
        "perplexity": number("Perplexity", format="%.4f", width=90),
        "learned": number("Right since", format="%d", width=90),
        "memorized": number("Memorized since", format="%d", width=120),
        "flips": number("Flips", width=60),
        "words": number("Words", width=65, help="of the solution")
        if table["words"].any()
        else None,
    },
    on_select="rerun",
    selection_mode="single-row",
    key=f"examples-{run.run}",
)
st.caption(
    "PM, accuracy and perplexity are those at the last checkpoint. Right: more than half of the "
    "samples. Select a row to open the example. " + ui.threshold_note(task, everything, estimator)
)
st.download_button(
    "Numbers as CSV",
    lambda: shown.drop(columns="accuracies").to_csv(index=False),
    file_name="premem-examples.csv",
    mime="text/csv",
    type="tertiary",
    on_click="ignore",
)
st.session_state["neighbours"] = shown["id"].tolist()
if event.selection.rows:
    chosen = shown.iloc[event.selection.rows[0]]
    st.switch_page(
        "pages/example.py", query_params={"task": task, "run": run.run, "example": chosen["id"]}
    )
