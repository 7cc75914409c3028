"""Curate: choose training examples for the next data set, by what runs have learned."""

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
from premem_core.dashboard.wording import count, error_in_words
from premem_core.errors import PrememError
from premem_core.store.examples import read_example_texts

SHOWN = 1_000  # rows of the selection's table; the file has them all
SHOWN_ISSUES = 3  # selected rows with an issue whose texts are shown
COMPARED = ["random", "perplexity", "words"]  # strategies that the selection is compared with

recipe_file.apply_opened_recipe()
st.header("Curate")
headline = st.empty()
view = pick_view("several")
store, task, judges = cached_reads.store(), view.task, view.shown
with view.controls:
    recipe_file.open_recipe()
facts = curate_form.example_facts(task, judges, view.threshold, view.estimator)
criteria = curate_form.pick_criteria(facts)
with elements.controls():
    combine = curate_form.pick_combine(criteria)
    budget, unit = curate_form.pick_budget()
    quota_field, quotas = curate_form.pick_quotas(facts)
    seed = st.number_input("Seed", 0, key="seed", bind="query-params", width=90)
    by_hand = curate_form.pick_by_hand()
    chosen_gates, against, finders = curate_form.pick_gates(task, facts)
try:
    recipe = Recipe(
        task=task,
        runs=tuple(run.run for run in judges),
        log_log_threshold=view.threshold,
        threshold_source=view.source,
        criteria=criteria,
        estimator=view.estimator,
        segment=view.segment,
        combine=combine,
        budget=budget,
        budget_in=unit,
        quota_field=quota_field,
        quotas=quotas,
        gates=chosen_gates,
        against=None if against is None else str(against.resolve()),
        seed=seed,
        kept=by_hand["kept"],
        dropped=by_hand["dropped"],
        excused=by_hand["excused"],
        store_version=store.version(),
    )
    issues = selection.find_issues(facts, recipe, finders)
    chosen = selection.select(facts, recipe, issues.index)
    cautions = selection.cautions_in_words(facts, recipe)
except PrememError as error:
    st.error(error_in_words(error))
    st.stop()
names = [criterion.strategy for criterion in criteria]
judged_by = f"run {view.label}" if len(judges) == 1 else f"the mean of {len(judges)} runs"
headline.markdown(
    f"**{count(len(chosen), 'example')}** of {len(facts.examples):,}, judged by {judged_by}: "
    + "; ".join(
        f"mean {strategies.get_strategy(name).reason.format(chosen[name].mean())}"
        for name in names
        if len(chosen) and name != "random"
    )
    + (
        f"; {selection.count_removed(issues, recipe):,} left out by quality gates."
        if chosen_gates
        else "."
    )
    + f" {cautions}"
)

left, right = st.columns([1.3, 1], gap="large")
with left:
    st.subheader("What is chosen")
    shown = names[0]
    if len(names) > 1:
        shown = st.segmented_control(
            "By", names, default=shown, required=True, key="by", bind="query-params",
            format_func=lambda name: strategies.get_strategy(name).quantity,
        )  # fmt: skip
    values = strategies.strategy_values(facts, shown, seed)
    bins = selection.value_histogram(values, chosen.index)
    quantity = strategies.get_strategy(shown).quantity
    elements.chart(
        figures.selection_figure(bins, quantity, elements.palette()),
        "selection",
        bins,
        alt=f"Number of examples by {quantity}: all examples, and the chosen ones",
    )
with right:
    st.subheader("Overlap with other strategies")
    others = st.multiselect(
        "Compared with", facts.strategies, default=COMPARED, key="others", bind="query-params",
        format_func=lambda name: strategies.get_strategy(name).label, label_visibility="collapsed",
    )  # fmt: skip
    compared = list(dict.fromkeys([*names, *others]))
    shares = selection.overlap_with_strategies(facts, recipe, chosen.index, compared)
    labels = [strategies.get_strategy(name).label for name in compared]
    elements.small_table(
        shares.assign(strategy=[f"{n} {label}" for n, label in enumerate(labels, 1)]),
        {"strategy": "Share of its choices also in …"}
        | {name: (name, lambda share: f"{share:.0%}") for name in map(str, shares)},
        alt="Of the examples that each strategy alone would choose, the share that is chosen here "
        "and by each other strategy",
    )

