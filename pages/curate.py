"""Curate: from what runs learned to the data set to train on next, each row with its reason."""

import streamlit as st

from premem_core.curation import collection_plan, export, quality_gates, selection, strategies
from premem_core.curation.recipe import Recipe
from premem_core.dashboard import (
    cached_reads,
    curate_form,
    elements,
    figures,
    recipe_file,
)
from premem_core.dashboard.view import pick_view
from premem_core.dashboard.wording import count, plain
from premem_core.errors import PrememError
from premem_core.store.examples import read_example_texts

SHOWN = 1_000  # rows of the selection's table; the file has them all
TOLD = 3  # rows that a gate found whose texts are shown at once
BESIDE = ["random", "perplexity", "words"]  # strategies that a selection is held against

recipe_file.follow_opened()
st.header("Curate")
headline = st.empty()
view = pick_view("several")
task, judges = view.task, view.shown
with view.controls:
    recipe_file.open_recipe()
known = curate_form.evidence(task, judges, view.threshold, view.estimator)
criteria = curate_form.pick_criteria(known)
with elements.controls():
    combine = curate_form.pick_combine(criteria)
    budget, unit = curate_form.pick_budget()
    quota_field, quotas = curate_form.pick_quotas(known)
    seed = st.number_input("Seed", 0, key="seed", bind="query-params", width=90)
    by_hand = curate_form.pick_by_hand()
    chosen_gates, against, finders = curate_form.pick_gates(task, known)
try:
    recipe = Recipe(
        task=task,
        runs=tuple(run.run for run in judges),
        log_log_threshold=view.threshold,
        criteria=criteria,
        estimator=view.estimator,
        combine=combine,
        budget=budget,
        budget_in=unit,
        quota_field=quota_field,
        quotas=quotas,
        gates=chosen_gates,
        against=None if against is None else str(against),
        seed=seed,
        kept=by_hand["kept"],
        dropped=by_hand["dropped"],
        excused=by_hand["excused"],
        store_version=cached_reads.store().version(),
    )
    found = selection.removed(known, recipe, finders)
    chosen = selection.select(known, recipe, found.index)
except PrememError as error:
    st.error(plain(error))
    st.stop()
every, left_out = len(known.examples), len(set(found["id"]) - set(recipe.excused))
of = f"run {view.label}" if len(judges) == 1 else (
    f"the mean of {count(len(judges), 'run')}"
)  # fmt: skip
headline.markdown(
    f"**{count(len(chosen), 'example')}** of {every:,}, judged by {of}: "
    + "; ".join(
        f"mean {strategies.named(each.strategy).reason.format(chosen[each.strategy].mean())}"
        for each in criteria
        if len(chosen) and each.strategy != "random"
    )
    + (f"; {left_out:,} left out by quality gates." if chosen_gates else ".")
)

left, right = st.columns([1.3, 1], gap="large")
with left:
    st.subheader("What is chosen")
    shown = criteria[0].strategy
    if len(criteria) > 1:
        shown = st.segmented_control(
            "By", [each.strategy for each in criteria], default=shown, required=True,
            format_func=lambda name: strategies.named(name).quantity, key="by", bind="query-params",
        )  # fmt: skip
    bins = figures.selection_table(strategies.strategy_values(known, shown, seed), chosen.index)
    elements.chart(
        figures.selection_figure(bins, strategies.named(shown).quantity, elements.palette()),
        "selection",
        bins,
        alt=f"Examples by {strategies.named(shown).quantity}, all and the chosen ones",
    )
with right:
    st.subheader("What others would choose")
    others = st.multiselect(
        "Held against", known.strategies, default=BESIDE, key="others", bind="query-params",
        format_func=lambda name: strategies.named(name).label, label_visibility="collapsed",
    )  # fmt: skip
    names = list(dict.fromkeys([*(each.strategy for each in criteria), *others]))
    alone = {"here": chosen.index}
    for at, name in enumerate(names, 1):
        alone[str(at)] = selection.chosen_alone(known, recipe, name, max(1, len(chosen)))
    shared = selection.overlap(alone).drop(index="here")
    elements.small_table(
        shared.assign(
            strategy=[f"{at} {strategies.named(name).label}" for at, name in enumerate(names, 1)]
        ),
        {"strategy": "Of its first choices, chosen …"}
        | {name: (name, lambda share: f"{share:.0%}") for name in alone},
        alt="Of what each strategy alone would choose, the share chosen here and by each other one",
    )

