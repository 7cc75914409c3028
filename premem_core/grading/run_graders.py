"""Who has graded a scored run, and whose grades count."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading.graders import GRADERS, make_grader
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.grades import grade_shards
from premem_core.store.runs import read_runs

AS_SCORED = "as scored"  # the grader of a run that does not say who graded it


@dataclass(frozen=True, slots=True)
class RunGraders:
    """Of one run with completions: its task, who graded it when it was scored, who counts now."""

    run: str
    task: str
    original: str
    in_force: str

    @property
    def names(self) -> list[str]:
        """Whose grades the run can have: the original grader's, then the others'."""
        return list(dict.fromkeys([self.original, *GRADERS]))


def regradable_runs(store: Store) -> list[str]:
    """The runs that have completions to grade, in the order of `Store.runs`."""
    return [run for run in read_runs(store)["run"] if samples_shards(store, run)]


def read_graders(store: Store, run: str) -> RunGraders:
    """Who graded a run.

    Raises:
        UsageError: there is no such run.
        StoreError: the run has no completions.
    """
    runs = read_runs(store).set_index("run")
    if run not in runs.index:
        names = ", ".join(f"'{name}'" for name in runs.index) or "none yet"
        raise UsageError(f"the store {store.path} has no run '{run}'; it has: {names}")
    if not samples_shards(store, run):
        raise StoreError(
            f"the run '{run}' has no completions in {store.path} (its scores were imported, or "
            "nothing is sampled yet); only a run that was scored here can be graded again"
        )
    recorded, scored_by = (
        None if pd.isna(runs[name][run]) else str(runs[name][run])
        for name in ("grader", "scored_by")
    )
    job = store.job_folder(run) / "job.json"
    if job.exists():
        original = str(json.loads(job.read_text())["grader"])
    elif scored_by:
        original = scored_by
    elif recorded and not grade_shards(store, run, recorded):
        original = recorded
    else:
        original = AS_SCORED
    return RunGraders(run, str(runs["task"][run]), original, recorded or original)


def shards_in_force(store: Store, about: RunGraders) -> list[Path]:
    """The shards whose grades count, but for those set by hand: as scored, or another grader's."""
    return shards_of(store, about, about.in_force)


def ungraded(store: Store, about: RunGraders, grader: str) -> int:
    """How many of a run's completions `grader` has not graded yet."""
    return (
        0
        if grader == about.original
        else sum(map(count_rows, ungraded_shards(store, about.run, grader)))
    )


def checked_grader(store: Store, run: str, *graders: str) -> RunGraders:
    about = read_graders(store, run)
    for name in graders:
        if name not in about.names:
            make_grader(name)  # says which there are
    return about


def shards_of(store: Store, about: RunGraders, grader: str) -> list[Path]:
    """Where the grades of `grader` are: with the completions, or beside them."""
    if grader == about.original:
        return samples_shards(store, about.run)
    shards = grade_shards(store, about.run, grader)
    if not shards:
        raise StoreError(
            f"the run '{about.run}' is not graded by '{grader}' yet; "
            f"run regrade with --grader {grader}"
        )
    return shards


def ungraded_shards(store: Store, run: str, grader: str) -> list[Path]:
    there = {file.name for file in grade_shards(store, run, grader)}
    return [file for file in samples_shards(store, run) if file.name not in there]


def count_rows(shard: Path) -> int:
    return int(pq.read_metadata(shard).num_rows)


@contextmanager
def not_being_scored(store: Store, run: str) -> Iterator[None]:
    """Hold the lock of the run's job, if it has one: none can start meanwhile.

    Who else changes grades of the store is waited for.

    Raises:
        JobError: it is being scored.
    """
    folder = store.job_folder(run)
    try:
        with ExitStack() as locks:
            locks.enter_context(flock(store.path / "grades.lock", fcntl.LOCK_EX))
            if folder.exists():
                locks.enter_context(flock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
            yield
    except BlockingIOError as error:
        raise JobError(
            f"the run '{run}' is being scored; wait for its job to end, or cancel it, and try again"
        ) from error
