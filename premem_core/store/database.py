"""The store: one folder that holds everything; the only SQL, with schema.py (DESIGN: "The store").

    premem.duckdb          runs, checkpoints, examples, scores, baselines, perturbed examples,
                            grades set by hand, shard ledger, version
    premem.lock            reader/writer lock around every open–query–close of the database
    inbox/*.parquet        finished shards waiting to be committed
    completions/run=…/     committed shards, completions included, read in place

Any number of processes may read. Workers never open the database: they write shards into the
inbox, and whoever next writes commits what waits there, exactly once.
"""

import fcntl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.errors import StoreError
from premem_core.files import flock
from premem_core.records import Checkpoint, Example, Grade, RunRecord, SampleKey
from premem_core.store.schema import MIGRATIONS, Connection, migrate, read_meta
from premem_core.store.shards import SAMPLES, completions_folder, has_targets, run_of

# What a full disk makes of a statement, a commit, and what is asked of the connection after it.
WRITE_ERRORS = (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException)
# What DuckDB makes of whatever a signal raises while a statement runs: Ctrl-C, or a job cancelled.
INTERRUPTED = "Query interrupted"


COARSEST_CLOCK = 2.0  # seconds between two times of a file, on the worst of file systems
EXAMPLE_COLUMNS = ("example", "id", "question", "solution", "answer", "metadata")
SIZE_COLUMNS = ("example", "id", "metadata", "lines", "words")
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
GRADE_NAMES = ("correct", "incorrect", "unparsed", "timeout")
COUNT_COLUMNS = ("step", "split", "perturbation", "example", "samples", "correct", "nll")
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
EXAMPLE_COMPLETION_COLUMNS = (
    *("step", "sample", "completion", "extracted", "grade", "finished"),
    *("override", "replaced", "grader", "reason", "who", "made"),
)
OVERRIDE_COLUMNS = (
    *("override", "step", "split", "perturbation", "example", "id", "sample"),
    *("replaced", "grader", "grade", "reason", "who", "made", "undone"),
)
PERTURBED_COLUMNS = ("perturbation", "example", "question", "solution", "answer")
BASELINE_COLUMNS = ("run", "step", "name", "value", "settings")
AGREEMENT_COLUMNS = ("step", "example", "agreement")
ANSWER_COLUMNS = ("step", "example", "answer", "votes", "correct")
CHECKPOINT_COLUMNS = ("run", "step", "epoch", "learning_rate", "path", "state", "reason", "samples")

_COUNTS = f"""count(*) AS samples,
    count(*) FILTER (grade = {Grade.CORRECT:d}) AS correct,
    count(*) FILTER (grade = {Grade.UNPARSED:d}) AS unparsed,
    count(*) FILTER (grade = {Grade.TIMEOUT:d}) AS timeout"""
_IN_FORCE = "(SELECT * FROM overrides WHERE undone IS NULL)"
_GRADED_TWICE = """SELECT step, split, perturbation, example, sample,
        one.grade AS grade_one, one.extracted AS extracted_one,
        other.grade AS grade_other, other.extracted AS extracted_other
    FROM read_parquet($one, hive_partitioning = false) AS one
    JOIN read_parquet($other, hive_partitioning = false) AS other
        USING (step, split, perturbation, example, sample)"""


