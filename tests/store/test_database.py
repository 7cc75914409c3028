"""Opening a store, its locks, its version, and stops in the middle of a change."""

import multiprocessing
import signal
from contextlib import contextmanager
from unittest.mock import MagicMock

import duckdb
import pytest

from premem_core.errors import StoreError
from premem_core.records import Example
from premem_core.store.checkpoint_measures import add_baseline, read_baselines
from premem_core.store.database import INTERRUPTED, Store, connect
from premem_core.store.examples import add_examples, read_task_examples
from premem_core.store.runs import read_runs
from premem_core.store.scores import commit_inbox
from tests.helpers.stores import register, samples_shard


def test_a_store_of_a_newer_premem_is_refused(tmp_path):
    with Store(tmp_path).writing() as connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    with pytest.raises(StoreError, match="update Premem"):
        Store(tmp_path)


def test_every_commit_raises_the_version_and_a_failed_one_changes_nothing(tmp_path):
    store = Store(tmp_path)
    before = store.version()
    register(store)
    assert store.version() == before + 1
    with pytest.raises(StoreError, match="another text"):
        add_examples(
            store, "t", "train", [Example("new", "q", "s", "a"), Example("0", "?", "s", "a")]
        )
    assert store.version() == before + 1
    assert len(read_task_examples(store, "t", "train")) == 4


def test_a_copied_database_holds_the_same_and_numbers_on(tmp_path):
    store = Store(tmp_path / "it's")
    register(store)
    add_baseline(store, "r", 10, "distance", 1.0)
    copied = Store(tmp_path / "copy")
    copied.database.unlink()
    store.copy_database(copied.database)
    assert copied.version() == store.version()
    assert read_baselines(copied, "r").equals(read_baselines(store, "r"))
    assert register(copied, n=6)[:4] == register(store)
    assert register(copied, n=6)[4:] == [5, 6]


def _read_often(path: str, errors) -> None:
    store = Store(path)
    for _ in range(15):
        try:
            assert read_runs(store)["run"].tolist() == ["r"]
        except Exception as error:
            errors.put(repr(error))


def test_readers_and_a_writer_do_not_get_in_each_others_way(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    readers = [context.Process(target=_read_often, args=(str(tmp_path), errors)) for _ in range(3)]
    for reader in readers:
        reader.start()
    written = 0
    while any(reader.is_alive() for reader in readers):
        samples_shard(store, "r", numbers, written)
        written += commit_inbox(store)
    assert errors.empty()
    assert written > 3


def test_the_store_never_fetches_an_extension(tmp_path):
    store = Store(tmp_path)
    with store.reading() as connection, pytest.raises(duckdb.Error):
        connection.execute("SELECT * FROM read_json_auto('https://example.invalid/x.json')")


def test_a_store_whose_making_was_killed_is_made_to_its_end(tmp_path):
    with duckdb.connect(str(tmp_path / "premem.duckdb")):
        pass
    assert read_runs(Store(tmp_path)).empty


def test_a_database_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "premem.duckdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store(tmp_path)


def test_a_stop_during_the_commit_stays_a_stop(tmp_path, monkeypatch):
    store = Store(tmp_path)
    commit = duckdb.DuckDBPyConnection.commit

    class Stopped(BaseException):
        pass

    class Connection:
        def __init__(self, real):
            self.real = real

        def commit(self):
            commit(self.real)
            raise Stopped

        def __getattr__(self, name):
            return getattr(self.real, name)

    connect = store._connect

    @contextmanager
    def connected(read_only):
        with connect(read_only) as real:
            yield Connection(real)

    monkeypatch.setattr(store, "_connect", connected)
    with pytest.raises(Stopped):
        add_examples(store, "t", "train", [Example("0", "q", "s", "a")])


def test_a_stop_in_the_midst_of_a_statement_stays_a_stop(tmp_path):
    def change():
        with home.writing() as connection:
            connection.execute("UPDATE meta SET value = 7 WHERE key = 'version'")
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            # A second of work; DuckDB may notice the signal at its end only.
            connection.execute("SELECT sum(a.range * b.range) FROM range(1000000) a, range(300) b")

    home = Store(tmp_path)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            change()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert home.version() == 0


def test_a_signal_ends_a_connection_as_ctrl_c_does_from_its_first_statement_on(monkeypatch):
    opened = MagicMock()
    opened.__enter__.return_value = opened
    opened.__exit__.return_value = False
    opened.execute.side_effect = RuntimeError(INTERRUPTED)
    monkeypatch.setattr(duckdb, "connect", lambda name, **options: opened)
    with pytest.raises(KeyboardInterrupt), connect():
        pytest.fail("a statement comes before this")
