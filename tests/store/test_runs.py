"""Runs and their checkpoints in the store."""

from pathlib import Path

import pandas as pd
import pytest

from premem_core.errors import StoreError
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import (
    CHECKPOINT_COLUMNS,
    RUN_COLUMNS,
    add_run,
    add_scored_runs,
    read_checkpoints,
    read_runs,
    read_task_checkpoints,
    read_tasks,
    set_checkpoint_state,
)
from premem_core.store.scores import read_scores


def test_paths_inside_the_store_move_with_it(tmp_path):
    store = Store(tmp_path / "s")
    inside = tmp_path / "s" / "checkpoints" / "run"
    add_run(store, RunRecord("r", "t", "scored", None, None, None, 0),
                  [Checkpoint(inside, 1), Checkpoint(tmp_path / "away", 2)], [], [])  # fmt: skip
    assert read_checkpoints(store, "r")["path"].tolist() == [
        "checkpoints/run",
        str(tmp_path / "away"),
    ]


@pytest.fixture
def store(tmp_path) -> Store:
    """Runs of two tasks; the first has a scored, a failed and a waiting checkpoint."""
    store = Store(tmp_path)
    points = [Checkpoint(Path(), step, step / 10) for step in (30, 10, 20)]
    add_run(store, RunRecord("b", "sums", "scored", 1e-3, 2, 8, 48, "gsm8k"), points, [], [])
    add_run(store, RunRecord("a", "sums", "scored", 1e-4, 2, 8, 48), points[:1], [], [])
    add_run(store, RunRecord("c", "math", "published", None, None, None, 0), [], [], [])
    set_checkpoint_state(store, "b", 10, "scored", samples=5)
    set_checkpoint_state(store, "b", 20, "failed", "out of memory")
    return store


def test_runs_come_by_task_and_learning_rate_with_the_numbers_of_their_checkpoints(store):
    rows = read_runs(store)
    assert tuple(rows.columns) == RUN_COLUMNS
    assert rows["run"].tolist() == ["c", "a", "b"]
    counted = rows.set_index("run")[["checkpoints", "scored", "failed"]]
    assert counted.to_numpy().tolist() == [[0, 0, 0], [1, 0, 0], [3, 1, 1]]
    assert read_tasks(store) == ["math", "sums"]


def test_checkpoints_come_in_training_order_with_their_states(store):
    rows = read_checkpoints(store, "b").astype(object)
    assert tuple(rows.columns) == CHECKPOINT_COLUMNS
    assert rows["step"].tolist() == [10, 20, 30]
    assert rows["state"].tolist() == ["scored", "failed", "waiting"]
    assert rows["reason"].tolist()[1] == "out of memory"
    assert rows["samples"].tolist()[0] == 5
    assert read_task_checkpoints(store, "sums")[["run", "step"]].to_numpy().tolist() == [["b", 10]]
    assert read_checkpoints(store, "nobody").empty


def test_a_state_keeps_the_number_of_samples_unless_it_gives_one(store):
    set_checkpoint_state(store, "b", 10, "waiting")
    set_checkpoint_state(store, "b", 10, "scored")
    assert read_checkpoints(store, "b")["samples"].tolist()[0] == 5
    set_checkpoint_state(store, "b", 10, "scored", samples=8)
    assert read_checkpoints(store, "b")["samples"].tolist()[0] == 8


def test_a_run_added_again_keeps_what_was_scored_and_drops_what_only_waited(store):
    again = RunRecord("b", "sums", "scored", 2e-3, 4, 16, 96, "paper")
    add_run(store, again, [Checkpoint(Path(), step) for step in (10, 40)], [], [])
    rows = read_checkpoints(store, "b")
    assert rows["step"].tolist() == [10, 20, 40]
    assert rows["state"].tolist() == ["scored", "failed", "waiting"]
    row = read_runs(store).set_index("run").loc["b"]
    assert (row["learning_rate"], row["epochs"], row["batch_size"]) == (2e-3, 4, 16)
    assert (row["grader"], row["scored_by"]) == ("gsm8k", "gsm8k")  # who graded it first


def test_imported_runs_are_scored_at_once_or_not_at_all(store):
    frame = pd.DataFrame(
        {"step": 1, "split": "train", "perturbation": "", "id": ["0", "1"], "samples": 5,
         "correct": [3, 4], "unparsed": 0, "nll": [0.5, 0.2], "tokens": 9}
    )  # fmt: skip
    record = RunRecord("d", "math", "published", 1e-3, 1, 8, 2)
    examples = [Example(i, f"{i}?", "s", "a") for i in ("0", "1")]
    before = store.version()
    add_scored_runs(
        store, [(record, [Checkpoint(Path(), 1)], frame)], [("math", "train", examples)]
    )
    assert store.version() == before + 1
    scores = read_scores(store, "math")
    assert (scores["correct"].tolist(), scores["nll"].tolist()) == ([3, 4], [0.5, 0.2])
    other = RunRecord("e", "math", "published", 1e-3, 1, 8, 2)
    changed = [Example("0", "another text", "s", "a")]
    with pytest.raises(StoreError, match="another text"):
        add_scored_runs(
            store, [(other, [Checkpoint(Path(), 1)], frame)], [("math", "train", changed)]
        )
    assert "e" not in read_runs(store)["run"].tolist()
