"""The graders of a scored run: which have graded it, and which grader's grades count."""

import fcntl
import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from premem_core.errors import JobError, StoreError, UsageError
from premem_core.files import flock
from premem_core.grading.graders import GRADERS, check_grader
from premem_core.store.completions import samples_shards
from premem_core.store.database import Store
from premem_core.store.grades import grade_shards, other_graders
from premem_core.store.job_folder import JobFolder
from premem_core.store.runs import read_runs
from premem_core.store.shards.broken_shards import CUT, is_cut

AS_SCORED = "as scored"  # stands for the original grader where the store does not name it


@dataclass(frozen=True, slots=True)
class RunGraders:
    """The graders of a run that has completions.

    Attributes:
        original: the grader that the scoring job used.
        in_force: the grader whose grades count now.
        others: the graders that have graded it since.
    """

    run: str
    task: str
    original: str
    in_force: str
    others: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All graders that have graded the run or can grade it, the original one first."""
        return list(dict.fromkeys([self.original, self.in_force, *self.others, *GRADERS]))


def regradable_runs(store: Store) -> list[str]:
    """The runs that have completions to grade, in the order of `store.runs.read_runs`."""
    return [run for run in read_runs(store)["run"] if samples_shards(store, run)]


def read_graders(store: Store, run: str) -> RunGraders:
    """The graders of a run.

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
            f"the run '{run}' has no completions in {store.path}, because it was imported or "
            "nothing is sampled yet; only a run that was scored here can be graded again"
        )
    recorded, scored_by = (
        None if pd.isna(runs[name][run]) else str(runs[name][run])
        for name in ("grader", "scored_by")
    )
    job = JobFolder.of(store, run)
    if job.holds_job:
        original = str(json.loads(job.description.read_text())["grader"])
    elif scored_by:
        original = scored_by
    elif recorded and not grade_shards(store, run, recorded):
        original = recorded
    else:
        original = AS_SCORED
    others = tuple(other_graders(store, run))
    return RunGraders(run, str(runs["task"][run]), original, recorded or original, others)


def shards_in_force(store: Store, graders: RunGraders) -> list[Path]:
    """The shards that hold the grades which count, without those that were set by hand."""
    return shards_of(store, graders, graders.in_force)


def ungraded(store: Store, graders: RunGraders, grader: str) -> int:
    """The number of a run's completions that `grader` has not graded yet."""
    return (
        0
        if grader == graders.original
        else sum(map(count_rows, ungraded_shards(store, graders.run, grader)))
    )


def checked_grader(store: Store, run: str, *graders: str) -> RunGraders:
    """`read_graders`, after a check that these graders exist.

    Raises:
        UsageError: there is no such run or grader.
        StoreError: the run has no completions.
    """
    run_graders = read_graders(store, run)
    for name in graders:
        if name not in run_graders.names:
            check_grader(name)  # raises an error that names the graders
    return run_graders


def shards_of(store: Store, graders: RunGraders, grader: str) -> list[Path]:
    """The shards that hold the grades of `grader`.

    The original grades are in the shards of the completions, other graders' in separate ones.

    Raises:
        StoreError: `grader` has not graded the run, or a file with its grades was cut.
    """
    if grader == graders.original:
        return samples_shards(store, graders.run)
    shards = grade_shards(store, graders.run, grader)
    if not shards:
        raise StoreError(
            f"the run '{graders.run}' is not graded by '{grader}' yet; "
            f"run regrade with --grader {shlex.quote(grader)}"
        )
    if cut := next(filter(is_cut, shards), None):
        raise StoreError(
            f"{cut}, with grades by '{grader}', cannot be read, because {CUT}; run regrade with "
            f"--grader {shlex.quote(grader)}, which grades their completions again"
        )
    return shards


def ungraded_shards(store: Store, run: str, grader: str) -> list[Path]:
    """The shards of a run's completions that `grader` has no whole file of grades for."""
    graded = {file.name for file in grade_shards(store, run, grader) if not is_cut(file)}
    return [file for file in samples_shards(store, run) if file.name not in graded]


def count_rows(shard: Path) -> int:
    """The number of rows of a shard."""
    return int(pq.read_metadata(shard).num_rows)


@contextmanager
def not_being_scored(store: Store, run: str) -> Iterator[None]:
    """Hold the lock of the run's job, if it has one, so that the job cannot start meanwhile.

    First waits until no other process changes grades in the store.

    Raises:
        JobError: the run is being scored.
    """
    job = JobFolder.of(store, run)
    try:
        with ExitStack() as locks:
            locks.enter_context(flock(store.path / "grades.lock", fcntl.LOCK_EX))
            if job.path.exists():
                locks.enter_context(flock(job.lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
            yield
    except BlockingIOError as error:
        raise JobError(
            f"the run '{run}' is being scored; wait for its job to end, or cancel it, and try again"
        ) from error
