"""Completions in the store, read from Parquet shards in place."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from premem_core.records import Grade
from premem_core.store.database import Store, connect
from premem_core.store.shards import SAMPLES, completions_folder

EXAMPLE_COMPLETION_COLUMNS = (
    *("step", "sample", "completion", "extracted", "grade", "finished"),
    *("override", "replaced", "grader", "reason", "who", "made"),
)
AGREEMENT_COLUMNS = ("step", "example", "agreement")
ANSWER_COLUMNS = ("step", "example", "answer", "votes", "correct")
OVERRIDES_IN_FORCE = "(SELECT * FROM overrides WHERE undone IS NULL)"


def read_completions(
    store: Store, run: str, step: int, split: str, perturbation: str = ""
) -> pd.DataFrame:
    """SAMPLES' columns of one checkpoint, read from the Parquet shards in place."""
    folder = completions_folder(store.path, run)
    files = sorted(map(str, folder.glob(f"{step:08d}.{split}.{perturbation}.samples.*")))
    if not files:
        return SAMPLES.empty_table().to_pandas()
    with connect() as connection:
        return connection.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = false) ORDER BY example, sample",
            [files],
        ).df()


def read_example_completions(
    store: Store,
    run: str,
    split: str,
    example: int,
    perturbation: str = "",
    step: int | None = None,
    grades: Sequence[Path] = (),
) -> pd.DataFrame:
    """EXAMPLE_COMPLETION_COLUMNS of one example, by step and sample.

    Args:
        step: at this checkpoint; None: at all.
        grades: `grade_shards` of another grader, whose grades are given instead.
    """
    at = "*" if step is None else f"{step:08d}"
    files = completions_folder(store.path, run).glob(f"{at}.{split}.{perturbation}.samples.*")
    if not (names := sorted(map(str, files))):
        return pd.DataFrame(columns=list(EXAMPLE_COMPLETION_COLUMNS))
    regraded = """JOIN (SELECT step, split, perturbation, example, sample, grade AS new_grade,
            extracted AS new_extracted FROM read_parquet($grades, hive_partitioning = false)
            WHERE example = $example)
        USING (step, split, perturbation, example, sample)"""
    grade, extracted = ("new_grade", "new_extracted") if grades else ("s.grade", "extracted")
    parameters = {"names": names, "example": example, "run": run}
    with store.reading() as connection:
        rows = connection.execute(
            f"""SELECT step, sample, completion, finished, {extracted} AS extracted,
                coalesce(o.grade, {grade}) AS grade, override, replaced, grader, reason, who,
                made
            FROM (SELECT * FROM read_parquet($names, hive_partitioning = false)
                WHERE example = $example) AS s {regraded if grades else ""}
            LEFT JOIN (SELECT * FROM {OVERRIDES_IN_FORCE} WHERE run = $run) AS o
                USING (step, split, perturbation, example, sample)
            ORDER BY step, sample""",
            parameters | ({"grades": list(map(str, grades))} if grades else {}),
        ).df()
    return rows[list(EXAMPLE_COMPLETION_COLUMNS)]


def read_agreement(store: Store, run: str, split: str, step: int | None = None) -> pd.DataFrame:
    """AGREEMENT_COLUMNS: the share of an example's samples that gave its most common answer.

    0 where no sample gave any; perturbed queries do not count.

    Args:
        step: of this checkpoint only.
    """
    at = "*" if step is None else f"{step:08d}"
    files = completions_folder(store.path, run).glob(f"{at}.{split}..samples.*")
    if not (names := sorted(map(str, files))):
        return pd.DataFrame(columns=list(AGREEMENT_COLUMNS), dtype=float)
    with connect() as connection:
        return connection.execute(
            """SELECT step, example,
                coalesce(max(votes) FILTER (extracted IS NOT NULL), 0) / sum(votes) AS agreement
            FROM (SELECT step, example, extracted, count(*) AS votes
                FROM read_parquet(?, hive_partitioning = false) GROUP BY ALL)
            GROUP BY ALL ORDER BY ALL""",
            [names],
        ).df()


def read_answer_votes(store: Store, run: str, shards: Sequence[Path]) -> pd.DataFrame:
    """ANSWER_COLUMNS: how many samples of a training query gave an answer, and were right.

    An answer is as it was extracted, None where none was found. Perturbed queries do not count.

    Args:
        shards: of the run's completions, or of their grades, whose grades count but for those
            set by hand.
    """
    if not (names := [str(file) for file in shards if ".train.." in file.name]):
        return pd.DataFrame(columns=list(ANSWER_COLUMNS))
    with store.reading() as connection:
        return connection.execute(
            f"""SELECT step, example, extracted AS answer, count(*) AS votes,
                count(*) FILTER (coalesce(o.grade, s.grade) = {Grade.CORRECT:d}) AS correct
            FROM read_parquet($names, hive_partitioning = false) AS s
            LEFT JOIN (SELECT * FROM {OVERRIDES_IN_FORCE} WHERE run = $run) AS o
                USING (step, split, perturbation, example, sample)
            GROUP BY ALL ORDER BY ALL""",
            {"names": names, "run": run},
        ).df()[list(ANSWER_COLUMNS)]


def samples_shards(store: Store, run: str) -> list[Path]:
    """The committed shards of a run's completions."""
    files = completions_folder(store.path, run).glob("*.parquet")
    return sorted_by_name(file for file in files if file.name.split(".")[3] == "samples")


def sorted_by_name(files: Iterable[Path]) -> list[Path]:
    """Those of one folder in order; paths themselves take longer to compare."""
    return sorted(files, key=lambda file: file.name)
