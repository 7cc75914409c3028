"""Grades in the store: grades of other graders, grades set by hand, and which grades count."""

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

import pandas as pd

from premem_core.errors import StoreError
from premem_core.records import Grade, SampleKey
from premem_core.store.completions import OVERRIDES_IN_FORCE, samples_shards
from premem_core.store.database import Store, connect, read_frame
from premem_core.store.schema import Connection
from premem_core.store.scores import COUNTS_OF_GRADES
from premem_core.store.shards.broken_shards import readable
from premem_core.store.shards.shards import completions_folder, find_shards, select_shards

GRADER_FILE = "grader.txt"  # in a folder of grades: whose they are
LONGEST_NAME = 150  # characters of a grader in the name of a folder

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
    """Count the grades of another grader for a run.

    Args:
        grader: its name; None for the grades from the scoring job.
        shards: its grades.

    Raises:
        StoreError: the shards do not have a grade for every completion; nothing was changed.
    """
    with store.writing() as connection:
        recount(connection, run, shards)
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
    """Set a grade by hand; one that was set before for the same completion is undone.

    Args:
        who: the person who set the grade.
        grader: the grader whose grades count for the run.
        shards: all shards of the run with the grades of `grader`.

    Raises:
        StoreError: there is no such completion; nothing was changed.
    """
    with store.writing() as connection:
        replaced = (files := _shards_of(shards, key)) and connection.execute(
            """SELECT grade FROM read_parquet($shards, hive_partitioning = false)
            WHERE step = $step AND split = $split AND perturbation = $perturbation
                AND example = $example AND sample = $sample""",
            {"shards": files, **asdict(key)},
        ).fetchone()
        if not replaced:
            raise StoreError(
                f"the run '{run}' has no completion {key.sample + 1} of that example at step "
                f"{key.step}; choose a completion that was sampled"
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
        recount(connection, run, shards, key)


def undo_override(store: Store, run: str, override: int, shards: Sequence[Path]) -> None:
    """Undo a grade set by hand, so that the grader's grade counts; its record is kept.

    Args:
        override: its number.
        shards: as for `override_grade`.

    Raises:
        StoreError: no grade with this number is in force; nothing was changed.
    """
    with store.writing() as connection:
        row = connection.execute(
            """UPDATE overrides SET undone = current_timestamp::TIMESTAMP
            WHERE run = ? AND override = ? AND undone IS NULL
            RETURNING step, split, perturbation, example, sample""",
            [run, override],
        ).fetchone()
        if not row:
            raise StoreError(
                f"no grade {override} set by hand is in force for '{run}'; the overrides command "
                "lists them"
            )
        recount(connection, run, shards, SampleKey(*row))


def read_overrides(store: Store, run: str) -> pd.DataFrame:
    """OVERRIDE_COLUMNS of a run's grades set by hand, also of those undone; the last ones first."""
    return read_frame(
        store,
        """SELECT overrides.*, id FROM overrides JOIN examples USING (example)
        WHERE run = ? ORDER BY override DESC""",
        OVERRIDE_COLUMNS,
        [run],
    )


def grades_folder(store: Store, run: str, grader: str) -> Path:
    """The folder with another grader's grades of a run, which is created with the first grades."""
    folder = completions_folder(store.path, run).name
    return store.path / "grades" / folder / f"grader={_folder_name(grader)}"


def make_grades_folder(store: Store, run: str, grader: str) -> Path:
    """Create `grades_folder`, which says in a file whose grades are in it."""
    folder = grades_folder(store, run, grader)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRADER_FILE).write_text(grader, "utf-8")
    return folder


def _folder_name(grader: str) -> str:
    """A grader's text as the name of a folder; in full where it is short."""
    name = quote(grader, safe="")
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME].rpartition('%')[0]}~{sha256(grader.encode()).hexdigest()[:16]}"


