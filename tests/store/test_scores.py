"""Scores: shards are counted once, whoever is killed, and only finished checkpoints are read."""

import fcntl
import multiprocessing
import random
import time

import numpy as np
import pyarrow as pa
import pytest

from premem_core.files import flock
from premem_core.records import Grade
from premem_core.store import scores
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_runs, set_checkpoint_state
from premem_core.store.scores import (
    commit_inbox,
    read_checkpoint_scores,
    read_committed_shards,
    read_counts,
    read_grade_totals,
    read_lengths,
    read_scores,
    read_target_tokens,
)
from premem_core.store.shards.shards import SAMPLES, TARGETS, ShardName, write_shard
from tests.helpers.stores import (
    EARLIER_SAMPLES,
    EARLIER_TARGETS,
    register,
    samples_shard,
    write_samples,
)

READ_NOW = fcntl.LOCK_SH | fcntl.LOCK_NB


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
                pa.table(columns, schema=EARLIER_TARGETS))  # fmt: skip
    commit_inbox(store)
    samples_shard(store, "r", numbers[2:], 1)
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    scores = read_scores(store, "t")
    assert scores["nll"].tolist() == [0.1, 0.2, 0.3, 0.4]
    assert scores["samples"].tolist() == [1] * 4


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


def _commit_forever(path: str) -> None:
    store = Store(path)
    while True:
        commit_inbox(store)


