"""Grades in the store: other graders' grades, grades set by hand, and whose grades count."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from premem_core.errors import StoreError
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import OVERRIDES_IN_FORCE, samples_shards, sorted_by_name
from premem_core.store.database import Store, connect, read_frame
from premem_core.store.schema import Connection
from premem_core.store.scores import COUNTS_OF_GRADES
from premem_core.store.shards import completions_folder

DISAGREEMENT_COLUMNS = (
    "step",
    "split",
    "perturbation",
    "example",
    "id",
    "sample",
    "question",
    "solution",
    "answer",
    "completion",
    "extracted_one",
    "grade_one",
    "extracted_other",
    "grade_other",
)
OVERRIDE_COLUMNS = (
    *("override", "step", "split", "perturbation", "example", "id", "sample"),
    *("replaced", "grader", "grade", "reason", "who", "made", "undone"),
)
_GRADED_TWICE = """SELECT step, split, perturbation, example, sample,
        one.grade AS grade_one, one.extracted AS extracted_one,
        other.grade AS grade_other, other.extracted AS extracted_other
    FROM read_parquet($one, hive_partitioning = false) AS one
    JOIN read_parquet($other, hive_partitioning = false) AS other
        USING (step, split, perturbation, example, sample)"""


def use_grades(store: Store, run: str, grader: str | None, shards: Sequence[Path]) -> None:
    """Recount the completions of `run` by the grades in `shards`, which are those of `grader`.

    Raises:
        StoreError: these are not the grades of every completion that is counted; nothing
            was changed.
    """
    with store.writing() as connection:
        _recount(connection, run, shards)
        connection.execute("UPDATE runs SET grader = ? WHERE run = ?", [grader, run])


def override_grade(
    store: Store,
    run: str,
    key: SampleKey,
    grade: Grade,
    reason: str,
    who: str,
    grader: str,
    shards: Sequence[Path],
) -> None:
    """Count a completion as `grade`; a former override of it is undone.

    Args:
        shards: of the whole run, those whose grades count, which are those of `grader`.

    Raises:
        StoreError: there is no such completion; nothing was changed.
    """
    with store.writing() as connection:
        replaced = (sheet := _shards_of(shards, key)) and connection.execute(
            """SELECT grade FROM read_parquet($shards, hive_partitioning = false)
            WHERE step = $step AND split = $split AND perturbation = $perturbation
                AND example = $example AND sample = $sample""",
            {"shards": sheet, **asdict(key)},
        ).fetchone()
        if not replaced:
            raise StoreError(
                f"the run '{run}' has no completion {key.sample + 1} of that example at step "
                f"{key.step}; choose one that was drawn"
            )
        values = {"run": run, **asdict(key)}
        connection.execute(
            """UPDATE overrides SET undone = current_timestamp::TIMESTAMP
            WHERE run = $run AND step = $step AND split = $split AND example = $example
                AND perturbation = $perturbation AND sample = $sample AND undone IS NULL""",
            values,
        )
        connection.execute(
            """INSERT INTO overrides BY NAME SELECT $run AS run, $step AS step,
                $split AS split, $perturbation AS perturbation, $example AS example,
                $sample AS sample, $grade AS grade, $replaced AS replaced, $grader AS grader,
                $reason AS reason, $who AS who""",
            values
            | {"grade": int(grade), "replaced": int(replaced[0]), "grader": grader}
            | {"reason": reason, "who": who},
        )
        _recount(connection, run, shards, key)


def undo_override(store: Store, run: str, override: int, shards: Sequence[Path]) -> None:
    """Let the grader's grade count again; what was set, and why, is kept.

    Args:
        shards: as for `override_grade`.

    Raises:
        StoreError: no such override is in force; nothing was changed.
    """
    with store.writing() as connection:
        row = connection.execute(
            """UPDATE overrides SET undone = current_timestamp::TIMESTAMP
            WHERE run = ? AND override = ? AND undone IS NULL
            RETURNING step, split, perturbation, example, sample""",
            [run, override],
        ).fetchone()
        if not row:
            raise StoreError(f"no grade {override} set by hand is in force for '{run}'")
        _recount(connection, run, shards, SampleKey(*row))


def read_overrides(store: Store, run: str) -> pd.DataFrame:
    """OVERRIDE_COLUMNS of the grades set by hand, undone ones included; the last first."""
    return read_frame(
        store,
        """SELECT overrides.*, id FROM overrides JOIN examples USING (example)
        WHERE run = ? ORDER BY override DESC""",
        OVERRIDE_COLUMNS,
        [run],
    )


def grades_folder(store: Store, run: str, grader: str) -> Path:
    """Where another grader's grades of a run's completions lie; made by who writes them."""
    folder = completions_folder(store.path, run).name
    return store.path / "grades" / folder / f"grader={grader}"


def other_graders(store: Store, run: str) -> list[str]:
    """Who else has graded completions of a run, by name."""
    folders = grades_folder(store, run, "any").parent.glob("grader=*")
    return sorted(folder.name.removeprefix("grader=") for folder in folders)


def grade_shards(store: Store, run: str, grader: str) -> list[Path]:
    """What is there of them: shards named as those of the completions."""
    return sorted_by_name(grades_folder(store, run, grader).glob("*.parquet"))


def read_grade_counts(store: Store, one: Sequence[Path], other: Sequence[Path]) -> pd.DataFrame:
    """split, perturbation, grade_one, grade_other, completions: pairs of grades, counted.

    Args:
        one: shards of completions or of grades; those that both hold are compared.
        other: likewise, of another grader.
    """
    with connect() as connection:
        return connection.execute(
            f"""SELECT split, perturbation, grade_one, grade_other, count(*) AS completions
            FROM ({_GRADED_TWICE}) GROUP BY ALL ORDER BY ALL""",
            {"one": list(map(str, one)), "other": list(map(str, other))},
        ).df()


def read_disagreements(
    store: Store,
    run: str,
    one: Sequence[Path],
    other: Sequence[Path],
    *,
    kind: tuple[Grade, Grade] | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """DISAGREEMENT_COLUMNS of the completions with two different grades, in an order of use:

    first those that one grader calls correct and the other does not.

    Args:
        one: as for `grade_counts`.
        other: likewise.
        kind: only those with this pair of grades.
        limit: at most so many.
    """
    completions = list(map(str, samples_shards(store, run)))
    kinds = f"AND grade_one = {kind[0]:d} AND grade_other = {kind[1]:d}" if kind else ""
    correct = f"(grade_one = {Grade.CORRECT:d}) = (grade_other = {Grade.CORRECT:d})"
    order = f"{correct}, split DESC, step, example, sample"
    with store.reading() as connection:
        return connection.execute(
            f"""WITH differing AS (
                FROM ({_GRADED_TWICE}) WHERE grade_one <> grade_other {kinds}
                ORDER BY {order} LIMIT $limit)
            SELECT {", ".join(DISAGREEMENT_COLUMNS)} FROM (SELECT differing.*, id, completion,
                coalesce(perturbed.question, examples.question) AS question,
                coalesce(perturbed.solution, examples.solution) AS solution,
                coalesce(perturbed.answer, examples.answer) AS answer
            FROM differing
            JOIN (SELECT step, split, perturbation, example, sample, completion
                FROM read_parquet($completions, hive_partitioning = false))
                USING (step, split, perturbation, example, sample)
            JOIN examples USING (example)
            LEFT JOIN perturbed USING (perturbation, example))
            ORDER BY {order}""",
            {
                "one": list(map(str, one)),
                "other": list(map(str, other)),
                "completions": completions,
                "limit": limit,
            },
        ).df()[list(DISAGREEMENT_COLUMNS)]


def _shards_of(shards: Sequence[Path], key: SampleKey) -> list[str]:
    """Those of the completion's checkpoint, split and perturbation."""
    start = f"{key.step:08d}.{key.split}.{key.perturbation}.samples."
    return [str(shard) for shard in shards if shard.name.startswith(start)]


