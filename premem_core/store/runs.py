"""Runs, their checkpoints and their base models in the store."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from premem_core.errors import StoreError
from premem_core.records import BASE_STEP, Checkpoint, Example, RunRecord
from premem_core.store.database import Store, read_frame
from premem_core.store.examples import examples_frame, insert_examples
from premem_core.store.schema import Connection

RUN_COLUMNS = (
    "run",
    "task",
    "source",
    "learning_rate",
    "epochs",
    "batch_size",
    "train_examples",
    "grader",
    "scored_by",
    "checkpoints",
    "scored",
    "failed",
    "created",
)
CHECKPOINT_COLUMNS = ("run", "step", "epoch", "learning_rate", "path", "state", "reason", "samples")


def add_run(
    store: Store,
    record: RunRecord,
    checkpoints: Sequence[Checkpoint],
    train: Sequence[Example],
    test: Sequence[Example],
) -> list[int]:
    """Add a run that will be scored; return the store's numbers of the `train` and `test` examples.

    If the store has the run already, new checkpoints are added and scored ones stay.

    Raises:
        StoreError: an example is in the store with another text; nothing was added.
    """
    with store.writing() as connection:
        numbers = [
            number
            for split, examples in (("train", train), ("test", test))
            for number in insert_examples(connection, examples_frame(record.task, split, examples))
        ]
        # Waiting checkpoints may be left from a job that was killed, and need not be in this job.
        # One that has scores waits for the perplexities of imported completions.
        connection.execute(
            """DELETE FROM checkpoints WHERE run = $run AND state = 'waiting'
                AND step NOT IN (SELECT step FROM scores WHERE run = $run)""",
            {"run": record.run},
        )
        _add_run(connection, record)
        for checkpoint in checkpoints:
            path = store.relative(checkpoint.path)
            _add_checkpoint(connection, record.run, checkpoint, path, "waiting")
        return numbers


def add_imported_run(
    store: Store, record: RunRecord, steps: Sequence[int], split: str, examples: Sequence[Example]
) -> list[int]:
    """Add a run whose completions are imported, or checkpoints to a run that is in the store.

    A run that is there stays as it is, and so do its checkpoints; new ones wait.

    Args:
        examples: of the split; the store's numbers of these are returned.

    Raises:
        StoreError: an example is in the store with another text; nothing was added.
    """
    with store.writing() as connection:
        numbers = insert_examples(connection, examples_frame(record.task, split, examples))
        known = connection.execute("SELECT 1 FROM runs WHERE run = ?", [record.run]).fetchone()
        if not known:
            _add_run(connection, record)
        for step in steps:
            _add_checkpoint(connection, record.run, Checkpoint(Path(), step), None, "waiting")
        return numbers


def set_checkpoint_state(
    store: Store,
    run: str,
    step: int,
    state: str,
    reason: str | None = None,
    *,
    samples: int | None = None,
) -> None:
    """Set the state of a checkpoint.

    Args:
        state: "waiting", "scored" or "failed".
        reason: why it failed.
        samples: the number of samples per example; None leaves the stored number unchanged.
    """
    with store.writing() as connection:
        connection.execute(
            """UPDATE checkpoints SET state = ?, reason = ?, samples = coalesce(?, samples)
            WHERE run = ? AND step = ?""",
            [state, reason, samples, run, step],
        )


def add_scored_runs(
    store: Store,
    runs: Sequence[tuple[RunRecord, Sequence[Checkpoint], pd.DataFrame]],
    examples: Sequence[tuple[str, str, Sequence[Example]]],
) -> None:
    """Import finished runs in one transaction.

    Args:
        runs: for each run its record, its checkpoints, and a frame with the columns step, split,
            perturbation, id, samples, correct, unparsed, nll and tokens, where `id` is the id of
            an example of the task. Of the split `unseen` are training examples of the task that the
            run was not trained on.
        examples: task, split and examples, which must include all that the frames name.

    Raises:
        StoreError: an example is in the store with another text; nothing was added.
    """
    with store.writing() as connection:
        for task, split, members in examples:
            insert_examples(connection, examples_frame(task, split, members))
        for record, checkpoints, frame in runs:
            _add_run(connection, record)
            for checkpoint in checkpoints:
                _add_checkpoint(connection, record.run, checkpoint, None, "scored")
            connection.register("frame", frame)
            connection.execute(
                """INSERT INTO scores (run, step, split, perturbation, example, samples, correct,
                    unparsed, timeout, nll, tokens)
                SELECT ?, step, frame.split, perturbation, example, samples, correct, unparsed, 0,
                    nll, tokens
                FROM frame JOIN examples ON examples.id = frame.id
                    AND examples.split = if(frame.split = 'unseen', 'train', frame.split)
                WHERE task = ?""",
                [record.run, record.task],
            )
            connection.unregister("frame")


def read_runs(store: Store) -> pd.DataFrame:
    """RUN_COLUMNS, one row per run, by task and learning rate.

    `checkpoints`, `scored` and `failed` are numbers of checkpoints.
    """
    return read_frame(
        store,
        """SELECT runs.*, count(step)::INTEGER AS checkpoints,
            count(*) FILTER (state = 'scored')::INTEGER AS scored,
            count(*) FILTER (state = 'failed')::INTEGER AS failed
        FROM runs LEFT JOIN checkpoints USING (run)
        GROUP BY ALL ORDER BY task, runs.learning_rate, run""",
        RUN_COLUMNS,
    )


def read_checkpoints(store: Store, run: str) -> pd.DataFrame:
    """CHECKPOINT_COLUMNS of one run, in training order."""
    return read_frame(
        store, "SELECT * FROM checkpoints WHERE run = ? ORDER BY step", CHECKPOINT_COLUMNS, [run]
    )


def add_base(store: Store, run: str, path: Path) -> None:
    """Add the base model of a run that will be scored.

    Raises:
        StoreError: the run has scores of another base model; nothing was added.
    """
    given = store.relative(path)
    with store.writing() as connection:
        row = connection.execute(
            """SELECT path FROM bases WHERE run = $run AND path <> $given
                AND EXISTS (FROM scores WHERE run = $run AND step = $step)""",
            {"run": run, "given": given, "step": BASE_STEP},
        ).fetchone()
        if row:
            raise StoreError(
                f"the base model of the run '{run}' is {row[0]}, and {path} was given; give the "
                "first one again (--base), or choose another name with --run"
            )
        connection.execute(
            """INSERT INTO bases (run, path) VALUES (?, ?)
            ON CONFLICT DO UPDATE SET path = excluded.path""",
            [run, given],
        )


def set_base_scored(store: Store, run: str) -> None:
    """Note that the base model of a run is scored to the end."""
    with store.writing() as connection:
        connection.execute("UPDATE bases SET scored = true WHERE run = ?", [run])


def read_scored_base(store: Store, run: str) -> str | None:
    """The folder of a run's base model; None unless it is scored to the end."""
    with store.reading() as connection:
        row = connection.execute(
            "SELECT path FROM bases WHERE run = ? AND scored", [run]
        ).fetchone()
    return row[0] if row else None


