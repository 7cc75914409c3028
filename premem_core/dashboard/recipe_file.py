"""Recipe file: opens a recipe on the Curate page, and sets every control to it."""

import streamlit as st

from premem_core.curation import quality_gates
from premem_core.curation.recipe import BY_HAND, Recipe
from premem_core.dashboard import cached_reads, pickers
from premem_core.dashboard.curate_form import LEAST_WEIGHT, example_facts, quota_fields
from premem_core.dashboard.wording import error_in_words
from premem_core.errors import PrememError, UsageError
from premem_core.store.runs import read_tasks


def open_recipe() -> None:
    """A control that takes a recipe file, and sets the other controls to it."""
    with st.popover("Open a recipe", width=150):
        uploaded = st.file_uploader("A recipe file written by Premem", type=["yaml", "yml"])
        if uploaded is None or uploaded.file_id == st.session_state.get("opened_recipe"):
            return
        st.session_state["opened_recipe"] = uploaded.file_id
        try:
            text = uploaded.getvalue().decode("utf-8")
            recipe = Recipe.from_yaml(text, uploaded.name)
            _check(recipe)
        except (PrememError, UnicodeDecodeError) as error:
            st.error(error_in_words(error))
            return
        st.session_state["recipe_to_open"] = recipe
        st.rerun()


def apply_opened_recipe() -> None:
    """Set the controls to the recipe that was opened; call before any of them is drawn."""
    recipe: Recipe | None = st.session_state.pop("recipe_to_open", None)
    if recipe is None:
        return
    values = {
        "task": recipe.task,
        "runs": list(recipe.runs),
        "estimator": recipe.estimator,
        "segment": recipe.segment,
        "t": recipe.log_log_threshold,
        "strategies": [criterion.strategy for criterion in recipe.criteria],
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
    for criterion in recipe.criteria:
        values[f"below-{criterion.strategy}"] = criterion.below
        values[f"above-{criterion.strategy}"] = criterion.above
        values[f"weight-{criterion.strategy}"] = criterion.weight
    for gate, least in recipe.gates.items():
        default = quality_gates.GATES[gate].default
        if default is not None:
            values[f"gate-{gate}"] = default if least is None else least
    values |= dict.fromkeys(name for name in st.session_state if name.startswith("quota-"))
    values["quota-by"] = recipe.quota_field
    for group, share in recipe.quotas.items():
        values[f"quota-{recipe.quota_field}-{group}"] = share
    values |= {name: list(getattr(recipe, name)) for name in BY_HAND}
    for name, value in values.items():
        st.session_state[name] = value


def _check(recipe: Recipe) -> None:
    """Check that the store has what the recipe names, and the controls can hold it.

    Raises:
        UsageError: the store lacks it, or the page has no control for it.
    """
    store = cached_reads.store()
    if recipe.task not in read_tasks(store):
        raise UsageError(
            f"the recipe is for the task '{recipe.task}', which this store does not have"
        )
    judges = [
        run for run in cached_reads.task_runs(recipe.task, recipe.segment) if run.run in recipe.runs
    ]
    if missing := set(recipe.runs) - {run.run for run in judges}:
        raise UsageError(
            f"the recipe judges examples by the run '{min(missing)}', which this store does not "
            "have"
        )
    facts = example_facts(recipe.task, judges, recipe.log_log_threshold, recipe.estimator)
    for criterion in recipe.criteria:
        if criterion.strategy not in facts.strategies:
            raise UsageError(
                f"the recipe uses the strategy '{criterion.strategy}', which this task does not "
                "have"
            )
    quality_gates.check_gates(recipe.gates)
    low, high = pickers.SLIDER
    field = recipe.quota_field
    smallest_weight = min(criterion.weight for criterion in recipe.criteria)
    for impossible, what in (
        (not low <= recipe.log_log_threshold <= high, f"a threshold outside {low} to {high}"),
        (smallest_weight < LEAST_WEIGHT, f"a weight below {LEAST_WEIGHT}"),
        (field is not None and field not in quota_fields(facts), f"quotas of '{field}'"),
        (
            not set(recipe.quotas) <= set(facts.fields.get(field or "", [])),
            f"a quota of a value of '{field}' that no example has",
        ),
    ):
        if impossible:
            raise UsageError(
                f"this page has no control for {what}; build the recipe with `python -m "
                "premem_core curate --from-recipe`"
            )
