import fcntl
import multiprocessing
import os
import random
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from premem_core.errors import StoreError
from premem_core.files import flock
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store import scores
from premem_core.store.checkpoint_measures import add_baseline, read_baselines
from premem_core.store.completions import read_agreement, read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import add_run, read_checkpoints, read_runs, set_checkpoint_state
from premem_core.store.schema import MIGRATIONS
from premem_core.store.scores import commit_inbox, read_committed_shards, read_scores
from premem_core.store.shards import SAMPLES, TARGETS, write_shard
from tests.helpers.stores import add_examples

READ_NOW = fcntl.LOCK_SH | fcntl.LOCK_NB
SCHEMA = {
    "alone": "run step example nll",
    "baselines": "run step name value settings",
    "checkpoints": "run step epoch learning_rate path state reason samples",
    "examples": "example task split id question solution answer metadata",
    "meta": "key value",
    "overrides": "override run step split perturbation example sample grade replaced grader reason "
    "who made undone",
    "perturbed": "perturbation example question solution answer",
    "runs": "run task source learning_rate epochs batch_size train_examples created grader "
    "scored_by",
    "scores": "run step split perturbation example samples correct unparsed timeout nll tokens",
    "shards": "shard run",
}


def register(store: Store, run: str = "r", n: int = 4) -> list[int]:
    return add_run(
        store,
        RunRecord(run, "t", "scored", 1e-3, 2, 8, n),
        [Checkpoint(Path("c"), 10, 1.0)],
        [Example(str(i), f"q{i}", "s", "a") for i in range(n)],
        [],
    )


def samples_shard(store: Store, run: str, numbers, index: int, grade: int = 0) -> str:
    name = f"00000010.train..samples.{index:05d}.{run}.parquet"
    n = len(numbers)
    columns = {
        "run": [run] * n, "step": [10] * n, "split": ["train"] * n, "perturbation": [""] * n,
        "example": numbers, "sample": [index] * n, "completion": ["$3*4=12$ <script>"] * n,
        "extracted": [None] * n, "grade": [grade] * n, "tokens": [5] * n, "finished": [True] * n,
    }  # fmt: skip
    write_shard(store.path / "inbox", name, run, pa.table(columns, schema=SAMPLES))
    return name


def test_a_new_store_has_the_pinned_schema(tmp_path):
    store = Store(tmp_path)
    with store.reading() as connection:
        rows = connection.execute(
            """SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position)
            FROM information_schema.columns WHERE table_schema = 'main' GROUP BY 1"""
        ).fetchall()
    assert dict(rows) == SCHEMA
    assert len(MIGRATIONS) == 8


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


