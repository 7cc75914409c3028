"""A scored run under another grader, without sampling: its grades, its counts, who disagrees.

    store/grades/run=<run>/grader=<name>/    one shard per completions shard, of the same name

A completion keeps the grade that it was scored with; what other graders say lies beside it.
`runs.grader` names whose grades a run's counts are. One set by hand (overrides.py) counts before
any grader's.
"""

import fcntl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import StoreError
from premem_core.files import flock
from premem_core.grading.grader import Grader
from premem_core.grading.grader_comparison import Comparison, compare_graders
from premem_core.grading.graders import make_grader
from premem_core.grading.run_graders import (
    AS_SCORED,
    checked_grader,
    count_rows,
    not_being_scored,
    shards_of,
    ungraded,
    ungraded_shards,
)
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples, read_task_examples
from premem_core.store.grades import grades_folder, use_grades
from premem_core.store.scores import commit_inbox
from premem_core.store.shards import GRADES, write_shard

Progress = Callable[[int, int], None]  # completions graded so far, of how many


@dataclass(frozen=True, slots=True)
class Regraded:
    """What a re-grading did: how many completions it had to grade, and what changed by it."""

    newly_graded: int
    change: Comparison  # from the grader that was in force to the one that is


def grade_again(
    store: Store, run: str, grader: str, progress: Progress = lambda done, total: None
) -> int:
    """Grade what `grader` has not graded yet of a run; how many completions that was.

    Each shard is on disk before the next is begun: killed, the next call does the rest. Neither
    the completions nor the run's counts change.

    Raises:
        UsageError, StoreError: as `read_graders` does; UsageError: the grader is unknown.
    """
    about = checked_grader(store, run, grader)
    if grader == about.original:
        return 0
    commit_inbox(store)
    folder = grades_folder(store, run, grader)
    folder.mkdir(parents=True, exist_ok=True)
    with flock(folder / "lock", fcntl.LOCK_EX), make_grader(grader) as made:
        for part in folder.glob("*.tmp"):
            part.unlink()  # what a killed grading left of a shard
        missing = ungraded_shards(store, run, grader)
        total, done = sum(map(count_rows, missing)), 0
        references = cache(lambda perturbation: _references(store, about.task, perturbation, made))
        for shard in missing:
            progress(done, total)
            table = _graded(shard, made, references(shard.name.split(".")[2]))
            write_shard(folder, shard.name, run, table)
            done += len(table)
        progress(done, total)
    return total


def use(store: Store, run: str, grader: str) -> None:
    """Make the run's counts those of `grader`; undone by using the former one.

    Raises:
        UsageError, StoreError: as `grade` does; StoreError: `grader` has not graded all.
        JobError: the run is being scored.
    """
    about = checked_grader(store, run, grader)
    shards = shards_of(store, about, grader)
    with not_being_scored(store, run):
        use_grades(store, run, None if grader == AS_SCORED else grader, shards)


def regrade_run(
    store: Store, run: str, grader: str, progress: Progress = lambda done, total: None
) -> Regraded:
    """`grade` what is missing, then `use` it.

    Raises:
        UsageError, StoreError, JobError: as these two do.
    """
    before = checked_grader(store, run, grader).in_force
    with not_being_scored(store, run):
        pass  # known before hours of grading, not after
    newly_graded = grade_again(store, run, grader, progress)
    use(store, run, grader)
    return Regraded(newly_graded, compare_graders(store, run, before, grader))


def grade_in_process(store: Store, run: str, grader: str, progress: Progress) -> None:
    """`grade` in a process of its own, for a caller whose main module no worker must import.

    Raises:
        StoreError: it failed, with its reason.
    """
    total = ungraded(store, checked_grader(store, run, grader), grader)
    command = [sys.executable, "-m", "premem_core", "regrade", "--keep-scores"]
    command += ["--store", str(store.path), "--run", run, "--grader", grader]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        while process.poll() is None:
            progress(total - sum(map(count_rows, ungraded_shards(store, run, grader))), total)
            time.sleep(0.2)
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise StoreError((lines or ["grading ended without a reason"])[-1])


def _references(store: Store, task: str, perturbation: str, grader: Grader) -> dict[int, str]:
    """Example's number → what this grader grades against, of the queries as they were asked."""
    asked = [read_task_examples(store, task, split) for split in ("train", "test")]
    asked.append(read_perturbed_examples(store, task, perturbation))
    return {
        int(number): text
        for examples in asked
        for number, text in zip(examples["example"], examples[grader.grades_against], strict=True)
    }


def _graded(shard: Path, grader: Grader, references: dict[int, str]) -> pa.Table:
    keys = [name for name in GRADES.names if name not in ("grade", "extracted")]
    # Of the file alone: a folder named run=… is not another column.
    table = pq.ParquetFile(shard).read(columns=[*keys, "completion"])
    graded = grader.grade(
        table["completion"].to_pylist(), [references[n] for n in table["example"].to_pylist()]
    )
    columns = {name: table[name] for name in keys} | {
        "grade": [int(g.grade) for g in graded],
        "extracted": [g.extracted for g in graded],
    }
    return pa.table(columns, schema=GRADES)
