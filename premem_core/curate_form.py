"""The curate page's form: controls → recipe, recipe file → controls, what was done by hand."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from premem_core import curation, gates, rankings, ui
from premem_core.curation import Combine, Criterion, Recipe, Unit
from premem_core.curves import RunScores
from premem_core.errors import PrememError, UsageError
from premem_core.estimators import Estimator
from premem_core.rankings import Evidence

MOST_GROUPS = 12  # of a field that quotas are offered for
COMBINED: dict[Combine, str] = {"all": "all bounds", "any": "any bound"}


@st.cache_resource(max_entries=4, show_spinner="Reading what is known of each example…")
def _evidence(
    path: str,
    version: int,
    task: str,
    names: tuple[str, ...],
    threshold: float,
    estimator: Estimator,
) -> Evidence:
    runs = [run for run in ui.task_runs(task) if run.run in names]
    return rankings.read_evidence(ui.store(), task, runs, threshold, estimator)


@st.cache_resource(max_entries=16, show_spinner="Looking for what should be left out…")
def _gate(
    path: str,
    version: int,
    task: str,
    names: tuple[str, ...],
    threshold: float,
    gate: str,
    at: float | None,
    against: str | None,
    _evidence: Evidence,
) -> pd.DataFrame:
    asked = Recipe(
        task, names, threshold, (Criterion("random"),), gates={gate: at}, against=against
    )
    return curation.removed(ui.store(), _evidence, asked)


def evidence(
    task: str, runs: Sequence[RunScores], threshold: float, estimator: Estimator
) -> Evidence:
    """`rankings.read_evidence`, kept until the store changes."""
    names = tuple(run.run for run in runs)
    return _evidence(*ui.key(), task, names, threshold, estimator)


def removed(known: Evidence, recipe: Recipe) -> pd.DataFrame:
    """`curation.removed`; a gate that cannot look is told of on the page, and finds nothing."""
    found = []
    for name, at in recipe.gates.items():
        against = recipe.against if name == "leaks" else None
        try:
            found.append(
                _gate(
                    *ui.key(), recipe.task, recipe.runs, recipe.log_log_threshold, name, at,
                    against, known,
                )
            )  # fmt: skip
        except PrememError as error:
            st.warning(f"{gates.GATES[name].label.capitalize()}: {ui.plain(error)}")
    return pd.concat(found) if found else pd.DataFrame(columns=list(gates.COLUMNS))


def pick_criteria(known: Evidence) -> tuple[tuple[Criterion, ...], Combine]:
    """The strategies in force, each with its bound and its weight."""
    chosen = st.multiselect(
        "Choose by", known.strategies, default=["premem"], key="strategies",
        format_func=lambda name: rankings.named(name).label, bind="query-params",
    )  # fmt: skip
    if not chosen:
        st.info("Choose a strategy to rank the examples by.")
        st.stop()
    criteria = []
    with ui.controls():
        for name in chosen:
            strategy = rankings.named(name)
            side = "at least" if strategy.highest_first else "at most"
            quantity = strategy.quantity[0].upper() + strategy.quantity[1:]
            default = rankings.PAPER_BOUND if name == "premem" else None
            bound = st.number_input(
                f"{quantity}, {side}", value=default, step=0.05, format="%.4g",
                key=f"bound-{name}", bind="query-params", width=260, placeholder="no bound",
            )  # fmt: skip
            weight = 1.0
            if len(chosen) > 1:
                weight = st.number_input(
                    f"Weight: {strategy.label}", 0.01, value=1.0, step=0.5, key=f"weight-{name}",
                    bind="query-params", width=230,
                )  # fmt: skip
            above, below = (bound, None) if strategy.highest_first else (None, bound)
            criteria.append(Criterion(name, below, above, weight))
        combine: Combine = "all"
        if len(chosen) > 1:
            combine = st.segmented_control(
                "Keep within", list(COMBINED), default="all", required=True,
                format_func=COMBINED.__getitem__, key="combine", bind="query-params",
            )  # fmt: skip
    return tuple(criteria), combine


def pick_budget() -> tuple[int | None, Unit]:
    """How many examples, or tokens, at most."""
    budget = st.number_input(
        "Budget", 1, value=None, placeholder="all that qualify", key="budget",
        bind="query-params", width=170,
    )  # fmt: skip
    unit: Unit = st.segmented_control(
        "In", ["examples", "tokens"], default="examples", required=True, key="unit",
        bind="query-params", help="Tokens of the solutions.",
    )  # fmt: skip
    return budget, unit


def pick_quotas(known: Evidence) -> tuple[str | None, dict[str, float]]:
    """A field of the metadata, and the largest share of the budget of each of its values."""
    few = [name for name, values in known.fields.items() if 1 < len(values) <= MOST_GROUPS]
    if not few:
        return None, {}
    name = st.selectbox(
        "Quotas by", few, index=None, placeholder="none", key="quota-by", bind="query-params",
        width=150,
    )  # fmt: skip
    quotas = {}
    for value in known.fields[name] if name else []:
        share = st.number_input(
            f"{name} {value}, at most", 0.0, 1.0, value=None, step=0.05, placeholder="any share",
            key=f"quota-{name}-{value}", bind="query-params", width=170,
        )  # fmt: skip
        if share is not None:
            quotas[value] = share
    return (name, quotas) if quotas else (None, {})


def pick_gates() -> tuple[dict[str, float | None], str | None]:
    """The quality gates in force, from which value on each removes, and a file of test problems."""
    chosen = st.multiselect(
        "Leave out", list(gates.GATES), format_func=lambda name: gates.GATES[name].label,
        key="gates", bind="query-params", width=420,
    )  # fmt: skip
    asked: dict[str, float | None] = {}
    for name in chosen:
        gate = gates.GATES[name]
        asked[name] = gate.default
        if gate.default is not None:
            asked[name] = st.number_input(
                f"{gate.label.capitalize()}, from", 0.05, 1.0, gate.default, 0.05,
                key=f"gate-{name}", bind="query-params", width=250,
            )  # fmt: skip
    against = None
    if "leaks" in chosen:
        against = st.text_input(
            "Test problems", key="against", bind="query-params", width=260,
            placeholder="those of the store, or a file's path",
        )  # fmt: skip
    return asked, against or None


def by_hand(name: str) -> list[str]:
    """The ids that a person dropped, or excused; the address keeps them."""
    return st.query_params.get_all(name)


def add_by_hand(name: str, ids: Sequence[str]) -> None:
    """Drop, or excuse, these too."""
    st.query_params[name] = list(dict.fromkeys([*by_hand(name), *ids]))


def undo_by_hand(name: str, ids: Sequence[str]) -> None:
    """Neither drop nor excuse these any more."""
    rest = [each for each in by_hand(name) if each not in ids]
    if rest:
        st.query_params[name] = rest
    elif name in st.query_params:
        del st.query_params[name]


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
            st.error(ui.plain(error))
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
    }
    for each in recipe.criteria:
        values[f"bound-{each.strategy}"] = each.below if each.above is None else each.above
        values[f"weight-{each.strategy}"] = each.weight
    for name, at in recipe.gates.items():
        if gates.GATES[name].default is not None:
            values[f"gate-{name}"] = gates.GATES[name].default if at is None else at
    values |= dict.fromkeys(name for name in st.session_state if name.startswith("quota-"))
    values["quota-by"] = recipe.quota_field
    for group, share in recipe.quotas.items():
        values[f"quota-{recipe.quota_field}-{group}"] = share
    for name, value in values.items():
        st.session_state[name] = value
    for name in curation.BY_HAND:
        if ids := getattr(recipe, name):
            st.query_params[name] = list(ids)
        elif name in st.query_params:
            del st.query_params[name]


def _check(recipe: Recipe) -> None:
    """UsageError: the store has not what the recipe names."""
    store = ui.store()
    if recipe.task not in store.tasks():
        raise UsageError(f"the recipe is of the task '{recipe.task}', which this store has not")
    missing = set(recipe.runs) - {run.run for run in ui.task_runs(recipe.task)}
    if missing:
        raise UsageError(f"the recipe judges by a run '{min(missing)}', which this store has not")
    for each in recipe.criteria:
        rankings.named(each.strategy)
    if unknown := set(recipe.gates) - set(gates.GATES):
        raise UsageError(f"the recipe has a gate '{min(unknown)}' that there is not")
