"""Runs and their checkpoints in the store."""

from premem_core.records import Checkpoint, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_run, read_checkpoints


def test_paths_inside_the_store_move_with_it(tmp_path):
    store = Store(tmp_path / "s")
    inside = tmp_path / "s" / "checkpoints" / "run"
    add_run(store, RunRecord("r", "t", "scored", None, None, None, 0),
                  [Checkpoint(inside, 1), Checkpoint(tmp_path / "away", 2)], [], [])  # fmt: skip
    assert read_checkpoints(store, "r")["path"].tolist() == [
        "checkpoints/run",
        str(tmp_path / "away"),
    ]