class Store:
    """A store folder; made on first use.

    Raises:
        StoreError: the folder cannot be made, or a newer Premem wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.database = self.path / "premem.duckdb"
        try:
            for name in ("inbox", "completions", "checkpoints", "jobs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be made ({error.strerror}); give a writable folder"
            ) from error
        if not self.database.exists():
            with self._lock(fcntl.LOCK_EX), self._connect(read_only=False) as connection:
                migrate(connection)
        schema = self._schema()
        if schema > len(MIGRATIONS):
            raise StoreError(
                f"the store {self.path} has schema {schema}, this Premem knows {len(MIGRATIONS)}; "
                "update Premem"
            )
        if schema < len(MIGRATIONS):
            with self.writing():
                pass
        self._stamp: list[tuple[int, int]] = []  # of the files when `_version` was read
        self._version = 0

    def _schema(self) -> int:
        with self.reading() as connection:
            try:
                return read_meta(connection, "schema")
            except duckdb.CatalogException:  # killed before its first table: made now
                return 0

    # How the database is reached

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only connection under the shared lock; closed at the end."""
        with self._lock(fcntl.LOCK_SH), self._connect(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection under the exclusive lock: one transaction, and the version rises by one."""
        with self._lock(fcntl.LOCK_EX), self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._connect(read_only=False) as connection:
            migrate(connection)
            try:
                connection.begin()
                try:
                    yield connection
                    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'version'")
                except BaseException:
                    with suppress(duckdb.Error):  # what went wrong may have ended it already
                        connection.rollback()
                    raise
                connection.commit()
            except WRITE_ERRORS as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"{self.database} could not be written ({reason}); nothing was changed: free "
                    "space on its disk and do it again"
                ) from error

    def _lock(self, kind: int) -> AbstractContextManager[None]:
        # A file of its own: closing a handle of the database file would drop DuckDB's own lock.
        return flock(self.path / "premem.lock", kind)

    @contextmanager
    def _connect(self, read_only: bool) -> Iterator[Connection]:
        config = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(
                    _connection(str(self.database), read_only=read_only, config=dict(config))
                )
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"{self.database} cannot be opened ({reason}); close other programs that use "
                    "it, or restore it from a copy"
                ) from error
            yield opened

    def version(self) -> int:
        """A counter that each commit raises: the key of every cache.

        Opening the database takes 20 ms, so it is read again only where its files have changed, or
        did so too lately for their times to tell.
        """
        stamp = []
        for file in (self.database, self.database.with_name(f"{self.database.name}.wal")):
            with suppress(FileNotFoundError):
                stat = file.stat()
                stamp.append((stat.st_mtime_ns, stat.st_size))
        changed = max(stamp, default=(0, 0))[0] / 1e9
        if stamp != self._stamp or time.time() - changed < COARSEST_CLOCK:
            with self.reading() as connection:
                self._version = read_meta(connection, "version")
            self._stamp = stamp
        return self._version

    def copy_database(self, file: Path) -> None:
        """Write the database anew, without the room that was freed in it."""
        with self._lock(fcntl.LOCK_SH), _connection() as connection:
            connection.execute(f"ATTACH '{_quoted(self.database)}' AS ours (READ_ONLY)")
            connection.execute(f"ATTACH '{_quoted(file)}' AS copied")
            connection.execute("COPY FROM DATABASE ours TO copied")

    def relative(self, path: Path) -> str:
        """`path` as the store writes it down: relative when inside it, so that it can move."""
        path, home = path.resolve(), self.path.resolve()
        return str(path.relative_to(home) if path.is_relative_to(home) else path)

    def job_folder(self, run: str) -> Path:
        """Where the scoring job of a run keeps its state; made by who starts one."""
        return self.path / "jobs" / quote(run, safe="")

    # Writes

    def add_examples(self, task: str, split: str, examples: Sequence[Example]) -> list[int]:
        """The store's numbers of `examples`, in order; those not yet known are added.

        Raises:
            StoreError: an id is known with another question; nothing was added.
        """
        with self.writing() as connection:
            return _add_examples(connection, _examples_frame(task, split, examples))

    def add_run(
        self,
        record: RunRecord,
        checkpoints: Sequence[Checkpoint],
        train: Sequence[Example],
        test: Sequence[Example],
    ) -> list[int]:
        """Register a run that is about to be scored; the store's numbers of `train` and `test`.

        Of a run that is there already, checkpoints are added and what is scored stays.

        Raises:
            StoreError: an example is known with another text; nothing was added.
        """
        with self.writing() as connection:
            numbers = [
                number
                for split, examples in (("train", train), ("test", test))
                for number in _add_examples(
                    connection, _examples_frame(record.task, split, examples)
                )
            ]
            # What a start that was killed left, perhaps of other checkpoints.
            connection.execute(
                "DELETE FROM checkpoints WHERE run = ? AND state = 'waiting'", [record.run]
            )
            _add_run(connection, record)
            for checkpoint in checkpoints:
                path = self.relative(checkpoint.path)
                _add_checkpoint(connection, record.run, checkpoint, path, "waiting")
            return numbers

    def set_checkpoint_state(
        self,
        run: str,
        step: int,
        state: str,
        reason: str | None = None,
        *,
        samples: int | None = None,
    ) -> None:
        """`state` is waiting, scored (to so many samples per example) or failed (why)."""
        with self.writing() as connection:
            connection.execute(
                """UPDATE checkpoints SET state = ?, reason = ?, samples = coalesce(?, samples)
                WHERE run = ? AND step = ?""",
                [state, reason, samples, run, step],
            )

    def add_baseline(
        self, run: str, step: int, name: str, value: float, settings: str = ""
    ) -> None:
        """Keep a number that was computed of a checkpoint's weights, in place of a former one.

        Args:
            settings: how; values with other settings do not compare.
        """
        with self.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?, ?, ?)",
                [run, step, name, value, settings],
            )

    def add_alone(self, run: str, step: int, nll: pd.Series) -> None:
        """Keep the loss of solutions without their question, nats per token by example number."""
        rows = pd.DataFrame({"run": run, "step": step, "example": nll.index, "nll": nll.to_numpy()})
        with self.writing() as connection:
            connection.register("rows", rows)
            connection.execute(
                "INSERT OR REPLACE INTO alone SELECT run, step, example, nll FROM rows"
            )

    def add_perturbed(
        self, perturbation: str, numbers: Sequence[int], examples: Sequence[Example]
    ) -> None:
        """Keep what a perturbation makes of examples; what is known of them already stays."""
        incoming = pd.DataFrame(
            {
                "perturbation": perturbation,
                "example": list(numbers),
                "question": [e.question for e in examples],
                "solution": [e.solution for e in examples],
                "answer": [e.answer for e in examples],
            }
        )
        with self.writing() as connection:
            connection.register("incoming", incoming)
            connection.execute("INSERT OR IGNORE INTO perturbed FROM incoming")

    def add_scored_runs(
        self,
        runs: Sequence[tuple[RunRecord, Sequence[Checkpoint], pd.DataFrame]],
        examples: Sequence[tuple[str, str, Sequence[Example]]],
    ) -> None:
        """Import finished runs in one transaction.

        Args:
            runs: record, checkpoints, and a frame of step, split, perturbation, id, samples,
                correct, unparsed, nll, tokens, where `id` names an example of the record's task.
            examples: (task, split, examples) that the frames name.
        """
        with self.writing() as connection:
            for task, split, members in examples:
                _add_examples(connection, _examples_frame(task, split, members))
            for record, checkpoints, frame in runs:
                _add_run(connection, record)
                for checkpoint in checkpoints:
                    _add_checkpoint(connection, record.run, checkpoint, None, "scored")
                connection.register("frame", frame)
                connection.execute(
                    """INSERT INTO scores
                    SELECT ?, step, split, perturbation, example, samples, correct, unparsed, 0,
                        nll, tokens
                    FROM frame JOIN examples USING (split, id) WHERE task = ?""",
                    [record.run, record.task],
                )
                connection.unregister("frame")

    def commit_inbox(self) -> int:
        """Commit the shards that wait in the inbox; how many there were.

        Each shard's name enters the ledger in the transaction that adds its counts; only then is
        the file moved. Killed in between, the next call finds the name and only moves the file.
        """
        waiting = sorted((self.path / "inbox").glob("*.parquet"))
        if not waiting:
            return 0
        # Moved under the same lock: who sees the new version sees its completions too.
        with self._lock(fcntl.LOCK_EX):
            with self._transaction() as connection:
                rows = connection.execute("SELECT shard FROM shards").fetchall()
                known = {row[0] for row in rows}
                # Seen again under the lock: another process may have committed meanwhile.
                waiting = [file for file in waiting if file.exists()]
                for file in waiting:
                    if file.name not in known:
                        _commit_shard(connection, file)
            for file in waiting:
                self._file_away(file)
        return len(waiting)

    def _file_away(self, file: Path) -> None:
        with suppress(FileNotFoundError):  # another process was faster
            run = run_of(file)
            folder = completions_folder(self.path, run)
            folder.mkdir(exist_ok=True)
            file.replace(folder / file.name)

    def use_grades(self, run: str, grader: str | None, shards: Sequence[Path]) -> None:
        """Recount the completions of `run` by the grades in `shards`, which are those of `grader`.

        Raises:
            StoreError: these are not the grades of every completion that is counted; nothing
                was changed.
        """
        with self.writing() as connection:
            _recount(connection, run, shards)
            connection.execute("UPDATE runs SET grader = ? WHERE run = ?", [grader, run])

    def override_grade(
        self,
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
        with self.writing() as connection:
            replaced = (sheet := _sheet(shards, key)) and connection.execute(
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

    def undo_override(self, run: str, override: int, shards: Sequence[Path]) -> None:
        """Let the grader's grade count again; what was set, and why, is kept.

        Args:
            shards: as for `override_grade`.

        Raises:
            StoreError: no such override is in force; nothing was changed.
        """
        with self.writing() as connection:
            row = connection.execute(
                """UPDATE overrides SET undone = current_timestamp::TIMESTAMP
                WHERE run = ? AND override = ? AND undone IS NULL
                RETURNING step, split, perturbation, example, sample""",
                [run, override],
            ).fetchone()
            if not row:
                raise StoreError(f"no grade {override} set by hand is in force for '{run}'")
            _recount(connection, run, shards, SampleKey(*row))

    # Reads: each gives a DataFrame with the columns declared above

    def committed_shards(self, run: str) -> set[str]:
        """Names of the shards of `run` whose counts are in the store."""
        with self.reading() as connection:
            rows = connection.execute("SELECT shard FROM shards WHERE run = ?", [run]).fetchall()
        return {row[0] for row in rows}

    def counts(self, run: str) -> pd.DataFrame:
        """COUNT_COLUMNS: what is committed of a run, whatever its checkpoints' state."""
        return self._frame(
            f"SELECT {', '.join(COUNT_COLUMNS)} FROM scores WHERE run = ?", COUNT_COLUMNS, [run]
        )

    def grade_totals(self, run: str, step: int) -> pd.DataFrame:
        """Example → how many completions of its training question are correct, incorrect,

        unparsed and timeout at a checkpoint.
        """
        return self._frame(
            """SELECT example, correct, samples - correct - unparsed - timeout AS incorrect,
                unparsed, timeout
            FROM scores WHERE run = ? AND step = ? AND split = 'train' AND perturbation = ''""",
            ("example", *GRADE_NAMES),
            [run, step],
        ).set_index("example")

    def runs(self) -> pd.DataFrame:
        """RUN_COLUMNS, one row per run, by learning rate; how many checkpoints it has."""
        return self._frame(
            """SELECT runs.*, count(step)::INTEGER AS checkpoints,
                count(*) FILTER (state = 'scored')::INTEGER AS scored,
                count(*) FILTER (state = 'failed')::INTEGER AS failed
            FROM runs LEFT JOIN checkpoints USING (run)
            GROUP BY ALL ORDER BY task, runs.learning_rate, run""",
            RUN_COLUMNS,
        )

    def checkpoints(self, run: str) -> pd.DataFrame:
        """CHECKPOINT_COLUMNS of one run, in training order."""
        return self._frame(
            "SELECT * FROM checkpoints WHERE run = ? ORDER BY step", CHECKPOINT_COLUMNS, [run]
        )

    def tasks(self) -> list[str]:
        """The tasks of which there is a run."""
        with self.reading() as connection:
            rows = connection.execute("SELECT DISTINCT task FROM runs ORDER BY 1").fetchall()
        return [row[0] for row in rows]

    def scores(self, task: str, perturbation: str = "") -> pd.DataFrame:
        """SCORE_COLUMNS of the scored checkpoints of a task's runs, in training order."""
        return self._frame(
            """SELECT run, step, split, example, scores.samples, correct, unparsed, timeout, nll,
                tokens
            FROM scores JOIN runs USING (run) JOIN checkpoints USING (run, step)
            WHERE task = ? AND perturbation = ? AND state = 'scored'
            ORDER BY run, split, step, example""",
            SCORE_COLUMNS,
            [task, perturbation],
        )

    def checkpoint_scores(self, task: str) -> Iterator[tuple[str, int, dict[str, NDArray[Any]]]]:
        """The scored checkpoints of a task's runs, in training order, one at a time.

        Returns:
            Run, step, and a row per question as it is: example, samples, correct, nll (NaN where
            not known), test (whether it is of the test set); those come last, each by number.
        """
        with self.reading() as connection:
            checkpoints = connection.execute(
                """SELECT run, step FROM checkpoints JOIN runs USING (run)
                WHERE task = ? AND state = 'scored' ORDER BY run, step""",
                [task],
            ).fetchall()
            for run, step in checkpoints:
                rows = connection.execute(
                    """SELECT example, samples, correct, coalesce(nll, 'nan'::DOUBLE) AS nll,
                        split = 'test' AS test
                    FROM scores WHERE run = ? AND step = ? AND perturbation = ''
                    ORDER BY test, example""",
                    [run, step],
                ).fetchnumpy()
                yield run, step, {name: np.asarray(values) for name, values in rows.items()}

    def task_checkpoints(self, task: str) -> pd.DataFrame:
        """CHECKPOINT_COLUMNS of the scored checkpoints of a task's runs."""
        return self._frame(
            """SELECT checkpoints.* FROM checkpoints JOIN runs USING (run)
            WHERE task = ? AND state = 'scored' ORDER BY run, step""",
            CHECKPOINT_COLUMNS,
            [task],
        )

    def baselines(self, run: str) -> pd.DataFrame:
        """BASELINE_COLUMNS of one run, in training order."""
        return self._frame(
            "SELECT * FROM baselines WHERE run = ? ORDER BY name, step", BASELINE_COLUMNS, [run]
        )

    def examples(self, task: str, split: str) -> pd.DataFrame:
        """EXAMPLE_COLUMNS of a task's examples."""
        return self._frame(
            "SELECT * FROM examples WHERE task = ? AND split = ? ORDER BY example",
            EXAMPLE_COLUMNS,
            [task, split],
        )

    def example_sizes(self, task: str, split: str) -> pd.DataFrame:
        """SIZE_COLUMNS of a task's examples, of which it reads no text into memory.

        lines and words are the solution's.
        """
        with self.reading() as connection:
            # By way of Arrow: a million ids are no Python objects in between.
            table = connection.sql(
                r"""SELECT example, id, metadata,
                    len(string_split(trim(solution, chr(10) || ' '), chr(10)))::INTEGER AS lines,
                    len(regexp_extract_all(solution, '\S+'))::INTEGER AS words
                FROM examples WHERE task = ? AND split = ? ORDER BY example""",
                params=[task, split],
            ).to_arrow_table()
        return table.to_pandas()[list(SIZE_COLUMNS)]

    def target_tokens(self, runs: Sequence[str]) -> pd.Series:
        """How many tokens the solutions have that these runs were trained on, by example number.

        Where the runs' tokenizers differ, the most; NaN where not known.
        """
        of_runs = []
        with self.reading() as connection:
            for run in runs:
                rows = connection.execute(
                    """SELECT example, coalesce(tokens::FLOAT, 'nan'::FLOAT) AS tokens FROM scores
                    WHERE run = $run AND split = 'train' AND perturbation = ''
                        AND step = (SELECT min(step) FROM scores WHERE run = $run)""",
                    {"run": run},
                ).fetchnumpy()
                of_runs.append(pd.Series(rows["tokens"], rows["example"]))
        return of_runs[0] if len(of_runs) == 1 else pd.concat(of_runs, axis=1).max(axis=1)

    def alone(self, run: str) -> pd.DataFrame:
        """The loss of a run's solutions without their question: step, example, nll."""
        return self._frame(
            "SELECT step, example, nll FROM alone WHERE run = ? ORDER BY step, example",
            ("step", "example", "nll"),
            [run],
        )

    def example_texts(self, numbers: Sequence[int]) -> pd.DataFrame:
        """EXAMPLE_COLUMNS of these examples, in their order."""
        asked = pd.DataFrame({"example": numbers, "place": range(len(numbers))})
        with self.reading() as connection:
            connection.register("asked", asked)
            rows = connection.execute(
                "SELECT examples.* FROM asked JOIN examples USING (example) ORDER BY place"
            )
            return rows.df()[list(EXAMPLE_COLUMNS)]

    def perturbed(self, task: str, perturbation: str) -> pd.DataFrame:
        """PERTURBED_COLUMNS of a task's examples."""
        return self._frame(
            """SELECT perturbed.* FROM perturbed JOIN examples USING (example)
            WHERE task = ? AND perturbation = ? ORDER BY example""",
            PERTURBED_COLUMNS,
            [task, perturbation],
        )

    def completions(self, run: str, step: int, split: str, perturbation: str = "") -> pd.DataFrame:
        """SAMPLES' columns of one checkpoint, read from the Parquet shards in place."""
        folder = completions_folder(self.path, run)
        files = sorted(map(str, folder.glob(f"{step:08d}.{split}.{perturbation}.samples.*")))
        if not files:
            return SAMPLES.empty_table().to_pandas()
        with _connection() as connection:
            return connection.execute(
                "SELECT * FROM read_parquet(?, hive_partitioning = false) ORDER BY example, sample",
                [files],
            ).df()

    def example_completions(
        self,
        run: str,
        split: str,
        example: int,
        perturbation: str = "",
        step: int | None = None,
        grades: Sequence[Path] = (),
    ) -> pd.DataFrame:
        """EXAMPLE_COMPLETION_COLUMNS of one example, by step and sample.

        Args:
            step: at this checkpoint; None: at all.
            grades: `grade_shards` of another grader, whose grades are given instead.
        """
        at = "*" if step is None else f"{step:08d}"
        files = completions_folder(self.path, run).glob(f"{at}.{split}.{perturbation}.samples.*")
        if not (names := sorted(map(str, files))):
            return pd.DataFrame(columns=list(EXAMPLE_COMPLETION_COLUMNS))
        regraded = """JOIN (SELECT step, split, perturbation, example, sample, grade AS new_grade,
                extracted AS new_extracted FROM read_parquet($grades, hive_partitioning = false)
                WHERE example = $example)
            USING (step, split, perturbation, example, sample)"""
        grade, extracted = ("new_grade", "new_extracted") if grades else ("s.grade", "extracted")
        parameters = {"names": names, "example": example, "run": run}
        with self.reading() as connection:
            rows = connection.execute(
                f"""SELECT step, sample, completion, finished, {extracted} AS extracted,
                    coalesce(o.grade, {grade}) AS grade, override, replaced, grader, reason, who,
                    made
                FROM (SELECT * FROM read_parquet($names, hive_partitioning = false)
                    WHERE example = $example) AS s {regraded if grades else ""}
                LEFT JOIN (SELECT * FROM {_IN_FORCE} WHERE run = $run) AS o
                    USING (step, split, perturbation, example, sample)
                ORDER BY step, sample""",
                parameters | ({"grades": list(map(str, grades))} if grades else {}),
            ).df()
        return rows[list(EXAMPLE_COMPLETION_COLUMNS)]

    def overrides(self, run: str) -> pd.DataFrame:
        """OVERRIDE_COLUMNS of the grades set by hand, undone ones included; the last first."""
        return self._frame(
            """SELECT overrides.*, id FROM overrides JOIN examples USING (example)
            WHERE run = ? ORDER BY override DESC""",
            OVERRIDE_COLUMNS,
            [run],
        )

    def agreement(self, run: str, split: str, step: int | None = None) -> pd.DataFrame:
        """AGREEMENT_COLUMNS: the share of an example's samples that gave its most common answer.

        0 where no sample gave any; perturbed queries do not count.

        Args:
            step: of this checkpoint only.
        """
        at = "*" if step is None else f"{step:08d}"
        files = completions_folder(self.path, run).glob(f"{at}.{split}..samples.*")
        if not (names := sorted(map(str, files))):
            return pd.DataFrame(columns=list(AGREEMENT_COLUMNS), dtype=float)
        with _connection() as connection:
            return connection.execute(
                """SELECT step, example,
                    coalesce(max(votes) FILTER (extracted IS NOT NULL), 0) / sum(votes) AS agreement
                FROM (SELECT step, example, extracted, count(*) AS votes
                    FROM read_parquet(?, hive_partitioning = false) GROUP BY ALL)
                GROUP BY ALL ORDER BY ALL""",
                [names],
            ).df()

    def answers(self, run: str, shards: Sequence[Path]) -> pd.DataFrame:
        """ANSWER_COLUMNS: how many samples of a training query gave an answer, and were right.

        An answer is as it was extracted, None where none was found. Perturbed queries do not count.

        Args:
            shards: of the run's completions, or of their grades, whose grades count but for those
                set by hand.
        """
        if not (names := [str(file) for file in shards if ".train.." in file.name]):
            return pd.DataFrame(columns=list(ANSWER_COLUMNS))
        with self.reading() as connection:
            return connection.execute(
                f"""SELECT step, example, extracted AS answer, count(*) AS votes,
                    count(*) FILTER (coalesce(o.grade, s.grade) = {Grade.CORRECT:d}) AS correct
                FROM read_parquet($names, hive_partitioning = false) AS s
                LEFT JOIN (SELECT * FROM {_IN_FORCE} WHERE run = $run) AS o
                    USING (step, split, perturbation, example, sample)
                GROUP BY ALL ORDER BY ALL""",
                {"names": names, "run": run},
            ).df()[list(ANSWER_COLUMNS)]

    def samples_shards(self, run: str) -> list[Path]:
        """The committed shards of a run's completions."""
        files = completions_folder(self.path, run).glob("*.parquet")
        return _by_name(file for file in files if file.name.split(".")[3] == "samples")

    def grades_folder(self, run: str, grader: str) -> Path:
        """Where another grader's grades of a run's completions lie; made by who writes them."""
        folder = completions_folder(self.path, run).name
        return self.path / "grades" / folder / f"grader={grader}"

    def other_graders(self, run: str) -> list[str]:
        """Who else has graded completions of a run, by name."""
        folders = self.grades_folder(run, "any").parent.glob("grader=*")
        return sorted(folder.name.removeprefix("grader=") for folder in folders)

    def grade_shards(self, run: str, grader: str) -> list[Path]:
        """What is there of them: shards named as those of the completions."""
        return _by_name(self.grades_folder(run, grader).glob("*.parquet"))

    def grade_counts(self, one: Sequence[Path], other: Sequence[Path]) -> pd.DataFrame:
        """split, perturbation, grade_one, grade_other, completions: pairs of grades, counted.

        Args:
            one: shards of completions or of grades; those that both hold are compared.
            other: likewise, of another grader.
        """
        with _connection() as connection:
            return connection.execute(
                f"""SELECT split, perturbation, grade_one, grade_other, count(*) AS completions
                FROM ({_GRADED_TWICE}) GROUP BY ALL ORDER BY ALL""",
                {"one": list(map(str, one)), "other": list(map(str, other))},
            ).df()

    def disagreements(
        self,
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
        completions = list(map(str, self.samples_shards(run)))
        kinds = f"AND grade_one = {kind[0]:d} AND grade_other = {kind[1]:d}" if kind else ""
        correct = f"(grade_one = {Grade.CORRECT:d}) = (grade_other = {Grade.CORRECT:d})"
        order = f"{correct}, split DESC, step, example, sample"
        with self.reading() as connection:
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

    def _frame(
        self, query: str, columns: Sequence[str], parameters: Sequence[object] = ()
    ) -> pd.DataFrame:
        with self.reading() as connection:
            return connection.execute(query, parameters).df()[list(columns)]


def _by_name(files: Iterable[Path]) -> list[Path]:
    """Those of one folder in order; paths themselves take longer to compare."""
    return sorted(files, key=lambda file: file.name)


@contextmanager
def _connection(database: str = ":memory:", **options: Any) -> Iterator[Connection]:
    """DuckDB without the progress bar that it would print into a command's output."""
    with duckdb.connect(database, **options) as connection:
        connection.execute("SET enable_progress_bar = false")
        try:
            yield connection
        except RuntimeError as error:
            if str(error) != INTERRUPTED:
                raise
            raise KeyboardInterrupt from error


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _examples_frame(task: str, split: str, examples: Sequence[Example]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "task": task,
            "split": split,
            "id": [e.id for e in examples],
            "question": [e.question for e in examples],
            "solution": [e.solution for e in examples],
            "answer": [e.answer for e in examples],
            "metadata": [pd.Series(dict(e.metadata)).to_json() for e in examples],
        }
    )


def _add_examples(connection: Connection, frame: pd.DataFrame) -> list[int]:
    connection.register("incoming", frame)
    other = connection.execute(
        """SELECT incoming.id, incoming.task FROM incoming JOIN examples USING (task, split, id)
        WHERE examples.question <> '' AND incoming.question <> ''
            AND (examples.question <> incoming.question OR examples.solution <> incoming.solution)
        LIMIT 1"""
    ).fetchone()
    if other:
        raise StoreError(
            f"example '{other[0]}' of task '{other[1]}' is in the store with another text; "
            "give these examples their own task name or ids"
        )
    connection.execute("""
        INSERT INTO examples (task, split, id, question, solution, answer, metadata)
        SELECT * FROM incoming WHERE NOT EXISTS (FROM examples WHERE examples.task = incoming.task
            AND examples.split = incoming.split AND examples.id = incoming.id)""")
    connection.execute("""
        UPDATE examples SET question = incoming.question, solution = incoming.solution,
            answer = incoming.answer, metadata = incoming.metadata
        FROM incoming WHERE examples.task = incoming.task AND examples.split = incoming.split
            AND examples.id = incoming.id AND examples.question = '' AND incoming.question <> ''""")
    numbers = connection.execute(
        "SELECT id, example FROM examples JOIN incoming USING (task, split, id)"
    ).fetchall()
    connection.unregister("incoming")
    by_id = dict(numbers)
    return [by_id[i] for i in frame["id"]]


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
        """INSERT OR IGNORE INTO checkpoints (run, step, epoch, learning_rate, path, state)
            VALUES (?, ?, ?, ?, ?, ?)""",
        [
            run,
            checkpoint.step,
            checkpoint.epoch,
            checkpoint.learning_rate,
            path,
            state,
        ],
    )


