"""One example's completions with the grades that count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from premem_core.grading import run_graders
from premem_core.records import Grade
from premem_core.store.completions import read_example_completions
from premem_core.store.database import Store
from premem_core.store.grades import other_graders


def read_graded_completions(
    store: Store,
    run: str,
    split: str,
    example: int,
    perturbation: str = "",
    step: int | None = None,
    grades: Sequence[Path] | None = None,
) -> pd.DataFrame:
    """EXAMPLE_COMPLETION_COLUMNS of the store, grades in words; by checkpoint and sample.

    `grade` is the one that counts. Where it was set by hand, `override` and what follows say so.
    Without a row where the run's scores were imported.

    Args:
        grades: `regraded` of the run, where it is known.
    """
    found = regraded(store, run) if grades is None else grades
    if step is not None:
        found = [shard for shard in found if shard.name.startswith(f"{step:08d}.")]
    rows = read_example_completions(store, run, split, example, perturbation, step, found)
    return rows.assign(grade=[in_words(grade) for grade in rows["grade"]])


def regraded(store: Store, run: str) -> list[Path]:
    """The shards of another grader whose grades count for a run; none where its scorer's do."""
    if not other_graders(store, run):
        return []
    graders = run_graders.read_graders(store, run)
    if graders.in_force == graders.original:
        return []
    return run_graders.shards_in_force(store, graders)


def sampled_steps(counts: pd.DataFrame, example: int, perturbation: str = "") -> list[int]:
    """At which checkpoints completions of a training example were drawn.

    Args:
        counts: `Store.counts` of the run.
    """
    of = (counts["example"] == example) & (counts["perturbation"] == perturbation)
    drawn = counts[of & (counts["split"] == "train") & (counts["samples"] > 0)]
    return sorted(drawn["step"].tolist())


def graded(row: Mapping[Any, Any]) -> str:
    """A row's grade in words: 'correct', or 'incorrect (set by hand)'."""
    return f"{row['grade']}{' (set by hand)' if isinstance(row['reason'], str) else ''}"


def in_words(grade: int) -> str:
    """'correct', 'incorrect', 'unparsed' or 'timeout'."""
    return Grade(grade).name.lower()
