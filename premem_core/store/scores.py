"""Scores in the store: counts of graded samples and NLLs, committed from shards exactly once."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.metrics.segments import SEGMENT_COLUMNS, segment_nll
from premem_core.records import Grade, Segment
from premem_core.store.database import Store, read_frame
from premem_core.store.schema import Connection
from premem_core.store.shards.broken_shards import find_flaw, set_aside
from premem_core.store.shards.shards import completions_folder, run_of, shard_columns

SCORE_COLUMNS = (
    "run",
    "step",
    "split",
    "example",
    "samples",
    "correct",
    "unparsed",
    "timeout",
    "nll",
    "tokens",
)
GRADE_NAMES = ("correct", "incorrect", "unparsed", "timeout")
LENGTH_COLUMNS = (
    *("run", "step", "split", "samples", "finished", "completion_tokens"),
    *("completion_trace_tokens", "traces", "target_tokens", "trace_tokens"),
)
TARGET_COLUMNS = ("step", "split", "solutions", "nll", "spread", "token_accuracy")
COUNT_COLUMNS = ("step", "split", "perturbation", "example", "samples", "correct", "nll", "tokens")

_GRADE_COUNTS = {
    "samples": "count(*)",
    "correct": f"count(*) FILTER (grade = {Grade.CORRECT:d})",
    "unparsed": f"count(*) FILTER (grade = {Grade.UNPARSED:d})",
    "timeout": f"count(*) FILTER (grade = {Grade.TIMEOUT:d})",
}
COUNTS_OF_GRADES = ", ".join(f"{count} AS {name}" for name, count in _GRADE_COUNTS.items())

# The columns of `scores` that a shard adds to, and what they are in a shard of each kind.
_MEASURES = (
    *("samples", "correct", "unparsed", "timeout", "nll", "tokens", "trace_nll", "trace_tokens"),
    *("finished", "completion_tokens", "completion_trace_tokens", "top_tokens"),
)
_MEASURES_OF_SAMPLES = {
    **_GRADE_COUNTS,
    # NULL where an imported completion does not tell them.
    "finished": "CASE WHEN count(finished) = count(*) THEN count(*) FILTER (finished) END",
    "completion_tokens": "CASE WHEN count(tokens) = count(*) THEN sum(tokens) END",
    "completion_trace_tokens": "sum(trace_tokens)",
}
_MEASURES_OF_TARGETS = {
    **dict.fromkeys(_GRADE_COUNTS, "0"),
    **{name: name for name in ("nll", "tokens", "trace_nll", "trace_tokens", "top_tokens")},
}


def commit_inbox(store: Store) -> int:
    """Commit the shards in the inbox; return their number.

    The transaction that adds a shard's counts also adds its name to the ledger. The file is moved
    after that. If the process is killed in between, the next call finds the name in the ledger and
    only moves the file. A shard that cannot be read is set aside with a warning (`broken_shards`).
    """
    if not any((store.path / "inbox").glob("*.parquet")):
        return 0
    # The files are moved under the same lock, so that a reader of the new version finds them.
    with store.lock(fcntl.LOCK_EX):
        waiting = _whole_shards(store)
        if not waiting:  # broken, or committed by another process before this one got the lock
            return 0
        with store.transaction() as connection:
            rows = connection.execute("SELECT shard FROM shards").fetchall()
            committed = {row[0] for row in rows}
            for file in waiting:
                if file.name not in committed:
                    _commit_shard(connection, file)
        for file in waiting:
            _file_away(store, file)
    return len(waiting)


def _whole_shards(store: Store) -> list[Path]:
    """The shards in the inbox that can be committed; the others are set aside."""
    whole = []
    for file in sorted((store.path / "inbox").glob("*.parquet")):
        if flaw := find_flaw(file.name, file):
            set_aside(store.path, file, flaw)
        else:
            whole.append(file)
    return whole


def _file_away(store: Store, file: Path) -> None:
    with suppress(FileNotFoundError):  # another process was faster
        run = run_of(file)
        folder = completions_folder(store.path, run)
        folder.mkdir(exist_ok=True)
        file.replace(folder / file.name)


def read_committed_shards(store: Store, run: str) -> set[str]:
    """The names of a run's shards in the ledger, whose counts are in the database."""
    with store.reading() as connection:
        rows = connection.execute("SELECT shard FROM shards WHERE run = ?", [run]).fetchall()
    return {row[0] for row in rows}