number, text = st.column_config.NumberColumn, st.column_config.TextColumn
if chosen_gates:
    st.subheader("Left out by quality gates")
    if found.empty:
        st.caption("Of those that qualify, the gates found none.")
    else:
        rows = found.assign(
            gate=[quality_gates.GATES[name].label for name in found["gate"]],
            through=found["id"].isin(recipe.excused),
        )
        ids = curate_form.pick_rows(
            rows,
            {
                "id": text("Example", width=95),
                "gate": text("Gate", width=190),
                "value": number("Value", format="%.2f", width=60),
                "why": text("Why", width="large"),
                "through": st.column_config.CheckboxColumn("Let through", width=95),
            },
            "found",
            min(280, 38 + 35 * len(rows)),
        )
        with elements.controls():
            st.button(
                "Let through", on_click=curate_form.add_by_hand, args=["excused", ids],
                disabled=not ids,
            )  # fmt: skip
            st.button(
                "Leave out again", on_click=curate_form.undo_by_hand, args=["excused", ids],
                disabled=not set(ids) & set(recipe.excused),
            )  # fmt: skip
            st.caption("Select rows to read them, and to let them through.")
        for row in curate_form.with_texts(rows[rows["id"].isin(ids)].head(TOLD)):
            elements.verbatim(*row)

st.subheader("The selection")
if chosen.empty:
    st.info("No example is as asked for; widen the bounds.")
    st.stop()
head = chosen.head(SHOWN)
texts = read_example_texts(cached_reads.store(), head.index.tolist()).set_index("example")
rows = head.assign(question=texts["question"])
columns = {"rank": number("Rank", width=55), "id": text("Example", width=95)}
if rows["question"].any():
    columns["question"] = text("Question", width=330)
for each in criteria:
    columns[each.strategy] = number(strategies.named(each.strategy).title, format="%.4g", width=165)
columns |= {
    "lines": number("Lines", width=60, help="of the solution"),
    "words": number("Words", width=65, help="of the solution"),
}
if rows["tokens"].notna().any():
    columns["tokens"] = number("Tokens", width=70)
ids = curate_form.pick_rows(rows, columns, "selection", 420)
with elements.controls():
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
with elements.controls():
    kind, recipe = curate_form.pick_file(recipe)
    ending = "zip" if kind == "folder" else kind
    st.download_button(
        "Data",
        lambda: elements.written(
            f"{task}-curated.{ending}",
            lambda file: (
                export.export_zip(cached_reads.store(), chosen, recipe, found, every, file)
                if kind == "folder"
                else export.export_file(cached_reads.store(), chosen, recipe, file)
            ),
        ),
        file_name=f"{task}-curated.{ending}",
        type="primary",
        on_click="ignore",
    )
    st.download_button(
        "Recipe", recipe.to_yaml(), file_name=f"{task}-recipe.yaml", mime="text/yaml",
        on_click="ignore",
    )  # fmt: skip
st.caption(
    "The folder has a data card and the recipe in it. The recipe builds the same file again, here "
    "or by `python -m premem_core curate --from-recipe`. " + view.threshold_note()
)

st.subheader("Collect more")
with elements.controls():
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
    planned = collection_plan.plan_collection(chosen, new, cover)
    st.download_button(
        "Worksheet",
        lambda: elements.written(
            "new",
            lambda file: collection_plan.worksheet(
                cached_reads.store(), recipe.task, planned, file
            ),
        ),
        file_name=f"{task}-worksheet.csv",
        on_click="ignore",
    )
    st.download_button(
        "Prompts",
        lambda: elements.written(
            "new",
            lambda file: collection_plan.prompts(cached_reads.store(), recipe.task, planned, file),
        ),
        file_name=f"{task}-prompts.jsonl",
        on_click="ignore",
    )
if cover:
    groups = planned.groupby("group")["new"].agg(["size", "sum"]).reset_index()
    elements.small_table(
        groups,
        {"group": cover, "size": ("Seeds", str), "sum": ("New problems", str)},
        alt=f"New problems by {cover}",
    )
st.caption(
    f"{count(len(planned), 'chosen example')} as seeds, the most new problems of those that are "
    "wanted most. The worksheet is for a person to fill in, the prompts are for a stronger model; "
    "`python -m premem_core generate --from-recipe` has a model write, checks what it wrote, and "
    "goes on where it was stopped."
)
