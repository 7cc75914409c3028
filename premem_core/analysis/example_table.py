"""Example table: one row per training example of a run, from its accuracy and perplexity.

Axes: C checkpoints in training order, N training examples.
"""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.analysis import curves
from premem_core.analysis.base_model import BaseModel
from premem_core.analysis.run_scores import RunScores
from premem_core.metrics import pre_memorization
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats

TEXT_COLUMNS = ("id", "question", "solution", "words")
SCORE_COLUMNS = ("premem", "accuracy", "perplexity", "accuracies", "learned", "memorized", "flips")
BASE_COLUMNS = ("relative_nll", "known")  # where the run's base model is scored
NEVER = "never"
MOST_VALUES = 20  # a page offers a metadata field as a filter if it has no more values
RIGHT = 0.5  # an example counts as right where more than this share of its samples is correct
LOWEST_LOG_LOG = -20.0  # stands for log log PPL of a perplexity of exactly 1, which is −∞
SORTS: Mapping[str, str] = {
    "learned": "learned first",
    "memorized": "memorized first",
    "premem": "lowest PM first",
    "accuracy": "lowest accuracy first",
    "words": "shortest solution first",
}


def describe_examples(run: RunScores, texts: pd.DataFrame) -> pd.DataFrame:
    """The columns of a run's example table that do not depend on the threshold.

    Args:
        texts: `read_task_examples` of the task's training split.

    Returns:
        id, question, solution, words (of the solution), and one column per metadata field, indexed
        by the store's example number.
    """
    examples = texts.set_index("example").reindex(run.examples)
    table = examples[["id"]].assign(
        question=examples["question"].fillna(""),
        solution=examples["solution"].fillna(""),
        words=[len(text.split()) for text in examples["solution"].fillna("")],
    )
    taken = (*table, *SCORE_COLUMNS, *BASE_COLUMNS)
    return table.join(unpack_metadata(examples["metadata"], taken))


def make_example_table(
    run: RunScores,
    described: pd.DataFrame,
    log_log_threshold: float,
    estimator: Estimator = "plain",
    base: BaseModel | None = None,
) -> pd.DataFrame:
    """The table of a run's training examples at one threshold.

    Args:
        described: `describe_examples` of the run.
        base: the run's base model, if it is scored.

    Returns:
        The columns of `described` and SCORE_COLUMNS. premem, accuracy and perplexity are those of
        the last checkpoint, NaN where unknown. accuracies is a list over the checkpoints where it
        is known, None where it is known at none. learned is
        the first step at which the example was right, memorized the first at which its perplexity
        was below the threshold; NaN if there is none, or if learned is unknown. flips says how
        often the example changed between right and wrong, NaN if unknown. With a base model also
        BASE_COLUMNS: how far its solution's NLL at the last checkpoint lies above that under the
        base model (nats per token, below 0 where it fell), and whether the base model knows its
        question.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    accuracy, right = run.accuracy, is_right(run)
    columns = (
        curves.premem(run, log_log_threshold, estimator)[-1],
        accuracy[-1],
        np.exp(run.nll[-1]),
        [of_one[~np.isnan(of_one)].tolist() or None for of_one in accuracy.T],
        _first_step(right == 1, run.steps),
        _first_step(pre_memorization.memorized(run.nll, log_log_threshold), run.steps),
        np.abs(np.diff(right, axis=0)).sum(axis=0),
    )
    table = described.assign(**dict(zip(SCORE_COLUMNS, columns, strict=True)))
    if base is None:
        return table
    known = base.questions.set_index("example")["known"].reindex(run.examples)
    return table.assign(relative_nll=base.relative_nll(run)[-1], known=known)


def is_right(run: RunScores) -> Floats:
    """1 where an example counts as right, 0 where it counts as wrong, NaN where unknown: (C, N)."""
    accuracy = run.accuracy
    return np.where(np.isnan(accuracy), np.nan, accuracy > RIGHT)


def example_history(run: RunScores, example: int) -> pd.DataFrame:
    """step, accuracy and nll of one example, one row per checkpoint."""
    column = int(np.searchsorted(run.examples, example))
    return pd.DataFrame(
        {"step": run.steps, "accuracy": run.accuracy[:, column], "nll": run.nll[:, column]}
    )


def unpack_metadata(metadata: pd.Series, taken: Sequence[str]) -> pd.DataFrame:
    """One column per metadata field, read from the store's JSON; nested values are left out.

    Args:
        taken: names of other columns. A field with such a name is called `<name> (metadata)`.
    """
    columns: dict[str, list[Any]] = {}
    for row, text in enumerate(metadata):
        for name, value in (json.loads(text) if isinstance(text, str) and text else {}).items():
            if not isinstance(value, list | dict):
                columns.setdefault(name, [None] * len(metadata))[row] = value
    fields = pd.DataFrame(columns, index=metadata.index)
    for name in taken:
        if name in fields:
            fields = fields.rename(columns={name: free_name(name, fields)})
    return fields


def free_name(field: str, taken: Container[Any]) -> str:
    """The name of a metadata field, with " (metadata)" appended until it is not taken."""
    while field in taken:
        field += " (metadata)"
    return field


def metadata_fields(table: pd.DataFrame) -> list[str]:
    """The columns of the table that are metadata fields."""
    taken = (*TEXT_COLUMNS, *SCORE_COLUMNS, *BASE_COLUMNS)
    return [str(name) for name in table if name not in taken]


def sort_examples(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The table sorted by one of SORTS or by a metadata field; missing values come last."""
    values = table[by]
    if by not in SORTS and not pd.api.types.is_numeric_dtype(values):
        values = values.astype(str).where(values.notna())
    keys = pd.DataFrame({"value": values, "premem": table["premem"], "id": table["id"]})
    keys = keys.sort_values(["value", "premem", "id"], kind="stable", na_position="last")
    return table.loc[keys.index]


