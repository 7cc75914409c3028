"""Curate: from what runs learned to the data set to train on next, each row with its reason."""

import streamlit as st

from premem_core import (
    collection,
    curate_form,
    curation,
    curves,
    data_card,
    exports,
    figures,
    gates,
    ui,
)
from premem_core import rankings as by
from premem_core.curation import Recipe
from premem_core.errors import PrememError

SHOWN = 1_000  # rows of the selection's table; the file has them all
BESIDE = ("premem", "random", "perplexity", "words")  # strategies that a selection is held against
WEIGHTS: dict[exports.Weights, str] = {
    "none": "none",
    "column": "in a column",
    "repeat": "rows repeated",
}

curate_form.follow_opened()
st.header("Curate")
headline = st.empty()
with ui.controls():
    task = ui.pick_task()
    if task is None:
        st.stop()
    everything = ui.task_runs(task)
    judges = ui.pick_runs(everything)
    estimator = ui.pick_estimator()
    threshold = ui.pick_threshold(task, everything, estimator)
    curate_form.open_recipe()
known = curate_form.evidence(task, judges, threshold, estimator)
criteria, combine = curate_form.pick_criteria(known)
with ui.controls():
    budget, unit = curate_form.pick_budget()
    quota_field, quotas = curate_form.pick_quotas(known)
    seed = st.number_input("Seed", 0, key="seed", bind="query-params", width=90)
    chosen_gates, against = curate_form.pick_gates()
recipe = Recipe(
    task=task,
    runs=tuple(run.run for run in judges),
    log_log_threshold=threshold,
    criteria=criteria,
    estimator=estimator,
    combine=combine,
    budget=budget,
    budget_in=unit,
    quota_field=quota_field,
    quotas=quotas,
    gates=chosen_gates,
    against=against,
    seed=seed,
    kept=tuple(curate_form.by_hand("kept")),
    dropped=tuple(curate_form.by_hand("dropped")),
    excused=tuple(curate_form.by_hand("excused")),
    store_version=ui.store().version(),
)
found = curate_form.removed(known, recipe)
try:
    chosen = curation.select(known, recipe, found.index)
except PrememError as error:
    st.error(ui.plain(error))
    st.stop()
every, first = len(known.examples), criteria[0].strategy
of = f"run {ui.plain(curves.labels(everything)[recipe.runs[0]])}" if len(judges) == 1 else (
    f"the mean of {ui.count(len(judges), 'run')}"
)  # fmt: skip
headline.markdown(
    f"**{ui.count(len(chosen), 'example')}** of {every:,}, judged by {of}: "
    + "; ".join(
        f"mean {by.named(each.strategy).reason.format(chosen[each.strategy].mean())}"
        for each in criteria
        if len(chosen) and each.strategy != "random"
    )
    + (f"; {len(found):,} found by quality gates." if chosen_gates else ".")
)
if chosen.empty:
    st.info("No example is as asked for; widen the bounds.")
    st.stop()

left, right = st.columns([1.55, 1], gap="large")
with left:
    st.subheader("What is chosen")
    bins = figures.selection_table(by.values(known, first, seed), chosen.index)
    ui.chart(
        figures.selection_figure(bins, by.named(first).quantity, ui.palette()),
        "selection",
        bins,
        alt=f"Examples by {by.named(first).quantity}, all and the chosen ones",
    )
with right:
    st.subheader("What others would choose")
    alone = {"this selection": chosen.index}
    for name in dict.fromkeys([*(each.strategy for each in criteria), *BESIDE]):
        alone[by.named(name).label] = curation.alone(known, recipe, name, len(chosen))
    shared = curation.overlap(alone).rename_axis("strategy").reset_index()
    ui.small_table(
        shared.drop(index=0),
        {
            "strategy": "Alone, as many examples",
            "this selection": ("Of them here", lambda share: f"{share:.0%}"),
            by.named("random").label: ("Of them at random", lambda share: f"{share:.0%}"),
        },
        alt="Of what each strategy alone would choose, the share that is chosen here",
    )

number, text = st.column_config.NumberColumn, st.column_config.TextColumn
if chosen_gates:
    st.subheader("Left out by quality gates")
    if found.empty:
        st.caption("The gates found nothing.")
    else:
        st.caption("Select rows to let them through: what a gate says may be wrong.")
        rows = found.assign(
            gate=[gates.GATES[name].label for name in found["gate"]],
            through=found["id"].isin(recipe.excused),
        )
        picked = st.dataframe(
            rows[["id", "gate", "value", "why", "through"]],
            hide_index=True,
            height=min(280, 38 + 35 * len(rows)),
            column_config={
                "id": text("Example", width=95),
                "gate": text("Gate", width=190),
                "value": number("Value", format="%.2f", width=60),
                "why": text("Why", width="large"),
                "through": st.column_config.CheckboxColumn("Let through", width=95),
            },
            on_select="rerun",
            selection_mode="multi-row",
            key=f"found-{len(recipe.excused)}",
        )
        ids = rows["id"].iloc[picked.selection.rows].tolist()
        with ui.controls():
            st.button(
                "Let through", on_click=curate_form.add_by_hand, args=["excused", ids],
                disabled=not ids,
            )  # fmt: skip
            st.button(
                "Leave out again", on_click=curate_form.undo_by_hand, args=["excused", ids],
                disabled=not set(ids) & set(recipe.excused),
            )  # fmt: skip

