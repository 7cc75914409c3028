"""Curate form: the controls of the Curate page, from which its recipe is made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from premem_core.analysis.run_scores import RunScores
from premem_core.curation import quality_gates, strategies
from premem_core.curation.quality_gates import GATES, FindIssues
from premem_core.curation.recipe import Combine, Criterion, Recipe, Shape, Unit, Weights
from premem_core.curation.shapes import KINDS, SHAPES, default_shape, make_layout
from premem_core.curation.strategies import ExampleFacts
from premem_core.dashboard import cached_reads, elements
from premem_core.dashboard.cached_reads import RunsKey, runs_of
from premem_core.dashboard.data_file_picker import pick_data_file
from premem_core.dashboard.streamlit_workarounds import table_key
from premem_core.dashboard.wording import error_in_words, plain
from premem_core.errors import PrememError, UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.store.examples import read_example_texts

MOST_GROUPS = 12  # values of a metadata field that quotas are offered for
LEAST_WEIGHT = 0.01
WEIGHTS: dict[Weights, str] = {
    "none": "none",
    "column": "in a column",
    "repeat": "rows repeated",
}
COMBINED: dict[Combine, str] = {"all": "all bounds", "any": "any bound"}


@st.cache_resource(max_entries=4, show_spinner="Reading the examples…")
def _example_facts(key: RunsKey, threshold: float, estimator: Estimator) -> ExampleFacts:
    return strategies.read_example_facts(
        cached_reads.store(), key.task, runs_of(key), threshold, estimator
    )


@st.cache_resource(max_entries=16, show_spinner="Running the quality gates…")
def _find_issues(
    key: RunsKey,
    threshold: float | None,
    gate: str,
    value: float | None,
    against: Path | None,
    changed: int,
    _facts: ExampleFacts,
) -> FindIssues:
    return quality_gates.finders(cached_reads.store(), key.task, _facts, {gate: value}, against)[
        gate
    ]


def example_facts(
    task: str, runs: Sequence[RunScores], threshold: float, estimator: Estimator
) -> ExampleFacts:
    """`strategies.read_example_facts`, kept until the store changes."""
    return _example_facts(cached_reads.runs_key(task, runs), threshold, estimator)


def pick_criteria(facts: ExampleFacts) -> tuple[Criterion, ...]:
    """The chosen strategies with their bounds and weights."""
    chosen = st.multiselect(
        "Strategies", facts.strategies, default=["premem"], key="strategies",
        format_func=lambda name: strategies.get_strategy(name).label, bind="query-params",
    )  # fmt: skip
    if not chosen:
        st.info("Choose a strategy to rank the examples by.")
        st.stop()
    criteria = []
    for name in chosen:
        quantity = strategies.get_strategy(name).title
        with elements.controls():
            above, below = (
                st.number_input(
                    f"{quantity}, {side}", value=value, step=0.05, format="%.4g",
                    key=f"{key}-{name}", bind="query-params", width=240, placeholder="no bound",
                )
                for side, key, value in (
                    ("at least", "above", None),
                    ("at most", "below", strategies.PAPER_BOUND if name == "premem" else None),
                )
            )  # fmt: skip
            weight = 1.0
            if len(chosen) > 1:
                weight = st.number_input(
                    "Weight of this strategy", LEAST_WEIGHT, value=1.0, step=0.5,
                    key=f"weight-{name}", bind="query-params", width=170,
                )  # fmt: skip
        criteria.append(Criterion(name, below, above, weight))
    return tuple(criteria)


def pick_combine(criteria: Sequence[Criterion]) -> Combine:
    """Whether an example must lie within the bounds of all strategies or of any one."""
    combine: Combine = "all"
    if len(criteria) > 1:
        combine = st.segmented_control(
            "Keep within", list(COMBINED), default="all", required=True,
            format_func=COMBINED.__getitem__, key="combine", bind="query-params",
        )  # fmt: skip
    return combine


def pick_budget() -> tuple[int | None, Unit]:
    """The largest number of examples or tokens; None: no limit."""
    budget = st.number_input(
        "Budget", 1, value=None, placeholder="all that qualify", key="budget",
        bind="query-params", width=170,
    )  # fmt: skip
    unit: Unit = st.segmented_control(
        "Budget in", ["examples", "tokens"], default="examples", required=True, key="unit",
        bind="query-params", help="Tokens are counted in the solutions.",
    )  # fmt: skip
    return budget, unit


def pick_quotas(facts: ExampleFacts) -> tuple[str | None, dict[str, float]]:
    """A metadata field, and the largest share of the budget that its values may have."""
    fields = quota_fields(facts)
    if not fields:
        return None, {}
    name = st.selectbox(
        "Quotas by", fields, index=None, placeholder="none", key="quota-by", bind="query-params",
        width=150,
    )  # fmt: skip
    quotas = {}
    for value in facts.fields[name] if name else []:
        share = st.number_input(
            plain(f"{name} {value}, at most"), 0.0, 1.0, value=None, step=0.05,
            placeholder="any share", key=f"quota-{name}-{value}", bind="query-params", width=170,
        )  # fmt: skip
        if share is not None:
            quotas[value] = share
    return (name, quotas) if quotas else (None, {})


def pick_gates(
    task: str, facts: ExampleFacts
) -> tuple[dict[str, float | None], Path | None, dict[str, FindIssues]]:
    """The chosen quality gates.

    A gate that cannot run is left out, with a warning on the page.

    Returns:
        gate → the value from which it finds an example; a file of further test problems for the
        gate of leaks, if there is one; gate → the function that finds examples.
    """
    chosen = st.multiselect(
        "Leave out (quality gates)", list(GATES), format_func=lambda name: GATES[name].label,
        key="gates", bind="query-params", width=420,
    )  # fmt: skip
    values: dict[str, float | None] = {}
    for name in chosen:
        gate = GATES[name]
        values[name] = None
        if gate.default is not None:
            values[name] = st.number_input(
                f"{gate.label.capitalize()}, at least",
                quality_gates.LOWEST,
                1.0,
                gate.default,
                0.05,
                key=f"gate-{name}",
                bind="query-params",
                width=250,
            )
    against = None
    if "leaks" in chosen:
        with st.popover("More test problems", width=200):
            against = pick_data_file("Test problems to check for leaks", "against")
    finders: dict[str, FindIssues] = {}
    for name, value in values.items():
        file = against if name == "leaks" else None
        try:
            finders[name] = _gate_finder(task, facts, name, value, file)
        except PrememError as error:
            st.warning(f"{GATES[name].label.capitalize()}: {error_in_words(error)}")
    working = {name: value for name, value in values.items() if name in finders}
    return working, against if "leaks" in working else None, finders


def _gate_finder(
    task: str, facts: ExampleFacts, gate: str, value: float | None, against: Path | None
) -> FindIssues:
    threshold = facts.log_log_threshold if gate == "labels" else None  # others read only texts
    changed = against.stat().st_mtime_ns if against is not None and against.exists() else 0
    return _find_issues(
        cached_reads.runs_key(task, facts.runs), threshold, gate, value, against, changed, facts
    )


def pick_by_hand() -> dict[str, tuple[str, ...]]:
    """The ids that a person put in, dropped, or let through the quality gates."""
    labels = {"kept": "Always kept", "dropped": "Dropped", "excused": "Let through the gates"}
    ids = {
        name: list(dict.fromkeys([*st.query_params.get_all(name), *st.session_state.get(name, [])]))
        for name in labels
    }
    n = sum(map(len, ids.values()))
    with st.popover(f"By hand: {n:,}" if n else "By hand", width=150):
        return {
            name: tuple(
                st.multiselect(
                    label, ids[name], key=name, bind="query-params", accept_new_options=True,
                    placeholder="an example's id",
                )
            )
            for name, label in labels.items()
        }  # fmt: skip


def add_by_hand(name: str, ids: Sequence[str]) -> None:
    """Add ids to one of the lists of `pick_by_hand`."""
    st.session_state[name] = list(dict.fromkeys([*st.session_state[name], *ids]))


def undo_by_hand(name: str, ids: Sequence[str]) -> None:
    """Remove ids from one of the lists of `pick_by_hand`."""
    st.session_state[name] = [kept for kept in st.session_state[name] if kept not in ids]


def pick_rows(
    rows: pd.DataFrame,
    columns: Mapping[str, ColumnConfig],
    name: str,
    height: int | Literal["auto"],
) -> list[str]:
    """The ids of the rows that a person ticks in a table."""
    ids = rows["id"].tolist()
    picked = st.dataframe(
        elements.table_of(rows, list(columns)),
        hide_index=True,
        height=height,
        column_config=dict(columns),
        on_select="rerun",
        selection_mode="multi-row",
        key=table_key(name, ids),
    )
    return [ids[row] for row in picked.selection.rows]


def with_texts(issues: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Titles and texts of the examples that a gate found, and of the problems they resemble.

    Args:
        issues: rows of `selection.find_issues`.

    Returns:
        One list of (title, text) per row.
    """
    titled = []
    examples = read_example_texts(cached_reads.store(), issues.index.tolist()).to_dict("records")
    for example, row in zip(examples, issues.to_dict("records"), strict=True):
        similar = [(row["why"], row["beside"])] if row["beside"] else []
        question, solution = example["question"] or "", example["solution"] or ""
        titled.append([(row["id"], question), ("Solution", solution), *similar])
    return titled


