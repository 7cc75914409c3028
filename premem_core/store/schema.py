"""The store's tables: each migration turns the tables of an older store into newer ones."""

from collections.abc import Callable

import duckdb

Connection = duckdb.DuckDBPyConnection


def _create_tables(connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE runs (
            run TEXT PRIMARY KEY, task TEXT NOT NULL, source TEXT NOT NULL, learning_rate DOUBLE,
            epochs DOUBLE, batch_size INTEGER, train_examples INTEGER NOT NULL,
            created TIMESTAMP NOT NULL DEFAULT current_timestamp::TIMESTAMP);
        CREATE TABLE checkpoints (
            run TEXT NOT NULL, step BIGINT NOT NULL, epoch DOUBLE, learning_rate DOUBLE, path TEXT,
            state TEXT NOT NULL, reason TEXT, PRIMARY KEY (run, step));
        CREATE SEQUENCE example_ids;
        CREATE TABLE examples (
            example BIGINT PRIMARY KEY DEFAULT nextval('example_ids'), task TEXT NOT NULL,
            split TEXT NOT NULL, id TEXT NOT NULL, question TEXT, solution TEXT, answer TEXT,
            metadata JSON, UNIQUE (task, split, id));
        CREATE TABLE scores (
            run TEXT NOT NULL, step BIGINT NOT NULL, split TEXT NOT NULL,
            perturbation TEXT NOT NULL, example BIGINT NOT NULL, samples INTEGER NOT NULL,
            correct INTEGER NOT NULL, unparsed INTEGER NOT NULL, timeout INTEGER NOT NULL,
            nll DOUBLE, tokens INTEGER);
        CREATE TABLE shards (shard TEXT PRIMARY KEY, run TEXT NOT NULL);
        """)


def _add_samples_and_grader(connection: Connection) -> None:
    # `samples`: the samples per example to which a checkpoint was scored; NULL where each row of
    # `scores` has its full number. `grader`: the grader whose grades are counted; NULL where it is
    # unknown, as for an imported run.
    connection.execute("ALTER TABLE checkpoints ADD COLUMN samples INTEGER")
    connection.execute("ALTER TABLE runs ADD COLUMN grader TEXT")


def _create_baselines(connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE baselines (
            run TEXT NOT NULL, step BIGINT NOT NULL, name TEXT NOT NULL, value DOUBLE NOT NULL,
            PRIMARY KEY (run, step, name))""")


def _add_baseline_settings(connection: Connection) -> None:
    connection.execute("ALTER TABLE baselines ADD COLUMN settings TEXT DEFAULT ''")


def _add_scored_by(connection: Connection) -> None:
    # The grader of the scoring job; `grader` is the one whose grades are counted now.
    connection.execute("ALTER TABLE runs ADD COLUMN scored_by TEXT")


def _create_perturbed(connection: Connection) -> None:
    connection.execute("""
        CREATE TABLE perturbed (
            perturbation TEXT NOT NULL, example BIGINT NOT NULL, question TEXT NOT NULL,
            solution TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (perturbation, example))""")


def _create_overrides(connection: Connection) -> None:
    # Grades that a person set to replace the grader's. Grades that were undone are kept.
    connection.execute("""
        CREATE SEQUENCE override_numbers;
        CREATE TABLE overrides (
            override BIGINT PRIMARY KEY DEFAULT nextval('override_numbers'), run TEXT NOT NULL,
            step BIGINT NOT NULL, split TEXT NOT NULL, perturbation TEXT NOT NULL,
            example BIGINT NOT NULL, sample INTEGER NOT NULL, grade INTEGER NOT NULL,
            replaced INTEGER NOT NULL, grader TEXT NOT NULL, reason TEXT NOT NULL,
            who TEXT NOT NULL, made TIMESTAMP NOT NULL DEFAULT current_timestamp::TIMESTAMP,
            undone TIMESTAMP)""")


