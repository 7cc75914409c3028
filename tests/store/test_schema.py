"""The schema of the database, and stores that earlier versions wrote."""

from pathlib import Path

import duckdb
import pytest

from premem_core.store.checkpoint_measures import read_baselines
from premem_core.store.database import Store
from premem_core.store.schema import MIGRATIONS
from tests.helpers.stores import register

SCHEMA = {
    "alone": "run step example nll",
    "bases": "run path scored",
    "baselines": "run step name value settings",
    "checkpoints": "run step epoch learning_rate path state reason samples",
    "continuations": "run step split example known",
    "examples": "example task split id question solution answer metadata conversation",
    "imports": "run step split sha256 file tool version temperature top_p max_new_tokens grader "
    "completions correct perplexities unmatched ambiguous mixed made",
    "meta": "key value",
    "overrides": "override run step split perturbation example sample grade replaced grader reason "
    "who made undone",
    "perturbed": "perturbation example question solution answer",
    "runs": "run task source learning_rate epochs batch_size train_examples created grader "
    "scored_by",
    "scores": "run step split perturbation example samples correct unparsed timeout nll tokens "
    "trace_nll trace_tokens finished completion_tokens completion_trace_tokens top_tokens",
    "shards": "shard run",
}


def test_a_new_store_has_the_pinned_schema(tmp_path):
    store = Store(tmp_path)
    with store.reading() as connection:
        rows = connection.execute(
            """SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position)
            FROM information_schema.columns WHERE table_schema = 'main' GROUP BY 1"""
        ).fetchall()
    assert dict(rows) == SCHEMA
    assert len(MIGRATIONS) == 13


def old_database(folder: Path, schema: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(folder / "premem.duckdb")
    connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value BIGINT)")
    connection.execute("INSERT INTO meta VALUES ('schema', ?), ('version', 0)", [schema])
    for migration in MIGRATIONS[:schema]:
        migration(connection)
    return connection


@pytest.mark.parametrize("schema", range(1, len(MIGRATIONS)))
def test_a_store_of_every_earlier_schema_is_brought_up_to_date(schema, tmp_path):
    old_database(tmp_path, schema).close()
    store = Store(tmp_path)
    register(store)
    with store.reading() as connection:
        rows = connection.execute(
            """SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position)
            FROM information_schema.columns WHERE table_schema = 'main' GROUP BY 1"""
        ).fetchall()
    assert dict(rows) == SCHEMA


def test_a_store_with_baselines_without_settings_keeps_them(tmp_path):
    with old_database(tmp_path, 3) as connection:
        connection.execute("INSERT INTO baselines VALUES ('r', 1, 'distance', 2.0)")
    assert read_baselines(Store(tmp_path), "r").to_numpy().tolist() == [
        ["r", 1, "distance", 2.0, ""]
    ]