def read_tasks(store: Store) -> list[str]:
    """The names of the tasks that have a run."""
    with store.reading() as connection:
        rows = connection.execute("SELECT DISTINCT task FROM runs ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def read_task_checkpoints(store: Store, task: str) -> pd.DataFrame:
    """CHECKPOINT_COLUMNS of the scored checkpoints of a task's runs."""
    return read_frame(
        store,
        """SELECT checkpoints.* FROM checkpoints JOIN runs USING (run)
        WHERE task = ? AND state = 'scored' ORDER BY run, step""",
        CHECKPOINT_COLUMNS,
        [task],
    )


def _add_run(connection: Connection, record: RunRecord) -> None:
    connection.execute(
        """INSERT INTO runs (run, task, source, learning_rate, epochs, batch_size,
            train_examples, grader, scored_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET task = excluded.task, source = excluded.source,
            learning_rate = excluded.learning_rate, epochs = excluded.epochs,
            batch_size = excluded.batch_size, train_examples = excluded.train_examples,
            grader = coalesce(runs.grader, excluded.grader),
            scored_by = coalesce(runs.scored_by, excluded.scored_by)""",
        [
            record.run,
            record.task,
            record.source,
            record.learning_rate,
            record.epochs,
            record.batch_size,
            record.train_examples,
            record.grader,
            record.grader,
        ],
    )


def _add_checkpoint(
    connection: Connection, run: str, checkpoint: Checkpoint, path: str | None, state: str
) -> None:
    connection.execute(
        """INSERT INTO checkpoints (run, step, epoch, learning_rate, path, state)
            VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET epoch = coalesce(checkpoints.epoch, excluded.epoch),
            learning_rate = coalesce(checkpoints.learning_rate, excluded.learning_rate),
            path = coalesce(checkpoints.path, excluded.path)""",
        [
            run,
            checkpoint.step,
            checkpoint.epoch,
            checkpoint.learning_rate,
            path,
            state,
        ],
    )