def other_graders(store: Store, run: str) -> list[str]:
    """The names of the graders that have graded completions of a run after it was scored."""
    folders = grades_folder(store, run, "any").parent.glob("grader=*")
    return sorted(map(_grader_of, folders))


def _grader_of(folder: Path) -> str:
    try:
        return (folder / GRADER_FILE).read_text("utf-8")
    except FileNotFoundError:  # in an older store
        return unquote(folder.name.removeprefix("grader="))


def grade_shards(store: Store, run: str, grader: str) -> list[Path]:
    """The shards with another grader's grades; their names are those of the completions' shards."""
    return find_shards(grades_folder(store, run, grader))


def read_grade_counts(
    store: Store, shards_a: Sequence[Path], shards_b: Sequence[Path]
) -> pd.DataFrame:
    """The numbers of completions by the grades of two graders, A and B.

    Args:
        shards_a: shards with the grades of A. Completions that B has not graded are left out.
        shards_b: shards with the grades of B.

    Returns:
        Columns split, perturbation, grade_one (of A), grade_other (of B) and completions.
    """
    with connect() as connection:
        return connection.execute(
            f"""SELECT split, perturbation, grade_one, grade_other, count(*) AS completions
            FROM ({_GRADED_TWICE}) GROUP BY ALL ORDER BY ALL""",
            {"one": list(map(str, shards_a)), "other": list(map(str, shards_b))},
        ).df()


def read_disagreements(
    store: Store,
    run: str,
    shards_a: Sequence[Path],
    shards_b: Sequence[Path],
    *,
    kind: tuple[Grade, Grade] | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """DISAGREEMENT_COLUMNS of the completions that graders A and B grade differently.

    Completions that only one of them calls correct come first.

    Args:
        shards_a, shards_b: as for `read_grade_counts`.
        kind: only completions with this pair of grades.
        limit: the most rows to return.
    """
    completions = list(map(str, readable(samples_shards(store, run))))
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
                "one": list(map(str, shards_a)),
                "other": list(map(str, shards_b)),
                "completions": completions,
                "limit": limit,
            },
        ).df()[list(DISAGREEMENT_COLUMNS)]


def _shards_of(shards: Sequence[Path], key: SampleKey) -> list[str]:
    """The shards of the completion's checkpoint, split and perturbation."""
    selected = select_shards(
        shards, step=key.step, split=key.split, perturbation=key.perturbation, kind="samples"
    )
    return list(map(str, selected))


def recount(
    connection: Connection, run: str, shards: Sequence[Path], key: SampleKey | None = None
) -> None:
    """Count the grades in the shards and those set by hand, of a run or of the example in `key`."""
    in_key = "AND step = $step AND split = $split AND perturbation = $perturbation"
    of_example = f"{in_key} AND example = $example" if key else ""
    where = {"run": run} | ({k: v for k, v in asdict(key).items() if k != "sample"} if key else {})
    counts = connection.execute(
        f"""SELECT step, split, perturbation, example, {COUNTS_OF_GRADES}
        FROM (SELECT step, split, perturbation, example, sample,
                coalesce(o.grade, graded.grade) AS grade
            FROM read_parquet($shards, hive_partitioning = false) AS graded
            LEFT JOIN {OVERRIDES_IN_FORCE} AS o
                USING (run, step, split, perturbation, example, sample)
            WHERE run = $run {of_example})
        GROUP BY ALL""",
        {"shards": _shards_of(shards, key) if key else list(map(str, shards)), **where},
    ).df()
    connection.register("recount", counts)
    uncovered = connection.execute(
        f"""SELECT count(*) FROM recount FULL JOIN
            (SELECT * FROM scores WHERE run = $run AND samples > 0 {of_example}) AS counted
            USING (step, split, perturbation, example)
        WHERE counted.samples IS DISTINCT FROM recount.samples""",
        where,
    ).fetchone()
    if uncovered != (0,):
        raise StoreError(
            f"some completions of the run '{run}' have no grade by this grader yet; run regrade "
            "again, which grades them"
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
