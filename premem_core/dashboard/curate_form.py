"""The curate page's form: controls → recipe, recipe file → controls, what was done by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from premem_core.analysis.run_scores import RunScores
from premem_core.curation import export, quality_gates, strategies
from premem_core.curation.quality_gates import GATES, FindIssues
from premem_core.curation.recipe import Combine, Criterion, Recipe, Shape, Unit, Weights
from premem_core.curation.strategies import ExampleFacts
from premem_core.dashboard import cached_reads, elements
from premem_core.dashboard.data_file_picker import pick_data_file
from premem_core.dashboard.wording import plain
from premem_core.errors import PrememError
from premem_core.metrics.estimators import Estimator
from premem_core.store.examples import read_example_texts

MOST_GROUPS = 12  # of a field that quotas are offered for
LEAST_WEIGHT = 0.01
WEIGHTS: dict[Weights, str] = {
    "none": "none",
    "column": "in a column",
    "repeat": "rows repeated",
}
COMBINED: dict[Combine, str] = {"all": "all bounds", "any": "any bound"}


@st.cache_resource(max_entries=4, show_spinner="Reading what is known of each example…")
def _evidence(
    path: str,
    version: int,
    task: str,
    names: tuple[str, ...],
    threshold: float,
    estimator: Estimator,
) -> ExampleFacts:
    runs = [run for run in cached_reads.task_runs(task) if run.run in names]
    return strategies.read_example_facts(cached_reads.store(), task, runs, threshold, estimator)


@st.cache_resource(max_entries=16, show_spinner="Looking for what should be left out…")
def _finder(
    path: str,
    version: int,
    task: str,
    names: tuple[str, ...],
    threshold: float | None,
    gate: str,
    at: float | None,
    against: Path | None,
    changed: int,
    _evidence: ExampleFacts,
) -> FindIssues:
    return quality_gates.finders(cached_reads.store(), task, _evidence, {gate: at}, against)[gate]


def evidence(
    task: str, runs: Sequence[RunScores], threshold: float, estimator: Estimator
) -> ExampleFacts:
    """`rankings.read_evidence`, kept until the store changes."""
    names = tuple(run.run for run in runs)
    return _evidence(*cached_reads.cache_key(), task, names, threshold, estimator)


def pick_criteria(known: ExampleFacts) -> tuple[Criterion, ...]:
    """The strategies in force, each with its bounds and its weight."""
    chosen = st.multiselect(
        "Choose by", known.strategies, default=["premem"], key="strategies",
        format_func=lambda name: strategies.named(name).label, bind="query-params",
    )  # fmt: skip
    if not chosen:
        st.info("Choose a strategy to rank the examples by.")
        st.stop()
    criteria = []
    for name in chosen:
        quantity = strategies.named(name).title
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
                    "Weight of its ranking", LEAST_WEIGHT, value=1.0, step=0.5,
                    key=f"weight-{name}", bind="query-params", width=170,
                )  # fmt: skip
        criteria.append(Criterion(name, below, above, weight))
    return tuple(criteria)


def pick_combine(criteria: Sequence[Criterion]) -> Combine:
    """Whether all bounds must be kept within, or any."""
    combine: Combine = "all"
    if len(criteria) > 1:
        combine = st.segmented_control(
            "Keep within", list(COMBINED), default="all", required=True,
            format_func=COMBINED.__getitem__, key="combine", bind="query-params",
        )  # fmt: skip
    return combine


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


def pick_quotas(known: ExampleFacts) -> tuple[str | None, dict[str, float]]:
    """A field of the metadata, and the largest share of the budget of each of its values."""
    few = first_few(known)
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


def pick_gates(
    task: str, known: ExampleFacts
) -> tuple[dict[str, float | None], Path | None, dict[str, FindIssues]]:
    """The quality gates in force, from which value on each finds, and what looks.

    A gate that cannot look is told of on the page, and is not in force. With them a file of
    problems to look for leaks from.
    """
    chosen = st.multiselect(
        "Leave out", list(GATES), format_func=lambda name: GATES[name].label,
        key="gates", bind="query-params", width=420,
    )  # fmt: skip
    asked: dict[str, float | None] = {}
    for name in chosen:
        gate = GATES[name]
        asked[name] = None
        if gate.default is not None:
            asked[name] = st.number_input(
                f"{gate.label.capitalize()}, from", quality_gates.LOWEST, 1.0, gate.default, 0.05,
                key=f"gate-{name}", bind="query-params", width=250,
            )  # fmt: skip
    against = None
    if "leaks" in chosen:
        with st.popover("Further test problems", width=200):
            against = pick_data_file("Problems that nothing may leak from", "against")
    finders: dict[str, FindIssues] = {}
    for name, at in asked.items():
        try:
            finders |= {name: _find(task, known, name, at, against if name == "leaks" else None)}
        except PrememError as error:
            st.warning(f"{GATES[name].label.capitalize()}: {plain(error)}")
    in_force = {name: at for name, at in asked.items() if name in finders}
    return in_force, against if "leaks" in in_force else None, finders


def _find(
    task: str, known: ExampleFacts, gate: str, at: float | None, against: Path | None
) -> FindIssues:
    names = tuple(run.run for run in known.runs)
    threshold = known.log_log_threshold if gate == "labels" else None  # others look at texts only
    changed = against.stat().st_mtime_ns if against is not None and against.exists() else 0
    return _finder(
        *cached_reads.cache_key(), task, names, threshold, gate, at, against, changed, known
    )


def pick_by_hand() -> dict[str, tuple[str, ...]]:
    """The ids that a person put in, took out, or let through the gates."""
    told = {"kept": "Put in", "dropped": "Taken out", "excused": "Let through the gates"}
    known = {
        name: list(dict.fromkeys([*st.query_params.get_all(name), *st.session_state.get(name, [])]))
        for name in told
    }
    n = sum(map(len, known.values()))
    with st.popover(f"By hand: {n:,}" if n else "By hand", width=150):
        return {
            name: tuple(
                st.multiselect(
                    label, known[name], key=name, bind="query-params", accept_new_options=True,
                    placeholder="an example's id",
                )
            )
            for name, label in told.items()
        }  # fmt: skip


def add_by_hand(name: str, ids: Sequence[str]) -> None:
    """Take out, or let through, these too."""
    st.session_state[name] = list(dict.fromkeys([*st.session_state[name], *ids]))


def undo_by_hand(name: str, ids: Sequence[str]) -> None:
    """Neither take out nor let through these any more."""
    st.session_state[name] = [each for each in st.session_state[name] if each not in ids]


def pick_rows(
    rows: pd.DataFrame,
    columns: Mapping[str, ColumnConfig],
    name: str,
    height: int | Literal["auto"],
) -> list[str]:
    """The ids of the rows that a person ticks in a table."""
    ids = rows["id"].tolist()
    # Of other rows it is another table: what was ticked is not carried over to them.
    told = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    picked = st.dataframe(
        elements.table_of(rows, list(columns)),
        hide_index=True,
        height=height,
        column_config=dict(columns),
        on_select="rerun",
        selection_mode="multi-row",
        key=f"{name}-{told}",
    )
    return [ids[at] for at in picked.selection.rows]


def with_texts(found: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Of each row that a gate found its texts, and the one that it is held against; titled."""
    told = []
    known = read_example_texts(cached_reads.store(), found.index.tolist()).to_dict("records")
    for texts, row in zip(known, found.to_dict("records"), strict=True):
        beside = [(row["why"], row["beside"])] if row["beside"] else []
        question, solution = texts["question"] or "", texts["solution"] or ""
        told.append([(row["id"], question), ("Its solution", solution), *beside])
    return told


def pick_file(recipe: Recipe) -> tuple[str, Recipe]:
    """The kind of file to write, and the recipe with its shape and weights."""
    kinds = {"folder": "folder for datasets"} | {each[1:]: each[1:] for each in export.KINDS}
    kind = st.segmented_control(
        "File", list(kinds), default="jsonl", required=True, format_func=kinds.__getitem__,
        key="kind", bind="query-params",
    )  # fmt: skip
    shapes = [each for each in export.SHAPES if (kind, each) != ("csv", "messages")]
    shape: Shape = st.selectbox(
        "A row's fields", shapes, key="shape", bind="query-params", width=200
    )
    weights: Weights = st.selectbox(
        "Weights by score", list(WEIGHTS), format_func=WEIGHTS.__getitem__, key="weights",
        bind="query-params", width=170,
    )  # fmt: skip
    return kind, replace(recipe, shape=shape, weights=weights)


def first_few(known: ExampleFacts) -> list[str]:
    """The fields that quotas are offered for."""
    return [name for name, values in known.fields.items() if 1 < len(values) <= MOST_GROUPS]