number, text = st.column_config.NumberColumn, st.column_config.TextColumn
if chosen_gates:
    st.subheader("Left out by quality gates")
    if issues.empty:
        st.caption("The gates found nothing to leave out.")
    else:
        rows = issues.assign(
            gate=[quality_gates.GATES[name].label for name in issues["gate"]],
            through=issues["id"].isin(recipe.excused),
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
            st.caption("Select rows to read their texts and to let them through.")
        for row in curate_form.with_texts(rows[rows["id"].isin(ids)].head(SHOWN_ISSUES)):
            elements.verbatim(*row)

st.subheader("The selection")
if chosen.empty:
    st.info("No example is within the bounds; widen them.")
    st.stop()
head = chosen.head(SHOWN)
texts = read_example_texts(store, head.index.tolist()).set_index("example")
rows = head.assign(question=texts["question"])
columns = {"rank": number("Rank", width=55), "id": text("Example", width=95)}
if rows["question"].any():
    columns["question"] = text("Question", width=330)
for name in names:
    columns[name] = number(strategies.get_strategy(name).title, format="%.4g", width=165)
columns |= {
    "lines": number("Lines", width=60, help="Lines of the solution"),
    "words": number("Words", width=65, help="Words of the solution"),
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
            f"Restore the {len(recipe.dropped):,} dropped by hand",
            on_click=curate_form.undo_by_hand, args=["dropped", recipe.dropped],
        )  # fmt: skip
if len(chosen) > SHOWN:
    st.caption(f"The first {SHOWN:,} of {len(chosen):,}; the file has them all.")

st.subheader("Download")
with elements.controls():
    kind, recipe = curate_form.pick_file(recipe)
    refused = curate_form.why_not(chosen, recipe, kind)
    ending = "zip" if kind == "folder" else kind
    elements.download_file(
        "Data",
        f"{task}-curated.{ending}",
        lambda file: (
            export.export_zip(store, chosen, recipe, issues, len(facts.examples), file)
            if kind == "folder"
            else export.export_file(store, chosen, recipe, file)
        ),
        type="primary",
        disabled=bool(refused),
    )
    st.download_button(
        "Recipe", recipe.to_yaml(), file_name=f"{task}-recipe.yaml", mime="text/yaml",
        on_click="ignore",
    )  # fmt: skip
if refused:
    st.error(error_in_words(refused))
st.caption(
    "The folder also holds a data card and the recipe. The recipe builds the same file again, here "
    "or with `python -m premem_core curate --from-recipe`. " + view.threshold_note()
)

st.subheader("Collect more")
with elements.controls():
    new = st.number_input(
        "New problems", 1, value=200, step=50, key="new", bind="query-params", width=150
    )
    cover = None
    if facts.fields:
        cover = st.selectbox(
            "Cover all groups of", list(facts.fields), index=None, placeholder="none", key="cover",
            bind="query-params", width=170,
            help="Each group gets new problems in proportion to the mean score of its chosen "
            "examples, however few these are.",
        )  # fmt: skip
    planned = collection_plan.plan_collection(chosen, new, cover)
    elements.download_file(
        "Worksheet",
        f"{task}-worksheet.csv",
        lambda file: collection_plan.write_worksheet(store, task, planned, file),
    )
    elements.download_file(
        "Prompts",
        f"{task}-prompts.jsonl",
        lambda file: collection_plan.write_prompts(store, task, planned, file),
    )
if cover:
    elements.small_table(
        collection_plan.count_by_group(planned),
        {"group": cover, "seeds": ("Seeds", str), "new": ("New problems", str)},
        alt=f"New problems by {cover}",
    )
st.caption(
    f"{count(len(planned), 'chosen example')} as seeds; those with higher scores get more new "
    "problems. The worksheet is for a person to fill in, the prompts are for a stronger model. "
    "`python -m premem_core generate --from-recipe` lets a model write the problems, checks them, "
    "and resumes where it was stopped."
)