def test_an_example_keeps_its_number_and_the_same_id_may_stand_in_another_task(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    assert register(store) == numbers
    assert set(add_examples(store, "u", "train", [Example("0", "other", "s", "a")])) - set(numbers)


def test_shards_add_up_and_are_counted_once(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    names = [samples_shard(store, "r", numbers, i, grade=i % 3) for i in range(3)]
    assert commit_inbox(store) == 3
    samples_shard(store, "r", numbers, 0)  # a worker that did not know it was done
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    scores = read_scores(store, "t")
    assert scores["samples"].tolist() == [3] * 4
    assert scores["correct"].tolist() == scores["unparsed"].tolist() == [1] * 4
    assert read_committed_shards(store, "r") == set(names)
    assert not list((tmp_path / "inbox").iterdir())
    assert (
        read_completions(store, "r", 10, "train")["completion"].tolist()
        == ["$3*4=12$ <script>"] * 12
    )


def test_perplexities_and_samples_meet_in_one_row_in_either_order(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    samples_shard(store, "r", numbers[:2], 0)
    commit_inbox(store)
    columns = {
        "run": ["r"] * 4, "step": [10] * 4, "split": ["train"] * 4, "perturbation": [""] * 4,
        "example": numbers, "nll": [0.1, 0.2, 0.3, 0.4], "tokens": [7] * 4,
    }  # fmt: skip
    write_shard(tmp_path / "inbox", "00000010.train..targets.00000.r.parquet", "r",
                pa.table(columns, schema=TARGETS))  # fmt: skip
    commit_inbox(store)
    samples_shard(store, "r", numbers[2:], 1)
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    scores = read_scores(store, "t")
    assert scores["nll"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert scores["samples"].tolist() == [1] * 4


def test_a_baseline_takes_the_place_of_the_former_one(tmp_path):
    store = Store(tmp_path)
    register(store)
    before = store.version()
    for value in (1.0, 2.0):
        add_baseline(store, "r", 10, "distance", value, f"from base{value:.0f}")
    assert store.version() == before + 2
    assert read_baselines(store, "r").to_dict("records") == [
        {"run": "r", "step": 10, "name": "distance", "value": 2.0, "settings": "from base2"}
    ]
    assert read_baselines(store, "other").empty


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


def test_agreement_is_the_share_of_the_most_common_answer(tmp_path):
    store = Store(tmp_path)
    register(store)
    answers = {
        (10, 1): ["7", "7", "8", None],  # no answer agrees with none
        (10, 2): [None, None, None, "8"],
        (10, 3): [None, None, None, None],
        (20, 1): ["7", "8", "9", "9"],
    }
    for (step, example), extracted in answers.items():
        for split, perturbation, given in (
            ("test", "", extracted),
            ("test", "first", ["5"] * 4),
            ("train", "", ["6"] * 4),
        ):
            rows = pa.table(
                {
                    "run": ["r"] * 4, "step": [step] * 4, "split": [split] * 4,
                    "perturbation": [perturbation] * 4, "example": [example] * 4,
                    "sample": range(4), "completion": [""] * 4, "extracted": given,
                    "grade": [0] * 4, "tokens": [5] * 4, "finished": [True] * 4,
                },
                schema=SAMPLES,
            )  # fmt: skip
            name = f"{step:08d}.{split}.{perturbation}.samples.{example}.r.parquet"
            write_shard(tmp_path / "inbox", name, "r", rows)
    commit_inbox(store)
    assert read_agreement(store, "r", "test").to_numpy().tolist() == [
        [10, 1, 0.5],
        [10, 2, 0.25],
        [10, 3, 0],
        [20, 1, 0.5],
    ]
    assert set(read_agreement(store, "r", "train")["agreement"]) == {1.0}
    assert read_agreement(store, "imported", "test").empty


def test_a_checkpoint_that_is_not_scored_to_its_end_is_in_no_chart(tmp_path):
    store = Store(tmp_path)
    samples_shard(store, "r", register(store), 0)
    commit_inbox(store)
    assert read_scores(store, "t").empty
    assert read_runs(store)[["checkpoints", "scored"]].to_numpy().tolist() == [[1, 0]]


def test_an_unfinished_shard_is_not_seen(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "inbox" / "half.tmp").write_bytes(b"PAR1")
    assert commit_inbox(store) == 0


def test_paths_inside_the_store_move_with_it(tmp_path):
    store = Store(tmp_path / "s")
    inside = tmp_path / "s" / "checkpoints" / "run"
    add_run(store, RunRecord("r", "t", "scored", None, None, None, 0),
                  [Checkpoint(inside, 1), Checkpoint(tmp_path / "away", 2)], [], [])  # fmt: skip
    assert read_checkpoints(store, "r")["path"].tolist() == [
        "checkpoints/run",
        str(tmp_path / "away"),
    ]


def _commit_forever(path: str) -> None:
    store = Store(path)
    while True:
        commit_inbox(store)


def test_killed_committers_leave_no_shard_half_counted_or_counted_twice(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    context = multiprocessing.get_context("spawn")
    rng = random.Random(0)
    written = 0
    for _ in range(6):
        committer = context.Process(target=_commit_forever, args=(str(tmp_path),))
        committer.start()
        until = time.monotonic() + 2.0 + rng.random()
        while time.monotonic() < until:
            samples_shard(store, "r", numbers, written)
            written += 1
            time.sleep(0.01)
        os.kill(committer.pid, signal.SIGKILL)
        committer.join()
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    assert read_scores(store, "t")["samples"].tolist() == [written] * 4
    assert len(read_completions(store, "r", 10, "train")) == 4 * written
    assert len(read_committed_shards(store, "r")) == written > 50


def _read_forever(path: str, errors) -> None:
    store = Store(path)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            assert read_runs(store)["run"].tolist() == ["r"]
        except Exception as error:
            errors.put(repr(error))


def test_readers_and_a_writer_do_not_get_in_each_others_way(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    context = multiprocessing.get_context("spawn")
    errors = context.Queue()
    readers = [
        context.Process(target=_read_forever, args=(str(tmp_path), errors)) for _ in range(3)
    ]
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


def test_a_store_may_lie_in_a_folder_that_looks_like_a_partition(tmp_path):
    store = Store(tmp_path / "run=9" / "step=7")
    samples_shard(store, "r", register(store), 0)
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    assert len(read_scores(store, "t")) == 4


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


def test_who_sees_the_version_of_a_commit_sees_its_completions(tmp_path, monkeypatch):
    store = Store(tmp_path)
    numbers = register(store)
    samples_shard(store, "r", numbers, 0)
    file_away, seen = scores._file_away, []

    def locked_meanwhile(self, file):
        with pytest.raises(BlockingIOError), flock(tmp_path / "premem.lock", READ_NOW):
            pass
        seen.append(file.name)
        file_away(self, file)

    monkeypatch.setattr(scores, "_file_away", locked_meanwhile)
    commit_inbox(store)
    assert len(seen) == 1