def pick_file(recipe: Recipe) -> tuple[str, Recipe]:
    """The kind of file to write, and the recipe with its shape and weights."""
    kinds = {"folder": "folder for datasets"} | {kind[1:]: kind[1:] for kind in KINDS}
    kind = st.segmented_control(
        "File", list(kinds), default="jsonl", required=True, format_func=kinds.__getitem__,
        key="kind", bind="query-params",
    )  # fmt: skip
    shapes = [shape for shape in SHAPES if (kind, shape) != ("csv", "messages")]
    default = cached_reads.read(default_shape, recipe.task)
    shape: Shape = st.selectbox(
        "Fields of a row", shapes, shapes.index(default) if default in shapes else 0, key="shape",
        bind="query-params", width=200,
    )  # fmt: skip
    weights: Weights = st.selectbox(
        "Weights by score", list(WEIGHTS), format_func=WEIGHTS.__getitem__, key="weights",
        bind="query-params", width=170,
    )  # fmt: skip
    return kind, replace(recipe, shape=shape, weights=weights)


def why_not(chosen: pd.DataFrame, recipe: Recipe, kind: str) -> str:
    """Why these examples cannot be written to a file of this kind; "" if they can."""
    has_chats = cached_reads.read(default_shape, recipe.task) != "plain"
    try:
        numbers = tuple(chosen.index) if has_chats else ()
        layout = cached_reads.read(make_layout, numbers, recipe.shape)
        layout.check_kind(".parquet" if kind == "folder" else f".{kind}")
    except UsageError as error:
        return str(error)
    return ""


def quota_fields(facts: ExampleFacts) -> list[str]:
    """The metadata fields that quotas are offered for."""
    return [name for name, values in facts.fields.items() if 1 < len(values) <= MOST_GROUPS]