st.subheader("The selection")
head = chosen.head(SHOWN)
texts = ui.store().example_texts(head.index.tolist()).set_index("example")
rows = head.assign(question=texts["question"], reasons=curation.reasons(head, recipe))
picked = st.dataframe(
    ui.table_of(rows, ["rank", "id", "question", "reasons", "lines", "words", "tokens"]),
    hide_index=True,
    height=420,
    column_config={
        "rank": number("Rank", width=55),
        "id": text("Example", width=95),
        "question": text("Question", width=390) if rows["question"].any() else None,
        "reasons": text("Why", width=250),
        "lines": number("Lines", width=60, help="of the solution"),
        "words": number("Words", width=65, help="of the solution"),
        "tokens": number("Tokens", width=70) if rows["tokens"].notna().any() else None,
    },
    on_select="rerun",
    selection_mode="multi-row",
    key=f"selection-{len(recipe.dropped)}",
)
ids = rows["id"].iloc[[at for at in picked.selection.rows if at < len(rows)]].tolist()
with ui.controls():
    st.button(
        "Drop the selected rows", on_click=curate_form.add_by_hand, args=["dropped", ids],
        disabled=not ids,
    )  # fmt: skip
    if recipe.dropped:
        st.button(
            f"Take back the {len(recipe.dropped):,} dropped by hand",
            on_click=curate_form.undo_by_hand, args=["dropped", recipe.dropped],
        )  # fmt: skip
if len(chosen) > SHOWN:
    st.caption(f"The first {SHOWN:,} of {len(chosen):,}; the file has them all.")

st.subheader("Take it with you")
with ui.controls():
    kind = st.segmented_control(
        "File", [each.removeprefix(".") for each in exports.KINDS], default="jsonl", required=True,
        key="kind", bind="query-params",
    )  # fmt: skip
    shapes = [each for each in exports.SHAPES if (kind, each) != ("csv", "messages")]
    shape: exports.Shape = st.selectbox(
        "A row's fields", shapes, key="shape", bind="query-params", width=200
    )
    weights: exports.Weights = st.selectbox(
        "Weights by score", list(WEIGHTS), format_func=WEIGHTS.__getitem__, key="weights",
        bind="query-params", width=170,
    )  # fmt: skip
    st.download_button(
        "Data",
        lambda: ui.written(
            f"selection.{kind}",
            lambda file: exports.export(ui.store(), chosen, recipe, file, shape, weights),
        ),
        file_name=f"{task}-curated.{kind}",
        type="primary",
        on_click="ignore",
    )
    st.download_button(
        "Recipe", recipe.to_yaml(), file_name=f"{task}-recipe.yaml", mime="text/yaml",
        on_click="ignore",
    )  # fmt: skip
    st.download_button(
        "Data card", data_card.card(chosen, recipe, found), file_name="README.md",
        mime="text/markdown", on_click="ignore",
    )  # fmt: skip
st.caption(
    "The recipe builds the same file again, here or by `python -m premem_core curate "
    "--from-recipe`. " + ui.threshold_note(task, everything, estimator)
)

st.subheader("Collect more")
with ui.controls():
    new = st.number_input(
        "New problems", 1, value=200, step=50, key="new", bind="query-params", width=150
    )
    cover = None
    if known.fields:
        cover = st.selectbox(
            "Cover all groups of", list(known.fields), index=None, placeholder="none", key="cover",
            bind="query-params", width=170,
            help="Each of its values has as many new problems as its chosen examples ask for on "
            "average, however few they are.",
        )  # fmt: skip
    planned = collection.plan(chosen, new, cover)
    st.download_button(
        "Worksheet",
        lambda: ui.written(
            "new", lambda file: collection.worksheet(ui.store(), recipe.task, planned, file)
        ),
        file_name=f"{task}-worksheet.csv",
        on_click="ignore",
    )
    st.download_button(
        "Prompts",
        lambda: ui.written(
            "new", lambda file: collection.prompts(ui.store(), recipe.task, planned, file)
        ),
        file_name=f"{task}-prompts.jsonl",
        on_click="ignore",
    )
if cover:
    groups = planned.groupby("group")["new"].agg(["size", "sum"]).reset_index()
    ui.small_table(
        groups,
        {"group": cover, "size": ("Seeds", str), "sum": ("New problems", str)},
        alt=f"New problems by {cover}",
    )
st.caption(
    f"{ui.count(len(planned), 'chosen example')} as seeds, the most new problems of those that are "
    "wanted most. The worksheet is for a person to fill in, the prompts are for a stronger model; "
    "`python -m premem_core generate --from-recipe` has a model write, checks what it wrote, and "
    "goes on where it was stopped."
)
