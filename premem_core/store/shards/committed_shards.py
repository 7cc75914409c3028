"""Committed shards that broke later: they are set aside, and their counts are taken back."""

import fcntl
import warnings
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from premem_core.errors import PrememWarning
from premem_core.records import BASE_STEP
from premem_core.store.database import Store, read_frame
from premem_core.store.grades import grade_shards, grades_folder, recount
from premem_core.store.schema import Connection
from premem_core.store.scores import add_counts
from premem_core.store.shards.broken_shards import CUT, FOLDER, is_cut, set_aside
from premem_core.store.shards.shards import ShardName, completions_folder, find_shards

GAP_COLUMNS = ("step", "split", "perturbation", "example", "gap")


def withdraw_broken(store: Store, run: str) -> int:
    """Set aside the committed shards of a run that were cut; return their number.

    Their counts are taken back, and the checkpoints wait again until the run's job is resumed. The
    grades that other graders gave to their completions are set aside too.

    Raises:
        StoreError: the database cannot be written; nothing was changed.
    """
    folder = completions_folder(store.path, run)
    if not any(map(is_cut, find_shards(folder))):
        return 0
    with store.lock(fcntl.LOCK_EX):
        broken = [file for file in find_shards(folder) if is_cut(file)]
        with store.transaction() as connection:
            _take_back(store, connection, run, {file.name for file in broken})
        for file in broken:
            set_aside(store.path, file, CUT)
            _set_grades_aside(store, run, file.name)
    return len(broken)


def read_gaps(store: Store, run: str) -> pd.DataFrame:
    """GAP_COLUMNS: how many numbers below its highest no sample of a pair has, where there are any.

    A shard that was set aside leaves such a gap where a later one has further samples of a pair.
    """
    shards = find_shards(completions_folder(store.path, run), kind="samples")
    if not shards or not (store.path / FOLDER).exists():
        return pd.DataFrame(columns=list(GAP_COLUMNS))
    return read_frame(
        store,
        """SELECT step, split, perturbation, example, max(sample) + 1 - count(*) AS gap
        FROM read_parquet(?, hive_partitioning = false)
        GROUP BY ALL HAVING gap > 0""",
        GAP_COLUMNS,
        [[str(file) for file in shards]],
    )


def _take_back(store: Store, connection: Connection, run: str, broken: Collection[str]) -> None:
    """Count the parts of the run that the broken shards belong to from their other shards."""
    connection.execute(
        "DELETE FROM shards WHERE run = ? AND list_contains(?, shard)", [run, list(broken)]
    )
    names = map(ShardName.parse, broken)
    for step, split, perturbation in {(n.step, n.split, n.perturbation) for n in names}:
        connection.execute(
            """DELETE FROM scores
            WHERE run = ? AND step = ? AND split = ? AND perturbation = ?""",
            [run, step, split, perturbation],
        )
        if not perturbation:  # the shards of continuations, which are counted again, have none
            connection.execute(
                "DELETE FROM continuations WHERE run = ? AND step = ? AND split = ?",
                [run, step, split],
            )
        connection.execute(
            "UPDATE checkpoints SET state = 'waiting' WHERE run = ? AND step = ?", [run, step]
        )
        if step == BASE_STEP:
            connection.execute("UPDATE bases SET scored = false WHERE run = ?", [run])
        part = find_shards(
            completions_folder(store.path, run), step=step, split=split, perturbation=perturbation
        )
        for file in part:
            if file.name not in broken:
                add_counts(connection, file)
    _count_grades(store, connection, run, broken)


def _count_grades(store: Store, connection: Connection, run: str, broken: Collection[str]) -> None:
    """Count the grades that are in force: another grader's, and those that were set by hand."""
    row = connection.execute("SELECT grader FROM runs WHERE run = ?", [run]).fetchone()
    grader = row[0] if row else None
    shards = (grade_shards(store, run, grader) if grader else []) or find_shards(
        completions_folder(store.path, run), kind="samples"
    )
    left = [file for file in shards if file.name not in broken]
    if cut := next(filter(is_cut, left), None):
        warnings.warn(
            f"{cut}, with grades by '{grader}', cannot be read, because {CUT}; run regrade "
            "with this grader, which grades their completions again and counts them",
            PrememWarning,
            stacklevel=2,
        )
    elif left:
        recount(connection, run, left)


def _set_grades_aside(store: Store, run: str, name: str) -> None:
    """Another grader's grades of completions that are gone would not fit those drawn again."""
    for file in grades_folder(store, run, "any").parent.glob(f"grader=*/{name}"):
        folder = store.path / FOLDER / file.relative_to(store.path).parent
        folder.mkdir(parents=True, exist_ok=True)
        file.replace(folder / Path(name))
