"""A scored run under another grader, without sampling: its grades, its counts, who disagrees.

    store/grades/run=<run>/grader=<name>/    one shard per completions shard, of the same name

A completion keeps the grade that it was scored with; what other graders say lies beside it.
`runs.grader` names whose grades a run's counts are. One set by hand (overrides.py) counts before
any grader's.
"""

import fcntl
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import JobError, StoreError, UsageError
from premem_core.grading import GRADERS, Grader, make_grader
from premem_core.locks import flock
from premem_core.shards import GRADES, write_shard
from premem_core.store import Store
from premem_core.types import Grade

AS_SCORED = "as scored"  # the grader of a run that does not say who graded it

Progress = Callable[[int, int], None]  # completions graded so far, of how many
Kind = tuple[Grade, Grade]  # what the one grader says, and the other


@dataclass(frozen=True)
class Comparison:
    """How two graders grade the same completions; `counts` has a row for each pair of grades.

    Its columns: split, perturbation, grade_one, grade_other (names of `Grade`), completions.
    """

    one: str
    other: str
    counts: pd.DataFrame

    @cached_property
    def completions(self) -> int:
        """How many completions both have graded."""
        return int(self.counts["completions"].sum())

    @cached_property
    def disagreements(self) -> int:
        """How many of them got two different grades."""
        return int(self._differing["completions"].sum())

    @cached_property
    def about_correctness(self) -> int:
        """How many of them only one of the two calls correct: what accuracies can see."""
        differing = self._differing
        correct = (differing[["grade_one", "grade_other"]] == Grade.CORRECT.name).any(axis=1)
        return int(differing["completions"][correct].sum())

    @cached_property
    def share(self) -> float:
        """Disagreements per completion."""
        return self.disagreements / self.completions if self.completions else float("nan")

    @cached_property
    def cross(self) -> pd.DataFrame:
        """Completions by the one's grade (rows) and the other's (columns), of grades that occur."""
        table = self.counts.pivot_table(
            index="grade_one",
            columns="grade_other",
            values="completions",
            aggfunc="sum",
            fill_value=0,
        )
        names = [g.name for g in Grade if g.name in {*table.index, *table.columns}]
        return table.reindex(index=names, columns=names, fill_value=0)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kinds of disagreement that occur, named: "correct, incorrect"."""
        pairs = sorted(
            {(Grade[a], Grade[b]) for a, b in self._differing[["grade_one", "grade_other"]].values}
        )
        return {f"{a.name}, {b.name}".lower(): (a, b) for a, b in pairs}

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """split, perturbation, one, other: the share of correct completions by either grader."""
        counts = self.counts
        parts = {
            name: counts["completions"].where(counts[column] == Grade.CORRECT.name, 0)
            for name, column in (("one", "grade_one"), ("other", "grade_other"))
        }
        summed = counts.assign(**parts).groupby(["split", "perturbation"], sort=False)[
            ["one", "other", "completions"]
        ]
        sums = summed.sum()
        return sums[["one", "other"]].div(sums["completions"], axis=0).reset_index()

    @cached_property
    def _differing(self) -> pd.DataFrame:
        return self.counts[self.counts["grade_one"] != self.counts["grade_other"]]


@dataclass(frozen=True, slots=True)
class Regraded:
    """What a re-grading did: how many completions it had to grade, and what changed by it."""

    newly_graded: int
    change: Comparison  # from the grader that was in force to the one that is


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
    return [run for run in store.runs()["run"] if store.samples_shards(run)]


def read_graders(store: Store, run: str) -> RunGraders:
    """Who graded a run.

    Raises:
        UsageError: there is no such run.
        StoreError: the run has no completions.
    """
    runs = store.runs().set_index("run")
    if run not in runs.index:
        names = ", ".join(f"'{name}'" for name in runs.index) or "none yet"
        raise UsageError(f"the store {store.path} has no run '{run}'; it has: {names}")
    if not store.samples_shards(run):
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
    elif recorded and not store.grade_shards(run, recorded):
        original = recorded
    else:
        original = AS_SCORED
    return RunGraders(run, str(runs["task"][run]), original, recorded or original)


def shards_in_force(store: Store, about: RunGraders) -> list[Path]:
    """The shards whose grades count, but for those set by hand: as scored, or another grader's."""
    return _shards(store, about, about.in_force)


def ungraded(store: Store, about: RunGraders, grader: str) -> int:
    """How many of a run's completions `grader` has not graded yet."""
    return 0 if grader == about.original else sum(map(_rows, _missing(store, about.run, grader)))