@dataclass(frozen=True, slots=True)
class LearnedShares:
    """Shares of a run's examples; NaN where a sampling plan left samples out.

    Attributes:
        learned: answered right at some checkpoint.
        memorized: memorized at some checkpoint; always known.
        memorized_first: memorized no later than at the first checkpoint that answered them right.
    """

    learned: float
    memorized: float
    memorized_first: float


def learned_shares(run: RunScores, table: pd.DataFrame) -> LearnedShares:
    """How many of a run's examples were learned, and how many were memorized.

    Args:
        table: `make_example_table` of the run.
    """
    memorized_first = table["memorized"] <= table["learned"].fillna(np.inf)
    complete = not run.counts.partial.any()
    return LearnedShares(
        learned=float(table["learned"].notna().mean()) if complete else np.nan,
        memorized=float(table["memorized"].notna().mean()),
        memorized_first=float(memorized_first.mean()) if complete else np.nan,
    )


def filter_examples(
    table: pd.DataFrame,
    *,
    words: str = "",
    premem: tuple[float, float] = (0, 1),
    accuracy: tuple[float, float] = (0, 1),
    memorized: Sequence[str] = (),
    flips: int = 0,
    grades: Sequence[str] = (),
    graded: pd.DataFrame | None = None,
    metadata: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> pd.DataFrame:
    """The rows that pass all filters; an empty filter passes every row.

    Args:
        words: words that question and solution together must contain, in any case and order.
        premem, accuracy: lowest and highest value; (0, 1) also passes unknown values.
        memorized: allowed first steps at which an example was memorized, as text, or NEVER.
        flips: fewest flips.
        grades: at least one completion must have one of these grades.
        graded: `read_grade_totals` of the checkpoint whose completions are meant.
        metadata: allowed values by field.
    """
    keep = (table["flips"] >= flips) | (flips == 0)
    if words.strip():
        texts = (table["question"] + "\n" + table["solution"]).str.lower()
        for word in words.lower().split():
            keep &= texts.str.contains(word, regex=False)
    for name, (low, high) in (("premem", premem), ("accuracy", accuracy)):
        if (low, high) != (0, 1):
            keep &= table[name].between(low - 1e-9, high + 1e-9)
    if memorized:
        steps = [NEVER if np.isnan(step) else f"{step:.0f}" for step in table["memorized"]]
        keep &= np.isin(steps, list(memorized))
    if grades and graded is not None:
        keep &= graded.reindex(table.index, fill_value=0)[list(grades)].gt(0).any(axis=1)
    for name, values in metadata.items():
        if values:
            keep &= table[name].astype(str).isin(values)
    return table[keep]


def metadata_choices(table: pd.DataFrame) -> dict[str, list[str]]:
    """The metadata fields with at least 2 and at most MOST_VALUES values, and those values."""
    values_of = {
        name: sorted(table[name].dropna().astype(str).unique()) for name in metadata_fields(table)
    }
    return {name: values for name, values in values_of.items() if 1 < len(values) <= MOST_VALUES}


@dataclass(frozen=True, slots=True)
class Cells:
    """The memorization map: means over B groups of neighbouring examples at each checkpoint.

    Attributes:
        steps: (C,).
        accuracy: (C, B) mean; NaN where samples are missing.
        log_log_perplexity: (C, B) mean of log log PPL.
        memorized: (C, B) share of examples.
        members: B arrays with the example numbers of each group.
    """

    steps: NDArray[np.int64]
    accuracy: Floats
    log_log_perplexity: Floats
    memorized: Floats
    members: tuple[NDArray[np.int64], ...]


def cells(
    run: RunScores, order: Sequence[int], log_log_threshold: float, columns: int = 240
) -> Cells:
    """A run's examples, grouped into at most `columns` columns of nearly equal size.

    Args:
        order: example numbers from left to right.
    """
    positions = np.searchsorted(run.examples, np.asarray(order))
    groups = np.array_split(positions, min(columns, len(positions)))
    with np.errstate(divide="ignore"):
        log_log = np.log(run.nll)
    log_log = np.where(np.isneginf(log_log), LOWEST_LOG_LOG, log_log)
    memorized = pre_memorization.memorized(run.nll, log_log_threshold)

    sizes = np.array([len(group) for group in groups])
    starts = np.cumsum(sizes) - sizes

    def group_means(values: NDArray[Any]) -> Floats:
        return np.add.reduceat(values[:, positions].astype(np.float64), starts, axis=1) / sizes

    return Cells(
        steps=run.steps,
        accuracy=group_means(run.accuracy),
        log_log_perplexity=group_means(log_log),
        memorized=group_means(memorized),
        members=tuple(run.examples[group] for group in groups),
    )


def _first_step(condition: NDArray[np.bool_], steps: NDArray[np.int64]) -> Floats:
    """The first step at which the condition (C, N) is true, (N,); NaN where it never is."""
    return np.where(condition.any(axis=0), steps[condition.argmax(axis=0)], np.nan)