@pytest.mark.slow
def test_killed_committers_leave_no_shard_half_counted_or_counted_twice(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    context = multiprocessing.get_context("spawn")
    rng = random.Random(0)
    written = 0
    for _ in range(6):
        committer = context.Process(target=_commit_forever, args=(str(tmp_path),))
        committer.start()
        first = store.path / "inbox" / samples_shard(store, "r", numbers, written)
        written += 1
        commits, deadline = False, time.monotonic() + 60
        while time.monotonic() < deadline:
            if not commits and not first.exists():
                commits, deadline = True, time.monotonic() + rng.random()
            samples_shard(store, "r", numbers, written)
            written += 1
            time.sleep(0.01)
        assert commits
        committer.kill()
        committer.join()
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    assert read_scores(store, "t")["samples"].tolist() == [written] * 4
    assert len(read_completions(store, "r", 10, "train")) == 4 * written
    assert len(read_committed_shards(store, "r")) == written > 50


def test_a_store_may_lie_in_a_folder_that_looks_like_a_partition(tmp_path):
    store = Store(tmp_path / "run=9" / "step=7")
    samples_shard(store, "r", register(store), 0)
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored")
    assert len(read_scores(store, "t")) == 4


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


@pytest.fixture
def counted(tmp_path) -> Store:
    """A run with grades of every kind of two examples, a test problem and a perturbed query."""
    store = Store(tmp_path)
    one, other, test, _ = register(store)
    inbox = store.path / "inbox"
    write_samples(inbox, "r", one, [Grade.CORRECT, Grade.CORRECT, Grade.INCORRECT])
    write_samples(inbox, "r", other, [Grade.UNPARSED, Grade.TIMEOUT, Grade.INCORRECT])
    write_samples(inbox, "r", test, [Grade.CORRECT], split="test")
    write_samples(inbox, "r", one, [Grade.INCORRECT], perturbation="first")
    commit_inbox(store)
    set_checkpoint_state(store, "r", 10, "scored", samples=3)
    return store


def test_completions_are_counted_by_grade(counted):
    totals = read_grade_totals(counted, "r", 10)
    assert totals.columns.tolist() == ["correct", "incorrect", "unparsed", "timeout"]
    assert totals.to_dict("index") == {
        1: {"correct": 2, "incorrect": 1, "unparsed": 0, "timeout": 0},
        2: {"correct": 0, "incorrect": 1, "unparsed": 1, "timeout": 1},
    }


def test_perturbed_queries_have_scores_of_their_own(counted):
    plain = read_scores(counted, "t")
    assert plain[["split", "example", "samples"]].to_numpy().tolist() == [
        ["test", 3, 1],
        ["train", 1, 3],
        ["train", 2, 3],
    ]
    assert read_scores(counted, "t", "first")[["samples", "correct"]].to_numpy().tolist() == [
        [1, 0]
    ]
    assert len(read_counts(counted, "r")) == 4
    assert read_counts(counted, "nobody").empty


def test_a_checkpoint_comes_as_arrays_with_its_test_problems_last(counted):
    [(run, step, rows)] = read_checkpoint_scores(counted, "t")
    assert (run, step) == ("r", 10)
    assert rows["example"].tolist() == [1, 2, 3]
    assert rows["split"].tolist() == [0, 0, 1]
    assert rows["samples"].tolist() == [3, 3, 1]
    assert rows["correct"].tolist() == [2, 0, 1]
    assert np.isnan(rows["nll"]).all()
    set_checkpoint_state(counted, "r", 10, "waiting")
    assert list(read_checkpoint_scores(counted, "t")) == []


def test_target_tokens_are_the_largest_of_the_runs_and_nan_where_unknown(counted):
    def measure(run: str, numbers: list[int], tokens: list[int]) -> None:
        n = len(numbers)
        rows = {
            "run": [run] * n, "step": [10] * n, "split": ["train"] * n, "perturbation": [""] * n,
            "example": numbers, "nll": [0.1] * n, "tokens": tokens,
        }  # fmt: skip
        name = ShardName(10, "train", "", "targets", 0, "", run)
        write_shard(counted.path / "inbox", str(name), run, pa.table(rows, schema=EARLIER_TARGETS))
        commit_inbox(counted)

    measure("r", [1], [7])
    tokens = read_target_tokens(counted, ["r"])
    assert tokens[1] == 7
    assert np.isnan(tokens[2])
    register(counted, "other")
    measure("other", [1, 2], [9, 4])
    assert read_target_tokens(counted, ["r", "other"]).to_dict() == {1: 9, 2: 4}


def test_traces_and_lengths_are_counted_also_beside_shards_of_earlier_versions(tmp_path):
    store = Store(tmp_path)
    first, *_ = register(store)
    inbox = tmp_path / "inbox"
    write_samples(inbox, "r", first, [0, 1], schema=EARLIER_SAMPLES)
    commit_inbox(store)
    keys: dict[str, object] = {"run": "r", "step": 10, "split": "train", "perturbation": ""}
    drawn = [
        {"sample": 2, "tokens": 9, "finished": False, "trace_tokens": 9},
        {"sample": 3, "tokens": 7, "finished": True, "trace_tokens": 4},
    ]
    rows = [{**keys, "example": first, "completion": "", "extracted": None, "grade": 2, **row}
            for row in drawn]  # fmt: skip
    write_shard(inbox, "00000010.train..samples.00002.r.parquet", "r",
                pa.Table.from_pylist(rows, schema=SAMPLES))  # fmt: skip
    target = {**keys, "example": first, "nll": 0.5, "tokens": 8, "trace_nll": 0.7}
    targets = pa.Table.from_pylist([{**target, "trace_tokens": 5}], schema=TARGETS)
    write_shard(inbox, "00000010.train..targets.00000.r.parquet", "r", targets)
    commit_inbox(store)
    with store.reading() as connection:
        counted = connection.execute(
            """SELECT samples, finished, completion_tokens, completion_trace_tokens, trace_nll,
                trace_tokens FROM scores WHERE example = ?""", [first]).fetchall()  # fmt: skip
    assert counted == [(4, 3, 26, 13, 0.7, 5)]
    assert read_completions(store, "r", 10, "train")["trace_tokens"].isna().tolist() == [
        True, True, False, False,
    ]  # fmt: skip
    set_checkpoint_state(store, "r", 10, "scored")
    [row] = read_lengths(store, "t").to_dict("records")
    expected = {"samples": 4, "finished": 3 / 4, "completion_tokens": 26 / 4, "traces": 1}
    assert {name: row[name] for name in expected} == expected
    [(_, _, scores)] = read_checkpoint_scores(store, "t", "answer")
    assert scores["nll"][0] == pytest.approx((8 * 0.5 - 5 * 0.7) / 3)
    assert read_counts(store, "r", "trace")["nll"].dropna().tolist() == [0.7]
