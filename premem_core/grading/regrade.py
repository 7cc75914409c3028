"""Regrading: grading the stored completions of a run with another grader.

    store/grades/run=<run>/grader=<grader>/    one shard per shard of completions, with its name

A completion keeps the grade that it got when it was scored; the grades of other graders are stored
beside it. `runs.grader` names the grader whose grades are counted. A grade set by hand
(`hand_grades.py`) replaces the grade of any grader.
"""

import fcntl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import StoreError
from premem_core.files import flock, sweep_unfinished
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
from premem_core.problems.thinking import is_opened
from premem_core.store.database import Store
from premem_core.store.examples import example_of, read_perturbed_examples, read_task_examples
from premem_core.store.grades import make_grades_folder, use_grades
from premem_core.store.scores import commit_inbox
from premem_core.store.shards.committed_shards import withdraw_broken
from premem_core.store.shards.shards import GRADES, ShardName, shard_columns, write_shard

OnProgress = Callable[[int, int], None]  # completions graded so far, and in all


@dataclass(frozen=True, slots=True)
class Regraded:
    """The result of a regrading: how many completions it had to grade, and what it changed."""

    newly_graded: int
    change: Comparison  # of the former grader (A) and the new one (B)


def grade_again(
    store: Store,
    run: str,
    grader: str,
    progress: OnProgress = lambda done, total: None,
    *,
    allow_code: bool = False,
) -> int:
    """Grade the completions of a run that `grader` has not graded yet; return their number.

    Each shard is written to disk before the next one is begun, so that after a call was killed,
    the next one does only the rest. The completions and the run's counts do not change.

    Args:
        allow_code: as in `make_grader`.

    Raises:
        UsageError: there is no such run or grader, or it needs a permission.
        StoreError: the run has no completions.
    """
    graders = checked_grader(store, run, grader)
    if grader == graders.original:
        return 0
    commit_inbox(store)
    withdraw_broken(store, run)
    if not ungraded_shards(store, run, grader):
        return 0  # also if the grader cannot be made any more, as where the user's file changed
    with ExitStack() as open_until_done:
        instance = open_until_done.enter_context(make_grader(grader, allow_code=allow_code))
        folder = make_grades_folder(store, run, grader)
        open_until_done.enter_context(flock(folder / "lock", fcntl.LOCK_EX))
        sweep_unfinished(folder)
        missing = ungraded_shards(store, run, grader)
        total, done = sum(map(count_rows, missing)), 0
        references = cache(
            lambda perturbation: _references(store, graders.task, perturbation, instance)
        )
        for shard in missing:
            progress(done, total)
            table = _graded(shard, instance, references(ShardName.parse(shard.name).perturbation))
            write_shard(folder, shard.name, run, table)
            done += len(table)
        progress(done, total)
    return total


def use_grader(store: Store, run: str, grader: str) -> None:
    """Count the grades of `grader` for a run; using the former grader undoes this.

    Raises:
        UsageError: there is no such run or grader.
        StoreError: the run has no completions, or `grader` has not graded all of them.
        JobError: the run is being scored.
    """
    shards = shards_of(store, checked_grader(store, run, grader), grader)
    with not_being_scored(store, run):
        use_grades(store, run, None if grader == AS_SCORED else grader, shards)


def regrade_run(
    store: Store,
    run: str,
    grader: str,
    progress: OnProgress = lambda done, total: None,
    *,
    allow_code: bool = False,
) -> Regraded:
    """Grade the completions that `grader` has not graded yet, then count its grades.

    Args:
        allow_code: as in `make_grader`.

    Raises:
        UsageError, StoreError, JobError: as `use_grader`.
    """
    before = checked_grader(store, run, grader).in_force
    with not_being_scored(store, run):
        pass  # raises the error now, and not after hours of grading
    newly_graded = grade_again(store, run, grader, progress, allow_code=allow_code)
    use_grader(store, run, grader)
    return Regraded(newly_graded, compare_graders(store, run, before, grader))


def grade_in_process(store: Store, run: str, grader: str, progress: OnProgress) -> None:
    """Run `grade_again` in a separate process.

    A grader's workers import the main module of their process, which must not be a page.

    Raises:
        UsageError: there is no such run or grader, or it needs a permission.
        StoreError: the run has no completions, or grading failed; the message gives the reason.
    """
    total = ungraded(store, checked_grader(store, run, grader), grader)
    make_grader(grader).close()  # the command below has more permissions than a page
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
    """Example's number → the reference that this grader uses, for the perturbed queries."""
    frames = [read_task_examples(store, task, split) for split in ("train", "test")]
    rows = {row["example"]: row for frame in frames for row in frame.to_dict("records")}
    for row in read_perturbed_examples(store, task, perturbation).to_dict("records"):
        rows[row["example"]] = {**rows[row["example"]], **row}
    return {int(number): grader.reference(example_of(row)) for number, row in rows.items()}


def _graded(shard: Path, grader: Grader, references: dict[int, str]) -> pa.Table:
    keys = [name for name in GRADES.names if name not in ("grade", "extracted")]
    # ParquetFile, because read_table would add a column for the folder's name run=….
    traces = ["trace_tokens"] if "trace_tokens" in shard_columns(shard) else []
    table = pq.ParquetFile(shard).read(columns=[*keys, "completion", *traces])
    completions = table["completion"].to_pylist()
    graded = grader.grade(
        completions,
        [references[n] for n in table["example"].to_pylist()],
        opened=is_opened(completions, table["trace_tokens"].to_pylist(), grader.marks)
        if traces
        else False,
    )
    columns = {name: table[name] for name in keys} | {
        "grade": [int(g.grade) for g in graded],
        "extracted": [g.extracted for g in graded],
    }
    return pa.table(columns, schema=GRADES)