def grade(
    store: Store, run: str, grader: str, progress: Progress = lambda done, total: None
) -> int:
    """Grade what `grader` has not graded yet of a run; how many completions that was.

    Each shard is on disk before the next is begun: killed, the next call does the rest. Neither
    the completions nor the run's counts change.

    Raises:
        UsageError, StoreError: as `read_graders` does; UsageError: the grader is unknown.
    """
    about = _checked(store, run, grader)
    if grader == about.original:
        return 0
    store.commit_inbox()
    folder = store.grades_folder(run, grader)
    folder.mkdir(parents=True, exist_ok=True)
    with flock(folder / "lock", fcntl.LOCK_EX), make_grader(grader) as made:
        for part in folder.glob("*.tmp"):
            part.unlink()  # what a killed grading left of a shard
        missing = _missing(store, run, grader)
        total, done = sum(map(_rows, missing)), 0
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
    about = _checked(store, run, grader)
    shards = _shards(store, about, grader)
    with not_being_scored(store, run):
        store.use_grades(run, None if grader == AS_SCORED else grader, shards)


def regrade(
    store: Store, run: str, grader: str, progress: Progress = lambda done, total: None
) -> Regraded:
    """`grade` what is missing, then `use` it.

    Raises:
        UsageError, StoreError, JobError: as these two do.
    """
    before = _checked(store, run, grader).in_force
    with not_being_scored(store, run):
        pass  # known before hours of grading, not after
    newly_graded = grade(store, run, grader, progress)
    use(store, run, grader)
    return Regraded(newly_graded, compare(store, run, before, grader))


def compare(store: Store, run: str, one: str, other: str) -> Comparison:
    """How two graders grade the completions that both of them have graded.

    Raises:
        UsageError, StoreError: as `grade` does; StoreError: one has not graded any.
    """
    about = _checked(store, run, one, other)
    counts = store.grade_counts(_shards(store, about, one), _shards(store, about, other))
    return Comparison(one, other, _named(counts))


def disagreements(
    store: Store,
    run: str,
    one: str,
    other: str,
    kind: Kind | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """DISAGREEMENT_COLUMNS of the store: the completions that two graders grade differently.

    Those that only one of them calls correct come first. The index names a completion within its
    run, such as "315/train//486/4": step, split, perturbation, example and sample.

    Args:
        kind: only those with this pair of grades.
        limit: at most so many.

    Raises:
        UsageError, StoreError: as `compare` does.
    """
    about = _checked(store, run, one, other)
    shards = _shards(store, about, one), _shards(store, about, other)
    rows = store.disagreements(run, *shards, kind=kind, limit=limit)
    parts = zip(
        *(rows[name] for name in ("step", "split", "perturbation", "example", "sample")),
        strict=True,
    )
    return _named(rows).set_index(pd.Index(["/".join(map(str, each)) for each in parts]))


def grade_in_process(store: Store, run: str, grader: str, progress: Progress) -> None:
    """`grade` in a process of its own, for a caller whose main module no worker must import.

    Raises:
        StoreError: it failed, with its reason.
    """
    total = ungraded(store, _checked(store, run, grader), grader)
    command = [sys.executable, "-m", "premem_core", "regrade", "--keep-scores"]
    command += ["--store", str(store.path), "--run", run, "--grader", grader]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        while process.poll() is None:
            progress(total - sum(map(_rows, _missing(store, run, grader))), total)
            time.sleep(0.2)
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise StoreError((lines or ["grading ended without a reason"])[-1])


def _checked(store: Store, run: str, *graders: str) -> RunGraders:
    about = read_graders(store, run)
    for name in graders:
        if name not in about.names:
            make_grader(name)  # says which there are
    return about


def _shards(store: Store, about: RunGraders, grader: str) -> list[Path]:
    """Where the grades of `grader` are: with the completions, or beside them."""
    if grader == about.original:
        return store.samples_shards(about.run)
    shards = store.grade_shards(about.run, grader)
    if not shards:
        raise StoreError(
            f"the run '{about.run}' is not graded by '{grader}' yet; "
            f"run regrade with --grader {grader}"
        )
    return shards


def _missing(store: Store, run: str, grader: str) -> list[Path]:
    there = {file.name for file in store.grade_shards(run, grader)}
    return [file for file in store.samples_shards(run) if file.name not in there]


def _rows(shard: Path) -> int:
    return int(pq.read_metadata(shard).num_rows)


def _references(store: Store, task: str, perturbation: str, grader: Grader) -> dict[int, str]:
    """Example's number → what this grader grades against, of the queries as they were asked."""
    asked = [store.examples(task, split) for split in ("train", "test")]
    asked.append(store.perturbed(task, perturbation))
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


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = {int(grade): grade.name for grade in Grade}
    return frame.assign(
        **{column: frame[column].map(names) for column in ("grade_one", "grade_other")}
    )


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