def _create_alone(connection: Connection) -> None:
    # The unconditional NLL: that of a solution without the question in the prompt, used for IFD.
    connection.execute("""
        CREATE TABLE alone (
            run TEXT NOT NULL, step BIGINT NOT NULL, example BIGINT NOT NULL, nll DOUBLE NOT NULL,
            PRIMARY KEY (run, step, example))""")


def _add_conversations(connection: Connection) -> None:
    # The turns of the chat that an example comes from, as JSON; NULL where there is none.
    connection.execute("ALTER TABLE examples ADD COLUMN conversation TEXT")


def _add_traces_and_lengths(connection: Connection) -> None:
    # The NLL and the tokens of the target's thinking trace, a part of `nll` and `tokens`; of the
    # completions, how many ended by themselves and their tokens in all, and those of their traces.
    # NULL where they were not counted, or where there are no traces.
    for column in (
        "trace_nll DOUBLE",
        "trace_tokens INTEGER",
        "finished INTEGER",
        "completion_tokens BIGINT",
        "completion_trace_tokens BIGINT",
    ):
        connection.execute(f"ALTER TABLE scores ADD COLUMN {column}")


def _add_top_tokens(connection: Connection) -> None:
    # How many tokens of the target are the model's first choice; NULL where they were not counted.
    connection.execute("ALTER TABLE scores ADD COLUMN top_tokens INTEGER")


def _create_bases(connection: Connection) -> None:
    # A run's base model, whose scores have step 0. It has no row in `checkpoints`, so that nothing
    # takes it for one. `known`: whether it wrote a question's rest; NULL if that is too short.
    connection.execute("""
        CREATE TABLE bases (
            run TEXT PRIMARY KEY, path TEXT NOT NULL, scored BOOLEAN NOT NULL DEFAULT false);
        CREATE TABLE continuations (
            run TEXT NOT NULL, step BIGINT NOT NULL, split TEXT NOT NULL, example BIGINT NOT NULL,
            known BOOLEAN, PRIMARY KEY (run, step, example))""")


def _create_imports(connection: Connection) -> None:
    # The files whose completions were imported, one row per checkpoint of a file. A setting of the
    # sampling is NULL where it is unknown. `mixed`: a person allowed other settings beside them.
    connection.execute("""
        CREATE TABLE imports (
            run TEXT NOT NULL, step BIGINT NOT NULL, split TEXT NOT NULL, sha256 TEXT NOT NULL,
            file TEXT NOT NULL, tool TEXT NOT NULL, version TEXT, temperature DOUBLE, top_p DOUBLE,
            max_new_tokens INTEGER, grader TEXT NOT NULL, completions INTEGER NOT NULL,
            correct INTEGER NOT NULL, perplexities INTEGER NOT NULL, unmatched INTEGER NOT NULL,
            ambiguous INTEGER NOT NULL, mixed BOOLEAN NOT NULL,
            made TIMESTAMP NOT NULL DEFAULT current_timestamp::TIMESTAMP,
            PRIMARY KEY (run, step, split, sha256))""")


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _create_tables,
    _add_samples_and_grader,
    _create_baselines,
    _add_baseline_settings,
    _add_scored_by,
    _create_perturbed,
    _create_overrides,
    _create_alone,
    _add_conversations,
    _add_traces_and_lengths,
    _add_top_tokens,
    _create_bases,
    _create_imports,
)


def migrate(connection: Connection) -> None:
    """Apply the migrations that a database lacks, each in a separate transaction."""
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BIGINT)")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('schema', 0), ('version', 0)")
    for number in range(read_meta(connection, "schema"), len(MIGRATIONS)):
        connection.begin()
        MIGRATIONS[number](connection)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", [number + 1])
        connection.commit()


def read_meta(connection: Connection, key: str) -> int:
    """The number of migrations applied (`key` "schema"), or the store's version ("version")."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
    return int(row[0]) if row else 0
