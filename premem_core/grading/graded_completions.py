"""Completions of one example, or of one checkpoint, with the grades that count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from premem_core.grading import run_graders
from premem_core.records import Grade
from premem_core.store.completions import read_completions, read_example_completions
from premem_core.store.database import Store
from premem_core.store.grades import other_graders, read_overrides
from premem_core.store.shards.shards import select_shards

CHECKPOINT_COMPLETION_COLUMNS = (
    *("example", "sample", "completion", "extracted", "grade", "by_hand", "tokens", "finished"),
)


def read_graded_completions(
    store: Store,
    run: str,
    split: str,
    example: int,
    perturbation: str = "",
    step: int | None = None,
    grades: Sequence[Path] | None = None,
) -> pd.DataFrame:
    """The completions of one example, by checkpoint and sample.

    Args:
        step: only the completions of this checkpoint.
        grades: `regraded_shards` of the run, if the caller has read them already.

    Returns:
        EXAMPLE_COMPLETION_COLUMNS of the store. `grade` is the grade that counts, in words. Where
        it was set by hand, `override` and the columns after it are filled. There is no row if
        score arrays were imported.
    """
    shards = regraded_shards(store, run) if grades is None else grades
    if step is not None:
        shards = select_shards(shards, step=step)
    rows = read_example_completions(store, run, split, example, perturbation, step, shards)
    return rows.assign(grade=[grade_name(grade) for grade in rows["grade"]])


def read_checkpoint_completions(
    store: Store, run: str, step: int, split: str, perturbation: str = ""
) -> pd.DataFrame:
    """The completions of one checkpoint, by example and sample.

    Returns:
        CHECKPOINT_COMPLETION_COLUMNS. `grade` is the grade that counts, in words; `by_hand` is
        True where a person set it. There is no row if score arrays were imported.
    """
    rows = read_completions(store, run, step, split, perturbation)
    sample = ["example", "sample"]
    regrades = regraded_shards(store, run)
    if shards := select_shards(regrades, step=step, split=split, perturbation=perturbation):
        grades = pd.concat(pq.read_table(shard).to_pandas() for shard in shards)
        of_scorer = rows.drop(columns=["extracted", "grade"])
        rows = of_scorer.merge(grades[[*sample, "extracted", "grade"]], on=sample)
    by_hand = read_overrides(store, run).query(
        "undone.isna() and step == @step and split == @split and perturbation == @perturbation"
    )
    rows = rows.merge(by_hand[[*sample, "grade"]].rename(columns={"grade": "set"}), "left", sample)
    counts = rows["set"].fillna(rows["grade"])
    rows = rows.assign(
        grade=[grade_name(int(grade)) for grade in counts], by_hand=rows["set"].notna()
    )
    return rows.sort_values(sample, ignore_index=True)[list(CHECKPOINT_COMPLETION_COLUMNS)]


def regraded_shards(store: Store, run: str) -> list[Path]:
    """The shards of the grades that count for a run, if they are those of another grader.

    The list is empty if the grades from the scoring job count.
    """
    if not other_graders(store, run):
        return []
    graders = run_graders.read_graders(store, run)
    if graders.in_force == graders.original:
        return []
    return run_graders.shards_in_force(store, graders)


def sampled_steps(counts: pd.DataFrame, example: int, perturbation: str = "") -> list[int]:
    """The steps of the checkpoints at which completions of a training example were sampled.

    Args:
        counts: from `store.scores.read_counts`, of the run.
    """
    is_query = (counts["example"] == example) & (counts["perturbation"] == perturbation)
    sampled = counts[is_query & (counts["split"] == "train") & (counts["samples"] > 0)]
    return sorted(sampled["step"].tolist())


def grade_label(row: Mapping[Any, Any]) -> str:
    """The grade of a row of `read_graded_completions`: "correct" or "incorrect (set by hand)"."""
    return f"{row['grade']}{' (set by hand)' if isinstance(row['reason'], str) else ''}"


def grade_name(grade: int) -> str:
    """The grade in words: "correct", "incorrect", "unparsed" or "timeout"."""
    return Grade(grade).name.lower()