def _commit_shard(connection: Connection, file: Path) -> None:
    connection.execute("INSERT INTO shards VALUES (?, ?)", [file.name, run_of(file)])
    if has_targets(file):
        incoming = """SELECT run, step, split, perturbation, example, 0 AS samples, 0 AS correct,
            0 AS unparsed, 0 AS timeout, nll, tokens
            FROM read_parquet(?, hive_partitioning = false)"""
    else:
        incoming = f"""SELECT run, step, split, perturbation, example, {_COUNTS},
            NULL AS nll, NULL AS tokens
            FROM read_parquet(?, hive_partitioning = false) GROUP BY ALL"""
    connection.execute(
        f"""MERGE INTO scores USING ({incoming}) AS incoming
        USING (run, step, split, perturbation, example)
        WHEN MATCHED THEN UPDATE SET samples = scores.samples + incoming.samples,
            correct = scores.correct + incoming.correct,
            unparsed = scores.unparsed + incoming.unparsed,
            timeout = scores.timeout + incoming.timeout,
            nll = coalesce(incoming.nll, scores.nll),
            tokens = coalesce(incoming.tokens, scores.tokens)
        WHEN NOT MATCHED THEN INSERT""",
        [str(file)],
    )


def _sheet(shards: Sequence[Path], key: SampleKey) -> list[str]:
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
        f"""SELECT step, split, perturbation, example, {_COUNTS}
        FROM (SELECT step, split, perturbation, example, sample,
                coalesce(o.grade, graded.grade) AS grade
            FROM read_parquet($shards, hive_partitioning = false) AS graded
            LEFT JOIN {_IN_FORCE} AS o USING (run, step, split, perturbation, example, sample)
            WHERE run = $run {one})
        GROUP BY ALL""",
        {"shards": _sheet(shards, key) if key else list(map(str, shards)), **where},
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
