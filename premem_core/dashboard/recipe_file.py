"""A recipe file opened on the curate page: every control is set to what it says."""

import streamlit as st

from premem_core.curation import quality_gates
from premem_core.curation.recipe import BY_HAND, Recipe
from premem_core.dashboard import cached_reads, pickers
from premem_core.dashboard.curate_form import LEAST_WEIGHT, evidence, first_few
from premem_core.dashboard.wording import plain
from premem_core.errors import PrememError, UsageError
from premem_core.store.runs import read_tasks


def open_recipe() -> None:
    """A recipe from a file: the controls follow it."""
    with st.popover("Open a recipe", width=150):
        uploaded = st.file_uploader("A recipe that was written here", type=["yaml", "yml"])
        if uploaded is None or uploaded.file_id == st.session_state.get("opened_recipe"):
            return
        st.session_state["opened_recipe"] = uploaded.file_id
        try:
            text = uploaded.getvalue().decode("utf-8")
            recipe = Recipe.from_yaml(text, uploaded.name)
            _check(recipe)
        except (PrememError, UnicodeDecodeError) as error:
            st.error(plain(error))
            return
        st.session_state["recipe_to_open"] = recipe
        st.rerun()


def follow_opened() -> None:
    """Set the controls to the recipe that was opened; call before any is drawn."""
    recipe: Recipe | None = st.session_state.pop("recipe_to_open", None)
    if recipe is None:
        return
    values = {
        "task": recipe.task,
        "runs": list(recipe.runs),
        "estimator": recipe.estimator,
        "t": recipe.log_log_threshold,
        "strategies": [each.strategy for each in recipe.criteria],
        "combine": recipe.combine,
        "budget": recipe.budget,
        "unit": recipe.budget_in,
        "gates": list(recipe.gates),
        "against": recipe.against or "",
        "seed": recipe.seed,
        "shape": recipe.shape,
        "weights": recipe.weights,
    }
    if recipe.shape == "messages" and st.session_state.get("kind") == "csv":
        values["kind"] = "jsonl"
    for each in recipe.criteria:
        values[f"below-{each.strategy}"] = each.below
        values[f"above-{each.strategy}"] = each.above
        values[f"weight-{each.strategy}"] = each.weight
    for name, at in recipe.gates.items():
        if quality_gates.GATES[name].default is not None:
            values[f"gate-{name}"] = quality_gates.GATES[name].default if at is None else at
    values |= dict.fromkeys(name for name in st.session_state if name.startswith("quota-"))
    values["quota-by"] = recipe.quota_field
    for group, share in recipe.quotas.items():
        values[f"quota-{recipe.quota_field}-{group}"] = share
    values |= {name: list(getattr(recipe, name)) for name in BY_HAND}
    for name, value in values.items():
        st.session_state[name] = value


def _check(recipe: Recipe) -> None:
    """UsageError: the store has not what the recipe names, or the controls cannot hold it."""
    store = cached_reads.store()
    if recipe.task not in read_tasks(store):
        raise UsageError(f"the recipe is of the task '{recipe.task}', which this store has not")
    judges = [run for run in cached_reads.task_runs(recipe.task) if run.run in recipe.runs]
    if missing := set(recipe.runs) - {run.run for run in judges}:
        raise UsageError(f"the recipe judges by a run '{min(missing)}', which this store has not")
    known = evidence(recipe.task, judges, recipe.log_log_threshold, recipe.estimator)
    for each in recipe.criteria:
        if each.strategy not in known.strategies:
            raise UsageError(f"the recipe chooses by '{each.strategy}', which is not known here")
    quality_gates.check(recipe.gates)
    low, high = pickers.SLIDER
    quotas_of = recipe.quota_field
    for cannot, what in (
        (not low <= recipe.log_log_threshold <= high, f"a threshold outside {low} to {high}"),
        (min(each.weight for each in recipe.criteria) < LEAST_WEIGHT, "so small a weight"),
        (quotas_of is not None and quotas_of not in first_few(known), f"quotas of '{quotas_of}'"),
        (
            not set(recipe.quotas) <= set(known.fields.get(quotas_of or "", [])),
            f"a quota of a value of '{quotas_of}' that no example has",
        ),
    ):
        if cannot:
            raise UsageError(
                f"this page has no control for {what}; build the recipe with `python -m "
                "premem_core curate --from-recipe`"
            )
