"""One row per training example of a run: what it was learned by, and when it began to be copied.

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
from premem_core.analysis.run_scores import RunScores
from premem_core.metrics import pre_memorization
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats

OF_TEXTS = ("id", "question", "solution", "words")
OF_SCORES = ("premem", "accuracy", "perplexity", "accuracies", "learned", "memorized", "flips")
NEVER = "never"
MOST_VALUES = 20  # of a metadata field that can be chosen among
RIGHT = 0.5  # an example counts as right where more than this share of its samples is
SORTS: Mapping[str, str] = {
    "learned": "learned first",
    "memorized": "memorized first",
    "premem": "lowest PM first",
    "accuracy": "lowest accuracy first",
    "words": "shortest solution first",
}


def described(run: RunScores, texts: pd.DataFrame) -> pd.DataFrame:
    """What no threshold changes of a run's training examples.

    Args:
        texts: `Store.examples` of the task's training split.

    Returns:
        Indexed by the store's example number: id, question, solution, words (of the solution), and
        a column per metadata field.
    """
    known = texts.set_index("example").reindex(run.examples)
    table = known[["id"]].assign(
        question=known["question"].fillna(""),
        solution=known["solution"].fillna(""),
        words=[len(text.split()) for text in known["solution"].fillna("")],
    )
    return table.join(unpacked(known["metadata"], (*table, *OF_SCORES)))


def make_example_table(
    run: RunScores,
    described: pd.DataFrame,
    log_log_threshold: float,
    estimator: Estimator = "plain",
) -> pd.DataFrame:
    """Every training example of a run.

    Returns:
        `described`, and premem, accuracy and perplexity at the last checkpoint, NaN where not
        known; accuracies, a list over checkpoints; learned, the first step at which it was right,
        and memorized, the first at which its perplexity was below the threshold (NaN: never, or of
        learned not known); flips, how often it went from right to wrong or back (NaN: not known).

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    accuracy, was_right = run.accuracy, right(run)
    of_scores = (
        curves.premem(run, log_log_threshold, estimator)[-1],
        accuracy[-1],
        np.exp(run.nll[-1]),
        list(accuracy.T),
        _first(was_right == 1, run.steps),
        _first(pre_memorization.memorized(run.nll, log_log_threshold), run.steps),
        np.abs(np.diff(was_right, axis=0)).sum(axis=0),
    )
    return described.assign(**dict(zip(OF_SCORES, of_scores, strict=True)))


def right(run: RunScores) -> Floats:
    """(C, N): 1 where an example counts as right, 0 where not, NaN where it is not known."""
    accuracy = run.accuracy
    return np.where(np.isnan(accuracy), np.nan, accuracy > RIGHT)


def life(run: RunScores, example: int) -> pd.DataFrame:
    """step, accuracy and nll of one example at every checkpoint."""
    at = int(np.searchsorted(run.examples, example))
    return pd.DataFrame({"step": run.steps, "accuracy": run.accuracy[:, at], "nll": run.nll[:, at]})


def unpacked(metadata: pd.Series, taken: Sequence[str]) -> pd.DataFrame:
    """A column per metadata field, of the store's JSON; nested values are left out.

    A field of a name that is taken is called `<name> (metadata)`.
    """
    columns: dict[str, list[Any]] = {}
    for at, text in enumerate(metadata):
        for name, value in (json.loads(text) if isinstance(text, str) and text else {}).items():
            if not isinstance(value, list | dict):
                columns.setdefault(name, [None] * len(metadata))[at] = value
    fields = pd.DataFrame(columns, index=metadata.index)
    for own in taken:
        if own in fields:
            fields = fields.rename(columns={own: free_name(own, fields)})
    return fields


def free_name(field: str, taken: Container[Any]) -> str:
    """What a metadata field is called beside names that are taken."""
    while field in taken:
        field += " (metadata)"
    return field


def metadata(table: pd.DataFrame) -> list[str]:
    """The columns of the table that are metadata fields."""
    return [str(name) for name in table if name not in (*OF_TEXTS, *OF_SCORES)]


def ordered(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The table in one of SORTS, or by a metadata field; what has no such value comes last."""
    values = table[by]
    if by not in SORTS and not pd.api.types.is_numeric_dtype(values):
        values = values.astype(str).where(values.notna())
    keys = pd.DataFrame({"value": values, "premem": table["premem"], "id": table["id"]})
    keys = keys.sort_values(["value", "premem", "id"], kind="stable", na_position="last")
    return table.loc[keys.index]


def copied_first(table: pd.DataFrame) -> pd.Series:
    """Which examples were memorized before, or at, the first checkpoint that had them right."""
    return table["memorized"] <= table["learned"].fillna(np.inf)


def filtered(
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
    """The rows that are as asked for.

    Args:
        words: that question or solution has, in any case and order.
        premem: from, to; (0, 1) also keeps what is not known, as for accuracy.
        memorized: the first step at which an example was memorized, or NEVER; none: any.
        flips: at least.
        grades: that a completion has one of; none: any.
        graded: `Store.grade_totals` of the checkpoint whose completions are meant.
        metadata: per field, the values that it may have; none: any.
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
        at = [NEVER if np.isnan(step) else f"{step:.0f}" for step in table["memorized"]]
        keep &= np.isin(at, list(memorized))
    if grades and graded is not None:
        keep &= graded.reindex(table.index, fill_value=0)[list(grades)].gt(0).any(axis=1)
    for name, values in metadata.items():
        if values:
            keep &= table[name].astype(str).isin(values)
    return table[keep]


def fields(table: pd.DataFrame) -> dict[str, list[str]]:
    """The metadata fields with few enough values to choose among, and those values."""
    own = metadata(table)
    values = {name: sorted(table[name].dropna().astype(str).unique()) for name in own}
    return {name: found for name, found in values.items() if 1 < len(found) <= MOST_VALUES}


@dataclass(frozen=True, slots=True)
class Cells:
    """Examples in columns of neighbours, by checkpoint.

    Attributes:
        steps: (C,).
        accuracy: (C, B) mean; NaN where samples are missing.
        log_log_perplexity: (C, B) mean of log log PPL.
        memorized: (C, B) share of examples.
        members: B arrays of example numbers.
    """

    steps: NDArray[np.int64]
    accuracy: Floats
    log_log_perplexity: Floats
    memorized: Floats
    members: tuple[NDArray[np.int64], ...]


def cells(
    run: RunScores, order: Sequence[int], log_log_threshold: float, columns: int = 240
) -> Cells:
    """A run's examples in at most so many columns.

    Args:
        order: example numbers, as they shall stand.
    """
    place = np.searchsorted(run.examples, np.asarray(order))
    parts = np.array_split(place, min(columns, len(place)))
    with np.errstate(divide="ignore"):
        depth = np.log(run.nll)
    depth = np.where(np.isneginf(depth), -20.0, depth)
    memorized = pre_memorization.memorized(run.nll, log_log_threshold)

    sizes = np.array([len(part) for part in parts])
    starts = np.cumsum(sizes) - sizes

    def means(of: NDArray[Any]) -> Floats:
        return np.add.reduceat(of[:, place].astype(np.float64), starts, axis=1) / sizes

    return Cells(
        steps=run.steps,
        accuracy=means(run.accuracy),
        log_log_perplexity=means(depth),
        memorized=means(memorized),
        members=tuple(run.examples[part] for part in parts),
    )


def _first(holds: NDArray[np.bool_], steps: NDArray[np.int64]) -> Floats:
    """(N,): the first of the steps at which it holds; NaN where it never does."""
    return np.where(holds.any(axis=0), steps[holds.argmax(axis=0)], np.nan)
