"""Reading completions from the store's Parquet shards."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from premem_core.records import Grade
from premem_core.store.database import Store, connect
from premem_core.store.shards.broken_shards import readable
from premem_core.store.shards.shards import (
    SAMPLES,
    completions_folder,
    find_shards,
    select_shards,
    shard_columns,
)

EXAMPLE_COMPLETION_COLUMNS = (
    *("step", "sample", "completion", "extracted", "grade", "finished", "trace_tokens"),
    *("override", "replaced", "grader", "reason", "who", "made"),
)
AGREEMENT_COLUMNS = ("step", "example", "agreement")
ANSWER_COLUMNS = ("step", "example", "answer", "votes", "correct")
OVERRIDES_IN_FORCE = "(SELECT * FROM overrides WHERE undone IS NULL)"


def read_completions(
    store: Store, run: str, step: int, split: str, perturbation: str = ""
) -> pd.DataFrame:
    """The completions of one checkpoint: the columns of `shards.SAMPLES`, by example and sample.

    The grades are those from the scoring job.
    """
    folder = completions_folder(store.path, run)
    files = readable(
        find_shards(folder, step=step, split=split, perturbation=perturbation, kind="samples")
    )
    if not files:
        return SAMPLES.empty_table().to_pandas()
    with connect() as connection:
        # Shards of earlier versions lack some columns.
        rows = connection.execute(
            """SELECT * FROM read_parquet(?, hive_partitioning = false, union_by_name = true)
            ORDER BY example, sample""",
            [list(map(str, files))],
        ).df()
    return rows.reindex(columns=SAMPLES.names)


def read_example_completions(
    store: Store,
    run: str,
    split: str,
    example: int,
    perturbation: str = "",
    step: int | None = None,
    grades: Sequence[Path] = (),
) -> pd.DataFrame:
    """The completions of one example: EXAMPLE_COMPLETION_COLUMNS, by step and sample.

    `trace_tokens` is 0 where there is no thinking trace, or it was not counted. A grade that was
    set by hand replaces the grader's; the columns from `override` on are about it.

    Args:
        step: only completions of this checkpoint; None for all checkpoints.
        grades: `grade_shards` of another grader, to return its grades.
    """
    found = find_shards(
        completions_folder(store.path, run),
        step=step,
        split=split,
        perturbation=perturbation,
        kind="samples",
    )
    files = readable(found)
    if not files:
        return pd.DataFrame(columns=list(EXAMPLE_COMPLETION_COLUMNS))
    regraded = """JOIN (SELECT step, split, perturbation, example, sample, grade AS new_grade,
            extracted AS new_extracted FROM read_parquet($grades, hive_partitioning = false)
            WHERE example = $example)
        USING (step, split, perturbation, example, sample)"""
    traces = "coalesce(trace_tokens, 0)" if "trace_tokens" in shard_columns(files[-1]) else "0"
    grade, extracted = ("new_grade", "new_extracted") if grades else ("s.grade", "extracted")
    parameters = {"names": list(map(str, files)), "example": example, "run": run}
    with store.reading() as connection:
        rows = connection.execute(
            f"""SELECT step, sample, completion, finished, {extracted} AS extracted,
                coalesce(o.grade, {grade}) AS grade, {traces} AS trace_tokens, override, replaced,
                grader, reason, who, made
            FROM (SELECT * FROM read_parquet(
                    $names, hive_partitioning = false, union_by_name = true)
                WHERE example = $example) AS s {regraded if grades else ""}
            LEFT JOIN (SELECT * FROM {OVERRIDES_IN_FORCE} WHERE run = $run) AS o
                USING (step, split, perturbation, example, sample)
            ORDER BY step, sample""",
            parameters | ({"grades": list(map(str, grades))} if grades else {}),
        ).df()
    return rows[list(EXAMPLE_COMPLETION_COLUMNS)]


def read_agreement(store: Store, run: str, split: str, step: int | None = None) -> pd.DataFrame:
    """AGREEMENT_COLUMNS: the share of an example's samples that gave its most common answer.

    The share is 0 where no sample gave an answer. Perturbed queries are left out.

    Args:
        step: only this checkpoint.
    """
    found = find_shards(
        completions_folder(store.path, run), step=step, split=split, perturbation="", kind="samples"
    )
    files = readable(found)
    if not files:
        return pd.DataFrame(columns=list(AGREEMENT_COLUMNS), dtype=float)
    with connect() as connection:
        return connection.execute(
            """SELECT step, example,
                coalesce(max(votes) FILTER (extracted IS NOT NULL), 0) / sum(votes) AS agreement
            FROM (SELECT step, example, extracted, count(*) AS votes
                FROM read_parquet(?, hive_partitioning = false) GROUP BY ALL)
            GROUP BY ALL ORDER BY ALL""",
            [list(map(str, files))],
        ).df()


def read_answer_votes(
    store: Store, run: str, shards: Sequence[Path], split: str = "train"
) -> pd.DataFrame:
    """ANSWER_COLUMNS: for each answer to a question, its samples and its correct samples.

    `answer` is the extracted text, or None for samples without an answer. Perturbed queries are
    left out.

    Args:
        shards: shards of the run with the grades that count, without those set by hand, which
            replace them here.
    """
    files = readable(select_shards(shards, split=split, perturbation=""))
    if not files:
        return pd.DataFrame(columns=list(ANSWER_COLUMNS))
    with store.reading() as connection:
        return connection.execute(
            f"""SELECT step, example, extracted AS answer, count(*) AS votes,
                count(*) FILTER (coalesce(o.grade, s.grade) = {Grade.CORRECT:d}) AS correct
            FROM read_parquet($names, hive_partitioning = false) AS s
            LEFT JOIN (SELECT * FROM {OVERRIDES_IN_FORCE} WHERE run = $run) AS o
                USING (step, split, perturbation, example, sample)
            GROUP BY ALL ORDER BY ALL""",
            {"names": list(map(str, files)), "run": run},
        ).df()[list(ANSWER_COLUMNS)]


def samples_shards(store: Store, run: str) -> list[Path]:
    """The committed shards that hold a run's completions."""
    return find_shards(completions_folder(store.path, run), kind="samples")