def read_counts(store: Store, run: str, segment: Segment = "target") -> pd.DataFrame:
    """COUNT_COLUMNS of everything that is committed of a run, also of unfinished checkpoints.

    Args:
        segment: the part of a target whose mean NLL per token is `nll`.
    """
    columns = tuple(dict.fromkeys((*COUNT_COLUMNS, *SEGMENT_COLUMNS)))
    rows = read_frame(
        store, f"SELECT {', '.join(columns)} FROM scores WHERE run = ?", columns, [run]
    )
    return rows.assign(nll=segment_nll({name: rows[name] for name in columns}, segment))[
        list(COUNT_COLUMNS)
    ]


def read_lengths(store: Store, task: str) -> pd.DataFrame:
    """LENGTH_COLUMNS, a row per scored checkpoint and split of a task, without perturbed queries.

    `samples` is the number of completions whose length is known, `finished` the share of them that
    ended before the limit; `completion_tokens` is their mean length, of which
    `completion_trace_tokens` are the thinking trace's. `traces` is the number of targets with a
    trace; `target_tokens` and `trace_tokens` are the mean lengths of the targets.
    """
    return read_frame(
        store,
        """SELECT run, step, split,
            sum(scores.samples) FILTER (finished IS NOT NULL) AS samples,
            sum(finished) / nullif(sum(scores.samples) FILTER (finished IS NOT NULL), 0)
                AS finished,
            sum(completion_tokens)
                / nullif(sum(scores.samples) FILTER (completion_tokens IS NOT NULL), 0)
                AS completion_tokens,
            sum(completion_trace_tokens)
                / nullif(sum(scores.samples) FILTER (completion_trace_tokens IS NOT NULL), 0)
                AS completion_trace_tokens,
            count(*) FILTER (trace_tokens > 0) AS traces,
            avg(tokens) AS target_tokens, avg(trace_tokens) AS trace_tokens
        FROM scores JOIN runs USING (run) JOIN checkpoints USING (run, step)
        WHERE task = ? AND perturbation = '' AND state = 'scored'
        GROUP BY run, step, split ORDER BY run, step, split""",
        LENGTH_COLUMNS,
        [task],
    )


def read_target_means(store: Store, run: str) -> pd.DataFrame:
    """TARGET_COLUMNS, a row per scored checkpoint and split of a run with known NLLs.

    `nll` is the mean of the solutions' NLLs, and `spread` their standard deviation.
    `token_accuracy` is the share of all their tokens that are of rank 0; NaN where not counted.
    """
    return read_frame(
        store,
        """SELECT step, split, count(nll) AS solutions, avg(nll) AS nll, stddev_samp(nll) AS spread,
            sum(top_tokens) / nullif(sum(tokens) FILTER (top_tokens IS NOT NULL), 0)
                AS token_accuracy
        FROM scores JOIN checkpoints USING (run, step)
        WHERE run = ? AND perturbation = '' AND state = 'scored'
        GROUP BY step, split HAVING count(nll) > 0 ORDER BY step, split DESC""",
        TARGET_COLUMNS,
        [run],
    )


def read_grade_totals(store: Store, run: str, step: int) -> pd.DataFrame:
    """The numbers of completions by grade for each training example at a checkpoint.

    The columns are GRADE_NAMES, the index is the example's number. Perturbed queries are left out.
    """
    return read_frame(
        store,
        """SELECT example, correct, samples - correct - unparsed - timeout AS incorrect,
            unparsed, timeout
        FROM scores WHERE run = ? AND step = ? AND split = 'train' AND perturbation = ''""",
        ("example", *GRADE_NAMES),
        [run, step],
    ).set_index("example")


def read_scores(store: Store, task: str, perturbation: str = "") -> pd.DataFrame:
    """SCORE_COLUMNS of the scored checkpoints of a task's runs, in training order."""
    return read_frame(
        store,
        """SELECT run, step, split, example, scores.samples, correct, unparsed, timeout, nll,
            tokens
        FROM scores JOIN runs USING (run) JOIN checkpoints USING (run, step)
        WHERE task = ? AND perturbation = ? AND state = 'scored'
        ORDER BY run, split, step, example""",
        SCORE_COLUMNS,
        [task, perturbation],
    )