def _recount(
    connection: Connection, run: str, shards: Sequence[Path], key: SampleKey | None = None
) -> None:
    """Count the grades in the shards, and those set by hand, of a run or of one of its examples."""
    one = "AND step = $step AND split = $split AND perturbation = $perturbation"
    one = f"{one} AND example = $example" if key else ""
    where = {"run": run} | ({k: v for k, v in asdict(key).items() if k != "sample"} if key else {})
    recount = connection.execute(
        f"""SELECT step, split, perturbation, example, {COUNTS_OF_GRADES}
        FROM (SELECT step, split, perturbation, example, sample,
                coalesce(o.grade, graded.grade) AS grade
            FROM read_parquet($shards, hive_partitioning = false) AS graded
            LEFT JOIN {OVERRIDES_IN_FORCE} AS o
                USING (run, step, split, perturbation, example, sample)
            WHERE run = $run {one})
        GROUP BY ALL""",
        {"shards": _shards_of(shards, key) if key else list(map(str, shards)), **where},
    ).df()
    connection.register("recount", recount)
    uncovered = connection.execute(
        f"""SELECT count(*) FROM recount FULL JOIN
            (SELECT * FROM scores WHERE run = $run AND samples > 0 {one}) AS counted
            USING (step, split, perturbation, example)
        WHERE counted.samples IS DISTINCT FROM recount.samples""",
        where,
    ).fetchone()
    if uncovered != (0,):
        raise StoreError(
            f"not every completion of the run '{run}' has the grade that was asked for; run "
            "regrade again, which grades what is missing"
        )
    connection.execute(
        """UPDATE scores SET correct = recount.correct, unparsed = recount.unparsed,
            timeout = recount.timeout
        FROM recount WHERE scores.run = ? AND scores.step = recount.step
            AND scores.split = recount.split AND scores.example = recount.example
            AND scores.perturbation = recount.perturbation""",
        [run],
    )
    connection.unregister("recount")