def read_checkpoint_scores(
    store: Store, task: str, segment: Segment = "target"
) -> Iterator[tuple[str, int, dict[str, NDArray[Any]]]]:
    """Yield the scored checkpoints of a task's runs, one at a time, in training order.

    Of a run with imported completions, a training example without an NLL is left out: the run's job
    does not score it, and it would count as not memorized.

    Args:
        segment: the part of a target whose mean NLL per token is `nll`.

    Yields:
        Run, step, and arrays with one entry per example, without perturbed queries: example,
        samples, correct, nll (NaN where unknown) and split (0 train, 1 test, 2 unseen: neither, as
        held-back training rows). Test and unseen examples come only where they have samples or an
        NLL. They are in the order of the splits, and within each of the examples' numbers.
    """
    columns = SEGMENT_COLUMNS if segment != "target" else SEGMENT_COLUMNS[:1]
    measured = ", ".join(f"coalesce({name}::DOUBLE, 'nan') AS {name}" for name in columns)
    with store.reading() as connection:
        checkpoints = connection.execute(
            """SELECT run, step FROM checkpoints JOIN runs USING (run)
            WHERE task = ? AND state = 'scored' ORDER BY run, step""",
            [task],
        ).fetchall()
        for run, step in checkpoints:
            rows = connection.execute(
                f"""SELECT example, samples, correct, {measured},
                    list_position(['train', 'test', 'unseen'], split) - 1 AS split
                FROM scores WHERE run = ? AND step = ? AND perturbation = ''
                    AND (split = 'train' OR samples > 0 OR nll IS NOT NULL)
                    AND (split <> 'train' OR nll IS NOT NULL
                        OR run NOT IN (SELECT run FROM imports))
                ORDER BY split, example""",
                [run, step],
            ).fetchnumpy()
            arrays = {name: np.asarray(values) for name, values in rows.items()}
            yield run, step, arrays | {"nll": segment_nll(arrays, segment)}


def read_target_tokens(store: Store, runs: Sequence[str]) -> pd.Series:
    """The number of target tokens of the training examples of these runs, by example number.

    The largest number where the runs' tokenizers differ; NaN where it is unknown.
    """
    of_runs = []
    with store.reading() as connection:
        for run in runs:
            rows = connection.execute(
                """SELECT example, coalesce(tokens::FLOAT, 'nan'::FLOAT) AS tokens FROM scores
                WHERE run = $run AND split = 'train' AND perturbation = ''
                    AND step = (SELECT min(step) FROM scores JOIN checkpoints USING (run, step)
                        WHERE run = $run)""",
                {"run": run},
            ).fetchnumpy()
            of_runs.append(pd.Series(rows["tokens"], rows["example"]))
    return of_runs[0] if len(of_runs) == 1 else pd.concat(of_runs, axis=1).max(axis=1)


def _commit_shard(connection: Connection, file: Path) -> None:
    connection.execute("INSERT INTO shards VALUES (?, ?)", [file.name, run_of(file)])
    add_counts(connection, file)


def add_counts(connection: Connection, file: Path) -> None:
    """Add what a shard holds to the scores or continuations, in the caller's transaction."""
    there = shard_columns(file)
    if "known" in there:
        connection.execute(
            """INSERT OR REPLACE INTO continuations SELECT run, step, split, example, known
            FROM read_parquet(?, hive_partitioning = false)""",
            [str(file)],
        )
        return
    measured = _MEASURES_OF_TARGETS if "nll" in there else _MEASURES_OF_SAMPLES
    measures = {name: measured.get(name, "NULL") for name in _MEASURES}
    if "trace_tokens" not in there:  # a shard of an earlier version
        measures |= {name: "NULL" for name in _MEASURES if "trace" in name}
    if "top_tokens" not in there:  # likewise, or one of samples
        measures["top_tokens"] = "NULL"
    selected = ", ".join(f"{measure} AS {name}" for name, measure in measures.items())
    grouped = "" if "nll" in there else "GROUP BY ALL"
    connection.execute(
        f"""MERGE INTO scores USING (
            SELECT run, step, split, perturbation, example, {selected}
            FROM read_parquet(?, hive_partitioning = false) {grouped}) AS incoming
        USING (run, step, split, perturbation, example)
        WHEN MATCHED THEN UPDATE SET samples = scores.samples + incoming.samples,
            correct = scores.correct + incoming.correct,
            unparsed = scores.unparsed + incoming.unparsed,
            timeout = scores.timeout + incoming.timeout,
            nll = coalesce(incoming.nll, scores.nll),
            tokens = coalesce(incoming.tokens, scores.tokens),
            trace_nll = coalesce(incoming.trace_nll, scores.trace_nll),
            trace_tokens = coalesce(incoming.trace_tokens, scores.trace_tokens),
            top_tokens = coalesce(incoming.top_tokens, scores.top_tokens),
            {_added("finished")}, {_added("completion_tokens")},
            completion_trace_tokens = coalesce(
                scores.completion_trace_tokens + incoming.completion_trace_tokens,
                scores.completion_trace_tokens, incoming.completion_trace_tokens)
        WHEN NOT MATCHED THEN INSERT BY NAME""",
        [str(file)],
    )


def _added(length: str) -> str:
    """SQL that adds up a length of completions; it is unknown if that of any completion is."""
    return (
        f"{length} = CASE WHEN scores.samples = 0 THEN incoming.{length} "
        f"WHEN incoming.samples = 0 THEN scores.{length} "
        f"ELSE scores.{length} + incoming.{length} END"
    )
